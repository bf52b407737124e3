"""Embeddings standardised, brought to length 1, and reduced by PCA."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hf_gar.errors import HfGarError
from hf_gar.files import write_whole_file
from hf_gar.search.libraries import import_library

# PCA is fitted to a random sample of so many bytes at most: its components only choose candidates.
SAMPLE_BYTES = 128 * 2**20
MAX_COVARIANCE = 2048  # dimensions; from more, randomised PCA is faster
# The minimum deviation of a dimension, relative to its mean: less is rounding, which standardising would magnify.
MIN_DEVIATION = 1e-5
SEED = 0


@dataclass(frozen=True)
class Reduction:
    """What turns embeddings into what is compared: all of one job's, and a query's, alike.

    Args:
        mean: (D,) of the embeddings that it was fitted to.
        scale: (D,), their standard deviation, but above what rounding makes; 1 where a dimension is constant.
        components: (d, D), the principal components of the standardised embeddings.
        kept_variance: The share of their variance that the components keep, from 0 to 1.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    kept_variance: float

    def standardize(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (row, D), standardised and of length 1: (row, D) float32, whose dot products are similarities."""
        standardized = (embeddings - self.mean) / self.scale
        length = np.linalg.norm(standardized, axis=1, keepdims=True)
        return standardized / np.where(length == 0, 1, length)

    def reduce(self, standardized: np.ndarray) -> np.ndarray:
        """What `standardize` gave, (row, D), as (row, d): the dot products are nearly the same."""
        return standardized @ self.components.T

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        arrays = {"mean": self.mean, "scale": self.scale, "components": self.components}
        write_whole_file(path, save(arrays, {"kept_variance": repr(self.kept_variance)}))


def load_reduction(path: Path) -> Reduction:
    """Read what `Reduction.save` wrote.

    Raises:
        HfGarError: It is damaged.
    """
    try:
        with safe_open(path, "np") as file:
            mean, scale, components = (file.get_tensor(name) for name in ("mean", "scale", "components"))
            return Reduction(mean, scale, components, float(file.metadata()["kept_variance"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise HfGarError(f"{path} is damaged: {error}. Remove it, and index the job again.") from error


def fit_reduction(blocks: Iterable[np.ndarray], num_rows: int, dimension: int, reduced_dimension: int) -> Reduction:
    """Measure mean and deviation in one pass, and fit PCA to what it collects: all rows, or a random sample of them.

    Args:
        blocks: The embeddings, (row, D) each, together `num_rows`.
        num_rows: At least 2.
        dimension: D.
        reduced_dimension: d, at most; fewer rows or dimensions give fewer components.

    Raises:
        HfGarError: An embedding is not finite, or all are equal.
    """
    scaler = import_library("sklearn.preprocessing").StandardScaler()
    size = min(num_rows, max(2 * reduced_dimension, SAMPLE_BYTES // (4 * dimension)))
    chosen = np.sort(np.random.default_rng(SEED).choice(num_rows, size, replace=False))
    sample = np.empty((size, dimension), np.float32)
    first = 0
    for block in blocks:
        _check_finite(block, first)
        scaler.partial_fit(block)
        start, stop = np.searchsorted(chosen, [first, first + len(block)])
        sample[start:stop] = block[chosen[start:stop] - first]
        first += len(block)
    if not scaler.var_.any():
        raise HfGarError(f"All {num_rows} embeddings are equal: there is nothing to tell apart. Check the recordings.")
    mean = scaler.mean_.astype(np.float32)
    scale = np.maximum(scaler.scale_, MIN_DEVIATION * np.abs(scaler.mean_)).astype(np.float32)
    sample -= mean
    sample /= scale
    count = min(reduced_dimension, *sample.shape)
    solver = "covariance_eigh" if dimension <= MAX_COVARIANCE <= size else "auto"
    pca = import_library("sklearn.decomposition").PCA(count, svd_solver=solver, random_state=SEED, copy=False)
    pca.fit(sample)
    kept = float(np.clip(pca.explained_variance_ratio_.sum(), 0, 1))
    components = np.ascontiguousarray(pca.components_, np.float32)  # safetensors ignores the order in memory
    return Reduction(mean, scale, components, kept)


def _check_finite(block: np.ndarray, first: int) -> None:
    """Raise a HfGarError that names the rows of a block, which begins with the job's row `first`, that are not."""
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        rows = ", ".join(str(first + row) for row in bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise HfGarError(
            f"The embeddings of the rows {rows} are not finite numbers. Listen to these recordings, and embed again, "
            "in float32 (`dtype`) if it was another."
        )
