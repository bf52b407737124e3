"""What an embedding job wrote, read again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hf_gar.embedding.jobs.job_folder import finished_shards, read_description
from hf_gar.embedding.jobs.shards import ARRAY_COLUMNS, ROWS_AT_ONCE

EMBEDDING = "embedding"


@dataclass(frozen=True)
class JobResults:
    """A finished job, or some rows of it: one row a recording, in the order of its source.

    Args:
        folder: The job's folder.
        description: `job.json`.
        rows: The source's columns and `duration_s`; the index is the number of the recording in the job.
        embeddings: (recording, D) float32; D is 0 where they were not read.
        num_recordings: How many the job holds.
    """

    folder: Path
    description: dict[str, Any]
    rows: pd.DataFrame
    embeddings: np.ndarray
    num_recordings: int


@dataclass(frozen=True)
class FinishedJob:
    """A finished job whose rows are not read yet.

    Args:
        folder: The job's folder.
        description: `job.json`.
        shards: Its Parquet files, in order.
    """

    folder: Path
    description: dict[str, Any]
    shards: tuple[Path, ...]

    @cached_property
    def num_recordings(self) -> int:
        """How many the job holds."""
        return sum(pq.read_metadata(shard).num_rows for shard in self.shards)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The source's columns and `duration_s`."""
        return tuple(name for name in pq.read_schema(self.shards[0]).names if name not in ARRAY_COLUMNS)

    @cached_property
    def dimension(self) -> int:
        """D of the embeddings."""
        return pq.read_schema(self.shards[0]).field(EMBEDDING).type.list_size

    def read(
        self,
        rows: np.ndarray | None = None,
        columns: Sequence[str] | None = None,
        with_embeddings: bool = True,
    ) -> JobResults:
        """Read the job, or some rows of it: of the files, only what holds the rows and columns asked for.

        Args:
            rows: The numbers (row,) of the recordings, ascending; by default all.
            columns: Those of `self.columns` to read; by default all.
            with_embeddings: Read the embeddings, too.
        """
        numbers = np.arange(self.num_recordings) if rows is None else np.asarray(rows, np.int64)
        names = list(self.columns if columns is None else columns)
        embeddings = np.empty((len(numbers), self.dimension if with_embeddings else 0), np.float32)
        tables, first = [], 0
        for table in self._read_tables(numbers, [*names, EMBEDDING] if with_embeddings else names):
            if with_embeddings:
                embeddings[first : first + len(table)] = as_matrix(table[EMBEDDING])
            first += len(table)
            tables.append(table.select(names))
        frame = pa.concat_tables(tables).to_pandas(ignore_metadata=True) if tables else pd.DataFrame(columns=names)
        frame.index = pd.RangeIndex(len(frame)) if rows is None else pd.Index(numbers)
        return JobResults(self.folder, self.description, frame, embeddings, self.num_recordings)

    def read_columns(self, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Some columns of the rows (row,) of these numbers, ascending, without the embeddings."""
        tables = list(self._read_tables(np.asarray(rows, np.int64), list(columns)))
        return pa.concat_tables(tables) if tables else pq.read_schema(self.shards[0]).empty_table().select(columns)

    def blocks(self, shard: Path, columns: Sequence[str], size: int = ROWS_AT_ONCE) -> Iterator[pa.Table]:
        """Some columns of a shard, the embeddings and frames among them, at most `size` rows at a time."""
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(size, columns=list(columns)):
                yield pa.Table.from_batches([batch])

    def _read_tables(self, numbers: np.ndarray, columns: list[str]) -> Iterator[pa.Table]:
        """The rows of these numbers, a row group at a time, since the embeddings may be many gigabytes."""
        first = 0  # the number of the row group's first recording
        for shard in self.shards:
            with pq.ParquetFile(shard) as file:
                for group in range(file.num_row_groups):
                    size = file.metadata.row_group(group).num_rows
                    start, stop = np.searchsorted(numbers, [first, first + size])
                    if start < stop:
                        # Arrow's threads would hold several times as much, and nearly all is one column.
                        table = file.read_row_group(group, columns, use_threads=False)
                        yield table if stop - start == size else table.take(numbers[start:stop] - first)
                    first += size


def as_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of embeddings as (row, D) float32."""
    return column.combine_chunks().flatten().to_numpy().reshape(-1, column.type.list_size)


def open_job(folder: str | Path) -> FinishedJob:
    """Open a finished embedding job, of which nothing but what it holds is read.

    Raises:
        HfGarError: The folder does not hold a job, or the job is not finished.
    """
    folder = Path(folder)
    return FinishedJob(folder, read_description(folder), tuple(finished_shards(folder)))


def read_job(folder: str | Path) -> JobResults:
    """Read the results of a finished embedding job.

    Raises:
        HfGarError: The folder does not hold a job, or the job is not finished.
    """
    return open_job(folder).read()
