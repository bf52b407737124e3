"""Where in long recordings something like a query occurs: jobs that have frames."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from hf_gar.embedding.jobs.results import FinishedJob
from hf_gar.errors import HfGarError
from hf_gar.search.libraries import import_library

FRAMES, TIMES, DURATION = "frame_embeddings", "frame_times", "duration_s"
# The recordings whose frames the standardisation is measured on.
SAMPLE = 256
SEED = 0
ALL = slice(None)
# Rows whose frames are read together: of long recordings, these are large.
ROWS_AT_ONCE = 16
PIECES_AT_ONCE = 1024  # of a long recording, whose means are in memory


class Segment(NamedTuple):
    """A piece of a job's recording, by the number of its row, and how similar it is to the query, from -1 to 1."""

    row: int
    start_s: float
    end_s: float
    similarity: float


class SegmentQuery(NamedTuple):
    """The frames (frame, D) of what is looked for, and its row, where it is a recording of the job itself."""

    frames: np.ndarray
    row: int | None = None


def require_frames(job: FinishedJob) -> None:
    """Raise a HfGarError where a job has no frames."""
    if not job.description.get("frames"):
        raise HfGarError(
            f"{job.folder} has no frames, without which nothing is found inside recordings. Embed them again with "
            "`hf-gar embed --frames`, in another folder."
        )


def read_frames(job: FinishedJob, row: int) -> np.ndarray:
    """The frames (frame, D) of one recording."""
    return _frames(job.read_columns(np.array([row]), [FRAMES]), 0)


def find_segments(
    job: FinishedJob,
    queries: Sequence[SegmentQuery],
    k: int,
    allowed: np.ndarray | None = None,
    columns: np.ndarray | slice = ALL,
) -> list[list[Segment]]:
    """The pieces of a job's recordings that are most similar to each query, and as long.

    All frames of the job are read once. A piece is compared by the mean of its frames, standardised as the job's frames
    are; pieces of one recording do not overlap. A recording of the job is not looked for in itself.

    Args:
        job: With frames.
        queries: What to look for.
        k: How many pieces for each, the most similar first.
        allowed: (row,) bool, the recordings to look into; by default all.
        columns: The dimensions to compare; by default all.
    """
    scaler = import_library("sklearn.preprocessing").StandardScaler()
    size = min(SAMPLE, job.num_recordings)
    sample = np.sort(np.random.default_rng(SEED).choice(job.num_recordings, size, replace=False))
    for _, table in _tables(job, sample):
        for index in range(len(table)):
            scaler.partial_fit(_frames(table, index)[:, columns])

    def standardize(means: np.ndarray) -> np.ndarray:
        standardized = (means - scaler.mean_) / scaler.scale_
        return standardized / np.maximum(np.linalg.norm(standardized, axis=1, keepdims=True), np.finfo(float).tiny)

    wanted = [standardize(query.frames[:, columns].mean(axis=0, keepdims=True))[0] for query in queries]
    found: list[list[Segment]] = [[] for _ in queries]
    rows = np.arange(job.num_recordings) if allowed is None else np.flatnonzero(allowed)
    for numbers, table in _tables(job, rows):
        for index, row in enumerate(numbers.tolist()):
            frames = _frames(table, index)[:, columns]
            times, end = table[TIMES][index].values.to_numpy(), table[DURATION][index].as_py()
            for number, query in enumerate(queries):
                if query.row == row:
                    continue
                length = min(len(query.frames), len(frames))
                similarities = _similarities(frames, length, standardize, wanted[number])
                pieces = [
                    Segment(row, *_time_range(times, start, length, end), float(similarities[start]))
                    for start in _peaks(similarities, length, k)
                ]
                found[number] = sorted([*found[number], *pieces], key=lambda segment: -segment.similarity)[:k]
    return found


def _tables(job: FinishedJob, rows: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Some rows of a job with their frames, a few at a time: their numbers, and the table."""
    first = 0
    for shard in job.shards:
        for table in job.blocks(shard, [FRAMES, TIMES, DURATION], ROWS_AT_ONCE):
            start, stop = np.searchsorted(rows, [first, first + len(table)])
            if start < stop:
                yield rows[start:stop], table.take(rows[start:stop] - first)
            first += len(table)


def _frames(table: pa.Table, index: int) -> np.ndarray:
    """The frames (frame, D) of a row of a table."""
    vectors = table[FRAMES][index].values
    return vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)


def _similarities(
    frames: np.ndarray, length: int, standardize: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray
) -> np.ndarray:
    """How similar the means of all `length` frames in a row are to a standardised query (D,): (start,)."""
    starts = range(0, len(frames) - length + 1, PIECES_AT_ONCE)
    blocks = (frames[start : start + PIECES_AT_ONCE + length - 1] for start in starts)
    return np.concatenate([standardize(_moving_mean(block, length)) @ wanted for block in blocks])


def _moving_mean(frames: np.ndarray, length: int) -> np.ndarray:
    """The means (start, D) of all `length` frames in a row."""
    sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, axis=0, dtype=np.float64)])
    return (sums[length:] - sums[:-length]) / length


def _peaks(similarities: np.ndarray, length: int, k: int) -> list[int]:
    """The starts of at most k pieces that do not overlap, the most similar first."""
    left = similarities.astype(np.float64).copy()
    starts: list[int] = []
    while len(starts) < k and np.isfinite(left.max()):
        start = int(left.argmax())
        starts.append(start)
        left[max(0, start - length + 1) : start + length] = -np.inf
    return starts


def _time_range(times: np.ndarray, start: int, length: int, duration_s: float) -> tuple[float, float]:
    """From where to where some frames reach, in seconds: half a hop beyond the centres of the outer ones."""
    half = (times[1] - times[0]) / 2 if len(times) > 1 else duration_s / 2
    return max(0.0, float(times[start] - half)), min(duration_s, float(times[start + length - 1] + half))
