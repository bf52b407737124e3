"""Options that several commands share."""

import argparse
import math
from collections.abc import Callable
from typing import Any

from hf_gar.cli.messages import say
from hf_gar.tiny import TINY


def whole_number(minimum: int) -> Callable[[str], int]:
    """The type of an option that takes integers from `minimum` on: a mistake shows before libraries are loaded."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number of {minimum} or more, not {text!r}")
        return number

    return parse


def number(minimum: float, is_exclusive: bool = False, maximum: float = math.inf) -> Callable[[str], float]:
    """The type of an option that takes numbers from `minimum` on, or above it, up to `maximum`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        is_low = value <= minimum if is_exclusive else value < minimum
        if not math.isfinite(value) or is_low or value > maximum:
            limit = f"above {minimum:g}" if is_exclusive else f"of {minimum:g} or more"
            limit = f"from {minimum:g} to {maximum:g}" if maximum < math.inf else limit
            raise argparse.ArgumentTypeError(f"expected a number {limit}, not {text!r}")
        return value

    return parse


def learning_rate(text: str) -> str:
    """The type of `--lr`: a number above 0, or "sweep"."""
    return text if text == "sweep" else str(number(0, is_exclusive=True)(text))


def add_model_options(parser: argparse.ArgumentParser, takes_several: bool = False) -> None:
    """Which model, on which device, in which precision."""
    several = "; given several times, the embeddings are concatenated" if takes_several else ""
    parser.add_argument(
        "--model",
        action="append" if takes_several else "store",
        metavar="DIR_OR_REPO",
        help=f"a folder, or a name on the Hub (default: {TINY}, which comes with this package){several}",
    )
    parser.add_argument("--revision", help="branch, tag or commit of the model on the Hub")
    parser.add_argument(
        "--device", nargs="+", help="PyTorch devices, one process for each (default: all GPUs, or the CPU)"
    )
    parser.add_argument(
        "--backend",
        choices=["auto", "torch", "onnx", "openvino"],
        default="auto",
        help="what runs the model; auto, the default, is the fastest that is installed and that hf-gar optimize has "
        "shown to be as good as float32, else PyTorch",
    )
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16", "int8"],
        default="auto",
        help="precision of the model; auto, the default, is that of the backend's network, and for PyTorch bfloat16 if "
        "the device has it natively, else float32",
    )


def chosen_model(options: argparse.Namespace) -> str:
    """The model that is asked for, or the one that comes with this package."""
    if options.model is not None:
        return options.model
    if not options.quiet:
        say(
            f"using {TINY}, the small network of this package. The official ones: hf-gar export cnn14-fusion "
            "--checkpoint official --output DIR, then --model DIR"
        )
    return TINY


def add_visibility_options(parser: argparse.ArgumentParser, kind: str) -> None:
    """Who may see what a push makes on the Hub, a "repository" or a "dataset"; as `private` in the options."""
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument("--private", action="store_true", default=None, help=f"make a new {kind} private")
    visibility.add_argument("--public", dest="private", action="store_false", help=f"make a new {kind} public")


def add_layer_options(parser: argparse.ArgumentParser) -> None:
    """Which layers the embedding is made of."""
    layers = parser.add_mutually_exclusive_group()
    layers.add_argument("--fusion-layers", type=whole_number(0), nargs="+", metavar="LAYER", help="the layers to fuse")
    layers.add_argument("--unfused", action="store_true", help="the network's own embedding, without fusion")


def layer_choice(options: argparse.Namespace) -> dict[str, Any]:
    """The choice of layers as fields of the configuration; none where the default is wanted."""
    if options.unfused:
        return {"fusion_layers": None}
    return {} if options.fusion_layers is None else {"fusion_layers": options.fusion_layers}


def add_input_length_option(parser: argparse.ArgumentParser) -> None:
    """The length of the network's input, where that is fixed."""
    parser.add_argument(
        "--max-length", type=whole_number(1), metavar="FRAMES", help="AST's input length, in frames of 10 ms"
    )


def input_length(options: argparse.Namespace) -> dict[str, Any]:
    """The length of the input as a field of the configuration; none where the default is wanted."""
    return {} if options.max_length is None else {"max_length": options.max_length}


def add_job_argument(parser: argparse.ArgumentParser) -> None:
    """Which job; as `folder` in the options."""
    parser.add_argument("folder", metavar="DIR", help="the folder that `hf-gar embed` wrote")


def add_audio_root_option(parser: argparse.ArgumentParser) -> None:
    """Where a job's recordings are."""
    parser.add_argument("--audio-root", metavar="DIR", help="where the recordings are now, if they have moved")


def add_index_option(parser: argparse.ArgumentParser) -> None:
    """Which index of a job."""
    parser.add_argument("--index", metavar="DIR", help="the folder that `hf-gar index` wrote (default: DIR/index)")


def add_job_model_options(parser: argparse.ArgumentParser) -> None:
    """How recordings are embedded as those of a job were."""
    parser.add_argument("--model", metavar="DIR_OR_REPO", help="where the job's model is now, if it has moved")
    parser.add_argument("--device", help="PyTorch device, such as cuda:0 or cpu")


def add_json_option(parser: argparse.ArgumentParser, what: str = "the result as JSON") -> None:
    """Whether a program reads the result."""
    parser.add_argument("--json", action="store_true", help=f"print {what}")


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Which task, from which data, and how its recordings are embedded."""
    parser.add_argument("--data", required=True, metavar="DIR_OR_DATASET", help="the recordings with their labels")
    parser.add_argument("--task", help="one of the paper's, such as esc50 (default: your own)")
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder of the results")
    parser.add_argument(
        "--metric",
        choices=["accuracy", "mAP"],
        help="of your own task (default: mAP if a recording may have several labels, else accuracy)",
    )
    parser.add_argument(
        "--seconds", type=number(0, is_exclusive=True), help="cut or pad the clips of your own task to this length"
    )
    parser.add_argument("--label-column", default="label", metavar="NAME", help="column of the labels (default: label)")
    parser.add_argument("--split-column", metavar="NAME", help="column that says train, valid or test (default: split)")
    parser.add_argument("--fold-column", metavar="NAME", help="column of the folds (default: fold)")
    parser.add_argument("--allow-other-counts", action="store_true", help="accept an incomplete task")
    parser.add_argument("--allow-failures", action="store_true", help="leave out recordings that cannot be embedded")
    parser.add_argument(
        "--lr",
        dest="learning_rate",
        type=learning_rate,
        metavar="RATE|sweep",
        help="learning rate, or chosen on the validation clips (default: the paper's)",
    )
    parser.add_argument(
        "--batch-size", type=whole_number(1), metavar="N", help="maximum number of chunks in a batch (default: auto)"
    )
    parser.add_argument(
        "--max-length", type=whole_number(1), metavar="FRAMES", help="AST's input length (default: the task's)"
    )


def add_seeds_option(parser: argparse.ArgumentParser) -> None:
    """The seeds of an evaluation's runs."""
    parser.add_argument("--seeds", type=whole_number(0), nargs="+", default=[42, 43, 44], metavar="SEED")


def open_task_of(options: argparse.Namespace, needs_splits: bool = True) -> Any:
    """The task that the options of `add_task_options` name."""
    from hf_gar.evaluation.task_data import open_task

    return open_task(
        options.data,
        options.task,
        metric=options.metric,
        seconds=options.seconds,
        label_column=options.label_column,
        split_column=options.split_column,
        fold_column=options.fold_column,
        allow_other_counts=options.allow_other_counts,
        needs_splits=needs_splits,
    )


def evaluation_options(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `run_evaluation` and `run_search` that both commands have."""
    return {
        "data": open_task_of(options),
        "output": options.output,
        "learning_rate": options.learning_rate,
        "seeds": options.seeds,
        "embedding": embedding_options(options),
    }


def embedding_options(options: argparse.Namespace) -> Any:
    """How an evaluation embeds its recordings, as `EmbeddingOptions`."""
    from hf_gar.evaluation.embed_task import EmbeddingOptions

    return EmbeddingOptions(
        tuple(options.device or ()), options.backend, options.dtype, options.batch_size, options.allow_failures
    )
