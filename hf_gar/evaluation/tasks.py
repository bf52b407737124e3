"""The tasks of the paper's linear evaluation (Niizumi et al., 2022, section IV and table III)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hf_gar.errors import HfGarError
from hf_gar.models import FusionConfig

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
        learning_rates: Those other than `LEARNING_RATE`, by model: its type, without "-fusion" where it is unfused.
    """

    name: str
    title: str
    metric: Metric = "accuracy"
    seconds: float | None = None
    clips: int | None = None
    classes: int | None = None
    folds: int | None = None
    download_clips: int | None = None
    learning_rates: Mapping[str, float] = field(default_factory=dict)

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
        return self.learning_rates.get(variant_name(config), LEARNING_RATE)


def variant_name(config: FusionConfig) -> str:
    """A model's type, such as "cnn14-fusion", or "cnn14" where it gives the network's own embedding."""
    is_unfused = config.fused_layers == (config.unfused_layer,)
    return config.model_type.removesuffix("-fusion") if is_unfused else config.model_type


VGGISH, VGGISH_FUSION = "vggish", "vggish-fusion"
CNN14, CNN14_FUSION = "cnn14", "cnn14-fusion"
AST, AST_FUSION = "ast", "ast-fusion"

_TASKS = (
    Task("esc50", "ESC-50", "accuracy", 5.0, 2_000, 50, folds=5, learning_rates={VGGISH: 0.003}),
    Task("us8k", "US8K", "accuracy", 4.0, 8_732, 10, folds=10),
    Task("fsd50k", "FSD50K", "mAP", 7.6358, 51_197, 200),
    Task("spcv2", "SPCV2", "accuracy", 1.0, 105_829, 35),
    Task("vc1", "VC1", "accuracy", 8.2, 153_514, 1_251, None, 153_516, {VGGISH: 0.0005, VGGISH_FUSION: 0.0005}),
    Task("voxforge", "VF", "accuracy", 5.8, 176_428, 6),
    Task("cremad", "CRM-D", "accuracy", 2.5, 7_438, 6, download_clips=7_442),
    Task("gtzan", "GTZAN", "accuracy", 30.0, 930, 10),
    Task("nsynth", "NSynth", "accuracy", 4.0, 305_979, 11, learning_rates={CNN14: 0.00001, CNN14_FUSION: 0.00001}),
    Task("nspitch", "NSPitch", "accuracy", 4.0, 305_979, 112),
    Task(
        "surge",
        "Surge",
        "accuracy",
        4.0,
        183_040,
        88,
        learning_rates={CNN14_FUSION: 0.00003, VGGISH_FUSION: 0.0001, AST: 0.0001, AST_FUSION: 0.0001},
    ),
)
TASKS = {task.name: task for task in _TASKS}


def find_task(name: str) -> Task:
    """One of the paper's tasks by its name; a HfGarError that lists them where there is none of that name."""
    if name not in TASKS:
        raise HfGarError(f"{name!r} is no task; there are {', '.join(TASKS)}. For your own data leave `task` out.")
    return TASKS[name]
