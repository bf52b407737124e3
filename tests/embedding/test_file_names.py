import os

import pytest

from hf_gar.embedding.sources.file_names import escape, is_recording_name, unescape, unescape_source

CASES = [
    (b"plain.wav", "plain.wav"),
    ("café 100%.wav".encode(), "café 100%.wav"),
    (b"caf\xe9.wav", r"caf\xe9.wav"),
    (rb"back\slash.wav", r"back\slash.wav"),
    (rb"caf\xe9.wav", r"caf\x5cxe9.wav"),  # named like an escape
    (rb"a\x5cb.wav", r"a\x5cx5cb.wav"),
    (rb"\x41.wav", r"\x41.wav"),  # no escape: 41 is ASCII
    (b"\\\xe9\\xe\xff\\x5\x80.wav", r"\\xe9\xe\xff\x5\x80.wav"),
    (b"\xed\xb3\xa9.wav", r"\xed\xb3\xa9.wav"),  # half a character in UTF-8, which is none
]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_names_are_escaped_and_come_back(name, text):
    assert escape(os.fsdecode(name)) == text
    assert os.fsencode(unescape(text)) == name
    text.encode()
    assert unescape_source({"bytes": None, "path": text}) == {"bytes": None, "path": os.fsdecode(name)}
    assert unescape_source(text) == os.fsdecode(name)


def test_no_two_names_have_the_same_escape():
    pieces = [b"\\", b"x", b"\xe9", b"e9", b"5c", b"\xff", b"a", "é".encode()]
    names = {a + b + c + d for a in pieces for b in pieces for c in pieces for d in pieces}
    escaped = {escape(os.fsdecode(name)) for name in names}
    assert len(escaped) == len(names)
    assert {os.fsencode(unescape(text)) for text in escaped} == names


def test_what_is_named_like_a_recording():
    assert is_recording_name("a.WAV")
    assert not any(map(is_recording_name, [".a.wav", "._a.wav", "wav", ".wav", "a.txt", "a.wav.part"]))
