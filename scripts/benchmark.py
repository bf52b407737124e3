"""Measure what a machine takes for what: every figure is of this machine and this run.

    python scripts/benchmark.py long REPOSITORY ... --recordings FOLDER

"long" embeds a 40-minute and a 3-hour recording, made by repeating the recordings of a folder, with each model, each in
a process of its own, and prints the time and the peak memory.
"""

import argparse
import itertools
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from hf_gar import AudioEmbedder, load_audio

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    long = commands.add_parser("long", help="recordings of 40 minutes and 3 hours")
    long.add_argument("repositories", nargs="+", metavar="REPOSITORY")
    long.add_argument("--recordings", type=Path, required=True, help="a folder with Ogg files")
    long.add_argument("--dtype", default="float32")
    options = parser.parse_args()
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
