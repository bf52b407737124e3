"""The linear layer on a model's embeddings, as the evaluation trains it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.evaluation.evaluate import EmbeddedTask, summarize_runs
from hf_gar.evaluation.layer_search import choose_dimensions, search_layers
from hf_gar.evaluation.linear_probe import ProbeRun, train_linear_probes
from hf_gar.evaluation.partitions import Partition, hold_out, make_partitions
from hf_gar.models import FusionConfig


@dataclass(frozen=True)
class LinearTraining:
    """Linear layers that were trained on embeddings.

    Args:
        task: The embeddings of the chosen layers.
        layers: These.
        runs: Those that were tested: one for each fold and seed, or a single one.
        final: The one for use: of all clips where there are folds, else the single one. Of several seeds, it is the one
            that validated best.
    """

    task: EmbeddedTask
    layers: tuple[int, ...]
    runs: list[ProbeRun]
    final: ProbeRun


def train_linear(
    task: EmbeddedTask,
    config: FusionConfig,
    learning_rates: Sequence[float],
    search: bool,
    seeds: Sequence[int],
    device: str,
) -> LinearTraining:
    """Train a linear layer for each seed, and for each fold where there are folds.

    Args:
        task: The embeddings and labels.
        config: Of the network that embedded them: its fused layers are those there are.
        learning_rates: One, or several, of which the best is chosen on the validation clips.
        search: Choose the layers on the validation clips as well.
        seeds: Of the training, and of the validation clips that are held out.
        device: As in PyTorch.
    """
    layers = config.fused_layers
    if search:
        slices = layer_slices(config)
        found = search_layers(task, slices, learning_rates, seeds=seeds, device=device)
        task, layers = choose_dimensions(task, slices, found.best), found.best
        assert found.evaluation.learning_rate is not None
        learning_rates = [found.evaluation.learning_rate]
    partitions = make_partitions(task.targets, task.classes, task.memberships, task.has_folds, seeds)
    runs = _train(task, partitions, learning_rates, device)
    rate = summarize_runs(runs, task).learning_rate
    assert rate is not None
    runs = [run for run in runs if run.learning_rate == rate]
    if not task.has_folds:
        final = _best(runs)
        return LinearTraining(task, layers, [final], final)
    everything = np.arange(len(task.targets))
    held_out = [(seed, *hold_out(everything, task.targets, seed)) for seed in seeds]
    of_all = [Partition(seed, None, train, valid, test=valid) for seed, train, valid in held_out]
    return LinearTraining(task, layers, runs, _best(_train(task, of_all, [rate], device)))


def _best(runs: Sequence[ProbeRun]) -> ProbeRun:
    return max(runs, key=lambda run: run.valid_score)  # the first of equal ones


def _train(
    task: EmbeddedTask, partitions: Sequence[Partition], learning_rates: Sequence[float], device: str
) -> list[ProbeRun]:
    return train_linear_probes(
        task.embeddings, task.targets, len(task.classes), partitions, learning_rates, device=device
    )
