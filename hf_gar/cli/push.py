"""`hf-gar push`: publish a model repository on the Hub."""

import argparse
from typing import Any

from hf_gar.cli.options import add_visibility_options


def add_command(commands: Any) -> None:
    parser = commands.add_parser("push", help="check a model repository and publish it on the Hub")
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="DIR", help="the repository, as `hf-gar export` makes it")
    parser.add_argument("--repo-id", required=True, metavar="ORG/NAME", help="its name on the Hub")
    add_visibility_options(parser, "repository")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to, created if needed")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--overwrite", action="store_true", help="replace a repository that holds something else")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="publish code that is not hf_gar's, and run it for the check"
    )
    parser.add_argument("--message", help="message of the commit")
    parser.add_argument("--dry-run", action="store_true", help="check, and say what would be done, but change nothing")


def run(options: argparse.Namespace) -> int:
    from hf_gar.hub.push import push_repository

    push = push_repository(
        options.folder,
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        overwrite=options.overwrite,
        trust_remote_code=options.trust_remote_code,
        commit_message=options.message,
        dry_run=options.dry_run,
    )
    if push.url is None:
        print(f"{push.repo_id} {'exists' if push.repo_exists else 'would be created'}. A push would")
        for name in push.uploaded:
            print(f"  upload {name}")
        for name in push.deleted:
            print(f"  delete {name}")
    else:
        print(f"{options.folder} is at {push.url} (commit {push.commit_sha}).")
    return 0
