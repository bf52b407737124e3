"""Embedding jobs: long recordings, many rows, Ray."""

import argparse
import itertools
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import psutil
import soundfile
import torch

from benchmarks.networks import find_recordings
from hf_gar import AudioEmbedder, VGGishFusionConfig, VGGishFusionFeatureExtractor, VGGishFusionModel, load_audio
from hf_gar.embedding.embedder import Embedding
from hf_gar.embedding.jobs.local_engine import LocalEngine
from hf_gar.embedding.jobs.run import Engine, JobOptions, embed_recordings

RATE = 16000  # Hz
DURATIONS_S = (40 * 60, 3 * 3600)
# The first is so short that its time is a job's start.
ROWS = (20, 2_000, 20_000, 200_000)
# Each recording so often: the difference tells the speed apart from the time that a start takes.
REPEATED = (1, 3)


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
    assert isinstance(embedding, Embedding)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{Path(model).name:24} {dtype:9} {embedding.duration_s / 60:6.0f} min of audio: {seconds:7.1f} s "
        f"({embedding.duration_s / seconds:5.1f} times real time), peak memory {peak:.2f} GiB, "
        f"D={embedding.clip.size}, finite: {bool(np.isfinite(embedding.clip).all())}",
        flush=True,
    )


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


def benchmark_rows(options: argparse.Namespace) -> None:
    names = find_recordings(options.recordings)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        config = VGGishFusionConfig(channels=[4, 4, 8, 8, 8, 8], hidden_sizes=[32, 32, 8])
        VGGishFusionModel(config).save_pretrained(f"{folder}/model")
        VGGishFusionFeatureExtractor().save_pretrained(f"{folder}/model")
        start_s = None
        for rows in ROWS:
            table = Path(folder) / f"{rows}.csv"
            pd.DataFrame({"file_name": [names[row % len(names)] for row in range(rows)]}).to_csv(table, index=False)
            arguments = ["embed", table, "--model", f"{folder}/model", "--output", f"{folder}/{rows}"]
            began = time.perf_counter()
            process = psutil.Popen([sys.executable, "-m", "hf_gar", *map(str, arguments)], stderr=subprocess.DEVNULL)
            peak = 0
            while process.poll() is None:
                peak = max(peak, memory_of(process))
                time.sleep(0.2)
            seconds = time.perf_counter() - began
            start_s = seconds if start_s is None else start_s
            row_ms = 1000 * (seconds - start_s) / rows
            print(
                f"{rows} rows: exit code {process.returncode}, {seconds:.0f} s; {row_ms:.2f} ms a row without the "
                f"start; peak memory of all its processes {peak / 2**30:.2f} GiB",
                flush=True,
            )


def memory_of(process: psutil.Process) -> int:
    """The memory of a process and its children, pages that they share counted once, in bytes."""
    total = 0
    try:
        processes = [process, *process.children(recursive=True)]
        for each in processes:
            total += each.memory_full_info().pss
        # One that began or ended meanwhile would have what it shares counted twice.
        return total if processes == [process, *process.children(recursive=True)] else 0
    except psutil.Error:
        return 0  # it has just ended


def benchmark_ray(options: argparse.Namespace) -> None:
    from hf_gar.embedding.jobs.ray_engine import RayEngine

    names = find_recordings(options.recordings)[: options.clips]
    speeds = {}
    runs: dict[str, Engine] = {
        "local engine": LocalEngine(),
        "one Ray worker": RayEngine(models=1),
        "two Ray workers": RayEngine(models=2),
    }
    for name, engine in runs.items():
        seconds = []
        for times in REPEATED:
            with tempfile.TemporaryDirectory() as folder:
                source = datasets.Dataset.from_dict({"audio": names * times})
                began = time.perf_counter()
                job_options = JobOptions(num_shards=8, engine=engine)
                embed_recordings(source, options.repository, Path(folder) / "job", job_options, dtype=options.dtype)
                seconds.append(time.perf_counter() - began)
        few, many = (len(names) * times for times in REPEATED)
        speeds[name] = (many - few) / (seconds[1] - seconds[0])
        print(
            f"{name}: {few} clips {seconds[0]:.1f} s, {many} clips {seconds[1]:.1f} s; once it runs, "
            f"{speeds[name]:.2f} clips/s",
            flush=True,
        )
    local, one, two = speeds.values()
    print(f"Once they run, two Ray workers against one: {two / one:.2f}; against the local engine: {two / local:.2f}")
