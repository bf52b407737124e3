"""Keep libraries quiet where hf_gar says itself what happens."""

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator

import datasets
from transformers.utils import logging as transformers_logging

LIBRARIES = ("transformers", "huggingface_hub")


class _Quiet:
    """What the user has set, while blocks are under way; they may overlap, in several threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0
        self.before = contextlib.ExitStack()

    def begin(self) -> None:
        with self.lock:
            self.blocks += 1
            if self.blocks > 1:
                return
            for logger in map(logging.getLogger, LIBRARIES):
                self.before.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.CRITICAL)
            # The public functions for this switch the Hub's progress bars, too, and those of downloads are to be seen.
            shown = transformers_logging.is_progress_bar_enabled()
            self.before.callback(setattr, transformers_logging, "_tqdm_active", shown)
            transformers_logging._tqdm_active = False

    def end(self) -> None:
        with self.lock:
            self.blocks -= 1
            if self.blocks == 0:
                self.before.close()


_quiet = _Quiet()


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within the block, transformers and the Hub's client log no warnings, and transformers draws no progress bars.

    What a user has set of them is as it was after the block.
    """
    _quiet.begin()
    try:
        yield
    finally:
        _quiet.end()


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Within the block, `datasets` draws no progress bars: where it reads what is on this machine already."""
    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """Within the block, nothing below an error is logged, nor printed, as what exports and quantises networks does."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def without_usage_data() -> Iterator[None]:
    """Within the block, OpenVINO, NNCF and ONNX Runtime are imported so that they send no usage data to their makers.

    The first two send some when they are imported, from a forked process, which may hang and outlive this one.
    """
    package, variable = "openvino_telemetry", "ORT_DISABLE_TELEMETRY"
    with contextlib.ExitStack() as before:
        if package not in sys.modules:
            sys.modules[package] = None  # type: ignore[assignment]  # which marks what is not installed
            before.callback(sys.modules.pop, package)
        if variable not in os.environ:
            os.environ[variable] = "1"
            before.callback(os.environ.pop, variable)
        yield
