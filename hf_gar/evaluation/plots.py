"""The pictures of a report: a confusion matrix, the curve over layers, the heat map over pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hf_gar.evaluation.optional import import_optional
from hf_gar.files import write_errors

DPI = 120
# Up to so many classes each is named and each cell numbered.
MOST_NAMED = 60
MOST_NUMBERED = 15
WHITE_ABOVE = 0.6


def _new_figure(width: float, height: float):
    """A figure that needs no display, and its axes."""
    figure = import_optional("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _save(figure, path: Path) -> None:
    with write_errors(path):
        figure.savefig(path, dpi=DPI)


def _number_cells(axes, values: np.ndarray, shades: np.ndarray, form: str) -> None:
    """Write each cell's value into it, legibly on its shade from 0 to 1."""
    for row, column in np.ndindex(*values.shape):
        if np.isfinite(values[row, column]):
            color = "white" if shades[row, column] > WHITE_ABOVE else "black"
            text = form.format(values[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)


def plot_confusion(confusion: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix (true class, predicted class) of counts as shares of each true class."""
    total = confusion.sum(1, keepdims=True)
    shares = np.divide(confusion, total, out=np.zeros(confusion.shape), where=total > 0)
    size = min(14, 3.5 + 0.3 * len(classes))
    figure, axes = _new_figure(size + 1.5, size)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MOST_NAMED:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
    if len(classes) <= MOST_NUMBERED:
        _number_cells(axes, 100 * shares, shares, "{:.0f}")
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(image, label="share of the true class")
    _save(figure, path)


def plot_layers(candidates: pd.DataFrame, metric: str, title: str, path: Path) -> None:
    """Draw the validation and test scores of each layer alone; `candidates` are those of a `LayerSearch`."""
    single = candidates[candidates["stage"] == "layer"]
    names = [str(layers[0]) for layers in single["layers"]]
    figure, axes = _new_figure(max(5, 1 + 0.6 * len(names)), 4)
    axes.plot(names, 100 * single["valid"], marker="o", label="validation")
    axes.plot(names, 100 * single["test"], marker="s", linestyle="--", label="test")
    axes.set(xlabel="layer", ylabel=f"{metric} [%]", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_pairs(candidates: pd.DataFrame, metric: str, title: str, path: Path) -> None:
    """Draw the validation scores of all pairs, and of each layer alone on the diagonal."""
    layers = [layers[0] for layers in candidates.loc[candidates["stage"] == "layer", "layers"]]
    scores = np.full((len(layers), len(layers)), np.nan)
    for chosen, valid in zip(candidates["layers"], candidates["valid"], strict=True):
        if len(chosen) <= 2:
            first, last = layers.index(chosen[0]), layers.index(chosen[-1])
            scores[first, last] = scores[last, first] = 100 * valid
    size = 2.5 + 0.55 * len(layers)
    figure, axes = _new_figure(size + 1.2, size)
    image = axes.imshow(scores, cmap="Blues")
    shades = (scores - np.nanmin(scores)) / max(np.nanmax(scores) - np.nanmin(scores), 1e-9)
    _number_cells(axes, scores, shades, "{:.1f}")
    axes.set_xticks(range(len(layers)), layers)
    axes.set_yticks(range(len(layers)), layers)
    axes.set(xlabel="layer", ylabel="layer", title=title)
    figure.colorbar(image, label=f"validation {metric} [%]")
    _save(figure, path)
