"""Searching jobs that a model embedded, with recordings."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from hf_gar import AudioError, EmbeddingIndex, HfGarError
from hf_gar.embedding.jobs.results import read_job
from tests.conftest import build_tiny, embed_job, save_tiny, tone


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Twelve clips of 2 s, at 16 kHz."""
    folder = tmp_path_factory.mktemp("clips")
    for index in range(12):
        soundfile.write(folder / f"{index:02}.wav", 0.3 * tone(2, seed=index), 16000)
    return folder


@pytest.fixture(scope="module")
def job(clips, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("of a model")
    model = save_tiny("vggish-fusion", folder / "model")
    embed_job([clips], model, folder / "job", with_frames=True)
    return folder / "job"


@pytest.fixture(scope="module")
def index(job) -> EmbeddingIndex:
    return EmbeddingIndex.build(job)


def test_a_recording_finds_itself(index, clips):
    queries = [str(clips / "03.wav"), (clips / "07.wav").read_bytes()]
    result = index.search([queries[0], {"bytes": queries[1], "path": None}], k=3)
    assert result["query"][:] == [0, 0, 0, 1, 1, 1]
    assert [result["row"][0], result["row"][3]] == [3, 7]
    np.testing.assert_allclose(np.take(result["similarity"][:], [0, 3]), 1, atol=1e-3)
    assert index.embedder() is index.embedder()  # the model is loaded once


def test_a_query_of_another_rate_is_resampled(index, clips):
    waveform, rate = soundfile.read(clips / "05.wav")
    array = soxr.resample(waveform, rate, 44100)
    result = index.search([{"array": array, "sampling_rate": 44100}], k=1)
    assert result["row"][:] == [5]
    assert result["similarity"][0] > 0.98


def test_the_commands_queries(job, clips, run_here):
    code, output, errors = run_here("search", job, clips / "03.wav", clips / "07.wav", "-k", 2)
    assert code == 0, errors
    lines = output.splitlines()
    assert lines[0] == f"{clips / '03.wav'}:"
    assert lines[1].split()[1:] == ["03.wav", "duration_s=2"]
    assert float(lines[1].split()[0]) == pytest.approx(1, abs=1e-3)
    assert lines[3] == f"{clips / '07.wav'}:"
    code, output, _ = run_here("search", job, clips / "03.wav", "-k", 1, "--where", "file_name > '05'", "--json")
    hit = json.loads(output)
    assert hit["query"] == str(clips / "03.wav")
    assert hit["file_name"] > "05"


def test_queries_that_will_not_do(index, clips, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(32000), 16000)
    with pytest.raises(HfGarError, match=r"silent.wav is silent: there is nothing to look for"):
        index.search([tmp_path / "silent.wav"])
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match=r"none.wav"):
        index.search([str(tmp_path / "none.wav")])
    (tmp_path / "text.wav").write_text("no recording")
    with pytest.raises(AudioError, match=r"text.wav"):
        index.search([str(tmp_path / "text.wav")])
    with pytest.raises(HfGarError, match="`k` is 13, but there are 12 recordings"):
        index.search([str(clips / "00.wav")], k=13)


def test_a_short_query_is_padded_as_in_jobs(index, clips, tmp_path):
    waveform, rate = soundfile.read(clips / "04.wav")
    soundfile.write(tmp_path / "short.wav", waveform[: rate // 5], rate)
    embed_job([tmp_path / "short.wav"], index.job.description["model"], tmp_path / "job")
    expected = index.search_embeddings(read_job(tmp_path / "job").embeddings, k=3)
    result = index.search([str(tmp_path / "short.wav")], k=3)
    assert result["row"][:] == expected["row"][:]
    np.testing.assert_allclose(result["similarity"][:], expected["similarity"][:], atol=1e-4)


def test_the_model_has_to_be_the_jobs(job, clips, tmp_path, run_here):
    moved = tmp_path / "moved"
    shutil.copytree(job, moved)
    description = json.loads((moved / "job.json").read_text())
    model = Path(description["model"])
    (moved / "job.json").write_text(json.dumps({**description, "model": str(tmp_path / "gone")}))
    code, _, errors = run_here("search", moved, clips / "01.wav", "-k", 1)
    assert code == 1
    assert str(tmp_path / "gone") in errors
    code, output, _ = run_here("search", moved, clips / "01.wav", "-k", 1, "--model", model)
    assert (code, output.split()[1]) == (0, "01.wav")
    other = build_tiny("vggish-fusion")
    next(other.parameters()).data.mul_(2)
    shutil.copytree(model, tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    code, _, errors = run_here("search", moved, clips / "01.wav", "--model", tmp_path / "other")
    assert code == 1
    assert f"The weights of {tmp_path / 'other'} are not those that" in errors
    assert "(--model)" in errors


def test_a_part_of_the_layers(job, clips, tmp_path):
    """Searching one layer of a fused embedding is searching a job of that layer."""
    layers = json.loads((job / "job.json").read_text())["fusion_layers"]
    part = EmbeddingIndex.build(job, output=tmp_path / "index", layers=[layers[0]])
    model = part.job.description["model"]
    embed_job([clips], model, tmp_path / "alone", model_kwargs={"fusion_layers": [layers[0]]})
    alone = EmbeddingIndex.build(tmp_path / "alone")
    query = [str(clips / "02.wav")]
    for one, other in (
        (part.search_rows(range(12), k=5), alone.search_rows(range(12), k=5)),
        (part.search(query, k=5), alone.search(query, k=5)),
    ):
        np.testing.assert_allclose(one["similarity"][:], other["similarity"][:], atol=1e-3)
    with pytest.raises(HfGarError, match=rf"other `layers`: \({layers[0]},\) there, all now"):
        EmbeddingIndex.build(job, output=tmp_path / "index")
    with pytest.raises(HfGarError, match="asked for 99"):
        EmbeddingIndex.build(job, output=tmp_path / "another", layers=[99])


@pytest.fixture(scope="module")
def long_job(clips, tmp_path_factory) -> Path:
    """Recordings of 12 s; the second has clip 9 from 3.84 s on, the third from 7.68 s; the first has none.

    These are whole numbers of VGGish's patches, so that an untrained network sees the same in them.
    """
    folder = tmp_path_factory.mktemp("long")
    wanted, rate = soundfile.read(clips / "09.wav")
    generator = np.random.default_rng(0)
    (folder / "long").mkdir()
    for number, start_s in enumerate((None, 3.84, 7.68)):
        waveform = np.concatenate([0.3 * tone(2, seed=100 + 10 * number + piece) for piece in range(6)])
        waveform += 0.001 * generator.standard_normal(len(waveform))
        if start_s is not None:
            first = round(start_s * rate)
            waveform[first : first + len(wanted)] = wanted
        soundfile.write(folder / "long" / f"{number}.wav", waveform, rate)
    model = save_tiny("vggish-fusion", folder / "model")
    embed_job([folder / "long"], model, folder / "job", with_frames=True)
    return folder / "job"


def test_where_a_query_occurs(long_job, clips, run_here):
    code, output, errors = run_here("search", long_job, clips / "09.wav", "--segment", "-k", 4, "--json")
    assert code == 0, errors
    hits = [json.loads(line) for line in output.splitlines()]
    places = {hit["file_name"]: (hit["start_s"], hit["end_s"]) for hit in hits[:2]}
    assert set(places) == {"1.wav", "2.wav"}
    assert places["1.wav"] == pytest.approx((3.84, 5.84), abs=0.2)
    assert places["2.wav"] == pytest.approx((7.68, 9.68), abs=0.2)
    assert hits[1]["similarity"] > hits[2]["similarity"]
    for one in hits:
        for other in hits:
            if one is not other and one["row"] == other["row"]:
                assert one["end_s"] <= other["start_s"] + 1e-6 or other["end_s"] <= one["start_s"] + 1e-6
    code, output, _ = run_here("search", long_job, clips / "09.wav", "--segment", "-k", 1, "--where", "file_name < '2'")
    assert "1.wav" in output
    assert " s  " in output


def test_a_rows_segments_are_of_others(long_job):
    result = EmbeddingIndex.build(long_job).search_segments([1], k=5)
    assert 1 not in result["row"][:]
    assert result.column_names == ["query", "row", "start_s", "end_s", "similarity", "file_name", "duration_s"]


def test_segments_need_frames(clips, tmp_path, run_here):
    model = save_tiny("cnn14-fusion", tmp_path / "model")
    embed_job([clips], model, tmp_path / "job")
    code, _, errors = run_here("search", tmp_path / "job", clips / "09.wav", "--segment")
    assert code == 1
    assert "has no frames" in errors


def test_say_what_to_look_for(job, run_here):
    for arguments in ([], ["a.wav", "--row", 1], ["--row", 1, "--file-name", "03.wav"]):
        code, _, errors = run_here("search", job, *arguments)
        assert code == 1
        assert "Say what to look for" in errors
