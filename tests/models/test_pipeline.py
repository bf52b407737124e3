import io

import datasets
import numpy as np
import pandas
import pytest
import soundfile
import torch
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_gar import AudioEmbeddingPipeline, AudioError
from tests.conftest import build_overflowing, relative_error, tone


@pytest.fixture(scope="module")
def embed(model, extractor):
    return pipeline(
        "feature-extraction",
        model=model,
        feature_extractor=extractor,
        pipeline_class=AudioEmbeddingPipeline,
        device="cpu",
    )


@pytest.fixture
def expected(model, extractor):
    with torch.no_grad():
        return model(**extractor(tone(2), sampling_rate=16000, return_tensors="pt"))


def test_a_clip_embedding_is_a_list_of_floats(embed, expected):
    embedding = embed(tone(2))
    assert isinstance(embedding, list)
    assert relative_error(embedding, expected.pooler_output[0]) < 1e-6
    tensor = embed(tone(2), return_tensors=True)
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor, torch.tensor(embedding))


def test_frames_and_their_times(embed, expected, extractor):
    frames = embed(tone(2), pool=False)
    assert relative_error(frames, expected.last_hidden_state[0, expected.frame_mask[0]]) < 1e-6
    timed = embed(tone(2), timestamps=True)
    assert timed["embeddings"] == frames
    np.testing.assert_allclose(timed["timestamps"], extractor.frame_times(len(frames)), rtol=1e-6)


def test_options_of_the_pipeline_and_of_a_call_add_up(model, extractor, embed):
    timed = pipeline(
        "feature-extraction",
        model=model,
        feature_extractor=extractor,
        pipeline_class=AudioEmbeddingPipeline,
        device="cpu",
        timestamps=True,
    )
    found = timed(tone(2), return_tensors=True)
    assert found["embeddings"].tolist() == embed(tone(2), pool=False)
    assert timed(tone(2), timestamps=False) == embed(tone(2))


def test_sources(embed, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone(2), tone(2)], axis=1), 16000, subtype="FLOAT")
    expected = embed(tone(2))
    for source in (
        str(path),
        path.read_bytes(),
        {"array": tone(2), "sampling_rate": 16000},
        {"bytes": path.read_bytes()},
    ):
        assert relative_error(embed(source), expected) < 1e-6


@pytest.mark.parametrize("pool", [True, False])
def test_batches_give_what_single_clips_give(embed, pool):
    clips = [tone(seconds, seed=index) for index, seconds in enumerate([0.2, 3, 1, 2])]
    alone = [embed(clip, pool=pool) for clip in clips]
    for found, expected in zip(embed(clips, batch_size=3, pool=pool), alone, strict=True):
        assert relative_error(found, expected) < 1e-5


def test_no_recordings_have_no_embeddings(embed):
    assert embed([]) == embed(()) == []


def test_several_recordings_however_they_come(embed, tmp_path):
    rows = []
    for number in range(3):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, tone(1, seed=number), 16000, subtype="FLOAT")
        rows.append({"audio": str(path), "number": number})
    clips = [row["audio"] for row in rows]
    expected = [embed(clip) for clip in clips]
    dataset = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    assert isinstance(embed(tuple(clips)), list)
    several = {
        "tuple": embed(tuple(clips)),
        "generator": list(embed(clip for clip in clips)),
        "column": embed(dataset.cast_column("audio", datasets.Audio(decode=False))["audio"]),
        "dataset": list(embed(dataset)),
        "stream": list(embed(dataset.to_iterable_dataset())),
        "torch": list(embed(KeyDataset(rows, "audio"))),
        "series": embed(pandas.Series(clips)),
        "keys of a dictionary": embed(dict.fromkeys(clips).keys()),
        "in batches": embed(tuple(clips), batch_size=2),
    }
    for kind, found in several.items():
        assert relative_error(found, expected) < 1e-5, kind
    with pytest.raises(ValueError, match=r"0 `Audio` columns among number\. .*dataset\[\"audio\"\]"):
        embed(dataset.remove_columns("audio"))


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ((16000, tone(1)), r'a pair, perhaps of a rate and samples.*"sampling_rate": rate, "array": samples'),
        ([0.1, 0.2, 0.3], "one of these is a single number.*NumPy array"),
        (np.zeros((4, 16000), np.float32), r"a batch of 4 clips or as many channels.*Pass clips as a list"),
        (torch.zeros(4, 16000), r"a batch of 4 clips or as many channels"),
        (io.BytesIO(b"RIFF"), "an open file"),
    ],
)
def test_what_is_ambiguous_is_refused(embed, recording, message):
    with pytest.raises(AudioError, match=message):
        embed(recording)


def test_channels_are_mixed_where_they_are_said_to_be(embed):
    channels = np.stack([tone(1), -tone(1), tone(1), tone(1)])
    assert relative_error(embed({"array": channels, "sampling_rate": 16000}), embed(tone(1) / 2)) < 1e-5
    assert relative_error(embed(np.stack([tone(1), np.zeros_like(tone(1))])), embed(tone(1) / 2)) < 1e-5


def test_a_missing_file_and_an_unknown_option_are_named(embed):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        embed("gone.wav")
    with pytest.raises(TypeError, match=r"timestamp.*'timestamps'"):
        embed(tone(1), timestamp=True)


@pytest.mark.parametrize("options", [{}, {"pool": False}, {"timestamps": True}])
def test_an_embedding_that_is_not_finite_is_an_error_that_names_the_recording(model_type, extractor, tmp_path, options):
    for index in range(3):
        soundfile.write(tmp_path / f"{index}.wav", 0.5 * tone(2), 16000)
    embed = pipeline(
        "feature-extraction",
        model=build_overflowing(model_type),
        feature_extractor=extractor,
        pipeline_class=AudioEmbeddingPipeline,
        device="cpu",
        **options,
    )
    with pytest.raises(AudioError, match=r"0\.wav gives an embedding with values that are NaN or infinite"):
        embed(str(tmp_path / "0.wav"))
    with pytest.raises(AudioError, match=r"0\.wav gives an embedding with values that are NaN or infinite"):
        embed([str(tmp_path / f"{index}.wav") for index in range(3)], batch_size=2)
