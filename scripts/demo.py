"""The demonstration: record a few sounds, embed them with a small network, and show which ones are alike.

The network is untrained: its weights are random. It shows that the parts work together, not what a trained network
hears.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import soundfile
import torch

from hf_gar import Cnn14FusionConfig, Cnn14FusionFeatureExtractor, Cnn14FusionModel

RATE = 16000  # Hz
SECONDS = 2.0


def make_recordings(folder: Path) -> None:
    """Write three kinds of sounds, two of each: tones, noises and chirps."""
    folder.mkdir(parents=True)
    time = np.arange(int(SECONDS * RATE)) / RATE
    noise = np.random.default_rng(0)
    sounds = {
        "tone-a": np.sin(2 * np.pi * 440 * time),
        "tone-b": np.sin(2 * np.pi * 494 * time),
        "noise-a": noise.normal(size=time.size) * 0.3,
        "noise-b": noise.normal(size=time.size) * 0.3,
        "chirp-a": np.sin(2 * np.pi * (200 * time + 900 * time**2)),
        "chirp-b": np.sin(2 * np.pi * (250 * time + 800 * time**2)),
    }
    for name, waveform in sounds.items():
        soundfile.write(folder / f"{name}.wav", 0.5 * waveform, RATE)


def make_model(folder: Path) -> None:
    """Write a model repository with a small untrained CNN14-Fusion."""
    torch.manual_seed(0)
    Cnn14FusionModel(Cnn14FusionConfig(channels=[8, 16, 32, 64, 64, 64])).save_pretrained(folder)
    Cnn14FusionFeatureExtractor().save_pretrained(folder)


def print_similarities(job: Path) -> None:
    """Print the cosine similarity of every two recordings of a job."""
    rows = datasets.Dataset.from_parquet(str(job / "part-*.parquet"), cache_dir=str(job.parent / "cache"))
    names = [Path(name).stem for name in rows["file_name"]]
    embeddings = np.array(rows["embedding"][:])
    embeddings -= embeddings.mean(axis=0)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    print("\nCosine similarity of the embeddings, their mean subtracted:\n")
    print(" " * 9 + "".join(f"{name:>9}" for name in names))
    for name, similarities in zip(names, embeddings @ embeddings.T, strict=True):
        print(f"{name:>9}" + "".join(f"{similarity:9.2f}" for similarity in similarities))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    folder = parser.parse_args().output
    if folder.exists():
        sys.exit(f"{folder} exists: remove it, or choose another folder.")
    make_recordings(folder / "recordings")
    make_model(folder / "model")
    arguments = [folder / "recordings", "--model", folder / "model", "--output", folder / "embeddings"]
    subprocess.run([Path(sys.executable).with_name("hf-gar"), "embed", *arguments], check=True)
    print_similarities(folder / "embeddings")
    print(f"\nThe network is untrained (random weights): this shows the parts at work. The files are in {folder}/.")


if __name__ == "__main__":
    main()
