"""An evaluation's results as JSON, Parquet, a printed table and pictures."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult

from hf_gar.embedding.jobs.job_folder import read_description
from hf_gar.errors import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask, Evaluation
from hf_gar.evaluation.label_free import ADVISED_RECORDINGS, MEASURES, LabelFreeRanking
from hf_gar.evaluation.layer_search import LayerSearch
from hf_gar.evaluation.plots import plot_confusion, plot_layers, plot_pairs
from hf_gar.files import replace_when_whole, write_whole_file
from hf_gar.hub.load import Repository
from hf_gar.registry.paper import PAPER_TASKS

EMBEDDINGS = "embeddings"  # the job's folder in that of an evaluation
RESULTS_FILE = "results.json"
RUNS_FILE = "results.parquet"
CANDIDATES_FILE = "candidates.parquet"
CONFUSION_FILE = "confusion.png"
LAYERS_FILE = "layers.png"
PAIRS_FILE = "pairs.png"
CANDIDATES_SHOWN = 10


def describe_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """The scores as what JSON holds; what is not a number becomes null."""
    return {
        "metric": evaluation.metric,
        "test": _finite(evaluation.test.mean),
        "test_interval_95": [_finite(evaluation.test.low), _finite(evaluation.test.high)],
        "valid": evaluation.valid,
        "learning_rate": evaluation.learning_rate,
        "valid_by_learning_rate": {str(rate): score for rate, score in evaluation.sweep.items()},
        "per_class": {name: _finite(score) for name, score in evaluation.per_class.items()},
        "confusion": None if evaluation.confusion is None else evaluation.confusion.tolist(),
    }


def write_evaluation(folder: Path, evaluation: Evaluation, task: EmbeddedTask, about: dict[str, Any]) -> None:
    """Write an evaluation's results into a folder; `about` says what was evaluated."""
    _write_table(evaluation.runs, folder / RUNS_FILE)
    _write_json(folder / RESULTS_FILE, {**about, **describe_evaluation(evaluation)})
    title, confusion = _title(about), evaluation.confusion
    _draw(folder / CONFUSION_FILE, confusion is not None, plot_confusion, confusion, task.classes, title)


def write_search(folder: Path, search: LayerSearch, about: dict[str, Any]) -> None:
    """Write a search's results into a folder; `about` says what was searched."""
    described = _write_candidates(search.candidates, folder)
    _write_table(search.evaluation.runs, folder / RUNS_FILE)
    best = {"best_layers": list(search.best), "dimension": search.dimension, **describe_evaluation(search.evaluation)}
    searched = {"candidates_seed": search.seed, "candidates": described}
    _write_json(folder / RESULTS_FILE, {**about, **best, **searched})
    has_pairs = bool((search.candidates["stage"] == "pair").any())
    _draw(folder / LAYERS_FILE, True, plot_layers, search, _title(about))
    _draw(folder / PAIRS_FILE, has_pairs, plot_pairs, search, _title(about))


def write_ranking(folder: Path, ranking: LabelFreeRanking, about: dict[str, Any]) -> None:
    """Write a ranking's results into a folder; `about` says what was ranked."""
    candidates = _write_candidates(ranking.candidates, folder)
    _write_json(folder / RESULTS_FILE, {**about, "best_layers": list(ranking.best), "candidates": candidates})


def _write_candidates(candidates: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Write the choices of layers as a table, and return them as what JSON holds."""
    candidates = candidates.assign(layers=candidates["layers"].map(list))
    _write_table(candidates, folder / CANDIDATES_FILE)
    return [
        {str(name): _finite(value) if isinstance(value, float) else value for name, value in candidate.items()}
        for candidate in candidates.to_dict("records")
    ]


def _title(about: dict[str, Any]) -> str:
    return f"{about['task']}, {about['model_name']}"


def _draw(path: Path, is_wanted: bool, plot: Callable[..., None], *what: Any) -> None:
    """Draw a picture of results that are written; whatever happens, they stay, and no older picture beside them."""
    try:
        path.unlink(missing_ok=True)
        if is_wanted:
            plot(*what, path)
    except Exception as error:
        print(f"hf-gar: {path} could not be drawn: {error}\nThe results themselves are complete.", file=sys.stderr)


def read_measurement(folder: str | Path, repository: Repository) -> EvalResult:
    """An evaluation's score as a model card takes it.

    Args:
        folder: The evaluation's folder.
        repository: The model repository that the score is for.

    Raises:
        HfGarError: The folder holds no evaluation, or one of other weights or layers.
    """
    folder = Path(folder)
    try:
        found = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
        task, score = found["task"], 100 * found["test"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HfGarError(f"{folder} holds no evaluation: {error!r}. Make one with `hf-gar evaluate`.") from error
    if found.get("probe") != "linear" or "best_layers" in found:
        raise HfGarError(
            f"{folder} is not a linear evaluation of a repository's own layers, as a card takes it. Run "
            "`hf-gar evaluate`."
        )
    if isinstance(found.get("model"), list):
        raise HfGarError(
            f"{folder} evaluated {found['model_name']} together, which is not a score of {repository.name}."
        )
    job = read_description(folder / EMBEDDINGS)
    layers = repository.load_config().layer_choice
    if (job["weights_sha256"], job["fusion_layers"]) != (repository.weights_sha256, layers):
        raise HfGarError(
            f"{folder} evaluated layers {job['fusion_layers']} of the weights {job['weights_sha256'][:8]}, but "
            f"{repository.name} is layers {layers} of {repository.weights_sha256[:8]}. Evaluate this repository."
        )
    return EvalResult(
        task_type="audio-classification",
        dataset_type=task,
        # A part of a task, or something else of the same name, is not to stand beside the paper's figure.
        dataset_name=PAPER_TASKS.get(task, task) if found.get("is_complete_task") else f"{task} (own data)",
        metric_type=found["metric"],
        metric_value=round(score, 1),
        metric_name=f"linear evaluation, {found['metric']} in %",
    )


def format_evaluation(evaluation: Evaluation) -> str:
    """The scores of each fold and seed, and their mean, in percent."""
    table = evaluation.runs.assign(fold=evaluation.runs["fold"].fillna("-"))
    scores = (100 * table.pivot_table(index="seed", columns="fold", values="test")).round(2)
    return f"test {evaluation.metric} in %:\n{scores.to_string()}\n{summary_line(evaluation)}"


def summary_line(evaluation: Evaluation) -> str:
    """One line: the metric, the test score with its interval, the validation score, the learning rate."""
    interval = evaluation.test
    spread = (
        "" if math.isnan(interval.low) else f" (95 % interval {100 * interval.low:.2f} to {100 * interval.high:.2f})"
    )
    rate = "" if evaluation.learning_rate is None else f", learning rate {evaluation.learning_rate:g}"
    return (
        f"test {evaluation.metric} {100 * interval.mean:.2f} %{spread}, validation {100 * evaluation.valid:.2f} %{rate}"
    )


def format_search(search: LayerSearch) -> str:
    """The best candidates by their validation scores, and the choice with its test score, all in percent."""
    top = search.candidates.sort_values("valid", ascending=False).head(CANDIDATES_SHOWN)
    percent = (100 * top[["valid", "valid_low", "valid_high"]]).round(2)
    shown = pd.DataFrame(
        {
            "layers": [" + ".join(map(str, layers)) for layers in top["layers"]],
            "dimension": top["dimension"],
            "validation": percent["valid"],
        }
    )
    folds = ""
    if search.num_runs > 1:
        shown["95 % interval"] = [
            f"{low:.2f} to {high:.2f}" for low, high in zip(percent["valid_low"], percent["valid_high"], strict=True)
        ]
        folds = f", mean of {search.num_runs} folds"
    seeds = list(dict.fromkeys(search.evaluation.runs["seed"]))
    return (
        f"validation {search.evaluation.metric} in %, 1 seed ({search.seed}){folds}; the best {len(top)} of "
        f"{len(search.candidates)} choices:\n{shown.to_string(index=False)}\n"
        f"best by validation: layers {' + '.join(map(str, search.best))}, dimension {search.dimension}\n"
        f"these, with {len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))}): "
        f"{summary_line(search.evaluation)}"
    )


def format_ranking(ranking: LabelFreeRanking) -> str:
    """The choices that are ranked first, with their measures."""
    top = ranking.candidates.head(CANDIDATES_SHOWN)
    shown = top[["dimension", *MEASURES, "mean_rank"]].round(2)
    shown.insert(0, "layers", [" + ".join(map(str, layers)) for layers in top["layers"]])
    is_few = ranking.num_recordings < ADVISED_RECORDINGS
    few = f", fewer than the {ADVISED_RECORDINGS} that are advised" if is_few else ""
    return (
        f"ranked by {ranking.num_recordings} recordings without labels{few}; the first {len(top)} of "
        f"{len(ranking.candidates)} choices:\n{shown.to_string(index=False)}\n"
        f"ranked first: layers {' + '.join(map(str, ranking.best))}"
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole_file(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with replace_when_whole(path) as temporary:
        table.to_parquet(temporary)
