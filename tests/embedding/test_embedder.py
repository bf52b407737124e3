import datasets
import numpy as np
import pytest
import torch
from datasets.fingerprint import Hasher

from hf_gar import AudioEmbedder, AudioError, HfGarError, embed_dataset, load_audio, measure_normalization
from hf_gar.registry import MODELS
from tests.conftest import build_overflowing, build_tiny, embed_job, relative_error, tone


@pytest.fixture
def rows(recordings):
    paths = sorted(str(path) for path in recordings.iterdir() if path.name.startswith("clip"))
    return datasets.Dataset.from_dict({"audio": paths, "number": list(range(len(paths)))})


def embedding_of(model, extractor, waveform) -> np.ndarray:
    with torch.no_grad():
        return model(**extractor(waveform, sampling_rate=16000, return_tensors="pt")).pooler_output[0].numpy()


def test_embed_dataset(rows, repository, model, extractor, recordings):
    embedded = embed_dataset(rows, repository, dtype="float32", map_batch_size=4, batch_size=2)
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
    named = embed_dataset(rows, repository, dtype="float32")
    assert relative_error(given["embedding"][:], named["embedding"][:]) < 1e-6


def test_what_a_column_may_hold(repository, recordings):
    path = recordings / "clip0.wav"
    expected = embed_dataset(datasets.Dataset.from_dict({"audio": [str(path)]}), repository, dtype="float32")[
        "embedding"
    ][0]
    columns = {
        "bytes": [path.read_bytes()],
        "decoded": [{"array": 0.5 * tone(0.5), "sampling_rate": 16000}],
        "undecoded": [{"bytes": path.read_bytes(), "path": None}],
        "waveform": [(0.5 * tone(0.5)).tolist()],
    }
    for column in columns.values():
        found = embed_dataset(datasets.Dataset.from_dict({"audio": column}), repository, dtype="float32")["embedding"][
            0
        ]
        assert relative_error(found, expected) < 1e-3  # the file has 16 bits
    audio = datasets.Dataset.from_dict({"sound": [str(path)]}).cast_column("sound", datasets.Audio(decode=False))
    as_audio = audio.cast(datasets.Features({"sound": datasets.Audio()}))
    assert relative_error(embed_dataset(as_audio, repository, dtype="float32")["embedding"][0], expected) < 1e-6


@pytest.mark.parametrize("fit", [1, 0])
def test_a_device_whose_memory_is_too_small(fit, rows, repository):
    """A batch is halved until it fits; that a single chunk does not is an error."""
    expected = AudioEmbedder(repository, dtype="float32").embed(rows["audio"])
    embedder = AudioEmbedder(repository, dtype="float32")
    passed = []

    def refuse(model, arguments, inputs):
        if len(inputs["input_features"]) > fit:
            raise torch.OutOfMemoryError("as CUDA says it")
        passed.append(len(inputs["input_features"]))

    embedder.load_model().register_forward_pre_hook(refuse, with_kwargs=True)
    if fit == 0:
        with pytest.raises(HfGarError, match="too small for a single chunk"):
            embedder.embed(rows["audio"])
        return
    found = embedder.embed(rows["audio"])
    assert set(passed) == {1}
    for one, other in zip(found, expected, strict=True):
        assert relative_error(one.clip, other.clip) < 1e-5


def test_in_a_users_own_map(rows, repository, model):
    embedder = AudioEmbedder(repository, dtype="float32")
    mapped = rows.map(embedder, batched=True, batch_size=2, remove_columns="audio")
    assert (
        relative_error(mapped["embedding"][:], embed_dataset(rows, repository, dtype="float32")["embedding"][:]) < 1e-5
    )
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
    (embedding,) = embedder.embed([tone(1)])
    assert embedding.clip.dtype == np.float32
    assert embedding.clip.shape == (model.config.layer_sizes[layer],)
    assert embedding.duration_s == 1
    assert embedding.frames is embedding.frame_times is None


def test_frames_and_their_times(rows, repository, model, extractor):
    embedded = embed_dataset(rows, repository, dtype="float32", with_frames=True)
    for row, path in zip(embedded, rows["audio"], strict=True):
        waveform = load_audio(path, 16000)
        with torch.no_grad():
            outputs = model(**extractor(waveform, sampling_rate=16000, return_tensors="pt"))
        expected = outputs.last_hidden_state[0, outputs.frame_mask[0]]
        assert relative_error(row["frame_embeddings"], expected) < 1e-5
        np.testing.assert_allclose(row["frame_times"], extractor.frame_times(len(expected)))


def test_results_come_in_order_while_others_are_read(repository, monkeypatch):
    """A recording of another length than all others does not wait for its like until the end."""
    monkeypatch.setattr("hf_gar.embedding.length_buckets.SECONDS_AT_ONCE", 4.0)
    monkeypatch.setattr("hf_gar.embedding.length_buckets.WAITING_BATCHES", 2)
    waveforms = [tone(3.0), *[tone(1.0, seed=number) for number in range(40)]]
    embedder = AudioEmbedder(repository, dtype="float32", device="cpu")
    loaded = []
    found = []
    for result in embedder.results(waveforms, on_loaded=loaded.append):
        if not found:
            # 3 s, and 2 batches of 4 s after them; networks that pad their inputs to 10 s pass batches of one.
            assert len(loaded) <= 12
        found.append(result)
    assert len(loaded) == len(found) == 41
    for result, expected in zip(found, embedder.process(waveforms), strict=True):
        assert relative_error(result.clip, expected.clip) < 1e-6


def test_a_model_and_an_extractor_that_do_not_go_together_are_refused(model, model_type):
    fields, message = {"feature_size": 40}, "feature_size=40, but its model takes 32"
    if model_type == "backbone-fusion":
        fields, message = {"frame_window": 400}, "frame_window=400, but its model takes 1240"
    with pytest.raises(ValueError, match=f"feature extractor has {message}"):
        AudioEmbedder(model, MODELS[model_type].feature_extractor(**fields))


def test_ast_of_another_length():
    """The length that the model is loaded with is the extractor's, too."""
    model, extractor = build_tiny("ast-fusion", max_length=128), MODELS["ast-fusion"].feature_extractor
    (found,) = AudioEmbedder(model, extractor(feature_size=32)).embed([tone(1)])
    inputs = extractor(feature_size=32, max_length=128)(tone(1), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        assert relative_error(found.clip, model(**inputs).pooler_output[0]) < 1e-6


def test_normalization_is_measured():
    extractor = MODELS["ast-fusion"].feature_extractor()
    clips = [tone(seconds, seed=index) for index, seconds in enumerate([0.5, 1, 2])]
    dataset = datasets.Dataset.from_dict({"audio": [{"array": clip, "sampling_rate": 16000} for clip in clips]})
    mean, std = measure_normalization(dataset, extractor)
    unnormalized = MODELS["ast-fusion"].feature_extractor(mean=0.0, std=0.5)
    values = np.concatenate(unnormalized.spectrograms(clips)).astype(np.float64)
    assert mean == pytest.approx(float(values.mean()), rel=1e-5)
    assert std == pytest.approx(float(values.std()), rel=1e-5)
    normalized = MODELS["ast-fusion"].feature_extractor(mean=mean, std=std)
    batch = normalized(clips, sampling_rate=16000, return_tensors="pt")
    own = batch["input_features"][batch["attention_mask"].bool()]
    assert abs(float(own.mean())) < 1e-3
    assert float(own.std()) == pytest.approx(0.5, rel=1e-3)


def test_a_bad_recording_is_raised_or_recorded(rows, repository, tmp_path):
    (tmp_path / "bad.wav").write_text("text")
    bad = datasets.concatenate_datasets(
        [rows, datasets.Dataset.from_dict({"audio": [str(tmp_path / "bad.wav"), None], "number": [7, 8]})]
    )
    with pytest.raises(AudioError, match=r"bad\.wav cannot be decoded"):
        embed_dataset(bad, repository)
    recorded = embed_dataset(bad, repository, dtype="float32", on_error="record", map_batch_size=4)
    assert [reason is None for reason in recorded["error"]] == [True] * 6 + [False, False]
    assert recorded[6]["embedding"] is None
    assert (
        relative_error(recorded[:6]["embedding"], embed_dataset(rows, repository, dtype="float32")["embedding"][:])
        < 1e-5
    )


def test_mistakes_are_named(rows, repository, model, extractor, tmp_path):
    with pytest.raises(HfGarError, match=r"no column 'sound'.*'audio', 'number'"):
        embed_dataset(rows, repository, audio_column="sound")
    with pytest.raises(HfGarError, match="no column 'sound'"):
        AudioEmbedder(repository, audio_column="sound")({"audio": []})
    with pytest.raises(HfGarError, match="already has a column duration_s"):
        embed_dataset(rows.rename_column("number", "duration_s"), repository)
    with pytest.raises(ValueError, match="pass feature_extractor"):
        AudioEmbedder(model)
    with pytest.raises(ValueError, match="dtype has to be one of auto, float32"):
        AudioEmbedder(repository, dtype="int4")
    with pytest.raises(ValueError, match="backend has to be one of auto, torch"):
        AudioEmbedder(repository, backend="tvm")
    with pytest.raises(ValueError, match="int8 goes with the backends onnx and openvino"):
        AudioEmbedder(repository, backend="torch", dtype="int8")
    with pytest.raises(ValueError, match='on_error has to be "raise" or "record"'):
        AudioEmbedder(repository, on_error="ignore")
    with pytest.raises(ValueError, match="device='banana' is not known to PyTorch"):
        AudioEmbedder(repository, device="banana")
    with pytest.raises(ValueError, match="device='meta' is not on this machine, which has cpu"):
        AudioEmbedder(repository, device="meta")
    with pytest.raises(ValueError, match="a model is already built"):
        AudioEmbedder(model, extractor, dtype="bfloat16")
    with pytest.raises(ValueError, match="unknown layers"):
        AudioEmbedder(repository, model_kwargs={"fusion_layers": [99]})
    with pytest.raises(HfGarError, match=r"it has no config\.json"):
        AudioEmbedder(tmp_path)
    with pytest.raises(HfGarError, match="there is no such folder"):
        AudioEmbedder("gone")


def test_embeddings_that_are_not_finite_are_errors(rows, model_type, extractor, tmp_path):
    model = build_overflowing(model_type)
    with pytest.raises(AudioError, match=r"clip0\.wav gives an embedding with values that are NaN or infinite"):
        embed_dataset(rows, model, extractor)
    recorded = embed_dataset(rows, model, extractor, on_error="record")
    assert recorded["embedding"][:] == [None] * len(rows)
    assert all("NaN or infinite" in error for error in recorded["error"])
    build_overflowing(model_type).save_pretrained(tmp_path / "repository")
    extractor.save_pretrained(tmp_path / "repository")
    status = embed_job(rows, tmp_path / "repository", tmp_path / "job")
    assert (status.done, status.failed) == (0, len(rows))


def test_a_model_that_is_built_takes_no_options_of_a_repository(repository, model, extractor):
    for option in ({"feature_extractor_kwargs": {"sampling_rate": 8000}}, {"model_kwargs": {"depth": 1}}):
        with pytest.raises(ValueError, match="go with a repository; a model is already built"):
            AudioEmbedder(model, extractor, **option)
    with pytest.raises(ValueError, match="not both"):
        AudioEmbedder(repository, extractor, feature_extractor_kwargs={"sampling_rate": 8000})
