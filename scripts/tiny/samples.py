"""The recordings of Debian's sonic-pi-samples, all of them in the public domain (CC0)."""

from pathlib import Path

import numpy as np
import soundfile
import soxr

from tiny.primitives import RATE, SECONDS, Rng, Sound

FOLDER = Path("/usr/share/sonic-pi/samples")


def sample_names() -> list[str]:
    """The names of the recordings, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.flac"))


def play(name: str, rng: Rng) -> Sound:
    """A piece of a recording, played up to a third faster or slower."""
    stereo, rate = soundfile.read(FOLDER / f"{name}.flac", dtype="float32", always_2d=True)
    longest = int(SECONDS * rate * 1.4)
    begin = int(rng.integers(0, max(1, len(stereo) - longest // 2)))
    piece = stereo[begin : begin + longest].mean(1)
    if np.abs(piece).max() < 1e-3:  # the silence at the end of a few
        piece = stereo[:longest].mean(1)
    return soxr.resample(piece, rate * rng.uniform(0.75, 1.33), RATE)[: int(SECONDS * RATE)]
