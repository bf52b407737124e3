from pathlib import Path

import numpy as np

from hf_gar.embedding.jobs.recording_files import find_recordings
from hf_gar.embedding.jobs.results import read_job
from tests.conftest import embed_job
from tests.search.jobs import write_clips, write_job


def found(folder: Path, names: list, source, audio_root=None, **description) -> list:
    column = description.get("path_column") or "file_name"
    embeddings = np.arange(len(names) * 2.0).reshape(-1, 2)
    return find_recordings(
        read_job(write_job(folder, {column: names}, embeddings, source=source, **description)), audio_root
    )


def test_recordings_are_found_where_each_kind_of_source_has_them(tmp_path, monkeypatch):
    data = tmp_path / "data"
    one, two = write_clips(data, ["a/one.wav", "b/one.wav"])
    names = ["a/one.wav", "b/one.wav"]
    assert found(tmp_path / "1", names, [str(data)]) == [one, two]
    assert found(tmp_path / "2", [*names, None, "gone.wav"], [str(data / "t.csv")]) == [one, two, None, None]
    assert found(tmp_path / "3", names, [str(data / "t.parquet")], path_column="clip") == [one, two]
    files = [str(one), str(two)]
    assert found(tmp_path / "4", ["../data/a/one.wav", "../data/b/one.wav"], files) == [one, two]
    assert found(tmp_path / "5", ["one.wav", "../b/one.wav"], files) == [one, two]
    assert found(tmp_path / "6", ["one.wav"], files) == [None]  # which of them is not known
    assert found(tmp_path / "7", [str(one)], [str(one)]) == [one]
    assert found(tmp_path / "8", names, None) == [None, None]
    assert found(tmp_path / "9", [str(two), "x" * 5000], ["org/dataset"]) == [two, None]
    monkeypatch.chdir(tmp_path)
    assert found(tmp_path / "10", names, ["data"]) == [one, two]


def test_recordings_that_have_moved(tmp_path):
    data = tmp_path / "new"
    one, two = write_clips(data, ["a/one.wav", "b/one.wav"])
    assert found(tmp_path / "1", ["a/one.wav", "b/one.wav", "one.wav"], ["/gone"], data) == [one, two, None]
    assert found(tmp_path / "2", ["/old/a/one.wav", "../old/b/one.wav"], ["/x.wav", "/y.wav"], data) == [one, two]


def test_files_are_found_of_real_jobs(recordings, repository, tmp_path, monkeypatch):
    (recordings / "bad.wav").write_text("text")
    folder_job = embed_job([recordings], repository, tmp_path / "1").output
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    files = [f"../recordings/{path.name}" for path in sorted(recordings.iterdir()) if path.suffix != ".csv"]
    files_job = embed_job(files, repository, tmp_path / "2").output
    monkeypatch.chdir(tmp_path)
    for folder in (folder_job, files_job):
        paths = find_recordings(read_job(folder))
        assert sorted(path.name for path in paths) == [Path(file).name for file in files if "bad" not in file]
