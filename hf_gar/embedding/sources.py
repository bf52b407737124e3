"""What can be embedded: folders, lists of files, tables with a path column, and datasets."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow.parquet as pq
from huggingface_hub.errors import HFValidationError

from hf_gar.embedding.dataset import find_audio_column
from hf_gar.errors import HfGarError

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".m4a", ".aac", ".mp4", ".m4b", ".mka", ".mkv", ".webm", ".wma", ".amr", ".3gp", ".ac3", ".mp2",
})
# fmt: on
TABLE_READERS: dict[str, Callable[..., pd.DataFrame]] = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
METADATA_FILES = ("metadata.csv", "metadata.parquet")
SAVED_DATASET_FILES = ("dataset_info.json", "dataset_dict.json")
PATH_COLUMNS = ("file_name", "path", "file", "filename", "audio")
AUDIO = "audio"


def open_source(
    source: Sequence[str | Path], split: str | None = None, path_column: str | None = None
) -> tuple[datasets.Dataset, str]:
    """Open what is to be embedded.

    Args:
        source: One folder of recordings (with a `metadata.csv` or not), one CSV or Parquet table, one dataset (a folder
            of `save_to_disk`, or a name on the Hub), or any number of audio files.
        split: The split of a dataset that has several.
        path_column: The column of a table or dataset that holds the recordings or their paths; by default one of the
            usual names.

    Returns:
        The dataset, and the name of its column with the recordings. Recordings that are files are named by the column
        "file_name".

    Raises:
        HfGarError: There is no such source, it has no recordings, or it lacks the column or split.
    """
    paths = [Path(item) for item in source]
    dataset, audio_column = _open(paths, str(source[0]), split, path_column)
    if not len(dataset):
        raise HfGarError(f"{source[0]} has no rows.")
    return dataset, audio_column


def _open(paths: list[Path], name: str, split: str | None, path_column: str | None) -> tuple[datasets.Dataset, str]:
    is_local = len(paths) > 1 or paths[0].exists()
    is_saved = is_local and any((paths[0] / file).exists() for file in SAVED_DATASET_FILES)
    if is_local and not is_saved and split is not None:
        raise HfGarError(f"{name} is no dataset with splits. Leave --split out.")
    if (len(paths) > 1 or (paths[0].is_dir() and not is_saved)) and path_column is not None:
        raise HfGarError("--path-column is for tables and datasets. Leave it out for folders and lists of files.")
    if len(paths) > 1 or (paths[0].is_file() and paths[0].suffix.lower() in AUDIO_SUFFIXES):
        table = pd.DataFrame({"file_name": [str(path) for path in paths]})
        return _with_audio_column(table, "file_name", Path()), AUDIO
    path = paths[0]
    if path.is_file():
        return _open_table(path, path_column)
    if is_saved:
        return _one_split(_read(path, datasets.load_from_disk), name, split, path_column)
    if path.is_dir():
        return _open_folder(path), AUDIO
    return _open_hub_dataset(name, split, path_column)


def _open_folder(folder: Path) -> datasets.Dataset:
    """Every audio file below a folder, with the columns of its metadata file, in the order of that file."""
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    table = pd.DataFrame({"file_name": files}, dtype="string")
    for metadata in (folder / name for name in METADATA_FILES):
        if metadata.exists():
            listed = _read_table(metadata)
            _require_column(listed, "file_name", metadata)
            table = pd.concat([listed, table[~table["file_name"].isin(listed["file_name"])]], ignore_index=True)
            break
    if table.empty:
        raise HfGarError(f"{folder} holds no audio files ({', '.join(sorted(AUDIO_SUFFIXES))}). Check the path.")
    return _with_audio_column(table, "file_name", folder)


def _open_table(path: Path, path_column: str | None) -> tuple[datasets.Dataset, str]:
    if path.suffix.lower() not in TABLE_READERS:
        raise HfGarError(
            f"{path} is neither an audio file nor a table ({', '.join(TABLE_READERS)}). A list of files is given as "
            "arguments, or as a CSV with a path column."
        )
    if path.suffix.lower() == ".parquet":
        features = datasets.Features.from_arrow_schema(_read(path, pq.read_schema))
        column = path_column or find_audio_column(features)
        if column in features and features[column] not in (datasets.Value("string"), datasets.Value("large_string")):
            return datasets.Dataset.from_parquet(str(path)), column  # the recordings are in the table
    table = _read_table(path)
    if path_column is None:
        path_column = next((column for column in PATH_COLUMNS if column in table.columns), PATH_COLUMNS[0])
    _require_column(table, path_column, path)
    return _with_audio_column(table, path_column, path.parent), AUDIO


def _read_table(path: Path) -> pd.DataFrame:
    # Nullable types: integers stay integers where a value is missing.
    return _read(path, partial(TABLE_READERS[path.suffix.lower()], dtype_backend="numpy_nullable"))


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
    audio = [None if pd.isna(path) else str(folder / str(path)) for path in table[path_column]]
    if path_column == AUDIO:
        table = (
            table.drop(columns=AUDIO) if "file_name" in table.columns else table.rename(columns={AUDIO: "file_name"})
        )
    elif AUDIO in table.columns:
        raise HfGarError(f"The table has a column {AUDIO!r} beside {path_column!r}. Rename it, or use --path-column.")
    return datasets.Dataset.from_pandas(table.assign(audio=pd.array(audio, dtype="string")), preserve_index=False)


def _open_hub_dataset(name: str, split: str | None, path_column: str | None) -> tuple[datasets.Dataset, str]:
    if "/" not in name or name.startswith((".", "/")):
        raise HfGarError(f"{name}: there is no such file or folder. Check the path.")
    try:
        dataset = datasets.load_dataset(name, split=split)
    except (datasets.exceptions.DatasetNotFoundError, HFValidationError, ConnectionError) as error:
        raise HfGarError(
            f"{name} is neither a file or folder here nor a dataset on the Hub that could be fetched: {error}"
        ) from error
    return _one_split(dataset, name, split, path_column)


def _one_split(
    dataset: datasets.Dataset | datasets.DatasetDict, name: str, split: str | None, path_column: str | None
) -> tuple[datasets.Dataset, str]:
    if isinstance(dataset, datasets.DatasetDict):
        if split is None and len(dataset) == 1:
            split = next(iter(dataset))
        if split not in dataset:
            raise HfGarError(f"{name} has the splits {', '.join(dataset)}. Name one of them (--split).")
        dataset = dataset[split]
    column = path_column or find_audio_column(dataset.features)
    if column not in dataset.column_names:
        raise HfGarError(
            f"{name} has no column {column!r} with recordings, only {', '.join(map(repr, dataset.column_names))}. "
            "Name the right one (--path-column)."
        )
    return dataset, column
