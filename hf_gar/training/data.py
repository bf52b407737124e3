"""The recordings that a classifier is trained on: labels that can be learned, and splits where there are none."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from hf_gar.errors import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.partitions import count_classes, hold_out, list_names, sort_folds
from hf_gar.evaluation.task_data import FOLD, SPLIT, TaskData

# Of recordings without a test split, so many are held out for testing.
TEST_SHARE = 0.2
# A class needs a clip each for training, validation and test.
MINIMUM_CLIPS = 3


def check_labels(data: TaskData) -> None:
    """Raise a HfGarError where labels differ only by case or space, or only one recording has a label."""
    alike = defaultdict(list)
    for name in data.classes:
        alike[" ".join(name.split()).casefold()].append(name)
    twins = next((names for names in alike.values() if len(names) > 1), None)
    if twins is not None:
        raise HfGarError(
            f"The labels {list_names(twins)} differ only in upper and lower case or in space. Write them alike where "
            "they are one class, else rename one."
        )
    counts = count_classes(data.targets, len(data.classes))
    single = [name for name, count in zip(data.classes, counts, strict=True) if count == 1]
    if single:
        raise HfGarError(
            f"Only one recording has the label {list_names(single)}: a class needs {MINIMUM_CLIPS} at the least, one "
            "each for training, validation and test. Add recordings, or leave the class out."
        )


def with_test_split(data: TaskData, seed: int) -> tuple[TaskData, bool]:
    """Recordings with a test split: where they have none, a fifth of those in training, every class in it.

    Returns:
        The recordings, and whether their test split was made here.

    Raises:
        HfGarError: A class has too few recordings to be divided.
    """
    if data.membership_column == FOLD:
        return data, False
    splits = np.array(data.dataset[SPLIT])
    if "test" in splits:
        return data, False
    train = np.flatnonzero(splits == "train")
    counts = count_classes(data.targets[train], len(data.classes))
    small = [name for name, count in zip(data.classes, counts, strict=True) if count < MINIMUM_CLIPS]
    if small:
        raise HfGarError(
            f"There is no test split, and fewer than {MINIMUM_CLIPS} recordings have the label {list_names(small)}: "
            "too few for training, validation and test. Add recordings, or leave the class out."
        )
    _, test = hold_out(train, data.targets, seed, TEST_SHARE)
    splits[test] = "test"
    dataset = data.dataset.remove_columns(SPLIT).add_column(SPLIT, splits.tolist())
    return replace(data, dataset=dataset), True


def with_tested_fold(task: EmbeddedTask, fold: str | None) -> EmbeddedTask:
    """A task with folds as one with splits, of which one fold, by default the last, is tested.

    Raises:
        HfGarError: There is no such fold.
    """
    folds = sort_folds(task.memberships)
    fold = folds[-1] if fold is None else fold
    if not task.has_folds or fold not in folds:
        there = f"the folds {list_names(folds, len(folds))}" if task.has_folds else "splits"
        raise HfGarError(f"There is no fold {fold!r}: the data has {there}. Choose another `test_fold`.")
    return replace(task, memberships=np.where(task.memberships == fold, "test", "train"), has_folds=False)
