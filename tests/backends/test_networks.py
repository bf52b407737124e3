"""Networks on other runtimes give what PyTorch gives, and what `hf-gar optimize` and other commands do with them."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from hf_gar import AudioEmbedder, AudioTagger, load_audio, read_job
from hf_gar.backends import optimization
from hf_gar.backends.description import read_optimized
from hf_gar.backends.exported_network import OUTPUTS
from hf_gar.hub.check import check_repository
from hf_gar.hub.load import find_repository
from hf_gar.hub.push import push_repository
from hf_gar.tiny import FOLDER, RECORDINGS
from tests.backends.conftest import INSTALLED, require_dtype
from tests.conftest import relative_error, tone
from tests.hub.local_hub import LocalHub

TOLERANCE = 1e-4  # of float32, as the issue of every backend
# Batches of several sizes and lengths, one of a single clip that is little longer than a network takes.
BATCHES_S = [[5.1, 2.0, 1.7], [1.2, 1.2], [0.36]]


def network_and_model(folder, backend, dtype, **config):
    embedder = AudioEmbedder(folder, backend=backend, dtype=dtype, model_kwargs=config)
    return embedder.load_model(), find_repository(folder).load_model(**config), embedder.feature_extractor


def cosines(found, expected) -> np.ndarray:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return (found * expected).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)


def test_float32_is_exact(optimized, backend):
    network, model, extractor = network_and_model(optimized, backend, "float32")
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
def test_one_network_of_ast_runs_at_any_length(max_length, optimized_ast, backend):
    """Its position embeddings are cut or stretched in the graph."""
    network, model, extractor = network_and_model(optimized_ast, backend, "float32", max_length=max_length)
    inputs = extractor([tone(3), tone(2)], sampling_rate=16000, return_tensors="pt")
    assert inputs["input_features"].shape[1] == max_length
    with torch.inference_mode():
        found, expected = network(**inputs), model(**inputs)
    assert relative_error(found.last_hidden_state, expected.last_hidden_state) < TOLERANCE
    assert relative_error(found.pooler_output, expected.pooler_output) < TOLERANCE


def test_recordings_of_any_length(optimized, backend):
    """Among others, a long one in chunks, with its frames."""
    recordings = [tone(2), tone(75, seed=1), tone(0.2, seed=2)]
    found, expected = (
        AudioEmbedder(optimized, backend=each, dtype="float32", with_frames=True).embed(recordings)
        for each in (backend, "torch")
    )
    for one, other in zip(found, expected, strict=True):
        assert relative_error(one.clip, other.clip) < TOLERANCE
        assert relative_error(one.frames, other.frames) < TOLERANCE
        assert np.array_equal(one.frame_times, other.frame_times)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_a_clip_is_the_same_alone_and_in_a_batch(dtype, backend, optimized_box):
    """Of real recordings, also that are padded."""
    require_dtype(backend, dtype)
    if dtype == "bfloat16":  # computed with the weights of float32
        network = AudioEmbedder(optimized_box, backend=backend, dtype="float32").load_model()
        network._load(optimized_box / "openvino" / "openvino_model.xml", dtype, threads=1)
        model = find_repository(optimized_box).load_model()
        extractor = find_repository(optimized_box).load_feature_extractor()
    else:
        network, model, extractor = network_and_model(optimized_box, backend, dtype)
    recordings = sorted(RECORDINGS.glob("*.ogg"))[:6]
    clips = [load_audio(path, 16000)[: 16000 + 2000 * index] for index, path in enumerate(recordings)]
    inputs = extractor(clips, sampling_rate=16000, return_tensors="pt")
    assert not inputs["attention_mask"].all()
    with torch.inference_mode():
        together, expected = network(**inputs), model(**inputs)
        alone = [network(**extractor(clip, sampling_rate=16000, return_tensors="pt")).pooler_output for clip in clips]
    assert cosines(torch.cat(alone), together.pooler_output).min() > 0.9999
    assert cosines(together.pooler_output, expected.pooler_output).min() > 0.995


def test_tags(optimized_ast, backend):
    """The classifier is PyTorch's, on the runtime's embeddings."""
    recordings = [tone(seconds, seed=index) for index, seconds in enumerate([2, 0.5, 3])]
    found, expected = (
        AudioTagger(optimized_ast, backend=each, dtype="float32", top_k=4).tag(recordings)
        for each in (backend, "torch")
    )
    for one, other in zip(found, expected, strict=True):
        assert [each["label"] for each in one.predictions] == [each["label"] for each in other.predictions]
        np.testing.assert_allclose(*([each["score"] for each in tags.predictions] for tags in (one, other)), atol=1e-4)


@pytest.fixture
def exported_before(monkeypatch, optimized_box):
    """The export, which is what takes time, is the one that is there."""
    copy = lambda model, extractor, path: shutil.copyfile(optimized_box / "onnx" / "model.onnx", path)  # noqa: E731
    monkeypatch.setattr(optimization, "export_onnx", copy)


@pytest.fixture
def box(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "box")


def test_where_networks_are_and_what_is_said(optimized_box):
    networks = read_optimized(optimized_box)
    assert {network.backend for network in networks} == set(INSTALLED)
    for network in networks:
        assert all((optimized_box / name).is_file() for name in network.files)
        assert network.clips.worst <= network.clips.median <= 1 + 1e-9
        least = 0.99999 if network.dtype == "float32" else 0.99
        assert network.clips.worst > least
        assert network.frames.worst > least
        assert network.speedups["float32"] > 0
    assert (optimized_box / "onnx" / "model.onnx").is_file()


def test_optimize_prints_how_close_it_is(run_here, exported_before, box):
    code, out, err = run_here("optimize", box, "--backend", "onnx", "--dtype", "float32")
    assert code == 0
    assert "making a network for onnx in float32, and comparing it with PyTorch" in err
    assert f"{box}/onnx/model.onnx, onnx in float32" in out
    assert "cosine to float32, clips   worst 1.00000  median 1.00000" in out
    assert "--backend auto may take it for embeddings and frames" in out


def test_what_is_not_close_enough_is_not_kept(run_here, exported_before, box, monkeypatch):
    require_dtype("onnx", "int8")
    monkeypatch.setattr(optimization, "MINIMUM_COSINE", 1.0)
    code, _, err = run_here("optimize", box, "--backend", "onnx", "--dtype", "int8")
    assert code == 1
    assert "The network for onnx in int8 is not close enough to PyTorch in float32: its worst cosine is 0.9" in err
    assert sorted(box.rglob("*")) == sorted(path for path in box.rglob("*") if not path.match("onnx*"))
    assert not read_optimized(box)


def test_optimize_takes_a_folder_of_ones_own(run_here):
    pytest.importorskip("onnxruntime")
    code, _, err = run_here("optimize", "cnn14-fusion-tiny", "--backend", "onnx", "--dtype", "int8")
    assert code == 1
    assert "is not a folder of yours. Copy it first: cp -r " in err
    code, _, err = run_here("optimize", FOLDER, "--backend", "onnx", "--dtype", "bfloat16")
    assert code == 1
    assert "There is no network for onnx in bfloat16; there are onnx in float32" in err


def test_a_job_is_pinned_to_its_network(run_here, backend, optimized_box, tmp_path):
    require_dtype(backend, "int8")
    folder = shutil.copytree(optimized_box, tmp_path / "box")
    job = tmp_path / "job"
    arguments = ("embed", RECORDINGS, "--model", folder, "--output", job, "--num-shards", "2")
    code, _, err = run_here(*arguments, "--backend", backend, "--dtype", "int8")
    assert code == 0
    assert f"running on {backend} in int8 (worst cosine to float32 0.99" in err
    description = json.loads((job / "job.json").read_text())
    assert (description["backend"], description["dtype"]) == (backend, "int8")
    assert f"{backend} in int8" in run_here("status", job)[1]

    results = read_job(job)
    whole, names = results.embeddings, results.rows["file_name"]
    exact = AudioEmbedder(FOLDER, backend="torch", dtype="float32").embed([str(RECORDINGS / name) for name in names])
    assert cosines(whole, [each.clip for each in exact]).min() > 0.99

    (job / "part-00001-of-00002.parquet").unlink()  # what is done again is done as the job began
    assert run_here(*arguments)[0] == 0
    assert np.array_equal(read_job(job).embeddings, whole)

    code, _, err = run_here(*arguments, "--backend", "torch", "--dtype", "float32")
    assert code == 1
    assert f"backend is '{backend}' there, 'torch' now" in err
    entries = json.loads((folder / "optimized.json").read_text())
    entries["networks"] = [each for each in entries["networks"] if each["dtype"] != "int8"]
    (folder / "optimized.json").write_text(json.dumps(entries))
    code, _, err = run_here(*arguments)
    assert code == 1
    assert "Make one: hf-gar optimize" in err


@pytest.mark.slow
def test_a_job_on_ray(run_here, backend, optimized_box, tmp_path):
    pytest.importorskip("ray")
    job = tmp_path / "job"
    arguments = ("--output", job, "--engine", "ray", "--ray-workers", "1", "--backend", backend, "--dtype", "float32")
    assert run_here("embed", RECORDINGS, "--model", optimized_box, *arguments)[0] == 0
    results = read_job(job)
    assert results.description["backend"] == backend
    exact = AudioEmbedder(FOLDER, dtype="float32").embed([str(RECORDINGS / name) for name in results.rows["file_name"]])
    assert relative_error(results.embeddings, np.stack([each.clip for each in exact])) < TOLERANCE


def test_evaluate_and_tag(run_here, backend, optimized_ast, optimized_box, tones, tmp_path):
    arguments = ("--backend", backend, "--output", tmp_path / "job")
    assert run_here("tag", tones, "--model", optimized_ast, *arguments)[0] == 0
    assert json.loads((tmp_path / "job" / "job.json").read_text())["backend"] == backend
    arguments = ("--backend", backend, "--dtype", "float32", "--seeds", "42", "--output", tmp_path / "evaluation")
    code, out, _ = run_here("evaluate", "--data", tones, "--model", optimized_box, *arguments)
    assert code == 0
    assert "100.00" in out  # the tones are easily told apart
    assert json.loads((tmp_path / "evaluation" / "embeddings" / "job.json").read_text())["backend"] == backend


@pytest.mark.slow
def test_a_repository_with_networks_passes_the_check(backend, optimized_ast):
    check_repository(optimized_ast)


def test_networks_travel_with_the_repository(backend, optimized_ast, tmp_path, monkeypatch):
    """Through a Hub, from which they are fetched when they are used."""
    with LocalHub(tmp_path / "hub", organizations=("org",)) as hub:
        hub.patch(monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("hf_gar.hub.push.check_repository", lambda folder, _: find_repository(folder))
        push = push_repository(optimized_ast, "org/ast")
        assert {"optimized.json", "onnx/model.onnx"} <= set(push.uploaded)
        embedder = AudioEmbedder("org/ast", backend=backend, dtype="float32")
        assert not any(path.suffix in (".onnx", ".xml") for path in embedder.repository.folder.rglob("*"))
        recording = str(sorted(RECORDINGS.glob("*.ogg"))[0])
        found = embedder.embed([recording])[0].clip
    expected = AudioEmbedder(optimized_ast, backend=backend, dtype="float32").embed([recording])[0].clip
    assert np.array_equal(found, expected)


@pytest.mark.slow
def test_no_usage_data_is_sent(tmp_path):
    """In a process of its own: NNCF sends none where pytest has been imported."""
    box, home = shutil.copytree(FOLDER, tmp_path / "box"), tmp_path / "home"
    home.mkdir()
    ci = ("CI", "TF_BUILD", "JENKINS_URL")  # where none is sent
    environment = {name: value for name, value in os.environ.items() if name not in ci}
    command = [sys.executable, "-m", "hf_gar", "optimize", box, "--backend", *INSTALLED, "--dtype", "float32", "int8"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env={**environment, "HOME": str(home)})
    assert len(list(box.glob("openvino/*.xml"))) == len(list(box.glob("onnx/*.onnx"))) == 2
    # What sends some keeps a number for this machine there.
    assert not [path for path in home.rglob("*") if {"intel", "Intel", "Microsoft"} & set(path.parts)]
