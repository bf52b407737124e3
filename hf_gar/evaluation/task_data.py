"""Open a task's recordings: their labels, and the splits or folds they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd

from hf_gar.embedding.dataset import undecoded
from hf_gar.embedding.sources.source import SAVED_DATASET_FILES, open_source
from hf_gar.embedding.sources.tables import METADATA_FILES, READERS
from hf_gar.errors import HfGarError
from hf_gar.evaluation.partitions import SPLITS
from hf_gar.evaluation.tasks import TASKS, Metric, Task, find_task

AUDIO, FILE_NAME, LABEL, SPLIT, FOLD = "audio", "file_name", "label", "split", "fold"
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class TaskData:
    """A task with its recordings.

    Args:
        task: What is evaluated.
        dataset: The columns "audio" (undecoded), "file_name", "label", and "split" or "fold".
        classes: The names of the classes, sorted.
        targets: The class of each recording, (clip,), or (clip, class), true where it has a label.
        source: Where the recordings are from: a path or the name of a dataset on the Hub.
        is_complete: Whether it is one of the paper's tasks with all its clips, so that scores can be compared.
    """

    task: Task
    dataset: datasets.Dataset
    classes: tuple[str, ...]
    targets: np.ndarray
    source: str | None = None
    is_complete: bool = False

    @property
    def membership_column(self) -> str:
        """ "fold" or "split"."""
        return FOLD if FOLD in self.dataset.column_names else SPLIT


def open_task(
    data: str | Path | datasets.Dataset | datasets.DatasetDict,
    task: str | Task | None = None,
    *,
    metric: Metric | None = None,
    seconds: float | None = None,
    label_column: str = LABEL,
    split_column: str | None = None,
    fold_column: str | None = None,
    allow_other_counts: bool = False,
    needs_splits: bool = True,
) -> TaskData:
    """Open one of the paper's tasks, or a task of your own.

    Args:
        data: A folder with a `metadata.csv` (`file_name`, `label`, and `split` or `fold`), such a table, an
            `audiofolder` (<split>/<label>/<recording>), or a dataset: here, saved, or on the Hub.
        task: One of `TASKS`; None for a task of your own.
        metric: Of your own task: "accuracy" where a clip has one label, "mAP" where it has several, separated by
            commas or as a list. By default as the labels are.
        seconds: Of your own task: the length that every clip is brought to; None leaves the clips as they are.
        label_column: The column with the labels.
        split_column: The column that says train, valid or test; by default "split", or else the dataset's own splits.
        fold_column: The column with the folds; by default "fold".
        allow_other_counts: Take one of the paper's tasks with other numbers of clips or classes.
        needs_splits: Refuse data without splits or folds; else, all of it is of the split train.

    Raises:
        HfGarError: A column is missing, labels or splits cannot be used, or the counts are not the task's.
    """
    given = find_task(task) if isinstance(task, str) else task
    if given is not None and (metric or seconds):
        raise HfGarError(f"The task {given.name} has its own metric and length. Leave `metric` and `seconds` out.")
    dataset = _open_dataset(data)
    dataset = _with_memberships(dataset, split_column, fold_column, needs_splits)
    if label_column not in dataset.column_names:
        raise HfGarError(
            f"The data has no column {label_column!r} with labels, only {', '.join(map(repr, dataset.column_names))}. "
            "Name the right one (`label_column`)."
        )
    labels = _read_labels(dataset, label_column)
    metric = given.metric if given else metric or _guess_metric(labels)
    if given is None:
        name = Path(str(data)).stem if isinstance(data, (str, Path)) else "own"
        given = Task(name, name, metric, seconds)
    classes, targets = _encode(labels, metric)
    file_names = _file_names(dataset)
    part = FOLD if FOLD in dataset.column_names else SPLIT
    kept = dataset.select_columns([AUDIO, part]).add_column(FILE_NAME, file_names).add_column(LABEL, labels)
    if not allow_other_counts:
        folds = len(set(kept[FOLD])) if part == FOLD else None
        given.require_counts(len(targets), len(classes), folds)
    source = None
    if isinstance(data, (str, Path)):
        source = str(Path(data).resolve()) if Path(data).exists() else str(data)
    is_complete = given in TASKS.values() and not allow_other_counts
    return TaskData(given, kept, classes, targets, source, is_complete)


def _open_dataset(data: str | Path | datasets.Dataset | datasets.DatasetDict) -> datasets.Dataset:
    """The rows of all splits, with a column "audio", undecoded, and "split" where the data comes in splits."""
    if isinstance(data, datasets.Dataset):
        return _with_audio(data)
    if isinstance(data, datasets.DatasetDict):
        return _join_splits(data)
    path = Path(data)
    # The table, not its folder: recordings that it does not list are none of the task's.
    tables = [path] if path.is_file() else [path / name for name in METADATA_FILES if (path / name).exists()]
    if tables:
        if tables[0].suffix.lower() not in READERS:
            raise HfGarError(f"{path} is neither a table ({', '.join(READERS)}) nor a folder. Name one of those.")
        return open_source(tables[:1]).dataset
    if not path.is_dir() and ("/" not in str(data) or str(data).startswith((".", "/"))):
        raise HfGarError(f"{data}: there is no such file or folder. Check the path.")
    if any((path / name).exists() for name in SAVED_DATASET_FILES):
        return _open_dataset(datasets.load_from_disk(path))
    return open_source([path], audiofolder=True).dataset if path.is_dir() else _open_dataset(_load_from_hub(str(data)))


def _load_from_hub(name: str) -> Any:
    try:
        return datasets.load_dataset(name)
    except (datasets.exceptions.DatasetsError, FileNotFoundError, ValueError, ConnectionError) as error:
        raise HfGarError(
            f"{name} is neither a file or folder here nor a dataset on the Hub that could be read: "
            f"{error.__cause__ or error}"
        ) from error


def _with_audio(dataset: datasets.Dataset) -> datasets.Dataset:
    audio = next((name for name, kind in dataset.features.items() if isinstance(kind, datasets.Audio)), AUDIO)
    if audio not in dataset.column_names:
        raise HfGarError(
            f"The dataset has no column {AUDIO!r} with recordings, only {', '.join(map(repr, dataset.column_names))}."
        )
    dataset = undecoded(dataset, audio)
    return dataset if audio == AUDIO else dataset.rename_column(audio, AUDIO)


def _join_splits(splits: datasets.DatasetDict) -> datasets.Dataset:
    parts = [
        _with_audio(part if SPLIT in part.column_names else part.add_column(SPLIT, [name] * len(part)))
        for name, part in splits.items()
    ]
    return datasets.concatenate_datasets(parts)


def _with_memberships(
    dataset: datasets.Dataset, split_column: str | None, fold_column: str | None, needs_splits: bool
) -> datasets.Dataset:
    """The dataset with either "fold" or "split", as text; splits by the names train, valid and test."""
    if split_column and fold_column:
        raise HfGarError("A task has splits or folds: give `split_column` or `fold_column`, not both.")
    for column in (split_column, fold_column):
        if column and column not in dataset.column_names:
            raise HfGarError(f"The data has no column {column!r}, only {', '.join(map(repr, dataset.column_names))}.")
    if not split_column and not fold_column:
        has_fold, has_split = FOLD in dataset.column_names, SPLIT in dataset.column_names
        # A dataset on the Hub whose rows have folds comes as one split.
        if has_fold and has_split and len(set(dataset[SPLIT])) > 1:
            raise HfGarError("The data has the columns 'split' and 'fold'. Say which (`split_column`, `fold_column`).")
        if not has_fold and not has_split and not needs_splits:
            return dataset.add_column(SPLIT, ["train"] * len(dataset))
        if not has_fold and not has_split:
            raise HfGarError(
                "The data has no column 'split' (train, valid, test) and none 'fold', only "
                f"{', '.join(map(repr, dataset.column_names))}. Add one, or name it (`split_column`, `fold_column`)."
            )
        split_column, fold_column = (None, FOLD) if has_fold else (SPLIT, None)
    column = fold_column or split_column
    assert column is not None
    values = dataset[column][:]
    if any(value is None for value in values):
        raise HfGarError(f"Row {values.index(None)} has no {column}. Give every recording one.")
    parts = [str(value) for value in values]
    if split_column:
        unknown = sorted({part for part in parts if part.lower() not in SPLIT_NAMES})
        if unknown:
            raise HfGarError(f"The splits {', '.join(map(repr, unknown))} are unknown: use {', '.join(SPLITS)}.")
        parts = [SPLIT_NAMES[part.lower()] for part in parts]
    dataset = dataset.remove_columns([name for name in {SPLIT, FOLD, column} if name in dataset.column_names])
    return dataset.add_column(FOLD if fold_column else SPLIT, parts)


def _read_labels(dataset: datasets.Dataset, column: str) -> list[str] | list[list[str]]:
    """Each recording's label as text, or its labels as a list of text."""
    values, kind = dataset[column][:], dataset.features[column]
    blank = [isinstance(value, str) and not value.strip() for value in values]
    empty = [index for index, value in enumerate(values) if value is None or blank[index]]
    if empty:
        raise HfGarError(f"{len(empty)} recordings have no label, such as row {empty[0]}. Label or remove them.")
    if getattr(kind, "dtype", "").startswith("float"):
        raise HfGarError(
            f"The labels in the column {column!r} are numbers with fractions, such as {values[0]!r}, and no names of "
            "classes. Name the right column (`label_column`), or make them text or whole numbers."
        )
    inner = getattr(kind, "feature", None)
    if inner is not None:
        name = inner.int2str if isinstance(inner, datasets.ClassLabel) else str
        return [[name(value) for value in row] for row in values]
    name = kind.int2str if isinstance(kind, datasets.ClassLabel) else str
    return [name(value) for value in values]


def _guess_metric(labels: list[str] | list[list[str]]) -> Metric:
    if isinstance(labels[0], list):
        return "mAP"
    with_comma = next((label for label in labels if "," in label), None)
    if with_comma is not None:
        raise HfGarError(
            f"A label has a comma: {with_comma!r}. Set `metric` to mAP where labels are several, separated by commas, "
            "or to accuracy where a comma belongs to the name of a label."
        )
    return "accuracy"


def _encode(labels: list[str] | list[list[str]], metric: Metric) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes, sorted, and the targets of `TaskData`."""
    if metric == "accuracy":
        if isinstance(labels[0], list):
            raise HfGarError("The labels are lists, several a recording: the metric is mAP, not accuracy.")
        classes, targets = np.unique(np.array(labels), return_inverse=True)
        if len(classes) < 2:
            raise HfGarError(f"All recordings have the label {str(classes[0])!r}: there is nothing to tell apart.")
        return tuple(map(str, classes)), targets
    several = [
        row if isinstance(row, list) else [part.strip() for part in row.split(",") if part.strip()] for row in labels
    ]
    names = sorted({name for row in several for name in row})
    numbers = {name: index for index, name in enumerate(names)}
    targets = np.zeros((len(several), len(names)), bool)
    for index, row in enumerate(several):
        targets[index, [numbers[name] for name in row]] = True
    return tuple(names), targets


def _file_names(dataset: datasets.Dataset) -> list[str]:
    """A name for each recording, no two alike: embeddings are matched with labels by it."""
    if FILE_NAME not in dataset.column_names:
        parts = dataset[FOLD if FOLD in dataset.column_names else SPLIT]
        return [f"{part}-{index:06d}" for index, part in enumerate(parts)]
    names = list(map(str, dataset[FILE_NAME]))
    unnamed = [index for index, name in enumerate(dataset[FILE_NAME]) if not name]
    if unnamed:
        raise HfGarError(f"Row {unnamed[0]} has no {FILE_NAME}, counting from 0. Give it one, or remove the row.")
    repeated = pd.Index(names).duplicated()
    if repeated.any():
        raise HfGarError(f"{names[int(repeated.argmax())]} is listed more than once. List each recording once.")
    return names


def rows_of(file_names: Sequence[str], data: TaskData) -> np.ndarray:
    """The numbers of the recordings of these names in a task's data."""
    numbers = {name: index for index, name in enumerate(data.dataset[FILE_NAME])}
    return np.array([numbers[name] for name in file_names], dtype=np.int64)
