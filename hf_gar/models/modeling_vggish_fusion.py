"""VGGish-Fusion: VGGish's layers, of which the chosen ones are fused."""

import torch
from torch import nn

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError  # noqa: F401
from .chunks import split_chunks  # noqa: F401
from .configuration_fusion import FusionConfig  # noqa: F401
from .configuration_vggish_fusion import (
    CONVOLUTIONS,
    FRAMES_PER_PATCH,
    FULLY_CONNECTED,
    PATCH_MEL_FRAMES,
    POOLINGS,
    VGGishFusionConfig,
)
from .fusion import is_traced, length_mask, tap_to_frames
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

# Patches that pass through the network at a time: bounds the memory that a batch of long clips takes.
PATCHES_AT_ONCE = 256


class VGGishFusionModel(FusionModel):
    """VGGish (Hershey et al., 2017) with the multilayer fusion of Niizumi et al., 2022.

    The input is (batch, time, mel), at least 96 mel frames long. It is cut into patches of 96, which are independent of
    each other; what does not fill a last patch is dropped. A patch gives 6 frame embeddings.
    """

    config_class = VGGishFusionConfig
    minimum_length = PATCH_MEL_FRAMES

    def __init__(self, config: VGGishFusionConfig):
        super().__init__(config)
        self.fused_layers = config.fused_layers
        sizes = dict(zip(config.valid_layers, [*config.channels, *config.hidden_sizes], strict=True))
        built = [layer for layer in config.valid_layers if layer <= config.depth]
        # By layer number, as in the configuration.
        self.convolutions = nn.ModuleDict()
        self.fully_connected = nn.ModuleDict()
        channels, width = 1, FRAMES_PER_PATCH * (config.num_mel_bins // POOLINGS) * config.channels[-1]
        for layer in built:
            if layer in CONVOLUTIONS:
                self.convolutions[str(layer)] = nn.Conv2d(channels, sizes[layer], kernel_size=3, padding=1)
                channels = sizes[layer]
            else:
                self.fully_connected[str(layer)] = nn.Linear(width, sizes[layer])
                width = sizes[layer]
        # The weights of deeper layers may be in a repository that is loaded with a smaller depth.
        self._keys_to_ignore_on_load_unexpected = [
            rf"\.{layer}\." for layer in config.valid_layers if layer not in built
        ]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)

    def layer_outputs(self, input_features: torch.Tensor, lengths: torch.Tensor | None) -> LayerOutputs:
        batch, time, _ = input_features.shape
        # A slice, or a reshape in one step, would be traced for some lengths only: torch.export compares their sizes.
        used = torch.arange(time // PATCH_MEL_FRAMES * PATCH_MEL_FRAMES, device=input_features.device)
        patches = input_features.to(self.dtype).index_select(1, used).flatten(0, 1).unflatten(0, (-1, PATCH_MEL_FRAMES))
        if is_traced():
            layers = self._patch_frames(patches)
        elif lengths is None or lengths.device.type != "cpu":
            layers = self._split_patch_frames(patches)
        else:
            layers = self._own_patch_frames(
                patches, length_mask(lengths // PATCH_MEL_FRAMES, time // PATCH_MEL_FRAMES).flatten()
            )
        return LayerOutputs([frames.flatten(0, 1).unflatten(0, (batch, -1)) for frames in layers])

    def frame_counts(self, lengths: torch.Tensor) -> torch.Tensor:
        return lengths // PATCH_MEL_FRAMES * FRAMES_PER_PATCH

    def _own_patch_frames(self, patches: torch.Tensor, own: torch.Tensor) -> list[torch.Tensor]:
        """As `_patch_frames`, a bounded number at a time, and zeros for patches that are not `own` (patch,).

        How many those are depends on values: where a graph is made, and where they are on a GPU and would have to be
        waited for, the padding passes through the network, too.
        """
        return [
            frames.new_zeros(own.shape[0], *frames.shape[1:]).index_put((own.to(frames.device),), frames)
            for frames in self._split_patch_frames(patches[own])
        ]

    def _split_patch_frames(self, patches: torch.Tensor) -> list[torch.Tensor]:
        """As `_patch_frames`, a bounded number at a time."""
        if patches.shape[0] <= PATCHES_AT_ONCE:
            return self._patch_frames(patches)
        pieces = map(self._patch_frames, patches.split(PATCHES_AT_ONCE))
        return [torch.cat(layer) for layer in zip(*pieces, strict=True)]

    def _patch_frames(self, patches: torch.Tensor) -> list[torch.Tensor]:
        """Each chosen layer's frames, (patch, 6, D of the layer), of patches (patch, 96, mel)."""
        x = patches[:, None]
        layers: list[torch.Tensor] = []
        reduction = 1
        for layer, wanted in CONVOLUTIONS.items():
            if layer > self.fused_layers[-1]:
                return layers
            if wanted > reduction:
                x = nn.functional.max_pool2d(x, 2)
                reduction = wanted
            x = self.convolutions[str(layer)](x).relu_()
            if layer in self.fused_layers:
                layers.append(tap_to_frames(x, x.shape[2] // FRAMES_PER_PATCH))
        # (patch, channel, time, frequency) is flattened in the order time, frequency, channel; of a copy, since a graph
        # may be run on another memory layout than it was traced with.
        x = nn.functional.max_pool2d(x, 2).permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).flatten(1)
        for layer in FULLY_CONNECTED:
            if layer > self.fused_layers[-1]:
                break
            x = self.fully_connected[str(layer)](x).relu_()
            if layer in self.fused_layers:
                layers.append(x[:, None].expand(-1, FRAMES_PER_PATCH, -1))
        return layers


class VGGishFusionForAudioClassification(FusionForAudioClassification):
    """VGGish with a classifier on the clip embedding of the configuration's `classified_layers`."""

    backbone_class = VGGishFusionModel
