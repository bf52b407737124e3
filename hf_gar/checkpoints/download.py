"""Fetch an official checkpoint: resumable, checked by digest, in place only when it is whole."""

import hashlib
import re
from pathlib import Path

from filelock import FileLock
from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HOME
from huggingface_hub.file_download import http_get

from hf_gar.errors import HfGarError
from hf_gar.files import write_errors
from hf_gar.hub_errors import hub_errors
from hf_gar.quiet import quiet_libraries
from hf_gar.registry.spec import OfficialCheckpoint

# What is read of a model on the Hub that transformers wrote.
TRANSFORMERS_FILES = [
    "README.md",
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
]
REPOSITORY_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SHA256 = re.compile("[0-9a-f]{64}")
SHA1 = re.compile("[0-9a-f]{40}")
RANGE_NOT_SATISFIABLE = 416  # an HTTP status
DOWNLOADS = Path(HF_HOME) / "hf_gar" / "checkpoints"


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=algorithm != "md5")
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch_from_hub(repo_id: str, files: list[str], revision: str | None = None, repo_type: str = "model") -> Path:
    """The local folder of a repository on the Hub, of which only `files` (patterns) are fetched.

    Raises:
        HfGarError: There is no such repository, the Hub cannot be reached, or a file that was fetched is not the one
            there.
    """
    if not REPOSITORY_NAME.fullmatch(repo_id):
        raise HfGarError(
            f"{repo_id}: there is no such folder, and on the Hub a {repo_type} is named organisation/name."
        )
    name = f"{repo_id} ({revision or 'main'}; there is no such folder here)"
    with write_errors(Path(HF_HOME)), hub_errors(name), quiet_libraries():
        folder = Path(snapshot_download(repo_id, repo_type=repo_type, revision=revision, allow_patterns=files))
    for path in folder.rglob("*"):
        if path.is_file():
            _require_published_content(path)
    return folder


def _require_published_content(path: Path) -> None:
    """Compare a file in the Hub's cache, where it is named by its digest, with that; the Hub's client does not.

    Raises:
        HfGarError: It is another file. It has been deleted, so that it is fetched again.
    """
    blob = path.resolve()
    if SHA256.fullmatch(blob.name):
        found = file_digest(blob, "sha256")
    elif SHA1.fullmatch(blob.name):  # as git names a file
        content = blob.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return  # a cache without links, as on Windows
    if found != blob.name:
        path.unlink()
        blob.unlink()
        raise HfGarError(
            f"{path.name} was damaged on its way from the Hub: its digest is {found}, expected {blob.name}. It was "
            "deleted; run the command again."
        )


def download(source: OfficialCheckpoint, folder: Path = DOWNLOADS) -> Path:
    """The local path of an official checkpoint, fetched where it is not there yet.

    A download that breaks off is kept as `NAME.incomplete`, and resumed the next time.

    Raises:
        HfGarError: The file cannot be fetched, or is not the published one.
    """
    if source.is_on_hub:
        return fetch_from_hub(source.file_name, TRANSFORMERS_FILES)
    path = folder / source.file_name
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(
        folder.parent / f".{source.file_name}.lock"
    ):  # two downloads at once would write into each other's file
        return path if path.exists() else _download(source, path)


def _download(source: OfficialCheckpoint, path: Path) -> Path:
    folder = path.parent
    partial = folder / f"{source.file_name}.incomplete"
    try:
        # A file that is whole already was fetched by a process that was killed before it could say so.
        if not partial.exists() or wrong_digest(partial, source):
            with partial.open("ab") as file, quiet_libraries():
                http_get(source.url, file, resume_size=file.tell(), displayed_filename=source.file_name)
    except Exception as error:  # requests' in huggingface-hub 0.x, httpx's in 1 and later, OSError for the disk
        if getattr(getattr(error, "response", None), "status_code", None) == RANGE_NOT_SATISFIABLE:
            partial.unlink()  # longer than the published file: nothing to resume
        raise HfGarError(
            f"{source.url} could not be downloaded to {partial}: {error}\nRun the command again to resume from "
            f"{partial.stat().st_size if partial.exists() else 0} bytes, or fetch the file yourself and pass its path "
            "to `checkpoint`."
        ) from error
    wrong = wrong_digest(partial, source)
    if wrong:
        partial.unlink()
        raise HfGarError(
            f"The file from {source.url} is not the published one: {wrong}. It was deleted; run the command again."
        )
    return partial.replace(path)


def wrong_digest(path: Path, source: OfficialCheckpoint) -> str | None:
    """Which digest of a file is not the published one's, in words; None where all are right."""
    for algorithm, expected in source.digests.items():
        found = file_digest(path, algorithm)
        if not found.startswith(expected):
            return f"its {algorithm} is {found}, expected {expected}"
    return None
