"""From which similarity on two recordings are near-duplicates: chosen from how similar each is to its nearest."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from hf_gar.pictures import new_picture

# Distances are compared by their logarithm; below this, half precision tells nothing apart.
LEAST_DISTANCE = 1e-5
LEAST_DEVIATION = 0.03  # of a group of logarithms to base 10, which rounding alone could give a smaller one
LEAST_PAIRS = 3
# The two groups lie apart where there are at most so many values between them, of those around either's mean.
VALLEY = 0.5
OUTLIER = 5.0  # deviations from the median, where there are no two groups
QUARTILE = 0.6745  # deviations of a normal distribution from its median to its quartiles
BINS = 100


class Threshold(NamedTuple):
    """A similarity from which on recordings are near-duplicates, and whether a clear gap tells them from the others."""

    similarity: float
    is_clear: bool


def choose_threshold(nearest: np.ndarray) -> Threshold:
    """Part the similarities (row,) of recordings to their nearest where two groups of them are told apart with the
    fewest errors.

    Both groups are taken to be normally distributed in the logarithm of the distance, 1 - similarity (Kittler and
    Illingworth, "Minimum error thresholding", 1986). Where the data are no two groups, only what is far outside of them
    is a near-duplicate: five deviations, as the lower quartile tells them, nearer than the median.
    """
    distances = np.sort(_log_distance(nearest))
    split = _minimum_error_split(distances)
    if split is not None:
        return Threshold(1 - 10 ** float(distances[split - 1 : split + 1].mean()), True)
    median = np.median(distances)
    deviation = max((median - np.quantile(distances, 0.25)) / QUARTILE, LEAST_DEVIATION)
    return Threshold(1 - 10 ** float(median - OUTLIER * deviation), False)


def _log_distance(similarities: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(1 - similarities.astype(np.float64), LEAST_DISTANCE))


def _minimum_error_split(values: np.ndarray) -> int | None:
    """How many of the values (value,), ascending, are the lower group; None where they are no two groups."""
    count = np.arange(LEAST_PAIRS, len(values) - LEAST_PAIRS + 1)
    if not len(count):
        return None
    centred = values - values.mean()
    sums, squares = np.cumsum(centred), np.cumsum(centred**2)
    low, high = count, len(values) - count
    low_mean, high_mean = sums[count - 1] / low, (sums[-1] - sums[count - 1]) / high
    low_variance = np.maximum(squares[count - 1] / low - low_mean**2, LEAST_DEVIATION**2)
    high_variance = np.maximum((squares[-1] - squares[count - 1]) / high - high_mean**2, LEAST_DEVIATION**2)
    share = low / len(values)
    errors = share * np.log(low_variance) + (1 - share) * np.log(high_variance)
    errors -= 2 * (share * np.log(share) + (1 - share) * np.log(1 - share))
    best = int(errors.argmin())
    split, width = count[best], (high_mean[best] - low_mean[best]) / 4
    places = np.array([low_mean[best], centred[split - 1 : split + 1].mean(), high_mean[best]])
    around = np.searchsorted(centred, places + width / 2) - np.searchsorted(centred, places - width / 2)
    return int(split) if around[1] <= VALLEY * min(around[0], around[2]) else None


def draw_histogram(path: Path, nearest: np.ndarray, threshold: float) -> None:
    """Draw the similarities (row,) of recordings to their nearest, and the threshold, into a PNG.

    Raises:
        HfGarError: The file cannot be written.
    """
    distances = np.maximum(1 - nearest.astype(np.float64), LEAST_DISTANCE)
    limits = np.log10([distances.min(), distances.max()])
    with new_picture(path, 8, 4) as figure:
        axes = figure.add_subplot(xscale="log", yscale="log")
        bins = np.logspace(limits[0], limits[1] + 1e-3, BINS).tolist()
        is_near = nearest >= threshold
        axes.hist(distances[is_near], bins, color="#DC050C", label=f"near-duplicates: {is_near.sum()}")
        axes.hist(distances[~is_near], bins, color="#004488", label=f"others: {(~is_near).sum()}")
        axes.axvline(1 - threshold, color="#222222", linestyle="--", label=f"similarity {threshold:.4f}")
        axes.set(xlabel="similarity to the nearest recording", ylabel="recordings")
        axes.invert_xaxis()
        axes.xaxis.set_major_formatter(lambda distance, _: f"{1 - distance:.6g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
