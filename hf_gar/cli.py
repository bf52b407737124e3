"""The command `hf-gar`."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from hf_gar.errors import HfGarError

# Exit codes beside 0 and argparse's 2.
FAILED = 1
SOME_NOT_EMBEDDED = 3
NONE_EMBEDDED = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (HfGarError, ValueError, OSError, ImportError) as error:
        print(f"hf-gar: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("hf-gar: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf-gar", description="General-purpose audio embeddings.")
    parser.add_argument("--version", action="version", version=version("hf_gar"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="make a model repository of a checkpoint")
    export.set_defaults(run=_export)
    export.add_argument("model_type", choices=["vggish-fusion", "cnn14-fusion", "ast-fusion"])
    export.add_argument(
        "--checkpoint", required=True, metavar="official|FILE|REPO", help="download it, or read this file or AST model"
    )
    export.add_argument("--output", required=True, metavar="DIR", help="the folder to write, new or empty")
    export.add_argument("--sampling-rate", type=int, metavar="HZ", help="of the network, where there are several")
    export.add_argument("--all-layers", action="store_true", help="keep the weights of every layer")
    _add_layer_options(export)

    embed = commands.add_parser(
        "embed", help="embed recordings", epilog="Exit codes: 0 all embedded, 1 error, 3 some failed, 4 all failed."
    )
    embed.set_defaults(run=_embed)
    embed.add_argument(
        "source", nargs="+", metavar="SOURCE", help="a folder, a CSV or Parquet table, a dataset, or audio files"
    )
    embed.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="a folder, or a name on the Hub")
    embed.add_argument("--revision", help="of the model on the Hub: a branch, tag or commit")
    embed.add_argument("--output", required=True, metavar="DIR", help="the job's folder")
    embed.add_argument("--split", help="of a dataset that has several")
    embed.add_argument("--path-column", metavar="NAME", help="the column of a table that holds the paths")
    embed.add_argument("--batch-size", type=int, default=16, metavar="N", help="recordings at a time (default: 16)")
    embed.add_argument("--device", help="as in PyTorch (default: a GPU where there is one)")
    embed.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    embed.add_argument("--max-length", type=int, metavar="FRAMES", help="AST's input length, in frames of 10 ms")
    embed.add_argument("--frames", action="store_true", help="store the frame embeddings and their times, too")
    _add_layer_options(embed)
    return parser


def _add_layer_options(parser: argparse.ArgumentParser) -> None:
    layers = parser.add_mutually_exclusive_group()
    layers.add_argument("--fusion-layers", type=int, nargs="+", metavar="LAYER", help="the layers to fuse")
    layers.add_argument("--unfused", action="store_true", help="the network's own embedding, without fusion")


def _layer_choice(options: argparse.Namespace) -> dict[str, Any]:
    """The choice of layers as fields of the configuration; none where the default is wanted."""
    if options.unfused:
        return {"fusion_layers": None}
    return {} if options.fusion_layers is None else {"fusion_layers": options.fusion_layers}


def _given(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """The option as a field of the configuration, where it was given."""
    value = getattr(options, name)
    return {} if value is None else {name: value}


# The packages behind a command take seconds to import: each command imports its own.


def _export(options: argparse.Namespace) -> int:
    from hf_gar.hub.export import export_repository
    from hf_gar.models import MODEL_CLASSES

    config = _layer_choice(options)
    if options.all_layers:
        config["depth"] = MODEL_CLASSES[options.model_type].config(fusion_layers=None).depth
    folder = export_repository(
        options.model_type, options.checkpoint, options.output, sampling_rate=options.sampling_rate, **config
    )
    print(f"{folder} is a complete model repository.")
    return 0


def _embed(options: argparse.Namespace) -> int:
    from hf_gar.embedding.job import ERRORS_FILE, run_job

    summary = run_job(
        options.source,
        options.model,
        options.output,
        revision=options.revision,
        split=options.split,
        path_column=options.path_column,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.dtype,
        model_kwargs=_layer_choice(options) | _given(options, "max_length"),
        with_frames=options.frames,
    )
    print(f"{summary.embedded} recordings embedded in {summary.output}.")
    if not summary.failed:
        return 0
    print(f"{summary.failed} could not be embedded: see {summary.output / ERRORS_FILE}.", file=sys.stderr)
    return SOME_NOT_EMBEDDED if summary.embedded else NONE_EMBEDDED
