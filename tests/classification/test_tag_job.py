"""Jobs that tag: their rows and what resumes, fails and is tried again; label tracks; the command."""

import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile

from hf_gar import HfGarError, read_job, tag_recordings
from hf_gar.classification.tagger import label_track_path
from hf_gar.embedding.jobs.job_folder import read_status
from hf_gar.embedding.jobs.publish import push_dataset
from tests.classification.detector import hum, noise, save_detector, silence
from tests.conftest import embed_job, save_tiny, tag_job

# What the detector is to find in each recording, in windows of 1 s.
CONTENT: dict[str, list[tuple[float, float, str]]] = {
    "a.wav": [(1, 3, "hum")],
    "b.wav": [],
    "deep/c.wav": [(0, 2, "noise"), (3, 4, "hum")],
    "deep/er/d.wav": [(2, 5, "hum")],
    "e.wav": [],
    "f.wav": [(0, 1, "hum"), (1, 3, "noise")],
}
WINDOWS = {"timestamps": True, "window_s": 1.0, "hop_s": 1.0}


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    return save_detector(tmp_path_factory.mktemp("detector") / "detector")


def write(file, waveform: np.ndarray) -> None:
    """Without rounding, which would be noise."""
    soundfile.write(file, waveform, 16000, format="WAV", subtype="FLOAT")


@pytest.fixture
def events_folder(tmp_path) -> Path:
    """Recordings of 5 s whose content is known, in folders, with a label that is none of the model's."""
    folder = tmp_path / "recordings"
    for number, (name, content) in enumerate(CONTENT.items()):
        waveform = silence(5)
        for onset, offset, label in content:
            make = hum if label == "hum" else noise
            waveform[16000 * onset : 16000 * offset] = make(offset - onset, seed=number % 3)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, waveform)
    rows = pd.DataFrame({"file_name": list(CONTENT), "label": "field", "event": range(len(CONTENT))})
    rows.to_csv(folder / "metadata.csv", index=False)
    return folder


def read_rows(output: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(output.glob("part-*"))], ignore_index=True)


def found_events(output: Path) -> list[tuple]:
    return list(read_rows(output)[["file_name", "onset", "offset", "label"]].itertuples(index=False, name=None))


def expected_events(*left_out: str) -> list[tuple]:
    return [(name, *event) for name, events in CONTENT.items() if name not in left_out for event in events]


def track(output: Path, name: str) -> list[tuple[float, float, str]]:
    lines = label_track_path(output, name).read_text().splitlines()
    return [(float(onset), float(offset), label) for onset, offset, label in (line.split("\t") for line in lines)]


# Labels


def test_a_jobs_folder(events_folder, detector, tmp_path):
    status = tag_job([events_folder], detector, tmp_path / "out", num_shards=2)
    assert (status.done, status.failed, status.finished) == (6, 0, (0, 1))
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out" / "part-*"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows.column_names == ["file_name", "label", "event", "predictions", "duration_s"]
    assert list(rows["file_name"]) == list(CONTENT)
    assert set(rows["label"]) == {"field"}
    assert all([*each] == ["label", "score"] for predictions in rows["predictions"] for each in predictions)
    heard = {row["file_name"]: row["predictions"][0]["label"] for row in rows}
    assert heard["a.wav"] == heard["deep/er/d.wav"] == "hum"
    job = json.loads((tmp_path / "out" / "job.json").read_text())
    assert job["task"] == "tag"
    assert (job["labels"], job["top_k"], job["threshold"], job["window_s"]) == (None, 5, 0, None)


def test_only_the_labels_that_are_chosen(events_folder, detector, tmp_path):
    tag_job([events_folder], detector, tmp_path / "out", labels=["noise"])
    tag_job([events_folder], detector, tmp_path / "all")
    chosen, every = (read_rows(tmp_path / name)["predictions"] for name in ("out", "all"))
    assert [list(one) for one in chosen] == [[each for each in one if each["label"] == "noise"] for one in every]
    tag_job([events_folder], detector, tmp_path / "events", labels=["noise"], **WINDOWS)
    assert found_events(tmp_path / "events") == [event for event in expected_events() if event[-1] == "noise"]


# Events


def test_a_row_for_each_event(events_folder, detector, tmp_path):
    status = tag_job([events_folder], detector, tmp_path / "out", num_shards=3, label_tracks=True, **WINDOWS)
    assert (status.done, status.failed) == (6, 0)  # those without events, too
    assert read_status(tmp_path / "out").done == 6
    assert list(read_rows(tmp_path / "out").columns) == ["file_name", "onset", "offset", "label", "score"]
    assert found_events(tmp_path / "out") == expected_events()
    assert read_rows(tmp_path / "out")["score"].between(0.5, 1).all()
    for name, events in CONTENT.items():
        assert track(tmp_path / "out", name) == events
    tracks = [path for path in (tmp_path / "out" / "label_tracks").rglob("*") if path.is_file()]
    assert len(tracks) == len(CONTENT)


def test_events_that_failed_before_come_in_their_place(events_folder, detector, tmp_path):
    for name in ("b.wav", "deep/c.wav", "f.wav"):
        (events_folder / name).rename(events_folder / f"{name}.away")
    options = {"num_shards": 1, "label_tracks": True, **WINDOWS}
    status = tag_job([events_folder], detector, tmp_path / "out", **options)
    assert (status.done, status.failed) == (3, 3)
    assert found_events(tmp_path / "out") == expected_events("deep/c.wav", "f.wav")
    assert not label_track_path(tmp_path / "out", "b.wav").exists()
    errors = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [(error["file"], error["row"]) for error in errors] == [("b.wav", 1), ("deep/c.wav", 2), ("f.wav", 5)]

    for name in ("b.wav", "deep/c.wav"):
        (events_folder / f"{name}.away").rename(events_folder / name)
    status = tag_job([events_folder], detector, tmp_path / "out", retry_failed=True, **options)
    assert (status.done, status.failed) == (5, 1)
    assert found_events(tmp_path / "out") == expected_events("f.wav")
    assert track(tmp_path / "out", "b.wav") == []
    (events_folder / "f.wav.away").rename(events_folder / "f.wav")
    status = tag_job([events_folder], detector, tmp_path / "out", retry_failed=True, **options)
    assert (status.done, status.failed) == (6, 0)
    assert found_events(tmp_path / "out") == expected_events()
    assert all(track(tmp_path / "out", name) == events for name, events in CONTENT.items())


def test_many_events_are_put_in_order_whatever_is_read_at_a_time(detector, tmp_path, monkeypatch):
    """A shard that is written again is read in pieces, which may end among the events of a recording."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    clips = {f"{number}.wav": np.concatenate([hum(1), silence(1)] * (1 + number % 4)) for number in range(10)}
    for name, clip in clips.items():
        write(folder / name, clip)
    tag_job([folder], detector, tmp_path / "whole", **WINDOWS)
    bad = ["1.wav", "2.wav", "7.wav", "9.wav"]
    for name in bad:
        (folder / name).write_text("no audio")
    assert tag_job([folder], detector, tmp_path / "out", **WINDOWS).failed == len(bad)
    for name in bad:
        write(folder / name, clips[name])
    monkeypatch.setattr("hf_gar.embedding.jobs.shards.ROWS_AT_ONCE", 2)
    assert tag_job([folder], detector, tmp_path / "out", retry_failed=True, **WINDOWS).done == len(clips)
    assert found_events(tmp_path / "out") == found_events(tmp_path / "whole")
    assert len(found_events(tmp_path / "out")) == sum(1 + number % 4 for number in range(10))


def test_a_source_in_which_nothing_happens(detector, tmp_path):
    (tmp_path / "recordings").mkdir()
    for name in ("a.wav", "b.wav"):
        write(tmp_path / "recordings" / name, silence(3))
    status = tag_job([tmp_path / "recordings"], detector, tmp_path / "out", **WINDOWS)
    assert (status.done, status.failed) == (2, 0)
    (path,) = (tmp_path / "out").glob("part-*")
    assert pq.read_metadata(path).num_rows == 0
    assert tag_job([tmp_path / "recordings"], detector, tmp_path / "out", **WINDOWS).done == 2  # done, not empty


def test_recordings_in_tars_are_named_by_their_keys(detector, tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, waveform in {"a/1.wav": hum(2), "a/2.wav": silence(2), "3.wav": noise(2)}.items():
            file = io.BytesIO()
            write(file, waveform)
            member = tarfile.TarInfo(name)
            member.size = len(file.getvalue())
            tar.addfile(member, io.BytesIO(file.getvalue()))
    status = tag_job([tmp_path / "0.tar"], detector, tmp_path / "out", label_tracks=True, **WINDOWS)
    assert status.done == 3
    assert found_events(tmp_path / "out") == [("a/1", 0, 2, "hum"), ("3", 0, 2, "noise")]
    assert track(tmp_path / "out", "a/2") == []


def test_recordings_without_names_are_named_by_number(detector, tmp_path):
    clips = [{"array": clip, "sampling_rate": 16000} for clip in (hum(2), noise(1))]
    rows = datasets.Dataset.from_dict({"audio": clips})
    tag_recordings(rows, detector, tmp_path / "out", dtype="float32", **WINDOWS)
    assert found_events(tmp_path / "out") == [
        ("row 0 of the source", 0, 2, "hum"),
        ("row 1 of the source", 0, 1, "noise"),
    ]


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("a.wav", "a.wav.txt"),
        ("a/b.wav", "a/b.wav.txt"),
        ("/data/a/b.wav", "data/a/b.wav.txt"),
        ("../a/../../b.wav", "_/a/_/_/b.wav.txt"),
        ("row 3 of the source", "row 3 of the source.txt"),
    ],
)
def test_a_label_track_stays_in_the_folder(name, below, tmp_path):
    assert label_track_path(tmp_path, name) == tmp_path / "label_tracks" / below


# One job a folder


def test_another_job_in_the_folder_is_refused(events_folder, detector, tmp_path):
    tag_job([events_folder], detector, tmp_path / "out", **WINDOWS)
    for options, message in (
        ({}, "window_s is 1.0 there, None now"),
        ({**WINDOWS, "hop_s": 0.5}, "hop_s is 1.0 there, 0.5 now"),
        ({**WINDOWS, "threshold": 0.6}, "threshold is 0.5 there, 0.6 now"),
        ({**WINDOWS, "labels": ["hum"]}, "labels is None there, ['hum'] now"),
        ({**WINDOWS, "label_tracks": True}, "label_tracks is False there, True now"),
    ):
        with pytest.raises(HfGarError) as raised:
            tag_job([events_folder], detector, tmp_path / "out", **options)
        assert message in str(raised.value)
    with pytest.raises(HfGarError, match="holds another job: task is 'tag' there, 'embed' now"):
        embed_job([events_folder], detector, tmp_path / "out")
    embed_job([events_folder], detector, tmp_path / "embeddings")
    with pytest.raises(HfGarError, match="holds another job: task is 'embed' there, 'tag' now"):
        tag_job([events_folder], detector, tmp_path / "embeddings")


def test_a_label_that_was_renamed_makes_another_job(events_folder, detector, tmp_path):
    tag_job([events_folder], detector, tmp_path / "out")
    config = json.loads((detector / "config.json").read_text())
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for path in detector.iterdir():
        (renamed / path.name).symlink_to(path)
    (renamed / "config.json").unlink()
    config |= {"id2label": {"0": "drone", "1": "noise"}, "label2id": {"drone": 0, "noise": 1}}
    (renamed / "config.json").write_text(json.dumps(config))
    with pytest.raises(HfGarError, match="id2label_sha256 is '"):
        tag_job([events_folder], renamed, tmp_path / "out")


def test_jobs_of_earlier_versions_resume(events_folder, detector, tmp_path):
    """They do not say that they embed."""
    embed_job([events_folder], detector, tmp_path / "out")
    path = tmp_path / "out" / "job.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "task"}))
    assert embed_job([events_folder], detector, tmp_path / "out").done == 6
    assert len(read_job(tmp_path / "out").rows) == 6


def test_what_takes_embeddings_says_so(events_folder, detector, tmp_path):
    tag_job([events_folder], detector, tmp_path / "out")
    for use in (read_job, lambda folder: push_dataset(folder, "org/name")):
        with pytest.raises(HfGarError, match="holds no embeddings: `hf-gar tag` wrote it"):
            use(tmp_path / "out")


def test_a_source_that_has_such_a_column(events_folder, detector, tmp_path):
    rows = pd.read_csv(events_folder / "metadata.csv").rename(columns={"label": "predictions"})
    rows.to_csv(events_folder / "metadata.csv", index=False)
    with pytest.raises(HfGarError, match="already has a column predictions"):
        tag_job([events_folder], detector, tmp_path / "out")
    assert embed_job([events_folder], detector, tmp_path / "embeddings").done == 6  # which adds none of that name


# The command


def test_the_command_and_its_exit_codes(events_folder, detector, tmp_path, run_here):
    command = ["tag", events_folder, "--model", detector, "--dtype", "float32", "--output"]
    code, printed, _ = run_here(*command, tmp_path / "tags", "--label", "hum", "--top-k", 1)
    assert (code, printed) == (0, f"6 recordings tagged in {tmp_path / 'tags'}.\n")
    assert [[each["label"] for each in one] for one in read_rows(tmp_path / "tags")["predictions"]] == [["hum"]] * 6

    (events_folder / "a.wav").write_text("text")
    when = ["--timestamps", "--window-s", 1, "--hop-s", 1, "--audacity", "--num-shards", 2]
    code, _, errors = run_here(*command, tmp_path / "events", *when)
    assert code == 3
    assert "Tagging" in errors
    assert "1 could not be tagged: see" in errors
    assert found_events(tmp_path / "events") == expected_events("a.wav")
    assert track(tmp_path / "events", "deep/c.wav") == CONTENT["deep/c.wav"]
    code, printed, _ = run_here("status", tmp_path / "events")
    assert code == 0
    assert "task        tag\n" in printed
    assert "recordings  5 done, 1 failed, of 6\n" in printed
    assert "all are done" in run_here(*command, tmp_path / "events", *when)[2]


def test_mistakes_are_named(events_folder, detector, tmp_path, run_here):
    embeds = save_tiny("vggish-fusion", tmp_path / "embeds")
    for options, message in (
        (["--model", embeds], "has no classifier, only embeddings. CNN14 and AST have one of AudioSet's labels"),
        (["--model", detector, "--label", "humm"], "The model has no label 'humm'. Did you mean 'hum'?"),
        (["--model", detector, "--timestamps", "--window-s", 0.1], "window_s=0.1 is shorter than the 0.31 s that"),
        (["--model", detector, "--audacity"], "--audacity need --timestamps"),
        (["--model", detector, "--timestamps", "--top-k", 3], "--top-k cannot be used with --timestamps"),
    ):
        code, _, errors = run_here("tag", events_folder, "--output", tmp_path / "out", *options)
        assert code == 1
        assert message in errors
        assert "Traceback" not in errors
        assert not (tmp_path / "out").exists()
