"""`hf-gar push-dataset`: publish a job's embeddings as a dataset on the Hub."""

import argparse
from typing import Any

from hf_gar.cli.options import add_visibility_options


def add_command(commands: Any) -> None:
    parser = commands.add_parser("push-dataset", help="publish a job's embeddings as a dataset on the Hub")
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="DIR", help="the folder of a finished job")
    parser.add_argument("--repo-id", required=True, metavar="ORG/NAME", help="the dataset's name on the Hub")
    add_visibility_options(parser, "dataset")
    parser.add_argument("--license", help="licence of the embeddings, as the Hub spells it, such as cc-by-4.0")


def run(options: argparse.Namespace) -> int:
    from hf_gar.embedding.jobs.publish import push_dataset

    url = push_dataset(options.folder, options.repo_id, private=options.private, license_id=options.license)
    print(f"{options.folder} is at {url}.")
    return 0
