"""Accuracy, mean average precision, and what is told of several runs."""

from typing import NamedTuple

import numpy as np

from hf_gar.evaluation.optional import import_optional

CONFIDENCE = 0.95


def accuracy(scores: np.ndarray, targets: np.ndarray) -> float:
    """The share of clips whose highest score is their class's; `scores` (clip, class), `targets` (clip,)."""
    return float((scores.argmax(1) == targets).mean())


def average_precisions(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The average precision of each class: sum over thresholds of (increase in recall) times precision.

    Clips of equal score pass a threshold together, as in scikit-learn's `average_precision_score`.

    Args:
        scores: (clip, class), any real numbers.
        targets: (clip, class), true where a clip has a label.

    Returns:
        (class,); NaN for a class that no clip has.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    scores = np.take_along_axis(scores, order, axis=0)
    hits = np.take_along_axis(targets.astype(bool), order, axis=0)
    count = len(scores)
    precision = hits.cumsum(0) / np.arange(1, count + 1)[:, None]
    # Where each clip's run of equal scores ends: the first end at or after it.
    is_end = np.vstack([scores[1:] != scores[:-1], np.ones((1, scores.shape[1]), bool)])
    ends = np.where(is_end, np.arange(count)[:, None], count)
    ends = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
    positives = hits.sum(0)
    total = (np.take_along_axis(precision, ends, axis=0) * hits).sum(0)
    return np.divide(total, positives, out=np.full(positives.shape, np.nan), where=positives > 0)


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """The mean over the classes that occur in `targets`; the arguments are those of `average_precisions`."""
    return float(np.nanmean(average_precisions(scores, targets)))


def confusion_counts(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How many clips of each class (row) were taken for each class (column): (class, class)."""
    classes = scores.shape[1]
    return np.bincount(targets * classes + scores.argmax(1), minlength=classes**2).reshape(classes, classes)


class Interval(NamedTuple):
    """A mean and its confidence interval; both ends are NaN where there is only one value."""

    mean: float
    low: float
    high: float


def mean_interval(values: np.ndarray) -> Interval:
    """The mean of scores (n,) from 0 to 1, and its 95 % interval by Student's t with n - 1 degrees of freedom."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"))
    quantile = import_optional("scipy.stats").t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half = float(quantile * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))
