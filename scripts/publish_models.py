"""Build the models' repositories from the official checkpoints, and push them to the Hub.

python scripts/publish_models.py --organization ORG --output repositories [--private] [--dry-run]

A repository that was built already is pushed as it is, and what is on the Hub already is not uploaded again: after a
failure, the same command resumes.
"""

import argparse
import sys
from pathlib import Path

from hf_gar.errors import HfGarError
from hf_gar.hub.export import OFFICIAL, export_repository
from hf_gar.hub.push import push_repository
from hf_gar.registry import MODELS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organization", required=True, metavar="ORG", help="on the Hub, or a user")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the repositories are built")
    official = [name for name, spec in MODELS.items() if spec.official_checkpoints]
    parser.add_argument("--models", nargs="+", choices=official, default=official, help="default: all")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="files that you have, MODEL.pth or MODEL.zip, in place of the official ones",
    )
    parser.add_argument("--all-layers", action="store_true", help="keep the weights of every layer")
    parser.add_argument("--private", action="store_true", default=None, help="make new repositories private")
    parser.add_argument("--create-pr", action="store_true", help="open pull requests")
    parser.add_argument("--dry-run", action="store_true", help="build and check, but change nothing on the Hub")
    options = parser.parse_args()
    failed = []
    for model_type in options.models:
        try:
            publish(model_type, options)
        except (HfGarError, ValueError, OSError) as error:
            print(f"{model_type}: {error}", file=sys.stderr)
            failed.append(model_type)
    if failed:
        print(f"Not published: {', '.join(failed)}. The same command resumes with them.", file=sys.stderr)
    return 1 if failed else 0


def publish(model_type: str, options: argparse.Namespace) -> None:
    """Build a model's repository where it is not there yet, and push it."""
    folder = options.output / model_type
    if not folder.exists():
        checkpoint = find_checkpoint(model_type, options.checkpoints)
        export_repository(model_type, checkpoint, folder, all_layers=options.all_layers)
    push = push_repository(
        folder,
        f"{options.organization}/{model_type}",
        private=options.private,
        create_pr=options.create_pr,
        dry_run=options.dry_run,
    )
    print(f"{model_type}: {push.url or f'would go to {push.repo_id}'}, {len(push.uploaded)} files", flush=True)


def find_checkpoint(model_type: str, folder: Path | None) -> str | Path:
    """The official checkpoint, or the model's file in a folder."""
    if folder is None:
        return OFFICIAL
    for path in (folder / f"{model_type}.pth", folder / f"{model_type}.zip", folder / model_type):
        if path.exists():
            return path
    raise HfGarError(f"{folder} has no {model_type}.pth, {model_type}.zip or folder {model_type}.")


if __name__ == "__main__":
    sys.exit(main())
