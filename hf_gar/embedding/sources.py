"""What can be embedded: folders, lists of files, tables with a path column, tar files, and datasets."""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

from hf_gar.embedding.dataset import ADDED_COLUMNS, TEXT, find_audio_column, undecoded
from hf_gar.errors import HfGarError
from hf_gar.hub_errors import TRANSPORT_ERROR, hub_errors

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".m4a", ".aac", ".mp4", ".m4b", ".mka", ".mkv", ".webm", ".wma", ".amr", ".3gp", ".ac3", ".mp2",
})
# fmt: on
TABLE_READERS: dict[str, Callable[..., Any]] = {
    ".csv": partial(pd.read_csv, keep_default_na=False, na_values=[""]),  # "None" may be a class
    ".parquet": pd.read_parquet,
    ".jsonl": partial(pd.read_json, lines=True),
}
TAR_SUFFIX = ".tar"
TAR_END = bytes(1024)  # two empty blocks
METADATA_FILES = ("metadata.csv", "metadata.parquet", "metadata.jsonl")
SAVED_DATASET_FILES = ("dataset_info.json", "dataset_dict.json")
PATH_COLUMNS = ("file_name", "path", "file", "filename", "audio")
AUDIO = "audio"
# Rows of a source that are read at a time, where they are not embedded.
ROWS_READ = 10_000


@dataclass(frozen=True)
class Source:
    """What is to be embedded.

    Args:
        dataset: Its rows; a streamed one is an `IterableDataset`.
        audio_column: The column with the recordings. Those that are files are named by the column "file_name".
        names: What it was opened by: paths, or the name of a dataset; None where it was a dataset already.
        options: How it was opened.
    """

    dataset: datasets.Dataset | datasets.IterableDataset
    audio_column: str
    names: tuple[str, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def num_rows(self) -> int | None:
        """How many recordings there are; None where it is streamed."""
        return len(self.dataset) if isinstance(self.dataset, datasets.Dataset) else None

    def describe(self) -> dict[str, Any]:
        """What tells this source from another, or from itself after it has changed."""
        return {
            "source": self.names
            and [str(Path(name).resolve()) if Path(name).exists() else name for name in self.names],
            **self.options,
            "recordings": self.num_rows,
            "recording_names_sha256": self._names_digest(),
        }

    def _names_digest(self) -> str | None:
        """The digest of the recordings' names, where they have names and the source is not streamed."""
        column = "file_name" if "file_name" in self.dataset.column_names else self.audio_column
        if not isinstance(self.dataset, datasets.Dataset) or self.dataset.features[column] not in TEXT:
            return None
        digest = hashlib.sha256()
        for table in self.dataset.select_columns(column).with_format("arrow").iter(batch_size=ROWS_READ):
            digest.update(json.dumps(table[column].to_pylist()).encode())
        return digest.hexdigest()


def open_source(
    source: Sequence[str | Path] | datasets.Dataset | datasets.IterableDataset,
    *,
    revision: str | None = None,
    config_name: str | None = None,
    split: str | None = None,
    path_column: str | None = None,
    streaming: bool = False,
    audiofolder: bool = False,
) -> Source:
    """Open what is to be embedded.

    Args:
        source: One folder of recordings (with a `metadata.csv` or not), one CSV, Parquet or JSON Lines table, any
            number of audio files, any number of WebDataset tar files, one dataset (a folder of `save_to_disk`, or a
            name on the Hub), or a dataset that is open already.
        revision: A branch, tag or commit of a dataset on the Hub.
        config_name: The configuration of a dataset on the Hub that has several.
        split: The split of a dataset that has several.
        path_column: The column of a table or dataset that holds the recordings or their paths; by default one of the
            usual names.
        streaming: Keep nothing of a dataset on the Hub on disk. Tar files are streamed in any case.
        audiofolder: The folder is laid out as the builder `audiofolder` of `datasets` has it,
            <split>/<label>/<recording> or <split>/metadata.csv: add the columns "label" and "split".

    Raises:
        HfGarError: There is no such source, it has no recordings, or it lacks the column or split.
    """
    if isinstance(source, (datasets.Dataset, datasets.IterableDataset)):
        opened = Source(source, _require_audio_column(source, "The dataset", path_column))
    else:
        names = tuple(map(str, source))
        is_on_hub = len(names) == 1 and not Path(names[0]).exists()
        if revision is not None and not is_on_hub:
            raise HfGarError(f"{names[0]} is not on the Hub: it has no revision {revision!r}. Leave it out.")
        if is_on_hub:
            revision = _find_commit(names[0], revision)
        dataset, column = _open(names, config_name, split, path_column, streaming, audiofolder, revision)
        options = {
            "dataset_revision": revision,
            "config_name": config_name,
            "split": split,
            "path_column": path_column,
            "audiofolder": audiofolder,
        }
        opened = Source(dataset, column, names, options)
    if opened.num_rows == 0:
        raise HfGarError(f"{', '.join(opened.names or ['The dataset'])} has no rows.")
    added = ADDED_COLUMNS & set(opened.dataset.column_names)
    if added:
        raise HfGarError(f"The source already has a column {', '.join(sorted(added))}. Rename or remove it first.")
    return replace(opened, dataset=undecoded(opened.dataset, opened.audio_column))


def _open(
    names: tuple[str, ...],
    config_name: str | None,
    split: str | None,
    path_column: str | None,
    streaming: bool,
    audiofolder: bool,
    revision: str | None,
) -> tuple[datasets.Dataset | datasets.IterableDataset, str]:
    paths = [Path(name) for name in names]
    path, name = paths[0], names[0]
    is_local = len(paths) > 1 or path.exists()
    is_saved = is_local and any((path / file).exists() for file in SAVED_DATASET_FILES)
    is_tar = all(item.suffix.lower() == TAR_SUFFIX for item in paths)
    is_plain = is_local and not is_saved and not is_tar and not audiofolder
    _refuse_options_that_do_not_apply(
        name,
        {
            "--split": split is not None and is_plain,
            "--config": config_name is not None and is_local,
            "--streaming": streaming and is_local and not is_tar,
            "--path-column": path_column is not None and is_plain and (len(paths) > 1 or not path.is_file()),
        },
    )
    if is_tar:
        return _open_tars(paths, path_column)
    if audiofolder:
        return _open_audiofolder(path, split), AUDIO
    if not is_local:
        return _one_split(_load_from_hub(name, config_name, split, streaming, revision), name, split, path_column)
    if is_saved:
        return _one_split(_read(path, datasets.load_from_disk), name, split, path_column)
    if len(paths) == 1 and path.is_file() and path.suffix.lower() not in AUDIO_SUFFIXES:
        return _open_table(path, path_column)
    return _open_folder(path) if path.is_dir() and len(paths) == 1 else _open_files(names), AUDIO


def _refuse_options_that_do_not_apply(name: str, refused: dict[str, bool]) -> None:
    for option, is_refused in refused.items():
        if is_refused:
            raise HfGarError(f"{name} is not a source that {option} applies to. Leave {option} out.")


def _open_tars(paths: Sequence[Path], path_column: str | None) -> tuple[datasets.IterableDataset, str]:
    """WebDataset tar files, each a shard, streamed: nothing of them is unpacked onto the disk."""
    for path in paths:
        if not path.is_file():
            raise HfGarError(f"{path}: there is no such file. Check the path.")
        with path.open("rb") as file:  # a tar that is cut between two files would be read without an error
            file.seek(-min(len(TAR_END), path.stat().st_size), os.SEEK_END)
            if file.read() != TAR_END:
                raise HfGarError(f"{path} is cut short: it lacks a tar file's end. Fetch or write it again.")
    options = {"data_files": sorted(map(str, paths)), "split": "train", "streaming": True}
    try:
        inferred = datasets.load_dataset("webdataset", **options).features
        # As bytes: a column of the type Audio would be encoded row by row, which takes torchcodec.
        features = {
            name: datasets.Value("binary") if isinstance(feature, datasets.Audio) else feature
            for name, feature in inferred.items()
        }
        tars = datasets.load_dataset("webdataset", features=datasets.Features(features), **options)
    except (ValueError, OSError, tarfile.TarError) as error:
        raise HfGarError(f"{paths[0]} cannot be read as WebDataset tar files: {error}") from error
    audio = [name for name, feature in inferred.items() if isinstance(feature, datasets.Audio)]
    if path_column is None and len(audio) != 1:
        raise HfGarError(f"{paths[0]} has {len(audio)} columns with recordings. Name one (--path-column).")
    return tars, path_column or audio[0]


def _open_files(names: Sequence[str]) -> datasets.Dataset:
    table = pd.DataFrame({"file_name": names})
    _refuse_duplicates(table, "The list of files")
    return _with_audio_column(table, "file_name", Path())


def _refuse_duplicates(table: pd.DataFrame, name: str) -> None:
    """A folder's recordings, and those of a list, are known by their names; a table may name one in several rows."""
    twice = table["file_name"][table["file_name"].duplicated()].unique()
    if len(twice):
        raise HfGarError(f"{name} names {len(twice)} recordings twice, as {twice[0]}. Remove the second.")


def _open_folder(folder: Path) -> datasets.Dataset:
    """Every audio file below a folder, with the columns of its metadata file, in the order of that file."""
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    table = pd.DataFrame({"file_name": files}, dtype="string[pyarrow]")
    for metadata in (folder / name for name in METADATA_FILES):
        if metadata.exists():
            listed = _read_table(metadata)
            _require_column(listed, "file_name", metadata)
            _refuse_duplicates(listed, str(metadata))
            table = pd.concat([listed, table[~table["file_name"].isin(listed["file_name"])]], ignore_index=True)
            break
    if table.empty:
        raise HfGarError(f"{folder} holds no audio files ({', '.join(sorted(AUDIO_SUFFIXES))}). Check the path.")
    return _with_audio_column(table, "file_name", folder)


def _open_audiofolder(folder: Path, split: str | None) -> datasets.Dataset:
    """<split>/<label>/<recording>, <label>/<recording> or <split>/metadata.csv, as a dataset with those columns.

    It is read here, since `datasets` decodes and encodes every recording of such a folder, which takes torchcodec.
    """
    if not folder.is_dir():
        raise HfGarError(f"{folder} is no folder, which --audiofolder is for. Check the path.")
    tables = [table for name in METADATA_FILES for table in sorted(folder.glob(f"*/{name}"))]
    if tables:
        parts = []
        for table in tables:
            part, _ = _open_table(table, None)
            names = [f"{table.parent.name}/{name}" for name in part["file_name"]]  # one may be in several splits
            part = part.remove_columns("file_name").add_column("file_name", names)
            parts.append(part.add_column("split", [table.parent.name] * len(part)))
        dataset = datasets.concatenate_datasets(parts)
    else:
        dataset = _open_folder(folder)
        ways = [Path(name).parts for name in dataset["file_name"]]
        if all(len(way) >= 2 for way in ways):
            dataset = dataset.add_column("label", [way[-2] for way in ways])
        if all(len(way) >= 3 for way in ways):
            dataset = dataset.add_column("split", [way[0] for way in ways])
    if split is None:
        return dataset
    there = dataset.unique("split") if "split" in dataset.column_names else []
    if split not in there:
        raise HfGarError(f"{folder} has no split {split!r}, only {', '.join(there) or 'none'}. Mend --split.")
    return dataset.select([row for row, name in enumerate(dataset["split"]) if name == split])


def _open_table(path: Path, path_column: str | None) -> tuple[datasets.Dataset, str]:
    if path.suffix.lower() not in TABLE_READERS:
        raise HfGarError(
            f"{path} is neither an audio file nor a table ({', '.join(TABLE_READERS)}). A list of files is given as "
            "arguments, or as a CSV with a path column."
        )
    if path.suffix.lower() == ".parquet":
        features = datasets.Features.from_arrow_schema(_read(path, pq.read_schema))
        column = path_column or find_audio_column(features)
        if column in features and features[column] not in TEXT:
            return datasets.Dataset.from_parquet(str(path)), column  # the recordings are in the table
    table = _read_table(path)
    if path_column is None:
        path_column = next((column for column in PATH_COLUMNS if column in table.columns), PATH_COLUMNS[0])
    _require_column(table, path_column, path)
    return _with_audio_column(table, path_column, path.parent), AUDIO


def _read_table(path: Path) -> pd.DataFrame:
    # Arrow's types: integers stay integers where a value is missing, and text takes little memory.
    return _read(path, partial(TABLE_READERS[path.suffix.lower()], dtype_backend="pyarrow"))


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except (ValueError, OSError, IndexError) as error:  # IndexError: a saved dataset without rows
        raise HfGarError(f"{path} cannot be read as a table or dataset, or is empty: {error}") from error


def _require_column(table: pd.DataFrame, column: str, path: Path) -> None:
    if column not in table.columns:
        raise HfGarError(
            f"{path} has no column {column!r} with the paths of the recordings, only "
            f"{', '.join(map(repr, table.columns))}. Name the right one (--path-column)."
        )


def _with_audio_column(table: pd.DataFrame, path_column: str, folder: Path) -> datasets.Dataset:
    """The table as a dataset whose column "audio" holds the paths, those in `path_column` seen from `folder`."""
    paths = table[path_column]
    # There may be millions: the most of them are Arrow's, not Python's.
    audio = pa.chunked_array(
        [
            [None if pd.isna(path) else str(folder / str(path)) for path in paths[start : start + ROWS_READ]]
            for start in range(0, len(paths), ROWS_READ)
        ],
        pa.string(),
    )
    if path_column == AUDIO:
        table = (
            table.drop(columns=AUDIO) if "file_name" in table.columns else table.rename(columns={AUDIO: "file_name"})
        )
    elif AUDIO in table.columns:
        raise HfGarError(f"The table has a column {AUDIO!r} beside {path_column!r}. Rename it, or use --path-column.")
    return datasets.Dataset.from_pandas(table, preserve_index=False).add_column(AUDIO, audio)


def _find_commit(name: str, revision: str | None) -> str | None:
    """The commit of a dataset on the Hub; `revision` as it is where the Hub cannot be asked and the cache has to do."""
    try:
        return HfApi().dataset_info(name, revision=revision).sha
    except (TRANSPORT_ERROR, OSError, HFValidationError):
        return revision


def _load_from_hub(name: str, config_name: str | None, split: str | None, streaming: bool, revision: str | None) -> Any:
    """A dataset on the Hub; `datasets` runs no code of it."""
    if "/" not in name or name.startswith((".", "/")):
        raise HfGarError(f"{name}: there is no such file or folder. Check the path.")
    try:
        with hub_errors(name):
            return datasets.load_dataset(name, config_name, split=split, streaming=streaming, revision=revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise HfGarError(f"{name} is neither a file or folder here nor a dataset on the Hub: {error}") from error
    except (ValueError, OSError, RuntimeError, datasets.exceptions.DatasetGenerationError) as error:
        raise HfGarError(f"{name} cannot be read as a dataset: {error.__cause__ or error}") from error


def _one_split(
    dataset: Any, name: str, split: str | None, path_column: str | None
) -> tuple[datasets.Dataset | datasets.IterableDataset, str]:
    if isinstance(dataset, dict):
        if split is None and len(dataset) == 1:
            split = next(iter(dataset))
        if split not in dataset:
            raise HfGarError(f"{name} has the splits {', '.join(dataset)}. Name one of them (--split).")
        dataset = dataset[split]
    return _with_column(dataset, name, path_column)


def _with_column(
    dataset: datasets.Dataset | datasets.IterableDataset, name: str, path_column: str | None
) -> tuple[datasets.Dataset | datasets.IterableDataset, str]:
    if dataset.features is None:  # some formats, streamed, tell their columns only by their first rows
        dataset = dataset._resolve_features()
    return dataset, _require_audio_column(dataset, name, path_column)


def _require_audio_column(
    dataset: datasets.Dataset | datasets.IterableDataset, name: str, path_column: str | None
) -> str:
    column = path_column or find_audio_column(dataset.features)
    if column not in dataset.features:
        raise HfGarError(
            f"{name} has no column {column!r} with recordings, only {', '.join(map(repr, dataset.features))}. "
            "Name the right one (--path-column)."
        )
    return column
