"""The pages of the documentation that are made from other files, as a hook of MkDocs.

The front page is the README; changes and contributing are the files of these names; the reference of the command line
is what its parser knows.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # of the sources, not of an installed hf_gar

from hf_gar.cli import build_parser  # noqa: E402

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "hf_gar/tiny/cnn14-fusion-tiny/README.md": "reference/cnn14-fusion-tiny.md",
}
COMMANDS = "reference/command-line.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages; MkDocs calls this once a build."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_relink(text)))
    files.append(File.generated(config, COMMANDS, content=_command_line()))
    return files


def _relink(text: str) -> str:
    """A file of the root with its links as they are from the folder docs/."""
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return re.sub(r'(\]\(|src="|srcset=")docs/', r"\1", text)


def _command_line() -> str:
    """All commands, as Markdown."""
    parser, commands = build_parser()
    listed = "\n".join(f"- [`hf-gar {name}`](#hf-gar-{name})" for name in commands)
    sections = "\n".join(_section(name, command) for name, command in commands.items())
    return (
        "# Command line\n\n`hf-gar COMMAND --help` prints the same in a terminal, and `hf-gar --help` a line on each "
        f"command.\n\n{listed}\n\n{parser.epilog}\n\n{sections}"
    )


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    """One command, as Markdown: its usage, and a table of its arguments and options."""
    usage = parser.format_usage().removeprefix("usage: ").strip()
    parts = [f"## hf-gar {name}", parser.description, f"```text\n{usage}\n```"]
    for group in parser._action_groups:
        rows = [_row(parser, action) for action in group._group_actions if action.dest != "help"]
        if rows:
            parts.append(f"| {group.title} | |\n| --- | --- |\n" + "\n".join(rows))
    return "\n\n".join(filter(None, [*parts, parser.epilog])) + "\n"


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """An argument or option, as a row of a table."""
    formatter = parser._get_formatter()
    text = formatter._expand_help(action) if action.help else ""
    name = formatter._format_action_invocation(action)
    return f"| `{name}` | " + re.sub(r"([|<*_\[])", r"\\\1", " ".join(text.split())) + " |"
