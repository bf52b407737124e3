"""The material that the network is trained on: clips with labels, as a `datasets` dataset, made from nothing."""

import shutil
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import soundfile

from tiny import music, samples, speech
from tiny.machines import MACHINES
from tiny.nature import NATURE
from tiny.primitives import RATE, Rng, Sound, band, log_uniform, noise

KINDS = {**NATURE, **MACHINES}
# Not trained on: layers are chosen by how well they tell these apart.
DEVELOPMENT_KINDS = tuple(KINDS)[4::9]
DEVELOPMENT_PROGRAMS = music.PROGRAMS[3::8]
DEVELOPMENT_KEYS = music.PERCUSSION[3::8]
TRAIN, DEVELOPMENT = "train", "development"

CLIPS_PER_PROGRAM = 36
CLIPS_PER_KEY = 24
CLIPS_PER_KIND = 50
CLIPS_PER_LANGUAGE = 32
CLIPS_PER_SAMPLE = 14
CLIPS_OF_DEVELOPMENT = 40  # of each class that is held out
UTTERANCES = 2  # of each held-out word by each held-out voice

DEBIAN_PACKAGES = {
    "fluidsynth": lambda: shutil.which("fluidsynth"),
    "fluid-soundfont-gm": music.SOUNDFONT.exists,
    "espeak-ng": lambda: shutil.which("espeak-ng"),
    "sonic-pi-samples": samples.FOLDER.exists,
}

FEATURES = datasets.Features(
    {
        # As of an Audio feature, whose encoder wants torchcodec.
        "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        "sound": datasets.Value("string"),
        "word": datasets.Value("string"),
        "voice": datasets.Value("string"),
        "source": datasets.Value("string"),
        "split": datasets.Value("string"),
    }
)
# What a clip may be labelled with; a clip has one label of each, or none.
LABEL_COLUMNS = ("sound", "word", "voice")

CARD = """---
license: mit
task_categories: [audio-classification]
pretty_name: Synthesised sounds for a small audio network
---
# Synthesised sounds for a small audio network

{clips:,} mono clips of at most 2.5 s at 16 kHz, which `scripts/train_tiny.py` of
[hf_gar](https://pypi.org/project/hf_gar/) made with the seed {seed}. Nothing in it was recorded for it.

| source | clips | what it is | terms of the source |
| --- | --- | --- | --- |
{sources}

Each clip has the label `sound` (an instrument, a percussion instrument, a kind of synthetic sound, a sample, or a
language) and, where it is a spoken word, `word` and `voice`. The split `development` holds classes, words and voices
that `train` does not have, mixed with noise: it serves to choose among networks and layers. The words are neither
digits nor their homophones.
"""
SOURCES = {
    "fluid-soundfont-gm": ("General MIDI instruments and percussion, rendered with FluidSynth", "MIT"),
    "espeak-ng": ("speech of espeak-ng's own voices (no MBROLA)", "what the program says is not under its licence"),
    "synthetic": ("this project's own generators", "Apache-2.0, as the project"),
    "sonic-pi-samples": ("recordings that come with Sonic Pi", "CC0"),
}


class Job(NamedTuple):
    """Clips that are made together: `make` gives each one's sound, word and voice, and its waveform."""

    name: str
    source: str
    split: str
    make: Callable[[Rng], Iterator[tuple[str, str | None, str | None, Sound]]]


def missing_packages() -> list[str]:
    """The Debian packages that are needed and not there."""
    return [name for name, is_there in DEBIAN_PACKAGES.items() if not is_there()]


def make_material(folder: Path, seed: int, processes: int) -> datasets.Dataset:
    """Make the dataset, with progress, and save it into a folder, with a card."""
    jobs = all_jobs()
    # In another order, so that every process has its share of each kind.
    order = np.random.default_rng(seed).permutation(len(jobs))
    cache = folder.with_name(f"{folder.name}-cache")
    dataset = datasets.Dataset.from_generator(
        clips,
        features=FEATURES,
        gen_kwargs={"numbers": [int(number) for number in order], "seed": seed},
        num_proc=processes,
        cache_dir=str(cache),
    ).cast_column("audio", datasets.Audio(RATE, decode=False))
    dataset.save_to_disk(folder)
    shutil.rmtree(cache)
    sources = "\n".join(
        f"| {name} | {dataset['source'][:].count(name):,} | {what} | {terms} |"
        for name, (what, terms) in SOURCES.items()
    )
    (folder / "README.md").write_text(CARD.format(clips=len(dataset), seed=seed, sources=sources), encoding="utf-8")
    return datasets.load_from_disk(folder)


def clips(numbers: list[int], seed: int) -> Iterator[dict]:
    """The rows of the jobs of these numbers."""
    jobs = all_jobs()
    for number in numbers:
        job = jobs[number]
        rng = np.random.default_rng([seed, zlib.crc32(job.name.encode())])
        for index, (sound, word, voice, waveform) in enumerate(job.make(rng)):
            level = normalise(waveform, rng)
            file = BytesIO()
            soundfile.write(
                file,
                degrade(level, rng) if job.split == DEVELOPMENT else level,
                RATE,
                "PCM_16",
                format="FLAC",
                compression_level=0.0,
            )
            yield {
                "audio": {
                    "bytes": file.getvalue(),
                    "path": f"{job.name.replace(' ', '-').replace('/', '-')}-{index}.flac",
                },
                "sound": sound,
                "word": word,
                "voice": voice,
                "source": job.source,
                "split": job.split,
            }


def normalise(waveform: Sound, rng: Rng) -> Sound:
    """A waveform whose peak lies between -20 and -0.5 dB."""
    return waveform / (np.abs(waveform).max() + 1e-9) * 10 ** (rng.uniform(-20, -0.5) / 20)


def degrade(waveform: Sound, rng: Rng) -> Sound:
    """A waveform with noise, some of them through a narrow band, as recordings are."""
    level = waveform.std() * 10 ** (-rng.uniform(5, 30) / 20)
    noisy = waveform + level * noise(rng, rng.uniform(0, 2), len(waveform))
    if rng.uniform() < 0.3:
        noisy = band(noisy, log_uniform(rng, 50, 300), log_uniform(rng, 2500, 7000))
    return normalise(noisy, rng)


def all_jobs() -> list[Job]:
    """All that there is to make."""
    jobs = []
    for program, name in enumerate(music.PROGRAMS):
        split = DEVELOPMENT if name in DEVELOPMENT_PROGRAMS else TRAIN
        count = CLIPS_OF_DEVELOPMENT if split == DEVELOPMENT else CLIPS_PER_PROGRAM
        make = partial(music.render_program, program, count)
        jobs.append(
            Job(f"instrument {name}", "fluid-soundfont-gm", split, partial(rendered, f"instrument: {name}", make))
        )
    for key, name in enumerate(music.PERCUSSION):
        split = DEVELOPMENT if name in DEVELOPMENT_KEYS else TRAIN
        count = CLIPS_OF_DEVELOPMENT if split == DEVELOPMENT else CLIPS_PER_KEY
        make = partial(music.render_percussion, key, count)
        jobs.append(
            Job(f"percussion {name}", "fluid-soundfont-gm", split, partial(rendered, f"percussion: {name}", make))
        )
    for name in KINDS:
        split = DEVELOPMENT if name in DEVELOPMENT_KINDS else TRAIN
        jobs.append(Job(f"synthetic {name}", "synthetic", split, partial(synthetic, name, split)))
    for name in samples.sample_names():
        jobs.append(Job(f"sample {name}", "sonic-pi-samples", TRAIN, partial(sampled, name)))
    for language in speech.LANGUAGES:
        jobs.append(Job(f"language {language}", "espeak-ng", TRAIN, partial(phrases, language)))
    for voice in speech.VARIANTS:
        split = DEVELOPMENT if voice in speech.DEVELOPMENT_VARIANTS else TRAIN
        jobs.append(Job(f"voice {voice}", "espeak-ng", split, partial(words, voice, split)))
    return jobs


Labelled = Iterator[tuple[str, str | None, str | None, Sound]]


def rendered(label: str, make: Callable[[Rng], Iterator[Sound]], rng: Rng) -> Labelled:
    """Clips that FluidSynth renders; those that are silent, for want of such a note, are left out."""
    for waveform in make(rng):
        if waveform.std() > 1e-5:
            yield label, None, None, waveform


def synthetic(kind: str, split: str, rng: Rng) -> Labelled:
    """Clips of a kind of synthetic sound."""
    for _ in range(CLIPS_OF_DEVELOPMENT if split == DEVELOPMENT else CLIPS_PER_KIND):
        yield f"synthetic: {kind}", None, None, KINDS[kind](rng)


def sampled(name: str, rng: Rng) -> Labelled:
    """Clips of a recording."""
    for _ in range(CLIPS_PER_SAMPLE):
        yield f"sample: {name.replace('_', ' ')}", None, None, samples.play(name, rng)


def phrases(language: str, rng: Rng) -> Labelled:
    """Meaningless phrases in a language, by voices that are trained on."""
    voices = [voice for voice in speech.VARIANTS if voice not in speech.DEVELOPMENT_VARIANTS]
    for _ in range(CLIPS_PER_LANGUAGE):
        voice = str(rng.choice(voices))
        yield f"language: {language}", None, voice, speech.say(rng, speech.phrase(rng), f"{language}+{voice}")


def words(voice: str, split: str, rng: Rng) -> Labelled:
    """Words by a voice, in any accent."""
    spoken = speech.DEVELOPMENT_WORDS * UTTERANCES if split == DEVELOPMENT else speech.WORDS
    for word in spoken:
        accent = str(rng.choice(speech.ACCENTS))
        yield f"language: {accent}", word, voice, speech.say(rng, word, f"{accent}+{voice}")
