"""CNN14-Fusion's feature extractor."""

from collections.abc import Sequence

import numpy as np
import torch

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_loading import AudioError  # noqa: F401
from .configuration_cnn14_fusion import MEL_FRAMES_PER_FRAME
from .configuration_fusion import FusionConfig  # noqa: F401
from .feature_extraction_fusion import FusionFeatureExtractor
from .fusion import resolve_fusion_layers  # noqa: F401
from .log_mel import cnn14_log_mel


class Cnn14FusionFeatureExtractor(FusionFeatureExtractor):
    """CNN14's log-mel spectrograms, in dB. The defaults are those of the 16 kHz network.

    Args:
        feature_size: The number of mel bins.
        sampling_rate: In Hz.
        n_fft: The length of a spectrogram frame and of its Fourier transform, in samples.
        hop_length: From one spectrogram frame to the next, in samples.
        frequency_min: The lower edge of the mel filters, in Hz.
        frequency_max: The upper edge of the mel filters, in Hz.
        padding_value: The value after the end of the shorter clips of a batch; the model does not see it.
    """

    def __init__(
        self,
        feature_size: int = 64,
        sampling_rate: int = 16000,
        n_fft: int = 512,
        hop_length: int = 160,
        frequency_min: float = 50.0,
        frequency_max: float = 8000.0,
        padding_value: float = 0.0,
        **kwargs,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.frequency_min = frequency_min
        self.frequency_max = frequency_max

    @property
    def minimum_samples(self) -> int:
        # n samples give 1 + n // hop_length frames.
        return max((MEL_FRAMES_PER_FRAME - 1) * self.hop_length, self.n_fft // 2 + 1)

    def log_mel(self, waveforms: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return cnn14_log_mel(
            waveforms,
            sampling_rate=self.sampling_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            num_mel_bins=self.feature_size,
            frequency_min=self.frequency_min,
            frequency_max=self.frequency_max,
        )

    def frame_times(self, num_frames: int) -> np.ndarray:
        # A frame embedding is made of 32 spectrogram frames; the first of those is centred at 0 s.
        first = (MEL_FRAMES_PER_FRAME - 1) / 2
        return (first + MEL_FRAMES_PER_FRAME * np.arange(num_frames)) * self.hop_length / self.sampling_rate
