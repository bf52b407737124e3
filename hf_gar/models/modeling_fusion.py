"""What the three fusion models share: strict loading, fusion, pooling, windows, outputs."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_fusion import FusionConfig
from .fusion import maximum_and_sum, pool_frames

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

    # Always given; ModelOutput asks for defaults.
    last_hidden_state: torch.Tensor = None  # type: ignore[assignment]
    pooler_output: torch.Tensor = None  # type: ignore[assignment]
    frame_mask: torch.Tensor = None  # type: ignore[assignment]
    hidden_states: tuple[torch.Tensor, ...] | None = None


class LayerOutputs(NamedTuple):
    """What the chosen layers give: their frames, (batch, frame, D of the layer), and the mask (batch, frame).

    `clips`, (batch, D of the layer), is for networks whose clip embedding is not pooled from their frames.
    """

    frames: list[torch.Tensor]
    frame_mask: torch.Tensor
    clips: list[torch.Tensor] | None = None


class FusionModel(PreTrainedModel):
    """Base of the fusion models. A subclass computes the chosen layers in `layer_outputs`."""

    config_class: type[FusionConfig] = FusionConfig
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

    def layer_outputs(self, input_features: torch.Tensor, lengths: torch.Tensor) -> LayerOutputs:
        """The outputs of the chosen layers for spectrograms (batch, time, mel) of `lengths` (batch,) mel frames."""
        raise AttributeError(f"{type(self).__name__} has to define layer_outputs.")

    def head(self, pooled: torch.Tensor) -> torch.Tensor:
        """What follows the pooling over time: nothing, (batch, D) -> (batch, D), but in some unfused networks."""
        return pooled

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

        Raises:
            ValueError: The input has another shape or length than the network takes.
        """
        layers, frame_mask, clips = self.layer_outputs(input_features, self._lengths(input_features, attention_mask))
        layers = [frames.masked_fill(~frame_mask[:, :, None], 0) for frames in layers]
        frames = torch.cat(layers, dim=-1)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return FusionOutput(
            last_hidden_state=frames,
            pooler_output=self.head(pool_frames(frames, frame_mask)) if clips is None else torch.cat(clips, dim=-1),
            frame_mask=frame_mask,
            hidden_states=tuple(layers) if output_hidden_states else None,
        )

    def encode_frames(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The frame embeddings in the layout of the original code, (batch, D, frame)."""
        return self(input_features, attention_mask=attention_mask).last_hidden_state.transpose(1, 2)

    def summarize_windows(self, outputs: FusionOutput, own_frames: torch.Tensor) -> torch.Tensor:
        """What `merge_windows` needs of a batch of windows, in float32.

        Args:
            outputs: The model's outputs for the windows.
            own_frames: (batch, frame), true for the frames that are a window's own, not context.

        Returns:
            (batch, 2, D): the maximum and the sum over the window's own frames.
        """
        return torch.stack(maximum_and_sum(outputs.last_hidden_state, own_frames), dim=1)

    def merge_windows(self, summaries: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
        """The clip embedding (D,) of a recording.

        Args:
            summaries: Its windows, (window, 2, D), as `summarize_windows` gives them.
            num_frames: How many frames of their own they have, (window,).
        """
        maximum, total = summaries[:, 0].amax(0), summaries[:, 1].sum(0)
        with torch.no_grad():
            return self.head((maximum + total / num_frames.sum())[None].to(self.device))[0]

    def _lengths(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The clips' own spectrogram frames, (batch,)."""
        if input_features.ndim != 3 or input_features.shape[2] != self.config.num_mel_bins:
            raise ValueError(
                f"input_features has the shape {tuple(input_features.shape)}, expected (batch, time, "
                f"{self.config.num_mel_bins}), as the feature extractor makes it."
            )
        batch, time, _ = input_features.shape
        if attention_mask is None:
            return torch.full((batch,), time, device=input_features.device)
        if attention_mask.shape != (batch, time):
            raise ValueError(f"attention_mask has the shape {tuple(attention_mask.shape)}, expected {(batch, time)}.")
        return attention_mask.sum(1)


def require_length(lengths: torch.Tensor, minimum: int, network: str) -> None:
    """Raise a ValueError where a clip has fewer spectrogram frames than the network takes; `lengths` is (batch,)."""
    if bool((lengths < minimum).any()):
        raise ValueError(
            f"A clip has {int(lengths.min())} spectrogram frames, but {network} takes at least {minimum}. The feature "
            "extractor pads shorter clips: pass it the waveform as it is."
        )
