"""The network that comes with the package hears: what sounds alike is near, and what changes little moves little."""

import json

import numpy as np
import pytest

from hf_gar import AudioEmbedder, AudioTagger, load_audio, read_job
from hf_gar.hub.load import find_repository
from hf_gar.tiny import FOLDER, RECORDINGS, TINY

RATE = 16000


@pytest.fixture(scope="module")
def embedder() -> AudioEmbedder:
    return AudioEmbedder(dtype="float32")


@pytest.fixture(scope="module")
def clips() -> dict[str, np.ndarray]:
    return {path.stem: load_audio(path, RATE) for path in sorted(RECORDINGS.glob("*.ogg"))}


@pytest.fixture(scope="module")
def embeddings(embedder, clips) -> np.ndarray:
    return embed(embedder, clips.values())


def embed(embedder, clips) -> np.ndarray:
    return np.stack([embedding.clip for embedding in embedder.embed(list(clips))])


def similarities(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The cosine similarities of embeddings that are standardised by the known ones, (found, known)."""
    mean, std = known.mean(axis=0), known.std(axis=0) + 1e-6
    unit = [(each - mean) / std for each in (found, known)]
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in unit]
    return unit[0] @ unit[1].T


def test_the_nearest_recording_is_of_the_same_kind(clips, embeddings):
    kinds = np.array([name.split("-")[0] for name in clips])
    near = similarities(embeddings, embeddings)
    np.fill_diagonal(near, -1)
    hits = (kinds[near.argmax(axis=1)] == kinds).mean()
    assert hits > 2 / 3  # by chance 2 of 23


def gain(clip: np.ndarray) -> np.ndarray:
    return clip / 2


def shift(clip: np.ndarray) -> np.ndarray:
    return np.roll(clip, RATE // 20)


def noise(clip: np.ndarray) -> np.ndarray:
    """At 30 dB below the recording."""
    return clip + np.random.default_rng(0).normal(size=len(clip)).astype(np.float32) * clip.std() * 10 ** (-30 / 20)


@pytest.mark.parametrize("change", [gain, shift, noise])
def test_a_small_change_is_nearer_than_another_sound(embedder, clips, embeddings, change):
    changed = embed(embedder, [change(clip) for clip in clips.values()])
    near = similarities(changed, embeddings)
    # Noise fills digital silence, as between the strokes of a drum, which is no small change.
    assert (near.argmax(axis=1) == np.arange(len(clips))).mean() > 0.9


def test_it_names_what_it_hears(clips):
    # Of 546 labels, some are as good as these: hence five of them, and not for every recording.
    words = {
        "bell": "bell", "birds": "bird", "drum": "drum", "engine": "idling", "piano": "piano", "rain": "rain",
        "violin": "violin", "voice": "language: en",
    }  # fmt: skip
    found = AudioTagger(dtype="float32", top_k=5).tag(list(clips.values()))
    hits = [
        any(words[name.split("-")[0]] in tag["label"] for tag in tags.predictions)
        for name, tags in zip(clips, found, strict=True)
    ]
    assert np.mean(hits) > 2 / 3


def test_it_is_small_and_in_the_package():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000
    assert sum(path.stat().st_size for path in RECORDINGS.iterdir()) < 1_000_000
    repository = find_repository(TINY)
    assert (repository.folder, repository.revision) == (FOLDER, None)
    config = repository.load_config()
    assert len(config.id2label) == len(set(config.id2label.values())) > 100


def test_it_is_the_default(run_here, tmp_path):
    code, _, errors = run_here("embed", RECORDINGS, "--output", tmp_path / "job", "--limit", 2)
    assert code == 0, errors
    assert f"using {TINY}, the small network of this package" in errors
    assert "hf-gar export cnn14-fusion --checkpoint official" in errors
    assert json.loads((tmp_path / "job" / "job.json").read_text())["model"] == TINY
    named = run_here("embed", RECORDINGS, "--output", tmp_path / "named", "--limit", 2, "--model", TINY)
    assert "using" not in named[2]
    assert np.array_equal(read_job(tmp_path / "job").embeddings, read_job(tmp_path / "named").embeddings)
    assert run_here("embed", RECORDINGS, "--output", tmp_path / "quiet", "--limit", 1, "--quiet")[2] == ""
