"""`hf-gar evaluate`: linear evaluation of a model on a task."""

import argparse
from typing import Any

from hf_gar.cli.options import (
    add_layer_options,
    add_model_options,
    add_seeds_option,
    add_task_options,
    chosen_model,
    evaluation_options,
    layer_choice,
)


def add_command(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="evaluate a model on a task with a linear classifier")
    parser.set_defaults(run=run)
    add_task_options(parser)
    add_seeds_option(parser)
    parser.add_argument("--probe", choices=["linear", "logistic"], default="linear", help="(default: linear)")
    add_model_options(parser, takes_several=True)
    add_layer_options(parser)


def run(options: argparse.Namespace) -> int:
    from hf_gar.evaluation.report import format_evaluation
    from hf_gar.evaluation.run import run_evaluation
    from hf_gar.hub.load import find_repository

    model_kwargs = layer_choice(options)
    if options.max_length is not None:
        model_kwargs["max_length"] = options.max_length
    names = options.model or [chosen_model(options)]
    evaluation = run_evaluation(
        [find_repository(name, options.revision) for name in names],
        model_kwargs=model_kwargs,
        probe=options.probe,
        **evaluation_options(options),
    )
    print(format_evaluation(evaluation))
    print(f"The results are in {options.output}.")
    return 0
