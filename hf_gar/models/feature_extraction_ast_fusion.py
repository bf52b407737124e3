"""AST-Fusion's feature extractor."""

import torch

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError  # noqa: F401
from .configuration_ast_fusion import MAX_LENGTH, PATCH_SIZE, PATCH_STRIDE, ASTFusionConfig, count_patches, patches
from .configuration_fusion import Field
from .feature_extraction_fusion import FusionFeatureExtractor  # noqa: F401
from .feature_extraction_log_mel import LogMelFeatureExtractor
from .fusion import resolve_fusion_layers  # noqa: F401
from .log_mel import kaldi_filter_bank


class ASTFusionFeatureExtractor(LogMelFeatureExtractor):
    """AST's Kaldi filter banks, padded with zeros to `max_length` and normalised by (x - mean) / (2 std).

    Args:
        feature_size, sampling_rate, n_fft, win_length, hop_length, frequency_min, frequency_max: As in
            `LogMelFeatureExtractor`.
        max_length: The length to pad to, in spectrogram frames: the model's.
        mean: Of the filter banks, by default AudioSet's. The paper's evaluation takes each task's own, which
            `hf_gar.measure_normalization` measures.
        std: Of the filter banks, likewise.
    """

    model_type = ASTFusionConfig.model_type
    mel_frames_per_frame = PATCH_STRIDE
    mel_frames_in_frame = PATCH_SIZE
    max_length: int
    is_normalized_by_statistics = True
    checked_fields = LogMelFeatureExtractor.checked_fields | {
        "feature_size": ASTFusionConfig.checked_fields["num_mel_bins"],
        "max_length": MAX_LENGTH,
        "mean": Field(-1000, 1000, is_whole=False),
        "std": Field(0.001, 1000, is_whole=False),
    }

    def __init__(
        self,
        feature_size: int = 128,
        sampling_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        frequency_min: float = 20.0,
        frequency_max: float = 8000.0,
        max_length: int = 1024,
        mean: float = -4.2677393,
        std: float = 4.5689974,
        **kwargs,
    ):
        self.mean = mean
        self.std = std
        # Filter banks are padded with zeros and then normalised.
        kwargs["padding_value"] = -mean / (2 * std)
        super().__init__(
            feature_size, sampling_rate, n_fft, win_length, hop_length, frequency_min, frequency_max, **kwargs
        )
        self.max_length = max_length
        count_patches(feature_size, max_length)  # raises where they are too many

    @property
    def minimum_samples(self) -> int:
        return self.win_length

    @property
    def chunk_frames(self) -> int:
        return patches(self.max_length)

    @property
    def max_samples(self) -> int:
        return (self.max_length - 1) * self.hop_length + self.win_length

    @property
    def chunk_tail(self) -> int:
        return self.max_samples - self.chunk_frames * self.frame_samples

    def num_frames(self, num_samples: int) -> int:
        mel_frames = 1 + (max(num_samples, self.minimum_samples) - self.win_length) // self.hop_length
        return max(1, patches(mel_frames))

    def log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        return (kaldi_filter_bank(waveform, self.front_end) - self.mean) / (2 * self.std)
