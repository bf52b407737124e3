"""A shard of a job: one Parquet file, which appears whole or not at all and knows what failed in it."""

import contextlib
import itertools
import json
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_gar.embedding.dataset import TEXT
from hf_gar.embedding.jobs.job_folder import METADATA_KEY, Failure, ShardInfo, read_shard_info
from hf_gar.embedding.map_function import MapFunction
from hf_gar.embedding.sources.tables import FILE_NAME
from hf_gar.embedding.sources.tars import KEY
from hf_gar.errors import HfGarError
from hf_gar.files import replace_when_whole
from hf_gar.hub_errors import TRANSPORT_ERROR

# Rows that are read together, and then written together.
ROWS_AT_ONCE = 1024
# They are fewer where they have so many bytes: recordings that are read, frame embeddings that are written.
BYTES_AT_ONCE = 64 * 2**20
# Rows with recordings are read in tables of so many, which are put together.
ROWS_IN_TABLE = 16
# What a recording is called by, in an error: the second is WebDataset's.
NAME_COLUMNS = (FILE_NAME, KEY)
# The columns of floats.
ARRAY_COLUMNS = ("embedding", "frame_embeddings", "frame_times")
# Columns that are not stored: each recording's row in the shard, its name, and why it failed.
ROW, NAME, REASON = "__hf_gar_row__", "__hf_gar_name__", "__hf_gar_reason__"


def write_shard(
    rows: datasets.Dataset | datasets.IterableDataset,
    function: MapFunction,
    path: Path,
    strict: bool = False,
    on_loaded: Callable[[int], object] | None = None,
    first_row: int | None = None,
) -> ShardInfo:
    """Write what a function makes of recordings into a shard.

    Args:
        rows: The shard's piece of the source.
        function: Records errors.
        path: The Parquet file.
        strict: Raise at the first recording that fails.
        on_loaded: Called with the number of recordings that were read since the last call.
        first_row: The number, from 0, that the shard's first row has in the source; None where it is not known.

    Raises:
        HfGarError: The file cannot be written, or, where `strict`, a recording fails.
    """
    schema = function.job_features(rows.features).arrow_schema
    failures: list[Failure] = []
    row_counts: list[int] = []
    tables = _mapped_tables(rows, function, itertools.count(), first_row, on_loaded)
    # Where writing fails, the processes that decode are ended with the tables.
    with contextlib.closing(tables), replace_when_whole(path) as temporary, open_writer(temporary, schema) as writer:
        for table in tables:
            failures += _failures(table, strict)
            stored, counts = _stored_rows(table, function, schema, path.parent)
            writer.write_table(stored)
            row_counts += counts.tolist()
        return _write_info(writer, failures, row_counts)


def retry_failures(
    rows: datasets.Dataset | datasets.IterableDataset,
    function: MapFunction,
    path: Path,
    strict: bool = False,
    on_loaded: Callable[[int], object] | None = None,
    first_row: int | None = None,
) -> ShardInfo:
    """Process the recordings of a shard again that failed, and write it anew with those that no longer do.

    The arguments are those of `write_shard`.

    Raises:
        HfGarError: The file cannot be read or written, or, where `strict`, a recording fails.
    """
    info = read_shard_info(path)
    if info is None:
        raise HfGarError(f"{path} is not there, or damaged: there is nothing to retry. Run the job again.")
    schema = function.job_features(rows.features).arrow_schema
    failed = sorted(failure.row for failure in info.failures)
    again = rows.select(failed) if isinstance(rows, datasets.Dataset) else _select_streamed(rows, failed)
    tables = list(_mapped_tables(again, function, failed, first_row, on_loaded))
    retried = pa.concat_tables(tables) if tables else None
    if retried is None or len(retried) != len(failed):
        raise HfGarError(f"The source has fewer recordings than when {path} was written. Choose another `output`.")
    failures = _failures(retried, strict)
    new, new_counts = _stored_rows(retried, function, schema, path.parent)
    new_done = np.setdiff1d(failed, [failure.row for failure in failures])
    old_done = np.setdiff1d(np.arange(info.done + len(failed)), failed)
    old_counts = np.ones(info.done, np.int64) if info.row_counts is None else np.array(info.row_counts, np.int64)
    # Of each stored row, which of the shard's recordings it is about.
    new_rows, old_rows = np.repeat(new_done, new_counts), np.repeat(old_done, old_counts)
    counts = np.concatenate([old_counts, new_counts])[np.argsort(np.concatenate([old_done, new_done]))]
    with replace_when_whole(path) as temporary, open_writer(temporary, schema) as writer:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                old = pa.Table.from_batches([batch]).cast(schema)
                numbers, old_rows = old_rows[: len(old)], old_rows[len(old) :]
                # The new rows up to the next old one; after the last, all that are left.
                before = np.searchsorted(new_rows, old_rows[0]) if len(old_rows) else len(new_rows)
                both = pa.concat_tables([old, new.slice(0, before)])
                order = np.argsort(np.concatenate([numbers, new_rows[:before]]), kind="stable")
                writer.write_table(both.take(order))
                new, new_rows = new.slice(before), new_rows[before:]
        writer.write_table(new)
        return _write_info(writer, failures, counts.tolist())


def _select_streamed(rows: datasets.IterableDataset, wanted: list[int]) -> datasets.IterableDataset:
    keep = set(wanted)
    return rows.filter(lambda _, row: row in keep, with_indices=True)


def _mapped_tables(
    rows: datasets.Dataset | datasets.IterableDataset,
    function: MapFunction,
    numbers: Iterable[int],
    first_row: int | None,
    on_loaded: Callable[[int], object] | None,
) -> Generator[pa.Table, None, None]:
    """The rows without their recordings, with what the function adds; `numbers` are the rows' in the shard."""
    has_recordings = rows.features[function.audio_column] not in TEXT
    tables = _joined(_tables(rows, ROWS_IN_TABLE)) if has_recordings else _tables(rows, ROWS_AT_ONCE)
    numbers = iter(numbers)
    try:
        for table in tables:
            for mapped in _map_table(table, function, on_loaded):
                yield _with_names(mapped, list(itertools.islice(numbers, len(mapped))), first_row)
    except (OSError, TRANSPORT_ERROR, tarfile.TarError) as error:
        # A recording's own errors are recorded: this is the source's, its files' or the network's.
        raise HfGarError(f"The source could not be read: {error}\nFix it, and run the command again.") from error


def _tables(rows: datasets.Dataset | datasets.IterableDataset, at_once: int) -> Iterator[pa.Table]:
    if isinstance(rows, datasets.Dataset):
        yield from rows.with_format("arrow").iter(batch_size=at_once)
        return
    # Not in the format "arrow", which guesses the types of a generator's rows one by one, and fails where they differ.
    schema = rows.features.arrow_schema
    for batch in rows.decode(False).iter(batch_size=at_once):
        yield pa.table(batch, schema=schema)


def _joined(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables put together to as many rows as are read together."""
    some: list[pa.Table] = []
    for table in tables:
        some.append(table)
        if sum(map(len, some)) >= ROWS_AT_ONCE or sum(each.nbytes for each in some) >= BYTES_AT_ONCE:
            yield pa.concat_tables(some)
            some = []
    if some:
        yield pa.concat_tables(some)


def _map_table(table: pa.Table, function: MapFunction, on_loaded: Callable[[int], object] | None) -> Iterator[pa.Table]:
    """A table's rows, a part at a time, without their recordings, with what the function adds, and their names."""
    batch = table.select([name for name in (function.audio_column, "split") if name in table.column_names]).to_pydict()
    named_by = next((name for name in NAME_COLUMNS if name in table.column_names), None)
    names = map(_path, batch[function.audio_column]) if named_by is None else table[named_by].to_pylist()
    named = [None if name in (None, "") else str(name) for name in names]
    table = table.drop_columns([function.audio_column]).append_column(NAME, pa.array(named, pa.string()))
    added: list[dict[str, Any]] = []
    num_bytes = 0
    for row in function.added_rows(batch, on_loaded=on_loaded):
        added.append(row)
        num_bytes += sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))
        if num_bytes >= BYTES_AT_ONCE:
            yield _with_added(table.slice(0, len(added)), added, function)
            table, added, num_bytes = table.slice(len(added)), [], 0
    if added:
        yield _with_added(table, added, function)


def _with_added(table: pa.Table, added: list[dict[str, Any]], function: MapFunction) -> pa.Table:
    for field in function.output_features(datasets.Features()).arrow_schema:
        values = (row[field.name] for row in added)
        # Arrow takes arrays of one dimension: frames are lists of those.
        rows = [list(value) if isinstance(value, np.ndarray) and value.ndim == 2 else value for value in values]
        table = table.append_column(REASON if field.name == "error" else field.name, pa.array(rows, field.type))
    return table


def _with_names(table: pa.Table, numbers: list[int], first_row: int | None) -> pa.Table:
    """The table with the rows' numbers, and those that have no name called by them."""
    rows = [
        f"row {number} of the shard" if first_row is None else f"row {first_row + number} of the source"
        for number in numbers
    ]
    names = [name or row for name, row in zip(table[NAME].to_pylist(), rows, strict=True)]
    table = table.drop_columns([NAME])
    added = {ROW: pa.array(numbers, pa.int64()), NAME: pa.array(names)}
    if FILE_NAME not in table.column_names:
        added[FILE_NAME] = added[NAME]
    for name, column in added.items():
        table = table.append_column(name, column)
    return table


def _failures(table: pa.Table, strict: bool) -> list[Failure]:
    failed = table.select([ROW, NAME, REASON]).filter(pc.is_valid(table[REASON])).to_pylist()
    failures = [Failure(row[ROW], row[NAME], row[REASON]) for row in failed]
    if strict and failures:
        raise HfGarError(f"{failures[0].file}: {failures[0].reason}")
    return failures


def _stored_rows(
    table: pa.Table, function: MapFunction, schema: pa.Schema, folder: Path
) -> tuple[pa.Table, np.ndarray]:
    """The rows of a shard about the recordings of a table that did not fail, and how many there are about each."""
    good = table.filter(pc.is_null(table[REASON]))
    names = good[NAME].to_pylist()
    function.write_files(good, names, folder)
    rows, recordings = function.job_rows(good, names)
    return rows.select(schema.names).cast(schema), np.bincount(recordings, minlength=len(good))


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Embeddings have no values that repeat: a dictionary of them would only take time."""
    repeating = [name for name in schema.names if name not in ARRAY_COLUMNS]
    return pq.ParquetWriter(path, schema, use_dictionary=repeating)


def _write_info(writer: pq.ParquetWriter, failures: list[Failure], row_counts: list[int]) -> ShardInfo:
    """Write into a shard what failed, and how many rows there are about each of the other recordings; not where that is
    one.
    """
    metadata: dict[str, Any] = {"failures": [asdict(failure) for failure in failures]}
    has_one_each = all(count == 1 for count in row_counts)
    if not has_one_each:
        metadata["row_counts"] = row_counts
    writer.add_key_value_metadata({METADATA_KEY.decode(): json.dumps(metadata, ensure_ascii=False)})
    return ShardInfo(len(row_counts), tuple(failures), None if has_one_each else tuple(row_counts))


def _path(source: Any) -> str | None:
    """What a recording is called, where it has a name."""
    path = source.get("path") if isinstance(source, dict) else source
    return path if isinstance(path, str) else None
