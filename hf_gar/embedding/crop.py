"""The pieces of recordings that are embedded in place of the whole ones."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Crop:
    """Cut or zero-pad every recording to one length (paper, section IV: at random in training, else the beginning).

    Args:
        seconds: The length.
        random_split: Recordings whose column "split" says this are cut at a random place, which depends on their
            file's name and `seed` alone; all others from their beginning.
        seed: Of the random places.
    """

    seconds: float
    random_split: str = "train"
    seed: int = 42

    def __post_init__(self):
        if not self.seconds > 0:
            raise ValueError(f"A crop has to be longer than 0 seconds, not {self.seconds!r}.")

    def apply(self, waveform: np.ndarray, sampling_rate: int, split: str | None, name: str) -> np.ndarray:
        """The piece of a waveform (sample,) that is embedded, (seconds * sampling_rate,)."""
        length = max(1, round(self.seconds * sampling_rate))
        surplus = len(waveform) - length
        if surplus <= 0:
            return np.pad(waveform, (0, -surplus))
        start = 0
        if split == self.random_split:
            digest = hashlib.sha256(f"{self.seed}:{Path(name).name}".encode()).digest()
            start = int.from_bytes(digest[:8], "big") % (surplus + 1)
        return waveform[start : start + length]


FIRST_HALF, SECOND_HALF = "first half", "second half"


@dataclass(frozen=True)
class Halves(Crop):
    """Take a half of every recording, `seconds` of it at most, from its beginning.

    Its row's column "split" says which: `FIRST_HALF` or `SECOND_HALF`.
    """

    seconds: float = 10.0

    def apply(self, waveform: np.ndarray, sampling_rate: int, split: str | None, name: str) -> np.ndarray:
        middle = len(waveform) // 2
        half = waveform[:middle] if split == FIRST_HALF else waveform[middle:]
        return half[: max(1, round(self.seconds * sampling_rate))]
