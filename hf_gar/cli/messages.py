"""What the command line says beside its results: on the standard error output."""

import sys


def say(message: str) -> None:
    """Print a line about the command."""
    print(f"hf-gar: {message}", file=sys.stderr, flush=True)
