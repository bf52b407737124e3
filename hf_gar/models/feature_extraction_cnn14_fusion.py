"""CNN14-Fusion's feature extractor."""

import torch

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError  # noqa: F401
from .configuration_cnn14_fusion import MEL_FRAMES_PER_FRAME, Cnn14FusionConfig
from .configuration_fusion import FusionConfig  # noqa: F401
from .feature_extraction_fusion import FusionFeatureExtractor  # noqa: F401
from .feature_extraction_log_mel import LogMelFeatureExtractor
from .fusion import resolve_fusion_layers  # noqa: F401
from .log_mel import cnn14_log_mel


class Cnn14FusionFeatureExtractor(LogMelFeatureExtractor):
    """CNN14's log-mel spectrograms, in dB.

    The arguments are `LogMelFeatureExtractor`'s; by default those of the 16 kHz network.
    """

    model_type = Cnn14FusionConfig.model_type
    mel_frames_per_frame = mel_frames_in_frame = MEL_FRAMES_PER_FRAME
    stream_frames = 1
    chunk_frames = 188  # 60 s
    # A frame embedding depends on 126 mel frames before and after its own, of which the two at a cut are not what they
    # are in the whole recording: 4 frames of 32 cover that.
    chunk_context_frames = 4

    def __init__(
        self,
        feature_size: int = 64,
        sampling_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 512,
        hop_length: int = 160,
        frequency_min: float = 50.0,
        frequency_max: float = 8000.0,
        **kwargs,
    ):
        super().__init__(
            feature_size, sampling_rate, n_fft, win_length, hop_length, frequency_min, frequency_max, **kwargs
        )

    @property
    def minimum_samples(self) -> int:
        # n samples give 1 + n // hop_length mel frames.
        return max((MEL_FRAMES_PER_FRAME - 1) * self.hop_length, self.n_fft // 2 + 1)

    @property
    def first_mel_frame_centre(self) -> int:
        return 0

    @property
    def chunk_tail(self) -> int:
        return 0

    def num_frames(self, num_samples: int) -> int:
        return (1 + max(num_samples, self.minimum_samples) // self.hop_length) // MEL_FRAMES_PER_FRAME

    def log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        return cnn14_log_mel(waveform, self.front_end)
