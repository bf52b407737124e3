"""VGGish-Fusion's feature extractor."""

import torch

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError  # noqa: F401
from .configuration_fusion import FusionConfig  # noqa: F401
from .configuration_vggish_fusion import FRAMES_PER_PATCH, PATCH_MEL_FRAMES, VGGishFusionConfig
from .feature_extraction_fusion import FusionFeatureExtractor  # noqa: F401
from .feature_extraction_log_mel import LogMelFeatureExtractor
from .fusion import resolve_fusion_layers  # noqa: F401
from .log_mel import vggish_log_mel


class VGGishFusionFeatureExtractor(LogMelFeatureExtractor):
    """VGGish's log-mel spectrograms. The arguments are `LogMelFeatureExtractor`'s."""

    model_type = VGGishFusionConfig.model_type
    mel_frames_per_frame = mel_frames_in_frame = PATCH_MEL_FRAMES // FRAMES_PER_PATCH
    stream_frames = FRAMES_PER_PATCH
    chunk_frames = 63 * FRAMES_PER_PATCH  # 60 s

    def __init__(
        self,
        feature_size: int = 64,
        sampling_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        frequency_min: float = 125.0,
        frequency_max: float = 7500.0,
        **kwargs,
    ):
        super().__init__(
            feature_size, sampling_rate, n_fft, win_length, hop_length, frequency_min, frequency_max, **kwargs
        )

    @property
    def minimum_samples(self) -> int:
        return (PATCH_MEL_FRAMES - 1) * self.hop_length + self.win_length

    @property
    def chunk_tail(self) -> int:
        return self.win_length - self.hop_length

    def num_frames(self, num_samples: int) -> int:
        mel_frames = 1 + (max(num_samples, self.minimum_samples) - self.win_length) // self.hop_length
        return mel_frames // PATCH_MEL_FRAMES * FRAMES_PER_PATCH

    def log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        return vggish_log_mel(waveform, self.front_end)
