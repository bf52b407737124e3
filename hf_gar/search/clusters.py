"""Which groups the recordings of a job form."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hf_gar.embedding.jobs.results import FinishedJob
from hf_gar.errors import HfGarError
from hf_gar.files import replace_when_whole
from hf_gar.search.index.description import identify_shards
from hf_gar.search.index.embedding_index import EmbeddingIndex
from hf_gar.search.libraries import import_library
from hf_gar.search.queries import name_column

METHODS = ("hdbscan", "kmeans")
FILE = "clusters.parquet"
COLUMN = "cluster"
JOB_KEY = b"hf_gar_job"  # where the file's metadata says of which job's shards it is
COMPONENTS = 50  # in more dimensions, densities differ too little
# The time of HDBSCAN grows with the square of the recordings: of more, a random sample is clustered, and the others
# follow the nearest of it.
MAX_HDBSCAN_ROWS = 20_000
MAX_KMEANS_ROWS = 200_000
NO_CLUSTER = -1
CENTRAL = 3
LABEL = "label"
SEED = 0


@dataclass(frozen=True)
class Clusters:
    """The groups of a job's recordings.

    Args:
        rows: A row for each recording: `row`, its name, `cluster` (from 0, the largest; -1 for those in none) and
            `similarity` to the cluster's centre, from -1 to 1.
        summary: A row for each cluster: `cluster`, `size`, `central`, the names of its most central recordings, and,
            with labels, `label`, its most frequent, with `label_share`, from 0 to 1.
        label: The column of labels, where there is one.
        adjusted_mutual_information: Of the clusters and the labels; None without.
        sampled: How many recordings were clustered by themselves; the others follow.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    label: str | None
    adjusted_mutual_information: float | None
    sampled: int


def find_clusters(
    index: EmbeddingIndex,
    *,
    method: str = "hdbscan",
    clusters: int | None = None,
    min_size: int | None = None,
    label: str | None = None,
) -> Clusters:
    """Cluster a job's recordings, by their first 50 principal components, brought to length 1.

    Args:
        index: Of the job.
        method: "hdbscan", which finds the number of clusters and leaves what is in none, or "kmeans".
        clusters: How many, for k-means.
        min_size: The fewest recordings of a cluster of HDBSCAN; by default half the root of their number, at least 5.
        label: The column to compare the clusters with; by default "label", where there is one.

    Raises:
        HfGarError: An option has a value that cannot be used.
    """
    _check(index, method, clusters, min_size, label)
    column = label or (LABEL if LABEL in index.job.columns else None)
    points = np.concatenate([block for _, block in _points(index)])
    if method == "kmeans":
        assert clusters is not None
        numbers, sampled = _kmeans(points, clusters)
    else:
        numbers, sampled = _hdbscan(points, min_size)
    numbers = _largest_first(numbers)
    similarity = _similarity_to_centre(points, numbers)
    names = name_column(index.job)
    known = index.job.read(columns=[name for name in {names, column} if name], with_embeddings=False).rows
    called = [f"row {row}" for row in range(len(points))] if names is None else known[names].astype(str).tolist()
    named = {} if names is None else {names: known[names]}
    rows = pd.DataFrame({"row": np.arange(len(points)), **named, COLUMN: numbers, "similarity": similarity})
    labels = None if column is None else known[column].dropna().map(_as_text)
    information = None
    if labels is not None and len(labels):
        metrics = import_library("sklearn.metrics")
        information = float(metrics.adjusted_mutual_info_score(labels, numbers[labels.index]))
    return Clusters(rows, _summarize(rows, called, labels), column, information, sampled)


def _as_text(label: Any) -> str:
    """A label as it is compared: also lists of them, which cannot be counted themselves."""
    return str(label.tolist() if isinstance(label, np.ndarray) else label)


def write_clusters(job: FinishedJob, found: Clusters) -> Path:
    """Write the cluster of each recording into the job's folder, where the map finds it; returns the file.

    Raises:
        HfGarError: It cannot be written.
    """
    path = job.folder / FILE
    table = pa.Table.from_pandas(found.rows, preserve_index=False)
    table = table.replace_schema_metadata({**table.schema.metadata, JOB_KEY: _job_digest(job)})
    with replace_when_whole(path) as temporary:
        pq.write_table(table, temporary)
    return path


def read_clusters(job: FinishedJob) -> np.ndarray:
    """The names (row,) of the clusters that were found in a job: their numbers as text; None for those in none.

    Raises:
        HfGarError: The job has changed since.
    """
    table = pq.read_table(job.folder / FILE, columns=[COLUMN])
    if table.schema.metadata.get(JOB_KEY) != _job_digest(job):
        raise HfGarError(f"{job.folder} has changed since it was clustered. Run `hf-gar cluster` again.")
    numbers = table[COLUMN].to_numpy()
    digits = len(str(numbers.max(initial=0)))
    return np.array([None if number == NO_CLUSTER else f"{number:0{digits}d}" for number in numbers], object)


def _job_digest(job: FinishedJob) -> bytes:
    digests = "".join(shard.footer_sha256 for shard in identify_shards(job))
    return hashlib.sha256(digests.encode()).hexdigest().encode()


def _check(index: EmbeddingIndex, method: str, clusters: int | None, min_size: int | None, label: str | None) -> None:
    if method not in METHODS:
        raise HfGarError(f"{method!r} is not a clustering method: choose one of {', '.join(METHODS)}.")
    if (method == "kmeans") != (clusters is not None):
        raise HfGarError("k-means needs the number of `clusters`, which HDBSCAN finds by itself (`method`).")
    if clusters is not None and not 2 <= clusters <= len(index):
        raise HfGarError(f"`clusters` is {clusters}, but {len(index)} recordings make 2 to {len(index)} clusters.")
    if min_size is not None and (method == "kmeans" or not 2 <= min_size <= len(index)):
        raise HfGarError(f"`min_size` is {min_size}; it goes with HDBSCAN, and is 2 to {len(index)} in this job.")
    if label is not None and label not in index.job.columns:
        raise HfGarError(
            f"{index.job.folder} has no column {label!r}, only {', '.join(map(repr, index.job.columns))} (`label`)."
        )


def _points(index: EmbeddingIndex) -> Iterator[tuple[int, np.ndarray]]:
    """The first components of all rows, of length 1, block by block: (row, d)."""
    for first, block in index.vectors.blocks():
        reduced = index.reduction.reduce(block)[:, :COMPONENTS]
        length = np.linalg.norm(reduced, axis=1, keepdims=True)
        yield first, reduced / np.where(length == 0, 1, length)


def _kmeans(points: np.ndarray, clusters: int) -> tuple[np.ndarray, int]:
    sample = _sample(len(points), MAX_KMEANS_ROWS)
    estimator = import_library("sklearn.cluster").MiniBatchKMeans(clusters, n_init=3, random_state=SEED)
    return estimator.fit(points[sample]).predict(points), len(sample)


def _hdbscan(points: np.ndarray, min_size: int | None) -> tuple[np.ndarray, int]:
    sample = _sample(len(points), MAX_HDBSCAN_ROWS)
    size = min_size or min(len(sample), max(5, round(len(sample) ** 0.5 / 2)))
    found = import_library("sklearn.cluster").HDBSCAN(min_cluster_size=size, copy=True).fit_predict(points[sample])
    if len(sample) == len(points):
        return found, len(sample)
    faiss = import_library("faiss")
    followed = faiss.knn(points, points[sample], 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 0]
    return found[followed], len(sample)


def _sample(rows: int, most: int) -> np.ndarray:
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SEED).choice(rows, most, replace=False))


def _largest_first(numbers: np.ndarray) -> np.ndarray:
    """The clusters numbered anew by their size."""
    found, places, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    order = [place for place in np.argsort(-sizes, kind="stable") if found[place] != NO_CLUSTER]
    renumbered = np.full(len(found), NO_CLUSTER)
    renumbered[order] = np.arange(len(order))
    return renumbered[places]


def _similarity_to_centre(points: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The cosine similarity (row,) of each point to the mean of its cluster; NaN in none."""
    centres = np.zeros((numbers.max(initial=0) + 1, points.shape[1]))
    inside = numbers != NO_CLUSTER
    np.add.at(centres, numbers[inside], points[inside])
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), np.finfo(float).tiny)
    similarity = np.einsum("rd,rd->r", points, centres[numbers])
    return np.where(inside, similarity, np.nan)


def _summarize(rows: pd.DataFrame, names: list[str], labels: pd.Series | None) -> pd.DataFrame:
    summary = []
    for number, members in rows[rows[COLUMN] != NO_CLUSTER].groupby(COLUMN):
        central = members.nlargest(CENTRAL, "similarity")["row"]
        about: dict[str, Any] = {COLUMN: number, "size": len(members), "central": [names[row] for row in central]}
        if labels is not None:
            counts = labels[labels.index.isin(members["row"])].value_counts()
            about[LABEL] = str(counts.index[0]) if len(counts) else None
            about["label_share"] = float(counts.iloc[0] / len(members)) if len(counts) else None
        summary.append(about)
    of_labels = [] if labels is None else [LABEL, "label_share"]
    return pd.DataFrame(summary, columns=[COLUMN, "size", "central", *of_labels])
