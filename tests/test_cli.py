"""The command line as users run it: exit codes and messages, of real processes where that matters."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from hf_gar import read_job
from tests.conftest import embed_job, save_tiny


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """One model will do: what differs between the models is tested elsewhere."""
    return save_tiny("cnn14-fusion", tmp_path_factory.mktemp("repository") / "cnn14")


def hf_gar(*arguments, **options) -> subprocess.CompletedProcess:
    command = [Path(sys.executable).with_name("hf-gar"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_embed_and_its_exit_codes(recordings, repository, tmp_path, run_here):
    done = hf_gar("embed", recordings, "--model", repository, "--output", tmp_path / "all")
    assert (done.returncode, done.stdout) == (0, f"6 recordings embedded in {tmp_path / 'all'}.\n")
    assert "Embedding" in done.stderr  # the progress bar

    (recordings / "bad.wav").write_text("text")
    code, _, errors = run_here("embed", recordings, "--model", repository, "--output", tmp_path / "some")
    assert code == 3
    assert "1 could not be embedded: see" in errors

    code, _, _ = run_here("embed", recordings / "bad.wav", "--model", repository, "--output", tmp_path / "none")
    assert code == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "gone", "--model", "REPOSITORY", "--output", "OUT"], "gone: there is no such file or folder"),
        (["embed", "RECORDINGS", "--model", "gone", "--output", "OUT"], "gone: there is no such folder"),
        (["embed", "RECORDINGS", "--model", "REPOSITORY", "--output", "RECORDINGS"], "something other than a job"),
        (
            ["embed", "RECORDINGS", "--model", "REPOSITORY", "--output", "OUT", "--fusion-layers", "99"],
            "unknown layers [99]; valid layers are",
        ),
        (
            ["embed", "RECORDINGS", "--model", "REPOSITORY", "--output", "OUT", "--max-length", "298"],
            "is a cnn14-fusion, whose configuration has no max_length",
        ),
        (["export", "cnn14-fusion", "--checkpoint", "gone.pth", "--output", "OUT"], "gone.pth: there is no such"),
        (
            ["export", "ast-fusion", "--checkpoint", "org/ast-10-10-0.4593", "--output", "OUT"],
            "org/ast-10-10-0.4593 (main; there is no such folder here): the Hub could not be reached",
        ),
        (["export", "cnn14-fusion", "--checkpoint", "gone.pth", "--output", "RECORDINGS"], "not an empty folder"),
        (
            ["embed", "RECORDINGS", "--model", "REPOSITORY", "--output", "/sys/a"],
            "/sys/a/job.json could not be written",
        ),
    ],
)
def test_mistakes_are_named(arguments, message, recordings, repository, tmp_path, run_here, monkeypatch):
    names = {"RECORDINGS": recordings, "REPOSITORY": repository, "OUT": tmp_path / "out"}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _, errors = run_here(*(names.get(argument, argument) for argument in arguments))
    assert code == 1
    assert "hf-gar: " in errors
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("embed a --model m --output o --num-shards 0", "--num-shards: expected a whole number of 1 or more, not '0'"),
        ("embed a --model m --output o --shard -1", "--shard: expected a whole number of 0 or more, not '-1'"),
        ("embed a --model m --output o --workers two", "--workers: expected a whole number of 0 or more, not 'two'"),
        ("embed a --model m --output o --batch-size 0", "--batch-size: expected a whole number of 1 or more, not '0'"),
        ("embed a --model m --output o --num-shards 4 --shard 4", "--shard counts from 0: it is at most 3, not 4"),
        (
            "embed a --model m --output o --address here",
            "--address, --ray-workers and --gpus-per-worker go with --engine ray",
        ),
        ("evaluate --model m --data d --output o --seconds 0", "--seconds: expected a number above 0, not '0'"),
        ("evaluate --model m --data d --output o --lr fast", "--lr: expected a number above 0, not 'fast'"),
        ("probe --model m --data d --output o --lr nan", "--lr: expected a number above 0, not 'nan'"),
        ("train --data d --output o --reject 1", "--reject: expected a number from 0 to below 1, not '1'"),
        ("train --data d --output o --reject -1", "--reject: expected a number of 0 or more, not '-1'"),
        ("train --data d --output o --search --unfused", "--search chooses the layers itself: leave --fusion-layers"),
        ("train --data d --output o --epochs 3", "--epochs and --fine-tune-lr go with --fine-tune"),
        ("train --data d --output o --fine-tune --fine-tune-lr 0", "--fine-tune-lr: expected a number above 0, not"),
        ("map d --max-points 1", "--max-points: expected a whole number of 2 or more, not '1'"),
        ("tag a --output o --threshold 1.5", "--threshold: expected a number from 0 to 1, not '1.5'"),
        ("tag a --output o --threshold nan", "--threshold: expected a number from 0 to 1, not 'nan'"),
        ("tag a --output o --top-k 0", "--top-k: expected a whole number of 1 or more, not '0'"),
        ("tag a --output o --window-s 0 --timestamps", "--window-s: expected a number above 0, not '0'"),
        ("tag a --output o --hop-s 1", "--window-s, --hop-s and --audacity need --timestamps"),
        ("tag a --output o --top-k 2 --timestamps", "--top-k cannot be used with --timestamps"),
    ],
)
def test_wrong_options_show_before_anything_is_loaded(arguments, message):
    code = f"""
import sys
from hf_gar.cli import main
try:
    exit_code = main({arguments.split()!r})
except SystemExit as error:
    exit_code = error.code
print(exit_code, "torch" in sys.modules, "datasets" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout in ("1 False False\n", "2 False False\n")
    assert message in done.stderr


def test_status_imports_no_torch_and_speaks_json(recordings, repository, tmp_path):
    embed_job([recordings], repository, tmp_path / "job", num_shards=2)
    code = f"""
import sys
from hf_gar.cli import main
main(["status", {str(tmp_path / "job")!r}, "--json"])
print("torch" in sys.modules, "datasets" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False False\n"
    status = json.loads(done.stdout)
    assert (status["done"], status["failed"], status["finished"], status["missing"]) == (6, 0, [0, 1], [])
    assert status["job"]["num_shards"] == 2


def test_a_job_says_how_far_it_is(recordings, repository, tmp_path, run_here):
    command = ["embed", recordings, "--model", repository, "--output", tmp_path / "job", "--num-shards", 3]
    code, _, errors = run_here(*command, "--shard", 1)
    assert code == 0, errors
    assert "hf-gar: 6 recordings in 3 shards; shard 1 alone" in errors
    assert "hf-gar: 6 recordings in 3 shards; 1 of 3 are done, resuming" in run_here(*command)[2]
    _, _, errors = run_here(*command)
    assert "hf-gar: 6 recordings in 3 shards; all are done" in errors
    assert "Embedding" not in errors


def test_quiet_says_results_alone(recordings, repository, tmp_path):
    done = hf_gar("embed", recordings, "--model", repository, "--output", tmp_path / "out", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"6 recordings embedded in {tmp_path / 'out'}.\n"


def test_completion_for_shells():
    done = hf_gar("--print-completion", "bash")
    assert done.returncode == 0
    assert "--num-shards" in done.stdout


def test_files_listed_on_standard_input(recordings, repository, tmp_path):
    name = os.fsencode(recordings) + b"/caf\xe9.wav"
    shutil.copyfile(recordings / "clip0.wav", name)
    listed = b"\0".join([os.fsencode(recordings / "clip1.flac"), name, b"gone.wav", b""])
    arguments = ["embed", "-", "--model", repository, "--output", tmp_path / "out"]
    command = [Path(sys.executable).with_name("hf-gar"), *map(str, arguments)]
    done = subprocess.run(command, input=listed, capture_output=True, check=False)
    assert done.returncode == 3, done.stderr
    assert list(read_job(tmp_path / "out").rows["file_name"]) == [
        str(recordings / "clip1.flac"),
        str(recordings / r"caf\xe9.wav"),
    ]


def test_a_limit(recordings, repository, tmp_path, run_here):
    command = ["embed", recordings, "--model", repository, "--output", tmp_path / "out"]
    assert run_here(*command, "--limit", 2)[:2] == (0, f"2 recordings embedded in {tmp_path / 'out'}.\n")
    assert list(read_job(tmp_path / "out").rows["file_name"]) == ["clip0.wav", "clip1.flac"]
    assert run_here(*command)[0] == 1  # another job


def test_help_is_quick_and_imports_no_torch():
    code = """
import sys
from hf_gar.cli import main
try:
    main(["--help"])
except SystemExit:
    print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_a_repositorys_code_is_not_run(recordings, repository, tmp_path, run_here):
    evil = tmp_path / "evil"
    shutil.copytree(repository, evil)
    for path in evil.glob("*.py"):
        path.write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\n")
    assert run_here("embed", recordings, "--model", evil, "--output", tmp_path / "out")[0] == 0
    assert not (tmp_path / "trace").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_stops_a_job_cleanly_and_it_completes_later(recordings, repository, small_disk, run_here):
    ballast = small_disk / "ballast"
    output = small_disk / "out"
    ballast.write_bytes(os.urandom(4 * 1024 * 1024 - 4 * 1024))  # what is left takes job.json
    command = ["embed", recordings, "--model", repository, "--output", output]
    done = hf_gar(*command)
    assert done.returncode == 1
    assert "part-00000-of-00001.parquet could not be written" in done.stderr
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(output.glob("part-*"))
    ballast.unlink()
    assert run_here(*command)[0] == 0
    assert len(list(output.glob("part-*"))) == 1


def test_a_full_disk_leaves_no_half_written_repository(official_files, small_disk, run_here):
    checkpoint = official_files("cnn14")
    code, _, errors = run_here("export", "cnn14-fusion", "--checkpoint", checkpoint, "--output", small_disk / "out")
    assert code == 1
    assert "out could not be written" in errors
    assert not list(small_disk.iterdir())
