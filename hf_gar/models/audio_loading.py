"""One place that decodes recordings, mixes them to mono and resamples them."""

import http.client
import io
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from .audio_integrity import DamageError, check_structure, mpg123_errors

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
# An MPEG encoder's delay and padding, in samples, which a decoder may leave out.
MPEG_PADDING = 4 * 1152
# What libsndfile writes to its log about a file that ends before its header says.
CUT_CHUNK = re.compile(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
# Programs that write to a pipe cannot know the length: they leave a chunk size near one of the largest possible ones.
UNKNOWN_CHUNK_SIZE = 0x7FFFF000
UNRECOGNISED_FORMAT, SYSTEM_ERROR = 1, 2  # libsndfile's error codes
# A bare array of more channels than stereo's could be a batch of clips.
MAX_BARE_CHANNELS = 2
# +40 dB over full scale: no recording is so loud, but samples of 8 or 16 bits that were not divided are.
LARGEST_PEAK = 100.0
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
FETCH_AGAIN = "Fetch or record it again."


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
            `AudioDecoder`. Waveforms are floats in [-1, 1] of shape (samples,) or (channels, samples); more than two
            channels have to come as a dictionary, as they could be a batch of clips otherwise.
        sampling_rate: The rate to resample to, in Hz.

    Returns:
        The waveform (samples,), float32, channels averaged.

    Raises:
        AudioError: It cannot be decoded, is cut short, is empty, or has samples that are not finite.
        OSError: The file is missing or cannot be read, or the URL cannot be reached.
        ImportError: It needs a library that is not installed.
    """
    recording = open_recording(source)
    return np.concatenate(list(read_samples(recording, sampling_rate)))


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
    name = "the waveform"
    if isinstance(source, (int, float, np.number)):
        raise AudioError(
            "A list is taken for several recordings, and one of these is a single number. Pass a waveform as a NumPy "
            "array."
        )
    if is_rate_and_samples(source):
        raise AudioError(
            f'{name} is a pair, perhaps of a rate and samples. Pass it as {{"sampling_rate": rate, "array": samples}}.'
        )
    waveform = as_float_array(source, name)
    if waveform.ndim == 2 and MAX_BARE_CHANNELS < waveform.shape[0] <= waveform.shape[1]:
        raise AudioError(
            f"{name} has the shape {waveform.shape}, which could be a batch of {len(waveform)} clips or as many "
            'channels of one. Pass clips as a list, and channels as {"array": waveform, "sampling_rate": rate}.'
        )
    return Recording(name, None, iter([mix_to_mono(waveform, name)]))


def tells_its_rate(source: Any) -> bool:
    """Whether something is a recording that `load_audio` takes, rather than a waveform of a rate that is known."""
    return isinstance(source, (str, os.PathLike, bytes, bytearray, dict)) or hasattr(source, "get_all_samples")


def is_rate_and_samples(source: Any) -> bool:
    """Whether something is a pair of a rate in Hz and samples, as Gradio and scipy.io.wavfile give it."""
    return isinstance(source, (list, tuple)) and len(source) == 2 and isinstance(source[0], (int, np.integer))


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
    if isinstance(waveform, torch.Tensor):
        waveform = waveform.detach().cpu().float().numpy()
    if waveform is None or isinstance(waveform, (str, bytes, dict)):
        raise AudioError(f"{name} is {_describe(waveform)}, not a waveform. Decode it first, with `load_audio`.")
    if hasattr(waveform, "read"):
        raise AudioError(f"{name} is an open file. Pass its path, or its bytes: `file.read()`.")
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
    """Raise an AudioError for a waveform that is empty, not finite throughout, or far outside [-1, 1]."""
    if not waveform.size:
        raise AudioError(f"{name} is empty: it holds no samples.")
    peak = float(np.abs(waveform).max())
    if not np.isfinite(peak):
        count = waveform.size - np.count_nonzero(np.isfinite(waveform))
        raise AudioError(f"{name} has {count} samples that are NaN or infinite. Repair or leave out the recording.")
    if peak > LARGEST_PEAK:
        raise AudioError(
            f"{name} has samples up to {peak:.4g}; expected floats in [-1, 1]. Divide 16-bit samples by 32768, "
            "or scale the recording down."
        )


def check_embedding(embedding: np.ndarray, name: str) -> None:
    """Raise an AudioError for embeddings, (D,) or (frame, D), that are not finite throughout."""
    if not np.isfinite(embedding).all():
        raise AudioError(
            f"{name} gives an embedding with values that are NaN or infinite. Embed it in float32 or bfloat16 where it "
            "was float16; if it stays so, check the model's weights."
        )


def read_samples(recording: Recording, sampling_rate: int) -> Iterator[np.ndarray]:
    """Yield the recording's blocks, each (samples,), checked, at a rate in Hz.

    Raises:
        AudioError: The recording is empty, or has samples that are not finite or far outside [-1, 1].
        ImportError: Resampling takes soxr, which is not installed.
    """
    blocks = _checked(recording)
    yield from (
        blocks if recording.sampling_rate in (None, sampling_rate) else _resample(recording, blocks, sampling_rate)
    )


def _checked(recording: Recording) -> Iterator[np.ndarray]:
    is_empty = True
    for block in recording.blocks:
        check_samples(block, recording.name)
        is_empty = False
        yield block
    if is_empty:
        check_samples(np.empty(0, np.float32), recording.name)


def _resample(recording: Recording, blocks: Iterator[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
    """Yield blocks at another rate, with soxr's high quality."""
    if soxr is None:
        raise ImportError(
            f"{recording.name} has {recording.sampling_rate} Hz, but {sampling_rate} Hz are needed, and resampling "
            "takes soxr: pip install soxr"
        )
    stream = soxr.ResampleStream(recording.sampling_rate, sampling_rate, num_channels=1, dtype="float32", quality="HQ")
    for block in blocks:
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
        raise AudioError(f"{name} is empty (0 bytes). {FETCH_AGAIN}")
    if soundfile is None:
        return _open_with_torchcodec(file, name, "libsndfile is not installed: pip install soundfile")
    mp3_samples = _check_file(file, name)
    try:
        # Names that are not UTF-8: soundfile takes them as bytes only. Windows has none.
        encoded = os.fsencode(file) if isinstance(file, str) and os.name != "nt" else file
        with mpg123_errors() if mp3_samples else nullcontext():
            opened = soundfile.SoundFile(encoded)
    except TypeError as error:  # headerless samples (.raw)
        raise AudioError(f"{name} cannot be decoded: it has no header that tells its format.") from error
    except soundfile.LibsndfileError as error:
        if error.code == UNRECOGNISED_FORMAT:
            return _open_with_torchcodec(file, name, "libsndfile does not know its format")
        raise AudioError(f"{name} cannot be decoded: {_reason(error)} Is it whole?") from error
    chunk = CUT_CHUNK.search(opened.extra_info)
    if chunk and int(chunk[2]) < int(chunk[1]) < UNKNOWN_CHUNK_SIZE:
        raise AudioError(
            f"{name} is cut short: its header says {chunk[1]} bytes of audio, but {chunk[2]} are there. {FETCH_AGAIN}"
        )
    if opened.format == "MP3" and not mp3_samples:
        raise AudioError(f"{name} is damaged: it does not begin with an MPEG frame. {FETCH_AGAIN}")
    if mp3_samples and opened.frames < mp3_samples - MPEG_PADDING:
        opened.close()
        return _open_with_torchcodec(file, name, "its bit rate varies, but no header tells its length")
    return Recording(name, opened.samplerate, _read_blocks(opened, name, mp3_samples))


def _check_file(file: str | io.BytesIO, name: str) -> int | None:
    """The number of samples in the frames of an MP3; an AudioError for damage that the decoder would pass over."""
    with open(file, "rb") if isinstance(file, str) else io.BytesIO(file.getbuffer()) as opened:
        if opened.read(len(LFS_POINTER)) == LFS_POINTER:
            raise AudioError(f"{name} is a Git LFS pointer, not the recording itself. Fetch it with `git lfs pull`.")
        opened.seek(0)
        try:
            return check_structure(opened)
        except DamageError as error:
            raise AudioError(f"{name} {error}. {FETCH_AGAIN}") from error


def _read_blocks(opened: "soundfile.SoundFile", name: str, mp3_samples: int | None) -> Iterator[np.ndarray]:
    wanted, read = int(BLOCK_S * opened.samplerate), 0
    with opened:
        try:
            while True:
                collector: AbstractContextManager[list[str]] = mpg123_errors() if mp3_samples else nullcontext([])
                with collector as errors:
                    # Not opened.blocks(): where a file ends early, it yields what its buffer held before.
                    block = opened.read(wanted, dtype="float32", always_2d=True)
                if errors:
                    raise AudioError(f"{name} is damaged: {errors[0]} {FETCH_AGAIN}")
                read += len(block)
                if len(block):
                    # The same sums as `block.mean(axis=1)`, which takes ten times as long in stereo.
                    yield block[:, 0] if block.shape[1] == 1 else np.ascontiguousarray(block.T).mean(axis=0)
                if len(block) < wanted:  # the end, or damage: what would come after that is not what follows
                    break
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{name} cannot be decoded: {_reason(error)} Is it whole?") from error
        # The length in an MP3's header may be an estimate.
        expected = mp3_samples - MPEG_PADDING if mp3_samples else opened.frames
        if read < expected:
            raise AudioError(
                f"{name} is cut short or damaged: it should have {expected / opened.samplerate:.2f} s, but "
                f"{read / opened.samplerate:.2f} s could be decoded. {FETCH_AGAIN}"
            )


def _reason(error: "soundfile.LibsndfileError") -> str:
    """libsndfile's words, but where they mislead: it says of a file that it cannot decode that there is none."""
    return "there is no audio in it." if error.code == SYSTEM_ERROR else error.error_string


def _open_with_torchcodec(file: str | io.BytesIO, name: str, why: str) -> Recording:
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: FFmpeg's libraries are missing
        raise AudioError(
            f"{name} cannot be decoded: {why}. Is it audio? What libsndfile does not read (AAC, M4A, WebM) takes "
            "torchcodec and FFmpeg: pip install torchcodec"
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
