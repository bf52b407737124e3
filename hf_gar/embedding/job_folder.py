"""A job's folder on disk: its parts, their locks, what was embedded and what failed.

Nothing here needs PyTorch, so that `hf-gar status` answers at once.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from hf_gar.errors import HfGarError
from hf_gar.files import write_errors, write_whole_file

JOB_FILE = "job.json"
ERRORS_FILE = "errors.jsonl"
LOCKS = ".locks"
# Where a part's metadata says what failed.
METADATA_KEY = b"hf_gar"
# Who only looks whether a part is locked holds the lock for a moment: a run that comes back to a part waits for that.
LOCK_TIMEOUT_S = 0.3


@dataclass(frozen=True)
class Failure:
    """A recording that could not be embedded: its row in the part, its name, and the reason."""

    row: int
    file: str
    reason: str


@dataclass(frozen=True)
class PartInfo:
    """What a finished part holds."""

    embedded: int
    failures: tuple[Failure, ...]


def read_part_info(path: Path) -> PartInfo | None:
    """What a part holds; None where there is no such file, or a damaged one, which has to be embedded again."""
    try:
        metadata = pq.read_metadata(path)
        failures = json.loads(metadata.metadata[METADATA_KEY])["failures"]
        return PartInfo(metadata.num_rows, tuple(Failure(**failure) for failure in failures))
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError, OSError):
        return None


@dataclass(frozen=True)
class JobStatus:
    """How far a job is: its parts by number, how many recordings were embedded, and which could not be."""

    output: Path
    num_parts: int
    finished: tuple[int, ...]
    missing: tuple[int, ...]  # those that are damaged, or that another process is at, included
    damaged: tuple[int, ...]
    running: tuple[int, ...]
    embedded: int
    failed: int


def part_path(output: Path, part: int, num_parts: int) -> Path:
    """The file of a part, by its number from 0."""
    return output / f"part-{part:05d}-of-{num_parts:05d}.parquet"


@contextlib.contextmanager
def part_lock(output: Path, part: int, timeout_s: float = 0) -> Iterator[bool]:
    """Keep other processes from a part while the block runs; gives False where one is working on it."""
    folder = output / LOCKS
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{part}.lock", timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except NotImplementedError:  # a file system without locks: two processes may do the same part, each whole
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def read_description(output: Path) -> dict[str, Any]:
    """A job's `job.json`.

    Raises:
        HfGarError: There is none, or it is damaged.
    """
    path = output / JOB_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        description["num_parts"] = int(description["num_parts"])
        return description
    except OSError as error:
        raise HfGarError(f"{output} holds no embedding job: {error}. Make one with `hf-gar embed`.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise HfGarError(f"{path} is damaged: {error!r}. Choose another `output`.") from error


def read_status(output: str | Path, parts: Sequence[int] | None = None) -> JobStatus:
    """How far a job is, or some of its parts.

    Raises:
        HfGarError: The folder holds no job.
    """
    output = Path(output)
    num_parts = read_description(output)["num_parts"]
    paths = {part: part_path(output, part, num_parts) for part in (range(num_parts) if parts is None else parts)}
    infos = {part: read_part_info(path) for part, path in paths.items()}
    finished = {part: info for part, info in infos.items() if info is not None}
    missing = [part for part in paths if part not in finished]
    return JobStatus(
        output,
        num_parts,
        finished=tuple(finished),
        missing=tuple(missing),
        damaged=tuple(part for part in missing if paths[part].exists()),
        running=tuple(
            part for part in missing if (output / LOCKS / f"{part}.lock").exists() and _is_locked(output, part)
        ),
        embedded=sum(info.embedded for info in finished.values()),
        failed=sum(len(info.failures) for info in finished.values()),
    )


def finished_parts(output: Path) -> list[Path]:
    """The files of a finished job's parts, in order.

    Raises:
        HfGarError: The folder holds no job, or one that is not finished.
    """
    status = read_status(output)
    if status.missing:
        raise HfGarError(
            f"{output} is not finished: {len(status.missing)} of {status.num_parts} parts are missing. Run the same "
            "`hf-gar embed` again first."
        )
    return [part_path(output, part, status.num_parts) for part in range(status.num_parts)]


def write_errors_file(output: Path) -> None:
    """Gather the failures of all finished parts in `errors.jsonl`."""
    num_parts = read_description(output)["num_parts"]
    lines = []
    for part in range(num_parts):
        info = read_part_info(part_path(output, part, num_parts))
        for failure in info.failures if info else ():
            line = {"file": failure.file, "reason": failure.reason, "part": part, "row": failure.row}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_whole_file(output / ERRORS_FILE, "".join(lines))


def _is_locked(output: Path, part: int) -> bool:
    with part_lock(output, part) as is_ours:
        return not is_ours
