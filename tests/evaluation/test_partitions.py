import numpy as np
import pytest

from hf_gar import HfGarError
from hf_gar.evaluation.partitions import make_partitions

NAMES = ("cat", "dog")


def test_folds_hold_out_a_tenth_with_every_class_by_seed():
    targets = np.array([0] * 90 + [1] * 10)
    memberships = np.array([str(index % 10 + 1) for index in range(100)])
    partitions = make_partitions(targets, NAMES, memberships, True, (1, 2))
    assert [(p.seed, p.fold) for p in partitions] == [(seed, str(fold)) for seed in (1, 2) for fold in range(1, 11)]
    for partition in partitions:
        everything = np.concatenate([partition.train, partition.valid, partition.test])
        assert sorted(everything) == list(range(100))
        assert set(memberships[partition.test]) == {partition.fold}
        assert list(np.bincount(targets[partition.valid])) == [8, 1]
    assert not np.array_equal(partitions[0].valid, partitions[10].valid)
    again = make_partitions(targets, NAMES, memberships, True, (1,))
    np.testing.assert_array_equal(again[3].valid, partitions[3].valid)


def test_splits_are_taken_as_they_are_and_a_missing_validation_split_is_held_out():
    targets = np.arange(60) % 2
    memberships = np.array(["train", "train", "test"] * 20)
    (partition,) = make_partitions(targets, NAMES, memberships, False, (42,))
    assert (len(partition.train), len(partition.valid), len(partition.test)) == (36, 4, 20)
    memberships[:3] = "valid"
    (partition,) = make_partitions(targets, NAMES, memberships, False, (42,))
    assert list(partition.valid) == [0, 1, 2]


def test_several_labels_hold_out_every_label():
    generator = np.random.default_rng(0)
    targets = generator.random((200, 4)) < [0.5, 0.3, 0.06, 0.08]
    memberships = np.array([str(index % 2) for index in range(200)])
    for partition in make_partitions(targets, ("a", "b", "c", "d"), memberships, True, (1, 2, 3)):
        assert targets[partition.valid].any(0).all()
        assert targets[partition.train].any(0).all()
        assert len(partition.valid) < 0.2 * len(partition.train)


@pytest.mark.parametrize(
    ("targets", "memberships", "has_folds", "message"),
    [
        ([0, 1, 0, 1], ["train", "train", "valid", "valid"], False, "split 'test' is empty"),
        ([0, 1, 0, 1], ["test", "test", "valid", "valid"], False, "split 'train' is empty"),
        ([0, 0, 0, 1], ["train", "train", "valid", "test"], False, "No training clip has the class 'dog'"),
        (
            [0, 0, 0, 1, 1],
            ["1", "2", "1", "1", "1"],
            True,
            "No training clip when fold 1 is tested has .* 'dog'",
        ),
        ([0, 0, 0, 0, 1, 1], list("121212"), True, "Only one training clip when fold 1 is tested has the class 'dog'"),
        ([0, 1], ["1", "1"], True, "only the fold 1"),
    ],
)
def test_what_cannot_be_partitioned(targets, memberships, has_folds, message):
    with pytest.raises(HfGarError, match=message):
        make_partitions(np.array(targets), NAMES, np.array(memberships), has_folds)


def test_a_test_split_without_any_label():
    targets = np.array([[True, False], [False, True], [True, True], [False, False]])
    with pytest.raises(HfGarError, match="No test clip has any label"):
        make_partitions(targets, NAMES, np.array(["train", "train", "valid", "test"]), False)


def test_one_clip_of_a_class_is_enough_where_validation_is_given():
    memberships = np.array(["train", "train", "valid", "test"])
    (partition,) = make_partitions(np.array([0, 1, 0, 1]), NAMES, memberships, False, (42,))
    assert list(partition.train) == [0, 1]
