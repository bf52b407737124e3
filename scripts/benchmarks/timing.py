"""Figures that can be compared: what is compared takes turns, and medians are what counts."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch


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
    """The speed of each run of so many clips; they take turns, so that none has a busier machine than the others."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for repetition in range(1 + repetitions):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                if repetition:  # the first one warms up
                    seconds[name].append(time.perf_counter() - began)
    speeds = {name: clips / np.array(each) for name, each in seconds.items()}
    return {name: Speed(float(np.median(each)), float(each.min()), float(each.max())) for name, each in speeds.items()}
