"""The app: what it answers, in Python and in a real Chromium, and the Space that it is published as."""

import contextlib
import html
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import HfApi, SpaceCard

import hf_gar
from hf_gar import AudioError, EmbeddingIndex, HfGarError
from hf_gar.embedding.jobs.publish import push_dataset
from hf_gar.hub.load import find_repository
from hf_gar.search.app.answers import Answers
from hf_gar.search.app.space import push_space
from tests.conftest import embed_job, save_tiny, save_tiny_classifier, tone
from tests.hub.local_hub import LocalHub

pytest.importorskip("gradio", reason="gradio is not installed")
ROOT = Path(__file__).parents[2]
MARKUP = "<img src=x onerror='window.hurt = 1'>"
LABELS = ["dog", MARKUP, "baby & child", "clock"]
NAMES = [*(f"{index:02}.wav" for index in range(11)), f"{MARKUP}.wav"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Twelve clips of 2 s, at 16 kHz."""
    folder = tmp_path_factory.mktemp("clips")
    for index, name in enumerate(NAMES):
        soundfile.write(folder / name, 0.3 * tone(2, seed=index), 16000)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_classifier("cnn14-fusion", tmp_path_factory.mktemp("model") / "cnn14", labels=LABELS)


@pytest.fixture(scope="module")
def job(clips, model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("job") / "job"
    embed_job([clips], model, folder)
    return folder


@pytest.fixture(scope="module")
def answers(job) -> Answers:
    return Answers(EmbeddingIndex.open_or_build(job))


def test_an_answer_has_the_most_similar(answers, clips):
    answer = answers.answer(clips / "03.wav")
    found = answers.index.search([clips / "03.wav"], k=10)
    assert [hit.name for hit in answer.hits] == found["file_name"][:]
    assert [hit.similarity for hit in answer.hits] == pytest.approx(found["similarity"][:], abs=1e-6)
    assert answer.hits[0].details == "duration_s: 2.00"
    for hit in answer.hits:
        rate, samples = hit.audio
        expected, expected_rate = soundfile.read(clips / hit.name, dtype="int16")
        assert rate == expected_rate
        np.testing.assert_allclose(samples, expected, atol=1)


def test_labels_over_time_are_those_of_pieces(answers, model, tmp_path):
    """Windows of 2 s every second, each as if it were a recording of its own."""
    waveform = 0.3 * tone(5, seed=50).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", waveform, 16000, subtype="FLOAT")
    heatmap = answers.answer(tmp_path / "long.wav").labels.data[0]
    assert heatmap.x == pytest.approx([0, 1.5, 2.5, 3.5, 5])
    repository = find_repository(model)
    classifier, extractor = repository.load_classifier(), repository.load_feature_extractor()
    pieces = [waveform[start : start + 32000] for start in (0, 16000, 32000, 48000)]
    with torch.no_grad():
        scores = classifier(**extractor(pieces, sampling_rate=16000, return_tensors="pt")).logits.softmax(-1).numpy()
    shown = [html.unescape(label) for label in heatmap.y]
    assert sorted(shown) == sorted(LABELS)
    order = [LABELS.index(label) for label in shown]
    np.testing.assert_allclose(heatmap.z, scores[:, order].T, atol=1e-5)
    assert scores.max(axis=0)[order].tolist() == sorted(scores.max(axis=0), reverse=True)


def test_a_recording_of_the_job_lies_at_its_own_place(answers, clips):
    drawn = {tuple(trace.customdata): trace for trace in answers.map.figure().data}
    (trace,) = drawn.values()
    for row in (2, 9):
        star = answers.answer(clips / f"{row:02}.wav").map.data[-1]
        extent = np.ptp(trace.x) + np.ptp(trace.y)
        assert star.name == "your sound"
        assert np.hypot(star.x[0] - trace.x[row], star.y[0] - trace.y[row]) < 0.01 * extent


def test_without_a_classifier_or_the_recordings(clips, tmp_path):
    """A hit that is no recording by its name, or is not here, cannot be played; nothing is said of labels."""
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in clips.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    embed_job([copied], save_tiny("cnn14-fusion", tmp_path / "model"), tmp_path / "job")
    (copied / "05.wav").unlink()
    answer = Answers(EmbeddingIndex.build(tmp_path / "job")).answer(clips / "05.wav")
    assert answer.labels is None
    assert (answer.hits[0].name, answer.hits[0].audio) == ("05.wav", None)
    assert all(hit.audio is not None for hit in answer.hits[1:])
    moved = Answers(EmbeddingIndex.open(tmp_path / "job"), audio_root=clips).answer(clips / "05.wav")
    assert moved.hits[0].audio is not None


def test_what_cannot_be_answered(job, tmp_path):
    index = EmbeddingIndex.open(job)
    (tmp_path / "text.wav").write_text("no recording")
    with pytest.raises(AudioError, match=r"^text\.wav cannot be decoded"):  # by the name that the user gave it
        Answers(index).answer(tmp_path / "text.wav")
    with pytest.raises(HfGarError, match="no column 'lable'"):
        Answers(index, color="lable")
    with pytest.raises(HfGarError, match=r"is not a dataset on the Hub. Write hf://datasets/ORG/NAME"):
        Answers(index, audio_root="hf://datasets/sounds")


@contextlib.contextmanager
def running(folder: Path, *command, **environment):
    """The address of an app that another process runs, and that Ctrl-C ends."""
    errors = folder / "errors"
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_TEMP_DIR": str(folder / "gradio"), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=errors.open("w"),
        text=True,
    )
    try:
        assert process.stdout is not None
        found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stdout)
        address = next((match[0] for match in found if match), None)
        assert address is not None, errors.read_text()
        yield address
        process.send_signal(signal.SIGINT)
        assert process.wait(120) in (0, 130)
    finally:
        process.kill()
        process.wait()


PAGE = """
    const plots = [...document.querySelectorAll(".js-plotly-plot")];
    const typed = [...document.querySelectorAll("textarea")].map(area => area.value);
    return {text: [document.body.innerText, ...typed].join("\\n"),
            traces: plots.map(plot => plot.data.map(trace => trace.name ?? trace.type)),
            files: [...document.querySelectorAll("a[download]")].map(link => link.href),
            hurt: window.hurt ?? null};
"""


def wait_for(browser, condition) -> dict:
    """What the page shows as soon as a function of it is true."""
    deadline = time.monotonic() + 120
    while not condition(shown := browser.execute_script(PAGE)):
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)
    return shown


def drop(browser, path: Path) -> None:
    browser.find_element("css selector", "input[type=file]").send_keys(str(path))


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a busy machine
def test_in_a_browser(job, clips, browser, tmp_path):
    """A sound that is dropped, its results heard; one that will not do; and one that is recorded."""
    soundfile.write(tmp_path / "silent.wav", np.zeros(32000), 16000)
    with running(tmp_path, "-m", "hf_gar", "app", job, "--port", free_port()) as address:
        browser.get(address)
        wait_for(browser, lambda page: "Search 12 recordings by sound" in page["text"] and page["traces"])
        drop(browser, clips / NAMES[-1])
        # Names and labels are shown as they are: none of it is markup.
        page = wait_for(browser, lambda page: f"1. {NAMES[-1]}" in page["text"] and len(page["files"]) == 11)
        assert page["hurt"] is None
        assert page["traces"][0] == ["heatmap"]
        assert page["traces"][1][-1] == "your sound"
        assert all(label in page["text"] for label in LABELS)
        heard, _ = soundfile.read(io.BytesIO(urllib.request.urlopen(page["files"][1]).read()), dtype="int16")
        np.testing.assert_allclose(heard, soundfile.read(clips / NAMES[-1], dtype="int16")[0], atol=1)
        browser.find_elements("css selector", "button[aria-label=Play]")[1].click()
        wait_for(browser, lambda page: "0:01" in page["text"])
        clear(browser)
        drop(browser, tmp_path / "silent.wav")
        page = wait_for(browser, lambda page: "silent.wav is silent: there is nothing to look for" in page["text"])
        assert "This sound cannot be searched for" in page["text"]
        assert "your sound" not in page["traces"][-1]
        assert "1. " not in page["text"]
        clear(browser)
        browser.find_element("css selector", "button[aria-label='Record audio']").click()
        press(browser, "Record")
        time.sleep(2)
        press(browser, "Stop")
        page = wait_for(browser, lambda page: "1. " in page["text"] and "your sound" in page["traces"][-1])
        assert "cannot be searched" not in page["text"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clear(browser) -> None:
    browser.find_element("css selector", "button[aria-label=Clear]").click()


def press(browser, text: str) -> None:
    """Press the button that says so, as soon as it is there."""
    wait_for(browser, lambda _: browser.execute_script(PRESS, text))


PRESS = """
    const button = [...document.querySelectorAll("button")].find(
        button => button.textContent.trim() === arguments[0] && button.offsetParent !== null);
    button?.click();
    return button !== undefined;
"""


@pytest.fixture
def hub(job, model, clips, tmp_path, monkeypatch):
    """A Hub with the job, its model and its recordings."""
    with LocalHub(tmp_path / "hub", organizations=("org",)) as hub:
        hub.patch(monkeypatch)
        HfApi().create_repo("org/model")
        HfApi().upload_folder(repo_id="org/model", folder_path=model)
        HfApi().create_repo("org/sounds", repo_type="dataset")
        HfApi().upload_folder(repo_id="org/sounds", repo_type="dataset", folder_path=clips, path_in_repo="audio")
        push_dataset(job, "org/embeddings")
        yield hub


def test_a_space_is_published(hub, run_here):
    import gradio

    options = ["--repo-id", "org/space", "--model", "org/model", "--color", "duration_s"]
    for _ in range(2):  # the second time it is recognised, and there is nothing to change
        code, output, errors = run_here("push-space", "org/embeddings", *options)
        assert code == 0, errors
        assert output == f"The app is at {hub.endpoint}/spaces/org/space.\n"
    assert len(list(hub.repository("org/space", "space").history("main"))) == 2
    files = hub.files("org/space", repo_type="space")
    assert set(files) == {"README.md", "app.py", "requirements.txt"}
    card = SpaceCard(files["README.md"].decode())
    assert (card.data.sdk, card.data.sdk_version, card.data.app_file) == ("gradio", gradio.__version__, "app.py")
    assert (card.data.datasets, card.data.models) == (["org/embeddings"], ["org/model"])
    assert files["requirements.txt"].decode() == f"hf_gar[app]=={hf_gar.__version__}\n"
    assert b"build_app('org/embeddings', model='org/model', color='duration_s')" in files["app.py"]


@pytest.mark.slow
def test_a_space_runs_with_what_is_on_the_hub(hub, clips, tmp_path):
    """Its program in a process of its own, which has nothing but the Hub."""
    from gradio_client import Client, handle_file

    push_space("org/embeddings", "org/space", model="org/model", audio_root="hf://datasets/org/sounds/audio")
    space = tmp_path / "space"
    space.mkdir()
    (space / "app.py").write_bytes(hub.files("org/space", repo_type="space")["app.py"])
    environment = {**hub.environment(), "GRADIO_SERVER_PORT": str(free_port()), "PYTHONUNBUFFERED": "1"}
    with running(space, "app.py", **environment) as address:
        client = Client(address, verbose=False, download_files=str(tmp_path / "client"))
        found = client.predict(handle_file(clips / "03.wav"), api_name="/search")
    table, first = found[3]["data"], found[4]["value"]
    assert table[0][1] == "03.wav"
    expected, _ = soundfile.read(clips / "03.wav", dtype="int16")
    np.testing.assert_allclose(soundfile.read(first, dtype="int16")[0], expected, atol=1)


def test_spaces_that_are_not_published(hub, tmp_path):
    push = partial(push_space, "org/embeddings", "org/space", model="org/model")
    HfApi().create_repo("org/other")
    HfApi().upload_folder(repo_id="org/other", folder_path=save_tiny("cnn14-fusion", tmp_path / "other"))
    HfApi().create_repo("org/game", repo_type="space", space_sdk="gradio")
    HfApi().upload_file(repo_id="org/game", repo_type="space", path_or_fileobj=b"import gradio", path_in_repo="app.py")
    for attempt, message in (
        (partial(push, model=None), "was embedded with cnn14, which was not on the Hub"),
        (partial(push, model="org/other"), "The weights of org/other are not those that org/embeddings"),
        (partial(push, model="org/gone"), "org/gone is not a repository on the Hub"),
        (partial(push, audio_root="sounds"), r"'sounds' is not a dataset on the Hub. Write hf://datasets/ORG/NAME"),
        (partial(push, audio_root="hf://datasets/org/gone"), "org/gone is not a repository on the Hub"),
        (
            partial(push_space, "org/sounds", "org/space"),
            r"org/sounds is not the dataset of a job: it has no data/job\.json",
        ),
        (
            partial(push_space, "org/embeddings", "org/game", model="org/model"),
            r"org/game is something else \(.*app.py",
        ),
        (partial(push_space, "org/embeddings", "space", model="org/model"), "named organisation/name"),
    ):
        with pytest.raises(HfGarError, match=message):
            attempt()
    assert set(hub.files("org/game", repo_type="space")) == {"app.py"}
    assert not HfApi().repo_exists("org/space", repo_type="space")
