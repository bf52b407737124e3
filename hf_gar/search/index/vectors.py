"""The standardised embeddings of a job on disk, in half precision: a file for each shard.

They are half as large as the job. Candidates are compared on them exactly, since PCA loses what tells near neighbours
apart.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from hf_gar.errors import HfGarError
from hf_gar.files import replace_when_whole

ROWS_AT_ONCE = 4096


def write_vectors(path: Path, blocks: Iterable[np.ndarray], num_rows: int, dimension: int) -> None:
    """Write vectors (row, D), block by block, as a file that appears whole."""
    with replace_when_whole(path) as temporary:
        file = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=(num_rows, dimension))
        first = 0
        for block in blocks:
            file[first : first + len(block)] = block
            first += len(block)
        file.flush()


class Vectors:
    """The vectors of a job's rows, of which only what is asked for is read.

    Args:
        paths: A file for each shard, in order.
        sizes: The rows of each; a shard without rows has no file.
        dimension: D.
    """

    def __init__(self, paths: Sequence[Path], sizes: Sequence[int], dimension: int):
        self.paths = paths
        self.sizes = np.asarray(sizes, np.int64)
        self.dimension = dimension
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of rows (row,), in any order: (row, D) float32."""
        found = np.empty((len(rows), self.dimension), np.float32)
        shards = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(shards, kind="stable")
        bounds = np.searchsorted(shards[order], np.arange(len(self.sizes) + 1))
        for shard in np.unique(shards):
            at = order[bounds[shard] : bounds[shard + 1]]
            found[at] = self._files[shard][rows[at] - self.starts[shard]]
        return found

    def blocks(self, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """All from a row on, at most `ROWS_AT_ONCE` at a time: the first one's number, and (row, D) float32."""
        for shard, (path, size) in enumerate(zip(self.paths, self.sizes, strict=True)):
            if not size or self.starts[shard + 1] <= first:
                continue
            file = _open(path, (size, self.dimension))  # of its own, so that its pages are let go after it
            for start in range(max(0, first - int(self.starts[shard])), size, ROWS_AT_ONCE):
                yield int(self.starts[shard]) + start, file[start : start + ROWS_AT_ONCE].astype(np.float32)

    @cached_property
    def _files(self) -> list[np.ndarray | None]:
        return [
            _open(path, (size, self.dimension)) if size else None
            for path, size in zip(self.paths, self.sizes, strict=True)
        ]


def _open(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A file's vectors, mapped into memory. NumPy would keep the file open, and a job may have thousands of shards."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            found, _, dtype = np.lib.format.read_array_header_1_0(file)
            skipped = file.tell() // np.dtype(np.float16).itemsize
        if found != shape or dtype != np.float16:
            raise ValueError(f"it holds {found} {dtype} instead of {shape} float16")
        mapped = torch.from_file(str(path), shared=False, size=skipped + shape[0] * shape[1], dtype=torch.float16)
    except (OSError, ValueError, RuntimeError) as error:
        raise HfGarError(f"{path} is damaged: {error}. Remove the index, and index the job again.") from error
    return mapped[skipped:].reshape(shape).numpy()
