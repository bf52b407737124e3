import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from hf_gar import EmbeddingIndex, HfGarError
from hf_gar.search import clusters as clusters_module
from hf_gar.search.clusters import find_clusters
from hf_gar.search.maps.embedding_map import draw_map
from tests.search.jobs import clusters, content, write_job


@pytest.fixture
def job(tmp_path):
    labels, embeddings = clusters(40)
    order = np.random.default_rng(0).permutation(160)
    columns = {"file_name": [f"{row}.wav" for row in range(160)], "label": [labels[row] for row in order]}
    return write_job(tmp_path / "job", columns, embeddings[order])


@pytest.mark.parametrize("options", [["--min-size", 10], ["--method", "kmeans", "--clusters", 4]])
def test_groups_are_found_and_colour_the_map(job, options, run_here):
    code, output, errors = run_here("cluster", job, *options, "--json")
    assert code == 0, errors
    result = json.loads(output)
    rows = pd.read_parquet(job / "clusters.parquet")
    labels = EmbeddingIndex.open(job).job.read(columns=["label"], with_embeddings=False).rows["label"]
    assert adjusted_rand_score(labels, rows["cluster"]) > 0.95
    expected = adjusted_mutual_info_score(labels, rows["cluster"])
    assert result["adjusted_mutual_information"] == pytest.approx(expected)
    assert [cluster["cluster"] for cluster in result["clusters"]] == [0, 1, 2, 3]
    sizes = [cluster["size"] for cluster in result["clusters"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) + result["in_no_cluster"] == 160
    for cluster in result["clusters"]:
        inside = rows[rows["cluster"] == cluster["cluster"]]
        assert cluster["central"] == inside.nlargest(3, "similarity")["file_name"].tolist()
        assert cluster["label_share"] == (labels[inside["row"]] == cluster["label"]).mean()
    code, output, _ = run_here("cluster", job, *options)
    assert output.startswith("4 clusters; ")
    assert f"Adjusted mutual information with label: {expected:.3f}." in output
    traces = content(draw_map(job, color="cluster").page)["traces"]
    drawn = {trace["name"]: trace["customdata"] for trace in traces}
    for name in "0123":
        assert drawn[name] == rows.index[rows["cluster"] == int(name)].tolist()


def test_without_labels_or_names(tmp_path):
    job = write_job(tmp_path / "job", {"pitch": np.arange(60.0)}, clusters(15)[1])
    found = find_clusters(EmbeddingIndex.build(job), method="kmeans", clusters=4)
    assert (found.label, found.adjusted_mutual_information) == (None, None)
    assert all(name.startswith("row ") for names in found.summary["central"] for name in names)
    by_pitch = find_clusters(EmbeddingIndex.open(job), method="kmeans", clusters=4, label="pitch")
    assert by_pitch.adjusted_mutual_information == pytest.approx(0, abs=0.01)  # each pitch is one of its own


def test_several_labels_or_none(tmp_path, run_here):
    """Lists of labels are compared as they are; a cluster without labels is told without."""
    tags = [["a", "b"]] * 15 + [["c"]] * 15 + [None] * 30
    job = write_job(tmp_path / "job", {"tags": tags, "pitch": [0.5] * 59 + [np.inf]}, clusters(15)[1])
    options = ["--method", "kmeans", "--clusters", 4, "--label", "tags"]
    code, output, errors = run_here("cluster", job, *options, "--json")
    assert code == 0, errors
    result = json.loads(output, parse_constant=pytest.fail)  # no NaN, which is not JSON
    labels = sorted(str(cluster["label"]) for cluster in result["clusters"])
    assert labels == ["None", "None", "['a', 'b']", "['c']"]
    assert result["adjusted_mutual_information"] == pytest.approx(1)
    assert "nan" not in run_here("cluster", job, *options)[1]
    lines = run_here("search", job, "--row", 0, "-k", 59, "--json")[1].splitlines()
    assert {json.loads(line, parse_constant=pytest.fail)["pitch"] for line in lines} == {0.5, None}


@pytest.mark.parametrize("method", ["hdbscan", "kmeans"])
def test_of_a_large_job_a_sample_is_clustered(job, method, monkeypatch):
    monkeypatch.setattr(clusters_module, "MAX_HDBSCAN_ROWS", 80)
    monkeypatch.setattr(clusters_module, "MAX_KMEANS_ROWS", 80)
    index = EmbeddingIndex.build(job)
    options = {"clusters": 4} if method == "kmeans" else {"min_size": 5}
    found = find_clusters(index, method=method, **options)
    labels = index.job.read(columns=["label"], with_embeddings=False).rows["label"]
    assert (found.sampled, len(found.rows)) == (80, 160)
    assert adjusted_rand_score(labels, found.rows["cluster"]) > 0.9


@pytest.mark.parametrize("of_each", [45, 40])
def test_clusters_of_a_job_that_has_changed(of_each, job, run_here):
    run_here("cluster", job)
    labels, embeddings = clusters(of_each, seed=1)
    write_job(job, {"label": labels}, embeddings)
    with pytest.raises(HfGarError, match="changed since it was clustered"):
        draw_map(job, color="cluster")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "spectral"}, "not a clustering method: choose one of hdbscan, kmeans"),
        ({"method": "kmeans"}, "needs the number of `clusters`"),
        ({"clusters": 3}, "which HDBSCAN finds by itself"),
        ({"method": "kmeans", "clusters": 161}, "160 recordings make 2 to 160"),
        ({"min_size": 161}, "2 to 160"),
        ({"label": "lable"}, "no column 'lable', only 'file_name', 'label'"),
    ],
)
def test_wrong_options_of_clusters(job, options, message):
    with pytest.raises(HfGarError, match=message):
        find_clusters(EmbeddingIndex.build(job), **options)
