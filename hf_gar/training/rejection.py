"""Sounds of none of the labels: a threshold on the best label's probability, learned from the validation clips."""

from dataclasses import replace

import numpy as np
import torch

from hf_gar.errors import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.linear_probe import ProbeRun, train_linear_probes
from hf_gar.evaluation.metrics import mean_interval
from hf_gar.evaluation.partitions import Partition
from hf_gar.hub.training_record import RejectionRecord, Score
from hf_gar.models.pipeline_audio_classification import UNKNOWN
from hf_gar.training.scores import count_seeds, of_interval, share

# So many labels are left out, one at a time, to measure what is rejected of sounds that the classifier does not know.
MOST_LEFT_OUT = 10


def check_rejection(task: EmbeddedTask) -> None:
    """Raise a HfGarError where nothing can be rejected."""
    if task.targets.ndim == 2:
        raise HfGarError(
            "Where recordings may have several labels, those of no label simply have low scores: leave `reject` out."
        )
    if UNKNOWN in task.classes:
        raise HfGarError(
            f"A label is called {UNKNOWN!r}, which is what rejected recordings are called. Rename it, or leave "
            "`reject` out."
        )


def learn_threshold(runs: list[ProbeRun], rejected: float) -> float:
    """The probability of the best label that a share `rejected` of the validation clips are below."""
    return float(np.quantile(np.concatenate([confidence(run.valid_scores) for run in runs]), rejected))


def confidence(logits: np.ndarray) -> np.ndarray:
    """The probability of the best label, (clip,), of logits (clip, label), as the pipeline computes it."""
    return torch.from_numpy(logits).softmax(1).amax(1).numpy()


def measure_rejection(runs: list[ProbeRun], task: EmbeddedTask, threshold: float, asked: float) -> RejectionRecord:
    """What a threshold does to the test clips, whose labels the classifiers know."""
    scores = np.concatenate([run.test_scores for run in runs])
    targets = np.concatenate([task.targets[run.partition.test] for run in runs])
    seeds = count_seeds(runs)
    is_rejected = confidence(scores) < threshold
    is_right = (scores.argmax(1) == targets)[~is_rejected]
    return RejectionRecord(
        threshold=threshold,
        share=asked,
        rejected=share(is_rejected.sum(), len(targets), seeds),
        accuracy=share(is_right.sum(), len(is_right), seeds) if len(is_right) else None,
    )


def reject_unknown(runs: list[ProbeRun], task: EmbeddedTask, rejected: float) -> tuple[Score | None, int]:
    """What a threshold rejects of sounds that a classifier does not know.

    Labels are left out of the training one at a time, and the share of their test clips is measured that are below the
    threshold of a classifier of the others, which is learned in the same way.

    Args:
        runs: As they were trained with all labels; those of the first seed are trained again.
        task: The embeddings and labels.
        rejected: As in `learn_threshold`.

    Returns:
        The mean over labels with its 95 % interval, and how many these were; None where there are two labels only, of
        which none can be left out.
    """
    num_classes = len(task.classes)
    if num_classes <= 2:
        return None, 0
    runs = [run for run in runs if run.partition.seed == runs[0].partition.seed]
    left_out = np.random.default_rng(runs[0].partition.seed).permutation(num_classes)[:MOST_LEFT_OUT]
    shares = []
    for label in left_out:
        parts = [_without(run.partition, task.targets, label) for run in runs]
        parts = [part for part in parts if len(part.valid) and len(part.test)]
        if not parts:
            continue
        others = train_linear_probes(task.embeddings, task.targets, num_classes, parts, [runs[0].learning_rate])
        others = [_without_output(run, label) for run in others]
        threshold = learn_threshold(others, rejected)
        shares.append((np.concatenate([confidence(run.test_scores) for run in others]) < threshold).mean())
    return (of_interval(mean_interval(np.array(shares))), len(shares)) if shares else (None, 0)


def _without(partition: Partition, targets: np.ndarray, label: int) -> Partition:
    """A partition whose classifier does not learn a label, and is tested on that alone."""
    train, valid = (clips[targets[clips] != label] for clips in (partition.train, partition.valid))
    test = partition.test[targets[partition.test] == label]
    return replace(partition, train=train, valid=valid, test=test)


def _without_output(run: ProbeRun, label: int) -> ProbeRun:
    """A run whose scores are those of the other labels."""
    return replace(
        run, valid_scores=np.delete(run.valid_scores, label, 1), test_scores=np.delete(run.test_scores, label, 1)
    )
