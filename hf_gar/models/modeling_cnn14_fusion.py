"""CNN14-Fusion: CNN14's blocks, of which the chosen ones are fused."""

import torch
from torch import nn

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_loading import AudioError  # noqa: F401
from .configuration_cnn14_fusion import MEL_FRAMES_PER_FRAME, Cnn14FusionConfig
from .configuration_fusion import FusionConfig  # noqa: F401
from .fusion import length_mask, pool_frames, tap_to_frames
from .modeling_fusion import FusionModel
from .pipeline_audio_embedding import AudioEmbeddingPipeline  # noqa: F401

try:
    from transformers import initialization as init  # transformers 5: leaves weights alone that were loaded
except ImportError:
    from torch.nn import init


class Cnn14Block(nn.Module):
    """Two 3x3 convolutions, each with batch normalisation and ReLU, and 2x2 average pooling.

    (batch, channel, time, frequency) -> (batch, channel, time // 2, frequency // 2); the last block does not pool.
    """

    def __init__(self, in_channels: int, out_channels: int, pooling: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.pooling = pooling

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """`lengths` (batch,) are the clips' own time steps in `x`; None where no clip is padded."""
        x = self.bn1(self.conv1(x)).relu_()
        x = zero_after(x, lengths)
        x = self.bn2(self.conv2(x)).relu_()
        x = nn.functional.avg_pool2d(x, self.pooling) if self.pooling > 1 else x
        return zero_after(x, None if lengths is None else lengths // self.pooling)


def zero_after(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Zero what lies beyond a clip's end, so that the next convolution sees there what it sees for the clip alone."""
    if lengths is None:
        return x
    return x * length_mask(lengths, x.shape[2])[:, None, :, None]


class Cnn14FusionModel(FusionModel):
    """CNN14 (Kong et al., "PANNs", 2020) with the multilayer fusion of Niizumi et al., 2022.

    The input is (batch, time, mel), at least 32 frames long; a frame embedding is made of 32 of them.
    """

    config_class = Cnn14FusionConfig

    def __init__(self, config: Cnn14FusionConfig):
        super().__init__(config)
        self.fused_layers = config.fused_layers
        last = len(config.channels)
        sizes = [1, *config.channels][: min(config.depth, last) + 1]
        self.bn0 = nn.BatchNorm1d(config.num_mel_bins)
        self.blocks = nn.ModuleList(
            Cnn14Block(sizes[block - 1], sizes[block], pooling=1 if block == last else 2)
            for block in range(1, len(sizes))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.fc1 = nn.Linear(config.channels[-1], config.channels[-1]) if config.depth > last else None
        # The weights of deeper layers may be in a repository that is loaded with a smaller depth.
        self._keys_to_ignore_on_load_unexpected = [
            rf"^blocks\.{block}\." for block in range(len(self.blocks), last)
        ] + ([] if self.fc1 else [r"^fc1\."])
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def layer_frames(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        lengths = self._lengths(input_features, attention_mask)
        x = self.bn0(input_features.to(self.dtype).transpose(1, 2)).transpose(1, 2)[:, None]
        # Where no clip is padded there is nothing to mask.
        is_padded = not bool((lengths == x.shape[2]).all())
        x = zero_after(x, lengths if is_padded else None)
        reduction = 1  # spectrogram frames in a time step of x
        layers = []
        deepest = self.fused_layers[-1] if self.fused_layers else len(self.blocks)
        for number, block in enumerate(self.blocks[:deepest], start=1):
            x = block(x, lengths // reduction if is_padded else None)
            reduction = min(2 * reduction, MEL_FRAMES_PER_FRAME)
            if number in self.fused_layers:
                layers.append(tap_to_frames(x, MEL_FRAMES_PER_FRAME // reduction))
            x = self.dropout(x)
        if not self.fused_layers:
            layers.append(x.mean(3).transpose(1, 2))
        frame_mask = length_mask(lengths // MEL_FRAMES_PER_FRAME, layers[0].shape[1])
        return layers, frame_mask

    def pool(self, frames: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
        pooled = pool_frames(frames, frame_mask)
        return pooled if self.fc1 is None or self.fused_layers else self.fc1(pooled).relu()

    def _lengths(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The clips' own spectrogram frames, (batch,)."""
        if input_features.ndim != 3 or input_features.shape[2] != self.config.num_mel_bins:
            raise ValueError(
                f"input_features has the shape {tuple(input_features.shape)}, expected (batch, time, "
                f"{self.config.num_mel_bins}), as the feature extractor makes it."
            )
        batch, time, _ = input_features.shape
        if attention_mask is None:
            lengths = torch.full((batch,), time, device=input_features.device)
        elif attention_mask.shape != (batch, time):
            raise ValueError(f"attention_mask has the shape {tuple(attention_mask.shape)}, expected {(batch, time)}.")
        else:
            lengths = attention_mask.sum(1)
        if bool((lengths < MEL_FRAMES_PER_FRAME).any()):
            raise ValueError(
                f"A clip has {int(lengths.min())} spectrogram frames, but CNN14 takes at least {MEL_FRAMES_PER_FRAME}. "
                "The feature extractor pads shorter clips: pass it the waveform as it is."
            )
        return lengths
