"""A job in clusters, and a real browser for the pages."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.search.jobs import clusters, write_job


@pytest.fixture
def job(tmp_path) -> Path:
    labels, embeddings = clusters(15)
    names = [f"clip{index}.wav" for index in range(len(labels))]
    pitch = np.arange(len(labels)) / 7
    return write_job(tmp_path / "job", {"file_name": names, "label": labels, "pitch": pitch}, embeddings)


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium, where there is one; nothing is downloaded."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("there is no Chromium with its chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "mute-audio",
        "use-fake-device-for-media-stream",  # a microphone that hears beeps
        "use-fake-ui-for-media-stream",
        "window-size=1200,900",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()
