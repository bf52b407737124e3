import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from hf_gar import HfGarError, embed_dataset
from hf_gar.embedding.sources.source import open_source
from tests.conftest import embed_job, real_folder, relative_error


def parquet(folder) -> datasets.Dataset:
    return datasets.load_dataset(
        "parquet", data_files=str(folder / "part-*.parquet"), split="train", cache_dir=str(folder / "cache")
    )


def add_bad_files(folder) -> set[str]:
    ogg = (folder / "clip2.ogg").read_bytes()
    (folder / "cut.ogg").write_bytes(ogg[: len(ogg) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no audio\n" * 100)
    soundfile.write(folder / "none.wav", np.empty(0), 16000)  # a header, and 0 s
    return {"cut.ogg", "empty.wav", "text.wav", "none.wav"}


def failed_files(output) -> set[str]:
    errors = [json.loads(line) for line in (output / "errors.jsonl").read_text().splitlines()]
    assert all(error["file"] in error["reason"] for error in errors)
    return {error["file"] for error in errors}


def test_a_jobs_folder(recordings, repository, model, tmp_path):
    summary = embed_job([recordings], repository, tmp_path / "out")
    assert (summary.done, summary.failed) == (6, 0)
    assert {path.name for path in summary.output.iterdir()} == {
        "part-00000-of-00001.parquet",
        "errors.jsonl",
        "job.json",
        ".locks",
    }
    rows = parquet(tmp_path / "out")
    assert rows.column_names == ["file_name", "label", "embedding", "duration_s"]
    assert rows.features["embedding"].length == model.config.embedding_size
    expected = embed_dataset(open_source([recordings]).dataset, repository, dtype="float32")
    assert list(rows["file_name"]) == list(expected["file_name"])
    assert relative_error(rows["embedding"][:], expected["embedding"][:]) < 1e-6
    job = json.loads((tmp_path / "out" / "job.json").read_text())
    assert job["fusion_layers"] == list(model.config.fused_layers)
    assert len(job["weights_sha256"]) == 64
    specification = (Path(__file__).parents[2] / "docs" / "reference" / "job-folder.md").read_text(encoding="utf-8")
    assert [name for name in job if f"`{name}`" not in specification] == []


def test_a_job_of_a_newer_format(recordings, repository, tmp_path):
    embed_job([recordings], repository, tmp_path / "out")
    path = tmp_path / "out" / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(HfGarError, match="format 2; this version of hf_gar reads 1 or older"):
        embed_job([recordings], repository, tmp_path / "out")


def test_bad_files_are_named_and_the_rest_embedded(recordings, repository, tmp_path):
    bad = add_bad_files(recordings)
    summary = embed_job([recordings], repository, tmp_path / "out", batch_size=4)
    assert (summary.done, summary.failed) == (6, 4)
    assert failed_files(tmp_path / "out") == bad
    assert parquet(tmp_path / "out").num_rows == 6


def test_frames_are_stored_with_their_times(recordings, repository, extractor, tmp_path):
    embed_job([recordings], repository, tmp_path / "out", with_frames=True)
    for row in parquet(tmp_path / "out"):
        assert len(row["frame_embeddings"]) == len(row["frame_times"])
        assert len(row["frame_embeddings"][0]) == len(row["embedding"])
        np.testing.assert_allclose(row["frame_times"], extractor.frame_times(len(row["frame_times"])))
    with pytest.raises(HfGarError, match="frames is True there, False now"):
        embed_job([recordings], repository, tmp_path / "out")


def test_large_rows_are_written_a_few_at_a_time(recordings, repository, tmp_path, monkeypatch):
    bad = add_bad_files(recordings)
    options = {"with_frames": True, "dtype": "float32"}
    embed_job([recordings], repository, tmp_path / "whole", **options)
    monkeypatch.setattr("hf_gar.embedding.jobs.shards.BYTES_AT_ONCE", 1)
    summary = embed_job([recordings], repository, tmp_path / "out", **options)
    assert failed_files(tmp_path / "out") == failed_files(tmp_path / "whole") == bad
    assert (summary.done, summary.failed) == (6, 4)
    shard = "part-00000-of-00001.parquet"
    found, expected = (pq.ParquetFile(tmp_path / name / shard) for name in ("out", "whole"))
    assert expected.num_row_groups == 1 < found.num_row_groups
    found, expected = found.read(), expected.read()
    assert found.column_names == expected.column_names
    for name in ("file_name", "label", "duration_s", "frame_times"):
        assert found[name].to_pylist() == expected[name].to_pylist()
    for one, other in zip(found["frame_embeddings"].to_pylist(), expected["frame_embeddings"].to_pylist(), strict=True):
        assert relative_error(one, other) < 1e-5


def test_a_source_with_nothing_good(recordings, repository, tmp_path):
    bad = [recordings / name for name in add_bad_files(recordings)]
    summary = embed_job(bad, repository, tmp_path / "out")
    assert (summary.done, summary.failed) == (0, 4)
    assert pq.read_metadata(tmp_path / "out" / "part-00000-of-00001.parquet").num_rows == 0


def test_a_finished_job_is_not_run_again(recordings, repository, tmp_path):
    embed_job([recordings], repository, tmp_path / "out")
    shard = tmp_path / "out" / "part-00000-of-00001.parquet"
    before = shard.stat().st_mtime_ns
    assert embed_job([recordings], repository, tmp_path / "out").done == 6
    assert shard.stat().st_mtime_ns == before


def test_another_job_in_the_folder_is_refused(recordings, repository, model, tmp_path):
    embed_job([recordings], repository, tmp_path / "out")
    layers = [model.config.valid_layers[0]]
    with pytest.raises(HfGarError, match=r"holds another job: fusion_layers is \[.*\] there, \[.*\] now"):
        embed_job([recordings], repository, tmp_path / "out", model_kwargs={"fusion_layers": layers})
    with pytest.raises(HfGarError, match="source is"):
        embed_job([recordings / "clip0.wav"], repository, tmp_path / "out")
    shutil.copy(recordings / "clip0.wav", recordings / "more.wav")
    with pytest.raises(HfGarError, match="recordings is 6 there, 7 now"):
        embed_job([recordings], repository, tmp_path / "out")


def test_damaged_weights_are_the_models_fault_and_claim_no_folder(recordings, repository, tmp_path):
    shutil.copytree(repository, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(HfGarError, match=r"The weights of .*model cannot be loaded"):
        embed_job([recordings], tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_relative_and_an_absolute_source_are_the_same_job(recordings, repository, tmp_path, monkeypatch):
    embed_job([recordings], repository, tmp_path / "out")
    monkeypatch.chdir(recordings.parent)
    assert embed_job([recordings.name], repository, tmp_path / "out").done == 6


def test_a_folder_that_holds_something_else_is_left_alone(recordings, repository, tmp_path):
    with pytest.raises(HfGarError, match="holds something other than a job"):
        embed_job([recordings], repository, recordings)


def test_rows_without_file_names_are_named_by_number(repository, tmp_path):
    path = tmp_path / "table.parquet"
    datasets.Dataset.from_dict({"audio": [{"bytes": b"no audio", "path": None}]}).to_parquet(path)
    embed_job([path], repository, tmp_path / "out")
    error = json.loads((tmp_path / "out" / "errors.jsonl").read_text())
    assert error["file"] == "row 0 of the source"


def test_real_recordings(repository, tmp_path):
    folder = real_folder("fsdd")
    (tmp_path / "some").mkdir()
    for path in sorted((folder / "audio").glob("*.wav"))[::100]:
        shutil.copy(path, tmp_path / "some")
    summary = embed_job([tmp_path / "some"], repository, tmp_path / "out")
    assert (summary.done, summary.failed) == (30, 0)
    assert np.isfinite(parquet(tmp_path / "out")["embedding"][:]).all()
