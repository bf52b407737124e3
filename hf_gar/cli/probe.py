"""`hf-gar probe`: which layers to fuse for a task."""

import argparse
from typing import Any

from hf_gar.cli.options import (
    add_model_options,
    add_seeds_option,
    add_task_options,
    chosen_model,
    embedding_options,
    evaluation_options,
    whole_number,
)

# Of the options of a task, those that say how to read labels, splits and folds, or how to train on them.
OF_LABELS = ("task", "metric", "split_column", "fold_column", "learning_rate")


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
    parser.add_argument(
        "--without-labels",
        action="store_true",
        help="rank layers and pairs on unlabelled recordings (--data: a folder, table or dataset; "
        "--seconds: at most of each half)",
    )
    parser.add_argument(
        "--max-recordings",
        type=whole_number(1),
        metavar="N",
        help="with --without-labels: if there are more recordings, choose N at random (default: 1000)",
    )
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    if options.without_labels:
        return _rank(options)
    if options.max_recordings is not None:
        raise ValueError("--max-recordings goes with --without-labels.")

    from hf_gar.evaluation.report import format_search
    from hf_gar.evaluation.run import run_search
    from hf_gar.hub.load import find_repository

    search = run_search(
        find_repository(chosen_model(options), options.revision),
        model_kwargs=_model_kwargs(options),
        pairs=options.pairs,
        **evaluation_options(options),
    )
    print(format_search(search))
    print(f"The results are in {options.output}.")
    return 0


def _rank(options: argparse.Namespace) -> int:
    """The layers to fuse, ranked without labels."""
    given = [name for name in OF_LABELS if getattr(options, name) is not None]
    if given:
        raise ValueError(f"`{given[0]}` needs labels. Leave it out, or leave out --without-labels.")

    from hf_gar.embedding.sources.source import open_source
    from hf_gar.evaluation.label_free import MAX_RECORDINGS
    from hf_gar.evaluation.report import format_ranking
    from hf_gar.evaluation.run import run_label_free_ranking
    from hf_gar.hub.load import find_repository

    ranking = run_label_free_ranking(
        find_repository(chosen_model(options), options.revision),
        open_source([options.data]),
        options.output,
        model_kwargs=_model_kwargs(options),
        seconds=options.seconds,
        max_recordings=options.max_recordings or MAX_RECORDINGS,
        embedding=embedding_options(options),
    )
    print(format_ranking(ranking))
    print(f"The results are in {options.output}.")
    return 0


def _model_kwargs(options: argparse.Namespace) -> dict[str, Any]:
    return {} if options.max_length is None else {"max_length": options.max_length}
