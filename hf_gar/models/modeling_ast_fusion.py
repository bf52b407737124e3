"""AST-Fusion: the Audio Spectrogram Transformer's blocks, of which the chosen ones are fused."""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import AudioError  # noqa: F401
from .chunks import split_chunks  # noqa: F401
from .configuration_ast_fusion import PATCH_SIZE, PATCH_STRIDE, ASTFusionConfig
from .configuration_fusion import FusionConfig  # noqa: F401
from .fusion import DurationPooling, is_traced
from .modeling_classification import FusionForAudioClassification
from .modeling_fusion import FusionModel, FusionPreTrainedModel, LayerOutputs, require_eager
from .module_audio_embedding import AudioEmbeddingModule  # noqa: F401
from .pipeline_audio_classification import FusionAudioClassificationPipeline  # noqa: F401
from .pipeline_audio_embedding import AudioEmbeddingPipeline  # noqa: F401
from .pipeline_recordings import RecordingPipeline  # noqa: F401

try:
    from transformers import initialization as init  # transformers 5: leaves weights alone that were loaded
except ImportError:
    from torch.nn import init


class ASTEmbeddings(nn.Module):
    """Spectrograms to tokens: (batch, time, mel) -> (batch, 2 + rows * columns, width)."""

    def __init__(self, config: ASTFusionConfig):
        super().__init__()
        rows, columns = config.pretrained_patch_grid
        self.pretrained_grid = (rows, columns)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 2 + rows * columns, config.hidden_size))
        self.projection = nn.Conv2d(1, config.hidden_size, kernel_size=PATCH_SIZE, stride=PATCH_STRIDE)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        # Rows are frequencies: the tokens go through all times of the first row, then of the second.
        grid = self.projection(input_features.transpose(1, 2)[:, None])  # (batch, width, rows, columns)
        patches = grid.flatten(2).transpose(1, 2)
        special = torch.cat([self.cls_token, self.distillation_token], dim=1).expand(patches.shape[0], -1, -1)
        return torch.cat([special, patches], dim=1) + self.fitted_position_embeddings(grid.shape[3])

    def fitted_position_embeddings(self, columns: int) -> torch.Tensor:
        """The position embeddings for so many columns of patches, (1, 2 + rows * columns, width).

        For fewer columns than were trained they are cut from the middle, for more they are interpolated linearly. The
        length of the input may be unknown where a graph is made: nothing here branches on it.
        """
        rows, trained = self.pretrained_grid
        special, patches = self.position_embeddings.split([2, rows * trained], dim=1)
        grid = patches.unflatten(1, (rows, trained))  # (1, rows, columns, width)
        column = torch.arange(columns, device=grid.device, dtype=torch.float32)
        count = column[-1:] + 1
        cut = column + (trained // 2 - (count / 2).floor())
        stretched = ((column + 0.5) * (trained / count) - 0.5).clamp(0, trained - 1)
        place = torch.where(count > trained, stretched, cut).clamp(0, trained - 1)
        before = place.floor()
        after, share = (before + 1).clamp(max=trained - 1), (place - before)[:, None]
        left, right = (grid.index_select(2, index.long()).float() for index in (before, after))
        fitted = (left + share * (right - left)).to(grid.dtype)
        return torch.cat([special, fitted.flatten(1, 2)], dim=1)


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention step by step, as transformers calls it: queries, keys and values (batch, head, token, size of a head).

    Returns:
        The attended values, (batch, token, head, size of a head), and the weights, (batch, head, token, token).
    """
    weights = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2), weights


class ASTBlock(GradientCheckpointingLayer):
    """A pre-norm transformer block, (batch, token, width) -> (batch, token, width), and its attention weights.

    The weights are (batch, head, token, token), or None with an attention that does not compute them as such.
    """

    is_causal = False  # asked by transformers' attention functions

    def __init__(self, config: ASTFusionConfig):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.num_heads = config.num_attention_heads
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.intermediate = nn.Linear(width, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        # (batch, token, 3 * width) -> query, key, value, each (batch, head, token, width of a head)
        query, key, value = self.qkv(self.norm1(x)).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        name = self.config._attn_implementation
        attend = eager_attention if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        attended, weights = attend(self, query, key, value, None)
        x = x + self.attention_output(attended.flatten(2))
        return x + self.output(nn.functional.gelu(self.intermediate(self.norm2(x)))), weights


class ASTFusionPreTrainedModel(FusionPreTrainedModel):
    """Base of AST-Fusion and of what holds it as its `backbone`, under a head: what both support."""

    config_class = ASTFusionConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The embeddings hold tensors of their own beside a layer.
    _no_split_modules = ["ASTEmbeddings", "ASTBlock"]


class ASTFusionModel(ASTFusionPreTrainedModel, FusionModel):
    """AST (Gong et al., 2021) with the multilayer fusion of Niizumi et al., 2022.

    The input is (batch, max_length, mel). A clip embedding is made of the class and distillation tokens, a frame
    embedding of one column of patches. As in the original, the padding after a clip's end is seen by the attention: a
    clip's embedding depends on `max_length`, not on the batch.
    """

    has_attentions = True

    def __init__(self, config: ASTFusionConfig):
        super().__init__(config)
        self.fused_layers = config.fused_layers
        self.embeddings = ASTEmbeddings(config)
        self.layers = nn.ModuleList(ASTBlock(config) for _ in range(config.depth + 1))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        # The weights of deeper blocks may be in a repository that is loaded with a smaller depth.
        self._keys_to_ignore_on_load_unexpected = [
            rf"\blayers\.{layer}\." for layer in range(config.depth + 1, config.num_hidden_layers)
        ]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ASTEmbeddings):
            for parameter in (module.cls_token, module.distillation_token, module.position_embeddings):
                init.trunc_normal_(parameter, std=self.config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        """The layer that makes tokens of patches."""
        return self.embeddings.projection

    def layer_outputs(
        self, input_features: torch.Tensor, lengths: torch.Tensor | None, output_attentions: bool = False
    ) -> LayerOutputs:
        if not is_traced() and input_features.shape[1] != self.config.max_length:
            raise ValueError(
                f"input_features has {input_features.shape[1]} spectrogram frames, but this model takes "
                f"max_length={self.config.max_length}. The feature extractor pads to its own max_length: load "
                "both with the same one. Long recordings are for the pipeline or hf_gar, which cut them into chunks."
            )
        if output_attentions:
            require_eager(self.config._attn_implementation)
        x = self.embeddings(input_features.to(self.dtype))
        frames, clips, attentions = [], [], []
        for number, layer in enumerate(self.layers[: self.fused_layers[-1] + 1]):
            x, weights = layer(x)
            if output_attentions:
                attentions.append(weights)
            if number in self.fused_layers:
                normed = self.norm(x)
                clips.append(normed[:, :2].mean(1))
                frames.append(normed[:, 2:].unflatten(1, (self.config.patch_grid[0], -1)).mean(1))
        return LayerOutputs(frames, clips, attentions if output_attentions else None)

    def frame_counts(self, lengths: torch.Tensor) -> torch.Tensor:
        # A column is a clip's own where all of its mel frames are; a clip has a minimum of one.
        return ((lengths - PATCH_SIZE) // PATCH_STRIDE + 1).clamp(min=1)

    @property
    def pooling(self) -> DurationPooling:
        return DurationPooling()


class ASTFusionForAudioClassification(ASTFusionPreTrainedModel, FusionForAudioClassification):
    """AST with a classifier on the clip embedding of the configuration's `classified_layers`."""

    backbone_class = ASTFusionModel
