"""What the feature extractors of the networks on log-mel spectrograms share: the front end's fields and its frames."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch

from .configuration_fusion import Field
from .feature_extraction_fusion import FusionFeatureExtractor
from .fusion import to_device
from .log_mel import FrontEnd, one_thread

FREQUENCY = Field(0, 500_000, is_whole=False)  # in Hz


class LogMelFeatureExtractor(FusionFeatureExtractor):
    """Base of the feature extractors that compute log-mel spectrograms, (time, mel), in `log_mel`.

    Args:
        feature_size: The number of mel bins.
        sampling_rate: In Hz.
        n_fft: The length of the Fourier transform, in samples.
        win_length: The length of a spectrogram frame, in samples.
        hop_length: From one spectrogram frame to the next, in samples.
        frequency_min: The lower edge of the mel filters, in Hz.
        frequency_max: The upper edge of the mel filters, in Hz.
        padding_value: The value after the end of the shorter clips of a batch.

    Raises:
        ValueError: A field is none that a front end could have, or is another class's.
    """

    checked_fields = FusionFeatureExtractor.checked_fields | {
        "n_fft": Field(16, 16_384),
        "win_length": Field(16, 16_384),
        "frequency_min": FREQUENCY,
        "frequency_max": FREQUENCY,
    }
    has_device_front_end = True
    # Of a frame embedding: the mel frames from one to the next, and those that it is made of.
    mel_frames_per_frame: int
    mel_frames_in_frame: int

    def __init__(
        self,
        feature_size: int,
        sampling_rate: int,
        n_fft: int,
        win_length: int,
        hop_length: int,
        frequency_min: float,
        frequency_max: float,
        padding_value: float = 0.0,
        **kwargs,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.n_fft = n_fft
        self.win_length = win_length
        self.hop_length = hop_length
        self.frequency_min = frequency_min
        self.frequency_max = frequency_max
        self._check_front_end()

    def _check_front_end(self) -> None:
        """Raise a ValueError where fields do not fit each other; each alone is checked when it is set."""
        if not self.hop_length <= self.win_length <= self.n_fft:
            raise ValueError(
                f"win_length={self.win_length} has to be from hop_length={self.hop_length} to n_fft={self.n_fft}."
            )
        if not self.frequency_min < self.frequency_max <= self.sampling_rate / 2:
            raise ValueError(
                f"frequency_max={self.frequency_max} has to be above frequency_min={self.frequency_min} and at most "
                f"half of sampling_rate={self.sampling_rate}."
            )

    @property
    def front_end(self) -> FrontEnd:
        """The sizes of the front end."""
        return FrontEnd(
            sampling_rate=self.sampling_rate,
            n_fft=self.n_fft,
            win_length=self.win_length,
            hop_length=self.hop_length,
            num_mel_bins=self.feature_size,
            frequency_min=self.frequency_min,
            frequency_max=self.frequency_max,
        )

    def log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        """The spectrograms (..., time, mel) of waveforms (..., samples) that are at least `minimum_samples` long."""
        raise NotImplementedError(f"{type(self).__name__} has to define log_mel.")

    @property
    def first_mel_frame_centre(self) -> int:
        """Where the first mel frame's window has its centre, in samples: half a window in, where nothing is padded."""
        return self.win_length // 2

    @property
    def first_frame_centre(self) -> float:
        return self.first_mel_frame_centre + (self.mel_frames_in_frame - 1) / 2 * self.hop_length

    @property
    def frame_samples(self) -> int:
        return self.mel_frames_per_frame * self.hop_length

    def spectrograms(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The spectrogram (time, mel) of each waveform (samples,), which is not empty and finite; nothing is padded
        but waveforms that are shorter than the network takes.
        """
        with one_thread():
            return [self._spectrogram(waveform) for waveform in waveforms]

    def _spectrogram(self, waveform: np.ndarray) -> np.ndarray:
        return self.log_mel(torch.from_numpy(self._filled(waveform))).numpy()

    def _filled(self, waveform: np.ndarray) -> np.ndarray:
        return np.pad(waveform, (0, max(0, self.minimum_samples - len(waveform))))

    def device_spectrograms(
        self, waveforms: Sequence[np.ndarray], device: torch.device
    ) -> tuple[torch.Tensor, list[int]]:
        pieces, lengths = [], []
        for _, alike in groupby(map(self._filled, waveforms), key=len):
            batch = np.stack(list(alike))
            pieces.append(self.log_mel(to_device(torch.from_numpy(batch), device)))
            lengths += [pieces[-1].shape[1]] * len(batch)
        longest = self.max_length or max(lengths)
        padded = [
            torch.nn.functional.pad(piece, (0, 0, 0, longest - piece.shape[1]), value=self.padding_value)
            for piece in pieces
        ]
        return torch.cat(padded), lengths
