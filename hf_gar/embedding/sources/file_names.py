r"""How files are named: which names are recordings', and any name as text.

Names of files are bytes. Where they are stored as text (in a dataset, a table, Parquet, JSON), a byte that is not UTF-8
stands there as `\xNN`, as in Python: the Latin-1 name of café.wav is `caf\xe9.wav`. A backslash that would be read as
the beginning of such an escape stands there as `\x5c`. All other names stand there as they are.
"""

import os
import re
from typing import Any

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".m4a", ".aac", ".mp4", ".m4b", ".mka", ".mkv", ".webm", ".wma", ".amr", ".3gp", ".ac3", ".mp2",
})
# fmt: on
ESCAPE = re.compile(r"\\x([89a-f][0-9a-f]|5c)")
UNDECODABLE = re.compile("[\udc80-\udcff]")  # what Python makes of a byte that is not UTF-8 (PEP 383)
# Names on Windows are Unicode, and their backslashes separate folders.
HAS_BYTES = os.name != "nt"


def is_recording_name(name: str) -> bool:
    """Whether a file of this name, without its folder, is taken for a recording: by its suffix, unless it is hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122


def escape(name: str) -> str:
    """A file name as the text that it is stored as; `name` is as Python's functions for files give and take it."""
    if HAS_BYTES:
        name = ESCAPE.sub(lambda found: "\\x5c" + found[0][1:], name)
        name = UNDECODABLE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", name)
    return name.encode(errors="backslashreplace").decode()  # other halves of characters are no names of files


def unescape(text: str) -> str:
    """The file name of which `escape` makes this text."""
    return ESCAPE.sub(_unescape_byte, text) if HAS_BYTES else text


def unescape_source(source: Any) -> Any:
    """A recording as a dataset holds it, with its path, if it has one, as Python's functions for files take it."""
    if isinstance(source, str):
        return unescape(source)
    if isinstance(source, dict) and isinstance(source.get("path"), str):
        return {**source, "path": unescape(source["path"])}
    return source


def _unescape_byte(escaped: re.Match[str]) -> str:
    byte = int(escaped[1], 16)
    return chr(byte if byte < 0x80 else 0xDC00 + byte)
