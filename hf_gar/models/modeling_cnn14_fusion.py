"""CNN14-Fusion: CNN14's blocks, of which the chosen ones are fused."""

import torch
from torch import nn

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError  # noqa: F401
from .chunks import split_chunks  # noqa: F401
from .configuration_cnn14_fusion import BLOCKS, MEL_FRAMES_PER_FRAME, Cnn14FusionConfig
from .configuration_fusion import FusionConfig  # noqa: F401
from .fusion import FramePooling, is_traced, length_mask, tap_to_frames
from .modeling_classification import FusionForAudioClassification
from .modeling_fusion import FusionModel, LayerOutputs
from .module_audio_embedding import AudioEmbeddingModule  # noqa: F401
from .pipeline_audio_classification import FusionAudioClassificationPipeline  # noqa: F401
from .pipeline_audio_embedding import AudioEmbeddingPipeline  # noqa: F401
from .pipeline_recordings import RecordingPipeline  # noqa: F401

try:
    from transformers import initialization as init  # transformers 5: leaves weights alone that were loaded
except ImportError:
    from torch.nn import init


class Cnn14Block(nn.Module):
    """Two 3x3 convolutions, each with batch normalisation and ReLU, and 2x2 average pooling.

    (batch, channel, frequency, time) -> (batch, channel, frequency // 2, time // 2); the last block does not pool.
    Convolutions are computed row by row. Where the network is deep, frequency has 2 values left, and time 15 for a clip
    of 5 s: with rows of time, the whole network takes two thirds of the time on processors.
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
        x = zero_after(normalized_convolution(x, self.conv1, self.bn1).relu_(), lengths)
        x = normalized_convolution(x, self.conv2, self.bn2).relu_()
        x = nn.functional.avg_pool2d(x, self.pooling) if self.pooling > 1 else x
        return zero_after(x, None if lengths is None else lengths // self.pooling)


def normalized_convolution(x: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """A convolution without bias, and batch normalisation, of `x` (batch, channel, frequency, time).

    The kernels are stored as (time, frequency).

    Outside of training they are a single convolution, whose weights are computed each time, which leaves nothing to
    be undone when the model is trained or saved: where `x` has more values than the weights, that is the lesser work.
    """
    if not is_plain(conv, nn.Conv2d):
        return norm(conv(x.transpose(2, 3)).transpose(2, 3))
    kernel = conv.weight.transpose(2, 3)
    if is_traced():  # for any length: where a kernel is laid out otherwise, torch.export compares strides
        kernel = kernel.clone(memory_format=torch.contiguous_format)
    is_small = not is_traced() and x.shape[0] * x.shape[2] * x.shape[3] < 9 * conv.in_channels
    if norm.training or is_traced() or is_small or not is_plain(norm, nn.BatchNorm2d):
        return norm(nn.functional.conv2d(x, kernel, padding=conv.padding))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()
    bias = norm.bias.float() - norm.running_mean.float() * scale
    kernel = (kernel * scale[:, None, None, None]).to(x.dtype)
    return nn.functional.conv2d(x, kernel, bias.to(x.dtype), padding=conv.padding)


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is what its class makes it: nobody has put hooks on it, an adapter around it, or its weights
    elsewhere.
    """
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return type(module) is kind and not hooks and "forward" not in vars(module)


def zero_after(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Zero what lies beyond a clip's end, so that the next convolution sees there what it sees for the clip alone.

    `x` is (batch, channel, frequency, time).

    Without gradients, that is done in place, from the end of the shortest clip on.
    """
    if lengths is None:
        return x
    mask = length_mask(lengths.to(x.device), x.shape[3])[:, None, None]
    if is_traced() or torch.is_grad_enabled():
        return x * mask
    if lengths.device.type != "cpu":  # not to wait for it
        return x.mul_(mask)
    shortest = int(lengths.min())
    x[..., shortest:].mul_(mask[..., shortest:])
    return x


class Cnn14FusionModel(FusionModel):
    """CNN14 (Kong et al., "PANNs", 2020) with the multilayer fusion of Niizumi et al., 2022.

    The input is (batch, time, mel), at least 32 frames long; a frame embedding is made of 32 of them.
    """

    config_class = Cnn14FusionConfig
    minimum_length = MEL_FRAMES_PER_FRAME
    has_time_last = True
    _no_split_modules = ["Cnn14Block"]

    def __init__(self, config: Cnn14FusionConfig):
        super().__init__(config)
        self.fused_layers = config.fused_layers
        self.is_unfused = config.is_unfused
        sizes = [1, *config.channels][: min(config.depth, BLOCKS) + 1]
        self.bn0 = nn.BatchNorm1d(config.num_mel_bins)
        self.blocks = nn.ModuleList(
            Cnn14Block(sizes[block - 1], sizes[block], pooling=1 if block == BLOCKS else 2)
            for block in range(1, len(sizes))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.fc1 = nn.Linear(config.channels[-1], config.channels[-1]) if config.depth > BLOCKS else None
        # The weights of deeper layers may be in a repository that is loaded with a smaller depth.
        self._keys_to_ignore_on_load_unexpected = [
            rf"\bblocks\.{block}\." for block in range(len(self.blocks), BLOCKS)
        ] + ([] if self.fc1 else [r"\bfc1\."])
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def layer_outputs(self, input_features: torch.Tensor, lengths: torch.Tensor | None) -> LayerOutputs:
        x = self.bn0(input_features.to(self.dtype).transpose(1, 2))[:, None]
        x = zero_after(x, lengths)
        reduction = 1  # spectrogram frames in a time step of x
        layers = []
        for number, block in enumerate(self.blocks[: self.fused_layers[-1]], start=1):
            x = block(x, None if lengths is None else lengths // reduction)
            reduction = min(2 * reduction, MEL_FRAMES_PER_FRAME)
            if number in self.fused_layers:
                layers.append(tap_to_frames(x.transpose(2, 3), MEL_FRAMES_PER_FRAME // reduction))
            x = self.dropout(x)
        if self.is_unfused:
            layers.append(x.mean(2).transpose(1, 2).contiguous())
        return LayerOutputs(layers)

    def frame_counts(self, lengths: torch.Tensor) -> torch.Tensor:
        return lengths // MEL_FRAMES_PER_FRAME

    @property
    def pooling(self) -> FramePooling:
        return FramePooling(self.fc1 if self.is_unfused else None)


class Cnn14FusionForAudioClassification(FusionForAudioClassification):
    """CNN14 with a classifier on the clip embedding of the configuration's `classified_layers`."""

    backbone_class = Cnn14FusionModel
