"""Make the recordings of the demonstration: three each of eight kinds of sounds, which come with the package.

    python scripts/make_demo_recordings.py

It needs the Debian packages fluidsynth, fluid-soundfont-gm and espeak-ng. The small network has heard other sounds of
these kinds, but not these.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import soundfile
from tiny import machines, music, nature, speech
from tiny.material import missing_packages, normalise
from tiny.primitives import RATE

from hf_gar.tiny import RECORDINGS

SEED = 20_250
OF_EACH = 3


def instrument(name: str, rng: np.random.Generator) -> np.ndarray:
    """A phrase of an instrument of General MIDI."""
    (clip,) = music.render_program(music.PROGRAMS.index(name), 1, rng)
    return clip


def drum(rng: np.random.Generator) -> np.ndarray:
    """A few strokes of a snare drum."""
    (clip,) = music.render_percussion(music.PERCUSSION.index("acoustic snare"), 1, rng)
    return clip


def voice(rng: np.random.Generator) -> np.ndarray:
    """A few words of some voice."""
    words = rng.choice(speech.DEVELOPMENT_WORDS, 4, replace=False)
    return speech.say(rng, " ".join(words), f"en-gb+{rng.choice(speech.DEVELOPMENT_VARIANTS)}")


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "piano": partial(instrument, "acoustic grand piano"),
    "violin": partial(instrument, "violin"),
    "drum": drum,
    "voice": voice,
    "rain": nature.rain,
    "birds": nature.chirping_bird,
    "engine": machines.idling,
    "bell": machines.bell,
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    missing = missing_packages()
    if missing:
        sys.exit(f"Missing Debian packages. Install them and try again: apt-get install {' '.join(missing)}")
    shutil.rmtree(RECORDINGS, ignore_errors=True)
    RECORDINGS.mkdir()
    rng = np.random.default_rng(SEED)
    rows = ["file_name,label"]
    for kind, make in KINDS.items():
        for number in range(1, OF_EACH + 1):
            rows.append(f"{kind}-{number}.ogg,{kind}")
            path = RECORDINGS / f"{kind}-{number}.ogg"
            soundfile.write(path, normalise(make(rng), rng), RATE, format="OGG", subtype="VORBIS")
    (RECORDINGS / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in RECORDINGS.iterdir())
    print(f"{len(KINDS) * OF_EACH} recordings, {size / 1e3:.0f} kB, in {RECORDINGS}.")


if __name__ == "__main__":
    main()
