"""Front ends: from waveforms of one length to their log-mel spectrograms, in float32 PyTorch, on any device."""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

# Mel frames that are transformed at a time: their spectra stay in a core's cache, however long the recording is.
FRAMES_AT_ONCE = 256
CPU = torch.device("cpu")


class FrontEnd(NamedTuple):
    """The sizes of a front end: rates and frequencies in Hz, lengths in samples."""

    sampling_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    num_mel_bins: int
    frequency_min: float
    frequency_max: float


def mel_spectrogram(
    waveform: torch.Tensor,
    front_end: FrontEnd,
    mel_filters: torch.Tensor,
    window: torch.Tensor,
    power: int,
    preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """The mel spectrogram of waveforms, one mel frame for every full window.

    Args:
        waveform: (..., samples), at least as long as the window.
        front_end: The front end's sizes.
        mel_filters: (n_fft // 2 + 1, mel).
        window: (win_length,).
        power: The exponent of the spectrum's magnitude: 1 or 2.
        preprocess: What is done to frames (..., frame, win_length) before the window.

    Returns:
        (..., 1 + (samples - win_length) // hop_length, mel).
    """
    pieces = []
    for frames in waveform.unfold(-1, len(window), front_end.hop_length).split(FRAMES_AT_ONCE, dim=-2):
        spectrum = torch.fft.rfft((frames if preprocess is None else preprocess(frames)) * window, n=front_end.n_fft)
        squared = spectrum.real.square() + spectrum.imag.square()
        pieces.append((squared if power == 2 else squared.sqrt()) @ mel_filters)
    return torch.cat(pieces, dim=-2)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep PyTorch to the calling thread while the block runs.

    For small work: threads wait for each other, a hundred times as long as it takes where the other cores are busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache
def slaney_mel_filters(front_end: FrontEnd, device: torch.device = CPU) -> torch.Tensor:
    """librosa's default filter bank: Slaney's scale and normalisation; (n_fft // 2 + 1, mel)."""
    # Below 1000 Hz the scale is linear, 15 mel up to there; above, 27 mel are a factor of 6.4.
    lowest, highest = (
        frequency * 3 / 200 if frequency < 1000 else 15 + 27 * math.log(frequency / 1000, 6.4)
        for frequency in (front_end.frequency_min, front_end.frequency_max)
    )
    mel = np.linspace(lowest, highest, front_end.num_mel_bins + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    filters = _triangles(_bin_frequencies(front_end), edges) * 2 / (edges[2:] - edges[:-2])
    return torch.from_numpy(filters.astype(np.float32)).to(device)


@lru_cache
def htk_mel_filters(front_end: FrontEnd, device: torch.device = CPU) -> torch.Tensor:
    """Triangles that are straight on the scale 1127 ln(1 + f / 700), not normalised, as in HTK, Kaldi and VGGish.

    Returns:
        (n_fft // 2 + 1, mel).
    """
    lowest, highest = (1127 * math.log1p(edge / 700) for edge in (front_end.frequency_min, front_end.frequency_max))
    edges = np.linspace(lowest, highest, front_end.num_mel_bins + 2)
    filters = _triangles(1127 * np.log1p(_bin_frequencies(front_end) / 700), edges)
    return torch.from_numpy(filters.astype(np.float32)).to(device)


def _bin_frequencies(front_end: FrontEnd) -> np.ndarray:
    """The frequencies of a spectrum, (n_fft // 2 + 1,), in Hz."""
    return np.arange(front_end.n_fft // 2 + 1) * front_end.sampling_rate / front_end.n_fft


def _triangles(bins: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Filters from one of the edges (mel + 2,) over the next, where they are 1, to the one after; (bin, mel)."""
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins[:, None] - left) / (centre - left), (right - bins[:, None]) / (right - centre)
    return np.minimum(rising, falling).clip(min=0)


def cnn14_log_mel(waveform: torch.Tensor, front_end: FrontEnd) -> torch.Tensor:
    """CNN14's front end: centred frames with reflection at the ends, power mel spectrogram, in dB.

    Source: Kong et al., "PANNs", 2020 (arXiv 1912.10211), with the sizes of the published checkpoints.

    Args:
        waveform: (..., samples), longer than half a window.
        front_end: The front end's sizes.

    Returns:
        (..., 1 + samples // hop_length, mel), in dB.
    """
    margin = (front_end.win_length // 2,) * 2
    rows = waveform.reshape(-1, waveform.shape[-1])  # what the padding takes
    mel = mel_spectrogram(
        torch.nn.functional.pad(rows, margin, mode="reflect").unflatten(0, (*waveform.shape[:-1], 1)).squeeze(-2),
        front_end,
        slaney_mel_filters(front_end, waveform.device),
        window=torch.hann_window(front_end.win_length, periodic=True, device=waveform.device),
        power=2,
    )
    return 10 * torch.log10(mel.clamp(min=1e-10))


def vggish_log_mel(waveform: torch.Tensor, front_end: FrontEnd) -> torch.Tensor:
    """VGGish's front end: frames without padding, magnitude mel spectrogram, log(mel + 0.01).

    Source: Hershey et al., "CNN Architectures for Large-Scale Audio Classification", 2017, and AudioSet's VGGish.

    Args:
        waveform: (..., samples), at least as long as the window.
        front_end: The front end's sizes.

    Returns:
        (..., 1 + (samples - win_length) // hop_length, mel).
    """
    mel = mel_spectrogram(
        waveform,
        front_end,
        htk_mel_filters(front_end, waveform.device),
        window=torch.hann_window(front_end.win_length, periodic=True, device=waveform.device),
        power=1,
    )
    return torch.log(mel + 0.01)


def kaldi_filter_bank(waveform: torch.Tensor, front_end: FrontEnd) -> torch.Tensor:
    """AST's front end: Kaldi's log mel filter bank of the waveform less its mean, without dither and energy.

    Source: Gong et al., "AST", 2021; Kaldi's feature extraction ("hanning" window, pre-emphasis 0.97, snipped edges).

    Args:
        waveform: (..., samples), at least as long as the window.
        front_end: The front end's sizes.

    Returns:
        (..., 1 + (samples - win_length) // hop_length, mel).
    """

    def preprocess(frames: torch.Tensor) -> torch.Tensor:
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.nn.functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
        return frames - 0.97 * before

    mel = mel_spectrogram(
        waveform - waveform.mean(dim=-1, keepdim=True),
        front_end,
        htk_mel_filters(front_end, waveform.device),
        window=torch.hann_window(front_end.win_length, periodic=False, device=waveform.device),
        power=2,
        preprocess=preprocess,
    )
    return torch.log(mel.clamp(min=torch.finfo(torch.float32).eps))
