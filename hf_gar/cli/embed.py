"""`hf-gar embed`: embed recordings into a folder of Parquet."""

import argparse
import sys
from typing import Any

from hf_gar.cli.options import add_layer_options, add_model_options, layer_choice

SOME_NOT_EMBEDDED = 3
NONE_EMBEDDED = 4


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "embed", help="embed recordings", epilog="Exit codes: 0 all embedded, 1 error, 3 some failed, 4 all failed."
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE", help="a folder, a CSV or Parquet table, a dataset, or audio files"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the job's folder")
    parser.add_argument("--split", help="of a dataset that has several")
    parser.add_argument("--path-column", metavar="NAME", help="the column of a table that holds the paths")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="recordings at a time (default: 16)")
    parser.add_argument("--max-length", type=int, metavar="FRAMES", help="AST's input length, in frames of 10 ms")
    parser.add_argument("--frames", action="store_true", help="store the frame embeddings and their times, too")
    add_model_options(parser)
    add_layer_options(parser)


def run(options: argparse.Namespace) -> int:
    from hf_gar.embedding.job import ERRORS_FILE, run_job

    model_kwargs = layer_choice(options)
    if options.max_length is not None:
        model_kwargs["max_length"] = options.max_length
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
        model_kwargs=model_kwargs,
        with_frames=options.frames,
    )
    print(f"{summary.embedded} recordings embedded in {summary.output}.")
    if not summary.failed:
        return 0
    print(f"{summary.failed} could not be embedded: see {summary.output / ERRORS_FILE}.", file=sys.stderr)
    return SOME_NOT_EMBEDDED if summary.embedded else NONE_EMBEDDED
