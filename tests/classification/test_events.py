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


def test_a_short_sound_is_where_all_windows_that_hear_it_overlap():
    spans = np.array([(start, start + 2) for start in (0, 0.5, 1, 1.5, 2, 2.5)])
    heard = (spans[:, 0] <= 2.2) & (spans[:, 1] >= 2.4)
    (event,) = find_events(np.stack([heard, 0 * heard], axis=1).astype(np.float32), spans, LABELS, 1)
    assert event == Event(2, 2.5, "dog", 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_moment_has_the_mean_of_the_windows_that_it_is_in(seed):
    generator = np.random.default_rng(seed)
    length, hop, size = generator.uniform(1, 3), generator.uniform(0.2, 1), int(generator.integers(1, 12))
    starts = np.append(hop * np.arange(size), hop * (size - 1) + generator.uniform(0, hop))  # the last one is shifted
    spans = np.stack([starts, starts + length], axis=1)
    scores = generator.random((len(spans), 2), np.float32)
    events = find_events(scores, spans, LABELS, 0.5)
    assert events == sorted(events, key=lambda event: event.onset)
    highest = dict.fromkeys(events, 0.0)
    for moment in np.linspace(0, spans[-1, 1], 2000, endpoint=False):
        means = scores[(spans[:, 0] <= moment) & (moment < spans[:, 1])].mean(axis=0)
        for mean, label in zip(means, LABELS, strict=True):
            during = [event for event in events if event.label == label and event.onset <= moment < event.offset]
            assert len(during) == (mean >= 0.5)
            highest |= {event: max(highest[event], mean) for event in during}
    assert [event.score for event in highest] == pytest.approx(list(highest.values()), abs=1e-6)


def test_a_label_track_is_what_audacity_reads():
    track = label_track([Event(0.5, 1.25, "dog", 0.9), Event(2, 3600.125, "rain,\tlight\n", 0.8)])
    assert track == "0.500000\t1.250000\tdog\n2.000000\t3600.125000\train, light\n"
    assert label_track([]) == ""
