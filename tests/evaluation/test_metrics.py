import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, confusion_matrix

from hf_gar.evaluation.metrics import (
    accuracy,
    average_precisions,
    confusion_counts,
    mean_average_precision,
    mean_interval,
)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns(ties):
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(200, 6))
    if ties:
        scores = np.round(2 * scores)
    targets = generator.random((200, 6)) < [0.5, 0.3, 0.1, 0.02, 0.9, 0.2]
    expected = [average_precision_score(targets[:, index], scores[:, index]) for index in range(6)]
    np.testing.assert_allclose(average_precisions(scores, targets), expected, rtol=1e-12)
    assert mean_average_precision(scores, targets) == pytest.approx(
        average_precision_score(targets, scores, average="macro")
    )


def test_average_precision_known_by_construction():
    # The one positive clip of each class comes 1st, 2nd and 4th: 1, 1/2 and 1/4.
    targets = np.zeros((4, 3), bool)
    targets[[0, 1, 3], [0, 1, 2]] = True
    scores = np.array([[4.0, 4, 4], [3, 3, 3], [2, 2, 2], [1, 1, 1]])
    np.testing.assert_allclose(average_precisions(scores, targets), [1, 1 / 2, 1 / 4])
    assert mean_average_precision(scores, targets) == pytest.approx(7 / 12)


def test_a_class_that_no_clip_has_does_not_count():
    scores, targets = np.array([[0.9, 0.1], [0.2, 0.3]]), np.array([[True, False], [False, False]])
    assert np.isnan(average_precisions(scores, targets)[1])
    assert mean_average_precision(scores, targets) == 1


def test_accuracy_and_confusion_counts():
    scores = np.eye(3)[[0, 1, 1, 2, 0]]
    targets = np.array([0, 1, 2, 2, 1])
    assert accuracy(scores, targets) == 3 / 5
    np.testing.assert_array_equal(confusion_counts(scores, targets), confusion_matrix(targets, scores.argmax(1)))


def test_the_interval_is_students():
    values = np.array([0.8, 0.85, 0.83])
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), low, high))
    assert np.isnan(mean_interval(values[:1]).low)
