"""Damaged files of four formats: each is an error, or what is read is what an independent decoder, FFmpeg, reads.

Run with `pytest -m slow tests/models/test_damaged_files.py`; it takes FFmpeg (Debian: `apt-get install ffmpeg`).
"""

import io
import json
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.signal
import soundfile

from hf_gar.models.audio_loading import MPEG_PADDING, AudioError, open_recording
from tests.conftest import real_folder

FILES = 500
TOLERANCE = 1e-3
ENCODINGS = (
    ("wav", "PCM_16"),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("mp3", "MPEG_LAYER_III"),
    ("wav", "FLOAT"),
    ("flac", "PCM_24"),
    ("ogg", "OPUS"),
    ("mp3", "MPEG_LAYER_III"),
)


def flip(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 3, 20, 200])):
        damaged[place(content, chance)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def place(content: bytes, chance: random.Random, length: int = 1) -> int:
    """Where to damage so many bytes: of three times, once in the header."""
    end = max(1, len(content) - length)
    return chance.randrange(min(256, end) if chance.random() < 1 / 3 else end)


def overwrite(content: bytes, chance: random.Random) -> bytes:
    length = chance.choice([1, 20, 200])
    start = place(content, chance, length)
    return content[:start] + chance.randbytes(length) + content[start + length :]


def zero(content: bytes, chance: random.Random) -> bytes:
    length = chance.choice([1, 200, 2000])
    start = place(content, chance, length)
    return content[:start] + bytes(length) + content[start + length :]


def drop(content: bytes, chance: random.Random) -> bytes:
    length = chance.choice([1, 200, 2000])
    start = place(content, chance, length)
    return content[:start] + content[start + length :]


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(1, len(content))]


def join(content: bytes, chance: random.Random) -> bytes:
    return content + content


def append(content: bytes, chance: random.Random) -> bytes:
    return content + chance.randbytes(chance.choice([1, 100, 5000]))


def leave(content: bytes, chance: random.Random) -> bytes:
    return content


DAMAGES = (flip, overwrite, zero, drop, cut, join, append, leave)


def read_with_ffmpeg(path) -> tuple[np.ndarray, int | None]:
    """The samples (sample,) in float32, channels averaged, and the rate in Hz."""
    probed = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "a:0", "-show_streams", "-of", "json", path],
        capture_output=True,
        check=False,
    )
    streams = json.loads(probed.stdout or b"{}").get("streams") or [{}]
    channels, rate = int(streams[0].get("channels", 1)), int(streams[0].get("sample_rate", 0))
    # FFmpeg's own decoder of Opus differs from the reference implementation by more than the tolerance.
    is_opus = streams[0].get("codec_name") == "opus"
    decoder = ["-c:a", "libopus", "-request_sample_fmt", "flt"] if is_opus else []
    decoded = subprocess.run(
        ["ffmpeg", "-v", "error", *decoder, "-i", path, "-map", "0:a:0", "-f", "f32le", "-c:a", "pcm_f32le", "-"],
        capture_output=True,
        check=False,
    )
    samples = np.frombuffer(decoded.stdout[: len(decoded.stdout) // (4 * channels) * 4 * channels], np.float32)
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float32), rate


def read(path) -> tuple[np.ndarray, int] | AudioError:
    """The samples (sample,) and the rate in Hz as hf_gar reads them, or its error."""
    try:
        recording = open_recording(path)
        return np.concatenate([np.empty(0, np.float32), *recording.blocks]), recording.sampling_rate
    except AudioError as error:
        return error


def differences(
    name: str, found: np.ndarray, rate: int, expected: np.ndarray, expected_rate: int | None
) -> Iterator[str]:
    """What is other than FFmpeg has it; both waveforms are (sample,)."""
    is_mp3 = name.endswith(".mp3")
    if is_mp3 and len(expected):
        # Decoders leave out more or less of the padding that the encoder adds before and after.
        lags = np.arange(1 - len(expected), len(found))
        lag = lags[scipy.signal.correlate(found, expected).argmax()]
        if abs(lag) <= MPEG_PADDING:
            found, expected = found[max(0, lag) :], expected[max(0, -lag) :]
    if rate != expected_rate or abs(len(found) - len(expected)) > (MPEG_PADDING if is_mp3 else 0):
        yield f"{name}: {len(found)} samples at {rate} Hz; FFmpeg has {len(expected)} at {expected_rate} Hz"
        return
    shorter = min(len(found), len(expected))
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(found[:shorter] - expected[:shorter]).max(initial=0)
    if not difference <= TOLERANCE * max(1, np.abs(found).max(initial=0)):
        yield f"{name}: differs by {difference:.2g} from what FFmpeg has"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_damaged_file_is_an_error_or_read_as_ffmpeg_reads_it(tmp_path, capfd):
    if not shutil.which("ffmpeg"):
        pytest.skip("FFmpeg is not here")
    clips = sorted((real_folder("esc10") / "audio").glob("*.ogg"))
    chance = random.Random(0)
    outcomes: Counter = Counter()
    wrong = []
    for index in range(FILES):
        suffix, subtype = ENCODINGS[index % len(ENCODINGS)]
        samples, rate = soundfile.read(clips[7 * index % len(clips)], dtype="float32")
        rate = 48000 if subtype == "OPUS" else rate
        samples = samples[chance.randrange(len(samples) // 2) :][: 2 * rate]
        if chance.random() < 0.3:
            samples = np.stack([samples, 0.5 * samples[::-1]], axis=1)
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format=suffix, subtype=subtype)
        damage = DAMAGES[index // len(ENCODINGS) % len(DAMAGES)]
        path = tmp_path / f"{index}_{damage.__name__}.{suffix}"
        path.write_bytes(damage(buffer.getvalue(), chance))
        outcome = read(path)
        if isinstance(outcome, AudioError):
            outcomes[suffix, damage.__name__, "error"] += 1
            if path.name not in str(outcome) or damage is leave:
                wrong.append(f"{path.name}: {outcome}")
            continue
        outcomes[suffix, damage.__name__, "read"] += 1
        wrong += differences(path.name, *outcome, *read_with_ffmpeg(path))
    with capfd.disabled():
        for outcome, count in sorted(outcomes.items()):
            print(*outcome, count)
    assert not wrong, "\n".join(wrong)
    assert "mpg123" not in capfd.readouterr().err
