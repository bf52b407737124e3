"""Recordings that a job has twice: copies of the same file, and near-duplicates.

How similar two different recordings may be depends on what they are: rain is nearer to rain than a bark to another. So
a distance, 1 - similarity, is compared with those around: their closeness is 1 - distance / what is usual near both,
which is 1 for the same and about 0 for recordings as far from each other as from the others around.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from datasets.utils import tqdm

from hf_gar.checkpoints.download import file_digest
from hf_gar.embedding.jobs.recording_files import find_recordings, path_column
from hf_gar.embedding.jobs.results import FinishedJob
from hf_gar.errors import HfGarError
from hf_gar.files import replace_when_whole
from hf_gar.search.index.embedding_index import EmbeddingIndex
from hf_gar.search.libraries import import_library
from hf_gar.search.queries import name_column
from hf_gar.search.threshold import Threshold, choose_threshold, draw_histogram

# Of each recording, the farther half of which says what distance is usual; larger groups of duplicates hang together by
# the nearer.
NEIGHBORS = 16
# The minimum that is taken to be usual, of all recordings: among many copies of one, all around are near.
USUAL_QUANTILE = 0.1
QUERIES_AT_ONCE = 1024
# In a large job: near-duplicates are by far the nearest, and in the same inverted list or one beside it.
PROBES, CANDIDATES = 8, 40
DURATION = "duration_s"


@dataclass(frozen=True)
class Duplicates:
    """What a job has twice.

    Args:
        pairs: `row` and `other_row`, their `similarity` and `closeness`, and `is_exact` where their files are the same
            byte for byte.
        groups: A row for each recording that has a duplicate: `group`, `row`, its name and duration, `is_exact` where
            another one's file is the same, `similarity` and `closeness` to the closest of the group, and `keep`, true
            of one in each group: the longest, and of those the first.
        threshold: From which closeness on recordings are near-duplicates.
        nearest: (row,), each recording's closeness to its nearest.
        compared_files: Of how many recordings the files were here, and compared.
    """

    pairs: pd.DataFrame
    groups: pd.DataFrame
    threshold: Threshold
    nearest: np.ndarray
    compared_files: int


def find_duplicates(
    index: EmbeddingIndex, *, threshold: float | None = None, audio_root: str | Path | None = None
) -> Duplicates:
    """Find what a job has twice. Time grows nearly, memory exactly in proportion to its size.

    Args:
        index: Of the job.
        threshold: From which closeness on recordings are near-duplicates, at most 1; by default it is chosen from the
            data.
        audio_root: The folder of the recordings, where it is not the source's.
    """
    if threshold is not None and not threshold <= 1:  # nor NaN
        raise HfGarError(f"`threshold` is {threshold}, but recordings have a closeness of 1 at most.")
    digests = _file_digests(index.job, audio_root)
    similarities, rows = _neighbors(index)
    closeness = _closeness(similarities, rows)
    copies = _exact_pairs(digests)
    nearest = closeness[:, 0]
    if threshold is None:  # copies of the same file say nothing about near-duplicates
        distinct = np.setdiff1d(np.arange(len(nearest)), copies)
        chosen = choose_threshold(nearest[distinct if len(distinct) else slice(None)])
    else:
        chosen = Threshold(threshold, True)
    near = np.nonzero((closeness >= chosen.closeness) & (rows >= 0))
    found = {
        "row": near[0],
        "other_row": rows[near],
        "similarity": similarities[near],
        "closeness": closeness[near],
    }
    exact = {"row": copies[:, 0], "other_row": copies[:, 1], "similarity": 1.0, "closeness": 1.0}
    pairs = pd.concat([pd.DataFrame(exact), pd.DataFrame(found)], ignore_index=True)
    pairs[["row", "other_row"]] = np.sort(pairs[["row", "other_row"]].to_numpy(np.int64), axis=1)
    pairs = pairs.drop_duplicates(["row", "other_row"]).sort_values(["row", "other_row"], ignore_index=True)
    is_copy = digests[pairs["row"]] == digests[pairs["other_row"]]
    pairs["is_exact"] = is_copy & (digests[pairs["row"]] >= 0)
    return Duplicates(pairs, _groups(index.job, pairs), chosen, nearest, int((digests >= 0).sum()))


def _closeness(similarities: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How close each recording is to its nearest, (row, neighbor), by their similarities and rows."""
    distances = np.maximum(1 - similarities, 0)
    usual = np.median(distances[:, distances.shape[1] // 2 :], axis=1)
    minimum = max(float(np.quantile(usual, USUAL_QUANTILE)), float(np.finfo(np.float32).eps))
    usual = np.maximum(usual, minimum)
    return 1 - distances / np.sqrt(usual[:, None] * usual[rows])


def _neighbors(index: EmbeddingIndex) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other recordings of each: their similarities and rows, (row, neighbor)."""
    count = min(NEIGHBORS, len(index) - 1)
    similarities = np.empty((len(index), count), np.float32)
    rows = np.empty((len(index), count), np.int64)
    with tqdm(total=len(index), desc="Finding near-duplicates", unit=" rows") as bar:
        for first in range(0, len(index), QUERIES_AT_ONCE):
            numbers = np.arange(first, min(first + QUERIES_AT_ONCE, len(index)))
            found, rows[numbers] = index.nearest_others(numbers, count, probes=PROBES, candidates=CANDIDATES)
            similarities[numbers] = np.nan_to_num(found, nan=-1)
            bar.update(len(numbers))
    return similarities, rows


def _file_digests(job: FinishedJob, audio_root: str | Path | None) -> np.ndarray:
    """A number (row,) for the content of each recording's file: the same where they are the same, -1 without a file."""
    column = path_column(job.description, job.columns)
    numbers = np.full(job.num_recordings, -1)
    if column is None:
        return numbers
    files = find_recordings(job.read(columns=[column], with_embeddings=False), audio_root)
    sizes = [path.stat().st_size if path else None for path in files]
    how_many = Counter(sizes)
    seen: dict[tuple[int, str], int] = {}
    for row, (path, size) in enumerate(zip(tqdm(files, desc="Comparing the files", unit=" files"), sizes, strict=True)):
        if path and size is not None:
            digest = file_digest(path, "sha256") if how_many[size] > 1 else ""  # the only one of its size
            numbers[row] = seen.setdefault((size, digest), len(seen))
    return numbers


def _exact_pairs(digests: np.ndarray) -> np.ndarray:
    """Each recording with the one before it that has the same file, (pair, 2)."""
    order = np.argsort(digests, kind="stable")
    same = (digests[order[1:]] == digests[order[:-1]]) & (digests[order[1:]] >= 0)
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _groups(job: FinishedJob, pairs: pd.DataFrame) -> pd.DataFrame:
    """The recordings that are connected by pairs."""
    sparse, csgraph = import_library("scipy.sparse"), import_library("scipy.sparse.csgraph")
    both = pairs[["row", "other_row"]].to_numpy()
    rows, places = np.unique(both, return_inverse=True)
    places = places.reshape(both.shape)
    graph = sparse.coo_matrix((np.ones(len(both), bool), tuple(places.T)), shape=(len(rows), len(rows)))
    components = csgraph.connected_components(graph, directed=False)[1]
    twice = np.concatenate([places[:, 0], places[:, 1]])
    measured = ["similarity", "closeness", "is_exact"]
    highest = pd.concat([pairs[measured]] * 2).groupby(twice).max().reset_index(drop=True)
    known = [name for name in (name_column(job), DURATION) if name in job.columns]
    about = job.read(rows, known, with_embeddings=False).rows.reset_index(drop=True)
    groups = pd.concat(
        [
            pd.DataFrame({"group": pd.factorize(components)[0], "row": rows}),
            about,
            highest,
        ],
        axis=1,
    ).sort_values(["group", "row"], ignore_index=True)
    best_first = groups.sort_values(DURATION, ascending=False, kind="stable") if DURATION in known else groups
    groups["keep"] = groups.index.isin(best_first.drop_duplicates("group").index)
    return groups


def kept_names(job: FinishedJob, groups: pd.DataFrame) -> list[str]:
    """The names of all recordings but those that another one is kept instead of, in the order of the job.

    Raises:
        HfGarError: The job has no names.
    """
    column = name_column(job)
    if column is None:
        raise HfGarError(f"{job.folder} has no column of names to write a list of. Leave `keep_list` out.")
    names = job.read(columns=[column], with_embeddings=False).rows[column]
    return names.drop(groups.loc[~groups["keep"], "row"]).astype(str).tolist()


def write_duplicates(found: Duplicates, output: Path) -> tuple[Path, Path, Path]:
    """Write the groups, the pairs and the histogram beside each other, replacing older ones.

    Args:
        found: What was found.
        output: The files' path; `.parquet`, `-pairs.parquet` and `.png` take the place of a suffix that is one of them.

    Raises:
        HfGarError: They cannot be written.
    """
    stem = output.name.removesuffix(".parquet").removesuffix(".png")
    groups, pairs, picture = (output.with_name(stem + end) for end in (".parquet", "-pairs.parquet", ".png"))
    for table, path in ((found.groups, groups), (found.pairs, pairs)):
        with replace_when_whole(path) as temporary:
            table.to_parquet(temporary, index=False)
    draw_histogram(picture, found.nearest, found.threshold.closeness)
    return groups, pairs, picture
