"""Speech of espeak-ng: words by many voices, and meaningless phrases in many languages."""

import subprocess

import numpy as np
import soxr

from tiny.primitives import RATE, SECONDS, Rng, Sound

# Neither digits nor words that sound like one.
_WORDS = """
    apple garden river mountain window yellow purple orange silver copper paper pencil table chair kitchen bottle
    water coffee sugar butter bread cheese chicken rabbit tiger monkey dolphin eagle spider flower forest desert
    island ocean thunder winter summer spring autumn morning evening midnight Monday Friday Sunday January August
    music guitar piano violin trumpet drum dance theatre school teacher doctor nurse farmer soldier captain pilot
    king queen mother father sister brother baby happy angry hungry tired quiet loud quick slow heavy light strong
    weak open close start stop left right up down yes no go come run jump walk swim sleep dream think speak listen
    read write house door street bridge tower castle village city market church north south east west big small
    cold hot
"""
WORDS = tuple(_WORDS.split())
# Neither are these, which the network is not trained on: they are for choosing layers.
_DEVELOPMENT_WORDS = (
    "bird book cake dog fish leaf moon rain sheep shoe sun tree voice wolf bed cat car snow wheel marble"
)
DEVELOPMENT_WORDS = tuple(_DEVELOPMENT_WORDS.split())
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
_VARIANTS = """
    m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 croak whisper whisperf klatt klatt2 klatt3 klatt4 Alex Alicia Andrea
    Andy Annie AnxiousAndy Demonic Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike Mr
    Nguyen RicishayMax RicishayMax3 Storm Tweaky UniRobot adam anika announcer antonio aunty belinda benjamin boris
    caleb david ed edward2 grandma grandpa gustave iven iven3 john kaukovalta linda marcelo max michel miguel
    norbert pablo paul pedro quincy rob robert robosoft robosoft4 sandro shelby steph steph3 travis victor zac
"""
VARIANTS = tuple(_VARIANTS.split())
DEVELOPMENT_VARIANTS = VARIANTS[3::6]
_LANGUAGES = """
    af am an ar az ba be bg bn bs ca cmn cs cv cy da de el eo es es-419 et eu fa fi fr-be fr-fr ga gd gn grc gu hak
    haw he hi hr ht hu hy ia id is it ja jbo ka kk kl kn ko kok ku ky la lb lfn lt lv mi mk ml mr ms mt my nci ne
    nl nb om pa pap pl pt pt-br py quc ro ru sd shn si sk sl sq sr sv sw ta te tk tn tr tt ug uk ur uz vi yue
"""
LANGUAGES = tuple(_LANGUAGES.split())
CONSONANTS = ("p", "b", "t", "d", "k", "g", "m", "n", "f", "s", "l", "r", "z", "v", "j", "w", "S", "h")
VOWELS = ("a", "e", "i", "o", "u")


def say(rng: Rng, text: str, voice: str) -> Sound:
    """What espeak-ng says at a random speed and pitch, without the silence around it, of at most `SECONDS`."""
    options = ["-s", str(rng.integers(110, 220)), "-p", str(rng.integers(15, 85)), "-a", "100"]
    spoken = subprocess.run(
        ["espeak-ng", "-v", voice, *options, "--stdout", text], check=True, capture_output=True
    ).stdout
    # Written as a stream: the length in the header is not that of the data.
    sound = np.frombuffer(spoken[44:], "<i2") / 32768
    rate = int.from_bytes(spoken[24:28], "little")
    loud = np.flatnonzero(np.abs(sound) > 0.003)
    if not len(loud):
        raise ValueError(f"espeak-ng said nothing for {text!r} with the voice {voice}.")
    return soxr.resample(sound[loud[0] : loud[-1] + 1], rate, RATE)[: int(SECONDS * RATE)]


def phrase(rng: Rng) -> str:
    """Random syllables, as espeak-ng's phonemes."""

    def word() -> str:
        return "'" + "".join(
            rng.choice(CONSONANTS) + rng.choice(VOWELS) + (rng.choice(CONSONANTS) if rng.uniform() < 0.25 else "")
            for _ in range(rng.integers(1, 4))
        )

    return f"[[{' '.join(word() for _ in range(rng.integers(2, 6)))}]]"
