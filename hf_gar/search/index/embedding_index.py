"""`EmbeddingIndex`: the nearest recordings of a job."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from hf_gar.embedding.jobs.results import FinishedJob, open_job
from hf_gar.errors import HfGarError
from hf_gar.search.index.approximate import find_candidates, load_lists
from hf_gar.search.index.building import EXACT_ROWS, REDUCED_DIMENSION, build_index
from hf_gar.search.index.description import (
    DESCRIPTION_FILE,
    IndexDescription,
    identify_shards,
    read_index_description,
    require_same,
)
from hf_gar.search.index.filters import filter_rows
from hf_gar.search.index.reduction import Reduction, load_reduction
from hf_gar.search.index.segments import SegmentQuery, find_segments, read_frames, require_frames
from hf_gar.search.index.vectors import ROWS_AT_ONCE, Vectors
from hf_gar.search.libraries import import_library
from hf_gar.search.queries import QueryEmbedder, find_row, require_queries

INDEX_FOLDER = "index"
# Candidates that are compared exactly: so many, and so many for each of the k that are wanted.
CANDIDATES = 64
CANDIDATES_FACTOR = 16
PROBES = 64  # inverted lists that are looked through
CANDIDATES_AT_ONCE = 16_384  # that are in memory


class EmbeddingIndex:
    """A search index of a finished job: cosine similarities of standardised embeddings.

    Small jobs are searched exactly. In large ones, FAISS's inverted lists of the principal components choose
    candidates, which are compared exactly on all dimensions.

    ```python
    index = hf_gar.EmbeddingIndex.build("embeddings")
    index.search(["query.wav"], k=10, where="label = 'dog'")  # a datasets.Dataset
    ```

    Args:
        job: The job.
        folder: Of the index.
        description: Its `index.json`.
    """

    def __init__(self, job: FinishedJob, folder: Path, description: IndexDescription):
        self.job, self.folder, self.description = job, folder, description
        paths = [folder / description.vectors_file(shard) for shard in description.shards]
        self.vectors = Vectors(paths, [shard.rows for shard in description.shards], description.dimension)
        self._embedders: dict[tuple, QueryEmbedder] = {}

    @classmethod
    def build(
        cls,
        job: str | Path,
        *,
        output: str | Path | None = None,
        layers: Sequence[int] | None = None,
        dimensions: int = REDUCED_DIMENSION,
    ) -> "EmbeddingIndex":
        """Index a finished job; the same call again adds what the job has grown by.

        Args:
            job: The job's folder.
            output: The index's folder, by default `index` in the job's.
            layers: Search this part of a fused embedding alone; the job's model has to be at hand.
            dimensions: How many principal components choose the candidates.

        Raises:
            HfGarError: The job is not finished, has fewer than 2 rows or unusable ones; `output` holds the index of
                another job or of other layers; or a library is missing.
        """
        for library in ("faiss", "sklearn"):
            import_library(library)
        if dimensions < 1:
            raise ValueError(f"dimensions has to be 1 or more, not {dimensions}.")
        if layers is not None and not layers:
            raise ValueError("layers names no layer. Leave it out to search all.")
        opened = open_job(job)
        folder = Path(job) / INDEX_FOLDER if output is None else Path(output)
        return cls(opened, folder, build_index(opened, folder, layers, dimensions))

    @classmethod
    def open(cls, job: str | Path, index: str | Path | None = None) -> "EmbeddingIndex":
        """Open the index of a job, by default that in the job's folder.

        Raises:
            HfGarError: There is none, it is another job's, or the job has changed since.
        """
        import_library("faiss")
        opened = open_job(job)
        folder = Path(job) / INDEX_FOLDER if index is None else Path(index)
        description = read_index_description(folder)
        if description is None:
            raise HfGarError(f"{folder} is not an index. Run `hf-gar index` first.")
        require_same(folder, description, opened)
        if description.shards != identify_shards(opened):
            raise HfGarError(
                f"{opened.folder} has changed since it was indexed in {folder}. Run the same `hf-gar index` again."
            )
        return cls(opened, folder, description)

    @classmethod
    def open_or_build(cls, job: str | Path, index: str | Path | None = None) -> "EmbeddingIndex":
        """As `open`; where there is no index in the usual place, it is built."""
        if index is None and not (Path(job) / INDEX_FOLDER / DESCRIPTION_FILE).exists():
            return cls.build(job)
        return cls.open(job, index)

    def __len__(self) -> int:
        return self.description.rows

    @cached_property
    def reduction(self) -> Reduction:
        """The standardisation and PCA."""
        return load_reduction(self.folder / self.description.reduction)

    def search(
        self,
        queries: Sequence[Any],
        k: int = 10,
        *,
        where: str | None = None,
        model: str | Path | None = None,
        device: str | None = None,
    ) -> datasets.Dataset:
        """The recordings that sound most like each query, which is embedded as the job was.

        Args:
            queries: Recordings: paths, bytes, or {"array": ..., "sampling_rate": ...}.
            k: How many for each.
            where: Search only the rows that this SQL expression of the job's columns is true of.
            model: Where the job's model is now.
            device: As in PyTorch.

        Returns:
            Rows with `query`, the query's number; `row`, the recording's number in the job; `similarity`, from -1 to 1;
            and the source's columns. The queries in order, the most similar first.

        Raises:
            AudioError: A query cannot be read.
            HfGarError: A query is silent, k is larger than the job, the filter is wrong, or the model has changed.
        """
        require_queries(queries)
        self._check_k(k, len(self))  # before the model is loaded
        embedded = self.embedder(model, device).embed(queries)
        return self.search_embeddings(np.stack([embedding.clip for embedding in embedded]), k, where=where)

    def search_rows(self, rows: Sequence[int], k: int = 10, *, where: str | None = None) -> datasets.Dataset:
        """As `search`, with recordings of the job as queries, by their numbers; none finds itself."""
        require_queries(rows)
        numbers = np.asarray(rows, np.int64)
        self._check_rows(numbers)
        self._check_k(k, len(self) - 1)
        return self._as_dataset(*self.nearest_others(numbers, k, allowed=self._allowed(where)))

    def search_embeddings(self, embeddings: np.ndarray, k: int = 10, *, where: str | None = None) -> datasets.Dataset:
        """As `search`, of embeddings (query, D) that the job's model gave, all of their layers."""
        self._check_k(k, len(self))
        queries = self.standardize(embeddings)
        return self._as_dataset(*self.nearest(queries, k, allowed=self._allowed(where)))

    def search_segments(
        self,
        queries: Sequence[Any],
        k: int = 10,
        *,
        where: str | None = None,
        model: str | Path | None = None,
        device: str | None = None,
    ) -> datasets.Dataset:
        """Where in the job's recordings something like each query occurs; the job has to have frames.

        All frames of the job are read, which takes time in a large one.

        Args:
            queries: Recordings as in `search`, or numbers of the job's rows, which are not looked for in themselves.
            k: How many pieces for each.
            where: As in `search`.
            model: As in `search`.
            device: As in `search`.

        Returns:
            Rows as in `search`, also with `start_s` and `end_s`, in seconds. Pieces of one recording do not overlap.

        Raises:
            AudioError: A query cannot be read.
            HfGarError: The job has no frames; or as `search`.
        """
        require_frames(self.job)
        require_queries(queries)
        if k < 1:
            raise HfGarError(f"`k` is {k}. Choose 1 or more.")
        wanted = []
        for query in queries:
            if isinstance(query, (int, np.integer)):
                self._check_rows(np.array([query]))
                wanted.append(SegmentQuery(read_frames(self.job, int(query)), int(query)))
            else:
                (embedding,) = self.embedder(model, device, with_frames=True).embed([query])
                assert embedding.frames is not None
                wanted.append(SegmentQuery(embedding.frames))
        found = find_segments(self.job, wanted, k, self._allowed(where), self.description.columns)
        segments = [segment for of_query in found for segment in of_query]
        rows = np.array([segment.row for segment in segments], np.int64)
        added = {
            "query": np.repeat(np.arange(len(found)), [len(of_query) for of_query in found]),
            "row": rows,
            "start_s": np.array([segment.start_s for segment in segments], np.float64),
            "end_s": np.array([segment.end_s for segment in segments], np.float64),
            "similarity": np.array([segment.similarity for segment in segments], np.float64),
        }
        return with_source_columns(self.job, rows, added)

    def embedder(
        self, model: str | Path | None = None, device: str | None = None, with_frames: bool = False
    ) -> QueryEmbedder:
        """What embeds recordings as the job was; the last one is kept, so that its model is loaded once.

        Args:
            model: As in `search`.
            device: As in `search`.
            with_frames: Give their frames, too.

        Raises:
            HfGarError: The model is gone, or another one than the job's.
        """
        options = (model, device, with_frames)
        if options not in self._embedders:
            self._embedders = {options: QueryEmbedder(self.job, *options)}
        return self._embedders[options]

    def find_row(self, name: str) -> int:
        """The number of the recording that is called `name` in the column of names.

        Raises:
            HfGarError: There is none, or several.
        """
        return find_row(self.job, name)

    def standardize(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (query, D) of the job's model as `nearest` takes them.

        Raises:
            ValueError: They have another shape.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.job.dimension:
            raise ValueError(f"embeddings has the shape {embeddings.shape}, expected (query, {self.job.dimension}).")
        return self.reduction.standardize(embeddings[:, self.description.columns])

    def nearest(
        self,
        queries: np.ndarray,
        k: int,
        *,
        allowed: np.ndarray | None = None,
        probes: int = PROBES,
        candidates: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows.

        Args:
            queries: Standardised, of length 1: (query, D).
            k: How many.
            allowed: (row,) bool, the rows that may be found; by default all.
            probes: In a large job, how many inverted lists to look through.
            candidates: In a large job, how many candidates to compare exactly.

        Returns:
            Their similarities, (query, k), the highest first, and their numbers, (query, k); NaN and -1 where there are
            fewer. Equals come in the order of the job.
        """
        rows = None if allowed is None else np.flatnonzero(allowed)
        if self.description.lists is None or (rows is not None and len(rows) <= EXACT_ROWS):
            return self._compare_all(queries, k, rows)
        count = candidates or CANDIDATES + CANDIDATES_FACTOR * k
        if rows is not None:  # so that as many that are allowed are looked through as without a filter
            probes = probes * len(self) // len(rows)
        candidate_rows = find_candidates(self._lists, self.reduction.reduce(queries), count, probes, allowed)
        similarities = np.empty((len(queries), k), np.float32)
        numbers = np.empty((len(queries), k), np.int64)
        at_once = max(1, CANDIDATES_AT_ONCE // count)
        for first in range(0, len(queries), at_once):
            part = slice(first, first + at_once)
            similarities[part], numbers[part] = self._compare(queries[part], candidate_rows[part], k)
        incomplete = (numbers < 0).any(axis=1)
        if incomplete.any():  # what is allowed is in other lists
            similarities[incomplete], numbers[incomplete] = self._compare_all(queries[incomplete], k, rows)
        return similarities, numbers

    def nearest_others(self, rows: np.ndarray, k: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest`, with its options, of some rows (query,) themselves, none of which finds itself."""
        similarities, found = self.nearest(self.vectors.take(rows), k + 1, **options)
        others = found != rows[:, None]
        others[others.all(axis=1), -1] = False  # of more than k rows as near as itself, one too many
        return similarities[others].reshape(len(rows), k), found[others].reshape(len(rows), k)

    @cached_property
    def _lists(self) -> Any:
        assert self.description.lists is not None
        return load_lists(self.folder / self.description.lists, len(self))

    def _compare_all(self, queries: np.ndarray, k: int, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Compare queries with all rows, or with some (row,)."""
        faiss = import_library("faiss")
        blocks: Iterable[tuple[np.ndarray, np.ndarray]]
        if rows is None:
            blocks = ((np.arange(first, first + len(block)), block) for first, block in self.vectors.blocks())
        else:
            parts = np.array_split(rows, -(-len(rows) // ROWS_AT_ONCE)) if len(rows) else []
            blocks = ((part, self.vectors.take(part)) for part in parts)
        best = np.full((len(queries), k), -np.inf, np.float32)
        best_rows = np.full((len(queries), k), -1)
        queries = np.ascontiguousarray(queries, np.float32)
        for numbers, block in blocks:
            similarities, places = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
            best = np.concatenate([best, similarities], axis=1)
            best_rows = np.concatenate([best_rows, numbers[places]], axis=1)
            best, best_rows = _best(best, best_rows, k)
        return np.where(best_rows < 0, np.nan, best), best_rows

    def _compare(self, queries: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Compare queries with candidates (query, candidate), -1 for none."""
        vectors = self.vectors.take(np.maximum(candidates, 0).ravel()).reshape(*candidates.shape, -1)
        similarities = np.einsum("qd,qcd->qc", queries, vectors, optimize=True)
        best, best_rows = _best(np.where(candidates < 0, -np.inf, similarities), candidates, k)
        return np.where(best_rows < 0, np.nan, best), best_rows

    def _allowed(self, where: str | None) -> np.ndarray | None:
        return None if where is None else filter_rows(self.job, where)

    def _check_rows(self, rows: np.ndarray) -> None:
        outside = rows[(rows < 0) | (rows >= len(self))]
        if len(outside):
            raise HfGarError(f"There is no row {outside[0]}: {self.job.folder} holds the rows 0 to {len(self) - 1}.")

    def _check_k(self, k: int, most: int) -> None:
        if not 1 <= k <= most:
            raise HfGarError(f"`k` is {k}, but there are {most} recordings to find. Choose 1 to {most}.")

    def _as_dataset(self, similarities: np.ndarray, rows: np.ndarray) -> datasets.Dataset:
        """What was found for each query as rows with the source's columns."""
        queries, ranks = np.nonzero(rows >= 0)
        found = rows[queries, ranks]
        rounded = np.clip(similarities[queries, ranks].astype(np.float64), -1, 1)
        added = {"query": queries, "row": found, "similarity": rounded}
        return with_source_columns(self.job, found, added)


def with_source_columns(job: FinishedJob, rows: np.ndarray, added: dict[str, np.ndarray]) -> datasets.Dataset:
    """Rows (row,) of a job in any order, each with what is `added` (row,) first, and then the source's columns."""
    columns = [name for name in job.columns if name not in added]
    distinct, places = np.unique(rows, return_inverse=True)
    table = job.read_columns(distinct, columns).take(pa.array(places))
    stored = datasets.Features.from_arrow_schema(table.schema)
    features = {name: datasets.Value(str(values.dtype)) for name, values in added.items()}
    features |= {name: stored[name] for name in columns}
    both = pa.table([*map(pa.array, added.values()), *table.columns], names=list(features))
    return datasets.Dataset(both, info=datasets.DatasetInfo(features=datasets.Features(features)))


def _best(similarities: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest similarities (query, k) of (query, row), the highest first, and their rows; of equals the first."""
    order = np.lexsort((rows, -similarities))[:, :k]
    return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(rows, order, axis=1)
