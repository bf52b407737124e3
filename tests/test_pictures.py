import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from hf_gar import HfGarError
from hf_gar.pictures import new_picture, shorten

ODD = ["$\\frac{$", "$x^2$", "two\nlines", "bell\x07 and \x1b[31m\x00", "_under", "\\", "%", "half \ud800", "x" * 500]


def draw(path: Path, *texts: str) -> np.ndarray:
    with new_picture(path, 3, 3) as figure:
        for index, text in enumerate(texts):
            figure.text(0.05, 0.9 - 0.1 * index, shorten(text, 32))
    return np.asarray(Image.open(path).convert("L"))


def characters(family: str) -> set[str]:
    file = font_manager.findfont(font_manager.FontProperties(family=family))
    return {chr(code) for code in font_manager.get_font(file).get_charmap()}


@pytest.mark.parametrize("text", ODD)
def test_any_text_is_drawn(text, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(tmp_path / "a.png", text).min() < 100
    assert capsys.readouterr().err == ""


def test_text_is_no_formula_whatever_the_settings_are(tmp_path):
    before = draw(tmp_path / "a.png", "$x^2$")
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True}):
        np.testing.assert_array_equal(draw(tmp_path / "b.png", "$x^2$"), before)
        assert matplotlib.rcParams["text.usetex"]  # the settings come back
    assert not np.array_equal(before, draw(tmp_path / "c.png", "$x2$"))  # the ^ is there


def test_another_font_has_what_the_usual_one_lacks(tmp_path, capsys):
    character = min(characters("STIXGeneral") - characters("DejaVu Sans"))
    draw(tmp_path / "a.png", character)
    assert capsys.readouterr().err == ""


def test_characters_that_no_font_has_are_told_once(tmp_path, capsys):
    draw(tmp_path / "a.png", "\U00012000 \U00012001", "\U00012000")  # cuneiform
    told = capsys.readouterr().err
    assert "no font on this machine has these characters" in told
    assert told.count("\U00012000") == 1
    assert "\U00012001" in told
    assert "a.png" in told


def test_a_block_that_fails_leaves_the_older_picture(tmp_path):
    path = tmp_path / "a.png"
    draw(path, "old")
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="stop"), new_picture(path, 2, 2):
        raise RuntimeError("stop")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HfGarError, match=r"file.a\.png could not be written"):
        draw(tmp_path / "file" / "a.png", "text")


def test_long_texts_lose_their_middle():
    assert shorten("a" * 50 + "b" * 50, 10) == "aaa…bbbbbb"
    assert shorten(" a\n\tb\x00c ", 10) == "a b c"
