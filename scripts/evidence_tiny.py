"""Measure the network in the box on tasks that it never saw, and write what comes out as a table.

    python scripts/evidence_tiny.py --model MODEL --esc10 ESC10 --digits FSDD --output OUTPUT

Linear accuracy on ESC-10, on spoken digits, on their speakers, and on digits by speakers who are held out: of the
unfused embedding, each block, pairs, the repository's own layers, those that `hf-gar probe` chooses, statistics of the
log-mel spectrogram, and untrained networks; and k-nearest-neighbour accuracy. Embeddings that are in OUTPUT are not
computed again.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny.repository import add_evidence, write_repository
from tiny.training import BLOCKS

from hf_gar import Cnn14FusionForAudioClassification
from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.evaluation.embed_task import embed_task
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.layer_search import choose_dimensions, search_layers
from hf_gar.evaluation.linear_probe import train_linear_probes
from hf_gar.evaluation.metrics import CONFIDENCE, Interval, mean_interval
from hf_gar.evaluation.partitions import SEEDS, make_partitions
from hf_gar.evaluation.task_data import TaskData, open_task, rows_of
from hf_gar.hub.load import Repository, find_repository
from hf_gar.models.audio_loading import load_audio

TITLES = {
    "esc10": "ESC-10",
    "digits": "digits",
    "speakers": "speakers",
    "new-speakers": "digits, held-out speakers",
}
# Of `SWEEP`, those that the tasks take.
LEARNING_RATES = (0.001, 0.003)
UNTRAINED_SEEDS = range(5)
NEIGHBOURS = 5
RESAMPLES = 2000
RESULTS_FILE, TABLE_FILE = "evidence.json", "evidence.md"


@dataclass(frozen=True)
class Score:
    """What an embedding scored on a task.

    Args:
        correct: The share of the seeds in which each tested clip was right, (tested clip,).
        folds: Of those clips; empty strings where there are none.
    """

    correct: np.ndarray
    folds: np.ndarray

    def __sub__(self, other: "Score") -> "Score":
        return replace(self, correct=self.correct - other.correct)

    @property
    def interval(self) -> Interval:
        """The mean with its 95 % interval: Student's t over folds, or of clips drawn again where there is one split."""
        if self.folds[0]:
            return _unclipped_interval(
                np.array([self.correct[self.folds == fold].mean() for fold in np.unique(self.folds)])
            )
        rng = np.random.default_rng(0)
        means = [rng.choice(self.correct, len(self.correct)).mean() for _ in range(RESAMPLES)]
        low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Interval(float(self.correct.mean()), float(low), float(high))


def _unclipped_interval(values: np.ndarray) -> Interval:
    """`mean_interval` of values from -1 to 1, which differences are."""
    interval = mean_interval((values + 1) / 2)
    return Interval(*(2 * value - 1 for value in interval))


def score(task: EmbeddedTask, seeds: Sequence[int]) -> Score:
    """The linear evaluation of `hf-gar evaluate`, clip by clip, with the learning rate that validates best."""
    partitions = make_partitions(task.targets, task.classes, task.memberships, task.has_folds, seeds)
    runs = train_linear_probes(task.embeddings, task.targets, len(task.classes), partitions, LEARNING_RATES)
    best = max(LEARNING_RATES, key=lambda rate: np.mean([run.valid_score for run in runs if run.learning_rate == rate]))
    is_correct = np.full((len(seeds), len(task.targets)), np.nan)
    for run in (run for run in runs if run.learning_rate == best):
        tested = run.partition.test
        is_correct[seeds.index(run.partition.seed), tested] = run.test_scores.argmax(1) == task.targets[tested]
    return _of_tested(is_correct.mean(0), task)


def score_neighbours(task: EmbeddedTask) -> Score:
    """The accuracy of the nearest neighbours by cosine similarity, of standardised embeddings; no seed plays a part."""
    is_correct = np.full(len(task.targets), np.nan)
    for partition in make_partitions(task.targets, task.classes, task.memberships, task.has_folds, SEEDS[:1]):
        train = np.concatenate([partition.train, partition.valid])
        classifier = make_pipeline(StandardScaler(), KNeighborsClassifier(NEIGHBOURS, metric="cosine"))
        classifier.fit(task.embeddings[train], task.targets[train])
        is_correct[partition.test] = classifier.predict(task.embeddings[partition.test]) == task.targets[partition.test]
    return _of_tested(is_correct, task)


def _of_tested(correct: np.ndarray, task: EmbeddedTask) -> Score:
    tested = ~np.isnan(correct)
    folds = task.memberships[tested] if task.has_folds else np.full(tested.sum(), "")
    return Score(correct[tested], folds)


def open_tasks(options: argparse.Namespace) -> dict[str, TaskData]:
    """The four tasks."""
    return {
        "esc10": open_task(options.esc10),
        "digits": open_task(options.digits, split_column="split"),
        "speakers": open_task(options.digits, label_column="speaker", split_column="split"),
        "new-speakers": open_task(options.digits, fold_column="speaker"),
    }


def embed(
    repository: Repository, tasks: dict[str, TaskData], layers: Sequence[int] | None, output: Path
) -> dict[str, EmbeddedTask]:
    """The tasks' embeddings; the recordings of the digits are embedded once for their three tasks."""
    kwargs = {"fusion_layers": None if layers is None else list(layers)}
    embedded = {name: embed_task(tasks[name], repository, output / name, kwargs) for name in ("esc10", "digits")}
    return {name: _labelled(embedded["esc10" if name == "esc10" else "digits"], data) for name, data in tasks.items()}


def _labelled(embedded: EmbeddedTask, data: TaskData) -> EmbeddedTask:
    """The embeddings with the labels and folds of another task of the same recordings."""
    rows = rows_of(list(embedded.file_names), data)
    memberships = data.dataset.with_format("numpy")[data.membership_column][:].astype(str)[rows]
    return EmbeddedTask(
        embedded.embeddings,
        data.targets[rows],
        data.classes,
        memberships,
        data.membership_column == "fold",
        embedded.file_names,
    )


def log_mel_statistics(repository: Repository, tasks: dict[str, TaskData], options: argparse.Namespace) -> dict:
    """The mean, the standard deviation and the maximum over time of each mel bin, as embeddings."""
    extractor = repository.load_feature_extractor()
    found = {}
    for name, folder in (("esc10", options.esc10), ("digits", options.digits)):
        rows = []
        for file_name in tasks[name].dataset["file_name"]:
            waveform = load_audio(str(Path(folder) / file_name), extractor.sampling_rate)
            mel = np.asarray(
                extractor(waveform, sampling_rate=extractor.sampling_rate, padding=False)["input_features"][0]
            )
            rows.append(np.concatenate([mel.mean(0), mel.std(0), mel.max(0)]))
        found[name] = np.stack(rows).astype(np.float32)
    return found


def write_untrained(repository: Repository, seed: int, folder: Path) -> Repository:
    """The same network with random weights, but with the trained one's statistics of the spectrograms (`bn0`)."""
    trained = repository.load_classifier()
    torch.manual_seed(seed)
    model = Cnn14FusionForAudioClassification(trained.config).eval()
    model.backbone.bn0.load_state_dict(trained.backbone.bn0.state_dict())
    write_repository(model, BLOCKS, folder)
    return find_repository(folder)


def measure(options: argparse.Namespace) -> dict:
    """All scores, as what is written: {"linear": {row: {task: ...}}, ...}."""
    repository, seeds = find_repository(options.model), SEEDS[: options.seeds]
    tasks = open_tasks(options)
    config = repository.load_config(fusion_layers=list(range(1, 7)))
    slices, default = layer_slices(config), tuple(repository.load_config().fused_layers)
    everything = embed(repository, tasks, tuple(slices), options.output / "layers")
    unfused = embed(repository, tasks, None, options.output / "unfused")
    statistics = log_mel_statistics(repository, tasks, options)
    rows: dict[str, dict[str, EmbeddedTask]] = {"unfused": unfused}
    rows["log-mel statistics"] = {
        name: _labelled(replace(unfused[name], embeddings=statistics["esc10" if name == "esc10" else "digits"],
                                file_names=list(tasks[name].dataset["file_name"])), tasks[name])
        for name in tasks
    }  # fmt: skip
    for layers in [(default), *((layer,) for layer in slices), *combinations(slices, 2), tuple(slices)]:
        rows[_name(layers)] = {name: choose_dimensions(task, slices, layers) for name, task in everything.items()}
    scores = {}
    for row, row_tasks in rows.items():
        scores[row] = {name: score(task, seeds) for name, task in row_tasks.items()}
        report(row, scores[row])
    chosen = {}
    for name, task in everything.items():
        search = search_layers(task, slices, LEARNING_RATES, seeds=SEEDS[:1])
        chosen[name] = _name(search.best)
        if chosen[name] not in scores:
            scores.setdefault(chosen[name], {})
        if name not in scores[chosen[name]]:
            scores[chosen[name]][name] = score(choose_dimensions(task, slices, search.best), seeds)
    scores["chosen by validation"] = {name: scores[layers][name] for name, layers in chosen.items()}
    report("chosen by validation", scores["chosen by validation"])
    untrained = []
    for seed in UNTRAINED_SEEDS:
        network = write_untrained(repository, seed, options.output / f"untrained-{seed}" / "model")
        embedded = embed(network, tasks, default, options.output / f"untrained-{seed}")
        untrained.append({name: score(task, seeds) for name, task in embedded.items()})
        report(f"untrained, seed {seed}", untrained[-1])
        scores[f"untrained, seed {seed}"] = untrained[-1]
    scores["untrained, mean"] = {
        name: replace(untrained[0][name], correct=np.mean([each[name].correct for each in untrained], axis=0))
        for name in tasks
    }
    neighbours = {
        row: {name: score_neighbours(rows[row][name]) for name in ("esc10", "digits")}
        for row in dict.fromkeys(["unfused", _name(default), "log-mel statistics", _name(tuple(slices))])
    }
    own = _name(default)
    references = ["unfused", "log-mel statistics", "untrained, mean", "chosen by validation"]
    return {
        "model_sha256": repository.weights_sha256,
        "default": own,
        "seeds": seeds,
        "chosen": chosen,
        "linear": {row: _intervals(each) for row, each in scores.items()},
        "neighbours": {row: _intervals(each) for row, each in neighbours.items()},
        "differences": {
            f"{own} less {reference}": _intervals({name: scores[own][name] - scores[reference][name] for name in tasks})
            for reference in references
        },
    }


def _name(layers: Sequence[int]) -> str:
    return f"block{'s' if len(layers) > 1 else ''} {'+'.join(map(str, layers))}"


def _intervals(scores: dict[str, Score]) -> dict[str, Interval]:
    return {name: Interval(*(round(100 * value, 2) for value in each.interval)) for name, each in scores.items()}


def report(row: str, scores: dict[str, Score]) -> None:
    """Print a row as soon as it is there."""
    print(row, *(f"{name} {interval.mean:.1f}" for name, interval in _intervals(scores).items()), sep="  ", flush=True)


def table(results: dict) -> str:
    """The results in Markdown."""
    lines = [f"Weights {results['model_sha256'][:12]}. Linear accuracy in %, with its 95 % interval.", ""]
    lines += _table(results["linear"], list(TITLES))
    chosen = ", ".join(f"{layers} for {TITLES[name]}" for name, layers in results["chosen"].items())
    lines += ["", f"Validation, as in `hf-gar probe`, chooses {chosen}.", ""]
    simpler = ", ".join(f"{TITLES[name]}: {', '.join(rows) or 'none'}" for name, rows in as_good(results).items())
    lines += [f"At least as good as {results['default']}, by their means: {simpler}.", ""]
    lines += [
        "Paired differences, in points, with their 95 % interval.",
        "",
        *_table(results["differences"], list(TITLES)),
    ]
    lines += ["", f"Accuracy of the {NEIGHBOURS} nearest neighbours in %.", ""]
    lines += _table(results["neighbours"], ["esc10", "digits"])
    return "\n".join(lines) + "\n"


def as_good(results: dict) -> dict[str, list[str]]:
    """Of each task, the embeddings whose mean is that of the default one or higher."""
    linear, default = results["linear"], results["default"]
    others = [row for row in linear if row not in (default, "chosen by validation")]
    return {
        name: [row for row in others if name in linear[row] and linear[row][name][0] >= linear[default][name][0]]
        for name in TITLES
    }


def _table(rows: dict[str, dict[str, Interval]], names: list[str]) -> list[str]:
    head = ["| embedding | " + " | ".join(TITLES[name] for name in names) + " |", "| --- |" + " --- |" * len(names)]
    cells = {
        row: [
            f"{each[name][0]:.1f} ({each[name][1]:.1f} to {each[name][2]:.1f})" if name in each else ""
            for name in names
        ]
        for row, each in rows.items()
    }
    return head + [f"| {row} | " + " | ".join(cells[row]) + " |" for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the network's model repository")
    parser.add_argument("--esc10", type=Path, required=True, help="ESC-10, with metadata.csv")
    parser.add_argument("--digits", type=Path, required=True, help="the Free Spoken Digit Dataset, with metadata.csv")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), choices=range(1, len(SEEDS) + 1), help="of each probe")
    parser.add_argument("--write-card", action="store_true", help="put the table into the repository's card")
    options = parser.parse_args()
    results = measure(options)
    (options.output / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.output / TABLE_FILE).write_text(table(results), encoding="utf-8")
    if options.write_card:
        add_evidence(options.model, table(results))
    print(table(results))


if __name__ == "__main__":
    main()
