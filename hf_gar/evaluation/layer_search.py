"""Which layers to fuse for a task: each layer, pairs, and larger sets as long as the validation score grows.

Pooling over time works on each dimension alone, so a layer's embedding is a slice of the one that fuses all layers: one
pass of the network serves every choice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Literal

import pandas as pd
from datasets.utils import tqdm

from hf_gar.embedding.layer_slices import layer_columns
from hf_gar.evaluation.evaluate import EmbeddedTask, Evaluation, evaluate_embeddings
from hf_gar.evaluation.metrics import mean_interval
from hf_gar.evaluation.partitions import SEEDS
from hf_gar.models import FusionConfig

Layers = tuple[int, ...]
Pairs = Literal["all", "none"]


@dataclass(frozen=True)
class LayerSearch:
    """What a search for layers found.

    Args:
        candidates: One row a choice: layers (a tuple), stage ("layer", "pair" or "greedy"), dimension; its validation
            score from 0 to 1, valid, and the 95 % interval over the folds, valid_low and valid_high, NaN without folds;
            and test_not_for_choosing, by which no choice is to be made. All of the first seed.
        best: The layers of the best validation score.
        dimension: D of their embedding.
        evaluation: Their scores, with all seeds.
        seed: That of the candidates' scores.
        num_runs: How many folds each candidate's scores are the mean of; 1 without folds.
    """

    candidates: pd.DataFrame
    best: Layers
    dimension: int
    evaluation: Evaluation
    seed: int
    num_runs: int


def probed_layers(config: FusionConfig) -> Layers:
    """The layers that a repository holds weights for, in the order of the network."""
    return tuple(layer for layer in config.valid_layers if layer <= config.depth)


def choose_dimensions(task: EmbeddedTask, slices: dict[int, slice], layers: Sequence[int]) -> EmbeddedTask:
    """The task with the embeddings that fusing `layers` alone gives.

    Raises:
        HfGarError: The embeddings are of other layers.
    """
    columns = layer_columns(slices, layers, task.embeddings.shape[1])
    return replace(task, embeddings=task.embeddings[:, columns])


def search_layers(
    task: EmbeddedTask,
    slices: dict[int, slice],
    learning_rates: Sequence[float],
    *,
    pairs: Pairs = "all",
    seeds: Sequence[int] = SEEDS,
    device: str = "cpu",
) -> LayerSearch:
    """Search for the layers whose fusion has the best validation score; test scores play no part in it.

    Args:
        task: The embeddings that fuse all layers.
        slices: Which of their dimensions are each layer's.
        learning_rates: As in `evaluate_embeddings`.
        pairs: "all" evaluates every pair, "none" continues from the best layer.
        seeds: The first is for the search, all are for the best choice.
        device: As in PyTorch.
    """
    choices = comb(len(slices), 2) if pairs == "all" else len(slices) - 1
    with tqdm(total=len(slices) + choices, desc="Searching layers", unit=" choices") as bar:
        search = _Search(task, slices, learning_rates, seeds[0], device, bar)
        search.evaluate([(layer,) for layer in slices], "layer")
        if pairs == "all":
            search.evaluate(combinations(slices, 2), "pair")
        while True:
            grown_from = search.best()
            grown = [(*grown_from, layer) for layer in slices if layer not in grown_from]
            search.evaluate(grown, "greedy" if pairs == "all" or len(grown_from) > 1 else "pair")
            if search.best() == grown_from:
                break
    layers = search.best()
    chosen = choose_dimensions(task, slices, layers)
    evaluation = evaluate_embeddings(chosen, learning_rates, seeds=seeds, device=device)
    candidates = pd.DataFrame(search.found.values())
    return LayerSearch(candidates, layers, chosen.embeddings.shape[1], evaluation, seeds[0], search.num_runs)


class _Search:
    """The choices of layers so far, each evaluated once, with one seed."""

    def __init__(
        self,
        task: EmbeddedTask,
        slices: dict[int, slice],
        learning_rates: Sequence[float],
        seed: int,
        device: str,
        bar: tqdm,
    ):
        self.task, self.slices, self.learning_rates = task, slices, learning_rates
        self.seed, self.device, self.bar = seed, device, bar
        self.found: dict[Layers, dict] = {}
        self.num_runs = 1

    def best(self) -> Layers:
        # Of equal scores, the smaller embedding.
        return max(self.found, key=lambda layers: (self.found[layers]["valid"], -self.found[layers]["dimension"]))

    def evaluate(self, choices: Iterable[Layers], stage: str) -> None:
        """Evaluate those choices, in any order of their layers, that are new."""
        in_order = [tuple(layer for layer in self.slices if layer in choice) for choice in choices]
        new = [layers for layers in in_order if layers not in self.found]
        self.bar.total = max(self.bar.total, self.bar.n + len(new))
        for layers in new:
            chosen = choose_dimensions(self.task, self.slices, layers)
            result = evaluate_embeddings(chosen, self.learning_rates, seeds=[self.seed], device=self.device)
            interval = mean_interval(result.runs["valid"].to_numpy())
            self.found[layers] = {
                "layers": layers,
                "stage": stage,
                "dimension": chosen.embeddings.shape[1],
                "valid": result.valid,
                "valid_low": interval.low,
                "valid_high": interval.high,
                "test_not_for_choosing": result.test.mean,
            }
            self.num_runs = len(result.runs)
            best = self.best()
            self.bar.set_postfix_str(
                f"best so far: {' + '.join(map(str, best))}, {100 * self.found[best]['valid']:.1f} %", refresh=False
            )
            self.bar.update()
