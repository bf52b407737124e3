"""A job's folder on disk: its shards, their locks, what is done and what failed.

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
# Of what docs/reference/job-folder.md specifies.
FORMAT = 1
# What a job may do, by the command's name.
EMBED = "embed"
ERRORS_FILE = "errors.jsonl"
LOCKS = ".locks"
# What a job's description lacks that was begun when there was PyTorch alone.
BEFORE_BACKENDS = {"backend": "torch", "network_sha256": None}
# Where a shard's metadata says what failed.
METADATA_KEY = b"hf_gar"
# Who only looks whether a shard is locked holds the lock for a moment: a run that comes back to a shard waits for that.
LOCK_TIMEOUT_S = 0.3


@dataclass(frozen=True)
class Failure:
    """A recording that failed: its row in the shard, its name, and the reason."""

    row: int
    file: str
    reason: str


@dataclass(frozen=True)
class ShardInfo:
    """What a finished shard holds: how many recordings are done, and which failed.

    `row_counts` says how many rows there are about each of those that are done; None where there is one.
    """

    done: int
    failures: tuple[Failure, ...]
    row_counts: tuple[int, ...] | None = None


def read_shard_info(path: Path) -> ShardInfo | None:
    """What a shard holds; None where there is no such file, or a damaged one, which has to be done again."""
    try:
        metadata = pq.read_metadata(path)
        info = json.loads(metadata.metadata[METADATA_KEY])
        failures = tuple(Failure(**failure) for failure in info["failures"])
        row_counts = info.get("row_counts")
        if row_counts is None:
            return ShardInfo(metadata.num_rows, failures)
        return ShardInfo(len(row_counts), failures, tuple(row_counts))
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError, OSError):
        return None


@dataclass(frozen=True)
class JobStatus:
    """How far a job is: its shards by number, how many recordings are done, and how many failed."""

    output: Path
    num_shards: int
    finished: tuple[int, ...]
    missing: tuple[int, ...]  # those that are damaged, or that another process is at, included
    damaged: tuple[int, ...]
    running: tuple[int, ...]
    done: int
    failed: int


def shard_path(output: Path, shard: int, num_shards: int) -> Path:
    """The file of a shard, by its number from 0."""
    return output / f"part-{shard:05d}-of-{num_shards:05d}.parquet"


@contextlib.contextmanager
def shard_lock(output: Path, shard: int, timeout_s: float = 0) -> Iterator[bool]:
    """Keep other processes from a shard while the block runs; gives False where one is working on it."""
    folder = output / LOCKS
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{shard}.lock", timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except NotImplementedError:  # a file system without locks: two processes may do the same shard, each whole
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def read_description(output: Path) -> dict[str, Any]:
    """A job's `job.json`.

    Raises:
        HfGarError: There is none, or it is damaged, or of a newer version of the format.
    """
    path = output / JOB_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        description["num_shards"] = int(description["num_shards"])
        description = {"format": FORMAT, **BEFORE_BACKENDS, **description}
        is_newer = description["format"] > FORMAT
    except OSError as error:
        raise HfGarError(f"{output} holds no job: {error}. Make one with `hf-gar embed` or `hf-gar tag`.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise HfGarError(f"{path} is damaged: {error!r}. Choose another `output`.") from error
    if is_newer:
        raise HfGarError(
            f"{path} is of the format {description['format']}; this version of hf_gar reads {FORMAT} or older. Update "
            "hf_gar."
        )
    return description


def task_of(description: dict[str, Any]) -> str:
    """What a job does, by its `job.json`, in which jobs of earlier versions do not say that they embed."""
    return description.get("task", EMBED)


def read_status(output: str | Path, shards: Sequence[int] | None = None) -> JobStatus:
    """How far a job is, or some of its shards.

    Raises:
        HfGarError: The folder holds no job.
    """
    output = Path(output)
    num_shards = read_description(output)["num_shards"]
    paths = {
        shard: shard_path(output, shard, num_shards) for shard in (range(num_shards) if shards is None else shards)
    }
    infos = {shard: read_shard_info(path) for shard, path in paths.items()}
    finished = {shard: info for shard, info in infos.items() if info is not None}
    missing = [shard for shard in paths if shard not in finished]
    return JobStatus(
        output,
        num_shards,
        finished=tuple(finished),
        missing=tuple(missing),
        damaged=tuple(shard for shard in missing if paths[shard].exists()),
        running=tuple(
            shard for shard in missing if (output / LOCKS / f"{shard}.lock").exists() and _is_locked(output, shard)
        ),
        done=sum(info.done for info in finished.values()),
        failed=sum(len(info.failures) for info in finished.values()),
    )


def finished_shards(output: Path) -> list[Path]:
    """The files of the shards of a finished job that embedded its recordings, in order.

    Raises:
        HfGarError: The folder holds no such job, or one that is not finished.
    """
    task = task_of(read_description(output))
    if task != EMBED:
        raise HfGarError(
            f"{output} holds no embeddings: `hf-gar {task}` wrote it. Name a folder that `hf-gar embed` wrote."
        )
    status = read_status(output)
    if status.missing:
        raise HfGarError(
            f"{output} is not finished: {len(status.missing)} of {status.num_shards} shards are missing. Run the same "
            "`hf-gar embed` again first."
        )
    return [shard_path(output, shard, status.num_shards) for shard in range(status.num_shards)]


def write_errors_file(output: Path) -> None:
    """Gather the failures of all finished shards in `errors.jsonl`."""
    num_shards = read_description(output)["num_shards"]
    lines = []
    for shard in range(num_shards):
        info = read_shard_info(shard_path(output, shard, num_shards))
        for failure in info.failures if info else ():
            line = {"file": failure.file, "reason": failure.reason, "shard": shard, "row": failure.row}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_whole_file(output / ERRORS_FILE, "".join(lines))


def _is_locked(output: Path, shard: int) -> bool:
    with shard_lock(output, shard) as is_ours:
        return not is_ours
