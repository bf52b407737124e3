"""The demonstration: embed the recordings that come with the package, print which sound alike, and draw a map."""

import argparse
import sys
from pathlib import Path

import numpy as np

from hf_gar import read_job
from hf_gar.cli import main as hf_gar
from hf_gar.tiny import RECORDINGS, TINY

NEIGHBOURS = 3


def run(*arguments: str | Path) -> None:
    """Show a command and run it."""
    print(f"\n$ hf-gar {' '.join(map(str, arguments))}", flush=True)
    code = hf_gar([*map(str, arguments), "--quiet"])
    if code:
        sys.exit(code)


def print_neighbours(job: Path) -> None:
    """Print which recordings of a job are nearest to each, by the cosine of their standardised embeddings."""
    results = read_job(job)
    names = [Path(name).stem for name in results.rows["file_name"]]
    embeddings = (results.embeddings - results.embeddings.mean(axis=0)) / (results.embeddings.std(axis=0) + 1e-6)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarities = embeddings @ embeddings.T
    np.fill_diagonal(similarities, -np.inf)
    print(f"\nThe {NEIGHBOURS} nearest of each recording, with their cosine similarity:\n")
    for name, row in zip(names, similarities, strict=True):
        nearest = np.argsort(-row)[:NEIGHBOURS]
        print(f"  {name:<12}" + "".join(f"{names[other]:>12} {row[other]:5.2f}" for other in nearest))
    labels = results.rows["label"].to_numpy()
    hits = (labels[similarities.argmax(axis=1)] == labels).sum()
    print(f"\nThe nearest is of the same kind for {hits} of {len(names)} recordings.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    folder = parser.parse_args().output
    if folder.exists():
        sys.exit(f"{folder} exists: remove it, or choose another folder.")
    job = folder / "embeddings"
    print(f"{TINY} is the small network that comes with hf_gar; {RECORDINGS} holds 24 short recordings of 8 kinds.")
    run("embed", RECORDINGS, "--output", job)
    print_neighbours(job)
    run("map", job, "--color", "label", "--output", folder / "map")
    print(
        "\nNext:\n"
        "  hf-gar embed YOUR_RECORDINGS --output embeddings     your own recordings, in any format, of any length\n"
        "  hf-gar export cnn14-fusion --checkpoint official --output cnn14-fusion\n"
        "                                                       the paper's network; use it with --model cnn14-fusion\n"
        "  hf-gar --help                                        what else there is"
    )


if __name__ == "__main__":
    main()
