"""Front ends: from waveforms to log-mel spectrograms, batched, in float32 PyTorch."""

import warnings
from collections.abc import Callable, Sequence
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
    waveforms: torch.Tensor,
    window: torch.Tensor,
    n_fft: int,
    hop_length: int,
    mel_filters: torch.Tensor,
    power: int,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """The mel spectrogram of every full frame.

    Args:
        waveforms: (batch, samples).
        window: (frame length,), at most `n_fft` long.
        n_fft: The length of the Fourier transform, in samples.
        hop_length: From one frame to the next, in samples.
        mel_filters: (n_fft // 2 + 1, mel).
        power: The exponent of the spectrum's magnitude: 1 or 2.
        prepare: What is done to frames (batch, frame, frame length) before the window.

    Returns:
        (batch, frame, mel), with 1 + (samples - frame length) // hop_length frames.
    """
    frames = waveforms.unfold(1, len(window), hop_length)
    pieces = []
    for piece in frames.split(max(1, FRAMES_AT_ONCE // len(waveforms)), dim=1):
        prepared = piece if prepare is None else prepare(piece)
        spectrum = torch.fft.rfft(prepared * window, n=n_fft)
        squared = spectrum.real.square() + spectrum.imag.square()
        pieces.append((squared if power == 2 else squared.sqrt()) @ mel_filters)
    return torch.cat(pieces, dim=1)


def own_frames(
    spectrograms: torch.Tensor, waveforms: Sequence[torch.Tensor], window: int, hop: int
) -> list[torch.Tensor]:
    """Of spectrograms (batch, frame, mel), each waveform's own frames where they are not centred."""
    return [clip[: 1 + (len(waveform) - window) // hop] for clip, waveform in zip(spectrograms, waveforms, strict=True)]


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


@lru_cache
def htk_mel_filters(
    sampling_rate: int, n_fft: int, num_mel_bins: int, frequency_min: float, frequency_max: float
) -> torch.Tensor:
    """Triangles that are straight on the scale 1127 ln(1 + f / 700), not normalised, as in HTK, Kaldi and VGGish.

    Returns:
        (n_fft // 2 + 1, mel). Frequencies are in Hz.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")  # as in Kaldi's, for AST
        filters = mel_filter_bank(
            num_frequency_bins=n_fft // 2 + 1,
            num_mel_filters=num_mel_bins,
            min_frequency=frequency_min,
            max_frequency=frequency_max,
            sampling_rate=sampling_rate,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
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


def vggish_log_mel(
    waveforms: Sequence[torch.Tensor],
    sampling_rate: int,
    n_fft: int,
    window_length: int,
    hop_length: int,
    num_mel_bins: int,
    frequency_min: float,
    frequency_max: float,
) -> list[torch.Tensor]:
    """VGGish's front end: frames without padding, magnitude mel spectrogram, log(mel + 0.01).

    Source: Hershey et al., "CNN Architectures for Large-Scale Audio Classification", 2017, and AudioSet's VGGish.

    Args:
        waveforms: Each (samples,), at least `window_length` long.

    Returns:
        For each waveform (1 + (samples - window_length) // hop_length, mel).
    """
    mel = spectrogram(
        pad_to_longest(waveforms),
        window=torch.hann_window(window_length, periodic=True),
        n_fft=n_fft,
        hop_length=hop_length,
        mel_filters=htk_mel_filters(sampling_rate, n_fft, num_mel_bins, frequency_min, frequency_max),
        power=1,
    )
    return own_frames(torch.log(mel + 0.01), waveforms, window_length, hop_length)


def kaldi_filter_bank(
    waveforms: Sequence[torch.Tensor],
    sampling_rate: int,
    n_fft: int,
    window_length: int,
    hop_length: int,
    num_mel_bins: int,
    frequency_min: float,
    frequency_max: float,
) -> list[torch.Tensor]:
    """AST's front end: Kaldi's log mel filter bank of the waveform less its mean, without dither and energy.

    Source: Gong et al., "AST", 2021; Kaldi's feature extraction ("hanning" window, pre-emphasis 0.97, snipped edges).

    Args:
        waveforms: Each (samples,), at least `window_length` long.

    Returns:
        For each waveform (1 + (samples - window_length) // hop_length, mel).
    """

    def prepare(frames: torch.Tensor) -> torch.Tensor:
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.nn.functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
        return frames - 0.97 * before

    mel = spectrogram(
        pad_to_longest([waveform - waveform.mean() for waveform in waveforms]),
        window=torch.hann_window(window_length, periodic=False),
        n_fft=n_fft,
        hop_length=hop_length,
        mel_filters=htk_mel_filters(sampling_rate, n_fft, num_mel_bins, frequency_min, frequency_max),
        power=2,
        prepare=prepare,
    )
    floored = mel.clamp(min=torch.finfo(torch.float32).eps)
    return own_frames(torch.log(floored), waveforms, window_length, hop_length)
