"""What the three fusion models share: strict loading, the frames of the chosen layers, pooling, outputs."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_fusion import FusionConfig
from .fusion import pool_frames

# Imported so that save_pretrained, which copies what this file imports, copies the pipeline that config.json names.
from .pipeline_audio_embedding import AudioEmbeddingPipeline  # noqa: F401


@dataclass
class FusionOutput(ModelOutput):
    """The output of a fusion model.

    Args:
        last_hidden_state: Frame embeddings in order of time, (batch, frame, D); zeros after a clip's end.
        pooler_output: Clip embeddings, (batch, D).
        frame_mask: (batch, frame), true for a clip's own frames.
        hidden_states: With `output_hidden_states=True`, each fused layer's part of `last_hidden_state`, in the order
            of the network, (batch, frame, D of the layer).
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class FusionModel(PreTrainedModel):
    """Base of the fusion models. A subclass computes each chosen layer's frames in `layer_frames`."""

    config_class = FusionConfig
    main_input_name = "input_features"
    input_modalities = "audio"
    _auto_class = "AutoModel"

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, output_loading_info: bool = False, **kwargs):
        """Load a model, as in transformers, but refuse a repository that lacks some of its weights.

        Raises:
            ValueError: A weight that the configuration asks for is missing.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        if info["missing_keys"]:
            missing = ", ".join(sorted(info["missing_keys"])[:5])
            raise ValueError(
                f"{pretrained_model_name_or_path} lacks {len(info['missing_keys'])} weights of a {cls.__name__} with "
                f"depth={model.config.depth}, among them {missing}. Export or download the repository again, or load "
                "it with a smaller depth."
            )
        return (model, info) if output_loading_info else model

    def layer_frames(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The frames of each chosen layer, (batch, frame, D of the layer), and the frame mask (batch, frame)."""
        raise AttributeError(f"{type(self).__name__} has to define layer_frames.")

    def pool(self, frames: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
        """The clip embeddings (batch, D) of frames (batch, frame, D) under a mask (batch, frame)."""
        return pool_frames(frames, frame_mask)

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> FusionOutput | tuple[torch.Tensor, ...]:
        """Embed a batch of clips.

        Args:
            input_features: The feature extractor's spectrograms, (batch, time, mel).
            attention_mask: (batch, time), 1 for a clip's own frames, which come first; by default all are.
            output_hidden_states: Whether to return each fused layer's frames as well.

        Returns:
            A `FusionOutput`. A clip's embeddings are the same alone and in any batch.
        """
        layers, frame_mask = self.layer_frames(input_features, attention_mask)
        layers = [frames.masked_fill(~frame_mask[:, :, None], 0) for frames in layers]
        frames = torch.cat(layers, dim=-1)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return FusionOutput(
            last_hidden_state=frames,
            pooler_output=self.pool(frames, frame_mask),
            frame_mask=frame_mask,
            hidden_states=tuple(layers) if output_hidden_states else None,
        )

    def encode_frames(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The frame embeddings in the layout of the original code, (batch, D, frame)."""
        return self(input_features, attention_mask=attention_mask).last_hidden_state.transpose(1, 2)
