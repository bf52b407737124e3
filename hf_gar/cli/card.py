"""`hf-gar card`: write what was measured into a model repository's card."""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    parser = commands.add_parser("card", help="write what `hf-gar evaluate` measured into a repository's card")
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="DIR", help="the repository, as `hf-gar export` makes it")
    parser.add_argument("--results", nargs="+", required=True, metavar="DIR", help="the folders of evaluations")


def run(options: argparse.Namespace) -> int:
    from hf_gar.evaluation.report import read_measurement
    from hf_gar.hub.card import CARD_FILE, add_results
    from hf_gar.hub.load import find_repository

    repository = find_repository(options.folder)
    add_results(options.folder, [read_measurement(folder, repository) for folder in options.results])
    print(f"{len(options.results)} results are in {repository.folder / CARD_FILE}.")
    return 0
