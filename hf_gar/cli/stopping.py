"""Ctrl-C, and the SIGTERM of schedulers, end a command reliably from its first moment."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# An exit code of a process that a signal ended is this and the signal's number: 130 for Ctrl-C, 143 for SIGTERM.
SIGNALLED = 128
# After so long a command ends whatever it is doing: an exception may be lost in code that cannot raise it.
LONGEST_CLEANUP_S = 15.0


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, number: int):
        super().__init__()
        self.exit_code = SIGNALLED + number


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Raise `Stopped` at the first of the signals while the block runs, and end at once at the second."""
    is_stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        # Nothing is begun that has to be cleaned up while libraries are imported, and an exception that is raised there
        # may be lost, or abort the process.
        if is_stopping or _is_importing(frame):
            os._exit(SIGNALLED + number)
        is_stopping = True
        threading.Thread(target=_exit_late, args=(SIGNALLED + number,), daemon=True).start()
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _exit_late(exit_code: int) -> None:
    time.sleep(LONGEST_CLEANUP_S)
    os._exit(exit_code)
