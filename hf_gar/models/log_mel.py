"""Front ends: from waveforms to log-mel spectrograms, batched, in float32 PyTorch."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

# Frames of a spectrogram that are transformed at a time: bounds the memory that a long recording takes.
FRAMES_AT_ONCE = 16384


def pad_to_longest(waveforms: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack waveforms of shape (samples,) into (batch, samples), with zeros after the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True)


def spectrogram(
    waveforms: torch.Tensor, window: torch.Tensor, n_fft: int, hop_length: int, mel_filters: torch.Tensor, power: float
) -> torch.Tensor:
    """The mel spectrogram of every full frame.

    Args:
        waveforms: (batch, samples).
        window: (frame length,), at most `n_fft` long.
        n_fft: The length of the Fourier transform, in samples.
        hop_length: From one frame to the next, in samples.
        mel_filters: (n_fft // 2 + 1, mel).
        power: The exponent of the spectrum's magnitude: 1 or 2.

    Returns:
        (batch, frame, mel), with 1 + (samples - frame length) // hop_length frames.
    """
    frames = waveforms.unfold(1, len(window), hop_length)
    pieces = []
    for piece in frames.split(max(1, FRAMES_AT_ONCE // len(waveforms)), dim=1):
        spectrum = torch.fft.rfft(piece * window, n=n_fft)
        squared = spectrum.real.square() + spectrum.imag.square()
        pieces.append((squared if power == 2 else squared.sqrt()) @ mel_filters)
    return torch.cat(pieces, dim=1)


@lru_cache
def slaney_mel_filters(
    sampling_rate: int, n_fft: int, num_mel_bins: int, frequency_min: float, frequency_max: float
) -> torch.Tensor:
    """librosa's default filter bank: Slaney's scale and normalisation; (n_fft // 2 + 1, mel). Frequencies in Hz."""
    filters = mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=num_mel_bins,
        min_frequency=frequency_min,
        max_frequency=frequency_max,
        sampling_rate=sampling_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters.astype(np.float32))


def cnn14_log_mel(
    waveforms: Sequence[torch.Tensor],
    sampling_rate: int,
    n_fft: int,
    hop_length: int,
    num_mel_bins: int,
    frequency_min: float,
    frequency_max: float,
) -> list[torch.Tensor]:
    """CNN14's front end: centred frames with reflection at the ends, power mel spectrogram, in dB.

    Source: Kong et al., "PANNs", 2020 (arXiv 1912.10211), with the sizes of the published checkpoints.

    Args:
        waveforms: Each (samples,), longer than `n_fft // 2`.

    Returns:
        For each waveform (1 + samples // hop_length, mel), in dB.
    """
    reflected = [
        torch.nn.functional.pad(waveform[None], (n_fft // 2, n_fft // 2), mode="reflect")[0] for waveform in waveforms
    ]
    mel = spectrogram(
        pad_to_longest(reflected),
        window=torch.hann_window(n_fft, periodic=True),
        n_fft=n_fft,
        hop_length=hop_length,
        mel_filters=slaney_mel_filters(sampling_rate, n_fft, num_mel_bins, frequency_min, frequency_max),
        power=2,
    )
    decibels = 10 * torch.log10(mel.clamp(min=1e-10))
    return [clip[: 1 + len(waveform) // hop_length] for clip, waveform in zip(decibels, waveforms, strict=True)]
