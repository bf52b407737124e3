"""Measure embedding jobs: every figure is of this machine and this run.

    python scripts/benchmark_jobs.py throughput REPOSITORY ... --recordings FOLDER
    python scripts/benchmark_jobs.py rows --recordings FOLDER
    python scripts/benchmark_jobs.py ray REPOSITORY --recordings FOLDER

"throughput" compares a job's clips a second with those of the bare model on ready-made tensors of the same length,
dtype and batch, and with a plain `datasets.map` as a user would write it (which cuts what is too long for AST); the
job's time includes its start and the loading of the model. "rows" embeds 20, 2,000, 20,000 and 200,000 rows with a
tiny network, each in a process of its own, and prints the peak memory and the time a row. "ray" compares one and two
Ray workers with the local engine.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import datasets
import pandas as pd
import psutil
import torch

from hf_gar import VGGishFusionConfig, VGGishFusionFeatureExtractor, VGGishFusionModel, load_audio
from hf_gar.backends.choice import TORCH_DTYPES, choose_torch_dtype
from hf_gar.embedding.jobs.local_engine import LocalEngine
from hf_gar.embedding.jobs.run import JobOptions, embed_recordings
from hf_gar.embedding.length_buckets import SECONDS_AT_ONCE
from hf_gar.hub.load import find_repository

# The first is so short that its time is a job's start.
ROWS = (20, 2_000, 20_000, 200_000)
# Each recording so often: the difference tells the speed apart from the time that a start takes.
REPEATED = (1, 3)


def find_recordings(folder: Path, clips: int | None) -> list[str]:
    return [str(path) for path in sorted([*folder.rglob("*.ogg"), *folder.rglob("*.wav")])][:clips]


def benchmark_throughput(options: argparse.Namespace) -> None:
    names = find_recordings(options.recordings, options.clips)
    dtype = choose_torch_dtype("cpu") if options.dtype == "auto" else options.dtype
    for repository in options.repositories:
        model_kwargs = {} if options.max_length is None else {"max_length": options.max_length}
        found = find_repository(repository)
        model = found.load_model(TORCH_DTYPES[dtype], **model_kwargs)
        extractor = found.load_feature_extractor()
        extractor.match(model.config)
        rate = extractor.sampling_rate
        waveform = load_audio(names[0], rate)
        length = extractor(waveform, sampling_rate=rate, return_tensors="pt")["input_features"].shape[1]
        batch = max(1, int(SECONDS_AT_ONCE * rate / extractor.hop_length / length))
        inputs = extractor([waveform] * batch, sampling_rate=rate, return_tensors="pt")

        def run_bare(batches, model=model, inputs=inputs):
            with torch.inference_mode():
                for _ in range(batches):
                    model(**inputs)
            return batches * len(inputs["input_features"])

        def run_plainly(model=model, extractor=extractor, rate=rate, batch=batch):
            def embed(rows):
                waveforms = [load_audio(path, rate) for path in rows["audio"]]
                with torch.inference_mode():
                    features = extractor(
                        waveforms, sampling_rate=rate, truncation=extractor.max_length is not None, return_tensors="pt"
                    )
                    return {"embedding": model(**features).pooler_output.float().numpy()}

            with tempfile.TemporaryDirectory() as folder:
                rows = datasets.Dataset.from_dict({"audio": names})
                rows.map(embed, batched=True, batch_size=batch, cache_file_name=f"{folder}/rows.arrow")
            return len(names)

        def run_as_job(repository=repository, model_kwargs=model_kwargs):
            with tempfile.TemporaryDirectory() as folder:
                embed_recordings(names, repository, Path(folder) / "job", dtype=dtype, model_kwargs=model_kwargs)
            return len(names)

        run_bare(batches=1)  # warm
        speeds = {}
        for name, run in (
            ("bare model", partial(run_bare, max(1, len(names) // batch))),
            ("job", run_as_job),
            ("plain datasets.map", run_plainly),
        ):
            began = time.perf_counter()
            speeds[name] = run() / (time.perf_counter() - began)
        print(
            f"{Path(repository).name}, {dtype}, {length} frames, batches of {batch}, {len(names)} clips: "
            + ", ".join(f"{name} {speed:.2f} clips/s" for name, speed in speeds.items())
            + f"; job/bare {speeds['job'] / speeds['bare model']:.2f}, "
            f"job/plain {speeds['job'] / speeds['plain datasets.map']:.2f}",
            flush=True,
        )


def benchmark_rows(options: argparse.Namespace) -> None:
    names = find_recordings(options.recordings, None)
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

    names = find_recordings(options.recordings, options.clips)
    speeds = {}
    runs = {
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    throughput = commands.add_parser("throughput", help="a job against the bare model and a plain map")
    throughput.add_argument("repositories", nargs="+", metavar="REPOSITORY")
    throughput.add_argument("--max-length", type=int, metavar="FRAMES", help="AST's input length")
    throughput.set_defaults(run=benchmark_throughput)
    rows = commands.add_parser("rows", help="memory and time as the rows grow")
    rows.set_defaults(run=benchmark_rows)
    ray = commands.add_parser("ray", help="Ray workers against the local engine")
    ray.add_argument("repository", metavar="REPOSITORY")
    ray.set_defaults(run=benchmark_ray)
    for command in (throughput, rows, ray):
        command.add_argument("--recordings", type=Path, required=True, help="a folder with Ogg or WAV files")
        command.add_argument("--clips", type=int, help="take so many of them")
        command.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
