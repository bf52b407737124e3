"""The linear evaluation: linear probes trained together or one by one, layers embedded in one pass or each alone."""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.evaluation.embed_task import EmbeddingOptions, embed_task
from hf_gar.evaluation.evaluate import evaluate_embeddings
from hf_gar.evaluation.layer_search import choose_dimensions, probed_layers
from hf_gar.evaluation.linear_probe import train_linear_probes
from hf_gar.evaluation.partitions import make_partitions
from hf_gar.evaluation.report import summary_line
from hf_gar.evaluation.task_data import open_task
from hf_gar.evaluation.tasks import LEARNING_RATE, SWEEP
from hf_gar.hub.load import find_repository


def benchmark_training(options: argparse.Namespace) -> None:
    """Batched training against one-by-one training with the same seeds, and logistic regression beside them."""
    data = open_task(options.data, seconds=options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        model_kwargs = {"fusion_layers": None} if options.unfused else {}
        task = embed_task(
            data,
            find_repository(options.repository),
            Path(folder) / "job",
            model_kwargs,
            EmbeddingOptions(dtype=options.dtype),
        )
    partitions = make_partitions(task.targets, task.classes, task.memberships, task.has_folds)
    for rates in ((LEARNING_RATE,), SWEEP):
        train = partial(train_linear_probes, task.embeddings, task.targets, len(task.classes))
        began = time.perf_counter()
        together = train(partitions, rates)
        middle = time.perf_counter()
        alone = [run for partition in partitions for rate in rates for run in train([partition], [rate])]
        ended = time.perf_counter()
        same = [
            (run.epochs, run.best_epoch) == (other.epochs, other.best_epoch)
            and bool((run.test_scores.argmax(1) == other.test_scores.argmax(1)).all())
            for run, other in zip(together, alone, strict=True)
        ]
        print(
            f"{len(together)} runs ({len(rates)} learning rates), D={task.embeddings.shape[1]}: together "
            f"{middle - began:.1f} s, one by one {ended - middle:.1f} s, "
            f"ratio {(ended - middle) / (middle - began):.2f}; "
            f"the same epochs and predictions in {sum(same)} of {len(same)}",
            flush=True,
        )
    for probe in ("linear", "logistic"):
        began = time.perf_counter()
        result = evaluate_embeddings(task, [LEARNING_RATE], probe=probe)
        print(f"{probe}: {summary_line(result)} ({time.perf_counter() - began:.1f} s)", flush=True)


def benchmark_layers(options: argparse.Namespace) -> None:
    """One pass that embeds for all layers against one run for each layer."""
    data = open_task(options.data, seconds=options.seconds)
    repository = find_repository(options.repository)
    layers = probed_layers(repository.load_config())
    embed = partial(embed_task, data, repository, options=EmbeddingOptions(dtype=options.dtype))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        task = embed(Path(folder) / "all", model_kwargs={"fusion_layers": list(layers)})
        one_pass = time.perf_counter() - began
        slices = layer_slices(repository.load_config(fusion_layers=list(layers)))
        each = 0.0
        for layer in layers:
            began = time.perf_counter()
            alone = embed(Path(folder) / str(layer), model_kwargs={"fusion_layers": [layer]})
            each += time.perf_counter() - began
            scores = [
                evaluate_embeddings(part, [LEARNING_RATE], seeds=[42]).test.mean
                for part in (choose_dimensions(task, slices, [layer]), alone)
            ]
            print(f"layer {layer}: test {scores[0]:.4f} of the one pass, {scores[1]:.4f} of its own run", flush=True)
    print(f"one pass {one_pass:.1f} s, one run a layer {each:.1f} s, ratio {each / one_pass:.2f}")
