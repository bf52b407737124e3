"""An embedding job: a source of recordings becomes a folder of Parquet, part by part."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
from filelock import FileLock, Timeout

from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.parts import PartInfo, read_part_info, retry_failures, write_part
from hf_gar.embedding.sources import Source
from hf_gar.errors import HfGarError
from hf_gar.files import remove_incomplete, write_errors, write_new_file, write_whole_file

JOB_FILE = "job.json"
ERRORS_FILE = "errors.jsonl"
LOCKS = ".locks"
LIBRARIES = ("hf_gar", "torch", "transformers", "datasets")
# By default, a part holds so many recordings: what is lost at most, in each process, when it dies.
RECORDINGS_IN_PART = 2000
MAX_PARTS = 10_000
# What may differ between two runs of a job.
NOT_PINNED = {"versions"}
# What may have changed on the Hub since a job began, and the option to go on with what it began with.
REVISION_OPTIONS = {"revision": "--revision", "dataset_revision": "--dataset-revision"}


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


@dataclass(frozen=True)
class Job:
    """A job with its folder claimed; it can be pickled, so that other processes run parts of it."""

    output: Path
    source: Source
    embedder: AudioEmbedder
    num_parts: int
    strict: bool = False

    def part_path(self, part: int) -> Path:
        """The file of a part, by its number from 0."""
        return part_path(self.output, part, self.num_parts)

    @cached_property
    def recordings_in_part(self) -> int | None:
        """About how many recordings a part has; None where the source is streamed."""
        rows = self.source.num_rows
        return None if rows is None else -(-rows // self.num_parts)

    def run_part(
        self, part: int, retry_failed: bool = False, on_prepared: Callable[[int], object] | None = None
    ) -> PartInfo | None:
        """Embed a part that is not there yet; with `retry_failed` also those recordings that failed before.

        Returns:
            What the part holds; None where another process is at it.

        Raises:
            HfGarError: The part cannot be written, or, in a strict job, a recording cannot be embedded.
        """
        with part_lock(self.output, part) as is_ours:
            if not is_ours:
                return None
            path = self.part_path(part)
            remove_incomplete(path)
            info = read_part_info(path)
            if info is None:
                return write_part(
                    self._rows(part), self.embedder, path, self.strict, on_prepared, self._first_row(part)
                )
            if retry_failed and info.failures:
                return retry_failures(
                    self._rows(part), self.embedder, path, self.strict, on_prepared, self._first_row(part)
                )
            return info

    def _rows(self, part: int) -> datasets.Dataset | datasets.IterableDataset:
        return self.source.dataset.shard(self.num_parts, part, contiguous=True)

    def _first_row(self, part: int) -> int | None:
        """The number of the part's first row in the source, as `shard` cuts it; None where it is streamed."""
        if self.source.num_rows is None:
            return None
        rows, longer = divmod(self.source.num_rows, self.num_parts)
        return part * rows + min(part, longer)


def part_path(output: Path, part: int, num_parts: int) -> Path:
    """The file of a part, by its number from 0."""
    return output / f"part-{part:05d}-of-{num_parts:05d}.parquet"


@contextlib.contextmanager
def part_lock(output: Path, part: int) -> Iterator[bool]:
    """Keep other processes from a part while the block runs; gives False where one is at it."""
    folder = output / LOCKS
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{part}.lock", timeout=0)
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


def claim_job(
    output: Path, source: Source, embedder: AudioEmbedder, num_parts: int | None = None, strict: bool = False
) -> Job:
    """Make a new folder this job's, or go on with the job that is there if it is the same.

    Raises:
        HfGarError: The folder holds another job, or something else.
    """
    is_new = not (output / JOB_FILE).exists()
    if is_new and output.exists() and (not output.is_dir() or any(map(_is_foreign, output.iterdir()))):
        raise HfGarError(f"{output} holds something else than an embedding job. Choose another --output.")
    if not is_new and num_parts is None:
        num_parts = read_description(output)["num_parts"]
    description = _describe(source, embedder, _choose_parts(source, num_parts))
    if is_new:
        write_new_file(output / JOB_FILE, json.dumps(description, indent=2) + "\n")
    # Also where it was written just now: another process may have been quicker.
    _require_same(output, read_description(output), description)
    return Job(output, source, embedder, description["num_parts"], strict)


def _is_foreign(path: Path) -> bool:
    """Whether it is none of the files that a run leaves which was killed as it began."""
    return path.name != LOCKS and not path.name.startswith(f".{JOB_FILE}-")


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
        raise HfGarError(f"{path} is damaged: {error!r}. Choose another --output.") from error


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


def _choose_parts(source: Source, num_parts: int | None) -> int:
    if num_parts is not None and num_parts < 1:
        raise ValueError(f"num_parts has to be 1 or more, not {num_parts}.")
    rows = source.num_rows
    if rows is None:
        shards = source.dataset.num_shards
        if num_parts is not None and num_parts > shards:
            raise HfGarError(
                f"A streamed source is cut at its files, of which it has {shards}: --num-parts can be at most that."
            )
        return num_parts or shards
    if num_parts is None:
        num_parts = min(-(-rows // RECORDINGS_IN_PART), MAX_PARTS)
    return min(num_parts, rows)


def _describe(source: Source, embedder: AudioEmbedder, num_parts: int) -> dict[str, Any]:
    """What makes a job this one: another job in the same folder is refused."""
    assert embedder.repository is not None
    return {
        "model": embedder.repository.name,
        "revision": embedder.repository.revision,
        "weights_sha256": embedder.repository.weights_sha256,
        "fusion_layers": None if embedder.config.fusion_layers is None else list(embedder.config.fused_layers),
        "max_length": getattr(embedder.config, "max_length", None),
        "frames": embedder.with_frames,
        "crop": embedder.crop and asdict(embedder.crop),
        "dtype": embedder.dtype,
        "feature_extractor_sha256": hashlib.sha256(embedder.feature_extractor.to_json_string().encode()).hexdigest(),
        **source.describe(),
        "num_parts": num_parts,
        "versions": {library: version(library) for library in LIBRARIES},
    }


def _require_same(output: Path, there: dict[str, Any], now: dict[str, Any]) -> None:
    different = [key for key, value in now.items() if key not in NOT_PINNED and there.get(key) != value]
    if not different:
        return
    differences = "; ".join(f"{key} is {there.get(key)!r} there, {now[key]!r} now" for key in different)
    revisions = [
        f"{option} {there[key]}" for key, option in REVISION_OPTIONS.items() if key in different and there.get(key)
    ]
    way_on = f", or go on with the revision that it began with: {' '.join(revisions)}" if revisions else ""
    raise HfGarError(f"{output} holds another job: {differences}. Choose another --output{way_on}.")
