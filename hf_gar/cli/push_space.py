"""`hf-gar push-space`: publish the app on a job as a Space on the Hub."""

import argparse
from typing import Any

from hf_gar.cli.options import add_visibility_options


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "push-space",
        help="publish the app on a job as a Space on the Hub",
        description="Publish the page of `hf-gar app` as a Space on the Hub, with a job and a model that are there.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("job", metavar="DATASET", help="the dataset that `hf-gar push-dataset` made of the job")
    parser.add_argument("--repo-id", required=True, metavar="ORG/NAME", help="the Space's name on the Hub")
    add_visibility_options(parser, "Space")
    parser.add_argument("--model", metavar="REPO", help="the job's model on the Hub (default: as the job names it)")
    parser.add_argument("--color", metavar="COLUMN", help="the column that colours the map")
    parser.add_argument(
        "--audio-root", metavar="ADDRESS", help="hf://datasets/ORG/NAME, where the recordings are to be listened to"
    )
    parser.add_argument(
        "--requirement", help="what pip installs hf_gar from in the Space (default: the release of this version)"
    )


def run(options: argparse.Namespace) -> int:
    from hf_gar.search.app.space import push_space

    url = push_space(
        options.job,
        options.repo_id,
        model=options.model,
        color=options.color,
        audio_root=options.audio_root,
        requirement=options.requirement,
        private=options.private,
    )
    print(f"The app is at {url}.")
    return 0
