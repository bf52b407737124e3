"""A map of embeddings as a PNG."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from hf_gar.embedding.map_coloring import GREY, Coloring
from hf_gar.files import write_whole_file

# matplotlib's names, and sizes that look alike.
MARKERS = {
    "circle": ("o", 1.0),
    "square": ("s", 0.9),
    "triangle-up": ("^", 1.1),
    "diamond": ("D", 0.8),
    "cross": ("P", 1.6),
}
WIDTH_IN = 7
HEIGHTS_IN = (3.5, 7)
DOTS_PER_INCH = 160
ROWS_PER_COLUMN = 22  # of the legend
LEGEND_SIZE = 40  # of a marker, in square points


def write_picture(path: Path, positions: np.ndarray, coloring: Coloring, title: str) -> None:
    """Draw points at `positions` (point, 2) into a PNG.

    Raises:
        HfGarError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    extent = np.ptp(positions, axis=0)
    height = WIDTH_IN * extent[1] / extent[0] if extent[0] else max(HEIGHTS_IN)
    figure = Figure(figsize=(WIDTH_IN, np.clip(height, *HEIGHTS_IN)), dpi=DOTS_PER_INCH)
    axes = figure.add_subplot(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")  # distances are the same in both directions
    axes.spines[:].set_color("#DDDDDD")
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    size = float(np.clip(9000 / len(positions), 7, 45))  # square points
    handles = [
        _draw(axes, positions[group.points], group.marker, size, color=group.color, zorder=1 + (group.color != GREY))
        for group in coloring.groups
    ]
    if coloring.values is not None:
        valued = ~np.isnan(coloring.values)
        scale = {"c": coloring.values[valued], "cmap": "viridis", "zorder": 2}
        bar = figure.colorbar(_draw(axes, positions[valued], "circle", size, **scale), ax=axes, shrink=0.6, pad=0.02)
        bar.set_label(coloring.column, parse_math=False)
        bar.outline.set_visible(False)
    labels = [group.label for group in coloring.groups]
    if any(labels):
        _add_legend(axes, handles, labels, "" if coloring.values is not None else coloring.column, size)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    write_whole_file(path, buffer.getvalue())


def _draw(axes: Any, positions: np.ndarray, marker: str, size: float, **look: Any) -> Any:
    """Draw points at `positions` (point, 2), `size` square points large."""
    name, relative_size = MARKERS[marker]
    edges = {"linewidths": 0.08 * size**0.5, "edgecolors": "white"}
    return axes.scatter(positions[:, 0], positions[:, 1], s=relative_size * size, marker=name, **edges, **look)


def _add_legend(axes: Any, handles: list, labels: list[str], title: str, size: float) -> None:
    """A legend right of the map, or below it where a colour bar is at the right; `size` is the markers' on the map."""
    legend = axes.legend(
        handles,
        # Labels that begin with an underscore would be left out, and dollars read as formulas.
        ["\u200b" + label for label in labels],
        title=title,
        frameon=False,
        alignment="left",
        markerscale=(LEGEND_SIZE / size) ** 0.5,
        ncols=-(-len(labels) // ROWS_PER_COLUMN),
        loc="upper left",
        bbox_to_anchor=(1.01, 1) if title else (0, 0),
    )
    for text in [legend.get_title(), *legend.get_texts()]:
        text.set_parse_math(False)
        text.set_text(text.get_text().removeprefix("\u200b"))
