"""A model repository as a SentenceTransformer: sentence-transformers itself loads it and embeds with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import hf_gar
from hf_gar import AudioEmbedder, AudioEmbeddingPipeline
from hf_gar.tiny import FOLDER, RECORDINGS
from tests.conftest import ONE_MODEL_BY_DEFAULT, relative_error, tone

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers takes transformers 5", exc_type=ImportError
)
SCRIPTS = Path(__file__).parents[1]


def load(folder: Path, **options) -> "sentence_transformers.SentenceTransformer":
    return sentence_transformers.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu", **options)


@pytest.fixture(scope="module")
def loaded(repository):
    return load(repository)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> list:
    """Every kind of recording at several rates; one is longer than a chunk of any model."""
    folder = tmp_path_factory.mktemp("recordings")
    soundfile.write(folder / "a.wav", np.stack([tone(2, 44100), tone(2, 44100, seed=1)], axis=1), 44100)
    soundfile.write(folder / "long.flac", tone(70, seed=2), 16000)
    return [
        str(folder / "a.wav"),
        {"array": tone(1, 8000, seed=3), "sampling_rate": 8000},
        tone(3, seed=4),
        str(folder / "long.flac"),
        {"audio": {"array": tone(1.5, 22050, seed=5), "sampling_rate": 22050}},
        {"bytes": (folder / "a.wav").read_bytes(), "path": None},
        tone(0.05, seed=6),
    ]


@pytest.fixture(scope="module")
def expected(model, extractor, recordings) -> np.ndarray:
    embed = AudioEmbeddingPipeline(model=model, feature_extractor=extractor, device="cpu")
    return np.array([embed(each.get("audio", each) if isinstance(each, dict) else each) for each in recordings])


def test_it_gives_what_the_pipeline_gives_alone_and_in_batches(loaded, recordings, expected):
    assert relative_error(loaded.encode(recordings), expected) < 1e-5
    assert relative_error(loaded.encode(recordings, batch_size=2), expected) < 1e-5
    for recording, embedding in zip(recordings, expected, strict=True):
        assert relative_error(loaded.encode(recording), embedding) < 1e-5


def test_it_knows_its_dimension_and_compares(loaded, model, expected):
    assert loaded.get_embedding_dimension() == model.config.projection_dim == expected.shape[1]
    similarities = loaded.similarity(expected, expected).numpy()
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(similarities, unit @ unit.T, atol=1e-5)


def test_save_and_reload(loaded, repository, recordings, tmp_path):
    loaded.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    saved = {path.name for path in (tmp_path / "saved").iterdir()}
    assert saved == {path.name for path in repository.iterdir()} | {"config_sentence_transformers.json"}
    assert (tmp_path / "saved" / "modules.json").read_bytes() == (repository / "modules.json").read_bytes()
    again = load(tmp_path / "saved")
    np.testing.assert_array_equal(again.encode(recordings[:2]), loaded.encode(recordings[:2]))


def test_options_of_loading(repository, model, extractor, recordings):
    layer = model.config.valid_layers[1]
    loaded = load(repository, config_kwargs={"fusion_layers": [layer]}, model_kwargs={"dtype": "bfloat16"})
    assert loaded.get_embedding_dimension() == model.config.layer_sizes[layer]
    assert str(loaded.dtype) == "torch.bfloat16"
    assert loaded.encode(recordings[:1]).dtype == np.float32
    with pytest.raises(ValueError, match=r'backend=.* "torch"'):
        load(repository, backend="onnx")


def test_it_can_be_trained(repository, recordings):
    loaded = load(repository)
    loaded(loaded.preprocess(recordings[:2]))["sentence_embedding"].sum().backward()
    (*_, last) = (weight for weight in loaded.parameters() if weight.grad is not None)
    assert last.grad.abs().max() > 0


def test_bad_recordings_are_refused_by_name(loaded, tmp_path):
    (tmp_path / "cut.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"cut.wav cannot be decoded"):
        loaded.encode(str(tmp_path / "cut.wav"))
    with pytest.raises(ValueError, match="Modality 'text' is not supported"):  # sentence-transformers' own
        loaded.encode("missing.wav")


@ONE_MODEL_BY_DEFAULT
def test_without_hf_gar(model_type, repository, recordings, expected, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import remote_code\n"
        "import json; from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(sys.argv[1], trust_remote_code=True, device='cpu')\n"
        "print(json.dumps(model.encode(sys.argv[2:]).tolist()))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, repository, recordings[0], recordings[3]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert relative_error(json.loads(done.stdout.splitlines()[-1]), expected[[0, 3]]) < 1e-5


def test_the_network_in_the_box():
    """It has no code of its own: the installed classes load it."""
    hf_gar.register()
    loaded = load(FOLDER)
    paths = sorted(map(str, RECORDINGS.glob("voice-*.ogg")))
    embeddings = [embedding.clip for embedding in AudioEmbedder(dtype="float32").embed(paths)]
    assert relative_error(loaded.encode(paths), np.stack(embeddings)) < 1e-5
