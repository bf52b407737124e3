"""The command `hf-gar`: one module a command, which imports what the command needs only when it runs."""

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from hf_gar.cli import card, embed, evaluate, export, prepare, probe, push, push_dataset, status
from hf_gar.cli import map as draw_map
from hf_gar.errors import HfGarError

COMMANDS = (export, push, embed, status, push_dataset, draw_map, prepare, evaluate, probe, card)
FAILED = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for an error, or one that the command's help names."""
    parser = argparse.ArgumentParser(prog="hf-gar", description="General-purpose audio embeddings.")
    parser.add_argument("--version", action="version", version=version("hf_gar"))
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_command(subparsers)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # what schedulers send ends a command as cleanly as Ctrl-C
    try:
        return options.run(options)
    except (HfGarError, ValueError, OSError, ImportError) as error:
        print(f"hf-gar: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("hf-gar: interrupted; what is finished stays, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
