"""Make the network in the box from nothing: its material, its training, its layers, its model repository.

    python scripts/train_tiny.py --output MODEL --work WORK

It needs the Debian packages fluidsynth, fluid-soundfont-gm, espeak-ng and sonic-pi-samples. Everything follows from the
seed: the same command on the same machine gives the same weights. What is in WORK already is not made again.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import torch
from tiny.development import compare_layers, development_tasks, embed
from tiny.material import DEVELOPMENT, TRAIN, make_material, missing_packages
from tiny.repository import write_card, write_repository
from tiny.spectrograms import make_spectrograms
from tiny.training import BLOCKS, TrainingOptions, train

from hf_gar.hub.load import find_repository

RESULTS_FILE = "development.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder of the model repository")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the material, 3 GB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=TrainingOptions.steps, help="batches to train on")
    parser.add_argument("--processes", type=int, default=2, help="that make the material")
    options = parser.parse_args()
    missing = missing_packages()
    if missing:
        sys.exit(f"Missing Debian packages. Install them and try again: apt-get install {' '.join(missing)}")
    torch.set_num_threads(1)  # the same sums in the same order, and a core for the batches
    options.work.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()

    material = options.work / "material"
    if not material.exists():
        make_material(material, options.seed, options.processes)
    clips = datasets.load_from_disk(material)
    split = np.array(clips["split"][:])
    parts = {name: clips.select(np.flatnonzero(split == name)) for name in (TRAIN, DEVELOPMENT)}
    spectrograms = {
        name: make_spectrograms(part, options.work / f"{name}.npz", options.processes) for name, part in parts.items()
    }
    made = time.perf_counter()

    training = TrainingOptions(steps=options.steps, seed=options.seed)
    model = train(spectrograms[TRAIN], training)
    trained = time.perf_counter()

    labels = spectrograms[TRAIN].labels
    write_repository(model, BLOCKS, options.output)
    # As it is stored: its weights rounded.
    stored = find_repository(options.output).load_model()
    embeddings = embed(stored, spectrograms[DEVELOPMENT])
    table = compare_layers(stored, development_tasks(parts[DEVELOPMENT], embeddings))
    best = [int(layer) for layer in table.index[0].split("+")]
    write_repository(model, best, options.output)
    evaluated = time.perf_counter()

    print(table.round(1).to_string())
    results = {
        "clips": {name: len(part) for name, part in parts.items()},
        "labels": {column: len(names) for column, names in labels.items()},
        "training": asdict(training),
        "layers": best,
        "accuracy": table.round(2).to_dict("index"),
        "weights_sha256": find_repository(options.output).weights_sha256,
    }
    write_card(options.output, table, results)
    (options.work / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(
        f"Layers {'+'.join(map(str, best))}. Material {made - began:.0f} s, training {trained - made:.0f} s, choice of "
        f"layers {evaluated - trained:.0f} s. The repository is {options.output}, the accuracies {RESULTS_FILE} in "
        f"{options.work}."
    )


if __name__ == "__main__":
    main()
