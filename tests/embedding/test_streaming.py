"""Audio as it comes: blocks of any size give the frames of the whole recording, each as soon as it is final."""

from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import soundfile
import torch

from hf_gar import AudioEmbedder, AudioError, StreamingEmbedder
from tests.conftest import build_tiny, build_tiny_extractor, relative_error, tone

EXACT = ["vggish-fusion", "cnn14-fusion"]


def blocks_of(waveform: np.ndarray, shortest: float = 0.007, longest: float = 3.0, rate: int = 16000) -> Iterator:
    """A recording in blocks of `shortest` to `longest` seconds, in no order."""
    generator = np.random.default_rng(0)
    start = 0
    while start < len(waveform):
        seconds = np.exp(generator.uniform(np.log(shortest), np.log(longest)))
        yield waveform[start : start + round(seconds * rate)]
        start += round(seconds * rate)


def stream(embedder: StreamingEmbedder, blocks: Iterator) -> tuple[np.ndarray, np.ndarray]:
    """All frames of a stream, and their times."""
    pieces = [embedder.push(block) for block in blocks]
    pieces.append(embedder.finish())
    return np.concatenate([piece.embeddings for piece in pieces]), np.concatenate([piece.times for piece in pieces])


def job_of(model, extractor, recording):
    (expected,) = AudioEmbedder(model, extractor, with_frames=True).embed([recording])
    return expected


# Within the first frame, at a patch's and a frame's border, and more than two chunks of any of the small models.
@pytest.mark.parametrize("samples", [1, 15_600, 15_840, 20_480, 92_161, 500_000])
def test_blocks_give_the_frames_of_the_whole(model, extractor, samples):
    waveform = tone(samples / 16000)
    expected = job_of(model, extractor, waveform)
    embedder = StreamingEmbedder(model, extractor)
    for _ in range(2):  # one stream after the other
        found, times = stream(embedder, blocks_of(waveform))
        assert relative_error(found, expected.frames) < 1e-5
        np.testing.assert_allclose(times, expected.frame_times, atol=1e-9)


@pytest.mark.parametrize("kind", EXACT)
def test_the_frames_of_one_pass(kind):
    model, extractor = build_tiny(kind), build_tiny_extractor(kind)
    waveform = tone(30)
    with torch.no_grad():
        whole = model(**extractor(waveform, sampling_rate=16000, return_tensors="pt")).last_hidden_state[0]
    found, _ = stream(StreamingEmbedder(model, extractor), blocks_of(waveform))
    assert relative_error(found, whole) < 1e-5


def test_other_rates_and_channels(model, extractor):
    waveform = np.stack([tone(5, 44100), tone(5, 44100, seed=1)])
    expected = job_of(model, extractor, {"array": waveform, "sampling_rate": 44100})
    embedder = StreamingEmbedder(model, extractor, sampling_rate=44100)
    found, times = stream(embedder, (waveform[:, start : start + 700] for start in range(0, waveform.shape[1], 700)))
    assert relative_error(found, expected.frames) < 1e-5
    np.testing.assert_allclose(times, expected.frame_times, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "latency_s"), [("vggish-fusion", 0.975), ("cnn14-fusion", 1.6), ("ast-fusion", 12.015)]
)
def test_a_frame_is_out_when_it_is_said_to_be(kind, latency_s):
    """After so many seconds, and not 10 ms before."""
    embedder = StreamingEmbedder(build_tiny(kind), build_tiny_extractor(kind))
    assert embedder.latency_s == pytest.approx(latency_s)
    waveform, needed = tone(30), round(latency_s * 16000)
    assert len(embedder.push(waveform[: needed - 160]).times) == 0
    first = embedder.push(waveform[needed - 160 : needed])
    assert len(first.times) == embedder.feature_extractor.stream_frames
    assert first.times[0] < latency_s
    # From then on, one group of frames after the other.
    group = embedder.feature_extractor.stream_frames * embedder.feature_extractor.frame_samples
    assert len(embedder.push(waveform[needed : needed + group - 1]).times) == 0
    assert len(embedder.push(waveform[needed + group - 1 : needed + group]).times) == len(first.times)


def test_bad_blocks_are_refused():
    embedder = StreamingEmbedder(build_tiny("cnn14-fusion"), build_tiny_extractor("cnn14-fusion"))
    for block, message in [
        (np.array([0.1, np.nan], np.float32), "the stream has 1 samples that are NaN or infinite"),
        (np.zeros(160, np.int16), "integers"),
        (np.zeros((160, 1), np.float32), "Transpose"),
    ]:
        with pytest.raises(AudioError, match=message):
            embedder.push(block)
    assert embedder.finish().embeddings.shape == (0, 48)  # nothing came


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXACT)
def test_ten_minutes(kind, tmp_path):
    """The frames of a job, from blocks of 7 ms to 3 s, in memory that does not grow with the stream."""
    model, extractor = build_tiny(kind), build_tiny_extractor(kind)
    waveform = np.tile(tone(60), 10)
    soundfile.write(tmp_path / "long.wav", waveform, 16000, subtype="FLOAT")
    expected = job_of(model, extractor, str(tmp_path / "long.wav"))
    embedder, process = StreamingEmbedder(model, extractor), psutil.Process()
    found, memory = np.empty_like(expected.frames), {}
    done = pushed = 0
    for block in [*blocks_of(waveform), None]:
        frames = (embedder.finish() if block is None else embedder.push(block)).embeddings
        found[done : done + len(frames)] = frames
        done += len(frames)
        pushed += 0 if block is None else len(block)
        memory.setdefault(pushed // (60 * 16000), process.memory_info().rss)
    assert done == len(found)
    assert relative_error(found, expected.frames) < 1e-5
    assert memory[9] - memory[2] < 16 * 2**20  # the recording's samples alone take 26 MB in these seven minutes
