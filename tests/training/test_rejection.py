"""The threshold for unknown sounds, on embeddings whose classes are known."""

from dataclasses import replace

import numpy as np
import pytest

from hf_gar import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.linear_probe import train_linear_probes
from hf_gar.evaluation.partitions import make_partitions
from hf_gar.training.rejection import check_rejection, confidence, learn_threshold, measure_rejection, reject_unknown
from tests.evaluation.synthetic import single_label_task


def trained(task: EmbeddedTask):
    partitions = make_partitions(task.targets, task.classes, task.memberships, task.has_folds, [0])
    return train_linear_probes(task.embeddings, task.targets, len(task.classes), partitions, [0.003])


@pytest.fixture(scope="module")
def task() -> EmbeddedTask:
    return single_label_task(clips=2000, dimension=16, classes=5, folds=4, spread=0.8)


@pytest.fixture(scope="module")
def runs(task):
    return trained(task)


@pytest.mark.parametrize("asked", [0.0, 0.05, 0.3])
def test_the_share_that_is_asked_for_is_below_the_threshold(task, runs, asked):
    threshold = learn_threshold(runs, asked)
    valid = np.concatenate([run.valid_scores for run in runs])
    assert (confidence(valid) < threshold).mean() == pytest.approx(asked, abs=0.01)
    record = measure_rejection(runs, task, threshold, asked)
    # The test clips are like the validation clips.
    assert record.rejected.value == pytest.approx(asked, abs=0.03)
    scores = np.concatenate([run.test_scores for run in runs])
    targets = np.concatenate([task.targets[run.partition.test] for run in runs])
    accepted = confidence(scores) >= threshold
    assert record.accuracy.value == pytest.approx((scores.argmax(1) == targets)[accepted].mean())
    assert (record.threshold, record.share) == (threshold, asked)


def test_sounds_that_are_not_known_are_rejected_more_often(task, runs):
    score, count = reject_unknown(runs, task, 0.05)
    assert count == 5
    assert score.low > 0.05
    again, _ = reject_unknown(runs, task, 0.05)
    assert again == score
    more, _ = reject_unknown(runs, task, 0.3)
    assert more.value > score.value


def test_where_it_cannot_be_measured():
    two = single_label_task(classes=2)
    assert reject_unknown(trained(two), two, 0.05) == (None, 0)


def test_all_rejected(task, runs):
    record = measure_rejection(runs, task, 1.0, 0.9)
    assert (record.rejected.value, record.accuracy) == (1, None)


def test_where_nothing_can_be_rejected(task):
    with pytest.raises(HfGarError, match=r"recordings may have several labels, .*`reject`"):
        check_rejection(replace(task, targets=np.eye(5, dtype=bool)[task.targets]))
    with pytest.raises(HfGarError, match="A label is called 'unknown', which is what rejected recordings are called"):
        check_rejection(replace(task, classes=("a", "b", "c", "d", "unknown")))
