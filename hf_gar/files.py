"""Write so that a file or folder appears whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from hf_gar.errors import HfGarError


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk, a missing permission and the like into one that names `path` and the remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise HfGarError(
            f"{path} could not be written: {error}\nFree space or mend the permissions there, or choose another place, "
            "and run the command again."
        ) from error


def require_new_folder(path: Path) -> None:
    """Raise a HfGarError where `path` is a file or a folder that holds something."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise HfGarError(f"{path} exists and is not an empty folder. Choose another --output, or remove it first.")


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


def write_whole_file(path: Path, content: str | bytes) -> None:
    """Write a file, of text or bytes, that replaces an older one only when it is whole."""
    with write_errors(path):
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
