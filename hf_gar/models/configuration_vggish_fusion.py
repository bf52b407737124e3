"""VGGish-Fusion's configuration."""

from collections.abc import Sequence

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .configuration_fusion import MAX_CHANNELS, MAX_MEL_BINS, MAX_WIDTH, Field, FusionConfig
from .fusion import resolve_fusion_layers  # noqa: F401

# The layers are numbered by the places of the ReLUs, counted from 0 through `features` and then `fc` of the original.
# By how much the 2x2 poolings before each convolution have divided time and frequency:
CONVOLUTIONS = {1: 1, 4: 2, 7: 4, 9: 4, 12: 8, 14: 8}
FULLY_CONNECTED = (17, 19, 21)
# A patch is the network's input, in mel frames; its poolings leave 6 frames of it.
PATCH_MEL_FRAMES = 96
FRAMES_PER_PATCH = 6
POOLINGS = 16


class VGGishFusionConfig(FusionConfig):
    """The configuration of a `VGGishFusionModel`.

    VGGish (Hershey et al., "CNN Architectures for Large-Scale Audio Classification", 2017) has six convolutional
    layers, 1, 4, 7, 9, 12 and 14, and three fully connected ones, 17, 19 and 21: the places of their ReLUs in the
    original code, counted from 0. Layers 9 and 14 are the fusion of the paper (Niizumi et al., 2022, table III, there
    counted from 1).

    Args:
        fusion_layers: The layers whose outputs are concatenated; None for VGGish's own embedding (layer 21).
        depth: The deepest layer whose weights the model holds; by default the deepest one that is used.
        channels: The channels of each convolutional layer.
        hidden_sizes: The size of each fully connected layer.
        num_mel_bins: The mel bins of the input, at least 16.
        sampling_rate: Of the recordings that the network was trained on, in Hz.
        hop_length: From one mel frame to the next, in samples.
    """

    model_type = "vggish-fusion"
    mel_frames_per_frame = PATCH_MEL_FRAMES // FRAMES_PER_PATCH
    checked_fields = FusionConfig.checked_fields | {
        "channels": Field(1, MAX_CHANNELS, length=len(CONVOLUTIONS)),
        "hidden_sizes": Field(1, MAX_WIDTH, length=len(FULLY_CONNECTED)),
        "num_mel_bins": Field(POOLINGS, MAX_MEL_BINS),  # four 2x2 poolings
    }

    def __init__(
        self,
        fusion_layers: Sequence[int] | None = (9, 14),
        depth: int | None = None,
        channels: Sequence[int] = (64, 128, 256, 256, 512, 512),
        hidden_sizes: Sequence[int] = (4096, 4096, 128),
        num_mel_bins: int = 64,
        sampling_rate: int = 16000,
        hop_length: int = 160,
        **kwargs,
    ):
        super().__init__(sampling_rate, hop_length, **kwargs)
        self.channels = channels
        self.hidden_sizes = hidden_sizes
        self.num_mel_bins = num_mel_bins
        self.choose_layers(fusion_layers, depth)

    @property
    def valid_layers(self) -> tuple[int, ...]:
        return (*CONVOLUTIONS, *FULLY_CONNECTED)

    @property
    def layer_sizes(self) -> dict[int, int]:
        convolutions = {
            layer: channels * (self.num_mel_bins // reduction)
            for (layer, reduction), channels in zip(CONVOLUTIONS.items(), self.channels, strict=True)
        }
        return convolutions | dict(zip(FULLY_CONNECTED, self.hidden_sizes, strict=True))
