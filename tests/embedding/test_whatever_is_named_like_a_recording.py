"""Whatever is named like a recording is a row or an error, in every kind of source, whatever is wrong with it."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pytest
import soundfile

from hf_gar.embedding.jobs.recording_files import find_recordings
from hf_gar.embedding.jobs.results import read_job
from tests.conftest import embed_job, save_tiny, tone

LATIN = os.fsdecode(b"caf\xe9.wav")  # a name that is not UTF-8
LOOKS_ESCAPED = r"caf\xe9.wav"
GOOD = {"good.wav", "é.flac", "sub/good.wav", "folder.wav/inside.wav", LATIN, LOOKS_ESCAPED}
REASONS = {
    "away.wav": "is a link to /gone/away.wav, which leads nowhere",
    "loop.wav": "is a link to loop.wav, which leads nowhere",
    "pipe.wav": "is a pipe, socket or device, not a file",
    "null.wav": "is a pipe, socket or device, not a file",
    "folder.wav": "is a folder, not a file",
    "empty.wav": "is empty",
    "text.wav": "cannot be decoded",
}
STORED = {LATIN: r"caf\xe9.wav", LOOKS_ESCAPED: r"caf\x5cxe9.wav"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return save_tiny("vggish-fusion", tmp_path_factory.mktemp("repository") / "vggish")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six recordings, and seven things that are only named so."""
    folder = tmp_path / "recordings"
    for index, name in enumerate(sorted(GOOD)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        soundfile.write(content, 0.3 * tone(0.3, seed=index), 16000, format="FLAC" if "flac" in name else "WAV")
        (folder / name).write_bytes(content.getvalue())
    (folder / "away.wav").symlink_to("/gone/away.wav")
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "null.wav").symlink_to("/dev/null")
    os.mkfifo(folder / "pipe.wav")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no audio")
    (folder / ".hidden.wav").write_text("hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "object.wav").write_text("hidden")
    (folder / "notes.txt").write_text("notes")
    return folder


def stored(name: str) -> str:
    return STORED.get(name, name)


def as_folder(folder: Path):
    return [folder]


def as_folder_with_metadata(folder: Path):
    names = ["sub/good.wav", "away.wav", r"caf\xe9.wav", r"caf\x5cxe9.wav"]
    (folder / "metadata.csv").write_text("file_name,label\n" + "".join(f"{name},007\n" for name in names))
    return [folder]


def as_files(folder: Path):
    return [folder / name for name in [*GOOD, *REASONS]]


def as_table(suffix: str) -> Callable:
    def write(folder: Path):
        table = pd.DataFrame({"path": [*map(stored, [*GOOD, *REASONS]), None, ""], "number": range(15)})
        path = folder / f"table{suffix}"
        {
            ".csv": lambda: table.to_csv(path, index=False),
            ".parquet": lambda: table.to_parquet(path),
            ".jsonl": lambda: table.to_json(path, orient="records", lines=True),
        }[suffix]()
        return [path]

    return write


def as_dataset(folder: Path):
    paths = [str(folder / stored(name)) for name in [*GOOD, *REASONS]]
    return datasets.Dataset.from_dict({"audio": [*paths, None, ""]})


def as_audio_dataset(folder: Path):
    paths = [{"bytes": None, "path": str(folder / stored(name))} for name in [*GOOD, *REASONS]]
    return datasets.Dataset.from_dict({"audio": [*paths, None, {"bytes": None, "path": ""}]})


def as_stream(folder: Path):
    return as_audio_dataset(folder).to_iterable_dataset(num_shards=3)


def as_tars(folder: Path):
    tars = []
    for number, names in enumerate([sorted(GOOD), sorted(REASONS)]):
        tars.append(folder.parent / f"{number}.tar")
        with tarfile.open(tars[-1], "w") as tar:
            for name in names:
                tar.add(folder / name, name, recursive=False)
                metadata = tarfile.TarInfo(name.rpartition(".")[0] + ".json")
                content = b"{" if name == "é.flac" else b'{"label": "007"}'
                metadata.size = len(content)
                if name != "good.wav":
                    tar.addfile(metadata, io.BytesIO(content))
    return tars


SOURCES: dict[str, tuple[Callable, int]] = {  # and how many rows have no path
    "folder": (as_folder, 0),
    "folder with metadata": (as_folder_with_metadata, 0),
    "files": (as_files, 0),
    "csv": (as_table(".csv"), 2),
    "parquet": (as_table(".parquet"), 2),
    "jsonl": (as_table(".jsonl"), 2),
    "dataset": (as_dataset, 2),
    "audio dataset": (as_audio_dataset, 2),
    "stream": (as_stream, 2),
    "tars": (as_tars, 0),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_one_is_a_row_or_an_error(kind, folder, repository, tmp_path):
    make, without_path = SOURCES[kind]
    status = embed_job(make(folder), repository, tmp_path / "out", num_shards=None if kind == "tars" else 3, workers=0)
    job = read_job(tmp_path / "out")
    content = (tmp_path / "out" / "errors.jsonl").read_bytes().decode()  # UTF-8
    errors = [json.loads(line) for line in content.splitlines()]
    json.loads((tmp_path / "out" / "job.json").read_bytes().decode())
    bad = {"é.flac"} if kind == "tars" else set()  # its JSON is damaged
    assert (len(job.rows), len(errors)) == (status.done, status.failed)
    assert status.done == len(GOOD - bad)
    assert status.failed == len(REASONS) + len(bad) + without_path

    named = next(name for name in ("file_name", "path", "__key__") if name in job.rows)
    ends = [name.rpartition(".")[0] if kind == "tars" else name for name in map(stored, GOOD - bad)]
    assert len(set(job.rows[named])) == len(ends)
    assert all(any(row.endswith(end) for end in ends) for row in job.rows[named])
    for name, reason in REASONS.items():
        key = name.rpartition(".")[0] if kind == "tars" else name
        found = [error for error in errors if Path(error["file"]).name == key and name in error["reason"]]
        assert len(found) == 1, name
        if kind != "tars":
            assert reason in found[0]["reason"]
    pathless = [error for error in errors if "There is no path to a recording" in error["reason"]]
    assert len(pathless) == without_path
    if kind not in ("stream", "tars"):
        assert [error["file"] for error in pathless] == [f"row {row} of the source" for row in (13, 14)][:without_path]
    if kind not in ("stream", "tars", "dataset", "audio dataset"):
        paths = find_recordings(job)
        assert {str(path.relative_to(folder)) for path in paths if path} == GOOD


def test_a_list_of_the_same_errors_is_retried(folder, repository, tmp_path):
    first = embed_job([folder], repository, tmp_path / "out", num_shards=3, workers=0)
    (folder / "away.wav").unlink()
    (folder / "away.wav").symlink_to("good.wav")
    again = embed_job([folder], repository, tmp_path / "out", retry_failed=True, workers=0)
    assert (again.done, again.failed) == (first.done + 1, first.failed - 1)
    rows = read_job(tmp_path / "out").rows["file_name"]
    assert list(rows) == sorted(rows)
    assert "away.wav" in set(rows)
