"""Events of the scores of windows, and how Audacity writes them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Event(NamedTuple):
    """A label's occurrence in a recording, from `onset` to `offset` in seconds; the score is the highest in it."""

    onset: float
    offset: float
    label: str
    score: float


def find_events(scores: np.ndarray, spans: np.ndarray, labels: Sequence[str], threshold: float) -> list[Event]:
    """The events of a recording: where a label's score stays at a threshold or above.

    Where windows overlap, a moment has the mean of the scores of the windows that it is in. That favours neither early
    nor late onsets, and a single window that differs from those around it does not split an event.

    Args:
        scores: Of each window, (window, label).
        spans: From where to where the windows are, in seconds, (window, 2), in order of time and without gaps.
        labels: The names of the scores' columns.
        threshold: The lowest score of an event.

    Returns:
        By their onsets, and of those with the same in the order of the labels.
    """
    bounds = np.unique(spans)  # between two of them, a moment is in the windows from `first` to before `stop`
    middles = (bounds[1:] + bounds[:-1]) / 2
    first, stop = (np.searchsorted(spans[:, end], middles) for end in (1, 0))
    sums = np.pad(np.cumsum(scores, axis=0, dtype=np.float64), ((1, 0), (0, 0)))
    means = ((sums[stop] - sums[first]) / (stop - first)[:, None]).astype(np.float32)
    changes = np.diff(np.pad((means >= threshold).astype(np.int8), ((1, 1), (0, 0))), axis=0).T
    # Both label by label, and in each by time.
    columns, onsets = np.nonzero(changes == 1)
    _, offsets = np.nonzero(changes == -1)
    events = [
        Event(float(bounds[onset]), float(bounds[offset]), labels[column], float(means[onset:offset, column].max()))
        for column, onset, offset in zip(columns.tolist(), onsets.tolist(), offsets.tolist(), strict=True)
    ]
    return sorted(events, key=lambda event: event.onset)


def label_track(events: Sequence[Event]) -> str:
    """Events as the text file that Audacity imports as a label track: onset, offset and label, separated by tabs."""
    return "".join(f"{event.onset:.6f}\t{event.offset:.6f}\t{' '.join(event.label.split())}\n" for event in events)
