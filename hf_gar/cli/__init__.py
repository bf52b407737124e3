"""The command `hf-gar`: one module a command, which imports what the command needs only when it runs."""

import argparse
import contextlib
import re
from collections.abc import Sequence
from importlib.metadata import version

from hf_gar.cli import (
    app,
    card,
    cluster,
    duplicates,
    embed,
    evaluate,
    export,
    index,
    listen,
    optimize,
    prepare,
    probe,
    push,
    push_dataset,
    push_space,
    search,
    status,
    tag,
    train,
)
from hf_gar.cli import map as draw_map
from hf_gar.cli.messages import say
from hf_gar.cli.stopping import Stopped, stop_signals
from hf_gar.errors import HfGarError

COMMANDS = (
    export,
    optimize,
    push,
    embed,
    tag,
    listen,
    status,
    push_dataset,
    index,
    search,
    duplicates,
    cluster,
    draw_map,
    app,
    push_space,
    prepare,
    evaluate,
    probe,
    train,
    card,
)
FAILED = 1
EXIT_CODES = "Exit codes of every command: 0 done, 1 error, 2 wrong options, 130 stopped by Ctrl-C, 143 by SIGTERM."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: one of `EXIT_CODES`, or one that the command's help names."""
    flags: dict[str, str] = {}
    with stop_signals():
        try:
            options, flags = _parse(arguments)
            if options.quiet:
                from hf_gar.quiet import quiet_datasets

                with quiet_datasets():  # our progress is drawn by its bars, too
                    return options.run(options)
            if options.run is not status.run:
                say("loading PyTorch and its libraries ...")  # takes seconds
            return options.run(options)
        except (HfGarError, ValueError, OSError, ImportError) as error:
            say(_with_flags(str(error), flags))
            return FAILED
        except Stopped as stopped:
            say("stopped: what is finished is kept, and the same command resumes from there")
            return stopped.exit_code


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the command line, and that of each command."""
    parser = argparse.ArgumentParser(prog="hf-gar", description="General-purpose audio embeddings.", epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=version("hf_gar"))
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add_command(subparsers)
    for command_parser in subparsers.choices.values():
        command_parser.add_argument("--quiet", action="store_true", help="show no progress, only results and errors")
    _add_completion(parser)
    return parser, subparsers.choices


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, str]]:
    """The options of a command, and the flag of each."""
    parser, commands = build_parser()
    options = parser.parse_args(arguments)
    actions = commands[options.command]._actions
    return options, {action.dest: action.option_strings[-1] for action in actions if action.option_strings}


def _add_completion(parser: argparse.ArgumentParser) -> None:
    """`--print-completion SHELL`, where shtab is installed (the extra "completion")."""
    with contextlib.suppress(ImportError):
        import shtab

        shtab.add_argument_to(parser, "--print-completion")


def _with_flags(message: str, flags: dict[str, str]) -> str:
    """An error of the library, which names its parameters as `parameter`, in terms of the command's options."""
    return re.sub(r"`(\w+)`", lambda name: flags.get(name[1], name[0]), message)
