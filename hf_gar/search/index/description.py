"""What an index was made of: `index.json`, the last file that is written, without which there is no index."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from hf_gar.embedding.jobs.results import FinishedJob
from hf_gar.errors import HfGarError
from hf_gar.files import write_whole_file

DESCRIPTION_FILE = "index.json"
FORMAT = 1
# What may differ between a job and the same job after it has grown, or been moved.
NOT_IDENTITY = {
    "format",
    "model",
    "revision",
    "frames",
    "num_shards",
    "recordings",
    "recording_names_sha256",
    "dataset_revision",
    "versions",
}


@dataclass(frozen=True)
class ShardIdentity:
    """A shard as it was indexed: its rows, and the digest of its Parquet footer, which any other content changes."""

    rows: int
    footer_sha256: str


@dataclass(frozen=True)
class IndexDescription:
    """What an index was made of, and the names of its files.

    Args:
        job: What makes the job's embeddings comparable with each other, of its `job.json`.
        layers: Those of a fused embedding that are searched; None where all of it is.
        slices: Where these layers begin and end in the job's embeddings; None likewise.
        dimension: How many dimensions of the job's embeddings are searched.
        reduced_dimension: What was asked for; few rows give fewer.
        shards: The job's, in order.
        fitted_rows: How many rows the standardisation and the PCA were fitted to.
        reduction: The file of standardisation and PCA, which also names the others.
        lists: The file of FAISS's inverted lists; None where the search is exact.
    """

    job: dict[str, Any]
    layers: tuple[int, ...] | None
    slices: tuple[tuple[int, int], ...] | None
    dimension: int
    reduced_dimension: int
    shards: tuple[ShardIdentity, ...]
    fitted_rows: int
    reduction: str
    lists: str | None

    @cached_property
    def columns(self) -> np.ndarray | slice:
        """The dimensions of the job's embeddings that are searched."""
        if self.slices is None:
            return slice(None)
        return np.concatenate([np.arange(start, stop) for start, stop in self.slices])

    @cached_property
    def rows(self) -> int:
        """How many rows are indexed."""
        return sum(shard.rows for shard in self.shards)

    def vectors_file(self, shard: ShardIdentity) -> str:
        """The name of a shard's vectors, of this standardisation."""
        return f"vectors-{Path(self.reduction).stem.rpartition('-')[2]}-{shard.footer_sha256[:16]}.npy"

    def files(self) -> set[str]:
        """The names of all files that belong to the index."""
        vectors = {self.vectors_file(shard) for shard in self.shards if shard.rows}
        return {DESCRIPTION_FILE, self.reduction, *vectors} | ({self.lists} if self.lists else set())

    def write(self, folder: Path) -> None:
        """Write `index.json`."""
        write_whole_file(folder / DESCRIPTION_FILE, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


def job_identity(job: FinishedJob) -> dict[str, Any]:
    """What of `job.json` another job would have otherwise."""
    return {key: value for key, value in job.description.items() if key not in NOT_IDENTITY}


def identify_shards(job: FinishedJob) -> tuple[ShardIdentity, ...]:
    """The shards of a job, told from others without reading them."""
    return tuple(ShardIdentity(pq.read_metadata(path).num_rows, _footer_digest(path)) for path in job.shards)


def _footer_digest(path: Path) -> str:
    """The digest of a Parquet file's footer, which has the sizes, places and extremes of all that it holds."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-8 - length, 2)
        return hashlib.sha256(file.read(length)).hexdigest()


def read_index_description(folder: Path) -> IndexDescription | None:
    """What `IndexDescription.write` wrote; None where there is no index.

    Raises:
        HfGarError: It is damaged, or of another version of the format.
    """
    path = folder / DESCRIPTION_FILE
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        found = read.pop("format")
        if found != FORMAT:
            raise HfGarError(
                f"{path} is of the format {found!r}; this version of hf_gar reads {FORMAT}. Remove the index, and "
                "index the job again."
            )
        layers, slices = read.pop("layers"), read.pop("slices")
        shards = tuple(ShardIdentity(**shard) for shard in read.pop("shards"))
        return IndexDescription(
            layers=None if layers is None else tuple(layers),
            slices=None if slices is None else tuple((start, stop) for start, stop in slices),
            shards=shards,
            **read,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HfGarError(f"{path} is damaged: {error!r}. Remove the index, and index the job again.") from error


def require_same(folder: Path, found: IndexDescription, job: FinishedJob) -> None:
    """Raise a HfGarError where the index in `folder` is another job's."""
    expected = job_identity(job)
    different = [key for key in sorted({*expected, *found.job}) if expected.get(key) != found.job.get(key)]
    if different:
        differences = "; ".join(
            f"{key} is {found.job.get(key)!r} there, {expected.get(key)!r} in the job" for key in different
        )
        raise HfGarError(
            f"{folder} is the index of another job than {job.folder}: {differences}. Choose another folder."
        )


def common_shards(first: Sequence[ShardIdentity], second: Sequence[ShardIdentity]) -> int:
    """How many shards two lists of them begin with alike."""
    pairs = zip(first, second, strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
