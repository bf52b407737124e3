"""Linear evaluation of embeddings: the protocol of the paper (Niizumi et al., 2022, section IV)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from hf_gar.errors import HfGarError
from hf_gar.evaluation.linear_probe import ProbeRun, ProbeSettings, train_linear_probes
from hf_gar.evaluation.logistic import train_logistic_probes
from hf_gar.evaluation.metrics import (
    Interval,
    accuracy,
    average_precisions,
    confusion_counts,
    mean_average_precision,
    mean_interval,
)
from hf_gar.evaluation.partitions import SEEDS, make_partitions
from hf_gar.evaluation.tasks import SWEEP

ProbeKind = Literal["linear", "logistic"]


@dataclass(frozen=True)
class EmbeddedTask:
    """The embeddings of a task's clips, with their labels.

    Args:
        embeddings: (clip, D) float32.
        targets: (clip,) class numbers, or (clip, class), true where a clip has a label.
        classes: The names of the classes.
        memberships: The fold or the split of each clip, (clip,).
        has_folds: Whether `memberships` are folds.
        file_names: Of the clips.
    """

    embeddings: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]
    memberships: np.ndarray
    has_folds: bool
    file_names: Sequence[str]

    @property
    def metric(self) -> str:
        return "mAP" if self.targets.ndim == 2 else "accuracy"


@dataclass(frozen=True)
class Evaluation:
    """The scores of a linear evaluation, all from 0 to 1.

    Args:
        metric: "accuracy" or "mAP".
        test: The mean over folds, then over seeds, with its 95 % interval: Student's t over the folds' means where
            there are folds, else over the seeds.
        valid: The mean validation score.
        learning_rate: The one that was used or, in a sweep, chosen by `valid`; None for logistic regression.
        runs: One row a run: seed, fold, learning_rate, epochs, best_epoch, valid, test.
        sweep: The mean validation score of each learning rate.
        per_class: The accuracy (recall) or the average precision of each class.
        confusion: How many clips of each class (row) were taken for each (column), over all seeds and folds; None where
            a clip has several labels.
    """

    metric: str
    test: Interval
    valid: float
    learning_rate: float | None
    runs: pd.DataFrame
    sweep: dict[float, float]
    per_class: dict[str, float]
    confusion: np.ndarray | None


def evaluate_embeddings(
    task: EmbeddedTask,
    learning_rates: Sequence[float],
    *,
    seeds: Sequence[int] = SEEDS,
    probe: ProbeKind = "linear",
    settings: ProbeSettings | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Train and test a linear classifier on embeddings, for each seed and fold.

    Args:
        task: The embeddings and labels.
        learning_rates: One, or several, of which the best is chosen on the validation clips.
        seeds: Of the runs.
        probe: "linear", as in the paper, or "logistic" for scikit-learn's logistic regression.
        settings: Of the linear probe; as in the paper by default.
        device: As in PyTorch.

    Raises:
        HfGarError: The embeddings or the partitions cannot be used; the message says why.
    """
    check_embeddings(task)
    partitions = make_partitions(task.targets, task.classes, task.memberships, task.has_folds, seeds)
    if probe == "logistic":
        runs = train_logistic_probes(task.embeddings, task.targets, len(task.classes), partitions)
    else:
        runs = train_linear_probes(
            task.embeddings, task.targets, len(task.classes), partitions, learning_rates, settings, device
        )
    evaluation = summarize_runs(runs, task)
    return replace(evaluation, learning_rate=None, sweep={}) if probe == "logistic" else evaluation


def summarize_runs(runs: Sequence[ProbeRun], task: EmbeddedTask) -> Evaluation:
    """The scores of linear probes, with the learning rate that validates best."""
    rates = list(dict.fromkeys(run.learning_rate for run in runs))
    sweep = {rate: float(np.mean([run.valid_score for run in runs if run.learning_rate == rate])) for rate in rates}
    chosen = max(rates, key=lambda rate: sweep[rate])
    chosen_runs = [run for run in runs if run.learning_rate == chosen]
    score = mean_average_precision if task.targets.ndim == 2 else accuracy
    table = pd.DataFrame(
        {
            "seed": run.partition.seed,
            "fold": run.partition.fold,
            "learning_rate": run.learning_rate,
            "epochs": run.epochs,
            "best_epoch": run.best_epoch,
            "valid": run.valid_score,
            "test": score(run.test_scores, task.targets[run.partition.test]),
        }
        for run in chosen_runs
    )
    return Evaluation(
        metric=task.metric,
        test=mean_interval(table.groupby("fold" if task.has_folds else "seed")["test"].mean().to_numpy()),
        valid=sweep[chosen],
        learning_rate=chosen,
        runs=table,
        sweep=sweep,
        per_class=_score_classes(chosen_runs, task),
        confusion=_count_confusions(chosen_runs, task),
    )


def parse_learning_rates(text: str | None, default: float) -> list[float]:
    """The learning rates that are asked for: the default, a number, or "sweep" for those of `SWEEP`."""
    if text is None:
        return [default]
    if text == "sweep":
        return list(SWEEP)
    try:
        rate = float(text)
    except ValueError as error:
        raise HfGarError(f"`learning_rate` has to be a number or 'sweep', not {text!r}.") from error
    if not 0 < rate < float("inf"):
        raise HfGarError(f"`learning_rate` has to be above 0, not {text}.")
    return [rate]


def check_embeddings(task: EmbeddedTask) -> None:
    """Raise a HfGarError that names the clips whose embeddings are not finite."""
    is_finite = [np.isfinite(row).all() for row in task.embeddings]  # row by row: there may be gigabytes
    bad = np.flatnonzero(~np.array(is_finite, bool))
    if len(bad):
        names = ", ".join(str(task.file_names[index]) for index in bad[:5])
        raise HfGarError(
            f"{len(bad)} of {len(task.embeddings)} embeddings are not finite (NaN or infinite): {names}. Embed them "
            "again, in float32 or bfloat16 (`dtype`) where it was float16."
        )


def _score_classes(runs: Sequence[ProbeRun], task: EmbeddedTask) -> dict[str, float]:
    """The mean over seeds of each class's accuracy or average precision, over all folds."""
    confusion = _count_confusions(runs, task)
    if confusion is not None:
        tested = confusion.sum(1)
        scores = np.divide(confusion.diagonal(), tested, out=np.full(len(tested), np.nan), where=tested > 0)
    else:
        each = [average_precisions(run.test_scores, task.targets[run.partition.test]) for run in runs]
        scores = np.ma.masked_invalid(each).mean(axis=0).filled(np.nan)
    return dict(zip(task.classes, map(float, scores), strict=True))


def _count_confusions(runs: Sequence[ProbeRun], task: EmbeddedTask) -> np.ndarray | None:
    if task.targets.ndim == 2:
        return None
    return np.sum([confusion_counts(run.test_scores, task.targets[run.partition.test]) for run in runs], axis=0)
