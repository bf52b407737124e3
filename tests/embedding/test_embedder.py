import datasets
import numpy as np
import pytest
import torch
from datasets.fingerprint import Hasher

from hf_gar import AudioEmbedder, AudioError, HfGarError, embed_dataset
from tests.conftest import relative_error, tone


@pytest.fixture
def rows(recordings):
    paths = sorted(str(path) for path in recordings.iterdir() if path.name.startswith("clip"))
    return datasets.Dataset.from_dict({"audio": paths, "number": list(range(len(paths)))})


def embedding_of(model, extractor, waveform) -> np.ndarray:
    with torch.no_grad():
        return model(**extractor(waveform, sampling_rate=16000, return_tensors="pt")).pooler_output[0].numpy()


def test_embed_dataset(rows, repository, model, extractor, recordings):
    from hf_gar import load_audio

    embedded = embed_dataset(rows, repository, batch_size=4)
    assert embedded.column_names == ["number", "embedding", "duration_s"]
    assert embedded.features["embedding"] == datasets.List(
        datasets.Value("float32"), length=model.config.embedding_size
    )
    for row, path in zip(embedded, rows["audio"], strict=True):
        waveform = load_audio(path, 16000)
        assert row["duration_s"] == pytest.approx(len(waveform) / 16000)
        assert relative_error(row["embedding"], embedding_of(model, extractor, waveform)) < 1e-5


def test_a_model_and_its_extractor_do_as_well(rows, repository, model, extractor):
    given = embed_dataset(rows, model, extractor)
    named = embed_dataset(rows, repository)
    assert relative_error(given["embedding"][:], named["embedding"][:]) < 1e-6


def test_what_a_column_may_hold(repository, recordings):
    path = recordings / "clip0.wav"
    expected = embed_dataset(datasets.Dataset.from_dict({"audio": [str(path)]}), repository)["embedding"][0]
    columns = {
        "bytes": [path.read_bytes()],
        "decoded": [{"array": 0.5 * tone(0.5), "sampling_rate": 16000}],
        "undecoded": [{"bytes": path.read_bytes(), "path": None}],
        "waveform": [(0.5 * tone(0.5)).tolist()],
    }
    for column in columns.values():
        found = embed_dataset(datasets.Dataset.from_dict({"audio": column}), repository)["embedding"][0]
        assert relative_error(found, expected) < 1e-3  # the file has 16 bits
    audio = datasets.Dataset.from_dict({"sound": [str(path)]}).cast_column("sound", datasets.Audio(decode=False))
    as_audio = audio.cast(datasets.Features({"sound": datasets.Audio()}))
    assert relative_error(embed_dataset(as_audio, repository)["embedding"][0], expected) < 1e-6


def test_in_a_users_own_map(rows, repository, model):
    embedder = AudioEmbedder(repository)
    mapped = rows.map(embedder, batched=True, batch_size=2, remove_columns="audio")
    assert relative_error(mapped["embedding"][:], embed_dataset(rows, repository)["embedding"][:]) < 1e-5
    parallel = rows.map(embedder, batched=True, batch_size=2, remove_columns="audio", num_proc=2, with_rank=True)
    assert relative_error(parallel["embedding"][:], mapped["embedding"][:]) < 1e-6


def test_its_hash_is_stable_and_tells_settings_apart(repository, model):
    first, second = AudioEmbedder(repository), AudioEmbedder(repository)
    before = Hasher.hash(first)
    assert Hasher.hash(second) == before
    first.embed([tone(1)])
    assert Hasher.hash(first) == before  # a loaded model makes no difference
    layers = [model.config.valid_layers[0]]
    assert Hasher.hash(AudioEmbedder(repository, model_kwargs={"fusion_layers": layers})) != before
    assert Hasher.hash(AudioEmbedder(repository, dtype="bfloat16")) != before


def test_other_layers_and_dtype(repository, model):
    layer = model.config.valid_layers[0]
    embedder = AudioEmbedder(repository, dtype="bfloat16", model_kwargs={"fusion_layers": [layer]})
    embedding = embedder.embed([tone(1)])
    assert embedding.dtype == np.float32
    assert embedding.shape == (1, model.config.layer_sizes[layer])


def test_a_bad_recording_is_raised_or_recorded(rows, repository, tmp_path):
    (tmp_path / "bad.wav").write_text("text")
    bad = datasets.concatenate_datasets(
        [rows, datasets.Dataset.from_dict({"audio": [str(tmp_path / "bad.wav"), None], "number": [7, 8]})]
    )
    with pytest.raises(AudioError, match=r"bad\.wav cannot be decoded"):
        embed_dataset(bad, repository)
    recorded = embed_dataset(bad, repository, on_error="record", batch_size=4)
    assert [reason is None for reason in recorded["error"]] == [True] * 6 + [False, False]
    assert recorded[6]["embedding"] is None
    assert relative_error(recorded[:6]["embedding"], embed_dataset(rows, repository)["embedding"][:]) < 1e-5


def test_mistakes_are_named(rows, repository, model, extractor, tmp_path):
    with pytest.raises(HfGarError, match=r"no column 'sound'.*'audio', 'number'"):
        embed_dataset(rows, repository, audio_column="sound")
    with pytest.raises(HfGarError, match="no column 'sound'"):
        AudioEmbedder(repository, audio_column="sound")({"audio": []})
    with pytest.raises(HfGarError, match="already has a column duration_s"):
        embed_dataset(rows.rename_column("number", "duration_s"), repository)
    with pytest.raises(ValueError, match="pass feature_extractor"):
        AudioEmbedder(model)
    with pytest.raises(ValueError, match="dtype has to be one of float32"):
        AudioEmbedder(repository, dtype="int8")
    with pytest.raises(ValueError, match="unknown layers"):
        AudioEmbedder(repository, model_kwargs={"fusion_layers": [99]})
    with pytest.raises(HfGarError, match=r"it has no config\.json"):
        AudioEmbedder(tmp_path)
    with pytest.raises(HfGarError, match="there is no such folder"):
        AudioEmbedder("gone")
