"""From which closeness on two recordings are near-duplicates: chosen from how close each is to its nearest."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from hf_gar.pictures import new_picture

# Distances, 1 - closeness, are compared by their logarithm; nearer ones are the same.
MIN_DISTANCE = 1e-3
MIN_DEVIATION = 0.005  # of a group of logarithms to base 10: a few equal values have none
MIN_PAIRS = 3
# How much smaller the criterion is where two groups are told apart: of one group, however skewed, 0.15 at most.
TWO_GROUPS = 0.25
OUTLIER = 7.0  # deviations from the median, where there is one group
QUARTILE = 0.6745  # deviations of a normal distribution from its median to its quartiles
BINS = 100
TICKS = (0.999, 0.998, 0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0, -1)


class Threshold(NamedTuple):
    """A closeness from which on recordings are near-duplicates, and whether there are two groups to tell apart."""

    closeness: float
    is_clear: bool


def choose_threshold(nearest: np.ndarray) -> Threshold:
    """Part recordings, by their closeness (row,) to their nearest, where two groups are told apart with fewest errors.

    Both groups are taken to be normally distributed in the logarithm of the distance (Kittler and Illingworth, "Minimum
    error thresholding", 1986). Where there is one group, only what is far outside of it is a near-duplicate: seven
    deviations, as the lower quartile tells them, nearer than the median.
    """
    distances = np.sort(np.log10(np.maximum(1 - nearest.astype(np.float64), MIN_DISTANCE)))
    split = _minimum_error_split(distances)
    if split is not None:
        return Threshold(1 - 10 ** float(distances[split - 1 : split + 1].mean()), True)
    median = np.median(distances)
    deviation = max((median - np.quantile(distances, 0.25)) / QUARTILE, MIN_DEVIATION)
    return Threshold(1 - 10 ** float(median - OUTLIER * deviation), False)


def _minimum_error_split(values: np.ndarray) -> int | None:
    """How many of the values (value,), ascending, are the lower group; None where they are one group."""
    low = np.arange(MIN_PAIRS, len(values) - MIN_PAIRS + 1)
    if not len(low):
        return None
    high, share = len(values) - low, low / len(values)
    centred = values - values.mean()
    sums, squares = np.cumsum(centred), np.cumsum(centred**2)
    low_variance = squares[low - 1] / low - (sums[low - 1] / low) ** 2
    high_variance = (squares[-1] - squares[low - 1]) / high - ((sums[-1] - sums[low - 1]) / high) ** 2
    criterion = share * _log(low_variance) + (1 - share) * _log(high_variance)
    criterion -= 2 * (share * np.log(share) + (1 - share) * np.log(1 - share))
    best = int(criterion.argmin())
    return int(low[best]) if criterion[best] < _log(values.var()) - TWO_GROUPS else None


def _log(variance: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(variance, MIN_DEVIATION**2))


def draw_histogram(path: Path, nearest: np.ndarray, threshold: float) -> None:
    """Draw the closeness (row,) of recordings to their nearest, and the threshold, into a PNG.

    Raises:
        HfGarError: The file cannot be written.
    """
    distances = np.maximum(1 - nearest.astype(np.float64), MIN_DISTANCE)
    bins = np.geomspace(distances.min(), distances.max() * 1.001, BINS).tolist()
    is_near = nearest >= threshold
    with new_picture(path, 8, 4) as figure:
        axes = figure.add_subplot(xscale="log", yscale="log")
        axes.hist(distances[is_near], bins, color="#DC050C", label=f"near-duplicates: {is_near.sum()}")
        axes.hist(distances[~is_near], bins, color="#004488", label=f"others: {(~is_near).sum()}")
        axes.axvline(max(1 - threshold, MIN_DISTANCE), color="#222222", linestyle="--", label=f"{threshold:.3f}")
        axes.set(xlabel="closeness to the nearest recording", ylabel="recordings")
        axes.set_xticks([1 - tick for tick in TICKS], [f"{tick:g}" for tick in TICKS])
        axes.set_xticks([], minor=True)
        axes.set_xlim(2 * max(distances.max(), 0.5), distances.min() / 2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
