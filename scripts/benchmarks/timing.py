"""Figures that can be compared: what is compared takes turns, and medians are what counts."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hf_gar.backends.accuracy import time_in_turns


class Speed(NamedTuple):
    """Clips a second: the median of the repetitions, the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @staticmethod
    def shorten(speed: float) -> str:
        """Three digits or so."""
        return f"{speed:.{0 if speed >= 100 else 1 if speed >= 10 else 2}f}"

    def __str__(self) -> str:
        median, lowest, highest = map(self.shorten, self)
        return f"{median} ({lowest} to {highest})"


def take_turns(runs: Mapping[str, Callable[[], Any]], clips: int, repetitions: int) -> dict[str, Speed]:
    """The speed of each run of so many clips, which take turns."""
    speeds = {name: clips / seconds for name, seconds in time_in_turns(runs, repetitions).items()}
    return {name: Speed(float(np.median(each)), float(each.min()), float(each.max())) for name, each in speeds.items()}
