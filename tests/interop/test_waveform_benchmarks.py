"""HEAR and X-ARES: their own checks, where they are installed, and what they ask for."""

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from hf_gar import AudioEmbedder
from hf_gar.interop import hear, xares
from tests.conftest import relative_error, tone

CLIPS = torch.from_numpy(np.stack([tone(2, seed=seed) for seed in range(3)]))


@pytest.fixture(scope="module")
def expected(model, extractor):
    return AudioEmbedder(model, extractor, with_frames=True).embed(list(CLIPS))


@pytest.fixture
def encoder_class(repository):
    return type("SmallEncoder", (xares.FusionEncoder,), {"model_name": repository})


def test_hear_gets_the_jobs_embeddings(repository, model, expected):
    loaded = hear.load_model(str(repository))
    assert loaded.sample_rate == 16000
    assert loaded.scene_embedding_size == loaded.timestamp_embedding_size == model.config.embedding_size
    scenes = hear.get_scene_embeddings(CLIPS, loaded)
    frames, times = hear.get_timestamp_embeddings(CLIPS, loaded)
    assert scenes.dtype == frames.dtype == torch.float32
    assert relative_error(scenes, np.stack([each.clip for each in expected])) < 1e-5
    assert relative_error(frames, np.stack([each.frames for each in expected])) < 1e-5
    assert times.shape == frames.shape[:2]
    np.testing.assert_allclose(times[0], 1000 * expected[0].frame_times)
    np.testing.assert_allclose(np.diff(times[0]), 1000 * model.config.frame_hop_s)  # in milliseconds


@pytest.mark.parametrize("name", ["repository", "default"])
def test_hears_own_validator(name, repository, monkeypatch):
    if importlib.util.find_spec("tensorflow") is None:  # which it asks of a model whether it is one of its modules
        stand_in = ModuleType("tensorflow")
        stand_in.Module = type("Module", (), {})
        monkeypatch.setitem(sys.modules, "tensorflow", stand_in)
    validate = pytest.importorskip(
        "hearvalidator.validate", reason="HEAR's validator is not here: pip install --no-deps hearvalidator"
    )
    path = str(repository) if name == "repository" else ""
    validate.ValidateModel("hf_gar.interop.hear", path, device="cpu")()


def test_xares_gets_the_jobs_frames(encoder_class, model, expected):
    encoder = encoder_class()
    assert encoder.output_dim == model.config.embedding_size
    assert encoder.hop_size_in_ms == 1000 * model.config.frame_hop_s
    assert relative_error(encoder(CLIPS), np.stack([each.frames for each in expected])) < 1e-5
    # X-ARES takes the one class of a file that is called so.
    assert [name for name in dir(xares) if name.endswith("Encoder")] == ["FusionEncoder"]


def test_xares_own_check(encoder_class):
    checker = pytest.importorskip(
        "xares.audio_encoder_checker", reason="X-ARES is not here: pip install xares", exc_type=ImportError
    )
    assert checker.check_audio_encoder(encoder_class())
    assert checker.check_audio_encoder(xares.FusionEncoder())  # the network in the box


def test_long_sounds_run_in_chunks(encoder_class, model, extractor):
    """Longer than a chunk of any of the small models."""
    sound = torch.from_numpy(tone(70))[None]
    (expected,) = AudioEmbedder(model, extractor, with_frames=True).embed(list(sound))
    assert relative_error(encoder_class()(sound)[0], expected.frames) < 1e-5
