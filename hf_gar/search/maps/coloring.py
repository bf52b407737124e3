"""The colours of a map's points, told apart by colour-blind readers too."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hf_gar.pictures import shorten

# Blue, yellow, black, sky blue, red, orange, green, pink, brown and violet, from the palettes of Paul Tol, of Okabe and
# Ito, and of IBM: chosen so that the two nearest are as far apart as can be, as colour-blind readers see them, too. The
# n-th and the n-plus-fifth share a marker: these are the farthest from each other.
COLORS = (
    "#004488",
    "#F6C141",
    "#000000",
    "#56B4E9",
    "#DC050C",
    "#EE7733",
    "#117733",
    "#CC79A7",
    "#663333",
    "#785EF0",
)
GREY = "#BBBBBB"  # of what has no value
# Plotly's names.
MARKERS = ("circle", "square", "triangle-up", "diamond", "cross")
MAX_CATEGORIES = 40
# Whole numbers of so few values are classes; more are a quantity.
MAX_NUMBERED_CLASSES = 20
MISSING = "(missing)"
LABEL_LENGTH = 32


@dataclass(frozen=True)
class Group:
    """Points that look the same.

    Args:
        label: As the legend shows it; empty where there is nothing to tell.
        points: (point of the group,) indices.
        color: Hexadecimal.
        marker: One of `MARKERS`.
    """

    label: str
    points: np.ndarray
    color: str
    marker: str = MARKERS[0]


@dataclass(frozen=True)
class Coloring:
    """How every point looks.

    Args:
        column: What the colours mean; empty where nothing.
        groups: The categories in order, then the grey ones; on a continuous scale only those without a value.
        values: On a continuous scale, (point,) float64: NaN where a point is in a group.
        merged_categories: How many rare categories share one grey group.
    """

    column: str
    groups: tuple[Group, ...]
    values: np.ndarray | None = None
    merged_categories: int = 0


def color_points(column: pd.Series | None, points: int) -> Coloring:
    """Choose the colours of `points` points by a column's values.

    Text, truth values and whole numbers of few different values are categories, each with a colour and a marker; of
    more than 40, the most frequent 39 are shown, and the others share one grey group. Other numbers are a continuous
    scale.
    """
    if column is None:
        return Coloring("", (Group("", np.arange(points), COLORS[0]),))
    name = shorten(str(column.name), LABEL_LENGTH)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        values = np.where(np.isfinite(values), values, np.nan)
        present = np.unique(values[~np.isnan(values)])
        if len(present) > MAX_NUMBERED_CLASSES or (present != np.round(present)).any():
            return Coloring(name, _missing_group(np.isnan(values)), values)
        names = [None if np.isnan(value) else int(value) for value in values]
        return _color_categories(name, pd.Series(names, dtype=object))
    return _color_categories(name, column.map(lambda value: None if _is_missing(value) else str(value)))


def _color_categories(name: str, categories: pd.Series) -> Coloring:
    """Colour by categories (point,): text or integers, None where missing."""
    counts = categories.value_counts()
    shown = sorted(counts.index if len(counts) <= MAX_CATEGORIES else counts.index[: MAX_CATEGORIES - 1])
    groups = [
        Group(
            shorten(str(category), LABEL_LENGTH),
            np.flatnonzero(categories == category),
            COLORS[index % len(COLORS)],
            # Another one when the colours come again.
            MARKERS[(index + index // len(COLORS)) % len(MARKERS)],
        )
        for index, category in enumerate(shown)
    ]
    merged = len(counts) - len(shown)
    if merged:
        others = np.flatnonzero(categories.notna() & ~categories.isin(shown))
        groups.append(Group(f"({merged} others)", others, GREY, MARKERS[1]))
    return Coloring(name, (*groups, *_missing_group(categories.isna().to_numpy())), merged_categories=merged)


def _missing_group(is_missing: np.ndarray) -> tuple[Group, ...]:
    return (Group(MISSING, np.flatnonzero(is_missing), GREY),) if is_missing.any() else ()


def _is_missing(value: Any) -> bool:
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))
