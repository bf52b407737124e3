"""Indexing, search and duplicates on a synthetic job."""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hf_gar.embedding.jobs.job import RECORDINGS_IN_SHARD
from hf_gar.embedding.jobs.job_folder import JOB_FILE, METADATA_KEY, shard_path
from hf_gar.embedding.jobs.results import open_job
from hf_gar.embedding.jobs.shards import ROWS_AT_ONCE, open_writer
from hf_gar.search.index.embedding_index import EmbeddingIndex

LATENT = 128  # dimensions that the clusters live in
RECORDINGS_IN_CLUSTER = 500
COPIES = 0.01  # the share of rows that are copies
COPY_NOISE = 0.1  # of a copy, relative to an embedding's own spread: a similarity of about 0.99
QUERIES = 1000


def write_job(folder: Path, rows: int, dimension: int) -> None:
    """A job of clustered embeddings of other means and deviations in each dimension."""
    folder.mkdir(parents=True)
    shards = -(-rows // RECORDINGS_IN_SHARD)
    generator = np.random.default_rng(0)
    clusters = max(10, rows // RECORDINGS_IN_CLUSTER)
    centres = generator.standard_normal((clusters, LATENT), np.float32)
    directions = generator.standard_normal((LATENT, dimension), np.float32) / LATENT**0.5
    mean, scale = 3 * generator.standard_normal(dimension), np.exp(generator.standard_normal(dimension))
    copied = np.full(rows, -1)  # the row that a row is a copy of, in the same shard
    for shard in range(shards):
        first = shard * RECORDINGS_IN_SHARD
        size = min(RECORDINGS_IN_SHARD, rows - first)
        cluster = generator.integers(clusters, size=size)
        latent = centres[cluster] + 0.7 * generator.standard_normal((size, LATENT), np.float32)
        embeddings = latent @ directions + 0.3 * generator.standard_normal((size, dimension), np.float32)
        chosen = generator.choice(size, 2 * int(size * COPIES), replace=False)
        copies, originals = np.split(chosen, 2)
        noise = COPY_NOISE * embeddings.std() * generator.standard_normal((len(copies), dimension), np.float32)
        embeddings[copies] = embeddings[originals] + noise
        copied[first + copies] = first + originals
        _write_shard(shard_path(folder, shard, shards), first, cluster, (embeddings * scale + mean).astype(np.float32))
    np.save(folder / "copied.npy", copied)
    description = {"model": "synthetic", "fusion_layers": None, "weights_sha256": "0" * 64, "source": None}
    (folder / JOB_FILE).write_text(json.dumps({**description, "num_shards": shards}))


def _write_shard(path: Path, first: int, cluster: np.ndarray, embeddings: np.ndarray) -> None:
    size, dimension = embeddings.shape
    table = pa.table(
        {
            "file_name": [f"{first + row}.wav" for row in range(size)],
            "label": pc.cast(pa.array(cluster), pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(embeddings.ravel(), dimension),
            "duration_s": np.full(size, 5.0),
        }
    )
    with open_writer(path, table.schema) as writer:
        for start in range(0, size, ROWS_AT_ONCE):
            writer.write_table(table.slice(start, ROWS_AT_ONCE))
        writer.add_key_value_metadata({METADATA_KEY.decode(): json.dumps({"failures": []})})


def measure(name: str, *arguments: object) -> None:
    """Run `hf-gar` in a process of its own, and print its time and peak memory, with and without pages of files."""
    began = time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", "hf_gar", *map(str, arguments)], stderr=subprocess.DEVNULL)
    resident = own = 0
    while process.poll() is None:
        try:
            memory = process.memory_info()
            resident, own = max(resident, memory.rss), max(own, memory.rss - memory.shared)
        except psutil.Error:
            break
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    print(
        f"{name}: exit code {process.wait()}, {seconds:.0f} s, peak memory {resident / 2**30:.2f} GiB, of which "
        f"{own / 2**30:.2f} GiB are not pages of files",
        flush=True,
    )


def exact_neighbors(job: Path, rows: np.ndarray, k: int) -> np.ndarray:
    """The k nearest rows (query, k) of some rows, in float64 statistics and float32 products, the rows left out."""
    total = squares = 0.0
    shards = sorted(job.glob("part-*.parquet"))
    for path in shards:
        block = _embeddings(path).astype(np.float64)
        total, squares = total + block.sum(axis=0), squares + np.square(block).sum(axis=0)
    count = sum(pq.read_metadata(path).num_rows for path in shards)
    mean = total / count
    deviation = np.sqrt(squares / count - mean**2)

    def unit(embeddings):
        standardized = (embeddings - mean) / deviation
        return (standardized / np.linalg.norm(standardized, axis=1, keepdims=True)).astype(np.float32)

    queries = unit(open_job(job).read(rows, []).embeddings)
    best, best_rows = np.full((len(rows), 0), 0, np.float32), np.full((len(rows), 0), 0)
    first = 0
    for path in shards:
        vectors = unit(_embeddings(path))
        numbers = np.arange(first, first + len(vectors))
        similarities = queries @ vectors.T
        similarities[rows[:, None] == numbers] = -2
        best = np.concatenate([best, similarities], axis=1)
        best_rows = np.concatenate([best_rows, np.broadcast_to(numbers, similarities.shape)], axis=1)
        chosen = np.argpartition(-best, k, axis=1)[:, :k]
        best, best_rows = np.take_along_axis(best, chosen, axis=1), np.take_along_axis(best_rows, chosen, axis=1)
        first += len(vectors)
    return best_rows


def _embeddings(path: Path) -> np.ndarray:
    column = pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, column.type.list_size)


def measure_search(job: Path) -> None:
    """Print queries a second, alone and in batches, and the recall of the ten nearest."""
    index = EmbeddingIndex.open(job)
    rows = np.sort(np.random.default_rng(1).choice(len(index), min(QUERIES, len(index)), replace=False))
    expected = exact_neighbors(job, rows, 10)
    queries = index.vectors.take(rows)
    index.nearest(queries[:1], 11)  # loads the index
    began = time.perf_counter()
    _, found = index.nearest(queries, 11)
    batch_s = time.perf_counter() - began
    began = time.perf_counter()
    for query in queries[:200]:
        index.nearest(query[None], 11)
    single_s = time.perf_counter() - began
    hits = [len(set(mine) & set(exact)) for mine, exact in zip(found, expected, strict=True)]
    print(
        f"search: {len(rows) / batch_s:.0f} queries/s in a batch, {min(200, len(rows)) / single_s:.0f} one by one; "
        f"recall at 10 {np.mean(hits) / 10:.4f}",
        flush=True,
    )


def measure_duplicates(job: Path) -> None:
    """Run `hf-gar duplicates`, and print which of the planted copies it found, and what else."""
    measure("duplicates", "duplicates", job)
    copied = np.load(job / "copied.npy")
    copies = np.flatnonzero(copied >= 0)
    planted = {(min(row, copied[row]), max(row, copied[row])) for row in copies}
    table = pq.read_table(job / "duplicates-pairs.parquet")
    found = set(zip(table["row"].to_pylist(), table["other_row"].to_pylist(), strict=True))
    hits = len(planted & found)
    print(
        f"duplicates: {len(planted)} planted pairs, {len(found)} found; precision {hits / max(1, len(found)):.4f}, "
        f"recall {hits / len(planted):.4f}",
        flush=True,
    )


def benchmark_search(options: argparse.Namespace) -> None:
    """Indexing, search and duplicates on a synthetic job."""
    if not options.folder.exists():
        began = time.perf_counter()
        write_job(options.folder, options.rows, options.dimension)
        print(f"{options.rows} rows of {options.dimension} written in {time.perf_counter() - began:.0f} s", flush=True)
    measure("index", "index", options.folder)
    measure_search(options.folder)
    measure_duplicates(options.folder)
    size = sum(path.stat().st_size for path in (options.folder / "index").iterdir())
    print(f"the index is {size / 2**30:.2f} GiB")
    if not options.keep:
        shutil.rmtree(options.folder)
