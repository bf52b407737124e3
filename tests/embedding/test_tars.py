import io
import json
import logging
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

from hf_gar import HfGarError
from hf_gar.embedding.jobs.results import read_job
from hf_gar.embedding.sources import tars
from hf_gar.embedding.sources.source import open_source
from tests.conftest import embed_job, save_tiny, tone

LINK = "{} is a link to a.wav in the tar, not a file. Write the tar with `tar --dereference --hard-dereference`."


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return save_tiny("vggish-fusion", tmp_path_factory.mktemp("repository") / "vggish")


def wav(seed: int = 0) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, 0.3 * tone(0.3, seed=seed), 16000, format="WAV")
    return content.getvalue()


def write_tar(path: Path, members: dict[str, bytes | str | dict] | list[tuple]) -> Path:
    """A tar: bytes and JSON are files; text is the type of another member, as in tarfile."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = getattr(tarfile, content), "a.wav"
                tar.addfile(info)
                continue
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def errors_of(folder: Path) -> dict[str, str]:
    lines = map(json.loads, (folder / "errors.jsonl").read_text().splitlines())
    return {line["file"]: line["reason"] for line in lines}


def test_samples_without_metadata_or_with_bad_ones(repository, tmp_path):
    members = {
        "a.wav": wav(),
        "a.json": {"label": 1, "tags": []},
        "b.wav": wav(1),
        "c.wav": wav(2),
        "c.json": b'{"label": ',
        "d.wav": wav(3),
        "d.json": {"label": 4, "tags": ["x"], "more": 2.5},
        "e.wav": wav(4),
        "e.json": "SYMTYPE",
        "f.json": {"label": 6},
        "g.wav": wav(5),
        "g.json": {"label": None},
        "README.md": b"no sample",
    }
    status = embed_job([write_tar(tmp_path / "t.tar", members)], repository, tmp_path / "out")
    assert (status.done, status.failed) == (4, 3)
    rows = read_job(tmp_path / "out").rows
    assert list(rows["__key__"]) == ["a", "b", "d", "g"]
    assert set(rows["__url__"]) == {str(tmp_path / "t.tar")}
    labels = [metadata and metadata["label"] for metadata in rows["json"]]
    assert [None if label is None or np.isnan(label) else label for label in labels] == [1, None, 4, None]
    errors = errors_of(tmp_path / "out")
    assert errors.keys() == {"c", "e", "f"}
    assert errors["c"].startswith("c.json cannot be read: Expecting value")
    assert errors["e"] == LINK.format("e.json")
    assert errors["f"] == "f has no recording, only f.json"


def test_members_that_are_no_files(repository, tmp_path):
    kinds = {"b.wav": "SYMTYPE", "c.wav": "LNKTYPE", "d.wav": "FIFOTYPE", "e.wav": "CHRTYPE", "f.wav": "DIRTYPE"}
    others = {"folder.v1": "DIRTYPE", "folder.v1/g.wav": wav(1), "folder.v1/._g.wav": b"hidden", ".wav": b"hidden"}
    tar = write_tar(tmp_path / "t.tar", {"a.wav": wav(), **kinds, **others})
    status = embed_job([tar], repository, tmp_path / "out")
    assert list(read_job(tmp_path / "out").rows["__key__"]) == ["a", "folder.v1/g"]
    assert (status.done, status.failed) == (2, 5)
    errors = errors_of(tmp_path / "out")
    assert (errors["b"], errors["c"]) == (LINK.format("b.wav"), LINK.format("c.wav"))
    assert errors["d"] == "d.wav is a device or pipe in the tar, not a file. Leave it out."
    assert errors["e"] == "e.wav is a device or pipe in the tar, not a file. Leave it out."
    assert errors["f"] == "f.wav is a folder in the tar, not a file. Leave it out."
    again = embed_job([tar], repository, tmp_path / "out", retry_failed=True)
    assert (again.done, again.failed, errors_of(tmp_path / "out")) == (2, 5, errors)


def test_formats_and_names_may_differ(repository, tmp_path):
    flac = io.BytesIO()
    soundfile.write(flac, 0.3 * tone(0.3), 16000, format="FLAC")
    first = write_tar(tmp_path / "1.tar", {"a.wav": wav(), "caf\udce9.WAV": wav(1), "damaged.wav": b"text"})
    second = write_tar(tmp_path / "2.tar", [("b.flac", flac.getvalue()), ("b.flac", flac.getvalue())])
    status = embed_job([second, first], repository, tmp_path / "out")
    assert (status.num_shards, status.done, status.failed) == (2, 4, 1)
    assert list(read_job(tmp_path / "out").rows["__key__"]) == ["a", r"caf\xe9", "b", "b"]
    assert errors_of(tmp_path / "out")["damaged"].startswith("damaged.wav cannot be decoded")


def test_samples_with_several_recordings(repository, tmp_path):
    two = {"a.mix.wav": wav(), "a.voice.wav": wav(1), "b.mix.wav": wav(2), "b.voice.wav": wav(3), "c.voice.wav": wav()}
    tar = write_tar(tmp_path / "t.tar", two)
    with pytest.raises(HfGarError, match=r"2 recordings in a sample \(mix\.wav, voice\.wav\)\. Name one"):
        open_source([tar])
    with pytest.raises(HfGarError, match=r"no recordings drums\.wav, only mix\.wav, voice\.wav"):
        open_source([tar], path_column="drums.wav")
    status = embed_job([tar], repository, tmp_path / "out", path_column="mix.wav")
    assert list(read_job(tmp_path / "out").rows["__key__"]) == ["a", "b"]
    assert errors_of(tmp_path / "out") == {"c": "c has no recording mix.wav, only c.voice.wav"}
    assert status.failed == 1


def test_what_comes_after_the_first_samples(repository, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tars, "SAMPLES_READ", 2)
    members = {
        "a.wav": wav(),
        "a.json": {"label": 1, "note": None},
        "b.wav": wav(1),
        "b.json": {"label": 2, "inner": {"x": 1}},
        "c.wav": wav(2),
        "c.json": {"label": 3, "inner": {"x": 2, "y": 3}, "note": "text"},  # y is left out, with a warning
        "d.wav": wav(3),
        "d.json": {"label": "four"},
        "e.wav": wav(4),
        "e.json": {"label": 5},
        "e.txt": b"left out, too",
        "f.wav": wav(5),
        "f.1.wav": wav(6),
    }
    with caplog.at_level(logging.WARNING):
        status = embed_job([write_tar(tmp_path / "t.tar", members)], repository, tmp_path / "out")
    assert (status.done, status.failed) == (4, 3)
    rows = read_job(tmp_path / "out").rows
    assert rows["json"][2] == {"label": 3, "inner": {"x": 2}, "note": "text"}
    assert [record.getMessage() for record in caplog.records if record.name == tars.__name__] == [
        f"{tmp_path / 't.tar'}: c.json holds more than the first samples do; what they lack is left out of the results."
    ]
    lines = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["d", "f", "f"]
    assert lines[0]["reason"].startswith("d.json is not as in the first samples: ")
    assert "f has several recordings (wav, 1.wav)" in lines[1]["reason"]


def test_metadata_of_no_one_type(repository, tmp_path):
    members = {"a.wav": wav(), "a.json": {"x": 1}, "b.wav": wav(1), "b.json": {"x": "one"}, "b.cls": b"7\n"}
    embed_job([write_tar(tmp_path / "t.tar", members)], repository, tmp_path / "out")
    rows = read_job(tmp_path / "out").rows
    assert [json.loads(text) for text in rows["json"]] == [{"x": 1}, {"x": "one"}]
    assert list(rows["cls"])[1] == 7
    empty = write_tar(tmp_path / "e.tar", {"a.wav": wav(), "a.json": {"x": {}, "y": [], "z": None}})
    embed_job([empty], repository, tmp_path / "empty")
    assert read_job(tmp_path / "empty").rows["json"][0]["z"] is None


def test_damaged_and_joined_tars(repository, tmp_path):
    good = write_tar(tmp_path / "good.tar", {"a.wav": wav(), "b.wav": wav(1), "c.wav": wav(2)})
    with tarfile.open(good) as tar:
        header = tar.getmembers()[1].offset
    content = bytearray(good.read_bytes())
    content[header : header + 512] = b"x" * 512
    (tmp_path / "damaged.tar").write_bytes(content)
    (tmp_path / "joined.tar").write_bytes(good.read_bytes() * 2)
    for name in ("damaged.tar", "joined.tar"):
        with pytest.raises(
            HfGarError, match=rf"{name} is damaged after its byte \d+, or consists of several tars joined together"
        ):
            embed_job([tmp_path / name], repository, tmp_path / f"{name}.out")
    (tmp_path / "text.tar").write_bytes(b"no tar" + bytes(2048))
    with pytest.raises(HfGarError, match=r"text\.tar cannot be read as WebDataset tar files"):
        open_source([tmp_path / "text.tar"])
    with pytest.raises(HfGarError, match=r"nothing\.tar has no recordings"):
        open_source([write_tar(tmp_path / "nothing.tar", {"a.txt": b"text"})])


def test_tars_that_datasets_reads(repository, tmp_path):
    """The same through the builder of `datasets`, which streams a generator's rows."""
    tar = write_tar(tmp_path / "t.tar", {"a.wav": wav(), "a.txt": b"one", "b.wav": wav(1), "b.txt": b"two"})
    embed_job([tar], repository, tmp_path / "ours")
    stream = datasets.load_dataset("webdataset", data_files=str(tar), split="train", streaming=True)
    embed_job(stream, repository, tmp_path / "theirs")
    ours, theirs = read_job(tmp_path / "ours"), read_job(tmp_path / "theirs")
    assert ours.rows.equals(theirs.rows)
    assert (ours.embeddings == theirs.embeddings).all()
