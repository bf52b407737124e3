"""Write a trained network as a model repository that fits into the package."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from hf_gar import Cnn14FusionFeatureExtractor, Cnn14FusionForAudioClassification
from hf_gar.hub.card import CARD_FILE
from hf_gar.hub.load import CONFIG_FILE, FEATURE_EXTRACTOR_FILE, find_repository
from hf_gar.models.modeling_classification import CLASSIFICATION_PIPELINE
from hf_gar.models.module_audio_embedding import MODULES, MODULES_FILE
from tiny.material import SOURCES

WEIGHTS_FILE = "model.safetensors"
CARD_TEMPLATE = Path(__file__).with_name("card.md")
# Of the sets of layers, so many of the best are shown in the card, and each layer.
SHOWN = 10
EVIDENCE_MARK = "<!-- evidence -->"


def write_repository(model: Cnn14FusionForAudioClassification, layers: list[int], folder: Path) -> None:
    """Write configuration, feature extractor and weights, these in float16: half of what they take otherwise.

    The repository says that its network computes in float32, and has no code: the installed classes load it.

    Args:
        model: The whole network with its classifier.
        layers: Those that are fused by default.
        folder: The folder to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    config.fusion_layers = layers
    config.custom_pipelines = {**config.custom_pipelines, **CLASSIFICATION_PIPELINE}
    config.dtype = torch.float32
    config.architectures = [type(model).__name__]
    config.to_json_file(folder / CONFIG_FILE)
    Cnn14FusionFeatureExtractor().to_json_file(folder / FEATURE_EXTRACTOR_FILE)
    (folder / MODULES_FILE).write_text(MODULES.replace('"module_', '"hf_gar.models.module_'), encoding="utf-8")
    weights = {
        name: (weight.half() if weight.is_floating_point() else weight).contiguous()
        for name, weight in model.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes its files readable by their owner alone


def write_card(folder: Path, accuracies: pd.DataFrame, results: dict[str, Any]) -> None:
    """Write a repository's card.

    Args:
        folder: The repository.
        accuracies: As `compare_layers` makes them.
        results: What `scripts/train_tiny.py` writes of the training.
    """
    repository = find_repository(folder)
    config, model = repository.load_config(), repository.load_model(fusion_layers=None)
    layers = config.fused_layers
    shown = accuracies[[rank < SHOWN or "+" not in name for rank, name in enumerate(accuracies.index)]]
    rows = [(name, *(f"{value:.1f}" for value in row)) for name, row in zip(shown.index, shown.to_numpy(), strict=True)]
    heads = ["blocks", *accuracies.columns]
    text = CARD_TEMPLATE.read_text(encoding="utf-8").format(
        parameters=sum(weight.numel() for weight in model.parameters()) / 1e6,
        megabytes=(folder / WEIGHTS_FILE).stat().st_size / 1e6,
        layers="+".join(map(str, layers)),
        dimension=config.embedding_size,
        clips=results["clips"]["train"],
        labels=sum(results["labels"].values()),
        sounds=config.num_labels,
        sources=markdown_rows((name, *about) for name, about in SOURCES.items()),
        steps=results["training"]["steps"],
        batch_size=results["training"]["batch_size"],
        development=markdown_rows([heads, ["---"] * len(heads), *rows]),
    )
    (folder / CARD_FILE).write_text(text, encoding="utf-8")


def add_evidence(folder: Path, evidence: str) -> None:
    """Put tables of evidence into a repository's card, in place of those that are there."""
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    kept = card[: card.index(EVIDENCE_MARK) + len(EVIDENCE_MARK)]
    (folder / CARD_FILE).write_text(f"{kept}\n{evidence}", encoding="utf-8")


def markdown_rows(rows: Iterable[Iterable[str]]) -> str:
    """Rows of a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
