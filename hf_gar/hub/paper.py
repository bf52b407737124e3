"""What the paper reports: Niizumi et al., 2022, Table III, linear evaluation, accuracy in %."""

from typing import NamedTuple


class PaperModel(NamedTuple):
    """A network in the paper: its name, the layers of its fusion as this project counts them, and its accuracies."""

    network: str
    fusion_layers: tuple[int, ...]
    unfused: dict[str, float]
    fused: dict[str, float]


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


def _accuracies(*values: float) -> dict[str, float]:
    return dict(zip(PAPER_TASKS, values, strict=True))


PAPER_MODELS = {
    "vggish-fusion": PaperModel(
        "VGGish",
        (9, 14),
        unfused=_accuracies(68.2, 75.1, 14.3, 9.0, 75.7, 44.4, 75.3, 53.9, 8.8),
        fused=_accuracies(86.5, 80.9, 91.4, 54.5, 91.6, 59.3, 70.8, 73.6, 33.3),
    ),
    "cnn14-fusion": PaperModel(
        "CNN14",
        (3, 6),
        unfused=_accuracies(90.1, 82.0, 51.4, 8.0, 75.0, 50.7, 79.7, 66.0, 10.4),
        fused=_accuracies(93.0, 85.8, 91.3, 50.6, 90.5, 59.0, 77.4, 73.8, 32.4),
    ),
    "ast-fusion": PaperModel(
        "AST",
        (4, 11),
        unfused=_accuracies(93.5, 85.5, 71.8, 16.5, 81.2, 57.9, 84.3, 73.2, 25.8),
        fused=_accuracies(94.2, 85.5, 80.4, 24.9, 87.6, 60.7, 82.9, 77.6, 34.6),
    ),
}
