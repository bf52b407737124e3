"""Jobs whose processes are killed, that share a folder, or run on Ray: nothing is lost, and nothing done twice."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import soundfile
from filelock import FileLock

from hf_gar.embedding.jobs.job_folder import LOCK_TIMEOUT_S, LOCKS, read_status
from hf_gar.embedding.jobs.results import read_job
from hf_gar.errors import HfGarError
from tests.conftest import embed_job, real_folder, relative_error, save_tiny, tone
from tests.interruptions import kill_until_done, num_finished


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """One model will do: jobs do not differ between them."""
    return save_tiny("vggish-fusion", tmp_path_factory.mktemp("repository") / "vggish")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A table of 120 rows with short recordings of several lengths."""
    folder = tmp_path_factory.mktemp("recordings")
    for index in range(12):
        soundfile.write(folder / f"{index}.wav", tone(0.3 + 0.4 * index, seed=index), 16000)
    rows = pd.DataFrame({"file_name": [f"{index % 12}.wav" for index in range(120)], "id": range(120)})
    rows.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.fixture(scope="module")
def real_table(tmp_path_factory) -> Path:
    """The 3,000 spoken digits and 400 clips of ESC-10."""
    folder = tmp_path_factory.mktemp("real")
    digits, sounds = real_folder("fsdd"), real_folder("esc10")
    names = [*sorted((digits / "audio").glob("*.wav")), *sorted(sounds.rglob("*.ogg"))]
    assert len(names) == 3400
    pd.DataFrame({"file_name": list(map(str, names)), "id": range(3400)}).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def command(table, repository, output, *arguments) -> list[str]:
    options = ["--model", repository, "--output", output, "--dtype", "float32", *arguments]
    return [sys.executable, "-m", "hf_gar", "embed", *map(str, [table, *options])]


def assert_same_job(found: Path, expected: Path, tolerance: float = 0) -> None:
    found_job, expected_job = read_job(found), read_job(expected)
    assert list(found_job.rows["id"]) == list(range(len(expected_job.rows)))  # each exactly once, in order
    if tolerance:
        assert relative_error(found_job.embeddings, expected_job.embeddings) < tolerance
    else:
        assert (found_job.embeddings == expected_job.embeddings).all()
    assert not list(found.glob(".*incomplete*"))


@pytest.mark.parametrize(
    ("source", "kills", "shards"),
    [("table", 1, 6), pytest.param("real_table", 20, 16, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])],
)
def test_kill_9_at_random_moments(source, kills, shards, repository, tmp_path, request):
    table = request.getfixturevalue(source)
    embed_job([table], repository, tmp_path / "undisturbed", num_shards=shards)
    arguments = command(table, repository, tmp_path / "killed", "--num-shards", shards)
    kill_until_done(arguments, tmp_path / "killed", kills, shards)
    assert_same_job(tmp_path / "killed", tmp_path / "undisturbed")


def ray_workers(driver: int) -> list[psutil.Process]:
    workers = []
    for child in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie, too, is one
            if any(name in " ".join(child.cmdline()) for name in ("_Worker", "_Decoder")):
                workers.append(child)
    return workers


@pytest.mark.parametrize(
    ("source", "kills", "workers", "shards"),
    [("table", 1, 1, 3), pytest.param("real_table", 10, 2, 16, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])],
)
def test_ray_loses_workers(source, kills, workers, shards, repository, tmp_path, request):
    table = request.getfixturevalue(source)
    embed_job([table], repository, tmp_path / "local", num_shards=shards)
    arguments = command(table, repository, tmp_path / "ray", "--engine", "ray", "--ray-workers", workers)
    arguments += ["--num-shards", str(shards)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    moments = random.Random(0)
    killed = 0
    while process.poll() is None and killed < kills:
        time.sleep(moments.uniform(0.2, 4))
        workers = ray_workers(process.pid)
        if workers:
            moments.choice(workers).kill()
            killed += 1
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    assert killed == kills
    assert_same_job(tmp_path / "ray", tmp_path / "local", tolerance=1e-6)


# The command, after a line on its standard input: its libraries are loaded by then.
WAITING = """
import sys
import hf_gar.cli, hf_gar.embedding.jobs.run
print("ready", flush=True)
sys.stdin.readline()
sys.exit(hf_gar.cli.main(sys.argv[1:]))
"""


def test_two_runs_at_once_share_the_shards(table, repository, tmp_path):
    output = tmp_path / "shared"
    options = command(table, repository, output, "--num-shards", 8)[3:]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    both = [subprocess.Popen([sys.executable, "-c", WAITING, *options], text=True, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    at_once = 0  # shards that were being worked on at the same time
    while any(process.poll() is None for process in both):
        with contextlib.suppress(HfGarError):  # not begun yet
            at_once = max(at_once, len(read_status(output).running))
        time.sleep(0.01)
    assert at_once == 2
    for process in both:
        _, errors = process.communicate()
        # One may end while the other is at its last shard.
        assert process.returncode == 0 or "Another run is working on shards" in errors, errors
    embed_job([table], repository, tmp_path / "alone", num_shards=8)
    assert_same_job(output, tmp_path / "alone")


def test_who_looks_at_a_shard_does_not_keep_a_run_from_it(table, repository, tmp_path):
    embed_job([table], repository, tmp_path / "out", num_shards=3, shard=0)
    lock = FileLock(tmp_path / "out" / LOCKS / "1.lock", thread_local=False)  # released by a timer's thread
    lock.acquire()
    assert read_status(tmp_path / "out").running == (1,)
    threading.Timer(LOCK_TIMEOUT_S / 3, lock.release, kwargs={"force": True}).start()
    assert embed_job([table], repository, tmp_path / "out", shard=1).missing == ()


@pytest.mark.slow
def test_a_process_for_each_device(table, repository, tmp_path):
    embed_job([table], repository, tmp_path / "two", num_shards=4, devices=["cpu", "cpu"])
    embed_job([table], repository, tmp_path / "one", num_shards=4)
    assert_same_job(tmp_path / "two", tmp_path / "one", tolerance=1e-6)


def wait_until_gone(group: int) -> bool:
    """Whether no process of a group is left after some seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(("stop", "devices"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2)])
def test_a_job_is_stopped_cleanly(stop, devices, table, repository, tmp_path):
    arguments = command(table, repository, tmp_path / "out", "--num-shards", 40, "--device", *["cpu"] * devices)
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not num_finished(tmp_path / "out"):
        time.sleep(0.05)
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # as a terminal does: the decoders get it, too
    else:
        process.send_signal(stop)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + stop
    assert "stopped: what is finished is kept" in errors
    assert "Traceback" not in errors
    assert 0 < len(read_status(tmp_path / "out").finished) < 40
    if devices == 1:
        assert not list((tmp_path / "out").glob(".part*incomplete"))
    else:
        assert wait_until_gone(process.pid)


@pytest.mark.parametrize("tries", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_sigterm_ends_a_job_from_its_first_moment(tries, table, repository, tmp_path):
    """While libraries are imported, too, where an exception may be lost or abort the process."""
    moments = random.Random(tries)
    for index in range(tries):
        arguments = command(table, repository, tmp_path / f"out{index}", "--num-shards", 40)
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(moments.uniform(0.1, 6))
        process.terminate()
        _, errors = process.communicate(timeout=20)
        # Python itself needs a moment until it can do more than the system's own answer.
        assert process.returncode in (143, -signal.SIGTERM), errors
        assert all(map(is_expected, errors.splitlines())), errors


def is_expected(line: str) -> bool:
    """Whether it is a line of a command that is stopped: ours, or a progress bar."""
    return line.startswith("hf-gar: ") or "it/s]" in line or "recordings/s]" in line or not line.strip()


def test_one_shard_alone_and_its_status(table, repository, tmp_path, run_here):
    embed_job([table], repository, tmp_path / "out", num_shards=5, shard=3)
    assert read_status(tmp_path / "out").finished == (3,)
    (tmp_path / "out" / "part-00001-of-00005.parquet").write_bytes(b"no parquet")
    code, printed, _ = run_here("status", tmp_path / "out")
    assert code == 5
    assert "shards      1 of 5 finished" in printed
    assert "damaged     1\n" in printed
    assert "missing     0-2, 4\n" in printed
    with pytest.raises(ValueError, match="shard has to be between 0 and 4"):
        embed_job([table], repository, tmp_path / "out", shard=5)
    with pytest.raises(HfGarError, match="4 of 5 shards are missing"):
        read_job(tmp_path / "out")
    embed_job([table], repository, tmp_path / "out")  # the damaged one, too
    code, printed, _ = run_here("status", tmp_path / "out")
    assert code == 0
    assert "recordings  120 done, 0 failed, of 120" in printed
    with pytest.raises(HfGarError, match="num_shards is 5 there, 4 now"):
        embed_job([table], repository, tmp_path / "out", num_shards=4)


def test_what_failed_is_tried_again_when_asked(recordings, repository, tmp_path):
    good = (recordings / "clip2.ogg").read_bytes()
    (recordings / "clip2.ogg").write_bytes(good[:1000])
    (recordings / "clip4.wav").rename(tmp_path / "away.wav")
    status = embed_job([recordings], repository, tmp_path / "out", num_shards=2)
    assert (status.done, status.failed) == (4, 2)
    assert embed_job([recordings], repository, tmp_path / "out").failed == 2  # not unasked

    (recordings / "clip2.ogg").write_bytes(good)
    status = embed_job([recordings], repository, tmp_path / "out", retry_failed=True)
    assert (status.done, status.failed) == (5, 1)
    (error,) = map(json.loads, (tmp_path / "out" / "errors.jsonl").read_text().splitlines())
    assert error["file"] == "clip4.wav"
    (tmp_path / "away.wav").rename(recordings / "clip4.wav")
    assert embed_job([recordings], repository, tmp_path / "out", retry_failed=True).failed == 0
    embed_job([recordings], repository, tmp_path / "afresh", num_shards=2)
    found, expected = read_job(tmp_path / "out"), read_job(tmp_path / "afresh")
    assert list(found.rows["file_name"]) == list(expected.rows["file_name"])
    np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-5, atol=1e-6)


def test_strict_stops_at_the_first(recordings, repository, tmp_path):
    (recordings / "bad.wav").write_text("text")
    with pytest.raises(HfGarError, match=r"bad\.wav: .*bad\.wav"):
        embed_job([recordings], repository, tmp_path / "out", strict=True)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_columns_and_their_types_are_kept(recordings, repository, tmp_path):
    import datasets

    rows = datasets.Dataset.from_dict(
        {"audio": [str(recordings / "clip0.wav")] * 3, "label": [0, 1, None], "tags": [["a"], [], ["b", "c"]]},
        features=datasets.Features(
            {
                "audio": datasets.Value("string"),
                "label": datasets.ClassLabel(names=["even", "odd"]),
                "tags": datasets.List(datasets.Value("string")),
            }
        ),
    )
    embed_job(rows, repository, tmp_path / "out")
    (path,) = (tmp_path / "out").glob("part-*")
    assert pq.read_table(path)["tags"].to_pylist() == [["a"], [], ["b", "c"]]
    loaded = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert loaded.features["label"].names == ["even", "odd"]
