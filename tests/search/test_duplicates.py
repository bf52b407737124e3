import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_gar import EmbeddingIndex, HfGarError
from hf_gar.search.duplicates import find_duplicates, kept_names
from hf_gar.search.index.building import EXACT_ROWS
from hf_gar.search.threshold import choose_threshold
from tests.search.jobs import write_clips, write_job


def with_copies(rows: int, copies: int, dimension: int = 32, noise: float = 0.02) -> tuple[np.ndarray, set]:
    """Embeddings whose last are noisy copies of the first, and the pairs."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((rows, dimension))
    vectors[rows - copies :] = vectors[:copies] + noise * generator.standard_normal((copies, dimension))
    return vectors, {(row, rows - copies + row) for row in range(copies)}


def pairs(found) -> set:
    return set(zip(found.pairs["row"].tolist(), found.pairs["other_row"].tolist(), strict=True))


@pytest.mark.parametrize(("rows", "copies"), [(600, 12), (600, 250), (EXACT_ROWS + 1000, 200)])
def test_planted_copies_are_found_and_nothing_else(rows, copies, tmp_path):
    vectors, planted = with_copies(rows, copies)
    index = EmbeddingIndex.build(write_job(tmp_path / "job", {"duration_s": np.ones(rows)}, vectors))
    found = find_duplicates(index)
    assert pairs(found) == planted
    assert found.threshold.is_clear or copies < 0.03 * rows
    assert not found.pairs["is_exact"].any()
    assert (found.pairs["similarity"] > 0.99).all()
    assert found.groups["group"].nunique() == copies
    assert found.groups["keep"].sum() == copies


def test_a_job_without_copies_has_none(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((3000, 32))
    found = find_duplicates(EmbeddingIndex.build(write_job(tmp_path / "job", {"duration_s": [1.0] * 3000}, vectors)))
    assert len(found.pairs) == len(found.groups) == 0
    assert not found.threshold.is_clear


def test_copies_of_rain_are_told_from_other_rain(tmp_path):
    """What is usual differs: recordings of one class are nearer to each other than copies in another class are."""
    generator = np.random.default_rng(0)
    rain = np.r_[10.0, np.zeros(31)] + 0.05 * generator.standard_normal((300, 32))
    barks = np.r_[-10.0, np.zeros(31)] + 3 * generator.standard_normal((300, 32))
    vectors = np.concatenate([rain, barks])
    vectors[290:300] = vectors[:10] + 0.003 * generator.standard_normal((10, 32))
    vectors[590:600] = vectors[300:310] + 0.2 * generator.standard_normal((10, 32))
    index = EmbeddingIndex.build(write_job(tmp_path / "job", {"duration_s": [1.0] * 600}, vectors))
    planted = {(row, row + 290) for row in [*range(10), *range(300, 310)]}
    assert pairs(find_duplicates(index)) == planted


def test_many_copies_of_one_are_one_group(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((300, 16))
    vectors[100:140] = vectors[100]
    index = EmbeddingIndex.build(write_job(tmp_path / "job", {"duration_s": [1.0] * 300}, vectors))
    groups = find_duplicates(index).groups
    assert groups["row"].tolist() == list(range(100, 140))
    assert groups["group"].nunique() == 1


@pytest.fixture
def real_job(tmp_path):
    """A job of ten files, two of which are copies of one, by other names; and a near copy of another."""
    paths = write_clips(tmp_path / "clips", [f"{index}.wav" for index in range(10)])
    for index in (4, 7):
        paths[index].write_bytes(paths[1].read_bytes())
    vectors = np.random.default_rng(0).standard_normal((10, 16))
    vectors[4] = vectors[7] = vectors[1]
    vectors[9] = vectors[8] + 0.01
    durations = [1.0] * 9 + [2.0]
    columns = {"file_name": [path.name for path in paths], "duration_s": durations}
    return write_job(tmp_path / "job", columns, vectors, source=[str(tmp_path / "clips")])


def test_the_same_file_and_near_copies(real_job, tmp_path, run_here):
    keep = tmp_path / "keep.txt"
    code, output, errors = run_here("duplicates", real_job, "--threshold", 0.9, "--keep-list", keep, "--json")
    assert code == 0, errors
    result = json.loads(output)
    assert (result["groups"], result["in_groups"], result["pairs"], result["exact_pairs"]) == (2, 5, 4, 3)
    assert result["compared_files"] == 10
    groups = pd.read_parquet(real_job / "duplicates.parquet")
    assert groups[["group", "row"]].to_numpy().tolist() == [[0, 1], [0, 4], [0, 7], [1, 8], [1, 9]]
    assert groups["is_exact"].tolist() == [True] * 3 + [False] * 2
    assert groups["keep"].tolist() == [True, False, False, False, True]  # the first, and the longer one
    assert groups["file_name"].tolist() == ["1.wav", "4.wav", "7.wav", "8.wav", "9.wav"]
    assert keep.read_text().splitlines() == [f"{row}.wav" for row in (0, 1, 2, 3, 5, 6, 9)]
    table = pq.read_table(real_job / "duplicates-pairs.parquet")
    assert table.column_names == ["row", "other_row", "similarity", "closeness", "is_exact"]
    assert Image.open(real_job / "duplicates.png").size[0] > 500


def test_files_that_are_gone_are_compared_by_sound(real_job, run_here):
    for path in (real_job.parent / "clips").iterdir():
        path.unlink()
    code, output, errors = run_here("duplicates", real_job, "--threshold", 0.9)
    assert code == 0
    assert "5 of 10 recordings are in 2 groups of duplicates: 0 pairs of the same file, 4 near-duplicates" in output
    assert "The files of 10 recordings were not found" in errors


def test_wrong_options_of_duplicates(tmp_path):
    index = EmbeddingIndex.build(write_job(tmp_path / "job", {"n": range(10)}, np.random.rand(10, 4)))
    with pytest.raises(HfGarError, match="`threshold` is 2"):
        find_duplicates(index, threshold=2)
    with pytest.raises(HfGarError, match="no column of names"):
        kept_names(index.job, find_duplicates(index).groups)


def closeness(mean: float, deviation: float, count: int, seed: int = 0) -> np.ndarray:
    return 1 - 10 ** np.random.default_rng(seed).normal(mean, deviation, count)


@pytest.mark.parametrize(("copies", "others"), [(400, 20_000), (2000, 2000), (2000, 200), (10, 400)])
def test_two_groups_are_told_apart(copies, others):
    near, far = closeness(-2.0, 0.15, copies), closeness(-0.3, 0.1, others, seed=1)
    threshold = choose_threshold(np.concatenate([near, far]))
    assert threshold.is_clear
    assert far.max() < threshold.closeness <= near.min()


@pytest.mark.parametrize("nearest", [closeness(-0.5, 0.05, 5000), closeness(-1, 0.4, 5000), np.linspace(0.1, 0.9, 999)])
def test_one_group_has_no_near_duplicates(nearest):
    threshold = choose_threshold(nearest)
    assert not threshold.is_clear
    assert (nearest >= threshold.closeness).mean() < 0.001


def test_few_values_have_a_threshold():
    for count in range(1, 8):
        assert np.isfinite(choose_threshold(closeness(-0.5, 0.1, count)).closeness)
