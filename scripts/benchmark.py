"""Measure what a machine takes for what: every figure is of this machine and this run.

    python scripts/benchmark.py long REPOSITORY ... --recordings FOLDER
    python scripts/benchmark.py training REPOSITORY --data TASK
    python scripts/benchmark.py layers REPOSITORY --data TASK

"long" embeds a 40-minute and a 3-hour recording, made by repeating the recordings of a folder, with each model, each in
a process of its own, and prints the time and the peak memory. "training" trains the linear probes of all folds, seeds
and learning rates together and one by one, and compares times and predictions, also with scikit-learn's logistic
regression. "layers" embeds a task once for all layers and once for each, and compares times and scores.
"""

import argparse
import itertools
import multiprocessing
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from hf_gar import AudioEmbedder, load_audio
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

RATE = 16000  # Hz
DURATIONS_S = (40 * 60, 3 * 3600)


def write_long_recording(folder: Path, path: Path, seconds: int) -> None:
    """Repeat the recordings of a folder until they fill so many seconds."""
    clips = [load_audio(clip, RATE) for clip in sorted(folder.rglob("*.ogg"))[:100]]
    with soundfile.SoundFile(path, "w", RATE, channels=1) as file:
        for clip in itertools.cycle(clips):
            left = seconds * RATE - file.tell()
            if left <= 0:
                return
            file.write(clip[:left])


def embed_one(model: str, path: Path, dtype: str) -> None:
    """Embed one recording and print the time, the peak memory of the process and what came out."""
    began = time.perf_counter()
    (embedding,) = AudioEmbedder(model, dtype=dtype).embed([str(path)])
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{Path(model).name:24} {dtype:9} {embedding.duration_s / 60:6.0f} min of audio: {seconds:7.1f} s "
        f"({embedding.duration_s / seconds:5.1f} times real time), peak memory {peak:.2f} GiB, "
        f"D={embedding.clip.size}, finite: {bool(np.isfinite(embedding.clip).all())}",
        flush=True,
    )


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    long = commands.add_parser("long", help="recordings of 40 minutes and 3 hours")
    long.add_argument("repositories", nargs="+", metavar="REPOSITORY")
    long.add_argument("--recordings", type=Path, required=True, help="a folder with Ogg files")
    long.add_argument("--dtype", default="float32")
    long.set_defaults(run=benchmark_long)
    for name, run in (("training", benchmark_training), ("layers", benchmark_layers)):
        command = commands.add_parser(name, help=(run.__doc__ or "").rstrip("."))
        command.add_argument("repository", metavar="REPOSITORY")
        command.add_argument("--data", required=True, help="a task: a folder with a metadata.csv")
        command.add_argument("--seconds", type=float, help="the length that its clips are brought to")
        command.add_argument("--dtype", default="float32")
        command.set_defaults(run=run)
        if name == "training":
            command.add_argument("--unfused", action="store_true", help="the network's own embedding")
    options = parser.parse_args()
    options.run(options)


def benchmark_long(options: argparse.Namespace) -> None:
    """A 40-minute and a 3-hour recording with each model."""
    with tempfile.TemporaryDirectory() as folder:
        for seconds in DURATIONS_S:
            path = Path(folder) / f"{seconds}.wav"
            write_long_recording(options.recordings, path, seconds)
            for repository in options.repositories:
                # A process each, so that the peak is its own.
                process = multiprocessing.get_context("spawn").Process(
                    target=embed_one, args=(repository, path, options.dtype)
                )
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(f"{repository} failed with the exit code {process.exitcode}.")


if __name__ == "__main__":
    main()
