"""Read a checkpoint file without running anything that is in it, and rename its weights strictly."""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hf_gar.errors import HfGarError

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".zip", ".safetensors")
# What PyTorch has to know to read the training sampler's NumPy values in PANNs' files. Which module makes them depends
# on the NumPy that wrote the file.
NUMPY_GLOBALS: list[Any] = [
    *((np.empty(0).__reduce__()[0], f"{module}.multiarray._reconstruct") for module in ("numpy.core", "numpy._core")),
    *((np.float64(0).__reduce__()[0], f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")},
]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model repository.

    Raises:
        HfGarError: The file is missing, cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HfGarError(f"{path} cannot be read: {error}. Export or download the repository again.") from error
    if not isinstance(content, dict):
        raise HfGarError(
            f"{path} is not a configuration: it holds a {type(content).__name__}, expected an object. Export or "
            "download the repository again."
        )
    return content


def read_state_dict(path: Path, entry: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors` file, or of a PyTorch checkpoint (zipped or not), never unpickled freely.

    Args:
        path: The file.
        entry: The entry that holds the weights, where the checkpoint has one of that name.

    Raises:
        HfGarError: The file is missing, damaged, holds more than weights, or a weight is not finite.
    """
    if not path.is_file():
        raise HfGarError(
            f"{path}: there is no such checkpoint file. Check the path; where there is an official file, `checkpoint` "
            "'official' downloads it."
        )
    try:
        if path.suffix == ".safetensors":
            checkpoint: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(NUMPY_GLOBALS):
                checkpoint = torch.load(_unzipped(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it would run {foreign[1]} when loaded" if foreign else "it is damaged, or no PyTorch checkpoint"
        raise HfGarError(
            f"{path} was refused: {reason}. Nothing of it was run. Get the file from its publisher."
        ) from None
    except (SafetensorError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise HfGarError(f"{path} cannot be read as a checkpoint, it may be damaged or cut short: {error}") from error
    state_dict = checkpoint.get(entry, checkpoint) if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(state_dict, dict) or not all(isinstance(value, torch.Tensor) for value in state_dict.values()):
        raise HfGarError(f"{path} is not a checkpoint: expected a dictionary of tensors.")
    for key, value in state_dict.items():
        if not value.isfinite().all():
            raise HfGarError(f"{path}: the weight {key} has values that are NaN or infinite. Get the file again.")
    return state_dict


def _unzipped(path: Path) -> Path | io.BytesIO:
    """The checkpoint in a `.zip`, where it is one; PyTorch's own format is a zip too, but is not called that."""
    if path.suffix != ".zip":
        return path
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith((".pth", ".pt"))]
        if len(names) != 1:
            raise HfGarError(f"{path} holds {len(names)} checkpoints (.pth), expected one.")
        return io.BytesIO(archive.read(names[0]))


def rename_weights(
    state_dict: dict[str, torch.Tensor], names: dict[str, str], ignored: Iterable[str], path: Path, network: str
) -> dict[str, torch.Tensor]:
    """Rename a checkpoint's weights, all of them accounted for.

    Args:
        state_dict: The checkpoint's weights.
        names: Their name there -> our name; every one has to be there.
        ignored: The beginnings of names that we have no use for.
        path: The checkpoint, for error messages.
        network: The network that is expected, for error messages.

    Raises:
        HfGarError: A weight is missing or unexpected.
    """
    ignored = tuple(ignored)
    missing = [key for key in names if key not in state_dict]
    unexpected = [key for key in state_dict if key not in names and not key.startswith(ignored)]
    if len(missing) == len(names):
        raise HfGarError(
            f"{path} is not a checkpoint of {network}: it has none of its weights. It has "
            f"{', '.join(list(state_dict)[:3])} ..., expected {', '.join(list(names)[:3])} ..."
        )
    if missing or unexpected:
        raise HfGarError(
            f"{path} is not a complete checkpoint of {network}. Missing weights: {', '.join(missing) or 'none'}. "
            f"Unexpected weights: {', '.join(unexpected) or 'none'}."
        )
    return {ours: state_dict[theirs] for theirs, ours in names.items()}
