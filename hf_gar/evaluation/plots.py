"""The pictures of a report: a confusion matrix, the curve over layers, the heat map over pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_gar.evaluation.layer_search import LayerSearch
from hf_gar.pictures import new_picture, shorten

# Up to so many classes each is named and each cell numbered.
MOST_NAMED = 60
MOST_NUMBERED = 15
LABEL_LENGTH = 32
TITLE_LENGTH = 60
WHITE_ABOVE = 0.6


def plot_confusion(confusion: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix (true class, predicted class) of counts in percent of each true class's clips."""
    total = confusion.sum(1, keepdims=True)
    percent = 100 * np.divide(confusion, total, out=np.zeros(confusion.shape), where=total > 0)
    names = [shorten(name, LABEL_LENGTH) for name in classes] if len(classes) <= MOST_NAMED else []
    # The names are beside and below the cells.
    size = min(14, 2 + 0.4 * len(classes)) + 0.07 * max(map(len, names), default=0)
    with new_picture(path, size + 1.5, size, layout="constrained") as figure:
        axes = figure.add_subplot()
        image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        if names:
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
        if len(classes) <= MOST_NUMBERED:
            _number_cells(axes, percent, percent / 100, "{:.0f}")
        axes.set(xlabel="predicted class", ylabel="true class", title=shorten(title, TITLE_LENGTH))
        figure.colorbar(image, label="clips of the true class [%]")


def plot_layers(search: LayerSearch, title: str, path: Path) -> None:
    """Draw the validation score of each layer alone, and that of the layers that were found best."""
    scores = search.candidates.set_index("layers")[["valid", "valid_low", "valid_high"]] * 100
    single = scores[search.candidates.set_index("layers")["stage"] == "layer"]
    names = [str(layers[0]) for layers in single.index]
    below, above = single["valid"] - single["valid_low"], single["valid_high"] - single["valid"]
    below, above = below.clip(lower=0), above.clip(lower=0)  # rounding
    has_interval = bool(below.notna().all())
    label = "a layer alone"
    if has_interval:
        label += f", with the 95 % interval over {search.num_runs} folds"
    with new_picture(path, max(6.0, 1 + 0.6 * len(names)), 4, layout="constrained") as figure:
        axes = figure.add_subplot()
        bars = [below, above] if has_interval else None
        axes.errorbar(names, single["valid"], yerr=bars, marker="o", capsize=4, label=label)
        if len(search.best) > 1:
            fused = f"best: layers {' + '.join(map(str, search.best))} fused"
            axes.axhline(scores["valid"][search.best], color="C1", linestyle="--", label=fused)
        axes.set(xlabel="layer", ylabel=_score_label(search), title=shorten(title, TITLE_LENGTH))
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower left", frameon=False)


def plot_pairs(search: LayerSearch, title: str, path: Path) -> None:
    """Draw the validation scores of all pairs, and of each layer alone on the diagonal."""
    candidates = search.candidates
    layers = [layers[0] for layers in candidates.loc[candidates["stage"] == "layer", "layers"]]
    scores = np.full((len(layers), len(layers)), np.nan)
    for chosen, valid in zip(candidates["layers"], candidates["valid"], strict=True):
        if len(chosen) <= 2:
            first, last = layers.index(chosen[0]), layers.index(chosen[-1])
            scores[first, last] = scores[last, first] = 100 * valid
    size = 3 + 0.55 * len(layers)
    with new_picture(path, size + 1.2, size, layout="constrained") as figure:
        axes = figure.add_subplot()
        image = axes.imshow(scores, cmap="Blues")
        shades = (scores - np.nanmin(scores)) / max(np.nanmax(scores) - np.nanmin(scores), 1e-9)
        _number_cells(axes, scores, shades, "{:.1f}")
        _frame_diagonal(axes, len(layers))
        axes.set_xticks(range(len(layers)), layers)
        axes.set_yticks(range(len(layers)), layers)
        key = "framed, on the diagonal: the layer alone"
        if np.isnan(scores).any():
            key += "\nempty: not evaluated"
        axes.set(xlabel=f"fused with layer\n\n{key}", ylabel="layer", title=shorten(title, TITLE_LENGTH))
        figure.colorbar(image, label=_score_label(search))


def _score_label(search: LayerSearch) -> str:
    """What the scores of the candidates are."""
    folds = f", mean of {search.num_runs} folds" if search.num_runs > 1 else ""
    return f"validation {search.evaluation.metric} [%]\n(seed {search.seed}{folds})"


def _number_cells(axes, values: np.ndarray, shades: np.ndarray, form: str) -> None:
    """Write each cell's value into it, legibly on its shade from 0 to 1."""
    for row, column in np.ndindex(*values.shape):
        if np.isfinite(values[row, column]):
            color = "white" if shades[row, column] > WHITE_ABOVE else "black"
            text = form.format(values[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)


def _frame_diagonal(axes, cells: int) -> None:
    from matplotlib.patches import Rectangle

    for cell in range(cells):
        axes.add_patch(Rectangle((cell - 0.47, cell - 0.47), 0.94, 0.94, fill=False, edgecolor="C1", linewidth=1.5))
