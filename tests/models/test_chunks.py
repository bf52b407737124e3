"""Recordings of any length: what chunks give is what one pass gives."""

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from hf_gar import AudioEmbedder, AudioEmbeddingPipeline, AudioError
from hf_gar.models.chunks import split_chunks
from tests.conftest import build_tiny, build_tiny_extractor, relative_error, tone

CONVOLUTIONAL = ["vggish-fusion", "cnn14-fusion"]


def in_blocks(waveform: np.ndarray, size: int):
    return iter([waveform[start : start + size] for start in range(0, len(waveform), size)])


def shorten_chunks(extractor, monkeypatch):
    """Chunks of a few seconds, so that a short recording has many."""
    frames = {"VGGish": 12, "Cnn14F": 9}[type(extractor).__name__[:6]]
    monkeypatch.setattr(type(extractor), "chunk_frames", frames)


# Around the borders of chunks, of frames and of patches; shorter than a frame; a round number.
@pytest.mark.parametrize("samples", [1, 15600, 92160, 92159, 92400, 92401, 46080, 97280, 97279, 300_000, 480_000])
@pytest.mark.parametrize("kind", CONVOLUTIONAL)
@pytest.mark.parametrize("unfused", [False, True])
def test_chunks_give_the_frames_and_the_embedding_of_one_pass(kind, samples, unfused, monkeypatch):
    model = build_tiny(kind, **({"fusion_layers": None} if unfused else {}))
    extractor = build_tiny_extractor(kind)
    waveform = tone(samples / 16000)
    with torch.no_grad():
        whole = model(**extractor(waveform, sampling_rate=16000, return_tensors="pt"))
    shorten_chunks(extractor, monkeypatch)
    (found,) = AudioEmbedder(model, extractor, with_frames=True).embed([waveform])
    assert relative_error(found.frames, whole.last_hidden_state[0]) < 1e-5
    assert relative_error(found.clip, whole.pooler_output[0]) < 1e-5
    assert found.duration_s == len(waveform) / 16000


@pytest.mark.parametrize("kind", [*CONVOLUTIONAL, "ast-fusion"])
@pytest.mark.parametrize("size", [1000, 16000, 10**9])
def test_chunks_do_not_depend_on_the_blocks(kind, size, monkeypatch):
    extractor = build_tiny_extractor(kind)
    if kind == "ast-fusion":
        extractor.max_length = 300
    else:
        shorten_chunks(extractor, monkeypatch)
    waveform = tone(20)
    expected = list(split_chunks(iter([waveform]), extractor))
    found = list(split_chunks(in_blocks(waveform, size), extractor))
    assert len(found) > 3
    assert [chunk[1:] for chunk in found[-1:]] == [chunk[1:] for chunk in expected[-1:]]
    for chunk, other in zip(found, expected, strict=True):
        assert np.array_equal(chunk.waveform, other.waveform)
    assert sum(chunk.stop - chunk.first for chunk in found) == extractor.num_frames(len(waveform))
    assert [chunk.is_last for chunk in found] == [False] * (len(found) - 1) + [True]


def test_ast_averages_chunks_by_their_durations():
    model = build_tiny("ast-fusion", max_length=304)
    extractor = build_tiny_extractor("ast-fusion")
    extractor.max_length = 304  # 29 columns of patches: chunks begin every 2.9 s
    waveform = tone(7.5)
    (found,) = AudioEmbedder(model, extractor, with_frames=True).embed([waveform])
    starts = [0, 46400, 92800]
    pieces = [waveform[start : start + 303 * 160 + 400] for start in starts]
    with torch.no_grad():
        outputs = [model(**extractor(piece, sampling_rate=16000, return_tensors="pt")) for piece in pieces]
    columns = [29, 29, 16]  # 748 mel frames make (748 - 16) // 10 + 1 = 74 columns of patches
    expected = sum(output.pooler_output[0] * count for output, count in zip(outputs, columns, strict=True))
    assert relative_error(found.clip, expected / sum(columns)) < 1e-6
    frames = torch.cat([output.last_hidden_state[0, :count] for output, count in zip(outputs, columns, strict=True)])
    assert relative_error(found.frames, frames) < 1e-6
    np.testing.assert_allclose(np.diff(found.frame_times), model.config.frame_hop_s)


@pytest.mark.parametrize("kind", [*CONVOLUTIONAL, "ast-fusion"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_pipeline_gives_what_the_embedder_gives(kind, batch_size, tmp_path):
    model, extractor = build_tiny(kind), build_tiny_extractor(kind)
    paths = []
    for index, seconds in enumerate([130, 2, 70]):
        paths.append(str(tmp_path / f"{index}.wav"))
        soundfile.write(paths[-1], tone(seconds, 8000, seed=index), 8000)
    expected = AudioEmbedder(model, extractor, with_frames=True).embed(paths)
    embed = pipeline(
        "feature-extraction",
        model=model,
        feature_extractor=extractor,
        pipeline_class=AudioEmbeddingPipeline,
        device="cpu",
    )
    clips = embed(paths, batch_size=batch_size, return_tensors=True)
    frames = embed(paths, batch_size=batch_size, timestamps=True, return_tensors=True)
    for clip, timed, other in zip(clips, frames, expected, strict=True):
        assert relative_error(clip, other.clip) < 1e-5
        assert relative_error(timed["embeddings"], other.frames) < 1e-5
        np.testing.assert_allclose(timed["timestamps"], other.frame_times, rtol=1e-6)


def test_a_fault_late_in_a_long_recording_is_named(tmp_path):
    waveform = tone(150, 8000)
    waveform[-8000] = np.nan
    soundfile.write(tmp_path / "late.wav", waveform, 8000, subtype="FLOAT")
    embedder = AudioEmbedder(build_tiny("cnn14-fusion"), build_tiny_extractor("cnn14-fusion"), on_error="record")
    error, good = embedder.embed([str(tmp_path / "late.wav"), tone(1)])
    assert isinstance(error, AudioError)
    assert "late.wav has" in str(error)
    assert good.duration_s == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_chunks_of_the_full_networks(kind, official_files, tmp_path):
    """A 3-minute recording through the networks at their real size: chunks against one pass."""
    from hf_gar import export_repository, load_audio
    from hf_gar.hub.load import find_repository
    from tests.conftest import real_folder

    paths = sorted((real_folder("esc10") / "audio").glob("*.ogg"))[::11][:36]
    waveform = np.concatenate([load_audio(path, 16000) for path in paths])[: 180 * 16000]
    name = kind.removesuffix("-fusion")
    repository = find_repository(export_repository(kind, official_files(name), tmp_path / name))
    model, extractor = repository.load_model(), repository.load_feature_extractor()
    with torch.inference_mode():
        whole = model(**extractor(waveform, sampling_rate=16000, return_tensors="pt"))
    (found,) = AudioEmbedder(model, extractor, with_frames=True).embed([waveform])
    errors = (
        relative_error(found.frames, whole.last_hidden_state[0]),
        relative_error(found.clip, whole.pooler_output[0]),
    )
    print(f"{kind}, 3 minutes in chunks against one pass: frames {errors[0]:.1e}, clip {errors[1]:.1e}")
    assert max(errors) < 1e-4
