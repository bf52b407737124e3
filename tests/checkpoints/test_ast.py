"""AST's checkpoints, and AST-Fusion with its last block against transformers' own ASTModel with the same weights."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from hf_gar import (
    ASTFusionConfig,
    ASTFusionFeatureExtractor,
    ASTFusionForAudioClassification,
    ASTFusionModel,
    HfGarError,
)
from hf_gar.checkpoints.ast import TRANSFORMERS_4_NAMES, TRANSFORMERS_5_NAMES, convert_ast
from tests.conftest import relative_error, tone
from tests.golden import checkpoints

SIZES = {"hidden_size": 48, "num_hidden_layers": 12, "num_attention_heads": 4, "intermediate_size": 96}
# Where transformers 4 and the original keep a block's query, key and value.
SPLIT = "encoder.layer.{}.attention.attention.{}"


@pytest.fixture(scope="module")
def stock():
    """transformers' AST, small, random, with the LayerNorm epsilon of the original."""
    torch.manual_seed(0)
    model = ASTForAudioClassification(ASTConfig(**SIZES, layer_norm_eps=1e-6)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
    return model


@pytest.fixture(scope="module")
def saved(stock, tmp_path_factory):
    """Folders with its weights under the names of transformers 4 and 5, and the original's file."""
    folder = tmp_path_factory.mktemp("ast")
    config = {**stock.config.to_dict(), "dtype": "float32"}
    weights = in_transformers_4(stock.state_dict())
    heads = {key: value for key, value in weights.items() if key.startswith("classifier.")}
    for name, state_dict in (("4", weights), ("5", in_transformers_5(weights) | heads)):
        (folder / name).mkdir()
        save_file(state_dict, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps(config, default=str))
    torch.save(in_original(weights), folder / "original.pth", _use_new_zipfile_serialization=False)
    return folder


def rename(state_dict, names, prefix=""):
    """Names by module, with `{}` for the number of a block."""
    renamed = {}
    for key, value in state_dict.items():
        for theirs, ours in names.items():
            for layer in range(SIZES["num_hidden_layers"]) if "{}" in theirs else [0]:
                for leaf in ("", ".weight", ".bias"):
                    if key == theirs.format(layer) + leaf:
                        renamed[prefix + ours.format(layer) + leaf] = value
    return renamed


def in_transformers_4(state_dict):
    prefix = "audio_spectrogram_transformer."
    to_4 = {five: four for four, five in zip(TRANSFORMERS_4_NAMES, TRANSFORMERS_5_NAMES, strict=True)}
    to_4 |= {four: four for four in TRANSFORMERS_4_NAMES}
    inner = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    heads = {key: value for key, value in state_dict.items() if key.startswith("classifier.")}
    return rename(inner, to_4, prefix) | heads


def in_transformers_5(weights):
    prefix = "audio_spectrogram_transformer."
    inner = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return rename(inner, dict(zip(TRANSFORMERS_4_NAMES, TRANSFORMERS_5_NAMES, strict=True)), prefix)


def in_original(weights):
    inner = {key.removeprefix("audio_spectrogram_transformer."): value for key, value in weights.items()}
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.distillation_token": "dist_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layernorm": "norm",
        "encoder.layer.{}.layernorm_before": "blocks.{}.norm1",
        "encoder.layer.{}.attention.output.dense": "blocks.{}.attn.proj",
        "encoder.layer.{}.layernorm_after": "blocks.{}.norm2",
        "encoder.layer.{}.intermediate.dense": "blocks.{}.mlp.fc1",
        "encoder.layer.{}.output.dense": "blocks.{}.mlp.fc2",
    }
    original = rename(inner, names, "module.v.")
    for layer in range(SIZES["num_hidden_layers"]):
        for leaf in ("weight", "bias"):
            parts = [inner[f"{SPLIT.format(layer, part)}.{leaf}"] for part in ("query", "key", "value")]
            original[f"module.v.blocks.{layer}.attn.qkv.{leaf}"] = torch.cat(parts)
    for index, name in enumerate(("layernorm", "dense")):
        for leaf in ("weight", "bias"):
            original[f"module.mlp_head.{index}.{leaf}"] = weights[f"classifier.{name}.{leaf}"]
    original["module.v.head.weight"] = torch.ones(2)
    return original


@pytest.mark.parametrize("layout", ["4", "5", "original.pth"])
def test_the_last_block_is_transformers_ast_model(stock, saved, layout):
    converted = convert_ast(saved / layout)
    sizes = {**SIZES, **converted.config}  # the original's file does not tell its sizes
    model = ASTFusionModel.from_pretrained(
        None, config=ASTFusionConfig(fusion_layers=[11], **sizes), state_dict=converted.state_dict
    )
    clips = [tone(5), tone(10, seed=1)]
    inputs = ASTFusionFeatureExtractor()(clips, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = stock.audio_spectrogram_transformer(inputs["input_features"])
        found = model(**inputs)
    print(f"{layout}: {relative_error(found.pooler_output, expected.pooler_output):.1e}")
    assert relative_error(found.pooler_output, expected.pooler_output) < 1e-5
    # A frame is the mean over frequency of one column of patch tokens.
    columns = expected.last_hidden_state[:, 2:].unflatten(1, (12, 101)).mean(1)
    assert relative_error(found.last_hidden_state[1, :98], columns[1, :98]) < 1e-5


@pytest.mark.parametrize("layout", ["4", "5", "original.pth"])
def test_the_classifier_is_transformers(stock, saved, layout):
    converted = convert_ast(saved / layout)
    config = ASTFusionConfig(classifier_layers=[11], **{**SIZES, **converted.config, **converted.classifier.config})
    backbone = {f"backbone.{key}": value for key, value in converted.state_dict.items()}
    model = ASTFusionForAudioClassification.from_pretrained(
        None, config=config, state_dict={**backbone, **converted.classifier.state_dict}
    )
    assert model.config.fusion_layers == [4, 11]
    inputs = ASTFusionFeatureExtractor()([tone(5), tone(10, seed=1)], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = stock(inputs["input_features"]).logits
        found = model(**inputs).logits
    print(f"{layout}: {relative_error(found, expected):.1e}")
    assert relative_error(found, expected) < 1e-5


def test_the_labels_come_along(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    assert convert_ast(tmp_path).classifier.config == {
        "classifier_norm": "layer_norm",
        "problem_type": None,
        "num_labels": 2,
    }
    edit_config(tmp_path, id2label={"0": "no", "1": "yes"}, problem_type="multi_label_classification")
    assert convert_ast(tmp_path).classifier.config == {
        "classifier_norm": "layer_norm",
        "problem_type": "multi_label_classification",
        "id2label": {0: "no", 1: "yes"},
        "label2id": {"no": 0, "yes": 1},
    }


@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        ({"0": "a", "1": "b", "2": "c"}, "has 3 labels, but its classifier has 2"),
        ({"0": "a", "2": "b"}, "has an id2label that does not number its labels from 0"),
        (["a", "b"], "has an id2label that does not number its labels from 0"),
        ({"0": "a", "1": "a"}, "has labels that are not text, or that occur twice"),
        ({"0": "a", "1": ["b"]}, "has labels that are not text, or that occur twice"),
    ],
)
def test_labels_that_are_not_the_classifiers(stock, tmp_path, id2label, message):
    stock.save_pretrained(tmp_path)
    edit_config(tmp_path, id2label=id2label)
    with pytest.raises(HfGarError, match=message):
        convert_ast(tmp_path)


def edit_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_the_layouts_give_the_same_weights(saved):
    first = convert_ast(saved / "4")
    for layout in ("5", "original.pth"):
        other = convert_ast(saved / layout)
        assert other.state_dict.keys() == first.state_dict.keys()
        assert all(torch.equal(other.state_dict[key], first.state_dict[key]) for key in first.state_dict)
        assert torch.equal(other.classifier.weight, first.classifier.weight)
        assert torch.equal(other.classifier.bias, first.classifier.bias)


def test_what_transformers_itself_saves_is_read(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    converted = convert_ast(tmp_path)
    assert converted.config == {**SIZES, "num_mel_bins": 128, "pretrained_max_length": 1024}


def test_the_normalization_comes_along(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    ASTFeatureExtractor(mean=-6.5, std=3.25).save_pretrained(tmp_path)
    assert convert_ast(tmp_path).feature_extractor == {"mean": -6.5, "std": 3.25}
    ASTFeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    assert convert_ast(tmp_path).feature_extractor == {"mean": 0.0, "std": 0.5}


def test_a_network_trained_for_another_length(saved, tmp_path):
    checkpoint = torch.load(saved / "original.pth", weights_only=True)
    checkpoint["module.v.pos_embed"] = torch.zeros(1, 2 + 12 * 29, 48)
    torch.save(checkpoint, tmp_path / "short.pth")
    assert convert_ast(tmp_path / "short.pth").config["pretrained_max_length"] == 296
    checkpoint["module.v.pos_embed"] = torch.zeros(1, 3 + 12 * 29, 48)
    torch.save(checkpoint, tmp_path / "odd.pth")
    with pytest.raises(HfGarError, match="do not fit 12 rows of patches"):
        convert_ast(tmp_path / "odd.pth")


def test_mistakes_are_named(saved, tmp_path):
    checkpoint = torch.load(saved / "original.pth", weights_only=True)
    del checkpoint["module.v.blocks.7.norm2.bias"]
    torch.save(checkpoint, tmp_path / "lacking.pth")
    with pytest.raises(HfGarError, match=r"Missing weights: module\.v\.blocks\.7\.norm2\.bias"):
        convert_ast(tmp_path / "lacking.pth")
    other = {key: value.flatten()[:1].clone() for key, value in checkpoints.state_dict("vggish").items()}
    torch.save(other, tmp_path / "vggish.pth")
    with pytest.raises(HfGarError, match=r"vggish\.pth is not a checkpoint of AST"):
        convert_ast(tmp_path / "vggish.pth")
    with pytest.raises(HfGarError, match=r"config\.json cannot be read"):
        convert_ast(tmp_path)
    config = json.loads((saved / "4" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "time_stride": 16}))
    with pytest.raises(HfGarError, match="has time_stride=16; AST-Fusion has 10"):
        convert_ast(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers has to be an integer from 1 to 256"),
        ({"num_mel_bins": "128"}, "num_mel_bins has to be an integer"),
        ({"hidden_size": 50}, "hidden_size=50 has to be a multiple of num_attention_heads=4"),
    ],
)
def test_a_hostile_configuration(saved, tmp_path, fields, message):
    config = json.loads((saved / "4" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **fields}))
    (tmp_path / "model.safetensors").symlink_to(saved / "4" / "model.safetensors")
    with pytest.raises(HfGarError, match=f"config.json is not the configuration of an AST: {message}"):
        convert_ast(tmp_path)


def test_a_configuration_that_is_nested_too_deep(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(HfGarError, match=r"config\.json cannot be read: maximum recursion depth"):
        convert_ast(tmp_path)
