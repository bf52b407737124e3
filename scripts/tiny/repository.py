"""Write a trained network as a model repository that fits into the package."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from hf_gar import Cnn14FusionFeatureExtractor, Cnn14FusionModel
from hf_gar.hub.load import CONFIG_FILE, FEATURE_EXTRACTOR_FILE

WEIGHTS_FILE = "model.safetensors"


def write_repository(model: Cnn14FusionModel, labels: dict[str, list[str]], layers: list[int], folder: Path) -> None:
    """Write configuration, feature extractor and weights, these in float16: half of what they take otherwise.

    The repository says that its network computes in float32, and has no code: the installed classes load it.

    Args:
        model: The whole network.
        labels: What it was trained to tell apart, by the column of the dataset.
        layers: Those that are fused by default.
        folder: The folder to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    config.fusion_layers, config.depth = layers, config.unfused_layer
    names = [f"{column}: {name}" if column != "sound" else name for column, of_it in labels.items() for name in of_it]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in config.id2label.items()}
    config.dtype = torch.float32
    config.architectures = [type(model).__name__]
    config.to_json_file(folder / CONFIG_FILE)
    Cnn14FusionFeatureExtractor().to_json_file(folder / FEATURE_EXTRACTOR_FILE)
    weights = {
        name: (weight.half() if weight.is_floating_point() else weight).contiguous()
        for name, weight in model.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes its files readable by their owner alone
