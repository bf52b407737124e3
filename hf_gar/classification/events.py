"""Events of the scores of windows, and how Audacity writes them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Event(NamedTuple):
    """A label's occurrence in a recording, from `onset` to `offset` in seconds; the score is its best window's."""

    onset: float
    offset: float
    label: str
    score: float


def find_events(scores: np.ndarray, spans: np.ndarray, labels: Sequence[str], threshold: float) -> list[Event]:
    """The events of a recording: what neighbouring windows say of a label is one.

    Where windows overlap, a moment counts to the window whose middle is nearest: an event begins and ends where that
    changes.

    Args:
        scores: Of each window, (window, label).
        spans: From where to where the windows are, in seconds, (window, 2), in order of time.
        labels: The names of the scores' columns.
        threshold: The least score that makes an event.

    Returns:
        By their onsets, and of those with the same in the order of the labels.
    """
    middles = spans.mean(axis=1)
    bounds = np.concatenate([spans[:1, 0], (middles[1:] + middles[:-1]) / 2, spans[-1:, 1]])
    changes = np.diff(np.pad((scores >= threshold).astype(np.int8), ((1, 1), (0, 0))), axis=0)
    columns, firsts = np.nonzero(changes.T == 1)
    _, stops = np.nonzero(changes.T == -1)  # in the same order: label by label, and in each by time
    events = [
        Event(float(bounds[first]), float(bounds[stop]), labels[column], float(scores[first:stop, column].max()))
        for column, first, stop in zip(columns.tolist(), firsts.tolist(), stops.tolist(), strict=True)
    ]
    return sorted(events, key=lambda event: event.onset)


def label_track(events: Sequence[Event]) -> str:
    """Events as the text file that Audacity imports as a label track: onset, offset and label, separated by tabs."""
    return "".join(f"{event.onset:.6f}\t{event.offset:.6f}\t{' '.join(event.label.split())}\n" for event in events)
