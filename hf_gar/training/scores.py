"""The scores of a trained classifier on the test clips, with their intervals."""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np

from hf_gar.evaluation.evaluate import EmbeddedTask, summarize_runs
from hf_gar.evaluation.linear_probe import ProbeRun
from hf_gar.evaluation.metrics import CONFIDENCE, Interval, accuracy, average_precisions, mean_average_precision
from hf_gar.hub.training_record import Score

RESAMPLES = 500


def score_tests(runs: list[ProbeRun], task: EmbeddedTask) -> tuple[Score, list[Score | None], np.ndarray | None]:
    """The test scores of classifiers, one for each fold and seed or a single one.

    The 95 % interval is Student's t over the folds where there are any. Of a single split it is Wilson's for an
    accuracy, and the bootstrap's over the clips for mean average precision.

    Returns:
        The score of all test clips; that of each label, None where no test clip has it; and of clips with one label how
        many of each (row) were taken for each (column), (label, label).
    """
    evaluation = summarize_runs(runs, task)
    if evaluation.confusion is not None:
        hits, tested = evaluation.confusion.diagonal(), evaluation.confusion.sum(1)
        seeds = count_seeds(runs)
        overall = of_interval(evaluation.test) if task.has_folds else share(hits.sum(), tested.sum(), seeds)
        labels = [share(hit, count, seeds) if count else None for hit, count in zip(hits, tested, strict=True)]
        return overall, labels, evaluation.confusion
    values = list(evaluation.per_class.values())
    if task.has_folds:
        return of_interval(evaluation.test), [None if np.isnan(value) else Score(value) for value in values], None
    (run,) = runs
    targets = task.targets[run.partition.test]
    is_there = targets.any(0)
    scores, targets = run.test_scores[:, is_there], targets[:, is_there]
    resampled = resample(lambda rows: average_precisions(scores[rows], targets[rows]), len(targets))
    intervals = iter(percentiles(resampled).T.tolist())
    labels = [Score(value, *next(intervals)) if there else None for value, there in zip(values, is_there, strict=True)]
    overall = Score(evaluation.test.mean, *percentiles(np.nanmean(resampled, axis=1)).tolist())
    return overall, labels, None


def of_interval(interval: Interval) -> Score:
    """A mean as a score; that of a single value has no interval."""
    mean, low, high = map(float, interval)
    return Score(mean) if np.isnan(low) else Score(mean, low, high)


def count_seeds(runs: Sequence[ProbeRun]) -> int:
    """How many seeds there are, each of which tests every clip."""
    return len({run.partition.seed for run in runs})


def share(hits: int, tests: int, seeds: int = 1) -> Score:
    """The share of clips that are hit, with Wilson's interval.

    Args:
        hits: How many of the tests were hits.
        tests: How many there were, over all seeds.
        seeds: How many times each clip was tested: with that, no more clips are known.
    """
    z, count, value = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), tests / seeds, hits / tests
    centre = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * sqrt(value * (1 - value) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return Score(float(value), float(max(0, centre - half)), float(min(1, centre + half)))


def score_gain(after: ProbeRun, before: ProbeRun, task: EmbeddedTask) -> Score:
    """What a classifier gained over another on the same test clips; the interval is the bootstrap's over the clips."""
    targets = task.targets[after.partition.test]
    metric = mean_average_precision if targets.ndim == 2 else accuracy

    def difference(rows: np.ndarray) -> float:
        return metric(after.test_scores[rows], targets[rows]) - metric(before.test_scores[rows], targets[rows])

    return Score(difference(np.arange(len(targets))), *percentiles(resample(difference, len(targets))).tolist())


def resample(statistic: Callable[[np.ndarray], np.ndarray | float], count: int) -> np.ndarray:
    """A statistic of as many rows, drawn again and again from `count` ones, (resample, ...)."""
    generator = np.random.default_rng(0)
    return np.array([statistic(generator.integers(count, size=count)) for _ in range(RESAMPLES)])


def percentiles(values: np.ndarray) -> np.ndarray:
    """The ends of the 95 % interval of what was resampled, (resample, ...) -> (2, ...)."""
    return np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
