"""A repository in a fresh process that cannot import hf_gar, with an empty cache."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import ONE_MODEL_BY_DEFAULT, TINY, relative_error, save_tiny, tone

SCRIPT = Path(__file__).parents[1] / "remote_code.py"


def run_remotely(repository: Path, folder: Path, options: str = "{}") -> dict[str, np.ndarray]:
    recording, output = folder / "a.wav", folder / "out.npz"
    soundfile.write(recording, tone(2), 16000, subtype="FLOAT")
    environment = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, SCRIPT, repository, recording, output, options],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(output))


@pytest.fixture(scope="module")
def found(repository, tmp_path_factory):
    return run_remotely(repository, tmp_path_factory.mktemp("remote"))


def test_it_gives_what_the_package_gives(found, model, extractor):
    inputs = extractor(tone(2), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    expected = {
        "input_features": inputs["input_features"],
        "clip": outputs.pooler_output,
        "frames": outputs.last_hidden_state,
        "pipeline": outputs.pooler_output,
        "pipeline_frames": outputs.last_hidden_state[:, outputs.frame_mask[0]],
    }
    for layer, hidden_state in zip(model.config.fused_layers, outputs.hidden_states, strict=True):
        expected[f"layer{layer}"] = hidden_state
    for name, array in expected.items():
        assert relative_error(found[name], array) < 1e-6, name


@ONE_MODEL_BY_DEFAULT
def test_a_classifier(classifier_repository, classifier, model, extractor, tmp_path):
    found = run_remotely(classifier_repository, tmp_path)
    inputs = extractor(tone(2), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected, embedding = classifier(**inputs).logits[0], model(**inputs).pooler_output
    for name in ("logits", "pipeline_logits", "window_logits"):
        assert relative_error(found[name], expected) < 1e-5, name
    assert relative_error(found["built_in_scores"], expected.softmax(0)) < 1e-5
    half = torch.from_numpy(found["bfloat16_logits"])
    assert torch.nn.functional.cosine_similarity(half, expected, dim=0) > 0.999
    for name in ("clip", "pipeline"):  # it gives embeddings as before
        assert relative_error(found[name], embedding) < 1e-6, name


def test_bfloat16(found):
    assert (
        torch.nn.functional.cosine_similarity(torch.from_numpy(found["bfloat16"]), torch.from_numpy(found["clip"]))
        > 0.999
    )


def test_other_layers(found, model, repository, extractor):
    other = type(model).from_pretrained(repository, fusion_layers=list(model.config.valid_layers[1:3]))
    inputs = extractor(tone(2), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        assert relative_error(found["other_layers"], other(**inputs).pooler_output) < 1e-6


def test_without_trust_nothing_is_run(tmp_path):
    """Of any of the models, in one process."""
    code = """
import sys
from transformers import AutoModel
for repository in sys.argv[1:]:
    try:
        AutoModel.from_pretrained(repository, trust_remote_code=False)
    except ValueError as error:
        assert "trust_remote_code=True" in str(error), error
    else:
        sys.exit(f"{repository} was loaded")
"""
    repositories = [str(save_tiny(model_type, tmp_path / model_type)) for model_type in TINY]
    done = subprocess.run(
        [sys.executable, "-c", code, *repositories],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list((tmp_path / "home").rglob("modules/**/modeling_*.py"))
