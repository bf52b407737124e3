import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile

from hf_gar import HfGarError
from hf_gar.embedding.jobs.publish import fetch_job, push_dataset
from hf_gar.embedding.jobs.results import read_job
from hf_gar.embedding.sources.source import open_source, read_file_list
from tests.conftest import embed_job, relative_error, save_tiny
from tests.hub.local_hub import LocalHub


def opened(*arguments, **options):
    source = open_source(*arguments, **options)
    return source.dataset, source.audio_column


@pytest.fixture(scope="module")
def repository_of_one(tmp_path_factory) -> Path:
    """One model will do: sources do not differ between them."""
    return save_tiny("vggish-fusion", tmp_path_factory.mktemp("repository") / "vggish")


CLIPS = ["clip0.wav", "clip1.flac", "clip2.ogg", "clip3.mp3", "clip4.wav", "clip5.wav"]


def test_a_folder_with_metadata(recordings):
    dataset, column = opened([recordings])
    assert (dataset.column_names, column) == (["file_name", "label", "audio"], "audio")
    assert list(dataset["file_name"]) == CLIPS
    assert dataset[1] == {"file_name": "clip1.flac", "label": "odd", "audio": str(recordings / "clip1.flac")}


def test_a_folder_with_files_that_its_metadata_does_not_list(recordings):
    (recordings / "deep").mkdir()
    (recordings / "deep" / "more.WAV").write_bytes(b"")
    (recordings / ".hidden.wav").write_bytes(b"")
    (recordings / "metadata.csv").write_text("file_name,fold\nclip0.wav,1\ngone.wav,2\n")
    dataset, _ = opened([recordings])
    assert list(dataset["file_name"]) == ["clip0.wav", "gone.wav", *CLIPS[1:], "deep/more.WAV"]
    assert list(dataset["fold"]) == [1, 2, *[None] * 6]
    assert dataset.features["fold"] == datasets.Value("int64")


def test_a_folder_without_metadata(recordings):
    (recordings / "metadata.csv").unlink()
    assert list(opened([recordings])[0]["file_name"]) == CLIPS


def test_files(recordings):
    paths = [str(recordings / name) for name in CLIPS[:2]]
    assert list(opened(paths)[0]["audio"]) == paths
    assert list(opened(paths[:1])[0]["audio"]) == paths[:1]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["path", "audio", "where"])
def test_a_table_with_paths_seen_from_its_folder(recordings, suffix, column):
    table = pd.DataFrame({column: ["clip0.wav", str(recordings / "clip1.flac"), None], "label": [1, 2, 3]})
    path = recordings / f"table.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    dataset, audio = opened([path], path_column=column if column == "where" else None)
    assert list(dataset[audio]) == [str(recordings / "clip0.wav"), str(recordings / "clip1.flac"), None]
    assert list(dataset["label"]) == [1, 2, 3]
    if column == "where":
        with pytest.raises(HfGarError, match=r"no column 'file_name'.*'where', 'label'.*`path_column`"):
            opened([path])


def test_a_parquet_that_holds_the_recordings(recordings):
    rows = [{"bytes": (recordings / name).read_bytes(), "path": name} for name in CLIPS]
    path = recordings / "table.parquet"
    datasets.Dataset.from_dict({"audio": rows, "label": list(range(6))}).to_parquet(path)
    dataset, column = opened([path])
    assert dataset[0][column]["bytes"] == rows[0]["bytes"]


def test_a_saved_dataset_and_its_splits(recordings, tmp_path):
    train = datasets.Dataset.from_dict({"audio": [str(recordings / "clip0.wav")]})
    datasets.DatasetDict({"train": train, "test": train}).save_to_disk(tmp_path / "both")
    assert opened([tmp_path / "both"], split="test")[0].num_rows == 1
    with pytest.raises(HfGarError, match=r"has the splits train, test.*`split`"):
        opened([tmp_path / "both"])
    train.save_to_disk(tmp_path / "one")
    assert opened([tmp_path / "one"])[0].num_rows == 1


def test_options_that_do_not_apply_are_refused(recordings, tmp_path):
    with pytest.raises(HfGarError, match="Leave `split` out"):
        opened([recordings], split="train")
    with pytest.raises(HfGarError, match="not a source that `path_column` applies to"):
        opened([recordings], path_column="file_name")
    with pytest.raises(HfGarError, match="not on the Hub: it has no revision 'main'"):
        opened([recordings], revision="main")
    saved = datasets.Dataset.from_dict({"wav": [str(recordings / "clip0.wav")]})
    saved.save_to_disk(tmp_path / "saved")
    assert opened([tmp_path / "saved"], path_column="wav")[1] == "wav"
    with pytest.raises(HfGarError, match=r"no column 'audio' with recordings, only 'wav'.*`path_column`"):
        opened([tmp_path / "saved"])
    saved.select([]).save_to_disk(tmp_path / "none")
    with pytest.raises(HfGarError, match="none cannot be read as a table or dataset, or is empty"):
        opened([tmp_path / "none"], path_column="wav")


def test_a_table_with_names_and_paths(recordings):
    table = pd.DataFrame({"file_name": ["first"], "audio": [str(recordings / "clip0.wav")]})
    table.to_csv(recordings / "table.csv", index=False)
    dataset, _ = opened([recordings / "table.csv"], path_column="audio")
    assert dataset[0] == {"file_name": "first", "audio": str(recordings / "clip0.wav")}


def test_mistakes_are_named(tmp_path):
    with pytest.raises(HfGarError, match="holds no audio files"):
        opened([tmp_path])
    with pytest.raises(HfGarError, match="gone: there is no such file or folder"):
        opened(["gone"])
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(HfGarError, match=r"notes\.txt is neither an audio file nor a table"):
        opened([tmp_path / "notes.txt"])
    (tmp_path / "empty.csv").write_text("file_name\n")
    with pytest.raises(HfGarError, match="has no rows"):
        opened([tmp_path / "empty.csv"])
    (tmp_path / "broken.parquet").write_text("not parquet")
    with pytest.raises(HfGarError, match=r"broken\.parquet cannot be read as a table"):
        opened([tmp_path / "broken.parquet"])


def test_a_job_has_one_source(recordings, tmp_path):
    (recordings / "table.csv").write_text("file_name\nclip0.wav\n")
    for other in (recordings / "table.csv", recordings, recordings / "metadata.csv", tmp_path / "gone.tar"):
        with pytest.raises(
            HfGarError, match=rf"{other} is given beside other sources, but only audio files can be combined"
        ):
            opened([recordings / "clip0.wav", other])
    with pytest.raises(HfGarError, match="No recordings are named"):
        opened([])
    (recordings / "folder.wav").mkdir()  # named like a recording: an error of the job, not of the list
    assert len(opened([recordings / "clip0.wav", recordings / "folder.wav", recordings / "no-suffix"])[0]) == 3


def test_links_that_lead_nowhere_are_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hf_gar.embedding.sources.source.HfApi", None)  # nothing asks the Hub
    Path("loop").symlink_to("loop")
    Path("away").symlink_to("/gone/away")
    for name, target in (("loop", "loop"), ("loop/data", "loop"), ("away", "/gone/away"), ("away/data", "/gone/away")):
        with pytest.raises(HfGarError, match=rf"{name}: the link {name.split('/')[0]} to {target} leads nowhere"):
            opened([name])
    with pytest.raises(HfGarError, match=r"x cannot be opened: .*File name too long"):
        opened(["x" * 300 + "/x"])
    for name in ("./org/data", "/org/data", "org/data/more", "data"):
        with pytest.raises(HfGarError, match=rf"{name}: there is no such file or folder"):
            opened([name])


def test_a_folder_that_cannot_be_read(recordings, monkeypatch):
    """Longer a path than the system takes: unlike permissions, that stops the superuser, too."""
    monkeypatch.chdir(recordings)
    for _ in range(20):
        Path("f" * 250).mkdir()
        os.chdir("f" * 250)
    with pytest.raises(HfGarError, match=r"The folder .*fff cannot be read: File name too long"):
        opened([recordings])


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_column_of_numbers_is_no_column_of_paths(suffix, recordings):
    table, path = pd.DataFrame({"path": [1, 2]}), recordings / f"table.{suffix}"
    if suffix == "csv":
        table.to_csv(path, index=False)
    elif suffix == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    with pytest.raises(HfGarError, match=r"the column 'path' holds int64, but the paths .* text.*`path_column`"):
        opened([path])
    with pytest.raises(HfGarError, match=r"The dataset: the column 'audio' holds int64, not recordings or their paths"):
        opened(datasets.Dataset.from_dict({"audio": [1, 2]}))


def test_recordings_that_are_called_by_numbers(recordings, repository_of_one, tmp_path):
    (recordings / "table.csv").write_text("file_name,audio\n1,clip0.wav\n2,gone.wav\n")
    status = embed_job([recordings / "table.csv"], repository_of_one, tmp_path / "out", path_column="audio")
    assert (status.done, status.failed) == (1, 1)
    assert json.loads((tmp_path / "out" / "errors.jsonl").read_text())["file"] == "2"
    assert list(read_job(tmp_path / "out").rows["file_name"]) == [1]


def test_text_stays_text_in_a_jobs_output(recordings, repository_of_one, tmp_path):
    (recordings / "metadata.csv").write_text("file_name,label,fold\nclip0.wav,007,1\nclip1.flac,7,2\n")
    embed_job([recordings], repository_of_one, tmp_path / "out")
    rows = read_job(tmp_path / "out").rows
    assert list(rows["label"][:2]) == ["007", "7"]
    assert rows["label"][2:].isna().all()
    assert list(rows["fold"][:2]) == [1, 2]


@pytest.mark.parametrize("kind", ["paths", "recordings", "bytes", "streamed"])
def test_rows_of_nothing_but_recordings_have_names(kind, recordings, repository_of_one, tmp_path):
    paths = [str(recordings / name) for name in CLIPS]
    contents = [{"bytes": Path(path).read_bytes(), "path": name} for path, name in zip(paths, CLIPS, strict=True)]
    contents[3]["path"] = None
    rows = {"paths": paths, "bytes": [content["bytes"] for content in contents]}.get(kind, contents)
    dataset = datasets.Dataset.from_dict({"audio": rows})
    expected = {
        "paths": paths,
        "recordings": [*CLIPS[:3], "row 3 of the source", *CLIPS[4:]],
        "bytes": [f"row {row} of the source" for row in range(6)],
        "streamed": [*CLIPS[:3], "row 0 of the shard", *CLIPS[4:]],
    }
    dataset = dataset.to_iterable_dataset(num_shards=2) if kind == "streamed" else dataset
    embed_job(dataset, repository_of_one, tmp_path / "out", num_shards=2)
    found = read_job(tmp_path / "out")
    assert list(found.rows.columns) == ["file_name", "duration_s"]
    assert list(found.rows["file_name"]) == expected[kind]
    embed_job([recordings], repository_of_one, tmp_path / "folder")
    assert relative_error(found.embeddings, read_job(tmp_path / "folder").embeddings) < 1e-5


def test_a_limit(recordings, repository_of_one, tmp_path):
    assert list(opened([recordings], limit=2)[0]["file_name"]) == CLIPS[:2]
    assert len(opened([recordings], limit=100)[0]) == 6
    with pytest.raises(ValueError, match="limit has to be 1 or more, not 0"):
        opened([recordings], limit=0)
    embed_job([recordings], repository_of_one, tmp_path / "out", limit=2)
    assert json.loads((tmp_path / "out" / "job.json").read_text())["limit"] == 2
    assert list(read_job(tmp_path / "out").rows["file_name"]) == CLIPS[:2]
    with pytest.raises(HfGarError, match="limit is 2 there, None now"):
        embed_job([recordings], repository_of_one, tmp_path / "out")


@pytest.mark.parametrize("limit", [1, 4, 5, 100])
def test_a_limit_of_what_is_streamed(limit, recordings, repository_of_one, tmp_path):
    """The first ones, however they are spread over the files."""
    tars = write_tars(recordings, tmp_path)
    status = embed_job(tars, repository_of_one, tmp_path / "tars", limit=limit)
    keys = list(read_job(tmp_path / "tars").rows["__key__"])
    assert (status.done, status.num_shards, keys) == (len(keys), 1, [f"clip{row}" for row in range(6)][:limit])
    rows = [{"bytes": (recordings / name).read_bytes(), "path": name} for name in CLIPS]
    labels = datasets.ClassLabel(names=["even", "odd"])
    parquet = tmp_path / "rows.parquet"
    sounds = datasets.Dataset.from_dict({"audio": rows, "label": [0, 1] * 3}).cast_column("audio", datasets.Audio())
    sounds.cast_column("label", labels).to_parquet(parquet)
    stream = datasets.load_dataset("parquet", data_files=str(parquet), split="train", streaming=True)
    embed_job(stream, repository_of_one, tmp_path / "stream", limit=limit)
    assert list(read_job(tmp_path / "stream").rows["label"]) == ([0, 1] * 3)[:limit]
    with pytest.raises(HfGarError, match=rf"limit is {limit} there, None now"):
        embed_job(stream, repository_of_one, tmp_path / "stream")


def test_a_list_of_files(recordings, tmp_path):
    names = [b"a b.wav", b"caf\xe9.wav", "\u00e9.wav".encode(), b" c\\.wav"]
    expected = list(map(os.fsdecode, names))
    assert read_file_list(io.BytesIO(b"\n".join(names))) == expected
    assert read_file_list(io.BytesIO(b"\r\n".join([*names, b"", b""]))) == expected
    assert read_file_list(io.BytesIO(b"\0".join([*names, b"line\nbreak.wav", b""]))) == [
        *expected,
        "line\nbreak.wav",
    ]
    assert read_file_list(io.BytesIO(b"")) == []
    found = subprocess.run(["find", recordings, "-name", "*.wav", "-print0"], capture_output=True, check=True)
    assert len(opened(read_file_list(io.BytesIO(found.stdout)))[0]) == 3


def test_json_lines(recordings):
    path = recordings / "table.jsonl"
    path.write_text('{"path": "clip0.wav", "tags": ["a", "b"]}\n{"path": "clip1.flac", "tags": []}\n')
    dataset, column = opened([path])
    assert dataset[0] == {"path": "clip0.wav", "tags": ["a", "b"], column: str(recordings / "clip0.wav")}


def test_an_audiofolder(recordings, tmp_path):
    folder = tmp_path / "folder"
    for split, label, name in [("train", "dog", "a.wav"), ("train", "cat", "b.wav"), ("test", "dog", "a.wav")]:
        (folder / split / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(recordings / "clip0.wav", folder / split / label / name)
    dataset, _ = opened([folder], audiofolder=True)
    found = list(zip(dataset["file_name"], dataset["label"], dataset["split"], strict=True))
    assert found == [
        ("test/dog/a.wav", "dog", "test"),
        ("train/cat/b.wav", "cat", "train"),
        ("train/dog/a.wav", "dog", "train"),
    ]
    assert opened([folder], audiofolder=True, split="train")[0].num_rows == 2
    with pytest.raises(HfGarError, match="no split 'dev', only test, train"):
        opened([folder], audiofolder=True, split="dev")
    (folder / "train" / "metadata.csv").write_text("file_name,label\ndog/a.wav,01\ncat/b.wav,2\n")
    (folder / "test" / "metadata.csv").write_text("file_name,label,fold\ndog/a.wav,2,3\n")
    dataset, _ = opened([folder], audiofolder=True)
    assert [(row["file_name"], row["label"], row["fold"], row["split"]) for row in dataset] == [
        ("test/dog/a.wav", "2", 3, "test"),
        ("train/dog/a.wav", "01", None, "train"),
        ("train/cat/b.wav", "2", None, "train"),
    ]
    (folder / "test" / "metadata.csv").write_text("path\ndog/a.wav\n")
    with pytest.raises(HfGarError, match=r"test/metadata\.csv has no column 'file_name'"):
        opened([folder], audiofolder=True)


def test_the_same_recording_twice(recordings):
    with pytest.raises(HfGarError, match=r"names 1 recordings twice, such as .*clip0\.wav"):
        opened([recordings / "clip0.wav", recordings / "clip0.wav"])
    (recordings / "metadata.csv").write_text("file_name,label\nclip0.wav,1\nclip0.wav,2\n")
    with pytest.raises(HfGarError, match=r"metadata\.csv names 1 recordings twice"):
        opened([recordings])
    (recordings / "table.csv").write_text("file_name,label\nclip0.wav,1\nclip0.wav,2\n")
    assert opened([recordings / "table.csv"])[0].num_rows == 2  # rows of a table are rows


def write_tars(recordings, folder) -> list[Path]:
    """Two WebDataset tar files with the six recordings as WAV, and a label each."""
    paths = []
    for number in range(2):
        paths.append(folder / f"shard-{number}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for index in range(3 * number, 3 * number + 3):
                waveform, rate = soundfile.read(next(recordings.glob(f"clip{index}.*")))
                content = io.BytesIO()
                soundfile.write(content, waveform, rate, format="WAV")
                for suffix, data in (("wav", content.getvalue()), ("json", b'{"label": %d}' % index)):
                    info = tarfile.TarInfo(f"clip{index}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return paths


def test_webdataset_tars_are_streamed(recordings, repository_of_one, tmp_path):
    tars = write_tars(recordings, tmp_path)
    status = embed_job(tars, repository_of_one, tmp_path / "out")
    assert (status.num_shards, status.done, status.failed) == (2, 6, 0)
    found = read_job(tmp_path / "out")
    assert [row["label"] for row in found.rows["json"]] == list(range(6))
    embed_job([recordings], repository_of_one, tmp_path / "files")
    # The MP3 went through 16-bit WAV: near, not equal.
    assert relative_error(found.embeddings, read_job(tmp_path / "files").embeddings) < 1e-2
    with pytest.raises(HfGarError, match="divided by its files: `num_shards` can be at most 2"):
        embed_job(tars, repository_of_one, tmp_path / "more", num_shards=3)


def test_a_tar_that_is_cut_short(recordings, repository_of_one, tmp_path):
    """Even between two of its files, where tarfile would see nothing wrong."""
    first, second = write_tars(recordings, tmp_path)
    with tarfile.open(second) as tar:
        boundary = tar.getmembers()[2].offset
    second.write_bytes(second.read_bytes()[:boundary])
    with pytest.raises(HfGarError, match=r"shard-1\.tar is cut short"):
        embed_job([first, second], repository_of_one, tmp_path / "out")
    assert not list(tmp_path.glob("out/*.parquet"))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_on_the_hub_and_back(streaming, recordings, repository_of_one, tmp_path, monkeypatch):
    """A job of a dataset on the Hub, published again as embeddings and loaded from there."""
    with LocalHub(tmp_path / "hub", organizations=("org",)) as hub:
        hub.patch(monkeypatch)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
        rows = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(recordings.glob("clip*"))]
        sounds = datasets.Dataset.from_dict({"audio": rows, "label": list(range(6))})
        sounds.cast_column("audio", datasets.Audio(decode=False)).push_to_hub("org/sounds", "first", split="train")
        options = {"config_name": "first", "split": "train", "streaming": streaming}
        status = embed_job(["org/sounds"], repository_of_one, tmp_path / "out", **options)
        assert (status.done, status.failed) == (6, 0)
        push_dataset(tmp_path / "out", "org/embeddings", license_id="cc-by-4.0")
        card = hub.files("org/embeddings", repo_type="dataset")["README.md"].decode()
        assert "license: cc-by-4.0" in card
        assert str(tmp_path) not in card.replace(str(repository_of_one), "")
        loaded = datasets.load_dataset("org/embeddings", split="train", cache_dir=str(tmp_path / "cache"))
        expected = read_job(tmp_path / "out")
        assert (np.array(loaded["embedding"][:], np.float32) == expected.embeddings).all()
        assert list(loaded["label"]) == list(range(6))
        fetched = read_job(fetch_job("org/embeddings"))
        assert (fetched.embeddings == expected.embeddings).all()
        assert fetched.rows.equals(expected.rows)
        assert fetched.description["weights_sha256"] == expected.description["weights_sha256"]
        with pytest.raises(HfGarError, match=r"org/sounds is not the dataset of a job: it has no data/job\.json"):
            fetch_job("org/sounds")
        with pytest.raises(HfGarError, match="org/sounds holds something else"):
            push_dataset(tmp_path / "out", "org/sounds")
        with pytest.raises(HfGarError, match=r"org/gone is .*no"):
            opened(["org/gone"])


def test_a_dataset_that_changed_on_the_hub(recordings, repository_of_one, tmp_path, monkeypatch):
    """A job is of one commit: another is refused, and it can go on with the one that it began with."""
    with LocalHub(tmp_path / "hub", organizations=("org",)) as hub:
        hub.patch(monkeypatch)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
        rows = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(recordings.glob("clip*"))]

        def push(rows):
            sounds = datasets.Dataset.from_dict({"audio": rows})
            sounds.cast_column("audio", datasets.Audio(decode=False)).push_to_hub("org/sounds")

        push(rows)
        embed_job(["org/sounds"], repository_of_one, tmp_path / "out", num_shards=2, shard=0)
        push(rows[::-1])
        with pytest.raises(HfGarError, match=r"`dataset_revision` [0-9a-f]{40}\.") as error:
            embed_job(["org/sounds"], repository_of_one, tmp_path / "out")
        first = str(error.value)[-41:-1]
        embed_job(["org/sounds"], repository_of_one, tmp_path / "out", revision=first)
        embed_job([recordings], repository_of_one, tmp_path / "expected", num_shards=2)
        assert (read_job(tmp_path / "out").embeddings == read_job(tmp_path / "expected").embeddings).all()


def test_what_is_published_tells_nothing_of_this_machine(recordings, repository_of_one, tmp_path, monkeypatch):
    paths = [*(str(recordings / name) for name in CLIPS[:2]), str(recordings / "gone.wav")]
    assert embed_job(paths, repository_of_one, tmp_path / "out", num_shards=2).failed == 1
    with LocalHub(tmp_path / "hub", organizations=("org",)) as hub:
        hub.patch(monkeypatch)
        push_dataset(tmp_path / "out", "org/embeddings")
        files = hub.files("org/embeddings", repo_type="dataset")
        shards = [pq.read_table(io.BytesIO(files[name])) for name in sorted(files) if name.endswith(".parquet")]
        assert len(shards) == 2
        assert [name for shard in shards for name in shard["file_name"].to_pylist()] == CLIPS[:2]
        assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
        assert not [name for name, content in files.items() if b"gone.wav" in content]
