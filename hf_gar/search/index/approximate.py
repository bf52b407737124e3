"""FAISS's inverted lists of scalar-quantised vectors: which rows of a large job may be a query's nearest."""

from pathlib import Path
from typing import Any

import numpy as np

from hf_gar.errors import HfGarError
from hf_gar.files import replace_when_whole
from hf_gar.search.index.reduction import SEED, Reduction
from hf_gar.search.index.vectors import Vectors
from hf_gar.search.libraries import import_library

LISTS_FACTOR = 2  # of the square root of the number of rows
TRAINING_ROWS_PER_LIST = 40  # FAISS warns below 39


def build_lists(vectors: Vectors, reduction: Reduction) -> Any:
    """Train inverted lists on a random sample of vectors, and add all of them.

    Returns:
        A FAISS index of the reduced vectors, by the numbers of their rows.
    """
    faiss = import_library("faiss")
    lists = 2 ** round(np.log2(LISTS_FACTOR * len(vectors) ** 0.5))
    size = min(len(vectors), TRAINING_ROWS_PER_LIST * lists)
    rows = np.sort(np.random.default_rng(SEED).choice(len(vectors), size, replace=False))
    sample = np.concatenate([reduction.reduce(vectors.take(part)) for part in np.array_split(rows, -(-size // 4096))])
    index = faiss.index_factory(sample.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    add_rows(index, vectors, reduction, 0)
    return index


def add_rows(index: Any, vectors: Vectors, reduction: Reduction, first: int) -> None:
    """Replace the rows from `first` on by those of `vectors`."""
    faiss = import_library("faiss")
    if index.ntotal > first:
        index.remove_ids(faiss.IDSelectorRange(first, np.iinfo(np.int64).max))
    for start, block in vectors.blocks(first):
        index.add_with_ids(reduction.reduce(block), np.arange(start, start + len(block)))


def find_candidates(
    index: Any, queries: np.ndarray, count: int, probes: int, allowed: np.ndarray | None = None
) -> np.ndarray:
    """The rows that are perhaps nearest to reduced queries (query, d): (query, count), -1 where there are fewer.

    Args:
        index: As `build_lists` gives it.
        queries: (query, d).
        count: How many rows.
        probes: How many of its lists to look through.
        allowed: (row,) bool, the rows that may be found; by default all.
    """
    faiss = import_library("faiss")
    selector = None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    # The constructor keeps the selector alive, which an assignment does not in all versions.
    parameters = faiss.SearchParametersIVF(nprobe=min(probes, index.nlist), sel=selector)
    return index.search(queries, count, params=parameters)[1]


def save_lists(index: Any, path: Path) -> None:
    """Write a FAISS index, whole or not at all."""
    with replace_when_whole(path) as temporary:
        import_library("faiss").write_index(index, str(temporary))


def load_lists(path: Path, num_rows: int) -> Any:
    """Read a FAISS index of so many rows.

    Raises:
        HfGarError: It is damaged.
    """
    try:
        index = import_library("faiss").read_index(str(path))
    except RuntimeError as error:
        raise HfGarError(f"{path} is damaged: {error}. Remove the index, and index the job again.") from error
    if index.ntotal != num_rows:
        raise HfGarError(
            f"{path} holds {index.ntotal} rows instead of {num_rows}. Remove the index, and index the job again."
        )
    return index
