"""Weights that are not a model's own, or have no usable values, are refused before they are used."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from hf_gar.registry import MODELS
from tests.conftest import build_tiny, save_tiny


def edit(folder: Path, change) -> Path:
    """Write a repository's weights again, as `change` gives them."""
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def replaced(weights, index, value):
    """The weights, with the first value of one of them replaced."""
    name = [name for name in sorted(weights) if weights[name].ndim > 1][index]
    weights[name].view(-1)[0] = value
    return weights


@pytest.fixture
def folder(model_type, tmp_path) -> Path:
    return save_tiny(model_type, tmp_path / "repository")


def loaders(model):
    """The package's class, and the repository's own code."""
    return type(model).from_pretrained, lambda folder, **options: AutoModel.from_pretrained(
        folder, trust_remote_code=True, **options
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(model, folder, value):
    edit(folder, lambda weights: replaced(weights, 1, value))
    for load in loaders(model):
        with pytest.raises(ValueError, match=r"The weight \w+\.[\w.]+ has values that are NaN or infinite\. Export"):
            load(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool])
def test_weights_that_are_not_floats(model, folder, dtype):
    edit(folder, lambda weights: {name: weight.to(dtype) for name, weight in weights.items()})
    expected = rf"\d+ not of a floating type \([\w.]+ {dtype}, "
    for load in loaders(model):
        with pytest.raises(ValueError, match=expected):
            load(folder)


def test_a_single_integer_weight_is_named(model, folder):
    name = next(name for name, weight in model.named_parameters())
    edit(folder, lambda weights: {**weights, name: weights[name].to(torch.int32)})
    with pytest.raises(ValueError, match=rf"1 not of a floating type \({re.escape(name)} torch.int32\)"):
        type(model).from_pretrained(folder)


def test_values_beyond_float16(model, folder):
    edit(folder, lambda weights: replaced(weights, 1, 1e6))
    for load in loaders(model):
        with pytest.raises(ValueError, match=r"beyond 65504: load the model with dtype=torch.bfloat16 or"):
            load(folder, dtype=torch.float16)
        load(folder, dtype=torch.bfloat16)
        load(folder, dtype=torch.float32)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_load(model, folder, stored):
    edit(
        folder,
        lambda weights: {
            name: weight.to(stored) if weight.is_floating_point() else weight for name, weight in weights.items()
        },
    )
    loaded = type(model).from_pretrained(folder, dtype=torch.float32)
    name, weight = next(model.named_parameters())
    assert torch.equal(loaded.get_parameter(name), weight.to(stored).float())


def test_variances_below_zero(tmp_path):
    folder = save_tiny("cnn14-fusion", tmp_path / "repository")
    edit(folder, lambda weights: {**weights, "bn0.running_var": -weights["bn0.running_var"]})
    with pytest.raises(ValueError, match=r"The weight bn0\.running_var has variances below 0"):
        AutoModel.from_pretrained(folder, trust_remote_code=True)


def test_missing_unknown_and_misshaped_weights_are_named(model, folder):
    missing, misshaped = [name for name, weight in model.named_parameters() if weight.ndim > 1][:2]

    def change(weights):
        weights[misshaped] = weights[misshaped].flatten()[:1].clone()
        weights["unknown.weight"] = torch.ones(2)
        del weights[missing]
        return weights

    edit(folder, change)
    expected = (
        rf"1 missing \({re.escape(missing)}\); 1 unknown \(unknown\.weight\); "
        rf"1 of another shape \({re.escape(misshaped)} \(1,\), expected \(.*smaller depth"
    )
    for load in loaders(model):
        with pytest.raises(ValueError, match=expected):
            load(folder)


def test_a_configuration_beyond_the_weights_allocates_nothing(tmp_path):
    """A network this wide takes more than the memory that is left to it here."""
    folder = save_tiny("ast-fusion", tmp_path / "repository")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"hidden_size": 24', '"hidden_size": 6144'))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"51 of another shape \(embeddings.cls_token \(1, 1, 24\), expected"):
            AutoModel.from_pretrained(folder, trust_remote_code=True)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_sharded_weights(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    for load in loaders(model):
        loaded = load(tmp_path).state_dict()
        assert all(torch.equal(loaded[name], weight) for name, weight in model.state_dict().items())
    weights = load_file(shards[-1])
    name = next(name for name, weight in weights.items() if weight.is_floating_point())
    save_file({**weights, name: weights[name].to(torch.int8)}, shards[-1], metadata={"format": "pt"})
    for load in loaders(model):
        with pytest.raises(ValueError, match=rf"1 not of a floating type \({re.escape(name)} torch.int8\)"):
            load(tmp_path)


def test_weights_that_are_passed_are_checked_too(model_type):
    model = build_tiny(model_type)
    name, weight = next(model.named_parameters())
    state_dict = {**model.state_dict(), name: weight.detach() * float("nan")}
    with pytest.raises(ValueError, match=f"The weight {re.escape(name)} has values that are NaN"):
        type(model).from_pretrained(None, config=model.config, state_dict=state_dict)


def test_weights_that_are_passed_stay_as_they_are(model_type):
    model = build_tiny(model_type)
    state_dict = model.state_dict()
    before = {name: weight.clone() for name, weight in state_dict.items()}
    loaded = type(model).from_pretrained(None, config=model.config, state_dict=state_dict)
    for found in (state_dict, loaded.state_dict()):
        assert all(torch.equal(found[name], weight) for name, weight in before.items())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
@pytest.mark.parametrize("model_type", ["cnn14-fusion", "ast-fusion"])
def test_loading_takes_little_more_memory_than_the_weights(model_type, tmp_path):
    spec = MODELS[model_type]
    save_tiny(model_type, tmp_path / "small")
    spec.model(spec.config()).save_pretrained(tmp_path / "full")
    code = f"""
import re
from pathlib import Path
from hf_gar import {spec.model.__name__}

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

{spec.model.__name__}.from_pretrained({str(tmp_path / "small")!r})
before = peak()
{spec.model.__name__}.from_pretrained({str(tmp_path / "full")!r})
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    size = (tmp_path / "full" / "model.safetensors").stat().st_size
    assert 0.5 * size < int(done.stdout) < 1.3 * size
