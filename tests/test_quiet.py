"""What the libraries would print is not printed, and what a user has set of them is restored."""

import contextlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from transformers.utils import logging as transformers_logging

from hf_gar.quiet import quiet_libraries


@pytest.fixture(params=[logging.DEBUG, logging.ERROR])
def level(request):
    """A user's own level of the libraries' messages."""
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(request.param)
    yield request.param
    for logger, old in zip(loggers, before, strict=True):
        logger.setLevel(old)


@pytest.fixture(params=[True, False])
def bars(request, monkeypatch):
    monkeypatch.setattr(transformers_logging, "_tqdm_active", request.param)
    return request.param


def state():
    levels = [logging.getLogger(name).level for name in ("transformers", "huggingface_hub")]
    return *levels, transformers_logging.is_progress_bar_enabled()


def test_what_a_user_has_set_is_restored(level, bars):
    with contextlib.suppress(KeyError), quiet_libraries():
        assert not logging.getLogger("huggingface_hub.file_download").isEnabledFor(logging.ERROR)
        assert not logging.getLogger("transformers.modeling_utils").isEnabledFor(logging.WARNING)
        with quiet_libraries():
            assert state() == (logging.CRITICAL, logging.CRITICAL, False)
        assert state() == (logging.CRITICAL, logging.CRITICAL, False)
        raise KeyError
    assert state() == (level, level, bars)


def test_blocks_of_several_threads_overlap(level, bars):
    begun, may_end = threading.Event(), threading.Event()

    def block():
        with quiet_libraries():
            begun.set()
            may_end.wait(10)

    thread = threading.Thread(target=block)
    with quiet_libraries():
        thread.start()
        assert begun.wait(10)
    assert state() == (logging.CRITICAL, logging.CRITICAL, False)  # the other thread's has not ended
    may_end.set()
    thread.join()
    assert state() == (level, level, bars)


def output_of(code: str, *arguments, **environment) -> str:
    """What a Python process prints, on both streams, with the libraries' own settings."""
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**kept, **environment},
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def test_exporting_and_loading_print_nothing_of_the_libraries(official_files, tmp_path):
    code = """
import sys
from pathlib import Path
from safetensors.torch import load_file, save_file
from hf_gar import HfGarError
from hf_gar.hub.export import export_repository
from hf_gar.hub.load import find_repository

checkpoint, output = sys.argv[1:]
export_repository("vggish-fusion", checkpoint, output, fusion_layers=[1, 4])
find_repository(output).load_model()
file = Path(output) / "model.safetensors"
weights = load_file(file)
del weights["convolutions.1.bias"]
save_file(weights, file, {"format": "pt"})
try:
    find_repository(output).load_model()
except HfGarError as error:
    print(error)
"""
    printed = output_of(code, official_files("vggish"), tmp_path / "out")
    assert len(printed.splitlines()) == 1
    assert "1 missing (convolutions.1.bias)" in printed


def test_an_unreachable_server_is_told_once(tmp_path):
    code = """
from dataclasses import replace
from pathlib import Path
import sys
import time
from hf_gar import HfGarError
from hf_gar.checkpoints.download import download, fetch_from_hub
from hf_gar.registry import MODELS

time.sleep = lambda seconds: None  # between the attempts
source = replace(MODELS["vggish-fusion"].official_checkpoint(), url="http://127.0.0.1:9/file.pth")
for fetch in (lambda: download(source, Path(sys.argv[1])), lambda: fetch_from_hub("org/model", ["*"])):
    try:
        fetch()
    except HfGarError as error:
        print(str(error).splitlines()[0])
"""
    printed = output_of(code, tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "home"))
    first, second = printed.splitlines()
    assert first.startswith("http://127.0.0.1:9/file.pth could not be downloaded")
    assert second.startswith("org/model (main; there is no such folder here): the Hub could not be reached")
