"""Which layers to fuse for a task: each layer, pairs, and larger sets as long as the validation score grows.

Pooling over time works on each dimension alone, so a layer's embedding is a slice of the one that fuses all layers: one
pass of the network serves every choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from hf_gar.errors import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask, Evaluation, evaluate_embeddings
from hf_gar.evaluation.partitions import SEEDS
from hf_gar.models import FusionConfig

Layers = tuple[int, ...]
Pairs = Literal["all", "none"]


@dataclass(frozen=True)
class LayerSearch:
    """What a search for layers found.

    Args:
        candidates: One row a choice: layers (a tuple), stage ("layer", "pair" or "greedy"), dimension, valid, test; the
            scores are of the first seed.
        best: The layers of the best validation score.
        dimension: D of their embedding.
        evaluation: Their scores, with all seeds.
    """

    candidates: pd.DataFrame
    best: Layers
    dimension: int
    evaluation: Evaluation


def probed_layers(config: FusionConfig) -> Layers:
    """The layers that a repository holds weights for, in the order of the network."""
    return tuple(layer for layer in config.valid_layers if layer <= config.depth)


def layer_slices(config: FusionConfig) -> dict[int, slice]:
    """Which dimensions of the embedding are each fused layer's."""
    ends = np.cumsum([config.layer_sizes[layer] for layer in config.fused_layers])
    return {
        layer: slice(int(end) - config.layer_sizes[layer], int(end))
        for layer, end in zip(config.fused_layers, ends, strict=True)
    }


def choose_dimensions(task: EmbeddedTask, slices: dict[int, slice], layers: Sequence[int]) -> EmbeddedTask:
    """The task with the embeddings that fusing `layers` alone gives.

    Raises:
        HfGarError: The embeddings are of other layers.
    """
    dimension = max(part.stop for part in slices.values())
    missing = [layer for layer in layers if layer not in slices]
    if missing or dimension != task.embeddings.shape[1]:
        raise HfGarError(
            f"The embeddings are of the layers {', '.join(map(str, slices))}, {task.embeddings.shape[1]} dimensions "
            f"({dimension} were expected); asked for {', '.join(map(str, layers))}. Embed those layers first."
        )
    in_order = [slices[layer] for layer in slices if layer in layers]
    return replace(task, embeddings=np.concatenate([task.embeddings[:, part] for part in in_order], axis=1))


def search_layers(
    task: EmbeddedTask,
    slices: dict[int, slice],
    learning_rates: Sequence[float],
    *,
    pairs: Pairs = "all",
    seeds: Sequence[int] = SEEDS,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> LayerSearch:
    """Search for the layers whose fusion has the best validation score; test scores play no part in it.

    Args:
        task: The embeddings that fuse all layers.
        slices: Which of their dimensions are each layer's.
        learning_rates: As of `evaluate_embeddings`.
        pairs: "all" evaluates every pair, "none" goes on from the best layer.
        seeds: The first is for the search, all are for the best choice.
        device: As in PyTorch.
        report: Is called with a line about each candidate.
    """
    found: dict[Layers, dict] = {}

    def evaluate(layers: Layers, stage: str) -> float:
        layers = tuple(layer for layer in slices if layer in layers)
        if layers not in found:
            chosen = choose_dimensions(task, slices, layers)
            result = evaluate_embeddings(chosen, learning_rates, seeds=seeds[:1], device=device)
            found[layers] = {
                "layers": layers,
                "stage": stage,
                "dimension": chosen.embeddings.shape[1],
                "valid": result.valid,
                "test": result.test.mean,
            }
            report(f"{stage:6} {' '.join(map(str, layers)):20} valid {result.valid:.4f}  test {result.test.mean:.4f}")
        return found[layers]["valid"]

    def best() -> Layers:
        # Of equal scores, the smaller embedding.
        return max(found, key=lambda layers: (found[layers]["valid"], -found[layers]["dimension"]))

    for layer in slices:
        evaluate((layer,), "layer")
    if pairs == "all":
        for pair in combinations(slices, 2):
            evaluate(pair, "pair")
    while True:
        grown_from = best()
        for layer in slices:
            if layer not in grown_from:
                evaluate((*grown_from, layer), "greedy" if pairs == "all" or len(grown_from) > 1 else "pair")
        if best() == grown_from:
            break
    layers = best()
    chosen = choose_dimensions(task, slices, layers)
    evaluation = evaluate_embeddings(chosen, learning_rates, seeds=seeds, device=device)
    return LayerSearch(pd.DataFrame(found.values()), layers, chosen.embeddings.shape[1], evaluation)
