"""A map of embeddings as a PNG."""

from pathlib import Path
from typing import Any

import numpy as np

from hf_gar.pictures import new_picture, shorten
from hf_gar.search.maps.coloring import GREY, Coloring

# matplotlib's names, and sizes that look alike.
MARKERS = {
    "circle": ("o", 1.0),
    "square": ("s", 0.9),
    "triangle-up": ("^", 1.1),
    "diamond": ("D", 0.8),
    "cross": ("P", 1.6),
}
AREA_IN2 = 30.0  # of the frame
FLATTEST = 0.25  # its height by its width, or its width by its height, where the points are nearly on a line
TITLE_LENGTH = 100
MARGIN = 0.04  # around the points, of the frame
ROWS_PER_COLUMN = 22  # of the legend
LEGEND_SIZE = 40  # of a marker, in square points


def write_picture(path: Path, positions: np.ndarray, coloring: Coloring, title: str) -> None:
    """Draw points at `positions` (point, 2) into a PNG.

    Raises:
        HfGarError: The file cannot be written.
    """
    low, high = frame(positions)
    width, height = (high - low) * (AREA_IN2 / np.prod(high - low)) ** 0.5
    with new_picture(path, width, height) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xticks=[], yticks=[])  # distances are the same in both directions
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.spines[:].set_color("#DDDDDD")
        axes.set_title("\n".join(shorten(line, TITLE_LENGTH) for line in title.split("\n")), loc="left", fontsize=11)
        marker_size = float(np.clip(9000 / len(positions), 7, 45))  # square points
        handles = [
            _draw(
                axes,
                positions[group.points],
                group.marker,
                marker_size,
                color=group.color,
                zorder=1 + (group.color != GREY),
            )
            for group in coloring.groups
        ]
        if coloring.values is not None:
            valued = ~np.isnan(coloring.values)
            scale = {"c": coloring.values[valued], "cmap": "viridis", "zorder": 2}
            points = _draw(axes, positions[valued], "circle", marker_size, **scale)
            bar = figure.colorbar(points, cax=axes.inset_axes((1.02, 0.2, 0.025, 0.6)), label=coloring.column)
            bar.outline.set_visible(False)
        labels = [group.label for group in coloring.groups]
        if any(labels):
            _add_legend(axes, handles, labels, "" if coloring.values is not None else coloring.column, marker_size)


def frame(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lower left and the upper right corner, (2,) each, of the frame that `positions` (point, 2) fill."""
    lowest, highest = positions.min(axis=0).astype(np.float64), positions.max(axis=0).astype(np.float64)
    extent = highest - lowest
    extent = np.maximum(extent, FLATTEST * extent.max() or 1.0)
    half = extent / (2 - 4 * MARGIN)
    centre = (lowest + highest) / 2
    return centre - half, centre + half


def _draw(axes: Any, positions: np.ndarray, marker: str, size: float, **look: Any) -> Any:
    """Draw points at `positions` (point, 2), `size` square points large."""
    name, relative_size = MARKERS[marker]
    edges = {"linewidths": 0.08 * size**0.5, "edgecolors": "white"}
    return axes.scatter(positions[:, 0], positions[:, 1], s=relative_size * size, marker=name, **edges, **look)


def _add_legend(axes: Any, handles: list, labels: list[str], title: str, size: float) -> None:
    """A legend right of the map, or below it where a colour bar is at the right; `size` is the markers' on the map."""
    legend = axes.legend(
        handles,
        ["\u200b" + label for label in labels],  # those that begin with an underscore would be left out
        title=title,
        frameon=False,
        alignment="left",
        markerscale=(LEGEND_SIZE / size) ** 0.5,
        ncols=-(-len(labels) // ROWS_PER_COLUMN),
        loc="upper left",
        bbox_to_anchor=(1.01, 1) if title else (0, 0),
    )
    for text in legend.get_texts():
        text.set_text(text.get_text().removeprefix("\u200b"))
