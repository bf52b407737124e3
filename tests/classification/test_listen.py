"""`hf-gar listen`: what comes on standard input, labelled while it comes."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from hf_gar import StreamingEmbedder, StreamingTagger, load_audio
from hf_gar.tiny import RECORDINGS


def samples_of(name: str) -> np.ndarray:
    """A recording's samples as 16-bit integers."""
    return np.round(load_audio(RECORDINGS / f"{name}.ogg", 16000) * 32767).astype("<i2")


SAMPLES = np.concatenate([samples_of("rain-1"), samples_of("bell-1"), samples_of("voice-1")])


def wav(samples: np.ndarray, rate: int = 16000, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.fixture
def listen(run_here, monkeypatch):
    def run(data: bytes, *options) -> tuple[int, list[dict], str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
        code, printed, errors = run_here("listen", "--json", "--dtype", "float32", *options)
        return code, [json.loads(line) for line in printed.splitlines()], errors

    return run


def labels_of(samples: np.ndarray, **options) -> list[dict]:
    tagger = StreamingTagger(dtype="float32", **options)
    return [window._asdict() for window in [*tagger.push(samples), *tagger.finish()]]


def assert_alike(found: list[dict], expected: list[dict]) -> None:
    assert [(each["start"], each["stop"]) for each in found] == [(each["start"], each["stop"]) for each in expected]
    for each, other in zip(found, expected, strict=True):
        scores = [prediction["score"] for prediction in other["predictions"]]
        assert [prediction["label"] for prediction in each["predictions"]] == [
            prediction["label"] for prediction in other["predictions"]
        ]
        np.testing.assert_allclose([prediction["score"] for prediction in each["predictions"]], scores, atol=1e-5)


def test_wav_and_samples_without_a_header(listen):
    waveform = SAMPLES.astype(np.float32) / 32768
    expected = labels_of(waveform)
    assert len(expected) > 3
    endless = bytearray(wav(SAMPLES))
    endless[40:44] = (0x80000000).to_bytes(4, "little")  # the size of the samples, as arecord writes it to a pipe
    for data in (wav(SAMPLES), bytes(endless), SAMPLES.tobytes()):
        code, found, errors = listen(data)
        assert code == 0, errors
        assert_alike(found, expected)
    with_comment = wav(SAMPLES) + b"LIST\x10\0\0\0" + bytes(16)  # after the samples
    assert_alike(listen(with_comment)[1], expected)


def test_another_rate_two_channels_and_options(listen):
    stereo = np.stack([SAMPLES, SAMPLES // 2], axis=1)
    options = {"top_k": 1, "threshold": 0.1, "window_s": 1.5, "hop_s": 1.5}
    flags = [each for name, value in options.items() for each in (f"--{name.replace('_', '-')}", value)]
    mono = stereo.mean(axis=1, dtype=np.float32) / 32768
    expected = labels_of(mono, sampling_rate=22050, **options)
    assert_alike(listen(wav(stereo, 22050), *flags)[1], expected)
    assert_alike(listen(stereo.tobytes(), "--rate", 22050, "--channels", 2, *flags)[1], expected)


def test_frames(listen):
    embedder = StreamingEmbedder(dtype="float32")
    waveform = SAMPLES.astype(np.float32) / 32768
    expected = [embedder.push(waveform), embedder.finish()]
    _, found, _ = listen(wav(SAMPLES), "--frames")
    np.testing.assert_allclose([each["time"] for each in found], np.concatenate([each.times for each in expected]))
    frames = np.concatenate([each.embeddings for each in expected])
    np.testing.assert_allclose([each["embedding"] for each in found], frames, atol=1e-5 * np.abs(frames).max())


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (wav(SAMPLES, subtype="PCM_24"), [], "samples of 24 bits, expected 16. Use arecord -f S16_LE"),
        (wav(SAMPLES, subtype="FLOAT"), [], "not a WAV file of 16-bit samples"),
        (b"RIFF", [], "not a WAV file of 16-bit samples"),
        (b"", ["--frames", "--top-k", 1], "the options of labels go without it"),
        (b"", ["--label", "no such"], "The model has no label 'no such'"),
    ],
)
def test_what_it_does_not_take(listen, data, options, message):
    code, _, errors = listen(data, *options)
    assert code == 1
    assert message in errors


def test_a_label_is_out_while_the_sound_goes_on():
    command = [sys.executable, "-m", "hf_gar", "listen", "--quiet", "--top-k", "1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False)
    with process:
        process.stdin.write(SAMPLES[: 2 * 16000].tobytes())
        process.stdin.flush()
        first = process.stdout.readline().decode()  # standard input is still open
        process.stdin.write(SAMPLES[2 * 16000 : 3 * 16000].tobytes())
        rest, _ = process.communicate()
    assert process.returncode == 0
    assert first.startswith("    0.00-2.00 s  ")
    assert "rain" in first
    assert rest.decode().startswith("    1.00-3.00 s  ")
