"""AST-Fusion's configuration."""

from collections.abc import Sequence

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .configuration_fusion import FusionConfig, require_positive_integers
from .fusion import resolve_fusion_layers  # noqa: F401

# 16x16 patches every 10 mel frames and every 10 mel bins.
PATCH_SIZE = 16
PATCH_STRIDE = 10


def patches(size: int) -> int:
    """How many patches fit into so many mel frames or mel bins."""
    return (size - PATCH_SIZE) // PATCH_STRIDE + 1


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
        require_positive_integers(
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            intermediate_size=intermediate_size,
        )
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size={hidden_size} has to be a multiple of num_attention_heads={num_attention_heads}."
            )
        self.max_length = max_length
        self.pretrained_max_length = pretrained_max_length
        self.num_mel_bins = num_mel_bins
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.patch_grid, self.pretrained_patch_grid  # noqa: B018 - raise where a size is below one patch
        self.choose_layers(fusion_layers, depth)

    @property
    def valid_layers(self) -> tuple[int, ...]:
        return tuple(range(self.num_hidden_layers))

    @property
    def layer_sizes(self) -> dict[int, int]:
        return dict.fromkeys(self.valid_layers, self.hidden_size)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """The patches of an input of `max_length`: rows over frequency, columns over time.

        Raises:
            ValueError: The input is smaller than one patch.
        """
        return self._patches("num_mel_bins"), self._patches("max_length")

    @property
    def pretrained_patch_grid(self) -> tuple[int, int]:
        """The patches that the position embeddings were trained for, as `patch_grid`."""
        return self._patches("num_mel_bins"), self._patches("pretrained_max_length")

    def _patches(self, field: str) -> int:
        size = getattr(self, field)
        if type(size) is not int or size < PATCH_SIZE:
            raise ValueError(f"{field}={size!r} is below one patch: AST takes at least {PATCH_SIZE}.")
        return patches(size)
