"""Jobs, evaluation and layer search with BackboneFusion, as with every other model."""

import json
from pathlib import Path

import pytest
import torch

from hf_gar import load_audio, read_job
from hf_gar.hub.export import export_repository
from hf_gar.hub.load import find_repository
from tests.conftest import embed_job, real_folder, relative_error
from tests.tiny_backbones import save_backbone


@pytest.fixture(scope="module", params=["hubert", "wav2vec2 group", "clap"])
def repository(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    save_backbone(request.param, folder / "saved")
    return export_repository("backbone-fusion", folder / "saved", folder / "out", all_layers=True)


def test_a_job_over_real_recordings(repository, tmp_path):
    paths = sorted((real_folder("esc10") / "audio").glob("*.ogg"))[::40]
    (tmp_path / "clips").mkdir()
    for path in paths:
        (tmp_path / "clips" / path.name).symlink_to(path)
    status = embed_job([tmp_path / "clips"], repository, tmp_path / "job", with_frames=True)
    assert (status.done, status.failed) == (len(paths), 0)
    job = read_job(tmp_path / "job")
    found = find_repository(repository)
    model, extractor = found.load_model(), found.load_feature_extractor()
    for path, embedding in zip(paths, job.embeddings, strict=True):
        clip = load_audio(path, 16000)[: extractor.max_samples]
        with torch.no_grad():
            outputs = model(**extractor(clip, sampling_rate=16000, return_tensors="pt"))
        assert relative_error(embedding, outputs.pooler_output[0]) < 1e-5


def test_evaluation_and_the_search_of_layers(repository, tones, tmp_path, run_here):
    command = ["--data", tones, "--seconds", 1, "--seeds", 1, "--lr", 0.01, "--model", repository]
    code, _, errors = run_here("evaluate", *command, "--output", tmp_path / "evaluation")
    assert code == 0, errors
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert results["model_name"] == "backbone-fusion"
    # All layers in one pass, 0 too.
    assert run_here("probe", *command, "--output", tmp_path / "layers")[0] == 0
    results = json.loads((tmp_path / "layers" / "results.json").read_text())
    assert results["searched_layers"] == [0, 1, 2, 3]
