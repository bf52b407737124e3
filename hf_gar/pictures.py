"""What all pictures share: the file, and text that is drawn as it is written."""

import contextlib
import io
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.utils import tqdm

from hf_gar.files import write_whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontEntry

DOTS_PER_INCH = 150
NO_TEXT = {"Cc", "Cs"}  # Unicode's categories of control characters and halves of characters
BOXES = "Last Resort High-Efficiency"  # matplotlib's font that has a box for every character


@contextlib.contextmanager
def new_picture(path: Path, width: float, height: float, **options) -> Iterator["Figure"]:
    """A figure of `width` by `height` inches, needing no display, that is written as a PNG when the block ends well.

    Args:
        path: The file, which replaces an older one when it is whole.
        width: Before what is empty around the figure is cut off.
        height: Likewise.
        options: More arguments of matplotlib's `Figure`.

    Raises:
        HfGarError: The file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # Text is not a formula, whatever the user's own settings are.
    plain_text = matplotlib.rc_context({"text.parse_math": False, "text.usetex": False})
    with plain_text, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # told below, once
        figure = Figure(figsize=(width, height), **options)
        yield figure
        _choose_fonts(figure, path)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    write_whole_file(path, buffer.getvalue())


def shorten(text: str, length: int) -> str:
    """A text as one line of at most `length` characters, the middle left out: paths differ at their end."""
    text = "".join(" " if unicodedata.category(character) in NO_TEXT else character for character in text)
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    return text[: length // 3] + "…" + text[len(text) - (length - length // 3 - 1) :]


def _choose_fonts(figure: "Figure", path: Path) -> None:
    """Give texts whose characters the usual font lacks the installed fonts that have them."""
    from matplotlib import font_manager, rcParams
    from matplotlib.text import Text

    texts = [found for found in figure.findobj(Text) if isinstance(found, Text)]
    missing = {character for text in texts for character in text.get_text() if character.isprintable()}
    missing -= _characters(font_manager.findfont(font_manager.FontProperties()))
    regular = {font.name: font.fname for font in font_manager.fontManager.ttflist if _is_regular(font)}
    families = []
    for family in sorted(regular) if missing else ():
        if found := missing & _characters(regular[family]):
            families.append(family)
            missing -= found
    for text in texts if families else ():
        text.set_fontfamily([*rcParams["font.family"], *families])
    if missing:
        some = " ".join(sorted(missing)[:10])
        tqdm.write(
            f"hf-gar: no font on this machine has these characters, drawn as boxes in {path}: {some}. Install a font "
            "that has them, such as Noto Sans.",
            file=sys.stderr,
        )


def _is_regular(font: "FontEntry") -> bool:
    return font.style == "normal" and font.weight == 400 and font.name != BOXES


def _characters(font_file: str) -> set[str]:
    """The characters that a font has; none where its file cannot be read."""
    from matplotlib import font_manager

    with contextlib.suppress(OSError, RuntimeError):
        return set(map(chr, font_manager.get_font(font_file).get_charmap()))
    return set()
