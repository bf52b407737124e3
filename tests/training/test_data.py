"""Labels that can be learned, and splits where there are none."""

import datasets
import numpy as np
import pytest

from hf_gar import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.task_data import TaskData, open_task
from hf_gar.training.data import check_labels, with_test_split, with_tested_fold


def own_task(labels: list, **columns) -> TaskData:
    audio = [f"{index}.wav" for index in range(len(labels))]
    return open_task(datasets.Dataset.from_dict({"audio": audio, "label": labels, **columns}), needs_splits=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["Dog", "dog", "cat", "Dog", "dog", "cat"], "The labels 'Dog', 'dog' differ only in upper and lower case"),
        (["dog ", "cat", "dog", "cat", "dog ", "dog"], "The labels 'dog', 'dog ' differ only"),
        (["STRASSE", "straße", "rain"] * 3, "The labels 'STRASSE', 'straße' differ only"),
        (["dog"] * 5 + ["cat"] * 5 + ["owl"], "Only one recording has the label 'owl': a class needs 3"),
        ([["a", "b"], ["b"], ["B"], ["a"], ["B"], ["a"]], "The labels 'B', 'b' differ only"),
        ([["a", "b"], ["b"], ["c"], ["a"]], "Only one recording has the label 'c'"),
    ],
)
def test_labels_that_cannot_be_learned(labels, message):
    with pytest.raises(HfGarError, match=message):
        check_labels(own_task(labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["dog"] * 4, "All recordings have the label 'dog': there is nothing to tell apart"),
        ([0.5, 1.5, 0.5, 1.5], "The labels in the column 'label' are numbers with fractions, such as 0.5"),
        (["dog", "", "cat", "dog"], "1 recordings have no label, such as row 1"),
        (["dog", " ", "cat", None], "2 recordings have no label, such as row 1"),
    ],
)
def test_what_is_no_label(labels, message):
    with pytest.raises(HfGarError, match=message):
        own_task(labels)


def test_whole_numbers_are_names_like_others():
    data = own_task([7, 10, 7, 10, 7, 10])
    check_labels(data)
    assert data.classes == ("10", "7")
    assert list(data.targets) == [1, 0] * 3


def test_a_fifth_of_every_class_is_held_out_for_testing_where_there_is_no_split():
    data = own_task(["a"] * 50 + ["b"] * 10 + ["c"] * 3)
    split, is_random = with_test_split(data, seed=1)
    assert is_random
    is_test = np.array(split.dataset["split"]) == "test"
    assert [int((is_test & (data.targets == label)).sum()) for label in range(3)] == [10, 2, 1]
    again, other = (with_test_split(data, seed)[0].dataset["split"][:] for seed in (1, 2))
    assert list(split.dataset["split"]) == again != other
    with pytest.raises(HfGarError, match="no test split, and fewer than 3 recordings have the label 'b'"):
        with_test_split(own_task(["a"] * 5 + ["b"] * 2), seed=1)


def test_splits_and_folds_that_are_there_stay():
    splits = own_task(["a", "b"] * 3, split=["train", "train", "valid", "valid", "test", "test"])
    folds = own_task(["a", "b"] * 3, fold=[1, 1, 2, 2, 3, 3])
    assert with_test_split(splits, 1) == (splits, False)
    assert with_test_split(folds, 1) == (folds, False)
    # Without a test split, the validation split stays as it is.
    trained = own_task(["a", "b"] * 8, split=["train"] * 12 + ["valid"] * 4)
    split, is_random = with_test_split(trained, 1)
    assert is_random
    assert list(split.dataset["split"][12:]) == ["valid"] * 4
    assert split.dataset["split"][:].count("test") == 2


def test_one_fold_is_tested():
    memberships = np.array(["1", "10", "2", "10", "1", "2"])
    task = EmbeddedTask(np.zeros((6, 2), np.float32), np.arange(6) % 2, ("a", "b"), memberships, True, ["x"] * 6)
    last = with_tested_fold(task, None)
    assert not last.has_folds
    assert list(last.memberships == "test") == list(memberships == "10")
    assert list(with_tested_fold(task, "2").memberships == "test") == list(memberships == "2")
    with pytest.raises(HfGarError, match="There is no fold '3': the data has the folds '1', '2', '10'"):
        with_tested_fold(task, "3")
    with pytest.raises(HfGarError, match="There is no fold '2': the data has splits"):
        with_tested_fold(last, "2")
