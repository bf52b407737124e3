"""Which network is taken, and what is said where none is."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from hf_gar import AudioEmbedder, AudioTagger, HfGarError
from hf_gar.backends import choice
from hf_gar.backends.choice import choose_backend, choose_torch_dtype
from hf_gar.backends.description import (
    Cosines,
    OptimizedNetwork,
    network_fields,
    network_files,
    read_optimized,
    write_optimized,
)
from hf_gar.hub.load import OPTIMIZED_FILE, find_repository
from hf_gar.tiny import FOLDER
from tests.conftest import save_tiny

CPU = torch.device("cpu")


@pytest.fixture
def repository(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "box")
    return find_repository(tmp_path / "box")


@pytest.fixture(autouse=True)
def both_runtimes(monkeypatch):
    """As if both were installed, on a processor that has all instructions."""
    monkeypatch.setattr(choice, "is_installed", lambda backend: True)
    monkeypatch.setattr(choice, "_has_any", lambda instructions: True)


def describe(repository, backend="onnx", dtype="int8", clips=0.9995, frames=0.9995, speedup=3.0, **others):
    """Tell of a network in a repository, which is not there."""
    network = OptimizedNetwork(
        backend=backend,
        dtype=dtype,
        sha256={f"{backend}/{dtype}": "0" * 64},
        weights_sha256=repository.weights_sha256,
        network=network_fields(repository.load_config()),
        clips=Cosines(clips, clips),
        frames=Cosines(frames, frames),
        speedups={"float32": speedup, "bfloat16": speedup / 2},
        calibration=None,
        versions={},
    )
    write_optimized(repository.folder, replace(network, **others))


def chosen(repository, *arguments, **options) -> tuple[str, str]:
    found = choose_backend(repository, repository.load_config(), CPU, *arguments, **options)
    return found.backend, found.dtype


def test_auto_takes_the_fastest_that_is_good(repository):
    assert chosen(repository) == ("torch", "bfloat16")
    describe(repository, "onnx", speedup=3.0)
    assert chosen(repository) == ("onnx", "int8")
    describe(repository, "openvino", speedup=4.0)
    assert chosen(repository) == ("openvino", "int8")
    describe(repository, "openvino", speedup=5.0, clips=0.9989)
    assert chosen(repository) == ("onnx", "int8")
    describe(repository, "openvino", "bfloat16", speedup=3.5, frames=0.9989)
    assert chosen(repository) == ("openvino", "bfloat16")
    assert chosen(repository, with_frames=True) == ("onnx", "int8")
    assert chosen(repository, "openvino") == ("openvino", "bfloat16")
    assert chosen(repository, "openvino", "int8") == ("openvino", "int8")  # which is named
    assert chosen(repository, dtype="float32") == ("torch", "float32")


def test_int8_is_good_at_the_input_length_that_it_was_compared_at(tmp_path):
    repository = find_repository(save_tiny("ast-fusion", tmp_path / "ast"))
    config = repository.load_config()
    other = repository.load_config(max_length=config.max_length // 2)
    describe(repository, calibration="12 recordings", max_length=config.max_length)
    assert choose_backend(repository, config, CPU).backend == "onnx"
    assert choose_backend(repository, other, CPU).backend == "torch"
    assert choose_backend(repository, other, CPU, "onnx", "int8").backend == "onnx"  # which is named
    told = rf"onnx in int8, compared at max_length={config.max_length} .*--max-length {other.max_length}$"
    with pytest.raises(HfGarError, match=told):
        choose_backend(repository, other, CPU, "onnx")
    describe(repository, "openvino", "float32", max_length=config.max_length)
    assert choose_backend(repository, other, CPU).dtype == "float32"


def test_pytorch_where_it_is_faster(repository):
    describe(repository, speedup=1.5)  # than in float32, but not than in bfloat16
    assert chosen(repository) == ("torch", "bfloat16")
    assert chosen(repository, "onnx") == ("onnx", "int8")


def test_what_is_not_installed_is_not_taken(repository, monkeypatch):
    describe(repository)
    monkeypatch.setattr(choice, "is_installed", lambda backend: False)
    assert chosen(repository) == ("torch", "bfloat16")
    with pytest.raises(HfGarError, match=r'onnxruntime is not installed: pip install "hf_gar\[onnx\]"'):
        chosen(repository, "onnx")


def test_this_processor_has_to_compute_it(repository, monkeypatch):
    describe(repository)
    monkeypatch.setattr(choice, "_has_any", lambda instructions: False)
    monkeypatch.setattr(choice.platform, "machine", lambda: "x86_64")
    assert chosen(repository) == ("torch", "float32")
    assert choose_torch_dtype("cpu") == "float32"
    with pytest.raises(ValueError, match="This processor has none of avx512_vnni"):
        chosen(repository, "onnx", "int8")


def test_networks_are_for_the_processor(repository):
    describe(repository)
    with pytest.raises(ValueError, match="'onnx' runs on the processor, not on meta"):
        choose_backend(repository, repository.load_config(), torch.device("meta"), "onnx")
    found = choose_backend(repository, repository.load_config(), torch.device("meta"))
    assert (found.backend, found.dtype) == ("torch", "float32")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"backend": "onnx"}, "--backend onnx --dtype int8 --fusion-layers 1 2 3 4 5 6"),
        ({"dtype": "int8"}, "--backend onnx --dtype int8 --fusion-layers 1 2 3 4 5 6"),
        (
            {"backend": "openvino", "dtype": "bfloat16", "model_kwargs": {"fusion_layers": [5, 2]}},
            "--backend openvino --dtype bfloat16 --fusion-layers 2 5",
        ),
    ],
)
def test_a_missing_network_is_told_how_to_make(options, expected, repository):
    with pytest.raises(HfGarError, match="it has none") as raised:
        AudioEmbedder(repository, **options).load_model()
    assert str(raised.value).endswith(f"Make one: hf-gar optimize {repository.folder} {expected}")


def test_a_classifier_has_layers_of_its_own(repository):
    describe(repository)
    assert AudioTagger(repository).choose_backend().backend == "torch"
    with pytest.raises(
        HfGarError, match=r"it has onnx in int8, of the layers \[1, 2, 3, 4, 5, 6\]\. Make one.*unfused$"
    ):
        AudioTagger(repository, backend="onnx").load_model()


def test_a_network_of_other_weights_is_not_taken(repository):
    describe(repository, weights_sha256="1" * 64)
    assert chosen(repository)[0] == "torch"
    with pytest.raises(HfGarError, match="it has onnx in int8, of other weights"):
        chosen(repository, "onnx")


def test_damaged_files(repository):
    describe(repository)
    embedder = AudioEmbedder(repository, backend="onnx", dtype="int8")
    with pytest.raises(HfGarError, match=r"onnx/int8 is missing\. Make it again with `hf-gar optimize`"):
        embedder.load_model()
    (repository.folder / "onnx").mkdir()
    (repository.folder / "onnx" / "int8").write_bytes(b"something else")
    with pytest.raises(HfGarError, match=r"onnx/int8 is not the network that optimized\.json tells of"):
        embedder.load_model()
    path = repository.folder / OPTIMIZED_FILE
    entries = json.loads(path.read_text())
    for damage in ({"sha256": {"onnx/../../elsewhere": "0" * 64}}, {"clips": {"worst": 1}}, {"more": 1}):
        path.write_text(json.dumps({"networks": [{**entries["networks"][0], **damage}]}))
        with pytest.raises(HfGarError, match=r"optimized\.json is damaged.*Remove it"):
            embedder.load_model()


def test_networks_on_other_layers_are_beside_each_other(repository):
    default = repository.load_config()
    for layers, names in [
        ([6, 5, 4, 3, 2, 1], ("openvino/openvino_model.xml", "openvino/openvino_model.bin")),
        ([6, 3], ("openvino/openvino_model_layers_3_6.xml", "openvino/openvino_model_layers_3_6.bin")),
        (None, ("openvino/openvino_model_unfused.xml", "openvino/openvino_model_unfused.bin")),
    ]:
        config = repository.load_config(fusion_layers=layers)
        assert network_files("openvino", "float32", config, default) == names
    assert network_files("onnx", "int8", config, default) == ("onnx/model_qint8_unfused.onnx",)


def test_a_network_replaces_the_one_in_its_place(repository):
    describe(repository, clips=0.9)
    describe(repository, clips=0.9995)
    (network,) = read_optimized(repository.folder)
    assert network.clips.worst == 0.9995
    describe(repository, "openvino", weights_sha256="1" * 64)  # of new weights: none of the old ones is left
    (network,) = read_optimized(repository.folder)
    assert network.backend == "openvino"
