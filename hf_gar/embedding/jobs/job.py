"""A job: what a function makes of a source of recordings, as a folder of Parquet, shard by shard."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets

from hf_gar.embedding.jobs.job_folder import (
    FORMAT,
    JOB_FILE,
    LOCK_TIMEOUT_S,
    LOCKS,
    ShardInfo,
    read_description,
    read_shard_info,
    shard_lock,
    shard_path,
    task_of,
)
from hf_gar.embedding.jobs.shards import retry_failures, write_shard
from hf_gar.embedding.map_function import MapFunction
from hf_gar.embedding.sources.source import Source
from hf_gar.errors import HfGarError
from hf_gar.files import remove_incomplete, write_new_file

LIBRARIES = ("hf_gar", "torch", "transformers", "datasets")
# By default, a shard holds so many recordings: what is lost at most, in each process, when it dies.
RECORDINGS_IN_SHARD = 2000
MAX_SHARDS = 10_000
# What may differ between two runs of a job.
NOT_PINNED = {"versions"}
# What may have changed on the Hub since a job began.
REVISIONS = ("revision", "dataset_revision")


@dataclass(frozen=True)
class Job:
    """A job with its folder claimed; it can be pickled, so that other processes run shards of it."""

    output: Path
    source: Source
    function: MapFunction
    num_shards: int
    strict: bool = False

    def shard_path(self, shard: int) -> Path:
        """The file of a shard, by its number from 0."""
        return shard_path(self.output, shard, self.num_shards)

    @cached_property
    def recordings_in_shard(self) -> int | None:
        """About how many recordings a shard has; None where the source is streamed."""
        rows = self.source.num_rows
        return None if rows is None else -(-rows // self.num_shards)

    def run_shard(
        self,
        shard: int,
        retry_failed: bool = False,
        on_loaded: Callable[[int], object] | None = None,
        comes_back: bool = False,
    ) -> ShardInfo | None:
        """Do a shard that is not there yet; with `retry_failed` also those recordings that failed before.

        A shard that is locked is left at once, so that runs which share a job do not wait for each other; a run that
        `comes_back` to it waits a moment, as somebody may only be looking whether it is locked.

        Returns:
            What the shard holds; None where another process works on it.

        Raises:
            HfGarError: The shard cannot be written, or, in a strict job, a recording fails.
        """
        with shard_lock(self.output, shard, LOCK_TIMEOUT_S if comes_back else 0) as is_ours:
            if not is_ours:
                return None
            path = self.shard_path(shard)
            remove_incomplete(path)
            info = read_shard_info(path)
            if info is None:
                return write_shard(
                    self._rows(shard), self.function, path, self.strict, on_loaded, self._first_row(shard)
                )
            if retry_failed and info.failures:
                return retry_failures(
                    self._rows(shard), self.function, path, self.strict, on_loaded, self._first_row(shard)
                )
            return info

    def _rows(self, shard: int) -> datasets.Dataset | datasets.IterableDataset:
        return self.source.dataset.shard(self.num_shards, shard, contiguous=True)

    def _first_row(self, shard: int) -> int | None:
        """The number of the shard's first row in the source, as `shard` cuts it; None where it is streamed."""
        if self.source.num_rows is None:
            return None
        rows, longer = divmod(self.source.num_rows, self.num_shards)
        return shard * rows + min(shard, longer)


def claim_job(
    output: Path, source: Source, function: MapFunction, num_shards: int | None = None, strict: bool = False
) -> Job:
    """Make a new folder this job's, or resume the job that is there if it is the same.

    Raises:
        HfGarError: The folder holds another job, or something else.
    """
    is_new = not (output / JOB_FILE).exists()
    if is_new and output.exists() and (not output.is_dir() or any(map(_is_foreign, output.iterdir()))):
        raise HfGarError(f"{output} holds something other than a job. Choose another `output`.")
    if not is_new and num_shards is None:
        num_shards = read_description(output)["num_shards"]
    description = _describe(source, function, _choose_shards(source, num_shards))
    if is_new:
        write_new_file(output / JOB_FILE, json.dumps(description, indent=2) + "\n")
    # Also where it was written just now: another process may have been quicker.
    _require_same(output, read_description(output), description)
    return Job(output, source, function, description["num_shards"], strict)


def _is_foreign(path: Path) -> bool:
    """Whether it is none of the files that a run leaves which was killed as it began."""
    return path.name != LOCKS and not path.name.startswith(f".{JOB_FILE}-")


def _choose_shards(source: Source, num_shards: int | None) -> int:
    if num_shards is not None and num_shards < 1:
        raise ValueError(f"num_shards has to be 1 or more, not {num_shards}.")
    rows = source.num_rows
    if rows is None:
        shards = source.dataset.num_shards
        if num_shards is not None and num_shards > shards:
            raise HfGarError(f"A streamed source is divided by its files: `num_shards` can be at most {shards}.")
        return num_shards or shards
    if num_shards is None:
        num_shards = min(-(-rows // RECORDINGS_IN_SHARD), MAX_SHARDS)
    return min(num_shards, rows)


def _describe(source: Source, function: MapFunction, num_shards: int) -> dict[str, Any]:
    """What makes a job this one: another job in the same folder is refused."""
    return {
        "format": FORMAT,
        **function.describe(),
        **source.describe(),
        "num_shards": num_shards,
        "versions": {library: version(library) for library in LIBRARIES},
    }


def _require_same(output: Path, there: dict[str, Any], now: dict[str, Any]) -> None:
    there = {"task": task_of(there), **there}
    different = [key for key, value in now.items() if key not in NOT_PINNED and there.get(key) != value]
    if not different:
        return
    differences = "; ".join(f"{key} is {there.get(key)!r} there, {now[key]!r} now" for key in different)
    revisions = [f"`{key}` {there[key]}" for key in REVISIONS if key in different and there.get(key)]
    resuming = f", or resume with the revision that it began with: {' '.join(revisions)}" if revisions else ""
    raise HfGarError(f"{output} holds another job: {differences}. Choose another `output`{resuming}.")
