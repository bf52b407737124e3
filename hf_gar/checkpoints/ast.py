"""AST's checkpoints: the original `.pth`, and transformers' with the parameter names of transformers 4 and of 5."""

import re
from pathlib import Path
from typing import Any

import torch

from hf_gar.checkpoints.converted import ConvertedCheckpoint, ConvertedClassifier
from hf_gar.checkpoints.reading import read_json, read_state_dict, rename_weights
from hf_gar.errors import HfGarError
from hf_gar.models.configuration_ast_fusion import PATCH_SIZE, PATCH_STRIDE, ASTFusionConfig, patches

ORIGINAL = "module.v."
TRANSFORMERS = "audio_spectrogram_transformer."
# ImageNet's classifiers, which the original did not use.
IGNORED = ("module.v.head.", "module.v.head_dist.")
# The classifier, a layer normalisation and a linear layer: the original's, and transformers'.
CLASSIFIERS = (("module.mlp_head.0", "module.mlp_head.1"), ("classifier.layernorm", "classifier.dense"))

# A module's name there -> ours; `{}` stands for the number of a block.
ORIGINAL_NAMES = {
    "cls_token": "embeddings.cls_token",
    "dist_token": "embeddings.distillation_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.projection",
    "blocks.{}.norm1": "layers.{}.norm1",
    "blocks.{}.attn.qkv": "layers.{}.qkv",
    "blocks.{}.attn.proj": "layers.{}.attention_output",
    "blocks.{}.norm2": "layers.{}.norm2",
    "blocks.{}.mlp.fc1": "layers.{}.intermediate",
    "blocks.{}.mlp.fc2": "layers.{}.output",
    "norm": "norm",
}
TRANSFORMERS_EMBEDDINGS = {
    "embeddings.cls_token": "embeddings.cls_token",
    "embeddings.distillation_token": "embeddings.distillation_token",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection": "embeddings.projection",
    "layernorm": "norm",
}
# Query, key and value apart: they are put together under `qkv`.
TRANSFORMERS_4_NAMES = TRANSFORMERS_EMBEDDINGS | {
    "encoder.layer.{}.layernorm_before": "layers.{}.norm1",
    "encoder.layer.{}.attention.attention.query": "layers.{}.query",
    "encoder.layer.{}.attention.attention.key": "layers.{}.key",
    "encoder.layer.{}.attention.attention.value": "layers.{}.value",
    "encoder.layer.{}.attention.output.dense": "layers.{}.attention_output",
    "encoder.layer.{}.layernorm_after": "layers.{}.norm2",
    "encoder.layer.{}.intermediate.dense": "layers.{}.intermediate",
    "encoder.layer.{}.output.dense": "layers.{}.output",
}
TRANSFORMERS_5_NAMES = TRANSFORMERS_EMBEDDINGS | {
    "layers.{}.layernorm_before": "layers.{}.norm1",
    "layers.{}.attention.q_proj": "layers.{}.query",
    "layers.{}.attention.k_proj": "layers.{}.key",
    "layers.{}.attention.v_proj": "layers.{}.value",
    "layers.{}.attention.o_proj": "layers.{}.attention_output",
    "layers.{}.layernorm_after": "layers.{}.norm2",
    "layers.{}.mlp.fc1": "layers.{}.intermediate",
    "layers.{}.mlp.fc2": "layers.{}.output",
}
# What transformers' configuration tells, under the names that ours has for it too.
CONFIG_FIELDS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "num_mel_bins",
)
FIXED_CONFIG = {"patch_size": PATCH_SIZE, "time_stride": PATCH_STRIDE, "frequency_stride": PATCH_STRIDE}


def convert_ast(path: Path) -> ConvertedCheckpoint:
    """Read an AST checkpoint: the original's `.pth`, or a folder (or its weights) of `ASTForAudioClassification`.

    Raises:
        HfGarError: It is another file, a weight is missing or unexpected, or its patches are not 16x16 every 10.
    """
    config, feature_extractor, labels, weights = {}, {}, {}, path
    if path.is_dir():
        config, labels = _read_config(path), _read_labels(path)
        feature_extractor, weights = _read_normalization(path), path / "model.safetensors"
    checkpoint = read_state_dict(weights)
    depth = config.get("num_hidden_layers", ASTFusionConfig().num_hidden_layers)
    prefix, modules = _layout(checkpoint)
    names: dict[str, str] = {}
    for theirs, ours in modules.items():
        leaves = [""] if theirs.endswith(("_token", "pos_embed", "position_embeddings")) else [".weight", ".bias"]
        for layer in range(depth) if "{}" in theirs else [0]:
            names |= {prefix + theirs.format(layer) + leaf: ours.format(layer) + leaf for leaf in leaves}
    head = next((head for head in CLASSIFIERS if any(key.startswith(head) for key in checkpoint)), None)
    for theirs in head or ():
        names |= {theirs + leaf: theirs + leaf for leaf in (".weight", ".bias")}
    state_dict = rename_weights(checkpoint, names, IGNORED, weights, "AST")
    classifier = None if head is None else _fold_classifier(state_dict, *head, labels, path)
    if modules is not ORIGINAL_NAMES:
        state_dict = _join_qkv(state_dict)
    config["pretrained_max_length"] = _trained_length(state_dict, config, weights)
    return ConvertedCheckpoint(state_dict, config, feature_extractor, classifier)


def _layout(checkpoint: dict[str, torch.Tensor]) -> tuple[str, dict[str, str]]:
    """The beginning of a checkpoint's names, and what they are called after it."""
    if any(key.startswith(ORIGINAL) for key in checkpoint):
        return ORIGINAL, ORIGINAL_NAMES
    is_new = any(re.search(r"\.attention\.q_proj\.", key) for key in checkpoint)
    return TRANSFORMERS, TRANSFORMERS_5_NAMES if is_new else TRANSFORMERS_4_NAMES


def _fold_classifier(
    state_dict: dict[str, torch.Tensor], norm: str, linear: str, labels: dict[str, Any], path: Path
) -> ConvertedClassifier:
    """Take the classifier out of the weights; what its normalisation multiplies by and adds goes into the linear layer.

    W (g x + b) + c = (W g) x + (W b + c), for the embedding x after the normalisation proper.
    """
    names = [f"{module}.{leaf}" for module in (norm, linear) for leaf in ("weight", "bias")]
    scale, shift, weight, bias = (state_dict.pop(name) for name in names)
    if weight.shape != (len(bias), len(scale)) or scale.shape != shift.shape:
        raise HfGarError(f"{path} has a classifier whose parts do not fit: {linear} is {tuple(weight.shape)}.")
    if labels.get("labels") is not None and len(labels["labels"]) != len(bias):
        raise HfGarError(f"{path} has {len(labels['labels'])} labels, but its classifier has {len(bias)}.")
    exact = weight.double()
    return ConvertedClassifier(
        weight=(exact * scale.double()).to(weight.dtype),
        bias=(exact @ shift.double() + bias.double()).to(bias.dtype),
        norm="layer_norm",
        **labels,
    )


def _join_qkv(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    joined = {}
    for key, value in state_dict.items():
        stem, name, leaf = key.rsplit(".", 2) if key.count(".") >= 2 else ("", "", "")
        if name == "query":
            parts = [state_dict[f"{stem}.{part}.{leaf}"] for part in ("query", "key", "value")]
            joined[f"{stem}.qkv.{leaf}"] = torch.cat(parts)
        elif name not in ("key", "value"):
            joined[key] = value
    return joined


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    theirs = read_json(path)
    for field, expected in FIXED_CONFIG.items():
        if theirs.get(field, expected) != expected:
            raise HfGarError(f"{path} has {field}={theirs[field]}; AST-Fusion has {expected}.")
    config = {field: theirs[field] for field in CONFIG_FIELDS if field in theirs}
    try:
        ASTFusionConfig(fusion_layers=None, **config)
    except ValueError as error:
        raise HfGarError(f"{path} is not the configuration of an AST: {error}") from error
    return config


def _read_labels(folder: Path) -> dict[str, Any]:
    """The names of the labels, in order, and the `problem_type`; none where they are only numbered."""
    path = folder / "config.json"
    theirs = read_json(path)
    named = theirs.get("id2label") or {}
    if not isinstance(named, dict) or set(named) != {str(index) for index in range(len(named))}:
        raise HfGarError(f"{path} has an id2label that does not number its labels from 0.")
    labels = [named[str(index)] for index in range(len(named))]
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        raise HfGarError(f"{path} has labels that are not text, or that occur twice.")
    is_numbered = all(label == f"LABEL_{index}" for index, label in enumerate(labels))
    return {"labels": None if is_numbered else labels, "problem_type": theirs.get("problem_type")}


def _read_normalization(folder: Path) -> dict[str, float]:
    """The mean and std that a network was trained with, where its feature extractor is in the folder."""
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return {}
    theirs = read_json(path)
    if not theirs.get("do_normalize", True):
        return {"mean": 0.0, "std": 0.5}  # (x - 0) / (2 * 0.5)
    return {name: theirs[name] for name in ("mean", "std") if name in theirs}


def _trained_length(state_dict: dict[str, torch.Tensor], config: dict[str, Any], path: Path) -> int:
    """The input length that the position embeddings were trained for, in mel frames."""
    rows = patches(config.get("num_mel_bins", ASTFusionConfig().num_mel_bins))
    columns, rest = divmod(state_dict["embeddings.position_embeddings"].shape[1] - 2, rows)
    if rest or columns < 1:
        raise HfGarError(f"{path} has position embeddings that do not fit {rows} rows of patches.")
    default = ASTFusionConfig().pretrained_max_length
    return default if patches(default) == columns else (columns - 1) * PATCH_STRIDE + PATCH_SIZE
