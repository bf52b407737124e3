"""Repositories of transformers' own audio networks: their configuration and weights, never their code."""

import re
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES

from hf_gar.checkpoints.converted import ConvertedCheckpoint
from hf_gar.checkpoints.reading import read_json, read_state_dict
from hf_gar.errors import HfGarError
from hf_gar.models.backbone_networks import NETWORKS, AudioNetwork
from hf_gar.models.configuration_backbone_fusion import BackboneFusionConfig
from hf_gar.models.feature_extraction_backbone_fusion import build_front_end
from hf_gar.models.modeling_backbone_fusion import BackboneFusionModel

INDEX = "model.safetensors.index.json"
# The part of a configuration that is an audio network's, where that is one of several.
PARTS = {"clap": ("audio_config", "clap_audio_model")}
# What stands before the names of a network's weights, where it is not the prefix of its class.
PREFIXES = {
    "clap_audio_model": ("audio_model.", ""),
    "dac": ("encoder.",),
    "whisper": ("model.encoder.", "encoder.", ""),
}
# Parts of a network for training, or after its last block, which are dropped as heads are.
BEYOND_THE_BLOCKS = ("masked_spec_embed", "adapter.", "intermediate_ffn.")


def convert_backbone(path: Path) -> ConvertedCheckpoint:
    """Read a repository of an audio network that transformers has: a folder with safetensors, in shards or not.

    Raises:
        HfGarError: It is none of those in `NETWORKS`, has code of its own, or a weight is missing or unexpected.
    """
    if not path.is_dir():
        raise HfGarError(
            f"{path} is not a folder: BackboneFusion takes a repository of transformers, with config.json, "
            "preprocessor_config.json and model.safetensors, or its name on the Hub."
        )
    backbone_config = _read_config(path)
    model_type = backbone_config["model_type"]
    try:
        front_end = build_front_end(_read_feature_extractor(path, model_type))
        config = {
            "backbone_config": backbone_config,
            "input_length": front_end.max_length,
            "sampling_rate": front_end.extractor.sampling_rate,
            "hop_length": front_end.hop_length,
        }
        network = BackboneFusionConfig(**config).audio_network
    except ValueError as error:
        raise HfGarError(f"{path} cannot be fused: {error}") from error
    state_dict, dropped = _network_weights(_read_weights(path), network, path)
    feature_extractor = {
        "backbone_feature_extractor": front_end.extractor.to_dict(),
        "frame_window": network.frame_window,
        "frame_hop": network.frame_hop,
    }
    return ConvertedCheckpoint(state_dict, config, feature_extractor, dropped=dropped)


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a repository of transformers.

    Raises:
        HfGarError: Its list of files names one that is elsewhere.
    """
    if not (folder / INDEX).is_file():
        return [folder / "model.safetensors"]
    names = read_json(folder / INDEX).get("weight_map")
    files = names.values() if isinstance(names, dict) else [names]
    if not all(isinstance(name, str) and re.fullmatch(r"[\w-]+\.safetensors", name) for name in files):
        raise HfGarError(f"{folder / INDEX} does not list the files of this repository. Download it again.")
    return [folder / name for name in sorted(set(files))]


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a repository's audio network."""
    path = folder / "config.json"
    config = read_json(path)
    model_type = config.get("model_type")
    known = ", ".join(sorted({*NETWORKS, *PARTS} - {part for _, part in PARTS.values()}))
    if config.get("auto_map"):
        raise HfGarError(f"{path} names code of its own (auto_map), which is never run. BackboneFusion takes {known}.")
    if model_type in PARTS:
        name, model_type = PARTS[model_type]
        part = config.get(name)
        if not isinstance(part, dict):
            raise HfGarError(f"{path} has no {name}. Download the repository again.")
        config = part
    if model_type not in NETWORKS:
        raise HfGarError(
            f"{path} is the configuration of a {model_type!r}, which BackboneFusion does not take. It takes {known}."
        )
    return {**config, "model_type": model_type}


def _read_feature_extractor(folder: Path, model_type: str) -> dict[str, Any]:
    """The fields of a repository's feature extractor, with its type, which older files leave out."""
    path = folder / "preprocessor_config.json"
    if path.is_file() or not (folder / "processor_config.json").is_file():
        fields = read_json(path)
    else:  # as transformers 5 writes processors
        fields = read_json(folder / "processor_config.json").get("feature_extractor", {})
    parents = {part: model for model, (_, part) in PARTS.items()}
    expected = FEATURE_EXTRACTOR_MAPPING_NAMES.get(parents.get(model_type, model_type))
    unused = ("mel_filters", "processor_class")  # a matrix that is computed anyway, and a class that is not wanted
    return {"feature_extractor_type": expected} | {name: fields[name] for name in fields if name not in unused}


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        if not path.is_file():
            raise HfGarError(
                f"{folder} has no {path.name}: only safetensors are read, since PyTorch's own files can run code. Save "
                "the network again with transformers, where you trust them."
            )
        weights |= read_state_dict(path)
    return weights


def _network_weights(
    checkpoint: dict[str, torch.Tensor], network: AudioNetwork, path: Path
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The weights of a network under our names, and what else a checkpoint has, which is dropped."""
    with torch.device("meta"):
        module, final_norm = network.build(network.num_layers)
    names = {_stored_name(name): f"network.{name}" for name in module.state_dict()}
    names |= {f"{network.final_norm}.{name}": f"final_norm.{name}" for name in final_norm.state_dict()}
    names = {theirs: BackboneFusionModel.stored_name(ours) for theirs, ours in names.items()}
    base_prefix = getattr(network.network_class(), "base_model_prefix", "")
    prefixes = PREFIXES.get(network.config.model_type, (f"{base_prefix}.", ""))
    prefix = max(prefixes, key=lambda prefix: sum(prefix + name in checkpoint for name in names))
    renamed = {
        prefix + _stored_name(name.removeprefix(prefix)) if name.startswith(prefix) else name: name
        for name in checkpoint
    }
    missing = [name for name in names if prefix + name not in renamed]
    # What is within the network's own modules has to be known, or all of it is of no use here.
    own = tuple(f"{prefix}{name}." for name in {name.split(".")[0] for name in names})
    beyond = tuple(prefix + name for name in (*BEYOND_THE_BLOCKS, *(f"{each}." for each in network.unused_modules)))
    rest = [name for name in renamed if name.removeprefix(prefix) not in names or not name.startswith(prefix)]
    unexpected = [name for name in rest if name.startswith(own) and not name.startswith(beyond)]
    if missing or unexpected:
        raise HfGarError(
            f"{path} is not a complete checkpoint of a {network.class_name} with its configuration. Missing weights: "
            f"{', '.join(missing[:5]) or 'none'}. Unexpected weights: {', '.join(unexpected[:5]) or 'none'}."
        )
    return {ours: checkpoint[renamed[prefix + theirs]] for theirs, ours in names.items()}, _summarize(rest, prefix)


def _stored_name(name: str) -> str:
    """The name of a network's weight as our files have it, without what it is called within our model."""
    return BackboneFusionModel.stored_name(f"network.{name}").removeprefix("network.")


def _summarize(names: list[str], prefix: str) -> list[str]:
    """What weights belong to: the modules at the top, or within the one that the network itself is in."""
    parent = prefix.partition(".")[0]
    modules = [name.split(".") for name in names]
    return sorted({".".join(parts[: 2 if parts[0] == parent else 1]) for parts in modules})
