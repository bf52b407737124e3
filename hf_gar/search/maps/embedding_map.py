"""A two-dimensional map of a job's embeddings: a picture, and a page that plays the recordings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from datasets.utils import tqdm

from hf_gar.embedding.jobs.recording_files import find_recordings, path_column
from hf_gar.embedding.jobs.results import FinishedJob, JobResults, open_job
from hf_gar.errors import HfGarError
from hf_gar.files import write_errors
from hf_gar.search.clusters import COLUMN, FILE, read_clusters
from hf_gar.search.libraries import import_library
from hf_gar.search.maps.coloring import color_points
from hf_gar.search.maps.page import described_columns, embedded_audio, page_link, write_page
from hf_gar.search.maps.picture import write_picture

METHODS = {"tsne": "t-SNE", "umap": "UMAP"}
LIBRARIES = ("matplotlib", "plotly", "sklearn")
SUFFIXES = (".png", ".html")
MAX_POINTS = 5000  # t-SNE of so many takes about half a minute
COMPONENTS = 50  # t-SNE's authors reduce to so many dimensions first; more only cost time
PERPLEXITY = 30
NEIGHBORS = 15
NEAREST = 5  # recordings that the page offers beside the one that is heard
MIN_UMAP_POINTS = 3
STEPS = "{desc} (step {n_fmt} of {total_fmt}, {elapsed})"


@dataclass(frozen=True)
class MapSummary:
    """What was drawn.

    Args:
        picture: The PNG.
        page: The HTML page.
        drawn: How many recordings are on the map.
        recordings: How many the job holds.
        playable: How many of those drawn the page can play.
        merged_categories: How many rare categories share one grey colour.
    """

    picture: Path
    page: Path
    drawn: int
    recordings: int
    playable: int
    merged_categories: int


def draw_map(
    folder: str | Path,
    *,
    color: str | None = None,
    output: str | Path | None = None,
    method: str = "tsne",
    max_points: int = MAX_POINTS,
    seed: int = 0,
    audio_root: str | Path | None = None,
    embed_audio: bool = False,
) -> MapSummary:
    """Draw the embeddings of a finished job as points on a plane, alike recordings near each other.

    Args:
        folder: The job's folder.
        color: The column that colours the points: categories, or numbers for a continuous scale.
        output: The files' path without `.png` and `.html`; by default `map` in the job's folder. Older ones are
            replaced.
        method: "tsne" or "umap".
        max_points: Of a larger job, a random sample of so many recordings is drawn.
        seed: Of the sample and the method: the same job and seed give the same map.
        audio_root: The folder of the recordings, where it is not the source's.
        embed_audio: Put the recordings into the page instead of links to them.

    Raises:
        HfGarError: The folder holds no finished job, fewer than 2 embeddings or unusable ones; there is no such column;
            a library is missing; the recordings are too large to embed; or the files cannot be written.
    """
    _check_method(method)
    job = open_job(folder)
    check_job(job, color)
    picture, page = _output_files(Path(folder) / "map" if output is None else Path(output))
    sample = choose_sample(job.num_recordings, max_points, seed)
    with write_errors(picture.parent):
        picture.parent.mkdir(parents=True, exist_ok=True)

    with tqdm(total=4, initial=1, desc=f"Reading {len(sample)} embeddings", bar_format=STEPS) as bar:
        drawn = read_points(job, color, sample)
        files = find_recordings(drawn, audio_root)
        audio = embedded_audio(files) if embed_audio else [page_link(file, page) if file else None for file in files]
        _next_step(bar, f"Placing {len(sample)} points with {METHODS[method]}")
        positions = place_points(drawn.embeddings, method, seed)
        coloring = color_points(None if color is None else drawn.rows[color], len(sample))
        title = _title(drawn, method, seed)
        _next_step(bar, f"Drawing {picture}")
        write_picture(picture, positions, coloring, title)
        _next_step(bar, f"Writing {page}")
        write_page(page, positions, coloring, title, drawn.rows, audio, find_nearest(drawn.embeddings))
    playable = sum(url is not None for url in audio)
    return MapSummary(picture, page, len(sample), job.num_recordings, playable, coloring.merged_categories)


def _next_step(bar: tqdm, description: str) -> None:
    bar.set_description_str(description, refresh=False)
    bar.n += 1
    bar.refresh()


def _import(name: str) -> ModuleType:
    return import_library(name, "umap-learn" if name == "umap" else "hf_gar[map]")


def choose_sample(recordings: int, max_points: int, seed: int) -> np.ndarray:
    """The indices (point,) of the recordings to draw, ascending: all, or a random sample of `max_points`."""
    if max_points < 2:
        raise HfGarError(f"A map has at least 2 points, not {max_points}. Choose another `max_points`.")
    if recordings <= max_points:
        return np.arange(recordings)
    return np.sort(np.random.default_rng(seed).choice(recordings, max_points, replace=False))


def read_points(job: FinishedJob, color: str | None, sample: np.ndarray) -> JobResults:
    """What a map needs of a job's rows `sample` (point,), among it the column `color`, which may be the clusters.

    Raises:
        HfGarError: Embeddings are not finite, or the job has changed since it was clustered.
    """
    drawn = job.read(sample, _columns_to_read(job, color))
    if _is_by_cluster(job, color):
        drawn = replace(drawn, rows=drawn.rows.assign(**{COLUMN: read_clusters(job)[sample]}))
    _check_embeddings(drawn)
    return drawn


def find_nearest(embeddings: np.ndarray) -> list[list[tuple[int, float]]]:
    """The points most similar to each of some embeddings (point, D), with their similarities: as search compares."""
    standardized = _import("sklearn.preprocessing").StandardScaler().fit_transform(embeddings)
    count = min(NEAREST, len(embeddings) - 1)
    neighbors = _import("sklearn.neighbors").NearestNeighbors(n_neighbors=count, metric="cosine").fit(standardized)
    distances, points = neighbors.kneighbors()
    return [list(zip(*row, strict=True)) for row in zip(points.tolist(), (1 - distances).tolist(), strict=True)]


def place_points(embeddings: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Place embeddings (point, D) on a plane: (point, 2) float32, in units that mean nothing by themselves.

    Every dimension is standardised, so that none counts for more because of its scale; then principal components reduce
    them to 50.

    Raises:
        HfGarError: All embeddings are equal, there are too few for UMAP, or the library of the method is missing.
    """
    decomposition = _import("sklearn.decomposition")
    preprocessing = _import("sklearn.preprocessing")
    if (embeddings == embeddings[0]).all():
        raise HfGarError(
            f"All {len(embeddings)} embeddings are equal: a map needs different ones. Check the recordings."
        )
    # Sums of several threads round differently from run to run, and both methods magnify it.
    with _import("threadpoolctl").threadpool_limits(limits=1):
        standardized = preprocessing.StandardScaler().fit_transform(embeddings)
        pca = decomposition.PCA(min(COMPONENTS, *standardized.shape), random_state=seed)
        components = pca.fit_transform(standardized).astype(np.float32)
        # Points on one line would stay there: a little noise lets them leave it.
        start = 1e-3 * np.random.default_rng(seed).standard_normal((len(components), 2), np.float32)
        start[:, : components.shape[1]] += components[:, :2] / components[:, 0].std()
        placer = _tsne(start, seed) if method == "tsne" else _umap(start, seed)
        return placer.fit_transform(components)


def _tsne(start: np.ndarray, seed: int) -> Any:
    """scikit-learn's t-SNE, from the plane of the principal components, (point, 2) with a deviation of 1."""
    points = len(start)
    # A third of the other points: few points have no thirty neighbours. Below 1 it has no meaning.
    perplexity = max(1.0, min(PERPLEXITY, (points - 1) / 3))
    return _import("sklearn.manifold").TSNE(init=1e-4 * start, perplexity=perplexity, random_state=seed)


def _umap(start: np.ndarray, seed: int) -> Any:
    """umap-learn's UMAP, from the plane of the principal components, (point, 2) with a deviation of 1."""
    if len(start) < MIN_UMAP_POINTS:
        raise HfGarError(
            f"UMAP needs at least {MIN_UMAP_POINTS} recordings, not {len(start)}. Choose another `method`."
        )
    neighbors = min(NEIGHBORS, len(start) - 1)
    return _import("umap").UMAP(init=10 * start, n_neighbors=neighbors, random_state=seed, n_jobs=1)


def _check_method(method: str) -> None:
    """Raise a HfGarError, before the minutes of work, where there is no such method or a library is missing."""
    if method not in METHODS:
        raise HfGarError(f"{method!r} is not a method of drawing a map: choose one of {', '.join(METHODS)}.")
    for library in (*LIBRARIES, *(["umap"] if method == "umap" else [])):
        _import(library)


def check_job(job: FinishedJob, color: str | None) -> None:
    """Raise a HfGarError where a job cannot be drawn."""
    if color is not None and color not in job.columns and not _is_by_cluster(job, color):
        raise HfGarError(
            f"{job.folder} has no column {color!r}, only {', '.join(map(repr, job.columns))}. Choose one of them "
            "(`color`)."
        )
    if job.num_recordings < 2:
        raise HfGarError(f"{job.folder} holds {job.num_recordings} embedding(s): a map needs at least 2.")


def _is_by_cluster(job: FinishedJob, color: str | None) -> bool:
    """Whether the colours are the clusters that `hf-gar cluster` found, which are not a column of the job itself."""
    return color == COLUMN and color not in job.columns and (job.folder / FILE).exists()


def _columns_to_read(job: FinishedJob, color: str | None) -> list[str]:
    """The columns that the map needs beside the embeddings."""
    name_column, details = described_columns(job.columns)
    needed = {name_column, *details, path_column(job.description, job.columns), color}
    return [column for column in job.columns if column in needed]


def _check_embeddings(drawn: JobResults) -> None:
    """Raise a HfGarError that names the recordings whose embeddings are not finite."""
    bad = np.flatnonzero(~np.isfinite(drawn.embeddings).all(axis=1))
    if len(bad):
        rows = drawn.rows
        named = rows["file_name"] if "file_name" in rows.columns else rows.index.to_series()
        examples = ", ".join(map(str, named.iloc[bad[:3]])) + (", ..." if len(bad) > 3 else "")
        raise HfGarError(
            f"{len(bad)} of the {len(rows)} embeddings to draw from {drawn.folder} are not finite numbers: {examples}. "
            "Listen to these recordings, and embed again, in float32 (`dtype`) if it was another."
        )


def _output_files(output: Path) -> tuple[Path, Path]:
    """The picture and the page: `output` may be named with the suffix of either."""
    stem = output.with_suffix("") if output.suffix.lower() in SUFFIXES else output
    picture, page = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES)
    return picture, page


def _title(drawn: JobResults, method: str, seed: int) -> str:
    """What the map shows, in one or two lines."""
    model = str(drawn.description.get("model"))
    model = Path(model).name if Path(model).is_absolute() else model
    total = drawn.num_recordings
    lines = [f"{model}, {_layers(drawn.description.get('fusion_layers'))}: {total} recordings, {METHODS[method]}"]
    if len(drawn.rows) < total:
        lines.append(f"a random sample of {len(drawn.rows)} of them (seed {seed})")
    return "\n".join(lines)


def _layers(layers: Sequence[int] | None) -> str:
    if not layers:
        return "unfused"
    return f"layer{'s' if len(layers) > 1 else ''} {' + '.join(map(str, layers))}"
