"""What the command line says: results for programs, and on the standard error output what is beside the results."""

import json
import math
import sys
from typing import Any


def say(message: str) -> None:
    """Print a line about the command."""
    print(f"hf-gar: {message}", file=sys.stderr, flush=True)


def print_json(result: dict[str, Any]) -> None:
    """Print a result as a line of JSON. NaN and infinities, which JSON does not have, are null."""
    print(json.dumps(_finite(result), ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
