"""Make an index of a job, or bring it up to date: what is there of it already is not done again.

Every file appears whole, under a name that says what it was made of, and `index.json` names them last: whenever this is
killed, the index is what it was before, and the next call continues.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets.utils import tqdm
from filelock import FileLock

from hf_gar.embedding.jobs.results import EMBEDDING, FinishedJob, as_matrix
from hf_gar.embedding.layer_slices import layer_columns, layer_slices
from hf_gar.errors import HfGarError
from hf_gar.files import INCOMPLETE, write_errors
from hf_gar.hub.load import find_repository
from hf_gar.search.index.approximate import add_rows, build_lists, load_lists, save_lists
from hf_gar.search.index.description import (
    DESCRIPTION_FILE,
    FORMAT,
    IndexDescription,
    common_shards,
    identify_shards,
    job_identity,
    read_index_description,
    require_same,
)
from hf_gar.search.index.reduction import Reduction, fit_reduction, load_reduction
from hf_gar.search.index.vectors import Vectors, write_vectors

LOCK = ".lock"
PREFIXES = ("reduction-", "vectors-", "lists-")  # of the names of its files
REDUCED_DIMENSION = 256
# Up to so many rows every one is compared with a query, which takes milliseconds.
EXACT_ROWS = 20_000


def build_index(
    job: FinishedJob, folder: Path, layers: Sequence[int] | None, reduced_dimension: int
) -> IndexDescription:
    """Index a job, or those rows of it that are not in its index yet.

    The standardisation and PCA stay those of the first rows while these are at least half of all.

    Args:
        job: At least 2 rows.
        folder: The index's: a new or empty one, or that of this job's index.
        layers: Those of a fused embedding to search; by default all.
        reduced_dimension: How many principal components choose the candidates.

    Raises:
        HfGarError: The job has fewer rows, or unusable ones; the folder holds the index of another job or of other
            layers, or something else; or it cannot be written.
    """
    if job.num_recordings < 2:
        raise HfGarError(f"{job.folder} holds {job.num_recordings} embedding(s): there is nothing to search among.")
    _require_own_folder(folder)
    chosen = None if layers is None else tuple(sorted(set(layers)))
    slices = None if chosen is None else _slices(job, chosen)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()
    with FileLock(folder / LOCK):
        for left in folder.glob(f".*{INCOMPLETE}"):  # by a process that was killed
            left.unlink()
        before = read_index_description(folder)
        now = _describe(job, chosen, slices, reduced_dimension)
        if before is not None:
            _require_same_choice(folder, before, now, job)
            if before.shards == now.shards:
                _remove_others(folder, before)
                return before
            kept = sum(shard.rows for shard in before.shards[: common_shards(before.shards, now.shards)])
            if now.rows <= 2 * min(kept, before.fitted_rows):
                now = replace(now, fitted_rows=before.fitted_rows, reduction=before.reduction)
        builder = _Builder(job, folder, now)
        builder.write_reduction()
        builder.write_vectors()
        now = builder.write_lists(before)
        now.write(folder)
        _remove_others(folder, now)
    return now


class _Builder:
    """The steps of one call, each of which does what is missing."""

    def __init__(self, job: FinishedJob, folder: Path, description: IndexDescription):
        self.job, self.folder, self.description = job, folder, description

    def write_reduction(self) -> None:
        path = self.folder / self.description.reduction
        if not path.exists():
            with tqdm(total=self.description.rows, desc="Measuring the embeddings", unit=" rows") as bar:
                blocks = (block for shard in self.job.shards for block in self._embeddings(shard, bar))
                fit_reduction(
                    blocks, self.description.rows, self.description.dimension, self.description.reduced_dimension
                ).save(path)
        self.reduction: Reduction = load_reduction(path)

    def write_vectors(self) -> None:
        shards = list(zip(self.job.shards, self.description.shards, strict=True))
        paths = [self.folder / self.description.vectors_file(shard) for _, shard in shards]
        missing = sum(shard.rows for (_, shard), path in zip(shards, paths, strict=True) if not path.exists())
        with tqdm(total=missing, desc="Standardising the embeddings", unit=" rows", disable=not missing or None) as bar:
            for (file, shard), path in zip(shards, paths, strict=True):
                if shard.rows and not path.exists():
                    standardized = map(self.reduction.standardize, self._embeddings(file, bar))
                    write_vectors(path, standardized, shard.rows, self.description.dimension)
        self.vectors = Vectors(paths, [shard.rows for _, shard in shards], self.description.dimension)

    def write_lists(self, before: IndexDescription | None) -> IndexDescription:
        """Returns the description with the lists' file, where there is one."""
        if self.description.rows <= EXACT_ROWS:
            return self.description
        digest = _digest([self.description.reduction, *(shard.footer_sha256 for shard in self.description.shards)])
        path = self.folder / f"lists-{digest}.faiss"
        if not path.exists():
            with tqdm(total=1, desc="Building the inverted lists", bar_format="{desc} ({elapsed})"):
                if before is not None and before.lists and before.reduction == self.description.reduction:
                    lists = load_lists(self.folder / before.lists, before.rows)
                    same = common_shards(before.shards, self.description.shards)
                    add_rows(lists, self.vectors, self.reduction, sum(shard.rows for shard in before.shards[:same]))
                else:
                    lists = build_lists(self.vectors, self.reduction)
                save_lists(lists, path)
        return replace(self.description, lists=path.name)

    def _embeddings(self, shard: Path, bar: tqdm) -> Iterator[np.ndarray]:
        for table in self.job.blocks(shard, [EMBEDDING]):
            yield as_matrix(table[EMBEDDING])[:, self.description.columns]
            bar.update(len(table))


def _describe(
    job: FinishedJob,
    layers: tuple[int, ...] | None,
    slices: tuple[tuple[int, int], ...] | None,
    reduced_dimension: int,
) -> IndexDescription:
    """The description of an index of all that the job holds, whose reduction is fitted to all of it."""
    shards, identity = identify_shards(job), job_identity(job)
    digest = _digest([FORMAT, identity, layers, reduced_dimension, *(shard.footer_sha256 for shard in shards)])
    return IndexDescription(
        job=identity,
        layers=layers,
        slices=slices,
        dimension=job.dimension if slices is None else sum(stop - start for start, stop in slices),
        reduced_dimension=reduced_dimension,
        shards=shards,
        fitted_rows=sum(shard.rows for shard in shards),
        reduction=f"reduction-{digest}.safetensors",
        lists=None,
    )


def _digest(made_of: list) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _slices(job: FinishedJob, layers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Where layers begin and end in a job's embeddings, which its model says."""
    config = find_repository(job.description["model"], job.description.get("revision")).load_config(
        fusion_layers=job.description["fusion_layers"]
    )
    slices = layer_slices(config)
    layer_columns(slices, layers, job.dimension)  # raises
    return tuple((part.start, part.stop) for layer, part in slices.items() if layer in layers)


def _require_own_folder(folder: Path) -> None:
    """Raise a HfGarError where a folder holds something other than an index, or what is left of one."""
    own = (DESCRIPTION_FILE, LOCK.lstrip("."), *PREFIXES)
    if folder.exists() and not folder.is_dir():
        raise HfGarError(f"{folder} is a file. Choose another `output`.")
    foreign = [path.name for path in folder.glob("*") if not path.name.lstrip(".").startswith(own)]
    if foreign and not (folder / DESCRIPTION_FILE).exists():
        raise HfGarError(f"{folder} holds something other than an index ({foreign[0]}). Choose another `output`.")


def _require_same_choice(folder: Path, before: IndexDescription, now: IndexDescription, job: FinishedJob) -> None:
    require_same(folder, before, job)
    for name, there, asked in (
        ("layers", before.layers, now.layers),
        ("dimensions", before.reduced_dimension, now.reduced_dimension),
    ):
        if there != asked:
            shown = ["all" if value is None else value for value in (there, asked)]
            raise HfGarError(
                f"{folder} is an index with other `{name}`: {shown[0]} there, {shown[1]} now. Choose another `output`, "
                "or remove it first."
            )


def _remove_others(folder: Path, description: IndexDescription) -> None:
    """Remove the files of former indices, which nothing names any more."""
    files = description.files()
    for path in folder.iterdir():
        if path.name.startswith(PREFIXES) and path.name not in files:
            path.unlink()
