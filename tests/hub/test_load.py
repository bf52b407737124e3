"""Repositories that are damaged or hostile are refused at once, by an error that names the file and the field."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_gar.errors import HfGarError
from hf_gar.hub.check import check_repository
from hf_gar.hub.load import find_repository
from tests.conftest import save_publishable, save_tiny, tone


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    """A repository of each model."""
    folder = tmp_path_factory.mktemp("sound")
    return {name: save_tiny(f"{name}-fusion", folder / name) for name in ("ast", "cnn14", "vggish")}


def altered(repository: Path, folder: Path, file: str | None = None, **fields) -> Path:
    """A copy of a repository with other fields in one of its files."""
    shutil.copytree(repository, folder)
    if file is not None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, **fields}))
    return folder


def load(folder: Path, dtype=torch.float32) -> None:
    """All that can be loaded of a repository, and an embedding."""
    repository = find_repository(folder)
    config, extractor = repository.load_config(), repository.load_feature_extractor()
    extractor.match(config)
    inputs = extractor(tone(1), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    repository.load_model(dtype)(**inputs)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("cnn14", {"dtype": "float99"}, "dtype has to be float32, bfloat16 or float16, not 'float99'"),
        ("cnn14", {"model_type": ["a"]}, r"a model of the type \['a'\]; hf_gar has vggish-fusion, cnn14-fusion"),
        ("cnn14", {"auto_map": 5}, "config.json has auto_map=5, expected an object"),
        ("cnn14", {"auto_map": {"AutoModel": "modeling_ast_fusion.ASTFusionModel"}}, "has a Cnn14FusionModel"),
        ("cnn14", {"id2label": 5}, "config.json cannot be loaded: id2label has to be an object"),
        ("cnn14", {"attribute_map": 5}, "config.json cannot be loaded: .*"),
        ("cnn14", {"channels": [4, 4, 8, 8, 8, 10**9]}, r"channels\[5\] has to be an integer from 1 to 8192"),
        ("cnn14", {"channels": [4, 4, 8, 8, 8, 32]}, r"of another shape \(blocks.5.conv1.weight \(16, 8, 3, 3\)"),
        ("cnn14", {"fusion_layers": [3] * 1_000_000}, "repeats a layer"),
        ("cnn14", {"dropout": float("nan")}, "dropout has to be a number"),
        ("ast", {"num_hidden_layers": 10_000_000}, "num_hidden_layers has to be an integer from 1 to 256"),
        ("ast", {"num_hidden_layers": 12, "depth": 11}, r"missing \(layers\.4\.norm1\.weight"),
        ("ast", {"max_length": 100_000_000}, "max_length has to be an integer"),
        ("ast", {"max_length": 100_000}, "max_length=100000 makes 19998 patches"),
        ("ast", {"hidden_size": 6144}, "51 of another shape"),
        ("ast", {"layer_norm_eps": -1.0}, "layer_norm_eps has to be a number"),
        ("vggish", {"hidden_sizes": [10**7, 10**6, 8]}, r"hidden_sizes\[0\] has to be"),
    ],
)
def test_a_hostile_configuration(name, fields, message, sound, tmp_path):
    folder = altered(sound[name], tmp_path / "repository", "config.json", **fields)
    start = time.monotonic()
    with pytest.raises(HfGarError, match=message) as raised:
        load(folder)
    assert str(folder) in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("cnn14", {"frequency_max": 1e9}, "frequency_max has to be a number from 0 to 500000, not 1000000000.0"),
        ("cnn14", {"n_fft": 2**40}, "n_fft has to be an integer from 16 to 16384"),
        ("cnn14", {"win_length": -4}, "win_length has to be an integer from 16 to 16384, not -4"),
        ("cnn14", {"hop_length": 320}, "hop_length=320, but its model takes 160"),
        ("cnn14", {"feature_size": 64}, "feature_size=64, but its model takes 32"),
        ("cnn14", {"sampling_rate": 32000}, "sampling_rate=32000, but its model takes 16000"),
        ("cnn14", {"chunk_frames": 3}, "chunk_frames is not a field of a Cnn14FusionFeatureExtractor"),
        ("cnn14", {"feature_extractor_type": "VGGishFusionFeatureExtractor"}, "has a Cnn14FusionFeatureExtractor"),
        ("cnn14", {"feature_extractor_type": None}, "has feature_extractor_type=None"),
        ("cnn14", {"auto_map": {"AutoFeatureExtractor": "a.VGGishFusionFeatureExtractor"}}, "has a Cnn14Fusion"),
        ("ast", {"mean": float("inf")}, "mean has to be a number from -1000 to 1000, not inf"),
        ("ast", {"std": 0.0}, "std has to be a number"),
        ("ast", {"max_length": 100_000_000}, "max_length has to be an integer"),
    ],
)
def test_a_hostile_feature_extractor(name, fields, message, sound, tmp_path):
    folder = altered(sound[name], tmp_path / "repository", "preprocessor_config.json", **fields)
    with pytest.raises(HfGarError, match=f"preprocessor_config.json .*{message}"):
        load(folder)


def test_the_feature_extractor_of_another_model(sound, tmp_path):
    folder = altered(sound["cnn14"], tmp_path / "repository")
    shutil.copy(sound["vggish"] / "preprocessor_config.json", folder)
    with pytest.raises(HfGarError, match=r"feature_extractor_type='VGGishFusionFeatureExtractor', but the model is a"):
        find_repository(folder)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "cannot be read: maximum recursion depth"),
        ('{"a":' * 100_000, "cannot be read: maximum recursion depth"),
        ("[]", "is not a configuration: it holds a list, expected an object"),
        ("{", "cannot be read: Expecting property name"),
        (None, "has no "),
    ],
    ids=["deep list", "deep object", "list", "cut", "missing"],
)
def test_a_file_that_is_no_configuration(file, content, message, sound, tmp_path):
    folder = altered(sound["cnn14"], tmp_path / "repository")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(HfGarError, match=message) as raised:
        find_repository(folder)
    assert file in str(raised.value)


def write_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: change(weight) if weight.is_floating_point() else weight for name, weight in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


@pytest.mark.parametrize(
    ("change", "dtype", "message"),
    [
        (lambda weight: weight * float("nan"), torch.float32, r"The weight [\w.]+ has values that are NaN or infinite"),
        (lambda weight: weight.to(torch.int8), torch.float32, r"not of a floating type \([\w.]+ torch.int8"),
        (lambda weight: weight * 1e6, torch.float16, "load the model with dtype=torch.bfloat16 or torch.float32"),
    ],
    ids=["nan", "int8", "float16"],
)
def test_unusable_weights(model_type, change, dtype, message, tmp_path):
    folder = save_publishable(model_type, tmp_path / "repository")
    write_weights(folder, change)
    with pytest.raises(HfGarError, match=f"The weights of {re.escape(str(folder))} cannot be loaded: .*{message}"):
        load(folder, dtype)


def test_unusable_weights_are_not_published(tmp_path):
    folder = save_publishable("cnn14-fusion", tmp_path / "repository")
    before = find_repository(folder).weights_sha256
    write_weights(folder, lambda weight: weight.to(torch.int8))
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace(before, find_repository(folder).weights_sha256))
    with pytest.raises(HfGarError, match="not of a floating type"):
        check_repository(folder)


def test_sharded_weights(model_type, model, tmp_path):
    folder = save_tiny(model_type, tmp_path / "repository")
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    load(folder)
    next(folder.glob("*.safetensors")).unlink()
    with pytest.raises(HfGarError, match=f"The weights of {re.escape(str(folder))} cannot be loaded"):
        load(folder)


def test_wrong_arguments_are_not_the_repositorys_fault(sound):
    repository = find_repository(sound["cnn14"])
    for call in (repository.load_config, repository.load_model):
        with pytest.raises(ValueError, match="unknown layers"):
            call(fusion_layers=[99])
        with pytest.raises(ValueError, match="whose configuration has no max_length"):
            call(max_length=5)
    with pytest.raises(ValueError, match="frequency_max has to be a number"):
        repository.load_feature_extractor(frequency_max="high")
    with pytest.raises(ValueError, match="has no mean"):
        repository.load_feature_extractor(mean=0.0)
