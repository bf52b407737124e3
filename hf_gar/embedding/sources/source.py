"""What jobs take: folders, lists of files, tables with a path column, tar files, and datasets."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

from hf_gar.embedding.dataset import TEXT, find_audio_column, undecoded
from hf_gar.embedding.sources.file_names import AUDIO_SUFFIXES, escape
from hf_gar.embedding.sources.folders import open_audiofolder, open_folder
from hf_gar.embedding.sources.tables import (
    AUDIO,
    FILE_NAME,
    PATH_COLUMNS,
    READERS,
    read_table,
    refuse_duplicates,
    require_column,
    with_audio_column,
)
from hf_gar.embedding.sources.tars import TAR_SUFFIX, open_tars
from hf_gar.errors import HfGarError
from hf_gar.hub_errors import TRANSPORT_ERROR, hub_errors
from hf_gar.quiet import quiet_datasets

SAVED_DATASET_FILES = ("dataset_info.json", "dataset_dict.json")
# Rows whose names are read at a time: their digest depends on it.
ROWS_READ = 10_000


@dataclass(frozen=True)
class Source:
    """Recordings for a job.

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
            and [escape(str(Path(name).resolve()) if Path(name).exists() else name) for name in self.names],
            **self.options,
            "recordings": self.num_rows,
            "recording_names_sha256": self._names_digest(),
        }

    def _names_digest(self) -> str | None:
        """The digest of the recordings' names, where they have names and the source is not streamed."""
        column = FILE_NAME if FILE_NAME in self.dataset.column_names else self.audio_column
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
    limit: int | None = None,
) -> Source:
    """Open the recordings of a job.

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
        limit: Take only so many recordings from the beginning.

    Names of files that are not UTF-8 are escaped in the dataset's columns: see `hf_gar.embedding.sources.file_names`.

    Raises:
        HfGarError: There is no such source, it has no recordings, or it lacks the column or split.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit has to be 1 or more, not {limit}.")
    if isinstance(source, (datasets.Dataset, datasets.IterableDataset)):
        opened = Source(source, _require_audio_column(source, "The dataset", path_column))
    else:
        names = tuple(map(str, source))
        if not names:
            raise HfGarError("No recordings are named. Name a folder, files, a table, tars or a dataset.")
        is_on_hub = len(names) == 1 and not _is_local(names[0])
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
    name = ", ".join(opened.names or ["The dataset"])
    if opened.num_rows == 0:
        raise HfGarError(f"{name} has no rows.")
    _require_recordings(opened.dataset.features[opened.audio_column], opened.audio_column, name)
    dataset = undecoded(opened.dataset, opened.audio_column)
    dataset = dataset if limit is None else _first(dataset, limit)
    return replace(opened, dataset=dataset, options={**opened.options, "limit": limit})


# What stands for a source where it need not be open: the path of one, several, or a dataset.
AnySource: TypeAlias = str | Path | Sequence[str | Path] | datasets.Dataset | datasets.IterableDataset | Source


def as_source(source: AnySource) -> Source:
    """A source that is open already, or what `open_source` makes of it."""
    if isinstance(source, Source):
        return source
    return open_source([source] if isinstance(source, str | Path) else source)


def read_file_list(stream: BinaryIO) -> list[str]:
    """The names of files that a stream lists, one a line, or each ended by a NUL, as `find -print0` writes them.

    Names that are not UTF-8 are as Python's functions for files give and take them.
    """
    content = stream.read()
    if b"\0" in content:
        names = content.split(b"\0")
    else:
        names = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    return [os.fsdecode(name) for name in names if name]


def _first(
    dataset: datasets.Dataset | datasets.IterableDataset, limit: int
) -> datasets.Dataset | datasets.IterableDataset:
    if isinstance(dataset, datasets.Dataset):
        return dataset.select(range(min(limit, len(dataset))))
    # Not `take` alone: its shards would share the number among them, whatever they hold.
    stored = datasets.Features.from_arrow_schema(pa.schema(list(dataset.features.arrow_schema)))
    features = {
        name: stored[name] if hasattr(feature, "decode") else feature for name, feature in dataset.features.items()
    }
    return datasets.IterableDataset.from_generator(
        _take,
        features=datasets.Features(features),
        gen_kwargs={"dataset": dataset.decode(False), "limit": limit},
    )


def _take(dataset: datasets.IterableDataset, limit: int) -> Iterator[dict[str, Any]]:
    yield from dataset.take(limit)


def _is_local(name: str) -> bool:
    """Whether it is a path here, and not a dataset on the Hub.

    Raises:
        HfGarError: It can be neither.
    """
    try:
        os.stat(name)  # noqa: PTH116 - unlike Path.exists, says why not
    except (OSError, ValueError) as error:
        link = next((path for path in (Path(name), *Path(name).parents) if os.path.islink(path)), None)  # noqa: PTH114
        if link is not None:
            raise HfGarError(
                f"{name}: the link {link} to {os.readlink(link)} leads nowhere. Fetch what it links to, or correct it."  # noqa: PTH115
            ) from error
        if getattr(error, "errno", None) not in (errno.ENOENT, errno.ENOTDIR):
            raise HfGarError(f"{name} cannot be opened: {error}. Check the path.") from error
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
            raise HfGarError(f"{name}: there is no such file or folder. Check the path.") from error
        return False
    return True


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
            "`split`": split is not None and is_plain,
            "`config_name`": config_name is not None and is_local,
            "`streaming`": streaming and is_local and not is_tar,
            "`path_column`": path_column is not None and is_plain and (len(paths) > 1 or not path.is_file()),
        },
    )
    if is_tar:
        return open_tars(paths, path_column)
    if audiofolder:
        return open_audiofolder(path, split), AUDIO
    if not is_local:
        return _one_split(_load_from_hub(name, config_name, split, streaming, revision), name, split, path_column)
    if is_saved:
        return _one_split(_read(path, datasets.load_from_disk), name, split, path_column)
    if len(paths) == 1 and path.is_file() and path.suffix.lower() not in AUDIO_SUFFIXES:
        return _open_table(path, path_column)
    return open_folder(path) if path.is_dir() and len(paths) == 1 else _open_files(names), AUDIO


def _refuse_options_that_do_not_apply(name: str, refused: dict[str, bool]) -> None:
    for option, is_refused in refused.items():
        if is_refused:
            raise HfGarError(f"{name} is not a source that {option} applies to. Leave {option} out.")


def _open_files(names: Sequence[str]) -> datasets.Dataset:
    other = next((name for name in names if _is_no_recording(Path(name))), None)
    if other is not None:
        raise HfGarError(
            f"{other} is given beside other sources, but only audio files can be combined, and tars with tars. Embed a "
            "folder, a table or a dataset by itself."
        )
    table = pa.table({FILE_NAME: pa.array(map(escape, names), pa.string())})
    refuse_duplicates(table, "The list of files")
    return with_audio_column(table, FILE_NAME, Path())


def _is_no_recording(path: Path) -> bool:
    """Whether it is some other source, and not even named like a recording."""
    suffix = path.suffix.lower()
    return suffix not in AUDIO_SUFFIXES and (suffix in (*READERS, TAR_SUFFIX) or path.is_dir())


def _open_table(path: Path, path_column: str | None) -> tuple[datasets.Dataset, str]:
    if path.suffix.lower() not in READERS:
        raise HfGarError(
            f"{path} is neither an audio file nor a table ({', '.join(READERS)}). A list of files is given as "
            "arguments, or as a CSV with a path column."
        )
    if path.suffix.lower() == ".parquet":
        features = datasets.Features.from_arrow_schema(_read(path, pq.read_schema))
        column = path_column or find_audio_column(features)
        if column in features and features[column] not in TEXT:
            with quiet_datasets():
                return datasets.Dataset.from_parquet(str(path)), column  # the recordings are in the table
    table = read_table(path)
    if path_column is None:
        path_column = next((column for column in PATH_COLUMNS if column in table.column_names), PATH_COLUMNS[0])
    require_column(table, path_column, path)
    return with_audio_column(table, path_column, Path(escape(str(path.parent)))), AUDIO


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except (ValueError, OSError, IndexError) as error:  # IndexError: a saved dataset without rows
        raise HfGarError(f"{path} cannot be read as a table or dataset, or is empty: {error}") from error


def _find_commit(name: str, revision: str | None) -> str | None:
    """The commit of a dataset on the Hub; `revision` as it is where the Hub cannot be asked and the cache has to do."""
    try:
        return HfApi().dataset_info(name, revision=revision).sha
    except (TRANSPORT_ERROR, OSError, HFValidationError):
        return revision


def _load_from_hub(name: str, config_name: str | None, split: str | None, streaming: bool, revision: str | None) -> Any:
    """A dataset on the Hub; `datasets` runs no code of it."""
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
            raise HfGarError(f"{name} has the splits {', '.join(dataset)}. Name one of them (`split`).")
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
            "Name the right one (`path_column`)."
        )
    return column


def _require_recordings(feature: Any, column: str, name: str) -> None:
    """Raise a HfGarError where a column holds single numbers and the like."""
    is_value = isinstance(feature, datasets.Value | datasets.ClassLabel)
    if is_value and feature.dtype not in ("string", "large_string", "binary", "large_binary", "null"):
        raise HfGarError(
            f"{name}: the column {column!r} holds {feature.dtype}, not recordings or their paths. Name the right one "
            "(`path_column`)."
        )
