"""The tasks of the paper's linear evaluation (Niizumi et al., 2022, section IV and table III)."""

from dataclasses import dataclass
from typing import Literal

from hf_gar.errors import HfGarError
from hf_gar.models import FusionConfig
from hf_gar.registry import MODELS

Metric = Literal["accuracy", "mAP"]
METRICS: tuple[Metric, ...] = ("accuracy", "mAP")
LEARNING_RATE = 0.0003
# What a sweep tries: the paper's learning rates lie between the ends.
SWEEP = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01)


@dataclass(frozen=True)
class Task:
    """What is evaluated, and how.

    Args:
        name: Short, as on the command line.
        title: As in the paper's tables.
        metric: "accuracy" where a clip has one label, "mAP" (mean average precision) where it has several.
        seconds: Every clip is cut or zero-padded to this length; None leaves the clips as they are.
        clips: How many there are; None where any number will do.
        classes: Likewise.
        folds: How many folds there are; None where there are the splits train, valid and test.
        download_clips: How many clips the official download has, where they are not as many as the paper's.
    """

    name: str
    title: str
    metric: Metric = "accuracy"
    seconds: float | None = None
    clips: int | None = None
    classes: int | None = None
    folds: int | None = None
    download_clips: int | None = None

    def __post_init__(self):
        if self.metric not in METRICS:
            raise ValueError(f"metric has to be one of {', '.join(METRICS)}, not {self.metric!r}.")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds has to be above 0, or None for clips of any length, not {self.seconds!r}.")

    def require_counts(self, clips: int, classes: int, folds: int | None) -> None:
        """Raise a HfGarError that names what was expected and found, where the numbers are not the task's."""
        expected = (
            ("clips", self.download_clips if clips == self.download_clips else self.clips, clips),
            ("classes", self.classes, classes),
            ("folds", self.folds, folds or "none"),
        )
        wrong = [
            f"{number} {what} were expected and {found} found"
            for what, number, found in expected
            if number is not None and number != found
        ]
        if wrong:
            raise HfGarError(
                f"This is not the whole of {self.title}: {'; '.join(wrong)}. Complete the download, or allow "
                "it (`allow_other_counts`); the scores are then not comparable with the paper's."
            )

    def learning_rate(self, config: FusionConfig) -> float:
        """The paper's learning rate for a model."""
        variant = MODELS[config.model_type].paper_variant(config.is_unfused)
        if variant is None or self not in TASKS.values():  # a task of your own may have the name of one of the paper's
            return LEARNING_RATE
        return variant.learning_rates.get(self.name, LEARNING_RATE)


_TASKS = (
    Task("esc50", "ESC-50", "accuracy", 5.0, 2_000, 50, folds=5),
    Task("us8k", "US8K", "accuracy", 4.0, 8_732, 10, folds=10),
    Task("fsd50k", "FSD50K", "mAP", 7.6358, 51_197, 200),
    Task("spcv2", "SPCV2", "accuracy", 1.0, 105_829, 35),
    Task("vc1", "VC1", "accuracy", 8.2, 153_514, 1_251, download_clips=153_516),
    Task("voxforge", "VF", "accuracy", 5.8, 176_428, 6),
    Task("cremad", "CRM-D", "accuracy", 2.5, 7_438, 6, download_clips=7_442),
    Task("gtzan", "GTZAN", "accuracy", 30.0, 930, 10),
    Task("nsynth", "NSynth", "accuracy", 4.0, 305_979, 11),
    Task("nspitch", "NSPitch", "accuracy", 4.0, 305_979, 112),
    Task("surge", "Surge", "accuracy", 4.0, 183_040, 88),
)
TASKS = {task.name: task for task in _TASKS}


def find_task(name: str) -> Task:
    """One of the paper's tasks by its name; a HfGarError that lists them where there is none of that name."""
    if name not in TASKS:
        raise HfGarError(f"{name!r} is not a task; there are {', '.join(TASKS)}. For your own data leave `task` out.")
    return TASKS[name]
