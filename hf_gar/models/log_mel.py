"""Front ends: from waveforms to log-mel spectrograms, batched, in float32 PyTorch."""

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

# Frames of a spectrogram that are transformed at a time: bounds the memory that a long recording takes.
FRAMES_AT_ONCE = 16384


class FrontEnd(NamedTuple):
    """The sizes of a front end: rates and frequencies in Hz, lengths in samples."""

    sampling_rate: int
    n_fft: int
    window_length: int
    hop_length: int
    num_mel_bins: int
    frequency_min: float
    frequency_max: float


def pad_to_longest(waveforms: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack waveforms of shape (samples,) into (batch, samples), with zeros after the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True)


def mel_spectrograms(
    waveforms: Sequence[torch.Tensor],
    front_end: FrontEnd,
    mel_filters: torch.Tensor,
    window: torch.Tensor,
    power: int,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    """The mel spectrograms of waveforms, one for every full window.

    Args:
        waveforms: Each (samples,), at least as long as the window.
        front_end: The front end's sizes.
        mel_filters: (n_fft // 2 + 1, mel).
        window: (window length,).
        power: The exponent of the spectrum's magnitude: 1 or 2.
        prepare: What is done to frames (batch, frame, window length) before the window.

    Returns:
        For each waveform (1 + (samples - window length) // hop length, mel).
    """
    frames = pad_to_longest(waveforms).unfold(1, len(window), front_end.hop_length)
    pieces = []
    for piece in frames.split(max(1, FRAMES_AT_ONCE // len(waveforms)), dim=1):
        prepared = piece if prepare is None else prepare(piece)
        spectrum = torch.fft.rfft(prepared * window, n=front_end.n_fft)
        squared = spectrum.real.square() + spectrum.imag.square()
        pieces.append((squared if power == 2 else squared.sqrt()) @ mel_filters)
    own = [1 + (len(waveform) - len(window)) // front_end.hop_length for waveform in waveforms]
    return [clip[:length] for clip, length in zip(torch.cat(pieces, dim=1), own, strict=True)]


@lru_cache
def slaney_mel_filters(front_end: FrontEnd) -> torch.Tensor:
    """librosa's default filter bank: Slaney's scale and normalisation; (n_fft // 2 + 1, mel)."""
    return _mel_filters(front_end, norm="slaney", mel_scale="slaney")


@lru_cache
def htk_mel_filters(front_end: FrontEnd) -> torch.Tensor:
    """Triangles that are straight on the scale 1127 ln(1 + f / 700), not normalised, as in HTK, Kaldi and VGGish.

    Returns:
        (n_fft // 2 + 1, mel).
    """
    return _mel_filters(front_end, mel_scale="kaldi", triangularize_in_mel_space=True)


def _mel_filters(front_end: FrontEnd, **kind) -> torch.Tensor:
    with warnings.catch_warnings():
        # Kaldi's bank of 128 for AST has some, too.
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        filters = mel_filter_bank(
            num_frequency_bins=front_end.n_fft // 2 + 1,
            num_mel_filters=front_end.num_mel_bins,
            min_frequency=front_end.frequency_min,
            max_frequency=front_end.frequency_max,
            sampling_rate=front_end.sampling_rate,
            **kind,
        )
    return torch.from_numpy(filters.astype(np.float32))


def cnn14_log_mel(waveforms: Sequence[torch.Tensor], front_end: FrontEnd) -> list[torch.Tensor]:
    """CNN14's front end: centred frames with reflection at the ends, power mel spectrogram, in dB.

    Source: Kong et al., "PANNs", 2020 (arXiv 1912.10211), with the sizes of the published checkpoints.

    Args:
        waveforms: Each (samples,), longer than half a window.
        front_end: The front end's sizes.

    Returns:
        For each waveform (1 + samples // hop length, mel), in dB.
    """
    margin = (front_end.window_length // 2,) * 2
    mel = mel_spectrograms(
        [torch.nn.functional.pad(waveform[None], margin, mode="reflect")[0] for waveform in waveforms],
        front_end,
        slaney_mel_filters(front_end),
        window=torch.hann_window(front_end.window_length, periodic=True),
        power=2,
    )
    return [10 * torch.log10(clip.clamp(min=1e-10)) for clip in mel]


def vggish_log_mel(waveforms: Sequence[torch.Tensor], front_end: FrontEnd) -> list[torch.Tensor]:
    """VGGish's front end: frames without padding, magnitude mel spectrogram, log(mel + 0.01).

    Source: Hershey et al., "CNN Architectures for Large-Scale Audio Classification", 2017, and AudioSet's VGGish.

    Args:
        waveforms: Each (samples,), at least as long as the window.
        front_end: The front end's sizes.

    Returns:
        For each waveform (1 + (samples - window length) // hop length, mel).
    """
    mel = mel_spectrograms(
        waveforms,
        front_end,
        htk_mel_filters(front_end),
        window=torch.hann_window(front_end.window_length, periodic=True),
        power=1,
    )
    return [torch.log(clip + 0.01) for clip in mel]


def kaldi_filter_bank(waveforms: Sequence[torch.Tensor], front_end: FrontEnd) -> list[torch.Tensor]:
    """AST's front end: Kaldi's log mel filter bank of the waveform less its mean, without dither and energy.

    Source: Gong et al., "AST", 2021; Kaldi's feature extraction ("hanning" window, pre-emphasis 0.97, snipped edges).

    Args:
        waveforms: Each (samples,), at least as long as the window.
        front_end: The front end's sizes.

    Returns:
        For each waveform (1 + (samples - window length) // hop length, mel).
    """

    def prepare(frames: torch.Tensor) -> torch.Tensor:
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.nn.functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
        return frames - 0.97 * before

    mel = mel_spectrograms(
        [waveform - waveform.mean() for waveform in waveforms],
        front_end,
        htk_mel_filters(front_end),
        window=torch.hann_window(front_end.window_length, periodic=False),
        power=2,
        prepare=prepare,
    )
    return [torch.log(clip.clamp(min=torch.finfo(torch.float32).eps)) for clip in mel]
