"""Tables of recordings: CSV, Parquet and JSON Lines, as Arrow, of which there may be millions of rows."""

import csv
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_gar.errors import HfGarError

METADATA_FILES = ("metadata.csv", "metadata.parquet", "metadata.jsonl")
PATH_COLUMNS = ("file_name", "path", "file", "filename", "audio")
AUDIO = "audio"
FILE_NAME = "file_name"
# The separators of a CSV: the first of them that its header has.
SEPARATORS = ",;\t"
# Rows that are Python's at a time: all others are Arrow's, which take a fraction of the memory.
ROWS_READ = 1000
ROWS_JOINED = 10_000
# Of a path that is absolute, empty, or has a part that is empty or ".".
NOT_SIMPLE = r"^/|^$|//|/$|(^|/)\.(/|$)"


def read_table(path: Path) -> pa.Table:
    """A table; a column of a CSV is one of numbers or truth values only if they give back all of its text.

    Raises:
        HfGarError: It cannot be read; of a CSV or JSON Lines, the message names the line.
    """
    return read_tables([path])[0]


def read_tables(paths: Sequence[Path]) -> list[pa.Table]:
    """Tables of one dataset, as `read_table`: a column has one type in all CSVs."""
    tables = [_read(path) for path in paths]
    are_text = [path.suffix.lower() == ".csv" for path in paths]
    texts = [table for table, is_text in zip(tables, are_text, strict=True) if is_text]
    if not texts:
        return tables
    typed = pa.concat_tables(texts, promote_options="default")
    typed = pa.table({name: _as_values(typed[name]) for name in typed.column_names}).combine_chunks()
    ends = itertools.accumulate(map(len, texts))
    # Each with the columns that it has itself.
    values = iter(
        typed.slice(end - len(text), len(text)).select(text.column_names) for text, end in zip(texts, ends, strict=True)
    )
    return [next(values) if is_text else table for table, is_text in zip(tables, are_text, strict=True)]


def require_column(table: pa.Table, column: str, path: Path) -> None:
    """Raise a HfGarError where a table has no such column of paths, or it holds something else."""
    if column not in table.column_names:
        raise HfGarError(
            f"{path} has no column {column!r} with the paths of the recordings, only "
            f"{', '.join(map(repr, table.column_names))}. Name the right one (`path_column`)."
        )
    kind = table.schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise HfGarError(
            f"{path}: the column {column!r} holds {kind}, but the paths of the recordings are text. Name the column "
            "with the paths (`path_column`)."
        )


def refuse_duplicates(table: pa.Table, name: str) -> None:
    """A folder's recordings, and those of a list, are known by their names; a table may name one in several rows."""
    counts = pc.value_counts(table[FILE_NAME].drop_null())
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        raise HfGarError(f"{name} names {len(twice)} recordings twice, such as {twice[0]}. Remove the second.")


def with_audio_column(table: pa.Table, path_column: str, folder: Path) -> datasets.Dataset:
    """The table as a dataset whose column "audio" holds the paths, those in `path_column` seen from `folder`."""
    paths = table[path_column].cast(pa.string())
    starts = range(0, len(paths), ROWS_JOINED)
    joined = [_join(folder, paths[start : start + ROWS_JOINED].combine_chunks()) for start in starts]
    audio = pa.chunked_array(joined, pa.string())
    if path_column == AUDIO:
        names = [FILE_NAME if name == AUDIO else name for name in table.column_names]
        table = table.drop_columns(AUDIO) if FILE_NAME in table.column_names else table.rename_columns(names)
    elif AUDIO in table.column_names:
        raise HfGarError(
            f"The table has a column {AUDIO!r} beside {path_column!r}. Rename it, or choose another `path_column`."
        )
    return datasets.Dataset(datasets.table.InMemoryTable(table.append_column(AUDIO, audio)))


def _join(folder: Path, paths: pa.Array) -> pa.Array:
    """Paths seen from a folder, as pathlib joins and simplifies them; null for an empty one."""
    if os.sep != "/" or pc.any(pc.match_substring_regex(paths, NOT_SIMPLE)).as_py():
        return pa.array([str(folder / path) if path else None for path in paths.to_pylist()], pa.string())
    return pc.binary_join_element_wise(str(folder / "x")[:-1], paths, "")


def _read(path: Path) -> pa.Table:
    try:
        return READERS[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        with path.open("rb") as file:
            line = next(number for number, line in enumerate(file, start=1) if not _is_utf8(line))
        raise HfGarError(
            f"{path} is not UTF-8: its line {line} cannot be read. Save it as UTF-8 (in Excel, as CSV UTF-8), or "
            "convert it, such as from Latin-1 with `iconv -f LATIN1 -t UTF-8`."
        ) from error
    except (ValueError, OSError, OverflowError) as error:
        raise HfGarError(f"{path} cannot be read as a table: {error}") from error


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_csv(path: Path) -> pa.Table:
    """All columns as text, null where a cell is empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
        separator = next((separator for separator in SEPARATORS if separator in first), ",")
        file.seek(0)
        lines = _csv_lines(file, separator)
        header = next(lines, None)
        if header is None:
            raise ValueError("it is empty.")
        names = [name or f"Unnamed: {index}" for index, name in enumerate(header)]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"it has several columns {repeated!r}. Rename one.")
        columns: list[list[pa.Array]] = [[] for _ in names]
        while rows := list(itertools.islice(lines, ROWS_READ)):
            for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
                text = pa.array(cells, pa.string())
                column.append(pc.if_else(pc.equal(text, ""), None, text))
    arrays = [pa.chunked_array(column, pa.string()) for column in columns]
    return pa.table(arrays, names=names)


def _csv_lines(file: Iterable[str], separator: str) -> Iterator[list[str]]:
    """The cells of each line that is not empty; a ValueError names the first that does not fit the header."""
    reader = csv.reader(file, delimiter=separator, strict=True)
    fields = None
    try:
        for cells in reader:
            if not cells:
                continue
            fields = fields or len(cells)
            if len(cells) != fields:
                raise ValueError(
                    f"line {reader.line_num} does not have as many fields as the header: {len(cells)}, not {fields}. "
                    f'Put text that has the separator {separator!r} in it into double quotes ("...").'
                )
            yield cells
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}. Is a double quote missing?") from error


def _read_json_lines(path: Path) -> pa.Table:
    tables = []
    with path.open(encoding="utf-8-sig") as file:
        rows = _json_rows(file)
        while some := list(itertools.islice(rows, ROWS_READ)):
            names = dict.fromkeys(name for row in some for name in row)
            tables.append(pa.table({name: [row.get(name) for row in some] for name in names}))
    if not tables:
        raise ValueError("it is empty.")
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()


def _json_rows(file: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f'line {number} is not a JSON object, such as {{"file_name": "a.wav"}}.')
        yield row


def _read_parquet(path: Path) -> pa.Table:
    table = pq.read_table(path)
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(index, field.name, table[index].cast(field.type.value_type))
    return table


READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
}


def _as_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text as numbers or truth values, if one way of writing those gives back every text of it.

    So 7 becomes a number, and 007 stays text, as does 7 in a column where another row has 007: two texts that differ
    never become equal.
    """
    first = next(_texts(column), None)
    if first is None:
        return column
    decimals = max(1, len(first.partition(".")[2]))
    ways: list[tuple[pa.DataType, Callable[[str], Any], Callable[[Any], str]]] = [
        (pa.int64(), int, str),
        (pa.float64(), _finite, repr),
        (pa.float64(), _finite, lambda value: repr(value).removesuffix(".0")),
        (pa.float64(), _finite, lambda value: f"{value:.{decimals}f}"),
        *((pa.bool_(), words.index, words.__getitem__) for words in TRUTH_VALUES),
    ]
    for kind, read, write in ways:
        try:
            if all(write(read(text)) == text for text in _texts(column)):
                return column.cast(kind)
        except ValueError:  # another way, or text
            continue
    return column


TRUTH_VALUES = (("False", "True"), ("false", "true"), ("FALSE", "TRUE"))


def _texts(column: pa.ChunkedArray) -> Iterator[str]:
    return (text for chunk in column.chunks for text in chunk.to_pylist() if text is not None)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # "nan" and "inf" may be words
        raise ValueError(text)
    return value
