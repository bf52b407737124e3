"""Fetch an official checkpoint: resumable, checked by digest, in place only when it is whole."""

import hashlib
from pathlib import Path

from huggingface_hub.constants import HF_HOME
from huggingface_hub.file_download import http_get

from hf_gar.checkpoints.sources import OfficialCheckpoint
from hf_gar.errors import HfGarError

DOWNLOADS = Path(HF_HOME) / "hf_gar" / "checkpoints"


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=algorithm != "md5")
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(source: OfficialCheckpoint, folder: Path = DOWNLOADS) -> Path:
    """The local path of an official checkpoint, fetched where it is not there yet.

    A download that breaks off is kept as `NAME.incomplete`, and goes on from there the next time.

    Raises:
        HfGarError: The file cannot be fetched, or is not the published one.
    """
    path = folder / source.file_name
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{source.file_name}.incomplete"
    try:
        with partial.open("ab") as file:
            http_get(source.url, file, resume_size=file.tell(), displayed_filename=source.file_name)
    except Exception as error:  # requests' in huggingface-hub 0.x, httpx's in 1 and later, OSError for the disk
        raise HfGarError(
            f"{source.url} could not be downloaded to {partial}: {error}\nRun the command again to go on from "
            f"{partial.stat().st_size if partial.exists() else 0} bytes, or fetch the file yourself and pass its path "
            "to --checkpoint."
        ) from error
    for algorithm, expected in source.digests.items():
        found = file_digest(partial, algorithm)
        if found != expected:
            partial.unlink()
            raise HfGarError(
                f"The file from {source.url} is not the published one: its {algorithm} is {found}, expected "
                f"{expected}. It was deleted; run the command again."
            )
    return partial.replace(path)
