import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize

from hf_gar import EmbeddingIndex, HfGarError
from hf_gar.embedding.jobs.job_folder import shard_path
from hf_gar.search.index.building import EXACT_ROWS
from tests.search.jobs import clusters, write_job

HALF = 1e-3  # what half precision may add to a similarity of a few dimensions


def embeddings(rows: int, dimension: int = 32, seed: int = 0) -> np.ndarray:
    """Clustered embeddings whose dimensions have other means and deviations."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((50, dimension))
    points = centres[generator.integers(50, size=rows)] + 0.5 * generator.standard_normal((rows, dimension))
    return (points * np.exp(generator.standard_normal(dimension)) + 5 * generator.standard_normal(dimension)).astype(
        np.float32
    )


def write(folder: Path, vectors: np.ndarray, **options) -> Path:
    names = [f"{row}.wav" for row in range(len(vectors))]
    columns = {"file_name": names, "label": ["even", "odd"] * (len(vectors) // 2) + ["even"] * (len(vectors) % 2)}
    return write_job(folder, columns, vectors, **options)


def exact(vectors: np.ndarray, queries: range, k: int, among: np.ndarray | None = None) -> np.ndarray:
    """The similarities (query, k) of some rows to their nearest others, by scikit-learn."""
    standardized = StandardScaler().fit_transform(vectors.astype(np.float64))
    rows = np.arange(len(vectors)) if among is None else among
    finder = NearestNeighbors(n_neighbors=k + 1, metric="cosine", algorithm="brute").fit(standardized[rows])
    distances, found = finder.kneighbors(standardized[queries])
    others = rows[found] != np.asarray(queries)[:, None]
    others[others.all(axis=1), -1] = False
    return 1 - distances[others].reshape(-1, k)


def found(result: datasets.Dataset, k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.reshape(result["similarity"][:], (-1, k)), np.reshape(result["row"][:], (-1, k))


def recall(similarities: np.ndarray, expected: np.ndarray) -> float:
    """Which share (query, k) is as similar as the k-th nearest; half precision cannot tell more apart."""
    return float((similarities >= expected[:, -1:] - HALF).mean())


@pytest.mark.parametrize("shards", [1, 3])
def test_the_nearest_of_a_small_job_are_exact(tmp_path, shards):
    vectors = embeddings(500)
    index = EmbeddingIndex.build(write(tmp_path / "job", vectors, shards=shards))
    result = index.search_rows(range(500), k=5)
    similarities, rows = found(result, 5)
    np.testing.assert_allclose(similarities, exact(vectors, range(500), 5), atol=HALF)
    standardized = normalize(StandardScaler().fit_transform(vectors.astype(np.float64)))
    own = np.einsum("qd,qkd->qk", standardized, standardized[rows])
    np.testing.assert_allclose(similarities, own, atol=HALF)  # each is that of the row it is said to be of
    assert (rows != np.arange(500)[:, None]).all()
    assert result.column_names == ["query", "row", "similarity", "file_name", "label"]
    assert result["query"][:] == np.repeat(np.arange(500), 5).tolist()
    assert result["file_name"][:] == [f"{row}.wav" for row in rows.ravel()]


def test_the_nearest_of_a_large_job_are_nearly_all_found(tmp_path):
    vectors = embeddings(EXACT_ROWS + 1, 64)
    index = EmbeddingIndex.build(write(tmp_path / "job", vectors, shards=4), dimensions=32)
    assert index.description.lists is not None
    similarities, _ = found(index.search_rows(range(300), k=10), 10)
    assert recall(similarities, exact(vectors, range(300), 10)) > 0.98
    # A filter that few rows pass is searched exactly, one that most pass is not.
    for where, among in (("label = 'odd'", slice(1, None, 2)), ("file_name != '0.wav'", slice(1, None))):
        similarities, _ = found(index.search_rows(range(100), k=10, where=where), 10)
        assert recall(similarities, exact(vectors, range(100), 10, np.arange(len(vectors))[among])) > 0.98


def test_a_filter_of_what_lies_elsewhere_still_finds_k(tmp_path):
    vectors = embeddings(50_000, 16)
    vectors[:25_000] += 100  # far from the others, whom alone the filter allows
    columns = {"side": np.arange(50_000) >= 25_000}
    index = EmbeddingIndex.build(write_job(tmp_path / "job", columns, vectors))
    assert index.description.lists is not None
    similarities, rows = found(index.search_rows(range(20), k=10, where="side"), 10)
    assert rows.min() >= 25_000
    assert recall(similarities, exact(vectors, range(20), 10, np.arange(25_000, 50_000))) > 0.98


def test_the_reduction_is_scikit_learns(tmp_path):
    vectors = embeddings(400)
    index = EmbeddingIndex.build(write(tmp_path / "job", vectors), dimensions=8)
    scaler = StandardScaler().fit(vectors)
    pca = PCA(8).fit(scaler.transform(vectors))
    np.testing.assert_allclose(index.reduction.mean, scaler.mean_, rtol=1e-5)
    np.testing.assert_allclose(index.reduction.scale, scaler.scale_, rtol=1e-5)
    # The same subspace.
    overlap = np.linalg.svd(index.reduction.components @ pca.components_.T, compute_uv=False)
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    assert index.reduction.kept_variance == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-3)


def test_rounding_is_not_magnified(tmp_path):
    """Of a dimension that varies by rounding alone, standardising would make as much as of the others."""
    vectors = embeddings(200)
    rounding = np.spacing(np.float32(3)) * np.random.default_rng(1).integers(-1, 2, (201, 32))
    job = np.concatenate([vectors, (3 + rounding[:200]).astype(np.float32)], axis=1)
    index = EmbeddingIndex.build(write(tmp_path / "job", job))
    again = np.concatenate([vectors[:1], (3 + rounding[200:]).astype(np.float32)], axis=1)  # the first, computed again
    assert index.search_embeddings(again, k=1)["similarity"][0] > 0.999


def test_a_query_by_its_embedding_finds_itself(tmp_path):
    vectors = embeddings(200)
    result = EmbeddingIndex.build(write(tmp_path / "job", vectors)).search_embeddings(vectors[[7, 150]], k=1)
    assert result["row"][:] == [7, 150]
    np.testing.assert_allclose(result["similarity"][:], 1, atol=HALF)


def test_columns_keep_their_features(tmp_path):
    folder = tmp_path / "job"
    write(folder, embeddings(20))
    path = shard_path(folder, 0, 1)
    table = pq.read_table(path)
    features = datasets.Features.from_arrow_schema(table.schema)
    features["label"] = datasets.ClassLabel(names=["even", "odd"])
    numbers = np.arange(20) % 2
    table = table.set_column(1, "label", [numbers])
    metadata = {**(table.schema.metadata or {}), **features.arrow_schema.metadata}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    result = EmbeddingIndex.build(folder).search_rows([3], k=4)
    assert result.features["label"].names == ["even", "odd"]
    assert result["label"][:] == [row % 2 for row in result["row"]]


GROWTH = {"more": (3, 5), "far more": (1, 5), "across the size of an exact search": (35, 50)}


@pytest.mark.parametrize("name", GROWTH)
def test_a_job_that_has_grown(name, tmp_path):
    before, after = GROWTH[name]
    size = 600
    vectors = embeddings(size * after, 16)
    folder = tmp_path / "job"
    write(folder, vectors[: size * before], shards=before)
    index = EmbeddingIndex.build(folder)
    reduction, there = index.description.reduction, {path.name: path.stat().st_ino for path in index.folder.iterdir()}
    for path in folder.glob("part-*"):
        path.unlink()
    write(folder, vectors, shards=after)
    with pytest.raises(HfGarError, match="has changed since it was indexed"):
        EmbeddingIndex.open(folder)
    index = EmbeddingIndex.build(folder)
    assert len(EmbeddingIndex.open(folder)) == len(index) == size * after
    kept = [path for path in index.folder.glob("vectors-*") if there.get(path.name) == path.stat().st_ino]
    assert (index.description.reduction == reduction) == (after <= 2 * before)
    assert len(kept) == (before if after <= 2 * before else 0)
    assert {path.name for path in index.folder.iterdir()} == index.description.files() | {".lock"}
    last = range(size * after - 100, size * after)
    assert_nearest(index, vectors, last)


def assert_nearest(index: EmbeddingIndex, vectors: np.ndarray, queries: range) -> None:
    """Of some rows, what is found is what the index's own standardisation gives of all that is in the job now."""
    standardized = index.reduction.standardize(vectors)
    everything = standardized[queries] @ standardized.T
    everything[np.arange(len(queries)), queries] = -2
    similarities, rows = found(index.search_rows(queries, k=10), 10)
    assert recall(similarities, -np.sort(-everything, axis=1)[:, :10]) > 0.98
    np.testing.assert_allclose(similarities, np.take_along_axis(everything, rows, axis=1), atol=HALF)


def test_lists_grow_and_change(tmp_path):
    """A large job whose last shards were made again: rows that are gone are never found."""
    vectors = embeddings(26_000, 16)
    folder = write(tmp_path / "job", vectors[:22_000], shards=11)
    EmbeddingIndex.build(folder)
    for path in folder.glob("part-*"):
        path.unlink()
    changed = np.concatenate([vectors[:20_000], vectors[22_000:]])
    write(folder, changed, shards=12)
    index = EmbeddingIndex.build(folder)
    assert index.description.fitted_rows == 22_000
    assert_nearest(index, changed, range(19_900, 20_100))


def test_an_index_that_is_up_to_date_is_left_alone(tmp_path):
    folder = write(tmp_path / "job", embeddings(50))
    before = {path: path.stat().st_mtime_ns for path in EmbeddingIndex.build(folder).folder.iterdir()}
    after = {path: path.stat().st_mtime_ns for path in EmbeddingIndex.build(folder).folder.iterdir()}
    assert {path.name: at for path, at in before.items() if path.name != ".lock"} == {
        path.name: at for path, at in after.items() if path.name != ".lock"
    }


def test_an_index_of_another_job_is_refused(tmp_path):
    one = write(tmp_path / "one", embeddings(50), weights_sha256="1" * 64)
    other = write(tmp_path / "other", embeddings(50, seed=1), weights_sha256="2" * 64)
    EmbeddingIndex.build(one, output=tmp_path / "index")
    for attempt in (
        lambda: EmbeddingIndex.build(other, output=tmp_path / "index"),
        lambda: EmbeddingIndex.open(other, tmp_path / "index"),
    ):
        with pytest.raises(HfGarError, match=r"index of another job.*weights_sha256 is '1+' there, '2+' in the job"):
            attempt()
    with pytest.raises(HfGarError, match="other `dimensions`: 256 there, 8 now"):
        EmbeddingIndex.build(one, output=tmp_path / "index", dimensions=8)
    (tmp_path / "something").mkdir()
    (tmp_path / "something" / "letter.txt").write_text("dear")
    with pytest.raises(HfGarError, match=r"something other than an index \(letter.txt\)"):
        EmbeddingIndex.build(one, output=tmp_path / "something")


def test_jobs_that_cannot_be_indexed(tmp_path):
    with pytest.raises(HfGarError, match="holds no job"):
        EmbeddingIndex.build(tmp_path)
    unfinished = write(tmp_path / "unfinished", embeddings(50), shards=2)
    shard_path(unfinished, 1, 2).unlink()
    with pytest.raises(HfGarError, match="not finished: 1 of 2 shards are missing"):
        EmbeddingIndex.build(unfinished)
    for rows in (0, 1):
        with pytest.raises(HfGarError, match=rf"holds {rows} embedding\(s\)"):
            EmbeddingIndex.build(write(tmp_path / f"of {rows}", embeddings(2)[:rows]))
    with pytest.raises(HfGarError, match="All 20 embeddings are equal"):
        EmbeddingIndex.build(write(tmp_path / "equal", np.ones((20, 4), np.float32)))
    bad = embeddings(50)
    bad[[3, 40]] = np.nan
    with pytest.raises(HfGarError, match="rows 3, 40 are not finite"):
        EmbeddingIndex.build(write(tmp_path / "bad", bad))


def test_shards_without_rows(tmp_path):
    vectors = embeddings(3)
    index = EmbeddingIndex.build(write(tmp_path / "job", vectors, shards=5))
    assert sorted(index.search_rows([1], k=2)["row"][:]) == [0, 2]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_job_of_more_shards_than_files_may_be_open(tmp_path):
    import resource

    vectors = embeddings(300)
    index = EmbeddingIndex.build(write(tmp_path / "job", vectors, shards=150))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        similarities = index.nearest_others(np.arange(300), 5)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_allclose(similarities, exact(vectors, range(300), 5), atol=HALF)


def test_a_job_of_which_most_has_changed_is_measured_again(tmp_path):
    """Else its rows would be standardised by those of others, which are gone."""
    vectors = embeddings(500)
    folder = write(tmp_path / "job", vectors, shards=5)
    first = EmbeddingIndex.build(folder).description
    write(folder, np.concatenate([vectors[:100], 9 * embeddings(400, seed=1)]), shards=5)
    second = EmbeddingIndex.build(folder).description
    assert first.shards[0] == second.shards[0]
    assert first.reduction != second.reduction


def test_what_a_killed_process_left_is_removed(tmp_path):
    folder = write(tmp_path / "job", embeddings(50))
    index = EmbeddingIndex.build(folder)
    left = [
        index.folder / name for name in (".vectors-0.npy-x.incomplete", "lists-0.faiss", ".index.json-x.incomplete")
    ]
    for path in left:
        path.write_text("half")
    EmbeddingIndex.build(folder)
    assert not any(path.exists() for path in left)
    assert {path.name for path in index.folder.iterdir()} == index.description.files() | {".lock"}


def test_k_and_rows_have_bounds(tmp_path):
    index = EmbeddingIndex.build(write(tmp_path / "job", embeddings(20)))
    assert len(index.search_rows([0], k=19)) == 19
    with pytest.raises(HfGarError, match="`k` is 20, but there are 19 recordings"):
        index.search_rows([0], k=20)
    with pytest.raises(HfGarError, match=r"no row 20: .* the rows 0 to 19"):
        index.search_rows([20])
    assert index.find_row("7.wav") == 7
    with pytest.raises(HfGarError, match=r"no recording called 'gone.wav'"):
        index.find_row("gone.wav")
    for attempt, message in (
        (lambda: index.search("0.wav"), "Expected a list of queries, not str"),
        (lambda: index.search_rows(3), "Expected a list of queries, not int"),
        (lambda: index.search([]), "There is no query"),
        (lambda: index.search_embeddings(np.ones((1, 31))), r"the shape \(1, 31\), expected \(query, 32\)"),
        (lambda: EmbeddingIndex.build(index.job.folder, layers=[]), "layers names no layer"),
    ):
        with pytest.raises(ValueError, match=message):
            attempt()


@pytest.mark.parametrize("damage", ["reduction", "vectors", "lists", "index.json"])
def test_a_damaged_index_is_named(damage, tmp_path):
    folder = write(tmp_path / "job", embeddings(EXACT_ROWS + 1, 4))
    index = EmbeddingIndex.build(folder)
    (path,) = index.folder.glob(f"{damage}*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(HfGarError, match=rf"{path.name} .*(is damaged|instead of)"):
        EmbeddingIndex.open(folder).search_rows([0])


def test_filters(tmp_path):
    index = EmbeddingIndex.build(write(tmp_path / "job", embeddings(100), shards=3))
    rows = index.search_rows([0], k=99, where="label = 'odd' and file_name < '5'")["row"][:]
    assert sorted(rows) == [row for row in range(1, 100, 2) if str(row) < "5"]
    assert len(index.search_rows([0], k=5, where="label is null")) == 0
    assert index.search_rows([0], k=5, where="false").column_names[:3] == ["query", "row", "similarity"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("lable = 'odd'", 'column "lable" not found'),
        ("label = ", "syntax error"),
        ("", "not a filter"),
        ("label", "Could not convert string"),
        ("1 = 1; drop table x", "not a filter"),
        ("label = 'odd' from secrets", "not a filter"),
        ("exists (select 1 from read_csv('SECRET'))", "disabled by configuration"),
        ("exists (select 1 from 'SECRET')", "not a filter"),
        ("label in (select content from read_text('SECRET'))", "disabled by configuration"),
        ("exists (select * from names)", "not a filter"),
        ("getenv('HOME') = 'x'", "not a filter"),
        ("count(*) > 1", "cannot contain aggregates"),
    ],
)
def test_what_is_no_filter(where, message, tmp_path):
    """Nothing is read or run but a filter, and the error says what is wrong."""
    names = pq.read_table  # noqa: F841 - a variable that DuckDB could see
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    index = EmbeddingIndex.build(write(tmp_path / "job", embeddings(20)))
    with pytest.raises(HfGarError, match=r"is not a filter \(`where`\)") as raised:
        index.search_rows([0], where=where.replace("SECRET", str(secret)))
    assert message in str(raised.value)
    assert "the columns are file_name, label" in str(raised.value)


def test_a_filter_writes_nothing(tmp_path):
    index = EmbeddingIndex.build(write(tmp_path / "job", embeddings(20)))
    with pytest.raises(HfGarError):
        index.search_rows([0], where=f"1 = 1) to '{tmp_path}/out'; copy (select 1")
    assert not (tmp_path / "out").exists()


BUILD = "import sys; from hf_gar import EmbeddingIndex; EmbeddingIndex.build(sys.argv[1])"


def test_killed_while_indexing(tmp_path):
    """After kill -9 at whatever moment, the next call makes the index that an undisturbed one makes."""
    folder = write(tmp_path / "job", embeddings(24_000, 128), shards=48)
    shutil.copytree(folder, tmp_path / "undisturbed")
    index = folder / "index"
    for pattern, at_least in (("vectors-*", 20), ("vectors-*", 48)):  # the second time before the lists
        with (tmp_path / "errors").open("w") as errors:
            process = subprocess.Popen([sys.executable, "-c", BUILD, str(folder)], stderr=errors)
        deadline = time.monotonic() + 120
        while process.poll() is None and len(list(index.glob(pattern))) < at_least and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL, (tmp_path / "errors").read_text()
        assert not (index / "index.json").exists()
        with pytest.raises(HfGarError, match="is not an index"):
            EmbeddingIndex.open(folder)
    begun = {path: path.stat().st_ino for path in index.glob("vectors-*")}
    found = EmbeddingIndex.build(folder)
    assert begun
    assert all(path.stat().st_ino == inode for path, inode in begun.items())  # what was there is not done again
    expected = EmbeddingIndex.build(tmp_path / "undisturbed")
    assert {path.name for path in index.iterdir()} == {path.name for path in expected.folder.iterdir()}
    for path in [*index.glob("vectors-*"), *index.glob("reduction-*"), index / "index.json"]:
        assert path.read_bytes() == (expected.folder / path.name).read_bytes()
    one, other = (each.search_rows(range(0, 24_000, 500), k=10) for each in (found, expected))
    assert one["row"][:] == other["row"][:]


def test_clusters_are_found_in_the_command(tmp_path, run_here):
    labels, vectors = clusters(15)
    folder = write_job(tmp_path / "job", {"file_name": [f"{row}.wav" for row in range(60)], "label": labels}, vectors)
    code, output, _ = run_here("index", folder, "--json")
    assert code == 0
    result = json.loads(output)
    assert (result["rows"], result["components"], result["exact"]) == (60, 12, True)
    assert result["kept_variance"] == pytest.approx(1)
    code, output, _ = run_here("search", folder, "--row", 20, "-k", 14, "--json")
    hits = [json.loads(line) for line in output.splitlines()]
    assert {hit["label"] for hit in hits} == {labels[20]}
    assert {hit["query"] for hit in hits} == {"row 20"}
    code, output, _ = run_here("search", folder, "--file-name", "20.wav", "-k", 3)
    lines = output.splitlines()
    assert [line.split()[1] for line in lines] == [hit["file_name"] for hit in hits[:3]]
    assert all(f"label={labels[20]}" in line for line in lines)


@pytest.mark.parametrize("library", ["faiss", "sklearn", "duckdb"])
def test_a_missing_library_is_named(library, tmp_path, monkeypatch):
    folder = write(tmp_path / "job", embeddings(20))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(HfGarError, match=rf'{library} is missing .*pip install "hf_gar\[search\]"'):
        EmbeddingIndex.build(folder).search_rows([0], where="label = 'odd'")
