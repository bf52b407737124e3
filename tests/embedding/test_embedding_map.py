import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from hf_gar import HfGarError
from hf_gar.cli import main
from hf_gar.embedding.embedding_map import choose_sample, draw_map, place_points
from hf_gar.embedding.map_coloring import GREY, MISSING, color_points, shorten
from hf_gar.embedding.results import read_job
from tests.embedding.map_jobs import DIMENSION, clusters, content, write_job


@pytest.fixture
def job(tmp_path) -> Path:
    labels, embeddings = clusters(15)
    names = [f"clip{index}.wav" for index in range(len(labels))]
    pitch = np.arange(len(labels)) / 7
    return write_job(tmp_path / "job", {"file_name": names, "label": labels, "pitch": pitch}, embeddings)


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


def test_recordings_without_names_are_named_by_their_row(tmp_path):
    labels, embeddings = clusters(15)
    drawn = content(draw_map(write_job(tmp_path / "job", {"label": labels}, embeddings), max_points=40).page)
    assert [point["name"] for point in drawn["points"]] == [f"row {index}" for index in choose_sample(60, 40, seed=0)]
    assert [point["details"] for point in drawn["points"]] == [
        [["label", labels[index]]] for index in choose_sample(60, 40, seed=0)
    ]


def test_categories_have_different_looks():
    groups = color_points(pd.Series([f"{index:02}" for index in range(40)]), 40).groups
    assert [group.label for group in groups] == [f"{index:02}" for index in range(40)]
    assert len({(group.color, group.marker) for group in groups}) == 40


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
        (embeddings_with(np.nan), {}, r"1 of 8 embeddings in .* are not finite numbers: 5\.wav"),
        (embeddings_with(np.inf), {}, "not finite numbers"),
        (np.ones((4, 3)), {}, "All 4 embeddings are equal"),
        (clusters(2)[1], {"max_points": 1}, "at least 2 points, not 1"),
        (clusters(2)[1], {"method": "pca"}, "'pca' is no method .* tsne, umap"),
    ],
)
def test_mistakes_are_named(embeddings, options, message, tmp_path):
    names = [f"{index}.wav" for index in range(len(embeddings))]
    folder = write_job(tmp_path / "job", {"file_name": names}, embeddings)
    with pytest.raises(HfGarError, match=message):
        draw_map(folder, **options)
    assert not list(folder.glob("map*"))


def test_a_folder_without_a_job(tmp_path):
    with pytest.raises(HfGarError, match="holds no embedding job"):
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
    assert "20 recordings are no files here" in err
    assert main(["map", str(job), "--color", "gone"]) == 1
    assert "hf-gar: " in capsys.readouterr().err
