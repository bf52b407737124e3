"""Libraries that only evaluation and training need, imported where they are used."""

from importlib import import_module
from typing import Any


def import_optional(module: str, extra: str = "evaluation") -> Any:
    """Import a module of an extra.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # the latter two where it is built for another PyTorch
        raise ImportError(f'{module} is missing: pip install "hf_gar[{extra}]" ({error})') from error
