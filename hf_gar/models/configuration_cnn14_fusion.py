"""CNN14-Fusion's configuration."""

from collections.abc import Sequence

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .configuration_fusion import MAX_CHANNELS, MAX_MEL_BINS, Field, FusionConfig
from .fusion import resolve_fusion_layers  # noqa: F401

BLOCKS = 6
# Five 2x2 poolings: one embedding frame is made of 32 mel frames, which is also the minimum that the network takes, as
# of mel bins.
MEL_FRAMES_PER_FRAME = 32


class Cnn14FusionConfig(FusionConfig):
    """The configuration of a `Cnn14FusionModel`.

    CNN14 (Kong et al., "PANNs", 2020) has six convolutional blocks, numbered from 1. Blocks 3 and 6 are the fusion of
    the paper (Niizumi et al., 2022, table III).

    Args:
        fusion_layers: The blocks whose outputs are concatenated, from 1 to 6; None for CNN14's own embedding (`fc1`).
        depth: The deepest block whose weights the model holds, 1 to 6, or 7 for `fc1` as well; by default the deepest
            one that is used.
        channels: The channels of each block.
        num_mel_bins: The mel bins of the input, at least 32.
        sampling_rate: Of the recordings that the network was trained on, in Hz.
        hop_length: From one mel frame to the next, in samples.
        dropout: The probability of dropout after each block in training.
    """

    model_type = "cnn14-fusion"
    mel_frames_per_frame = MEL_FRAMES_PER_FRAME
    checked_fields = FusionConfig.checked_fields | {
        "channels": Field(1, MAX_CHANNELS, length=BLOCKS),
        "num_mel_bins": Field(MEL_FRAMES_PER_FRAME, MAX_MEL_BINS),
        "dropout": Field(0, 1, is_whole=False),
    }

    def __init__(
        self,
        fusion_layers: Sequence[int] | None = (3, 6),
        depth: int | None = None,
        channels: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
        num_mel_bins: int = 64,
        sampling_rate: int = 16000,
        hop_length: int = 160,
        dropout: float = 0.2,
        **kwargs,
    ):
        super().__init__(sampling_rate, hop_length, **kwargs)
        self.channels = channels
        self.num_mel_bins = num_mel_bins
        self.dropout = dropout
        self.choose_layers(fusion_layers, depth)

    @property
    def valid_layers(self) -> tuple[int, ...]:
        return tuple(range(1, BLOCKS + 1))

    @property
    def unfused_layer(self) -> int:
        return BLOCKS + 1

    @property
    def layer_sizes(self) -> dict[int, int]:
        # Each block but the last halves the frequencies; fc1 keeps the last block's channels.
        sizes = {
            block: channels * (self.num_mel_bins >> min(block, BLOCKS - 1))
            for block, channels in enumerate(self.channels, start=1)
        }
        return {**sizes, self.unfused_layer: self.channels[-1]}
