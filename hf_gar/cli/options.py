"""Options that several commands share."""

import argparse
from typing import Any


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model, on which device, in which precision."""
    parser.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="a folder, or a name on the Hub")
    parser.add_argument("--revision", help="of the model on the Hub: a branch, tag or commit")
    parser.add_argument(
        "--device", nargs="+", help="as in PyTorch, one process for each (default: every GPU, or the processor)"
    )
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of the model; auto, the default, is bfloat16 where the device has it natively, else float32",
    )


def add_layer_options(parser: argparse.ArgumentParser) -> None:
    """Which layers the embedding is made of."""
    layers = parser.add_mutually_exclusive_group()
    layers.add_argument("--fusion-layers", type=int, nargs="+", metavar="LAYER", help="the layers to fuse")
    layers.add_argument("--unfused", action="store_true", help="the network's own embedding, without fusion")


def layer_choice(options: argparse.Namespace) -> dict[str, Any]:
    """The choice of layers as fields of the configuration; none where the default is wanted."""
    if options.unfused:
        return {"fusion_layers": None}
    return {} if options.fusion_layers is None else {"fusion_layers": options.fusion_layers}


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Which task, from which data, and how its recordings are embedded."""
    parser.add_argument("--data", required=True, metavar="DIR_OR_DATASET", help="the recordings with their labels")
    parser.add_argument("--task", help="one of the paper's, such as esc50 (default: your own)")
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder of the results")
    parser.add_argument("--metric", choices=["accuracy", "mAP"], help="of your own task (default: as its labels are)")
    parser.add_argument("--seconds", type=float, help="the length clips are brought to, in your own task")
    parser.add_argument("--label-column", default="label", metavar="NAME", help="(default: label)")
    parser.add_argument("--split-column", metavar="NAME", help="says train, valid or test (default: split)")
    parser.add_argument("--fold-column", metavar="NAME", help="(default: fold)")
    parser.add_argument("--allow-other-counts", action="store_true", help="take an incomplete task")
    parser.add_argument("--lr", metavar="RATE|sweep", help="learning rate, or choose on validation (default: paper's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44], metavar="SEED")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="the most windows embedded at a time (default: auto)"
    )
    parser.add_argument("--max-length", type=int, metavar="FRAMES", help="AST's input length (default: the task's)")


def open_task_of(options: argparse.Namespace) -> Any:
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
    )


def embedding_options(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `run_evaluation` and `run_search` that the options of `add_task_options` give."""
    return {
        "revision": options.revision,
        "learning_rate": options.lr,
        "seeds": options.seeds,
        "devices": options.device,
        "dtype": options.dtype,
        "batch_size": options.batch_size,
        "allow_failures": options.allow_other_counts,
    }
