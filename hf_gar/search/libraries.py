"""Libraries of the extras that search needs, imported where they are used."""

import importlib
from types import ModuleType

from hf_gar.errors import HfGarError


def import_library(name: str, package: str = "hf_gar[search]") -> ModuleType:
    """Import an optional library, or raise a HfGarError with the command that installs it, as part of `package`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HfGarError(f'{name} is missing ({error}). Run: pip install "{package}"') from error
