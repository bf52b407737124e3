"""`hf-gar probe`: which layers to fuse for a task."""

import argparse
from typing import Any

from hf_gar.cli.options import add_model_options, add_seeds_option, add_task_options, evaluation_options


def add_command(commands: Any) -> None:
    parser = commands.add_parser("probe", help="evaluate every layer of a model, and search for those to fuse")
    parser.set_defaults(run=run)
    add_task_options(parser)
    add_seeds_option(parser)
    parser.add_argument(
        "--pairs",
        choices=["all", "none"],
        default="all",
        help="evaluate all pairs (default), or continue from the best layer",
    )
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    from hf_gar.evaluation.report import format_search
    from hf_gar.evaluation.run import run_search

    search = run_search(
        model_kwargs={} if options.max_length is None else {"max_length": options.max_length},
        pairs=options.pairs,
        **evaluation_options(options),
    )
    print(format_search(search))
    print(f"The results are in {options.output}.")
    return 0
