"""Build the models' repositories, and push them to the Hub: the official networks', and the small one's of the package.

python scripts/publish_models.py --organization ORG --output repositories [--private] [--dry-run] [--space]

A repository that was built already is pushed as it is, and what is on the Hub already is not uploaded again: after a
failure, the same command resumes.
"""

import argparse
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import HfApi, ModelCard

from hf_gar.cli import main as hf_gar
from hf_gar.errors import HfGarError
from hf_gar.files import whole_folder
from hf_gar.hub.card import CARD_FILE, ORIGIN, Origin, placeholder_repo_id
from hf_gar.hub.export import OFFICIAL, export_repository
from hf_gar.hub.load import find_repository
from hf_gar.hub.push import push_repository
from hf_gar.registry import MODELS
from hf_gar.tiny import FOLDER, RECORDINGS, TINY

WEIGHTS_FILE = "model.safetensors"
# In the card of the small network, before its "Intended uses": how it loads without hf_gar.
USE = """On the Hub, it needs no hf_gar:

```python
from transformers import pipeline

embed = pipeline("feature-extraction", model="{repo_id}", trust_remote_code=True)
embedding = embed("a.wav")
```

"""
SECTION = "## Intended uses"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organization", required=True, metavar="ORG", help="on the Hub, or a user")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the repositories are built")
    models = [*(name for name, spec in MODELS.items() if spec.official_checkpoints), TINY]
    parser.add_argument("--models", nargs="+", choices=models, default=models, help="default: all")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="files that you have, MODEL.pth or MODEL.zip, in place of the official ones",
    )
    parser.add_argument("--all-layers", action="store_true", help="keep the weights of every layer")
    parser.add_argument(
        "--space", action="store_true", help=f"also publish the app on the package's recordings, with {TINY}"
    )
    parser.add_argument("--requirement", help="what pip installs hf_gar from in the Space (default: this release)")
    parser.add_argument("--private", action="store_true", default=None, help="make new repositories private")
    parser.add_argument("--create-pr", action="store_true", help="open pull requests")
    parser.add_argument("--dry-run", action="store_true", help="build and check, but change nothing on the Hub")
    options = parser.parse_args()
    failed = []
    for name in options.models:
        try:
            publish(name, options)
        except (HfGarError, ValueError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    if options.space and not options.dry_run and not failed and not publish_space(options):
        failed.append("the Space")
    if failed:
        print(f"Not published: {', '.join(failed)}. The same command resumes with them.", file=sys.stderr)
    return 1 if failed else 0


def publish(name: str, options: argparse.Namespace) -> None:
    """Build a model's repository where it is not there yet, and push it."""
    folder = options.output / name
    if not folder.exists() and name == TINY:
        build_tiny(folder)
    elif not folder.exists():
        checkpoint = find_checkpoint(name, options.checkpoints)
        export_repository(name, checkpoint, folder, all_layers=options.all_layers)
    push = push_repository(
        folder,
        f"{options.organization}/{name}",
        private=options.private,
        create_pr=options.create_pr,
        dry_run=options.dry_run,
    )
    print(f"{name}: {push.url or f'would go to {push.repo_id}'}, {len(push.uploaded)} files", flush=True)


def build_tiny(output: Path) -> None:
    """Write the small network's repository with its code, which is not in the package twice."""
    packaged = find_repository(TINY)
    with whole_folder(output) as folder:
        packaged.load_classifier().save_pretrained(folder)
        packaged.load_feature_extractor().save_pretrained(folder)
        shutil.copyfile(FOLDER / WEIGHTS_FILE, folder / WEIGHTS_FILE)  # in half precision, as they are
        card = ModelCard.load(FOLDER / CARD_FILE)
        digest = find_repository(folder).weights_sha256
        card.data[ORIGIN] = asdict(Origin(WEIGHTS_FILE, packaged.weights_sha256, False, digest))
        use = USE.format(repo_id=placeholder_repo_id(packaged.spec.model_type))
        card.text = card.text.replace(SECTION, use + SECTION, 1)
        card.save(folder / CARD_FILE)


def publish_space(options: argparse.Namespace) -> bool:
    """Publish the package's recordings, their embeddings by the small network, and the app on them.

    Returns:
        Whether all went well; if not, the commands have said why.
    """
    names = {what: f"{options.organization}/{TINY}-{what}" for what in ("recordings", "embeddings", "app")}
    api = HfApi()
    api.create_repo(names["recordings"], repo_type="dataset", private=options.private, exist_ok=True)
    api.upload_folder(repo_id=names["recordings"], repo_type="dataset", folder_path=RECORDINGS)
    model, job = f"{options.organization}/{TINY}", str(options.output / "embeddings")
    visibility = ["--private"] if options.private else []
    space = ["--model", model, "--color", "label", "--audio-root", f"hf://datasets/{names['recordings']}"]
    if options.requirement:
        space += ["--requirement", options.requirement]
    commands = (
        ["embed", str(RECORDINGS), "--model", model, "--output", job],
        ["push-dataset", job, "--repo-id", names["embeddings"], *visibility],
        ["push-space", names["embeddings"], "--repo-id", names["app"], *space, *visibility],
    )
    return all(hf_gar([*command, "--quiet"]) == 0 for command in commands)


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
