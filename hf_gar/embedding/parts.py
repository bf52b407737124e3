"""A part of an embedding job: one Parquet file, which appears whole or not at all and knows what failed in it."""

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_gar.embedding.dataset import TEXT
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.job_folder import METADATA_KEY, Failure, PartInfo, read_part_info
from hf_gar.embedding.window_batch import Embedding
from hf_gar.errors import HfGarError
from hf_gar.files import replace_when_whole
from hf_gar.hub_errors import TRANSPORT_ERROR

# Recordings that are embedded and then written together: they, and no more, are in memory.
ROWS_AT_ONCE = 1024
ROWS_AT_ONCE_WITH_FRAMES = 16
# Where the rows hold the recordings themselves, not their paths.
ROWS_WITH_BYTES_AT_ONCE = 64
# What a recording is called by, in an error: the second is WebDataset's.
NAME_COLUMNS = ("file_name", "__key__")
# The columns of floats.
ARRAY_COLUMNS = ("embedding", "frame_embeddings", "frame_times")
# The column of failures, which is not stored.
FAILURE = "__hf_gar_failure__"


def write_part(
    rows: datasets.Dataset | datasets.IterableDataset,
    embedder: AudioEmbedder,
    path: Path,
    strict: bool = False,
    on_prepared: Callable[[int], object] | None = None,
) -> PartInfo:
    """Embed recordings into a part.

    Args:
        rows: The part's piece of the source.
        embedder: Records errors.
        path: The Parquet file.
        strict: Raise at the first recording that cannot be embedded.
        on_prepared: Called with the number of recordings that were read since the last call.

    Raises:
        HfGarError: The file cannot be written, or, where `strict`, a recording cannot be embedded.
    """
    schema = _schema(rows.features, embedder)
    failures: list[Failure] = []
    done = embedded = 0
    with replace_when_whole(path) as temporary, open_writer(temporary, schema) as writer:
        for table in _embedded_tables(rows, embedder, on_prepared):
            failures += _failures(table, done)
            if strict and failures:
                raise HfGarError(f"{failures[0].file}: {failures[0].reason}")
            good = table.filter(pc.is_null(table[FAILURE])).select(schema.names).cast(schema)
            writer.write_table(good)
            done += len(table)
            embedded += len(good)
        _write_metadata(writer, failures)
    return PartInfo(embedded, tuple(failures))


def retry_failures(
    rows: datasets.Dataset | datasets.IterableDataset,
    embedder: AudioEmbedder,
    path: Path,
    strict: bool = False,
    on_prepared: Callable[[int], object] | None = None,
) -> PartInfo:
    """Embed the recordings of a part again that could not be embedded, and write it anew with those that now can.

    The arguments are those of `write_part`.

    Raises:
        HfGarError: The file cannot be read or written, or, where `strict`, a recording cannot be embedded.
    """
    info = read_part_info(path)
    if info is None:
        raise HfGarError(f"{path} is not there, or damaged: there is nothing to retry. Run the job again.")
    schema = _schema(rows.features, embedder)
    failed = sorted(failure.row for failure in info.failures)
    again = rows.select(failed) if isinstance(rows, datasets.Dataset) else _select_streamed(rows, failed)
    tables = list(_embedded_tables(again, embedder, on_prepared))
    retried = pa.concat_tables(tables) if tables else None
    if retried is None or len(retried) != len(failed):
        raise HfGarError(f"The source has fewer recordings than when {path} was written. Begin another --output.")
    failures = [
        Failure(failed[failure.row], failure.file, failure.reason) for failure in _failures(retried, first_row=0)
    ]
    if strict and failures:
        raise HfGarError(f"{failures[0].file}: {failures[0].reason}")
    good = retried.filter(pc.is_null(retried[FAILURE])).select(schema.names).cast(schema)
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
    return PartInfo(info.embedded + len(failed) - len(failures), tuple(failures))


def _select_streamed(rows: datasets.IterableDataset, wanted: list[int]) -> datasets.IterableDataset:
    keep = set(wanted)
    return rows.filter(lambda _, row: row in keep, with_indices=True)


def _schema(features: datasets.Features, embedder: AudioEmbedder) -> pa.Schema:
    """The columns of a part: the source's without the audio, and what the embedder adds."""
    return datasets.Features(
        {name: feature for name, feature in embedder.output_features(features).items() if name != "error"}
    ).arrow_schema


def _embedded_tables(
    rows: datasets.Dataset | datasets.IterableDataset,
    embedder: AudioEmbedder,
    on_prepared: Callable[[int], object] | None,
) -> Iterator[pa.Table]:
    """`datasets.map` with the embedder, streamed: nothing but the tables at hand is kept."""
    at_once = ROWS_AT_ONCE_WITH_FRAMES if embedder.with_frames else ROWS_AT_ONCE
    if rows.features[embedder.audio_column] not in TEXT:
        at_once = min(at_once, ROWS_WITH_BYTES_AT_ONCE)
    stream = rows.to_iterable_dataset() if isinstance(rows, datasets.Dataset) else rows
    mapped = stream.with_format("arrow").map(
        partial(_embed_table, embedder=embedder, on_prepared=on_prepared), batched=True, batch_size=at_once
    )
    try:
        yield from mapped.iter(batch_size=at_once)
    except (OSError, TRANSPORT_ERROR, tarfile.TarError) as error:
        # A recording's own errors are recorded: this is the source's, its files' or the network's.
        raise HfGarError(f"The source could not be read: {error}\nMend it, and run the command again.") from error


def _embed_table(table: pa.Table, embedder: AudioEmbedder, on_prepared: Callable[[int], object] | None) -> pa.Table:
    sources = table[embedder.audio_column].to_pylist()
    splits = table["split"].to_pylist() if "split" in table.column_names else None
    results = embedder.embed(sources, splits=splits, on_prepared=on_prepared)
    named_by = next((name for name in NAME_COLUMNS if name in table.column_names), None)
    names = map(_path, sources) if named_by is None else table[named_by].to_pylist()
    failures = [
        None if isinstance(result, Embedding) else {"file": name, "reason": str(result)}
        for result, name in zip(results, names, strict=True)
    ]
    columns = _columns([result if isinstance(result, Embedding) else None for result in results], embedder)
    columns[FAILURE] = pa.array(failures, pa.struct({"file": pa.string(), "reason": pa.string()}))
    table = table.drop_columns([embedder.audio_column])
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _columns(results: list[Embedding | None], embedder: AudioEmbedder) -> dict[str, pa.Array]:
    """The embeddings as Arrow arrays, made of whole blocks of floats; zeros where there is none."""
    size = embedder.config.embedding_size
    nothing = np.zeros(size, np.float32)
    clips = np.concatenate([nothing if result is None else result.clip for result in results])
    columns = {
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(clips), size),
        "duration_s": pa.array([None if result is None else result.duration_s for result in results], pa.float64()),
    }
    if embedder.with_frames:
        frames = [np.empty((0, size), np.float32) if r is None or r.frames is None else r.frames for r in results]
        times = [np.empty(0) if r is None or r.frame_times is None else r.frame_times for r in results]
        offsets = pa.array(np.cumsum([0, *map(len, frames)]), pa.int32())
        values = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(frames).ravel()), size)
        columns["frame_embeddings"] = pa.ListArray.from_arrays(offsets, values)
        columns["frame_times"] = pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(times)))
    return columns


def _failures(table: pa.Table, first_row: int) -> list[Failure]:
    return [
        Failure(first_row + index, failure["file"] or f"row {first_row + index} of the part", failure["reason"])
        for index, failure in enumerate(table[FAILURE].to_pylist())
        if failure is not None
    ]


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
