"""One place that decodes recordings, mixes them to mono and resamples them."""

import http.client
import io
import os
import re
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

try:
    import soundfile
except (ImportError, OSError):  # OSError: the package is there, but libsndfile is not
    soundfile = None
try:
    import soxr
except ImportError:
    soxr = None

BLOCK_S = 30.0  # recordings are decoded and resampled in blocks of this many seconds
URL_TIMEOUT_S = 30.0
# An MPEG decoder's delay and padding, in samples: a recording may be shorter than its header says by as much.
LENGTH_TOLERANCE = 4 * 1152
# What libsndfile writes to its log about a file that ends before its header says.
CUT_CHUNK = re.compile(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
LARGEST_OGG_PAGE = 65307  # in bytes
# Programs that write to a pipe cannot know the length: they leave a chunk size near one of the largest possible ones.
UNKNOWN_CHUNK_SIZE = 0x7FFFF000
UNRECOGNISED_FORMAT = 1  # libsndfile's error code


class AudioError(ValueError):
    """A recording that cannot be read or embedded; the message names it and says why."""


class Recording(NamedTuple):
    """An opened recording: `blocks` yields its mono waveform piece by piece, each (samples,) in float32."""

    name: str
    sampling_rate: int | None  # in Hz; None: not known, taken to be the rate that is asked for
    blocks: Iterator[np.ndarray]


def load_audio(source: Any, sampling_rate: int) -> np.ndarray:
    """Read a recording as a mono waveform.

    Args:
        source: A path, an http(s) URL, the bytes of an audio file, a waveform that already has `sampling_rate`, a
            dictionary with "array" or "raw" and "sampling_rate" or with "bytes" or "path", or a torchcodec
            `AudioDecoder`. Waveforms are floats in [-1, 1] of shape (samples,) or (channels, samples).
        sampling_rate: The rate to resample to, in Hz.

    Returns:
        The waveform (samples,), float32, channels averaged.

    Raises:
        AudioError: It cannot be decoded, is cut short, is empty, or has samples that are not finite.
        OSError: The file is missing or cannot be read, or the URL cannot be reached.
        ImportError: It takes a library that is not installed.
    """
    recording = open_recording(source)
    blocks = list(resample(recording, sampling_rate))
    waveform = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    check_samples(waveform, recording.name)
    return waveform


def open_recording(source: Any) -> Recording:
    """Open what `load_audio` takes, without reading it whole where it is a file."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if re.match(r"https?://", name):
            return _open_file(io.BytesIO(_fetch(name)), name)
        if not os.path.exists(name):
            raise FileNotFoundError(f"{name}: there is no such file. Check the path.")
        return _open_file(name, name)
    if isinstance(source, (bytes, bytearray)):
        return _open_file(io.BytesIO(source), f"a recording of {len(source)} bytes")
    if isinstance(source, dict):
        return _open_dictionary(source)
    if hasattr(source, "get_all_samples"):
        return _open_decoder(source, str(getattr(source.metadata, "path", None) or "a recording"))
    return Recording("the waveform", None, iter([mix_to_mono(source, "the waveform")]))


def mix_to_mono(waveform: Any, name: str) -> np.ndarray:
    """Average the channels of a waveform (samples,) or (channels, samples) into (samples,), float32."""
    waveform = as_float_array(waveform, name)
    if waveform.ndim == 1:
        return waveform
    if waveform.ndim != 2 or waveform.shape[0] > waveform.shape[1]:
        raise AudioError(
            f"{name} has the shape {waveform.shape}; expected (samples,) or (channels, samples). Transpose it if its "
            "channels come last."
        )
    return waveform.mean(axis=0)


def as_float_array(waveform: Any, name: str) -> np.ndarray:
    """A waveform (array, tensor or list of floats) as a float32 array; an AudioError for anything else."""
    if hasattr(waveform, "detach"):
        waveform = waveform.detach().cpu().float().numpy()
    if waveform is None or isinstance(waveform, (str, bytes, dict)):
        raise AudioError(f"{name} is {_describe(waveform)}, not a waveform. Decode it first, with `load_audio`.")
    try:
        array = np.asarray(waveform)
    except ValueError as error:
        raise AudioError(f"{name} is not one waveform: {error}") from error
    if array.size and array.dtype.kind in "iub":
        raise AudioError(
            f"{name} holds integers ({array.dtype}); expected floats in [-1, 1]. Divide 16-bit samples by 32768."
        )
    if array.dtype.kind != "f":
        raise AudioError(f"{name} holds {array.dtype} values; expected floats in [-1, 1].")
    return array.astype(np.float32, copy=False)


def check_samples(waveform: np.ndarray, name: str) -> None:
    """Raise an AudioError for a waveform that is empty or not finite throughout."""
    if not waveform.size:
        raise AudioError(f"{name} is empty: it holds no samples.")
    if not np.isfinite(waveform).all():
        count = waveform.size - np.count_nonzero(np.isfinite(waveform))
        raise AudioError(f"{name} has {count} samples that are NaN or infinite. Repair or leave out the recording.")


def resample(recording: Recording, sampling_rate: int) -> Iterator[np.ndarray]:
    """Yield the recording's blocks at another rate (in Hz), with soxr's high quality."""
    if recording.sampling_rate in (None, sampling_rate):
        yield from recording.blocks
        return
    if soxr is None:
        raise ImportError(
            f"{recording.name} has {recording.sampling_rate} Hz, but {sampling_rate} Hz are needed, and resampling "
            "takes soxr: pip install soxr"
        )
    stream = soxr.ResampleStream(recording.sampling_rate, sampling_rate, num_channels=1, dtype="float32", quality="HQ")
    for block in recording.blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT_S) as response:
            return response.read()
    except (http.client.HTTPException, ValueError) as error:  # a connection that breaks off, an address that is none
        raise AudioError(f"{url} cannot be fetched: {type(error).__name__}: {error}. Check the address.") from error


def _describe(value: object) -> str:
    return f"text ({value[:40]!r})" if isinstance(value, str) else type(value).__name__


def _open_dictionary(source: dict) -> Recording:
    name = source.get("path") or "a recording"
    waveform = source.get("array") if source.get("array") is not None else source.get("raw")
    if waveform is not None:
        rate = source.get("sampling_rate")
        if not isinstance(rate, (int, np.integer)) or rate < 1:
            raise AudioError(f'{name} is an array, which needs its "sampling_rate" beside it, in Hz; it has {rate!r}.')
        return Recording(name, int(rate), iter([mix_to_mono(waveform, name)]))
    if source.get("bytes") is not None:
        return _open_file(io.BytesIO(source["bytes"]), name)
    if source.get("path") is not None:
        return open_recording(source["path"])
    raise AudioError(
        'A recording given as a dictionary needs "array" (or "raw") and "sampling_rate", or "bytes", or "path"; '
        f"this one has {sorted(key for key, value in source.items() if value is not None)}."
    )


def _open_file(file: str | io.BytesIO, name: str) -> Recording:
    if (os.path.getsize(file) if isinstance(file, str) else len(file.getbuffer())) == 0:
        raise AudioError(f"{name} is empty (0 bytes). Fetch or record it again.")
    if soundfile is None:
        return _open_with_torchcodec(file, name, "libsndfile is not installed: pip install soundfile")
    try:
        # Names that are not UTF-8: soundfile takes them as bytes only. Windows has none.
        opened = soundfile.SoundFile(os.fsencode(file) if isinstance(file, str) and os.name != "nt" else file)
    except TypeError as error:  # headerless samples (.raw)
        raise AudioError(f"{name} cannot be decoded: it has no header that tells its format.") from error
    except soundfile.LibsndfileError as error:
        if error.code == UNRECOGNISED_FORMAT:
            return _open_with_torchcodec(file, name, "its format is none that libsndfile knows")
        if isinstance(file, str):
            open(file, "rb").close()  # a permission that is missing says so better than libsndfile
        raise AudioError(f"{name} cannot be decoded: {error.error_string} Is it whole?") from error
    _refuse_cut_file(opened, file, name)
    return Recording(name, opened.samplerate, _read_blocks(opened, name))


def _refuse_cut_file(opened: "soundfile.SoundFile", file: str | io.BytesIO, name: str) -> None:
    chunk = CUT_CHUNK.search(opened.extra_info)
    if chunk and int(chunk[2]) < int(chunk[1]) < UNKNOWN_CHUNK_SIZE:
        raise AudioError(
            f"{name} is cut short: its header says {chunk[1]} bytes of audio, but {chunk[2]} are there. "
            "Fetch or record it again."
        )
    if opened.format == "OGG" and not _has_ogg_end(file):
        raise AudioError(f"{name} is cut short: its Ogg stream has no end. Fetch or record it again.")


def _has_ogg_end(file: str | io.BytesIO) -> bool:
    """Whether the last page of an Ogg file is whole and marked as the end of the stream (RFC 3533, section 6)."""
    if isinstance(file, str):
        with open(file, "rb") as opened:
            opened.seek(max(0, os.path.getsize(file) - 2 * LARGEST_OGG_PAGE))
            content = opened.read()
    else:
        content = bytes(file.getbuffer()[-2 * LARGEST_OGG_PAGE :])
    page = content[content.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    is_last = page[5] & 4
    return bool(is_last) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _read_blocks(opened: "soundfile.SoundFile", name: str) -> Iterator[np.ndarray]:
    read = 0
    with opened:
        try:
            # Not opened.blocks(): where a file ends early, it yields what its buffer held before.
            while len(block := opened.read(int(BLOCK_S * opened.samplerate), dtype="float32", always_2d=True)):
                read += len(block)
                yield block.mean(axis=1)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{name} cannot be decoded: {error.error_string} Is it whole?") from error
        if read < opened.frames - LENGTH_TOLERANCE:
            raise AudioError(
                f"{name} is cut short: its header says {opened.frames / opened.samplerate:.2f} s, but "
                f"{read / opened.samplerate:.2f} s could be decoded. Fetch or record it again."
            )


def _open_with_torchcodec(file: str | io.BytesIO, name: str, why: str) -> Recording:
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: FFmpeg's libraries are missing
        raise AudioError(
            f"{name} cannot be decoded: {why}. Is it audio? Formats such as AAC, M4A or WebM take torchcodec and "
            "FFmpeg: pip install torchcodec"
        ) from error
    try:
        decoder = AudioDecoder(file)
    except (RuntimeError, ValueError) as error:
        raise AudioError(f"{name} cannot be decoded: {why}, nor FFmpeg: {error}") from error
    return _open_decoder(decoder, name)


def _open_decoder(decoder: Any, name: str) -> Recording:
    try:
        samples = decoder.get_all_samples()
    except RuntimeError as error:
        raise AudioError(f"{name} cannot be decoded: {error}") from error
    return Recording(name, samples.sample_rate, iter([mix_to_mono(samples.data, name)]))
