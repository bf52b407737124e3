"""VGGish-Fusion's feature extractor."""

from collections.abc import Sequence

import torch

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_loading import AudioError  # noqa: F401
from .configuration_fusion import FusionConfig  # noqa: F401
from .configuration_vggish_fusion import FRAMES_PER_PATCH, PATCH_MEL_FRAMES
from .feature_extraction_fusion import FusionFeatureExtractor
from .fusion import resolve_fusion_layers  # noqa: F401
from .log_mel import vggish_log_mel


class VGGishFusionFeatureExtractor(FusionFeatureExtractor):
    """VGGish's log-mel spectrograms.

    Args:
        feature_size: The number of mel bins.
        sampling_rate: In Hz.
        n_fft: The length of the Fourier transform, in samples.
        window_length: The length of a spectrogram frame, in samples.
        hop_length: From one spectrogram frame to the next, in samples.
        frequency_min: The lower edge of the mel filters, in Hz.
        frequency_max: The upper edge of the mel filters, in Hz.
        padding_value: The value after the end of the shorter clips of a batch; the model does not see it.
    """

    mel_frames_per_frame = mel_frames_in_frame = PATCH_MEL_FRAMES // FRAMES_PER_PATCH
    window_frames = 63 * FRAMES_PER_PATCH  # 60 s

    def __init__(
        self,
        feature_size: int = 64,
        sampling_rate: int = 16000,
        n_fft: int = 512,
        window_length: int = 400,
        hop_length: int = 160,
        frequency_min: float = 125.0,
        frequency_max: float = 7500.0,
        padding_value: float = 0.0,
        **kwargs,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.n_fft = n_fft
        self.window_length = window_length
        self.hop_length = hop_length
        self.frequency_min = frequency_min
        self.frequency_max = frequency_max

    @property
    def minimum_samples(self) -> int:
        return (PATCH_MEL_FRAMES - 1) * self.hop_length + self.window_length

    @property
    def first_mel_frame_centre(self) -> int:
        return self.window_length // 2

    @property
    def window_tail(self) -> int:
        return self.window_length - self.hop_length

    def num_frames(self, num_samples: int) -> int:
        mel_frames = 1 + (max(num_samples, self.minimum_samples) - self.window_length) // self.hop_length
        return mel_frames // PATCH_MEL_FRAMES * FRAMES_PER_PATCH

    def log_mel(self, waveforms: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return vggish_log_mel(
            waveforms,
            sampling_rate=self.sampling_rate,
            n_fft=self.n_fft,
            window_length=self.window_length,
            hop_length=self.hop_length,
            num_mel_bins=self.feature_size,
            frequency_min=self.frequency_min,
            frequency_max=self.frequency_max,
        )
