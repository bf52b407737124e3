"""What the paper reports: Niizumi et al., 2022, Table III, linear evaluation, accuracy in %."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# The tasks' names in this project, and in the paper's table.
PAPER_TASKS = {
    "esc50": "ESC-50",
    "us8k": "UrbanSound8K",
    "spcv2": "Speech Commands V2",
    "vc1": "VoxCeleb1",
    "voxforge": "VoxForge",
    "cremad": "CREMA-D",
    "gtzan": "GTZAN",
    "nsynth": "NSynth",
    "surge": "Surge pitch",
}


@dataclass(frozen=True)
class PaperVariant:
    """A network in the paper, fused or not.

    Args:
        accuracies: In %, by the name of the task.
        learning_rates: Of the linear classifier, by the name of the task: those other than 0.0003.
    """

    accuracies: Mapping[str, float]
    learning_rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperFigures:
    """A network in the paper; `fusion_layers` are those of its fusion, as this project counts them."""

    fusion_layers: tuple[int, ...]
    unfused: PaperVariant
    fused: PaperVariant


def accuracies(*values: float) -> dict[str, float]:
    """A line of the table, in the order of `PAPER_TASKS`, by the names of the tasks."""
    return dict(zip(PAPER_TASKS, values, strict=True))
