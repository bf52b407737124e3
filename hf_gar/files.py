"""Write so that a file or folder appears whole or not at all."""

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from hf_gar.errors import HfGarError

# How the temporary files are called that a process leaves which is killed.
INCOMPLETE = ".incomplete"


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk, a missing permission and the like into one that names `path` and the remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise HfGarError(
            f"{path} could not be written: {error}\nFree space or fix the permissions there, or choose another place, "
            "and run the command again."
        ) from error


def require_new_folder(path: Path) -> None:
    """Raise a HfGarError where `path` is a file or a folder that holds something."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise HfGarError(f"{path} exists and is not an empty folder. Choose another `output`, or remove it first.")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        HfGarError: `path` holds something already, or cannot be written.
    """
    require_new_folder(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_incomplete(path: Path) -> None:
    """Remove what a killed process left of `path`; no other process may be writing it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}-*{INCOMPLETE}"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_when_whole(path: Path) -> Iterator[Path]:
    """A temporary path whose file becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        HfGarError: It cannot be written.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=INCOMPLETE, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_new_file(path: Path, content: str) -> None:
    """Write a text file that appears whole, unless there is one: of several processes, the first one's stays."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=INCOMPLETE, dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
            temporary.chmod(0o644)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)  # unlike a replacement, fails where there is one
        finally:
            temporary.unlink(missing_ok=True)


def write_whole_file(path: Path, content: str | bytes) -> None:
    """Write a file, as text in UTF-8 or as bytes, that replaces an older one only when it is whole."""
    with replace_when_whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
