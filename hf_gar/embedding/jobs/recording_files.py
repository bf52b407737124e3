"""Where the recordings of a job are on this machine."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from hf_gar.checkpoints.download import REPOSITORY_NAME
from hf_gar.embedding.jobs.results import JobResults
from hf_gar.embedding.sources.file_names import AUDIO_SUFFIXES, unescape
from hf_gar.embedding.sources.tables import PATH_COLUMNS, READERS
from hf_gar.errors import HfGarError
from hf_gar.hub_errors import hub_errors

HUB_DATASETS = "hf://datasets/"


def find_recordings(job: JobResults, audio_root: str | Path | None = None) -> list[Path | None]:
    """The absolute path of each row's recording, or None where it is not a file here.

    Args:
        job: A job or some of its rows. Its source and the rows' file names say where the recordings were.
        audio_root: The folder to find them in instead.
    """
    names = _recording_names(job)
    items = job.description.get("source") or []
    sources = [Path(os.path.abspath(unescape(item))) for item in items]  # noqa: PTH100 - lexical
    if audio_root is not None:
        root = Path(os.path.abspath(audio_root))  # noqa: PTH100
        found = [name and _below(root, name) for name in names]
    elif len(sources) > 1 or (sources and sources[0].suffix.lower() in AUDIO_SUFFIXES):
        found = _listed_files(sources, names, list(job.rows.index), job.num_recordings)
    elif sources:
        folder = sources[0].parent if sources[0].suffix.lower() in READERS else sources[0]
        found = [name and folder / name for name in names]
    else:  # a dataset in memory: only absolute paths mean something
        found = [name if name and name.is_absolute() else None for name in names]
    return [path if path and os.path.isfile(path) else None for path in found]  # noqa: PTH113 - any text is a path


def fetch_recordings(job: JobResults, address: str) -> list[Path | None]:
    """The path of each row's recording, fetched from a dataset on the Hub; None where it is not a file there.

    Args:
        job: Some rows of a job.
        address: hf://datasets/ORG/NAME, or a folder in it.

    Raises:
        HfGarError: There is no such dataset, or the Hub cannot be reached.
    """
    repo_id, folder = split_hub_address(address)
    found: list[Path | None] = []
    with hub_errors(repo_id):
        for path in _recording_names(job):
            is_inside = path is not None and not path.is_absolute() and ".." not in path.parts
            try:
                inside = Path(folder, path).as_posix() if path and is_inside else None
                found.append(Path(hf_hub_download(repo_id, inside, repo_type="dataset")) if inside else None)
            except LocalEntryNotFoundError:  # the Hub could not be reached
                raise
            except EntryNotFoundError:
                found.append(None)
    return found


def split_hub_address(address: str) -> tuple[str, str]:
    """The name of the dataset in hf://datasets/ORG/NAME/FOLDER, and the folder, empty where there is none.

    Raises:
        HfGarError: It is not such an address.
    """
    organisation, name, folder = [*address.removeprefix(HUB_DATASETS).split("/", 2), "", ""][:3]
    repo_id = f"{organisation}/{name}"
    if not address.startswith(HUB_DATASETS) or not REPOSITORY_NAME.fullmatch(repo_id):
        raise HfGarError(f"{address!r} is not a dataset on the Hub. Write {HUB_DATASETS}ORG/NAME (`audio_root`).")
    return repo_id, folder


def _recording_names(job: JobResults) -> list[Path | None]:
    """Each row's path as the source gives it."""
    column = path_column(job.description, job.rows.columns)
    if column is None:
        return [None] * len(job.rows)
    return [Path(unescape(value)) if isinstance(value, str) and value else None for value in job.rows[column]]


def path_column(description: dict[str, Any], columns: Collection[str]) -> str | None:
    """Which of a job's columns says where the recordings are; None where there is no such column."""
    return next((name for name in (description.get("path_column"), *PATH_COLUMNS) if name in columns), None)


def _below(root: Path, name: Path) -> Path:
    """`name` in the folder `root`. Of a path that led elsewhere, the longest end that exists there."""
    if not name.is_absolute() and ".." not in name.parts:
        return root / name
    tail = _tail(name)
    ends = [root.joinpath(*tail[start:]) for start in range(len(tail))]
    return next((end for end in ends if end.is_file()), root / name.name)


def _listed_files(
    sources: list[Path], names: list[Path | None], rows: list[int], num_recordings: int
) -> list[Path | None]:
    """The files among `sources` that the `names` of a job's `rows` mean, given relative to a folder not known."""
    by_tail: dict[tuple[str, ...], list[Path]] = {}
    lengths = {len(_tail(name)) for name in names if name}
    for source in sources:
        for length in lengths:
            by_tail.setdefault(source.parts[-length:], []).append(source)
    found: list[Path | None] = []
    for row, name in zip(rows, names, strict=True):
        candidates = by_tail.get(_tail(name), []) if name else []
        if name and name.is_absolute():
            found.append(name)
        elif len(candidates) == 1:
            found.append(candidates[0])
        elif len(sources) == num_recordings and sources[row] in candidates:  # none failed: rows and sources correspond
            found.append(sources[row])
        else:
            found.append(None)
    return found


def _tail(name: Path) -> tuple[str, ...]:
    """The parts of a path without what leads to another folder: "../a/b.wav" is a, b.wav."""
    return tuple(part for part in name.parts if part not in ("..", name.anchor))
