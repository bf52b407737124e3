"""Scores and their intervals."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.linear_probe import ProbeRun
from hf_gar.evaluation.partitions import Partition
from hf_gar.training.scores import score_gain, score_tests, share


def scored(targets: np.ndarray, scores: np.ndarray) -> tuple[EmbeddedTask, ProbeRun]:
    """A task all of whose clips are tested, and a run with these scores (clip, class)."""
    clips = np.arange(len(targets))
    names = tuple(f"class {label}" for label in range(scores.shape[1]))
    memberships = np.full(len(clips), "test")
    task = EmbeddedTask(np.zeros((len(clips), 1), np.float32), targets, names, memberships, False, clips.astype(str))
    partition = Partition(0, None, clips[:0], clips[:0], clips)
    return task, ProbeRun(partition, 0.1, 1, 1, 1.0, scores[:0], scores)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I: method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_share_has_wilsons_interval(hits, count, low, high):
    score = share(hits, count)
    assert score.value == pytest.approx(hits / count)
    assert (score.low, score.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_seeds_are_no_further_clips():
    assert share(30, 60, seeds=3) == share(10, 20)


def test_accuracies_of_a_split():
    targets = np.array([0, 0, 0, 0, 1, 1])
    scores = np.eye(3)[[0, 0, 0, 1, 1, 2]]
    task, run = scored(targets, scores)
    test, labels, confusion = score_tests([run], task)
    assert test == share(4, 6)
    assert labels == [share(3, 4), share(1, 2), None]
    assert confusion.tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_average_precisions_of_a_split():
    generator = np.random.default_rng(0)
    targets = generator.random((300, 3)) < [0.5, 0.1, 0]
    scores = targets + generator.normal(size=targets.shape)
    test, labels, confusion = score_tests([scored(targets, scores)[1]], scored(targets, scores)[0])
    expected = [average_precision_score(targets[:, label], scores[:, label]) for label in (0, 1)]
    assert [score.value for score in labels[:2]] == pytest.approx(expected)
    assert labels[2] is None
    assert test.value == pytest.approx(np.mean(expected))
    assert all(score.low < score.value < score.high for score in (test, *labels[:2]))
    # Of the rarer label less is known.
    assert labels[1].high - labels[1].low > labels[0].high - labels[0].low
    assert confusion is None


def test_the_interval_of_a_gain_covers_it_as_often_as_it_says():
    """A classifier that is right of 7 clips in 10 where another one is right of 5 has gained 20 points."""
    generator = np.random.default_rng(0)
    targets = np.zeros(200, np.int64)
    covered = 0
    for _ in range(100):
        draws = generator.random(200)  # the same clips are hard for both
        before, after = (np.eye(2)[(draws > right).astype(int)] for right in (0.5, 0.7))
        task, run = scored(targets, before)
        gain = score_gain(replace(run, test_scores=after), run, task)
        covered += gain.low <= 0.2 <= gain.high
        assert gain.value == pytest.approx(((draws <= 0.7) & (draws > 0.5)).mean())
    assert 88 <= covered <= 100  # 95 of 100, but for chance
