"""Jobs that tag whose processes are killed, or that run on Ray: nothing is lost, and nothing there twice."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from hf_gar.classification.tagger import LABEL_TRACKS
from hf_gar.embedding.jobs.job_folder import read_status
from tests.classification.detector import hum, noise, save_detector, silence
from tests.conftest import tag_job
from tests.interruptions import kill_until_done

RECORDINGS = 120
WINDOWS = {"timestamps": True, "window_s": 1.0, "hop_s": 0.5, "label_tracks": True}
OPTIONS = ["--timestamps", "--window-s", 1, "--hop-s", 0.5, "--audacity"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    return save_detector(tmp_path_factory.mktemp("detector") / "detector")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Recordings with none to three events, and two that fail."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(RECORDINGS):
        parts = [silence(1.5), hum(1, number % 5), silence(1), noise(2, number), silence(1.5), hum(1.5, number % 3)]
        whole = np.concatenate(parts[: 1 + number % 6])
        soundfile.write(folder / f"{number:03}.wav", whole, 16000, subtype="FLOAT")
    for number in (7, 70):
        (folder / f"{number:03}.wav").write_text("no audio")
    return folder


def command(folder: Path, detector: Path, output: Path, *arguments) -> list[str]:
    options = ["--model", detector, "--output", output, "--dtype", "float32", *OPTIONS, *arguments]
    return [sys.executable, "-m", "hf_gar", "tag", *map(str, [folder, *options])]


def read_table(output: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(output.glob("part-*"))])


def assert_same_job(found: Path, expected: Path, tolerance: float = 0) -> None:
    rows, expected_rows = (read_table(output).to_pandas() for output in (found, expected))
    pd.testing.assert_frame_equal(rows, expected_rows, check_exact=not tolerance, atol=tolerance)
    assert len(expected_rows) > RECORDINGS
    status = read_status(found)
    assert (status.done, status.failed) == (RECORDINGS - 2, 2)
    tracks, expected_tracks = (
        {path.name: path.read_text() for path in (output / LABEL_TRACKS).iterdir()} for output in (found, expected)
    )
    assert tracks == expected_tracks
    assert len(tracks) == RECORDINGS - 2
    assert (found / "errors.jsonl").read_text() == (expected / "errors.jsonl").read_text()
    assert not list(found.rglob("*incomplete*"))


def test_kill_9_at_random_moments(folder, detector, tmp_path):
    tag_job([folder], detector, tmp_path / "undisturbed", num_shards=24, **WINDOWS)
    arguments = command(folder, detector, tmp_path / "killed", "--num-shards", 24)
    # It says with its exit code that two recordings failed.
    kill_until_done(arguments, tmp_path / "killed", kills=10, shards=24, exit_code=3)
    assert_same_job(tmp_path / "killed", tmp_path / "undisturbed")


def test_on_ray(folder, detector, tmp_path):
    tag_job([folder], detector, tmp_path / "local", num_shards=3, **WINDOWS)
    arguments = command(folder, detector, tmp_path / "ray", "--num-shards", 3, "--engine", "ray", "--ray-workers", 1)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 3, done.stderr[-3000:]
    assert_same_job(tmp_path / "ray", tmp_path / "local", tolerance=1e-5)
