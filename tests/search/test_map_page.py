import contextlib
import functools
import os
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler, normalize

from hf_gar import HfGarError
from hf_gar.embedding.jobs.results import read_job
from hf_gar.pictures import shorten
from hf_gar.search.maps.embedding_map import draw_map
from tests.search.jobs import DIMENSION, Scripts, clusters, content, write_clips, write_job

NASTY = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'>&amp; <b>$x^$ {{plotly}} %{x}"


def test_text_of_the_data_is_never_markup(tmp_path, recwarn):
    labels, embeddings = clusters(3)
    columns = {"file_name": [NASTY] * 12, NASTY: [NASTY, "_under", "$x^$", *labels[3:]]}
    folder = write_job(tmp_path / "job", columns, embeddings, model=NASTY)
    plain = write_job(tmp_path / "plain", {"file_name": labels, "label": labels}, embeddings)
    nasty_page = draw_map(folder, color=NASTY).page
    assert Scripts(nasty_page).tags == Scripts(draw_map(plain, color="label").page).tags
    drawn = content(nasty_page)
    assert drawn["points"][0]["name"] == NASTY
    assert NASTY in drawn["title"]
    read_by_plotly = [text for trace in drawn["traces"] for text in (trace["name"], *trace["text"])]
    read_by_plotly.append(drawn["layout"]["legend"]["title"]["text"])
    for text in read_by_plotly:
        assert set(re.findall(r"<[^>]*>?", text)) <= {"<b>", "</b>", "<br>"}
        assert not re.search(r"&(?!lt;|gt;|amp;)", text)
    assert not [warning for warning in recwarn if "matplotlib" in str(warning.filename)]


ODD_NAMES = ["a b.wav", "Vögel/#1 100%?.wav", "c&d'\".wav", "e:f.wav"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_links_lead_from_the_page_to_the_recordings(tmp_path):
    paths = write_clips(tmp_path / "my recordings", ODD_NAMES)
    embeddings = clusters(1)[1]
    folder = write_job(tmp_path / "job", {"file_name": ODD_NAMES}, embeddings, source=[str(tmp_path / "my recordings")])
    paths[2].unlink()
    summary = draw_map(folder, output=tmp_path / "maps" / "of all" / "map")
    urls = [point["audio"] for point in content(summary.page)["points"]]
    assert urls[0] == "../../my%20recordings/a%20b.wav"
    assert urls[1] == "../../my%20recordings/V%C3%B6gel/%231%20100%25%3F.wav"
    assert urls[2] is None
    assert summary.playable == 3
    for url, path in zip(urls, paths, strict=True):
        assert url is None or Path(os.path.normpath(summary.page.parent / unquote(url))) == path
    beside = draw_map(folder, output=tmp_path / "my recordings" / "map", audio_root=tmp_path / "my recordings")
    assert content(beside.page)["points"][3]["audio"] == "e%3Af.wav"  # no scheme "e:"


def test_recordings_inside_the_page(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("secret")
    write_clips(tmp_path, ["a.wav", "b.wav"])
    folder = write_job(
        tmp_path / "job", {"file_name": ["a.wav", "b.wav", "secret"]}, clusters(1, 3)[1], source=[str(tmp_path)]
    )
    summary = draw_map(folder, embed_audio=True)
    urls = [point["audio"] for point in content(summary.page)["points"]]
    assert re.match(r"data:audio/[\w.-]+;base64,UklGR", urls[0])  # RIFF
    assert urls[2] is None  # no recording by its name
    assert summary.playable == 2
    monkeypatch.setattr("hf_gar.search.maps.page.MAX_EMBEDDED_BYTES", 20_000)
    with pytest.raises(HfGarError, match="`embed_audio`"):
        draw_map(folder, output=tmp_path / "large", embed_audio=True)
    assert not list(tmp_path.glob("large*"))


@contextlib.contextmanager
def serve(folder: Path):
    """The address of a web server of a folder."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


READ_PAGE = """
    const text = id => document.getElementById(id).textContent;
    const {src, duration, currentTime, error, hidden} = document.getElementById("audio");
    return {src, duration, currentTime, error: error && error.message, hidden, name: text("name"),
            details: text("details"), message: text("message"), title: text("title"), chart: text("chart"),
            hurt: window.hurt ?? null};
"""
IS_ON_TOP = """
    const {x, y, width, height} = document.getElementById(arguments[0]).getBoundingClientRect();
    const top = document.elementFromPoint(x + Math.min(width, 60) / 2, y + height / 2);
    return top !== null && (top.id === arguments[0] || top.parentElement.id === arguments[0]);
"""
POINT_CENTRE = """
    for (const point of document.querySelectorAll(".scatterlayer .point")) {
      if (point.__data__.data === arguments[0]) {
        const box = point.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
      }
    }
    return null;
"""


def wait_for(browser, condition):
    """The first true value of a function of what the page shows; a timeout tells what it showed last."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        WebDriverWait(browser, 15, poll_frequency=0.1).until(lambda _: condition(browser.execute_script(READ_PAGE)))
    except TimeoutException as error:
        raise AssertionError(browser.execute_script(READ_PAGE)) from error
    return browser.execute_script(READ_PAGE)


def click_point(browser, index: int) -> None:
    """Click a point of the map with the mouse."""
    from selenium.webdriver.common.action_chains import ActionChains

    wait_for(browser, lambda _: browser.execute_script(POINT_CENTRE, index))
    x, y = browser.execute_script(POINT_CENTRE, index)
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.pause(0.3)
    actions.click()
    actions.perform()


def check_console(browser) -> None:
    assert [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]] == []


@pytest.fixture
def odd_job(tmp_path) -> Path:
    """A job of recordings with odd names, one of which is gone, one no recording; labels and all are markup."""
    paths = write_clips(tmp_path / "my recordings", [*ODD_NAMES, f"{NASTY.replace('/', '')}.wav"])
    (tmp_path / "my recordings" / "text.wav").write_text("no recording")
    names = [str(path.relative_to(tmp_path / "my recordings")) for path in paths] + ["gone <b>.wav", "text.wav"]
    return write_job(
        tmp_path / "job",
        {"file_name": names, "label": [NASTY, *"aabbcc"], "pitch": [0.5, None, 1.5, 2, 3, 4, 5]},
        np.random.default_rng(0).standard_normal((len(names), DIMENSION)),
        source=[str(tmp_path / "my recordings")],
        model=NASTY,
    )


def check_playing(browser, index: int, name: str) -> str:
    """Click a point, and check that its recording is heard to the end; returns its URL."""
    click_point(browser, index)
    shown = wait_for(browser, lambda shown: shown["name"] == name and shown["currentTime"] >= 0.39)
    assert shown["duration"] == pytest.approx(0.4, abs=0.01)
    assert (shown["error"], shown["hidden"], shown["message"], shown["hurt"]) == (None, False, "", None)
    return shown["src"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_a_click_plays_the_recording(odd_job, browser):
    page = draw_map(odd_job, color="label").page
    names = [point["name"] for point in content(page)["points"]]
    browser.get(page.as_uri())
    for index in range(5):
        url = check_playing(browser, index, names[index])
        assert unquote(url) == f"file://{odd_job.parent / 'my recordings' / names[index]}"
    click_point(browser, 5)
    shown = wait_for(browser, lambda shown: shown["name"] == "gone <b>.wav")
    assert "no file where the map was drawn" in shown["message"]
    assert (shown["hidden"], shown["src"]) == (True, "")
    click_point(browser, 6)
    assert "cannot be played" in wait_for(browser, lambda shown: shown["message"] and not shown["hidden"])["message"]
    check_playing(browser, 0, names[0])
    # Text that looks like markup is shown as it is: in the title, in the legend and where the mouse hovers.
    shown = browser.execute_script(READ_PAGE)
    assert NASTY in shown["title"]
    assert shorten(NASTY, 32) in shown["chart"]
    assert f"label: {shorten(NASTY, 60)}" in shown["chart"]
    assert f"label: {shorten(NASTY, 60)}" in shown["details"]


@pytest.mark.parametrize("options", [{"color": "pitch"}, {"embed_audio": True}])
def test_a_page_over_http_and_on_a_scale(odd_job, browser, options, tmp_path):
    page = draw_map(odd_job, **options).page
    with serve(tmp_path) as address:
        browser.get(f"{address}/job/{page.name}")
        name = content(page)["points"][1]["name"]
        url = check_playing(browser, 1, name)
    assert url.startswith("data:" if "embed_audio" in options else f"{address}/my%20recordings/V%C3%B6gel/%231")
    check_console(browser)


def test_the_nearest_are_offered_and_heard(odd_job, browser):
    page = draw_map(odd_job, color="label").page
    points = content(page)["points"]
    embeddings = read_job(odd_job).embeddings
    standardized = normalize(StandardScaler().fit_transform(embeddings))
    similarities = standardized @ standardized.T
    np.fill_diagonal(similarities, -2)
    for point, row in zip(points, similarities, strict=True):
        assert [other for other, _ in point["nearest"]] == np.argsort(-row)[:5].tolist()
        np.testing.assert_allclose([value for _, value in point["nearest"]], np.sort(row)[::-1][:5], atol=0.006)
    browser.get(page.as_uri())
    check_playing(browser, 0, points[0]["name"])
    for shown in ("name", "audio", "nearest"):  # nothing lies over them
        assert browser.execute_script(IS_ON_TOP, shown)
    buttons = browser.find_elements("css selector", "#nearest button")
    names = [points[other]["name"] for other, _ in points[0]["nearest"]]
    assert [button.text.rpartition(" (")[0] for button in buttons] == [" ".join(name.split()) for name in names]
    playable = next(index for index, (other, _) in enumerate(points[0]["nearest"]) if other < 5)
    buttons[playable].click()
    shown = wait_for(browser, lambda shown: shown["name"] == names[playable] and shown["currentTime"] >= 0.39)
    assert (shown["error"], shown["hurt"]) == (None, None)
    offered = browser.find_elements("css selector", "#nearest button")
    assert len(offered) == 5  # now those of the other
    check_console(browser)


def test_a_click_in_the_legend_hides_a_class(job, browser):
    browser.get(draw_map(job, color="label").page.as_uri())
    wait_for(browser, lambda _: browser.execute_script(POINT_CENTRE, 0))
    browser.find_element("css selector", ".legendtoggle").click()
    wait_for(browser, lambda _: browser.execute_script(POINT_CENTRE, 0) is None)
    assert browser.execute_script(POINT_CENTRE, 20) is not None
    buttons = browser.execute_script("return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert len(buttons) == 6
    assert not any("hare" in title or "loud" in title for title in buttons)  # nothing to upload the data with
    check_console(browser)
