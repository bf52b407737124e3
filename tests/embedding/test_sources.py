import datasets
import pandas as pd
import pytest

from hf_gar import HfGarError
from hf_gar.embedding import sources


def open_source(*arguments, **options):
    source = sources.open_source(*arguments, **options)
    return source.dataset, source.audio_column


CLIPS = ["clip0.wav", "clip1.flac", "clip2.ogg", "clip3.mp3", "clip4.wav", "clip5.wav"]


def test_a_folder_with_metadata(recordings):
    dataset, column = open_source([recordings])
    assert (dataset.column_names, column) == (["file_name", "label", "audio"], "audio")
    assert list(dataset["file_name"]) == CLIPS
    assert dataset[1] == {"file_name": "clip1.flac", "label": "odd", "audio": str(recordings / "clip1.flac")}


def test_a_folder_with_files_that_its_metadata_does_not_list(recordings):
    (recordings / "deep").mkdir()
    (recordings / "deep" / "more.WAV").write_bytes(b"")
    (recordings / ".hidden.wav").write_bytes(b"")
    (recordings / "metadata.csv").write_text("file_name,fold\nclip0.wav,1\ngone.wav,2\n")
    dataset, _ = open_source([recordings])
    assert list(dataset["file_name"]) == ["clip0.wav", "gone.wav", *CLIPS[1:], "deep/more.WAV"]
    assert list(dataset["fold"]) == [1, 2, *[None] * 6]
    assert dataset.features["fold"] == datasets.Value("int64")


def test_a_folder_without_metadata(recordings):
    (recordings / "metadata.csv").unlink()
    assert list(open_source([recordings])[0]["file_name"]) == CLIPS


def test_files(recordings):
    paths = [str(recordings / name) for name in CLIPS[:2]]
    assert list(open_source(paths)[0]["audio"]) == paths
    assert list(open_source(paths[:1])[0]["audio"]) == paths[:1]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["path", "audio", "where"])
def test_a_table_with_paths_seen_from_its_folder(recordings, suffix, column):
    table = pd.DataFrame({column: ["clip0.wav", str(recordings / "clip1.flac"), None], "label": [1, 2, 3]})
    path = recordings / f"table.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    dataset, audio = open_source([path], path_column=column if column == "where" else None)
    assert list(dataset[audio]) == [str(recordings / "clip0.wav"), str(recordings / "clip1.flac"), None]
    assert list(dataset["label"]) == [1, 2, 3]
    if column == "where":
        with pytest.raises(HfGarError, match=r"no column 'file_name'.*'where', 'label'.*--path-column"):
            open_source([path])


def test_a_parquet_that_holds_the_recordings(recordings):
    rows = [{"bytes": (recordings / name).read_bytes(), "path": name} for name in CLIPS]
    path = recordings / "table.parquet"
    datasets.Dataset.from_dict({"audio": rows, "label": list(range(6))}).to_parquet(path)
    dataset, column = open_source([path])
    assert dataset[0][column]["bytes"] == rows[0]["bytes"]


def test_a_saved_dataset_and_its_splits(recordings, tmp_path):
    train = datasets.Dataset.from_dict({"audio": [str(recordings / "clip0.wav")]})
    datasets.DatasetDict({"train": train, "test": train}).save_to_disk(tmp_path / "both")
    assert open_source([tmp_path / "both"], split="test")[0].num_rows == 1
    with pytest.raises(HfGarError, match=r"has the splits train, test.*--split"):
        open_source([tmp_path / "both"])
    train.save_to_disk(tmp_path / "one")
    assert open_source([tmp_path / "one"])[0].num_rows == 1


def test_options_that_do_not_apply_are_refused(recordings, tmp_path):
    with pytest.raises(HfGarError, match="Leave --split out"):
        open_source([recordings], split="train")
    with pytest.raises(HfGarError, match="not a source that --path-column applies to"):
        open_source([recordings], path_column="file_name")
    saved = datasets.Dataset.from_dict({"wav": [str(recordings / "clip0.wav")]})
    saved.save_to_disk(tmp_path / "saved")
    assert open_source([tmp_path / "saved"], path_column="wav")[1] == "wav"
    with pytest.raises(HfGarError, match=r"no column 'audio' with recordings, only 'wav'.*--path-column"):
        open_source([tmp_path / "saved"])
    saved.select([]).save_to_disk(tmp_path / "none")
    with pytest.raises(HfGarError, match="none cannot be read as a table or dataset, or is empty"):
        open_source([tmp_path / "none"], path_column="wav")


def test_a_table_with_names_and_paths(recordings):
    table = pd.DataFrame({"file_name": ["first"], "audio": [str(recordings / "clip0.wav")]})
    table.to_csv(recordings / "table.csv", index=False)
    dataset, _ = open_source([recordings / "table.csv"], path_column="audio")
    assert dataset[0] == {"file_name": "first", "audio": str(recordings / "clip0.wav")}


def test_mistakes_are_named(tmp_path):
    with pytest.raises(HfGarError, match="holds no audio files"):
        open_source([tmp_path])
    with pytest.raises(HfGarError, match="gone: there is no such file or folder"):
        open_source(["gone"])
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(HfGarError, match=r"notes\.txt is neither an audio file nor a table"):
        open_source([tmp_path / "notes.txt"])
    (tmp_path / "empty.csv").write_text("file_name\n")
    with pytest.raises(HfGarError, match="has no rows"):
        open_source([tmp_path / "empty.csv"])
    (tmp_path / "broken.parquet").write_text("not parquet")
    with pytest.raises(HfGarError, match=r"broken\.parquet cannot be read as a table"):
        open_source([tmp_path / "broken.parquet"])
