import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from hf_gar import HfGarError
from hf_gar.cli import main
from hf_gar.embedding.jobs.results import open_job, read_job
from hf_gar.pictures import shorten
from hf_gar.search.maps.coloring import GREY, MISSING, color_points
from hf_gar.search.maps.embedding_map import choose_sample, draw_map, place_points
from hf_gar.search.maps.picture import write_picture
from tests.search.jobs import DIMENSION, clusters, content, write_job


def near_labels(positions: np.ndarray, labels: list[str]) -> float:
    """How often the five nearest points have a point's own label, most of them."""
    return KNeighborsClassifier(5).fit(positions, labels).score(positions, labels)


def test_clusters_stay_apart():
    labels, embeddings = clusters(30)
    embeddings[:, 0] *= 1e4  # a dimension of another scale does not drown the others
    assert near_labels(place_points(embeddings, "tsne", seed=0), labels) == 1
    shuffled = list(np.random.default_rng(0).permutation(labels))
    assert near_labels(place_points(embeddings, "tsne", seed=0), shuffled) < 0.7


def test_umap_keeps_clusters_apart():
    pytest.importorskip("umap", reason="umap-learn is not installed")
    labels, embeddings = clusters(30)
    positions = place_points(embeddings, "umap", seed=0)
    assert near_labels(positions, labels) == 1
    np.testing.assert_array_equal(positions, place_points(embeddings, "umap", seed=0))
    for few in (embeddings[:3], embeddings[:5], embeddings[:20, :1]):
        assert np.isfinite(place_points(few, "umap", seed=0)).all()
    with pytest.raises(HfGarError, match="UMAP needs at least 3 recordings, not 2"):
        place_points(embeddings[:2], "umap", seed=0)


def test_the_same_seed_draws_the_same_files(job, tmp_path):
    for name in ("a", "b"):
        draw_map(job, color="label", output=tmp_path / name, max_points=40, seed=3)
    draw_map(job, color="label", output=tmp_path / "c", max_points=40, seed=4)
    for suffix in (".png", ".html"):
        first, second, other = ((tmp_path / name).with_suffix(suffix).read_bytes() for name in "abc")
        assert first == second
        assert first != other


@pytest.mark.parametrize("points", [2, 3, 4, 7])
@pytest.mark.parametrize("dimension", [1, 2, DIMENSION])
def test_few_points(points, dimension, tmp_path):
    embeddings = np.random.default_rng(0).standard_normal((points, dimension))
    folder = write_job(tmp_path / "job", {"label": ["a"] * points}, embeddings)
    assert draw_map(folder, color="label").drawn == points
    traces = content(folder / "map.html")["traces"]
    assert np.isfinite([traces[0]["x"], traces[0]["y"]]).all()


def test_a_map_lies_in_its_jobs_folder_without_harm(job):
    before = read_job(job)
    summary = draw_map(job, color="label")
    assert (summary.picture, summary.page) == (job / "map.png", job / "map.html")
    assert summary.picture.read_bytes().startswith(b"\x89PNG")
    after = read_job(job)
    pd.testing.assert_frame_equal(before.rows, after.rows)
    assert draw_map(job).drawn == 60  # again, over the older files


def test_an_output_may_have_a_suffix_and_a_new_folder(job, tmp_path):
    assert draw_map(job, output=tmp_path / "new" / "v1.0").picture == tmp_path / "new" / "v1.0.png"
    assert draw_map(job, output=tmp_path / "new" / "v2.html").picture == tmp_path / "new" / "v2.png"


def test_a_sample_is_random_seeded_and_told(job):
    summary = draw_map(job, color="label", max_points=40)
    drawn = content(summary.page)
    assert (summary.drawn, summary.recordings, len(drawn["points"])) == (40, 60, 40)
    assert drawn["title"] == (
        "org/vggish-fusion, layers 9 + 14: 60 recordings, t-SNE\na random sample of 40 of them (seed 0)"
    )
    sample = choose_sample(60, 40, seed=0)
    assert [point["name"] for point in drawn["points"]] == [f"clip{index}.wav" for index in sample]
    assert len(set(sample)) == 40
    assert not np.array_equal(sample, choose_sample(60, 40, seed=1))


ROWS_IN_GROUP = 50


@pytest.fixture
def large_job(tmp_path) -> Path:
    """A job of two shards with twenty row groups each, and columns that no map needs."""
    embeddings = np.random.default_rng(0).standard_normal((1000, 512)).astype(np.float32)
    for shard in range(2):
        columns = {
            "file_name": [f"{shard}-{index}.wav" for index in range(1000)],
            **{f"column{number}": np.arange(1000) + number for number in range(20)},
            "label": list("ab" * 500),
        }
        folder = write_job(tmp_path / "job", columns, embeddings + shard, num_shards=2)
        table = pq.read_table(folder / "part-00000-of-00001.parquet")
        pq.write_table(table, folder / f"part-{shard:05d}-of-00002.parquet", row_group_size=ROWS_IN_GROUP)
        (folder / "part-00000-of-00001.parquet").unlink()
    return tmp_path / "job"


def damage_what_is_not_needed(folder: Path, rows: np.ndarray, columns: set[str]) -> int:
    """Overwrite all that a job holds besides some rows' groups and some columns; gives how many bytes."""
    damaged = 0
    for shard, path in enumerate(sorted(folder.glob("part-*"))):
        metadata = pq.read_metadata(path)
        needed = {row // ROWS_IN_GROUP for row in rows - shard * metadata.num_rows}
        with path.open("r+b") as file:
            for group in range(metadata.num_row_groups):
                for number in range(metadata.num_columns):
                    column = metadata.row_group(group).column(number)
                    if group in needed and column.path_in_schema.split(".")[0] in columns:
                        continue
                    start = column.dictionary_page_offset or column.data_page_offset
                    file.seek(start)
                    file.write(b"\xff" * column.total_compressed_size)
                    damaged += column.total_compressed_size
    return damaged


def test_only_what_is_drawn_is_read(large_job, tmp_path):
    expected = draw_map(large_job, color="label", max_points=4, output=tmp_path / "before")
    sample = choose_sample(2000, 4, seed=0)
    shown = {"embedding", "file_name", "label", *(f"column{number}" for number in range(8))}
    size = sum(path.stat().st_size for path in large_job.glob("part-*"))
    assert damage_what_is_not_needed(large_job, sample, shown) > 0.75 * size
    found = draw_map(large_job, color="label", max_points=4, output=tmp_path / "after")
    assert found.page.read_bytes() == expected.page.read_bytes()
    assert found.picture.read_bytes() == expected.picture.read_bytes()
    with pytest.raises(OSError, match=r".+"):  # what is damaged cannot be read
        read_job(large_job)


READ_SAMPLE = """
import sys
import numpy as np, pyarrow
from hf_gar.embedding.jobs.results import open_job
sample = open_job(sys.argv[1]).read(np.load(sys.argv[2]), ["file_name"])
np.save(sys.argv[2], sample.embeddings)
print(sample.num_recordings, list(sample.rows.columns), pyarrow.default_memory_pool().max_memory())
"""


def test_a_sample_takes_little_memory(large_job, tmp_path):
    whole = read_job(large_job)
    rows = choose_sample(2000, 40, seed=0)  # from most of the row groups
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, "-c", READ_SAMPLE, str(large_job), str(tmp_path / "rows.npy")]
    *about, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert about == ["2000", "['file_name']"]
    assert 0 < int(peak) < whole.embeddings.nbytes / 4
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), whole.embeddings[rows])


def test_rows_of_a_job(large_job):
    whole = read_job(large_job)
    rows = np.array([0, 1, 49, 50, 999, 1000, 1999])
    found = open_job(large_job).read(rows, ["label", "file_name"])
    np.testing.assert_array_equal(found.embeddings, whole.embeddings[rows])
    pd.testing.assert_frame_equal(found.rows, whole.rows.loc[rows, ["label", "file_name"]])
    assert (found.num_recordings, whole.num_recordings) == (2000, 2000)


def test_embeddings_that_are_not_drawn_may_be_unusable(tmp_path):
    labels, embeddings = clusters(15)
    sample = choose_sample(60, 40, seed=0)
    embeddings[np.setdiff1d(np.arange(60), sample)] = np.nan
    folder = write_job(tmp_path / "job", {"label": labels}, embeddings)
    assert draw_map(folder, max_points=40).drawn == 40
    with pytest.raises(HfGarError, match="20 of the 60 embeddings to draw"):
        draw_map(folder)


def test_each_step_is_shown(job, capsys):
    draw_map(job)
    shown = capsys.readouterr().err
    steps = ["Reading 60 embeddings (step 1 of 4", "Placing 60 points with t-SNE (step 2 of 4"]
    steps += [f"Drawing {job / 'map.png'} (step 3 of 4", f"Writing {job / 'map.html'} (step 4 of 4"]
    assert sorted(steps, key=shown.index) == steps


def test_recordings_without_names_are_named_by_their_row(tmp_path):
    labels, embeddings = clusters(15)
    drawn = content(draw_map(write_job(tmp_path / "job", {"label": labels}, embeddings), max_points=40).page)
    assert [point["name"] for point in drawn["points"]] == [f"row {index}" for index in choose_sample(60, 40, seed=0)]
    assert [point["details"] for point in drawn["points"]] == [
        [["label", labels[index]]] for index in choose_sample(60, 40, seed=0)
    ]


# What becomes of linear RGB where one of the three cones is missing (Machado, Oliveira and Fernandes, 2009).
VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Oklab, in which equal distances look alike (Ottosson, 2020): of linear RGB, and of the cube roots of its product.
CONES = [
    [0.41222147, 0.53633254, 0.05144599],
    [0.21190350, 0.68069955, 0.10739696],
    [0.08830246, 0.28171884, 0.62997870],
]
OKLAB = [
    [0.21045426, 0.79361779, -0.00407205],
    [1.97799850, -2.42859221, 0.45059371],
    [0.02590404, 0.78277177, -0.80867577],
]


def color_distances(colors: list[str], vision: str) -> np.ndarray:
    """How different each pair of colours looks, (color, color): 100 is black from white."""
    rgb = np.array([[int(color[start : start + 2], 16) for start in (1, 3, 5)] for color in colors]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(VISION[vision]), 0, 1)
    lab = np.cbrt(seen @ np.transpose(CONES)) @ np.transpose(OKLAB)
    return 100 * np.linalg.norm(lab[:, None] - lab[None], axis=2)


@pytest.mark.parametrize("vision", VISION)
def test_ten_categories_are_told_apart_by_all_readers(vision):
    groups = color_points(pd.Series([f"{index:02}" for index in range(10)]), 10).groups
    distances = color_distances([*(group.color for group in groups), GREY, "#FFFFFF"], vision)
    assert distances[~np.eye(12, dtype=bool)].min() > (13 if vision == "normal" else 8)
    # Where the markers are the same, the colours are not near each other at all.
    markers = np.array([group.marker for group in groups])
    same = (markers[:, None] == markers[None]) & ~np.eye(10, dtype=bool)
    assert distances[:10, :10][same].min() > 25


def test_many_categories_have_different_looks():
    groups = color_points(pd.Series([f"{index:02}" for index in range(40)]), 40).groups
    assert [group.label for group in groups] == [f"{index:02}" for index in range(40)]
    assert len({(group.color, group.marker) for group in groups}) == 40


@pytest.mark.parametrize("extent", [(1, 1), (10, 3), (1, 3), (1, 100), (0, 0)])
def test_points_fill_the_frame(extent, tmp_path):
    positions = np.random.default_rng(0).uniform(-1, 1, (2000, 2)).astype(np.float32) * extent
    write_picture(tmp_path / "map.png", positions, color_points(None, len(positions)), "title")
    pixels = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
    frame = np.argwhere((pixels == 0xDD).all(axis=2))  # its lines' grey
    blue = np.argwhere(pixels[..., 2] - pixels[..., 0] > 100)
    shares = np.ptp(blue, axis=0)[::-1] / np.ptp(frame, axis=0)[::-1]  # of the width and the height
    filled = np.maximum(extent, 1e-9) >= 0.25 * max(extent)
    assert (shares[filled] > 0.88).all() or extent == (0, 0)
    assert (shares < 1).all()


def test_many_categories_share_a_grey_but_for_the_most_frequent():
    values = [f"{index:02}" for index in range(50) for _ in range(1 + (index >= 11))]
    coloring = color_points(pd.Series(values), len(values))
    assert coloring.merged_categories == 11
    assert [group.label for group in coloring.groups] == [f"{index:02}" for index in range(11, 50)] + ["(11 others)"]
    assert coloring.groups[-1].color == GREY
    assert sorted(np.concatenate([group.points for group in coloring.groups])) == list(range(len(values)))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([10, 9, 9], ["9", "10"]),
        ([1.0, None, 0.0], ["0", "1", MISSING]),
        ([True, False, None], ["False", "True", MISSING]),
        (["b", "a", None], ["a", "b", MISSING]),
        (["", " a\nb ", "x" * 99], ["", "a b", shorten("x" * 99, 32)]),
        ([["a"], ["b", "c"], None], ["['a']", "['b', 'c']", MISSING]),
        ([None, None], [MISSING]),
        (pd.array([3, None], dtype="Int64"), ["3", MISSING]),
    ],
)
def test_categories_of_all_kinds(values, labels):
    assert [group.label for group in color_points(pd.Series(values), len(values)).groups] == labels


def test_numbers_are_a_scale():
    coloring = color_points(pd.Series([0.5, np.nan, 2, np.inf]), 4)
    np.testing.assert_array_equal(coloring.values, [0.5, np.nan, 2, np.nan])
    assert [(group.label, list(group.points)) for group in coloring.groups] == [(MISSING, [1, 3])]
    assert color_points(pd.Series(range(21)), 21).values is not None


def test_a_scale_in_picture_and_page(job):
    summary = draw_map(job, color="pitch")
    (trace,) = content(summary.page)["traces"]
    assert trace["marker"]["color"] == list(np.arange(60) / 7)
    assert trace["marker"]["colorbar"]["title"]["text"] == "pitch"


def embeddings_with(value: float) -> np.ndarray:
    embeddings = clusters(2)[1]
    embeddings[5, 3] = value
    return embeddings


@pytest.mark.parametrize(
    ("embeddings", "options", "message"),
    [
        (clusters(2)[1], {"color": "colour"}, r"no column 'colour', only 'file_name'\. Choose"),
        (clusters(2)[1][:1], {}, r"holds 1 embedding\(s\): a map needs at least 2"),
        (clusters(2)[1][:0], {}, r"holds 0 embedding\(s\): a map needs at least 2"),
        (embeddings_with(np.nan), {}, r"1 of the 8 embeddings to draw from .* are not finite numbers: 5\.wav"),
        (embeddings_with(np.inf), {}, "not finite numbers"),
        (np.ones((4, 3)), {}, "All 4 embeddings are equal"),
        (clusters(2)[1], {"max_points": 1}, "at least 2 points, not 1"),
        (clusters(2)[1], {"method": "pca"}, "'pca' is not a method .* tsne, umap"),
    ],
)
def test_mistakes_are_named(embeddings, options, message, tmp_path):
    names = [f"{index}.wav" for index in range(len(embeddings))]
    folder = write_job(tmp_path / "job", {"file_name": names}, embeddings)
    with pytest.raises(HfGarError, match=message):
        draw_map(folder, **options)
    assert not list(folder.glob("map*"))


def test_a_folder_without_a_job(tmp_path):
    with pytest.raises(HfGarError, match="holds no job"):
        draw_map(tmp_path)


@pytest.mark.parametrize(
    ("library", "package"), [("plotly", "hf_gar[map]"), ("sklearn", "hf_gar[map]"), ("umap", "umap-learn")]
)
def test_a_missing_library_is_named_with_its_command(job, library, package, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(HfGarError, match=re.escape(f'pip install "{package}"')):
        draw_map(job, method="umap" if library == "umap" else "tsne")


def test_the_command(job, tmp_path, capsys):
    output = tmp_path / "x"
    assert main(["map", str(job), "--color", "label", "--output", str(output), "--max-points", "20"]) == 0
    out, err = capsys.readouterr()
    assert out == f"20 of 60 recordings drawn in {output}.png and {output}.html.\n"
    assert "20 recordings were not found" in err
    assert main(["map", str(job), "--color", "gone"]) == 1
    assert "hf-gar: " in capsys.readouterr().err
