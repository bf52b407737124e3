"""Networks on other runtimes give what PyTorch gives."""

import numpy as np
import pytest
import torch

from hf_gar import AudioEmbedder, load_audio
from hf_gar.backends.exported_network import OUTPUTS
from hf_gar.hub.load import find_repository
from hf_gar.tiny import FOLDER, RECORDINGS
from tests.conftest import relative_error, save_tiny, tone

TOLERANCE = 1e-4  # of float32, as the issue of every backend
# Batches of several sizes and lengths, one of a single clip that is little longer than a network takes.
BATCHES_S = [[3.3, 2.0], [5.1, 2.0, 1.7], [1.2, 1.2], [2.5], [0.36]]


@pytest.fixture(scope="module")
def ast_repository(tmp_path_factory):
    return save_tiny("ast-fusion", tmp_path_factory.mktemp("repository") / "ast-fusion")


def network_and_model(folder, backend, dtype, **config):
    embedder = AudioEmbedder(folder, backend=backend, dtype=dtype, model_kwargs=config)
    return embedder.load_model(), find_repository(folder).load_model(**config), embedder.feature_extractor


def cosines(found, expected) -> np.ndarray:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return (found * expected).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)


def test_float32_is_exact(repository, backend, optimized):
    network, model, extractor = network_and_model(optimized(repository, backend, "float32"), backend, "float32")
    for clips in BATCHES_S:
        waveforms = [tone(seconds, seed=index) for index, seconds in enumerate(clips)]
        inputs = extractor(waveforms, sampling_rate=16000, return_tensors="pt")
        for batch in (inputs, {"input_features": inputs["input_features"]}):
            with torch.inference_mode():
                found, expected = network(**batch), model(**batch)
            assert list(found.keys()) == list(OUTPUTS)
            assert relative_error(found.last_hidden_state, expected.last_hidden_state) < TOLERANCE
            assert relative_error(found.pooler_output, expected.pooler_output) < TOLERANCE
            assert np.array_equal(found.frame_mask, expected.frame_mask)


@pytest.mark.parametrize("max_length", [400, 1200, 1500])
def test_one_network_of_ast_runs_at_any_length(max_length, ast_repository, backend, optimized):
    """Its position embeddings are cut or stretched in the graph."""
    folder = optimized(ast_repository, backend, "float32")
    network, model, extractor = network_and_model(folder, backend, "float32", max_length=max_length)
    inputs = extractor([tone(3), tone(2)], sampling_rate=16000, return_tensors="pt")
    assert inputs["input_features"].shape[1] == max_length
    with torch.inference_mode():
        found, expected = network(**inputs), model(**inputs)
    assert relative_error(found.last_hidden_state, expected.last_hidden_state) < TOLERANCE
    assert relative_error(found.pooler_output, expected.pooler_output) < TOLERANCE


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_a_clip_is_the_same_alone_and_in_a_batch(dtype, backend, optimized):
    """Of the network in the box, on real recordings."""
    if (backend, dtype) == ("onnx", "bfloat16"):
        pytest.skip("ONNX Runtime has no bfloat16 on processors")
    network, model, extractor = network_and_model(optimized(FOLDER, backend, dtype), backend, dtype)
    recordings = sorted(RECORDINGS.glob("*.ogg"))[:6]
    clips = [load_audio(path, 16000)[: 16000 + 2000 * index] for index, path in enumerate(recordings)]
    inputs = extractor(clips, sampling_rate=16000, return_tensors="pt")
    assert not inputs["attention_mask"].all()
    with torch.inference_mode():
        together, expected = network(**inputs), model(**inputs)
        alone = [network(**extractor(clip, sampling_rate=16000, return_tensors="pt")).pooler_output for clip in clips]
    assert cosines(torch.cat(alone), together.pooler_output).min() > 0.9999
    assert cosines(together.pooler_output, expected.pooler_output).min() > 0.995
