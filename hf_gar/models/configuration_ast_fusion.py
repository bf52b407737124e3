"""AST-Fusion's configuration."""

from collections.abc import Sequence

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .configuration_fusion import MAX_CHANNELS, MAX_MEL_BINS, MAX_WIDTH, Field, FusionConfig
from .fusion import resolve_fusion_layers  # noqa: F401

# 16x16 patches every 10 mel frames and every 10 mel bins.
PATCH_SIZE = 16
PATCH_STRIDE = 10
# Each patch attends to every other: the work grows with the square of their number. 128 mel bins for 136 s.
MAX_PATCHES = 16_384
MAX_LENGTH = Field(PATCH_SIZE, MAX_PATCHES * PATCH_STRIDE)  # in mel frames; with one row of patches


def patches(size: int) -> int:
    """How many patches fit into so many mel frames or mel bins."""
    return (size - PATCH_SIZE) // PATCH_STRIDE + 1


def count_patches(num_mel_bins: int, max_length: int, name: str = "max_length") -> tuple[int, int]:
    """The patches of an input: rows over frequency, columns over time.

    Args:
        num_mel_bins: The mel bins of the input.
        max_length: Its length, in mel frames.
        name: What the field with that length is called, for the error.

    Raises:
        ValueError: They are more than AST takes.
    """
    rows, columns = patches(num_mel_bins), patches(max_length)
    if rows * columns > MAX_PATCHES:
        longest = (MAX_PATCHES // rows - 1) * PATCH_STRIDE + PATCH_SIZE
        raise ValueError(
            f"{name}={max_length} makes {rows * columns} patches of the {num_mel_bins} mel bins, more than the "
            f"{MAX_PATCHES} that AST takes: choose {longest} or less. Longer recordings are cut into pieces of that "
            "length by the pipeline and hf_gar."
        )
    return rows, columns


class ASTFusionConfig(FusionConfig):
    """The configuration of an `ASTFusionModel`.

    AST (Gong et al., "AST: Audio Spectrogram Transformer", 2021) is a DeiT with a class and a distillation token. Its
    transformer blocks are numbered from 0. Blocks 4 and 11 are the fusion of the paper (Niizumi et al., 2022, table
    III, there counted from 1).

    Args:
        fusion_layers: The blocks whose outputs are concatenated; None for AST's own embedding (the last block).
        depth: The deepest block whose weights the model holds; by default the deepest one that is used.
        max_length: The length that every input is padded to, in mel frames: 1024 are 10.24 s.
        pretrained_max_length: The length that the position embeddings were trained for, in mel frames. Where
            `max_length` is another, they are cut from the middle, or interpolated.
        hidden_size: The width of the network.
        num_hidden_layers: The number of transformer blocks.
        num_attention_heads: The number of attention heads in a block.
        intermediate_size: The width of the feed-forward layers.
        layer_norm_eps: Of the layer normalisations.
        num_mel_bins: The mel bins of the input, at least 16.
        sampling_rate: Of the recordings that the network was trained on, in Hz.
        hop_length: From one mel frame to the next, in samples.
        initializer_range: The standard deviation of untrained weights.
    """

    model_type = "ast-fusion"
    mel_frames_per_frame = PATCH_STRIDE
    checked_fields = FusionConfig.checked_fields | {
        "max_length": MAX_LENGTH,
        "pretrained_max_length": MAX_LENGTH,
        "hidden_size": Field(1, MAX_CHANNELS),
        "num_hidden_layers": Field(1, 256),
        "num_attention_heads": Field(1, 1024),
        "intermediate_size": Field(1, MAX_WIDTH),
        "layer_norm_eps": Field(1e-12, 1, is_whole=False),
        "num_mel_bins": Field(PATCH_SIZE, MAX_MEL_BINS),
        "initializer_range": Field(0, 1, is_whole=False),
    }
    # Declared, since transformers 5 takes an undeclared max_length for one of text generation and refuses to save it.
    max_length: int = 1024

    def __init__(
        self,
        fusion_layers: Sequence[int] | None = (4, 11),
        depth: int | None = None,
        max_length: int = 1024,
        pretrained_max_length: int = 1024,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        layer_norm_eps: float = 1e-6,
        num_mel_bins: int = 128,
        sampling_rate: int = 16000,
        hop_length: int = 160,
        initializer_range: float = 0.02,
        **kwargs,
    ):
        super().__init__(sampling_rate, hop_length, **kwargs)
        self.max_length = max_length
        self.pretrained_max_length = pretrained_max_length
        self.num_mel_bins = num_mel_bins
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.choose_layers(fusion_layers, depth)

    def check(self) -> None:
        super().check()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} has to be a multiple of "
                f"num_attention_heads={self.num_attention_heads}."
            )
        self.patch_grid, self.pretrained_patch_grid  # noqa: B018 - raise where there are too many

    @property
    def valid_layers(self) -> tuple[int, ...]:
        return tuple(range(self.num_hidden_layers))

    @property
    def layer_sizes(self) -> dict[int, int]:
        return dict.fromkeys(self.valid_layers, self.hidden_size)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """The patches of an input of `max_length`, as `count_patches` gives them."""
        return count_patches(self.num_mel_bins, self.max_length)

    @property
    def pretrained_patch_grid(self) -> tuple[int, int]:
        """The patches that the position embeddings were trained for, likewise."""
        return count_patches(self.num_mel_bins, self.pretrained_max_length, "pretrained_max_length")
