"""Folders of recordings."""

import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from hf_gar.embedding.sources.file_names import AUDIO_SUFFIXES, escape, is_recording_name
from hf_gar.embedding.sources.tables import (
    FILE_NAME,
    METADATA_FILES,
    read_table,
    read_tables,
    refuse_duplicates,
    require_column,
    with_audio_column,
)
from hf_gar.errors import HfGarError


def open_folder(folder: Path) -> datasets.Dataset:
    """Every recording below a folder, with the columns of its metadata file, in the order of that file.

    Raises:
        HfGarError: It holds no recordings, a folder in it cannot be read, or its metadata file cannot be used.
    """
    table = pa.table({FILE_NAME: pa.array(_list_recordings(folder), pa.string())})
    metadata = next((folder / name for name in METADATA_FILES if (folder / name).exists()), None)
    if metadata is not None:
        listed = read_table(metadata)
        require_column(listed, FILE_NAME, metadata)
        refuse_duplicates(listed, str(metadata))
        names = listed[FILE_NAME].cast(pa.string())
        others = table.filter(pc.invert(pc.is_in(table[FILE_NAME], value_set=names)))
        table = pa.concat_tables([listed, others], promote_options="permissive")
    if not len(table):
        raise HfGarError(f"{folder} holds no audio files ({', '.join(sorted(AUDIO_SUFFIXES))}). Check the path.")
    return with_audio_column(table, FILE_NAME, Path(escape(str(folder))))


def open_audiofolder(folder: Path, split: str | None) -> datasets.Dataset:
    """<split>/<label>/<recording>, <label>/<recording> or <split>/metadata.csv, as a dataset with those columns.

    It is read here, since `datasets` decodes and encodes every recording of such a folder, which takes torchcodec.

    Raises:
        HfGarError: As in `open_folder`, or it has no such split.
    """
    if not folder.is_dir():
        raise HfGarError(f"{folder} is not a folder, which `audiofolder` is for. Check the path.")
    tables = [table for name in METADATA_FILES for table in sorted(folder.glob(f"*/{name}"))]
    dataset = _open_split_tables(folder, tables) if tables else _open_labelled(folder)
    if split is None:
        return dataset
    there = dataset.unique("split") if "split" in dataset.column_names else []
    if split not in there:
        raise HfGarError(f"{folder} has no split {split!r}, only {', '.join(there) or 'none'}. Check `split`.")
    return dataset.select([row for row, name in enumerate(dataset["split"]) if name == split])


def _open_split_tables(folder: Path, paths: list[Path]) -> datasets.Dataset:
    tables = []
    for path, table in zip(paths, read_tables(paths), strict=True):
        require_column(table, FILE_NAME, path)
        split = escape(path.parent.name)
        # One recording may be in several splits.
        names = [f"{split}/{name}" if name else None for name in table[FILE_NAME].to_pylist()]
        named = table.set_column(table.column_names.index(FILE_NAME), FILE_NAME, pa.array(names, pa.string()))
        tables.append(named.append_column("split", pa.array([split] * len(table), pa.string())))
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowInvalid as error:
        raise HfGarError(f"{', '.join(map(str, paths))} have columns of different types: {error}") from error
    return with_audio_column(table, FILE_NAME, Path(escape(str(folder))))


def _open_labelled(folder: Path) -> datasets.Dataset:
    dataset = open_folder(folder)
    ways = [Path(name).parts for name in dataset[FILE_NAME]]
    if all(len(way) >= 2 for way in ways):
        dataset = dataset.add_column("label", [way[-2] for way in ways])
    if all(len(way) >= 3 for way in ways):
        dataset = dataset.add_column("split", [way[0] for way in ways])
    return dataset


def _list_recordings(folder: Path) -> list[str]:
    """Whatever is named like a recording below a folder, hidden folders left out, seen from there and escaped, sorted.

    Links to nothing, folders and pipes of such names are listed too: that they cannot be read is for the job to tell.
    """
    found: list[str] = []
    for root, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(root).relative_to(folder)
        found += [escape((below / name).as_posix()) for name in [*folders, *files] if is_recording_name(name)]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise HfGarError(
        f"The folder {error.filename} cannot be read: {error.strerror}. Check its permissions, or give files instead."
    ) from error
