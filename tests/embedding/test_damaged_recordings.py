"""A job over a hundred damaged files among good ones: every good one embedded, every bad one named, no crash."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_gar.embedding.jobs.results import read_job
from hf_gar.models.audio_loading import load_audio
from tests.conftest import embed_job, save_tiny, tone

FORMATS = ("wav", "flac", "ogg", "mp3", "aiff")


def write_unusual(folder: Path) -> list[str]:
    """Recordings that are unusual, not damaged; returns their names."""
    short = tone(1.5)
    soundfile.write(folder / "ten_channels.wav", np.stack([short * gain for gain in np.linspace(0.1, 1, 10)], 1), 16000)
    soundfile.write(folder / "192_khz.flac", tone(1.5, 192000), 192000)
    soundfile.write(folder / "24_bit.wav", short, 16000, subtype="PCM_24")
    soundfile.write(folder / "one_sample.wav", short[:1], 16000)
    soundfile.write(folder / "8_bit_4_khz.wav", tone(1.5, 4000), 4000, subtype="PCM_U8")
    soundfile.write(folder / "silence.wav", np.zeros(16000), 16000)
    with soundfile.SoundFile(folder / "two_hours.wav", "w", 8000, 1, "PCM_U8") as file:
        for minute in range(120):
            file.write(0.3 * tone(60, 8000, seed=minute))
    return [path.name for path in folder.iterdir()]


def damage(content: bytes, kind: str, chance: random.Random) -> bytes:
    if kind == "truncated":
        return content[: int(len(content) * chance.uniform(0.05, 0.9))]
    if kind == "header":
        return bytes(chance.randrange(256) for _ in range(64)) + content[64:]
    if kind == "empty":
        return b""
    if kind == "text":
        return b"<html>404 Not Found</html>\n" * 50
    flipped = bytearray(content)  # a thousandth of the bits after the header
    for _ in range(len(content) * 8 // 1000):
        flipped[chance.randrange(len(content) // 4, len(content))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


@pytest.mark.timeout(600)
def test_damaged_files_among_good_ones(tmp_path):
    repository = save_tiny("vggish-fusion", tmp_path / "model")
    folder = tmp_path / "recordings"
    folder.mkdir()
    good = write_unusual(folder)
    chance = random.Random(0)
    damaged = {}
    for index in range(100):
        suffix = FORMATS[index % 5]
        kind = ("truncated", "flipped", "header", "empty", "text")[index // 20]
        path = folder / f"{kind}_{index}.{suffix}"
        soundfile.write(path, 0.5 * tone(2, seed=index), 16000)
        if index % 5 == 0:  # as many whole ones
            whole = folder / f"whole_{index}.{suffix}"
            whole.write_bytes(path.read_bytes())
            good.append(whole.name)
        path.write_bytes(damage(path.read_bytes(), kind, chance))
        damaged[path.name] = kind
    status = embed_job([folder], repository, tmp_path / "out", num_shards=4)

    errors = {error["file"]: error["reason"] for error in map(json.loads, (tmp_path / "out" / "errors.jsonl").open())}
    results = read_job(tmp_path / "out")
    embedded = set(results.rows["file_name"])
    assert len(embedded) + len(errors) == len(good) + len(damaged) == status.done + status.failed
    assert set(good) <= embedded
    assert np.isfinite(results.embeddings).all()
    assert all(name in reason for name, reason in errors.items())
    # What nothing of the recording is left of, and what ends before its time, is an error.
    named = {name for name, kind in damaged.items() if kind in ("truncated", "empty", "text")}
    assert named <= set(errors)
    # Flipped bits and a broken header are errors where the format can tell. Where it cannot, as in plain samples, the
    # samples are what the decoder says they are.
    for name in embedded & set(damaged):
        assert np.isfinite(load_audio(folder / name, 16000)).all()
    assert not {name for name in embedded & set(damaged) if name.endswith(".flac")}  # it has checksums
    print(f"{len(good)} good and {len(damaged)} damaged: {len(embedded)} embedded, {len(errors)} named")
