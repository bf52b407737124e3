"""Each model with each backend and precision that is there, beside what a user would pick instead."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import measure_limits
from benchmarks.peers import peers
from benchmarks.timing import Speed, take_turns
from hf_gar import AudioEmbedder, load_audio
from hf_gar.backends.choice import TORCH_DTYPES, BackendChoice, choose_torch_dtype, is_installed
from hf_gar.backends.description import TORCH, read_optimized
from hf_gar.backends.network import Network
from hf_gar.embedding.decoding import ChunkDataset, LoadedChunk, ProcessPool
from hf_gar.embedding.jobs.run import run_job
from hf_gar.embedding.length_buckets import SECONDS_AT_ONCE, LengthBuckets
from hf_gar.embedding.sources.source import as_source
from hf_gar.hub.load import Repository, find_repository
from hf_gar.models import FusionConfig
from hf_gar.pictures import new_picture

# How long the two jobs take that tell the speed apart from the start, about, in seconds.
JOBS_S = (5, 20)
# So many clips tell how fast decoding is, and the network.
DECODED, EMBEDDED = 2048, 64
# The peak of a process's memory is read where it is its own: `getrusage` counts that of the process that started it.
AT_FIRST = """
import re, sys, time
from pathlib import Path
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
began = time.perf_counter()
from hf_gar import AudioEmbedder
import torch, datasets, transformers
before = peak()
embedder = AudioEmbedder(sys.argv[1], backend=sys.argv[2], dtype=sys.argv[3])
embedder.load_model()
loaded = peak()
embedder.embed([sys.argv[4]])
print(time.perf_counter() - began, loaded - before)
"""


def benchmark_networks(options: argparse.Namespace) -> None:
    """Front ends, networks and jobs of each model, with a table and a chart."""
    limits = measure_limits(options.repetitions)
    say("The machine: " + ", ".join(f"{limit:.0f} GFLOP/s in {dtype}" for dtype, limit in limits.items()))
    results = []
    for name in options.repositories:
        repository = find_repository(name)
        for seconds in options.seconds:
            results += measure_model(repository, seconds, options, limits)
        for choice in choices(repository, repository.load_config()):
            if f"{choice.backend} {choice.dtype}" in options.jobs:
                results.append(measure_start(repository, choice, options.recordings))
                results += measure_job(repository, choice, options.recordings)
    options.output.mkdir(parents=True, exist_ok=True)
    about = {"threads": torch.get_num_threads(), "torch": torch.__version__, "limits": limits}
    (options.output / "networks.json").write_text(json.dumps({**about, "results": results}, indent=2) + "\n")
    draw(results, options.output / "networks.png")


def say(line: str) -> None:
    print(line, flush=True)


def choices(repository: Repository, config: FusionConfig) -> list[BackendChoice]:
    """Every backend and precision that runs a repository's model here."""
    dtypes = ["float32", *(["bfloat16"] if choose_torch_dtype("cpu") == "bfloat16" else [])]
    exported = [each for each in read_optimized(repository.folder) if each.fits(repository, config)]
    return [
        *(BackendChoice(TORCH, dtype) for dtype in dtypes),
        *(BackendChoice(each.backend, each.dtype, each) for each in exported if is_installed(each.backend)),
    ]


def measure_model(
    repository: Repository, seconds: float, options: argparse.Namespace, limits: dict[str, float]
) -> list[dict]:
    """The front end, the networks and the peers, on clips of one length."""
    extractor = repository.load_feature_extractor()
    as_long = length_of_clips(repository, np.zeros(round(seconds * extractor.sampling_rate), np.float32))
    config = repository.load_config(**as_long)
    extractor.match(config)
    batch = max(1, min(options.batch_size, int(SECONDS_AT_ONCE // seconds)))
    waveforms = clips(options.recordings, batch, seconds, extractor.sampling_rate)
    inputs = extractor(waveforms, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    features = inputs["input_features"]
    networks: dict[str, Network] = {}
    for choice in choices(repository, repository.load_config()):
        if choice.network is None:
            network: Network = repository.load_model(TORCH_DTYPES[choice.dtype], **as_long)
        else:
            network = choice.load(repository, config)
        networks[f"{choice.backend} {choice.dtype}"] = network
    runs = {name: partial(network, features) for name, network in networks.items()}
    others = peers(config.model_type, batch, features.shape[1])
    front_end = {"front end": lambda: extractor.spectrograms(waveforms)}
    speeds = take_turns({**front_end, **runs, **others}, batch, options.repetitions)

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        exact = networks["torch float32"](features).pooler_output
    gigaflops = counter.get_total_flops() / batch / 1e9
    say(f"\n{repository.name}, clips of {seconds:g} s, batches of {batch}, {gigaflops:.2f} GFLOP each\n")
    say("| | clips/s | of the machine | worst cosine |\n| --- | --- | --- | --- |")
    results = []
    for name, speed in speeds.items():
        row = {"model": repository.name, "seconds": seconds, "name": name, "kind": "network", **speed._asdict()}
        if name in networks:
            with torch.inference_mode():
                found = networks[name](features).pooler_output
            row["share"] = gigaflops * speed.median / limits.get(name.split()[-1], float("nan"))
            row["cosine"] = float(torch.cosine_similarity(found.double(), exact.double()).min())
        else:
            row["kind"] = "front end" if name in front_end else "peer"
        share, cosine = (
            f"{row[key]:{form}}" if key in row else "" for key, form in (("share", ".0%"), ("cosine", ".5f"))
        )
        say(f"| {name} | {speed} | {share} | {cosine} |")
        results.append(row)
    return results


def clips(recordings: Path, count: int, seconds: float, rate: int) -> list[np.ndarray]:
    """So many clips of one length, of recordings that are repeated where they are too short."""
    paths = find_recordings(recordings)[:count]
    waveforms = [load_audio(path, rate) for path in paths]
    return [np.resize(waveforms[index % len(waveforms)], round(seconds * rate)) for index in range(count)]


def find_recordings(folder: Path) -> list[str]:
    return [str(path) for path in sorted([*folder.rglob("*.ogg"), *folder.rglob("*.wav")])]


def measure_start(repository: Repository, choice: BackendChoice, recordings: Path) -> dict:
    """From nothing to the first embedding, in a process of its own: seconds, and the memory that loading takes."""
    arguments = [str(repository.folder), choice.backend, choice.dtype, find_recordings(recordings)[0]]
    run = subprocess.run([sys.executable, "-c", AT_FIRST, *arguments], capture_output=True, text=True, check=True)
    seconds, memory = map(float, run.stdout.split())
    weights = sum(path.stat().st_size for path in repository.folder.glob("*.safetensors"))
    say(
        f"{repository.name}, {choice.backend} {choice.dtype}: the first embedding after {seconds:.1f} s; loading takes "
        f"{memory / 2**20:.0f} MiB, {memory / weights:.2f} times the weights"
    )
    return {
        "model": repository.name,
        "name": f"{choice.backend} {choice.dtype}",
        "kind": "start",
        "median": seconds,
        "memory": memory,
        "weights": weights,
    }


def measure_job(repository: Repository, choice: BackendChoice, recordings: Path) -> list[dict]:
    """Recordings to Parquet, the start left out, beside decoding alone and the network alone, a second."""
    names = find_recordings(recordings)
    extractor, name = repository.load_feature_extractor(), f"{choice.backend} {choice.dtype}"
    as_long = length_of_clips(repository, load_audio(names[0], extractor.sampling_rate))
    embedder = AudioEmbedder(repository, backend=choice.backend, dtype=choice.dtype, model_kwargs=as_long)
    decoders = ProcessPool(os.cpu_count() or 1)
    chunks: list[LoadedChunk] = []

    def decode() -> None:
        chunks[:] = [
            each for each in decoders.load(ChunkDataset(some, extractor, None, None)) if isinstance(each, LoadedChunk)
        ]

    def embed() -> None:
        list(LengthBuckets(embedder.load_model(), extractor).embed(chunks))

    extractor.match(embedder.config)
    some = [names[row % len(names)] for row in range(DECODED)]
    speeds = {"decoding": take_turns({"": decode}, DECODED, 2)[""].median}
    del chunks[EMBEDDED:]
    speeds["network"] = take_turns({"": embed}, EMBEDDED, 2)[""].median
    both = 1 / (1 / speeds["decoding"] + 1 / speeds["network"])
    seconds, counts = [], [int(both * each) for each in JOBS_S]
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            source = datasets.Dataset.from_dict({"audio": [names[row % len(names)] for row in range(count)]})
            began = time.perf_counter()
            run_job(as_source(source), embedder, Path(folder) / "job")
            seconds.append(time.perf_counter() - began)
    speeds["recordings to Parquet"] = (counts[1] - counts[0]) / (seconds[1] - seconds[0])
    say(
        f"{repository.name}, {name}: {', '.join(f'{kind} {Speed.shorten(speed)}' for kind, speed in speeds.items())} a "
        f"second; the last is {speeds['recordings to Parquet'] / speeds['network']:.0%} of the network alone, and "
        f"{speeds['recordings to Parquet'] / both:.0%} of what both take, one after the other"
    )
    return [
        {"model": repository.name, "name": name, "kind": f"job, {kind}", "median": speed}
        for kind, speed in speeds.items()
    ]


def length_of_clips(repository: Repository, waveform: np.ndarray) -> dict[str, int]:
    """The length of a network's inputs, where that is fixed, as that of a clip."""
    extractor = repository.load_feature_extractor()
    return {} if extractor.max_length is None else {"max_length": len(extractor.spectrograms([waveform])[0])}


def draw(results: Sequence[dict], path: Path) -> None:
    """Bars of each model's clips of the middle length, a second, by backend, precision and peer."""
    networks = [row for row in results if row["kind"] in ("network", "peer")]
    seconds = sorted({row["seconds"] for row in networks})
    shown = 5 if 5 in seconds else seconds[len(seconds) // 2]
    models = list(dict.fromkeys(row["model"] for row in networks))
    with new_picture(path, 4.2 * len(models), 4) as figure:
        for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
            rows = [row for row in networks if (row["model"], row["seconds"]) == (model, shown)]
            rows.sort(key=lambda row: row["median"])
            errors = [[row["median"] - row["lowest"] for row in rows], [row["highest"] - row["median"] for row in rows]]
            colors = ["tab:gray" if row["kind"] == "peer" else "tab:blue" for row in rows]
            bars = axes.barh([row["name"] for row in rows], [row["median"] for row in rows], xerr=errors, color=colors)
            axes.bar_label(bars, [Speed.shorten(row["median"]) for row in rows], padding=8)
            axes.margins(x=0.2)
            axes.set_title(Path(model).name)
            axes.set_xlabel(f"clips of {shown:g} s, a second")
            axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
