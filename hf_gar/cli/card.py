"""`hf-gar card`: write what was measured into a model repository's card."""

import argparse
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    parser = commands.add_parser("card", help="write measured results into a repository's card")
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="DIR", help="the repository, as `hf-gar export` makes it")
    parser.add_argument(
        "--results",
        nargs="+",
        required=True,
        metavar="DIR_OR_FILE",
        help="folders that `hf-gar evaluate` wrote, and result files of mteb, HEAR (test.predicted-scores.json) and "
        "X-ARES (mlp_score.txt, knn_score.txt)",
    )


def run(options: argparse.Namespace) -> int:
    from hf_gar.evaluation.report import read_measurement
    from hf_gar.hub.card import CARD_FILE, add_results
    from hf_gar.hub.load import find_repository
    from hf_gar.interop.results import read_benchmark

    repository = find_repository(options.folder)
    paths = [Path(path) for path in options.results]
    results = [(read_benchmark if path.is_file() else read_measurement)(path, repository) for path in paths]
    add_results(options.folder, results)
    print(f"{len(options.results)} results are in {repository.folder / CARD_FILE}.")
    return 0
