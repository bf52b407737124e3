"""Toy-Fusion: two convolutions over frequency, numbered 1 and 2, either or both of which are fused."""

from collections.abc import Sequence

import torch
from torch import nn

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError  # noqa: F401
from .chunks import split_chunks  # noqa: F401
from .configuration_fusion import FusionConfig
from .feature_extraction_fusion import FusionFeatureExtractor  # noqa: F401
from .feature_extraction_log_mel import LogMelFeatureExtractor
from .fusion import tap_to_frames
from .log_mel import vggish_log_mel
from .modeling_fusion import FusionModel, LayerOutputs
from .module_audio_embedding import AudioEmbeddingModule  # noqa: F401
from .pipeline_audio_embedding import AudioEmbeddingPipeline  # noqa: F401
from .pipeline_recordings import RecordingPipeline  # noqa: F401

LAYERS = (1, 2)
CHANNELS = 4
MEL_FRAMES_PER_FRAME = 10


class ToyFusionConfig(FusionConfig):
    """The configuration of a `ToyFusionModel`."""

    model_type = "toy-fusion"
    mel_frames_per_frame = MEL_FRAMES_PER_FRAME

    def __init__(
        self,
        fusion_layers: Sequence[int] | None = (1, 2),
        depth: int | None = None,
        num_mel_bins: int = 16,
        sampling_rate: int = 16000,
        hop_length: int = 160,
        **kwargs,
    ):
        super().__init__(sampling_rate, hop_length, **kwargs)
        self.num_mel_bins = num_mel_bins
        self.choose_layers(fusion_layers, depth)

    @property
    def valid_layers(self) -> tuple[int, ...]:
        return LAYERS

    @property
    def layer_sizes(self) -> dict[int, int]:
        return dict.fromkeys(LAYERS, CHANNELS * self.num_mel_bins)


class ToyFusionFeatureExtractor(LogMelFeatureExtractor):
    """VGGish's front end, of fewer mel bins."""

    model_type = ToyFusionConfig.model_type
    mel_frames_per_frame = mel_frames_in_frame = MEL_FRAMES_PER_FRAME
    chunk_frames = 600  # 60 s

    def __init__(
        self,
        feature_size: int = 16,
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
        return (MEL_FRAMES_PER_FRAME - 1) * self.hop_length + self.win_length

    @property
    def chunk_tail(self) -> int:
        return self.win_length - self.hop_length

    def num_frames(self, num_samples: int) -> int:
        mel_frames = 1 + (max(num_samples, self.minimum_samples) - self.win_length) // self.hop_length
        return mel_frames // MEL_FRAMES_PER_FRAME

    def log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        return vggish_log_mel(waveform, self.front_end)


class ToyFusionModel(FusionModel):
    """Each convolution sees one mel frame: a clip's frames do not depend on what surrounds them."""

    config_class = ToyFusionConfig
    minimum_length = MEL_FRAMES_PER_FRAME

    def __init__(self, config: ToyFusionConfig):
        super().__init__(config)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(1 if layer == 1 else CHANNELS, CHANNELS, kernel_size=(1, 3), padding=(0, 1), bias=False)
            for layer in LAYERS[: config.depth]
        )
        self._keys_to_ignore_on_load_unexpected = [rf"^convolutions\.{layer}\." for layer in LAYERS[config.depth - 1 :]]
        self.post_init()

    def layer_outputs(self, input_features: torch.Tensor, lengths: torch.Tensor | None) -> LayerOutputs:
        x, layers = input_features.to(self.dtype)[:, None], []
        for layer, convolution in zip(LAYERS, self.convolutions, strict=False):
            x = convolution(x).relu()
            if layer in self.config.fused_layers:
                layers.append(tap_to_frames(x, MEL_FRAMES_PER_FRAME))
        return LayerOutputs(layers)

    def frame_counts(self, lengths: torch.Tensor) -> torch.Tensor:
        return lengths // MEL_FRAMES_PER_FRAME
