"""Damage that decoders pass over: Ogg, FLAC and MP3 files are checked before they are decoded."""

import contextlib
import os
import re
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

# Ogg (RFC 3533, section 6).
OGG_HEADER = 27
OGG_FIRST, OGG_LAST = 2, 4
# A CRC that takes the highest bit first is zlib's, which takes the lowest first, with the bits of each byte reversed.
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

# A second FLAC stream: its marker and the header of its first metadata block, which has 34 bytes.
FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
SEARCHED_AT_ONCE = 1 << 20  # bytes

# MPEG audio (ISO 11172-3 and 13818-3): kbit/s by version (1, or 2 and 2.5) and layer, Hz by version.
MP3_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by the version's bits
XING = (b"Xing", b"Info")
STDERR = 2
_STDERR = threading.Lock()
MPG123_ERROR = re.compile(rb"^\[src/libmpg123/.*error: (.*?)\s*$")
MPG123_MESSAGE = re.compile(rb"^(\[src/libmpg123/|Note: |Warning: |\s*$)")
LARGEST_MP3_FRAME = 4096  # bytes, with the header that follows; a little more than there are


class DamageError(ValueError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


def check_structure(file: BinaryIO) -> int | None:
    """Check that an Ogg, FLAC or MP3 file is whole and holds one recording.

    Args:
        file: At its beginning; it is read to its end where it has one of these formats, in bounded memory.

    Returns:
        Of an MP3, the number of samples in its frames, the encoder's padding included; None for other formats.

    Raises:
        DamageError: It is damaged, or holds several recordings, of which a decoder would give the first alone.
    """
    start = _skip_id3(file)
    head = file.read(4)
    file.seek(start)
    if head == b"OggS":
        _check_ogg(file)
    elif head == b"fLaC":
        _check_flac(file)
    elif _Mp3Header.parse(head):
        return _check_mp3(file)
    return None


def _check_ogg(file: BinaryIO) -> None:
    pages: dict[int, int] = {}  # the number of each stream's last page
    open_streams: set[int] = set()
    has_content = False
    position = 0
    while header := file.read(OGG_HEADER):
        if not header.startswith(b"OggS"):
            break  # whatever follows the end
        sizes = file.read(header[-1]) if len(header) == OGG_HEADER else b""
        body = file.read(sum(sizes))
        if len(header) < OGG_HEADER or len(sizes) < header[-1] or len(body) < sum(sizes):
            raise DamageError("is cut short: its last Ogg page is not whole")
        checksum = int.from_bytes(header[22:26], "little")
        if _ogg_checksum(header[:22] + bytes(4) + header[26:] + sizes + body) != checksum:
            raise DamageError(f"is damaged: the Ogg page at byte {position} has a wrong checksum")
        kind, stream = header[5], int.from_bytes(header[14:18], "little")
        number = int.from_bytes(header[18:22], "little")
        if kind & OGG_FIRST:
            if has_content:
                raise DamageError("holds several recordings one after another (chained Ogg streams)")
            open_streams.add(stream)
        elif stream not in open_streams or number != pages[stream] + 1:
            raise DamageError(f"is damaged: the Ogg page at byte {position} does not follow the one before it")
        has_content |= not kind & OGG_FIRST
        pages[stream] = number
        if kind & OGG_LAST:
            open_streams.discard(stream)
        position += len(header) + len(sizes) + len(body)
    if open_streams:
        raise DamageError("is cut short: its Ogg stream has no end")


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 with the polynomial 0x04C11DB7, the highest bit first, from 0 and not inverted."""
    reversed_checksum = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_checksum:032b}"[::-1], 2)


def _check_flac(file: BinaryIO) -> None:
    """The decoder checks each frame; it ends with the first stream."""
    file.read(4)
    before = b""
    while block := file.read(SEARCHED_AT_ONCE):
        if any(start in before + block for start in FLAC_STARTS):
            raise DamageError("holds several recordings one after another (joined FLAC files)")
        before = block[1 - len(FLAC_STARTS[0]) :]


class _Mp3Header(NamedTuple):
    """The header of an MPEG audio frame."""

    kind: tuple[int, int, int, bool]  # the version's bits, layer, sampling rate and whether it is mono, all the same
    size: int  # of the frame, in bytes
    num_samples: int
    info_offset: int  # where a Xing header would stand

    @classmethod
    def parse(cls, header: bytes) -> "_Mp3Header | None":
        """The header that 4 bytes are; None where they are none, or of a bit rate that is not told."""
        if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
            return None
        version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
        bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
        if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
            return None
        bits_per_second = 1000 * MP3_BITRATES[1 if version == 3 else 2, layer][bit_rate - 1]
        hertz, is_mono = MP3_RATES[version][rate], header[3] >> 6 == 3
        if layer == 1:
            size = 4 * (12 * bits_per_second // hertz + padding)
        else:
            size = (72 if layer == 3 and version != 3 else 144) * bits_per_second // hertz + padding
        num_samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
        side_info = (17 if is_mono else 32) if version == 3 else (9 if is_mono else 17)
        return cls((version, layer, hertz, is_mono), size, num_samples, 4 + side_info)


def _check_mp3(file: BinaryIO) -> int:
    """The number of samples; each frame has to follow the one before, since none has a checksum."""
    first = None
    expected = None  # the number of frames that the file says it has, where it does
    frames = 0
    for position, header, frame in _mp3_frames(file):
        first = first or header
        if header.kind != first.kind:
            raise DamageError(f"changes its sampling rate, channels or MPEG layer at byte {position}")
        if frame[header.info_offset :][:4] in XING:
            if frames or expected is not None:
                raise DamageError("holds several recordings one after another (joined MP3 files)")
            expected = _xing_frames(frame[header.info_offset :])
        elif len(frame) == header.size:
            frames += 1
        elif frames != expected:
            raise DamageError("is cut short: its last MPEG frame is not whole")
    assert first is not None  # or it would not be an MP3
    end = file.tell()
    following = _find_mp3_frame(file, first)
    if following is not None:
        raise DamageError(f"is damaged from byte {end} to {following}, where no MPEG frames are")
    if expected is not None and frames != expected:
        what = "is cut short" if frames < expected else "is damaged"
        raise DamageError(f"{what}: its header says {expected} MPEG frames, but {frames} are there")
    return frames * first.num_samples


def _mp3_frames(file: BinaryIO) -> Iterator[tuple[int, _Mp3Header, bytes]]:
    """The frames that follow each other, each with its position; then the file is where they end."""
    while True:
        position = _skip_id3(file)
        header = file.read(4)
        parsed = _Mp3Header.parse(header)
        if parsed is None:
            file.seek(position)
            return
        yield position, parsed, header + file.read(parsed.size - 4)


def _xing_frames(xing: bytes) -> int | None:
    """The number of frames in a Xing header, where it is told."""
    return int.from_bytes(xing[8:12], "big") if xing[7] & 1 else None


def _find_mp3_frame(file: BinaryIO, first: "_Mp3Header") -> int | None:
    """Where, from the file's position on, two frames like the first follow each other."""
    position, data = file.tell(), b""
    while block := file.read(SEARCHED_AT_ONCE):
        data += block
        found = data.find(b"\xff")
        while found >= 0:
            header = _Mp3Header.parse(data[found : found + 4])
            if header and header.kind == first.kind:
                following = _Mp3Header.parse(data[found + header.size : found + header.size + 4])
                if following and following.kind == first.kind:
                    return position + found
            found = data.find(b"\xff", found + 1)
        position += max(0, len(data) - LARGEST_MP3_FRAME)
        data = data[-LARGEST_MP3_FRAME:]
    return None


def _skip_id3(file: BinaryIO) -> int:
    """Skip ID3v2 tags; returns the position after them."""
    position = file.tell()
    while (header := file.read(10)).startswith(b"ID3") and len(header) == 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if header[5] & 0x10 else 0)  # with a footer
        file.seek(position)
    file.seek(position)
    return position


@contextlib.contextmanager
def mpg123_errors() -> Iterator[list[str]]:
    """Collect the errors that libmpg123 writes to the standard error output while the block runs, and nowhere else.

    Its other messages vanish; what anybody else wrote meanwhile is passed on.
    """
    errors: list[str] = []
    with _STDERR, tempfile.TemporaryFile() as file:
        try:
            terminal = os.dup(STDERR)
        except OSError:  # closed, as in a daemon
            yield errors
            return
        sys.stderr.flush()
        os.dup2(file.fileno(), STDERR)
        try:
            yield errors
        finally:
            os.dup2(terminal, STDERR)
            os.close(terminal)
            file.seek(0)
            for line in file:
                if match := MPG123_ERROR.search(line):
                    errors.append(match[1].decode(errors="replace"))
                elif not MPG123_MESSAGE.match(line):
                    os.write(STDERR, line)
