"""What a model repository says of the training of its classifier: a file beside its weights, which the card tells."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_gar.checkpoints.reading import read_json
from hf_gar.errors import HfGarError
from hf_gar.files import write_whole_file

RECORD_FILE = "training.json"
CONFUSION_FILE = "confusion.png"


@dataclass(frozen=True)
class Score:
    """A score, from 0 to 1, or a difference of such, with its 95 % interval; None where that is not known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class LabelRecord:
    """A label: how many clips have it, by their split, and how well it was found in the test clips.

    `score` is the accuracy (recall) where a clip has one label, else the average precision; None where no test clip has
    the label.
    """

    name: str
    train: int
    valid: int
    test: int
    score: Score | None


@dataclass(frozen=True)
class RejectionRecord:
    """What a threshold does for sounds of none of the labels.

    Args:
        threshold: The configuration's `rejection_threshold`.
        share: How many of the validation clips were to be below it.
        rejected: The share of the test clips that are.
        accuracy: Of the test clips that are not; None where all are.
        unknown_rejected: The share that was rejected of the test clips of labels that were left out of the training,
            one at a time; None where that was not measured.
        labels_left_out: How many these were.
    """

    threshold: float
    share: float
    rejected: Score
    accuracy: Score | None
    unknown_rejected: Score | None = None
    labels_left_out: int = 0


@dataclass(frozen=True)
class FineTuningRecord:
    """How a network was fine-tuned, and what that gained.

    Args:
        learning_rate: AdamW's.
        best_epoch: The one whose weights are kept, counted from 1; 0 where none was better than the linear classifier.
        epochs: How many were trained.
        linear: The test score of the linear classifier that it began with.
        gain: The difference to that, on the same clips.
    """

    learning_rate: float
    best_epoch: int
    epochs: int
    linear: Score
    gain: Score


@dataclass(frozen=True)
class TrainingRecord:
    """The training of a classifier.

    Args:
        base: The repository of the network, its name.
        base_sha256: The digest of its weights.
        is_base_official: Whether these are those of the official checkpoint.
        data: What the recordings are called.
        metric: Of the scores: "accuracy", or "mAP" where a clip has several labels.
        test: The score on the test clips.
        valid: That on the validation clips, from 0 to 1.
        folds: How many folds were tested, each by a classifier of its own; None where the test clips are one split,
            which was tested by the classifier that is in the repository.
        is_random_split: Whether the test clips were chosen at random from all.
        layers: Those whose embedding is classified.
        is_searched: Whether layers and learning rate were chosen by the validation score.
        learning_rate: Of the linear classifier.
        best_epoch: Likewise, the one whose weights were kept.
        seed: Of the training.
        seeds: Those that were tried: of several, the one that validated best is here, and folds were tested with each.
        seconds: The length that clips were brought to; None where they were left as they are.
        labels: In the order of the logits.
        confusion: How many test clips of each label (row) were taken for each (column), (label, label); None where a
            clip has several labels.
        rejection: Where unknown sounds are rejected.
        fine_tuning: Where the network was trained, too.
    """

    base: str
    base_sha256: str
    is_base_official: bool
    data: str
    metric: str
    test: Score
    valid: float
    folds: int | None
    is_random_split: bool
    layers: Sequence[int]
    is_searched: bool
    learning_rate: float
    best_epoch: int
    seed: int
    seeds: Sequence[int]
    seconds: float | None
    labels: Sequence[LabelRecord]
    confusion: Sequence[Sequence[int]] | None
    rejection: RejectionRecord | None = None
    fine_tuning: FineTuningRecord | None = None

    def write(self, folder: Path) -> None:
        """Write it into a repository."""
        write_whole_file(folder / RECORD_FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def read_training(folder: Path) -> TrainingRecord | None:
    """What a repository says of its training; None where its classifier was not trained by hf_gar.

    Raises:
        HfGarError: The file is damaged.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    try:
        return _training(read_json(path))
    except (KeyError, TypeError) as error:
        raise HfGarError(f"{path} is damaged: {error!r}. Train or download the repository again.") from error


def _training(fields: dict[str, Any]) -> TrainingRecord:
    labels = [LabelRecord(**_with_scores(label, "score")) for label in fields["labels"]]
    rejection, fine_tuning = fields["rejection"], fields["fine_tuning"]
    if rejection is not None:
        rejection = RejectionRecord(**_with_scores(rejection, "rejected", "accuracy", "unknown_rejected"))
    if fine_tuning is not None:
        fine_tuning = FineTuningRecord(**_with_scores(fine_tuning, "linear", "gain"))
    nested = {"labels": labels, "rejection": rejection, "fine_tuning": fine_tuning}
    return TrainingRecord(**{**_with_scores(fields, "test"), **nested})


def _with_scores(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Fields of a file, those of `names` as scores."""
    scores = {name: None if fields[name] is None else Score(**fields[name]) for name in names}
    return {**fields, **scores}
