"""An embedding job: a source of recordings becomes a folder of Parquet, part by part."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets

from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.job_folder import (
    JOB_FILE,
    LOCK_TIMEOUT_S,
    LOCKS,
    PartInfo,
    part_lock,
    part_path,
    read_description,
    read_part_info,
)
from hf_gar.embedding.parts import retry_failures, write_part
from hf_gar.embedding.sources import Source
from hf_gar.errors import HfGarError
from hf_gar.files import remove_incomplete, write_new_file

LIBRARIES = ("hf_gar", "torch", "transformers", "datasets")
# By default, a part holds so many recordings: what is lost at most, in each process, when it dies.
RECORDINGS_IN_PART = 2000
MAX_PARTS = 10_000
# What may differ between two runs of a job.
NOT_PINNED = {"versions"}
# What may have changed on the Hub since a job began.
REVISIONS = ("revision", "dataset_revision")


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
        self,
        part: int,
        retry_failed: bool = False,
        on_prepared: Callable[[int], object] | None = None,
        comes_back: bool = False,
    ) -> PartInfo | None:
        """Embed a part that is not there yet; with `retry_failed` also those recordings that failed before.

        A part that is locked is left at once, so that runs which share a job do not wait for each other; a run that
        `comes_back` to it waits a moment, as somebody may only be looking whether it is locked.

        Returns:
            What the part holds; None where another process works on it.

        Raises:
            HfGarError: The part cannot be written, or, in a strict job, a recording cannot be embedded.
        """
        with part_lock(self.output, part, LOCK_TIMEOUT_S if comes_back else 0) as is_ours:
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


def claim_job(
    output: Path, source: Source, embedder: AudioEmbedder, num_parts: int | None = None, strict: bool = False
) -> Job:
    """Make a new folder this job's, or resume the job that is there if it is the same.

    Raises:
        HfGarError: The folder holds another job, or something else.
    """
    is_new = not (output / JOB_FILE).exists()
    if is_new and output.exists() and (not output.is_dir() or any(map(_is_foreign, output.iterdir()))):
        raise HfGarError(f"{output} holds something else than an embedding job. Choose another `output`.")
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


def _choose_parts(source: Source, num_parts: int | None) -> int:
    if num_parts is not None and num_parts < 1:
        raise ValueError(f"num_parts has to be 1 or more, not {num_parts}.")
    rows = source.num_rows
    if rows is None:
        shards = source.dataset.num_shards
        if num_parts is not None and num_parts > shards:
            raise HfGarError(
                f"A streamed source is cut at its files, of which it has {shards}: `num_parts` can be at most that."
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
        "fusion_layers": embedder.config.layer_choice,
        "max_length": embedder.feature_extractor.max_length,
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
    revisions = [f"`{key}` {there[key]}" for key in REVISIONS if key in different and there.get(key)]
    resuming = f", or resume with the revision that it began with: {' '.join(revisions)}" if revisions else ""
    raise HfGarError(f"{output} holds another job: {differences}. Choose another `output`{resuming}.")
