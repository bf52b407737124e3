"""A shard of an embedding job: one Parquet file, which appears whole or not at all and knows what failed in it."""

import itertools
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_gar.embedding.dataset import TEXT
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.job_folder import METADATA_KEY, Failure, ShardInfo, read_shard_info
from hf_gar.embedding.tables import FILE_NAME
from hf_gar.embedding.tars import KEY
from hf_gar.errors import HfGarError
from hf_gar.files import replace_when_whole
from hf_gar.hub_errors import TRANSPORT_ERROR

# Recordings that are embedded and then written together: they, and no more, are in memory.
ROWS_AT_ONCE = 1024
ROWS_AT_ONCE_WITH_FRAMES = 16
# Where the rows hold the recordings themselves, not their paths.
ROWS_WITH_BYTES_AT_ONCE = 64
# What a recording is called by, in an error: the second is WebDataset's.
NAME_COLUMNS = (FILE_NAME, KEY)
# The columns of floats.
ARRAY_COLUMNS = ("embedding", "frame_embeddings", "frame_times")
# Columns that are not stored: each recording's row in the shard, its name, and why it could not be embedded.
ROW, NAME, REASON = "__hf_gar_row__", "__hf_gar_name__", "__hf_gar_reason__"


def write_shard(
    rows: datasets.Dataset | datasets.IterableDataset,
    embedder: AudioEmbedder,
    path: Path,
    strict: bool = False,
    on_loaded: Callable[[int], object] | None = None,
    first_row: int | None = None,
) -> ShardInfo:
    """Embed recordings into a shard.

    Args:
        rows: The shard's piece of the source.
        embedder: Records errors.
        path: The Parquet file.
        strict: Raise at the first recording that cannot be embedded.
        on_loaded: Called with the number of recordings that were read since the last call.
        first_row: The number, from 0, that the shard's first row has in the source; None where it is not known.

    Raises:
        HfGarError: The file cannot be written, or, where `strict`, a recording cannot be embedded.
    """
    schema = _schema(rows.features, embedder)
    failures: list[Failure] = []
    embedded = 0
    with replace_when_whole(path) as temporary, open_writer(temporary, schema) as writer:
        for table in _embedded_tables(rows, embedder, itertools.count(), first_row, on_loaded):
            failures += _failures(table, strict)
            good = _good(table, schema)
            writer.write_table(good)
            embedded += len(good)
        _write_metadata(writer, failures)
    return ShardInfo(embedded, tuple(failures))


def retry_failures(
    rows: datasets.Dataset | datasets.IterableDataset,
    embedder: AudioEmbedder,
    path: Path,
    strict: bool = False,
    on_loaded: Callable[[int], object] | None = None,
    first_row: int | None = None,
) -> ShardInfo:
    """Embed the recordings of a shard again that could not be embedded, and write it anew with those that now can.

    The arguments are those of `write_shard`.

    Raises:
        HfGarError: The file cannot be read or written, or, where `strict`, a recording cannot be embedded.
    """
    info = read_shard_info(path)
    if info is None:
        raise HfGarError(f"{path} is not there, or damaged: there is nothing to retry. Run the job again.")
    schema = _schema(rows.features, embedder)
    failed = sorted(failure.row for failure in info.failures)
    again = rows.select(failed) if isinstance(rows, datasets.Dataset) else _select_streamed(rows, failed)
    tables = list(_embedded_tables(again, embedder, failed, first_row, on_loaded))
    retried = pa.concat_tables(tables) if tables else None
    if retried is None or len(retried) != len(failed):
        raise HfGarError(f"The source has fewer recordings than when {path} was written. Choose another `output`.")
    failures = _failures(retried, strict)
    good = _good(retried, schema)
    new_rows = np.setdiff1d(failed, [failure.row for failure in failures])
    old_rows = np.setdiff1d(np.arange(info.embedded + len(failed)), failed)
    with replace_when_whole(path) as temporary, open_writer(temporary, schema) as writer:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                old = pa.Table.from_batches([batch]).cast(schema)
                numbers, old_rows = old_rows[: len(old)], old_rows[len(old) :]
                # The new rows up to the next old one; after the last, all that are left.
                before = np.searchsorted(new_rows, old_rows[0]) if len(old_rows) else len(new_rows)
                both = pa.concat_tables([old, good.slice(0, before)])
                writer.write_table(both.take(np.argsort(np.concatenate([numbers, new_rows[:before]]))))
                good, new_rows = good.slice(before), new_rows[before:]
        writer.write_table(good)
        _write_metadata(writer, failures)
    return ShardInfo(info.embedded + len(failed) - len(failures), tuple(failures))


def _select_streamed(rows: datasets.IterableDataset, wanted: list[int]) -> datasets.IterableDataset:
    keep = set(wanted)
    return rows.filter(lambda _, row: row in keep, with_indices=True)


def _schema(features: datasets.Features, embedder: AudioEmbedder) -> pa.Schema:
    """The columns of a shard: the source's without the audio, or else the recordings' names; what the embedder adds."""
    named = {} if len(features) > 1 else {FILE_NAME: datasets.Value("string")}
    added = embedder.output_features(features)
    return datasets.Features(
        {**named, **{name: feature for name, feature in added.items() if name != "error"}}
    ).arrow_schema


def _embedded_tables(
    rows: datasets.Dataset | datasets.IterableDataset,
    embedder: AudioEmbedder,
    numbers: Iterable[int],
    first_row: int | None,
    on_loaded: Callable[[int], object] | None,
) -> Iterator[pa.Table]:
    """The rows without their recordings, with what the embedder adds; `numbers` are the rows' in the shard."""
    at_once = ROWS_AT_ONCE_WITH_FRAMES if embedder.with_frames else ROWS_AT_ONCE
    if rows.features[embedder.audio_column] not in TEXT:
        at_once = min(at_once, ROWS_WITH_BYTES_AT_ONCE)
    numbers = iter(numbers)
    try:
        for table in _tables(rows, at_once):
            embedded = _embed_table(table, embedder, on_loaded)
            yield _with_names(embedded, list(itertools.islice(numbers, len(table))), first_row)
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


def _embed_table(table: pa.Table, embedder: AudioEmbedder, on_loaded: Callable[[int], object] | None) -> pa.Table:
    batch = table.select([name for name in (embedder.audio_column, "split") if name in table.column_names]).to_pydict()
    added = embedder(batch, on_loaded=on_loaded)
    types = embedder.output_features(datasets.Features()).arrow_schema
    named_by = next((name for name in NAME_COLUMNS if name in table.column_names), None)
    names = map(_path, batch[embedder.audio_column]) if named_by is None else table[named_by].to_pylist()
    table = table.drop_columns([embedder.audio_column])
    for name, values in added.items():
        # Arrow takes arrays of one dimension: frames are lists of those.
        rows = [list(value) if isinstance(value, np.ndarray) and value.ndim == 2 else value for value in values]
        table = table.append_column(REASON if name == "error" else name, pa.array(rows, types.field(name).type))
    named = [None if name in (None, "") else str(name) for name in names]
    return table.append_column(NAME, pa.array(named, pa.string()))


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


def _good(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """What is stored: the columns of a shard, of the recordings that could be embedded."""
    return table.filter(pc.is_null(table[REASON])).select(schema.names).cast(schema)


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Embeddings have no values that repeat: a dictionary of them would only take time."""
    repeating = [name for name in schema.names if name not in ARRAY_COLUMNS]
    return pq.ParquetWriter(path, schema, use_dictionary=repeating)


def _write_metadata(writer: pq.ParquetWriter, failures: list[Failure]) -> None:
    metadata = {"failures": [asdict(failure) for failure in failures]}
    writer.add_key_value_metadata({METADATA_KEY.decode(): json.dumps(metadata, ensure_ascii=False)})


def _path(source: Any) -> str | None:
    """What a recording is called, where it has a name."""
    path = source.get("path") if isinstance(source, dict) else source
    return path if isinstance(path, str) else None
