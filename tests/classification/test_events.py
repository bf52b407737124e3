"""Events of the scores of windows, against the definition moment by moment."""

import numpy as np
import pytest

from hf_gar.classification.events import Event, find_events, label_track

LABELS = ["dog", "rain"]


def scores_of(*rows) -> np.ndarray:
    return np.array(rows, np.float32)


def test_neighbouring_windows_make_one_event():
    spans = np.array([(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)])
    scores = scores_of((0.9, 0), (0.6, 0.5), (0.1, 0.7), (0.8, 0.4), (0.2, 0.9))
    assert find_events(scores, spans, LABELS, 0.5) == [
        Event(0, 4, "dog", pytest.approx(0.9)),
        Event(2, 6, "rain", pytest.approx(0.7)),
        Event(6, 8, "dog", pytest.approx(0.8)),
        Event(8, 10, "rain", pytest.approx(0.9)),
    ]
    assert find_events(scores, spans, LABELS, 0.95) == []
    assert find_events(scores, spans, LABELS, 0) == [
        Event(0, 10, "dog", pytest.approx(0.9)),
        Event(0, 10, "rain", pytest.approx(0.9)),
    ]


def test_a_single_window_is_all_of_a_recording():
    assert find_events(scores_of((0.2, 0.8)), np.array([(0, 1.5)]), LABELS, 0.5) == [
        Event(0, 1.5, "rain", pytest.approx(0.8))
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_moment_counts_to_the_window_whose_middle_is_nearest(seed):
    generator = np.random.default_rng(seed)
    length, hop, size = generator.uniform(1, 3), generator.uniform(0.2, 1), int(generator.integers(1, 12))
    starts = np.append(hop * np.arange(size), hop * (size - 1) + generator.uniform(0, hop))  # the last one is shifted
    spans = np.stack([starts, starts + length], axis=1)
    scores = generator.random((len(spans), 2), np.float32)
    events = find_events(scores, spans, LABELS, 0.4)
    assert events == sorted(events, key=lambda event: event.onset)
    for moment in generator.uniform(0, spans[-1, 1], 500):
        nearest = np.argmin(np.abs(spans.mean(axis=1) - moment))
        for number, label in enumerate(LABELS):
            during = [event for event in events if event.label == label and event.onset <= moment < event.offset]
            assert len(during) == (scores[nearest, number] >= 0.4)
            if during:
                assert during[0].score >= scores[nearest, number]
    assert all(any(np.isclose(event.score, scores)[:, LABELS.index(event.label)]) for event in events)


def test_a_label_track_is_what_audacity_reads():
    track = label_track([Event(0.5, 1.25, "dog", 0.9), Event(2, 3600.125, "rain,\tlight\n", 0.8)])
    assert track == "0.500000\t1.250000\tdog\n2.000000\t3600.125000\train, light\n"
    assert label_track([]) == ""
