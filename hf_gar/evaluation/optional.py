"""Libraries that only the evaluation needs, imported where they are used."""

from importlib import import_module
from typing import Any


def import_optional(module: str) -> Any:
    """Import a module of the extra "evaluation".

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'{module} is missing: pip install "hf_gar[evaluation]" ({error})') from error
