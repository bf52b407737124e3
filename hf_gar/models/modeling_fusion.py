"""What the three fusion models share: strict loading, fusion, pooling, windows, outputs."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.modeling_utils import load_state_dict
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_fusion import FusionConfig
from .fusion import is_traced, length_mask, maximum_and_sum, pool_frames

# Imported so that save_pretrained, which copies what this file imports, copies the pipeline that config.json names.
from .pipeline_audio_embedding import AudioEmbeddingPipeline  # noqa: F401

# The types that weights are stored in: others are cast silently by transformers, integers to what is no weight.
STORED_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


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
    """What the chosen layers give: their frames, (batch, frame, D of the layer).

    `clips`, (batch, D of the layer), is for networks whose clip embedding is not pooled from their frames.
    """

    frames: list[torch.Tensor]
    clips: list[torch.Tensor] | None = None


class FusionModel(PreTrainedModel):
    """Base of the fusion models. A subclass computes the chosen layers in `layer_outputs`."""

    config_class: type[FusionConfig] = FusionConfig
    main_input_name = "input_features"
    input_modalities = "audio"
    _auto_class = "AutoModel"
    _can_compile_fullgraph = True
    # The shortest clip that the network takes, in mel frames.
    minimum_length = 1

    def __init__(self, config: FusionConfig):
        config.check()
        super().__init__(config)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, output_loading_info: bool = False, **kwargs):
        """Load a model, as in transformers, but refuse weights that are not the model's own, or not finite.

        Raises:
            ValueError: A weight is missing, unknown, of another shape, not of a floating type, or not finite.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        require_usable_values(model)
        return (model, info) if output_loading_info else model

    @classmethod
    def _load_pretrained_model(cls, model, state_dict, checkpoint_files, *args, **kwargs):
        # Where transformers knows the files and has built the model, but has neither read nor allocated a weight.
        stored = state_dict
        if stored is None:
            stored = {}
            for file in checkpoint_files or ():
                stored.update(load_state_dict(file, map_location="meta"))  # shapes and types alone
        require_weights_of(model, stored)
        return super()._load_pretrained_model(model, state_dict, checkpoint_files, *args, **kwargs)

    def layer_outputs(self, input_features: torch.Tensor, lengths: torch.Tensor | None) -> LayerOutputs:
        """The outputs of the chosen layers for spectrograms (batch, time, mel).

        `lengths` (batch,) are the clips' own mel frames; None where no clip is padded.
        """
        raise AttributeError(f"{type(self).__name__} has to define layer_outputs.")

    def frame_counts(self, lengths: torch.Tensor) -> torch.Tensor:
        """How many frame embeddings clips of `lengths` mel frames have, (batch,) -> (batch,)."""
        raise AttributeError(f"{type(self).__name__} has to define frame_counts.")

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

        The network can be compiled and exported (`torch.compile`, `torch.export`, `torch.onnx.export` with dynamo=True)
        for batches and recordings of any size; `torch.export` takes CNN14 from 64 mel frames on, which is two frame
        embeddings. Lengths are then no longer checked: the embedding of a clip that is shorter than the network takes
        is NaN.

        Returns:
            A `FusionOutput`. A clip's embeddings are the same alone and in any batch, up to rounding: in half precision
            the order of a sum, which depends on the batch's size, makes as much of a difference as its rounding.

        Raises:
            ValueError: The input has another shape or length than the network takes.
        """
        lengths = self._lengths(input_features, attention_mask)
        layers, clips = self.layer_outputs(input_features, lengths)
        frames = torch.cat(layers, dim=-1)
        if lengths is None:
            frame_mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        else:
            frame_mask = length_mask(self.frame_counts(lengths), frames.shape[1])
            frames = frames.masked_fill(~frame_mask[:, :, None], 0)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return FusionOutput(
            last_hidden_state=frames,
            pooler_output=self.head(pool_frames(frames, frame_mask)) if clips is None else torch.cat(clips, dim=-1),
            frame_mask=frame_mask,
            hidden_states=frames.split([layer.shape[2] for layer in layers], dim=2) if output_hidden_states else None,
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

    def _lengths(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor | None:
        """The clips' own mel frames, (batch,); None where no clip is known to be padded."""
        if input_features.ndim != 3 or input_features.shape[2] != self.config.num_mel_bins:
            raise ValueError(
                f"input_features has the shape {tuple(input_features.shape)}, expected (batch, time, "
                f"{self.config.num_mel_bins}), as the feature extractor makes it."
            )
        batch, time, _ = input_features.shape
        if attention_mask is not None and attention_mask.shape != (batch, time):
            raise ValueError(f"attention_mask has the shape {tuple(attention_mask.shape)}, expected {(batch, time)}.")
        lengths = None if attention_mask is None else attention_mask.sum(1)
        if is_traced():
            return lengths
        shortest = time if lengths is None else int(lengths.min())
        if shortest < self.minimum_length:
            raise ValueError(
                f"A clip has {shortest} mel frames, but {type(self).__name__} takes a minimum of "
                f"{self.minimum_length}. The feature extractor pads shorter clips: pass it the waveform as it is."
            )
        return None if shortest == time else lengths


def require_weights_of(model: FusionModel, stored: Mapping[str, torch.Tensor]) -> None:
    """Raise a ValueError where stored weights are not those of a model; only their shapes and types are looked at."""
    expected = model.state_dict()
    beyond = "|".join(model._keys_to_ignore_on_load_unexpected or ["(?!)"])  # of layers that are not built, or none
    common = [name for name in expected if name in stored]
    problems = {
        "missing": [name for name in expected if name not in stored],
        "unknown": [name for name in stored if name not in expected and not re.search(beyond, name)],
        "of another shape": [
            f"{name} {tuple(stored[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in common
            if stored[name].shape != expected[name].shape
        ],
        "not of a floating type": [
            f"{name} {stored[name].dtype}"
            for name in common
            if expected[name].is_floating_point() and stored[name].dtype not in STORED_TYPES
        ],
    }
    found = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise ValueError(
            f"The weights are not those of a {type(model).__name__} with this configuration and "
            f"depth={model.config.depth}: {'; '.join(found)}. Export or download the repository again; where deeper "
            "layers are missing, load it with a smaller depth."
        )


def require_usable_values(model: FusionModel) -> None:
    """Raise a ValueError where a model has a weight that is not finite, or a variance below 0."""
    for name, weight in model.state_dict().items():
        # Those that are offloaded have no values here, and quantised ones are of types of their own.
        if type(weight) is not torch.Tensor or weight.is_meta or not weight.is_floating_point() or not weight.numel():
            continue
        lowest, highest = (bound.item() for bound in weight.aminmax())  # NaN where there is one; takes no memory
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            largest = torch.finfo(weight.dtype).max
            remedy = (
                f" In {weight.dtype} they are so where they are beyond {largest:g}: load the model with "
                "dtype=torch.bfloat16 or torch.float32."
                if weight.dtype == torch.float16
                else " Export or download the repository again."
            )
            raise ValueError(f"The weight {name} has values that are NaN or infinite.{remedy}")
        if name.endswith("running_var") and lowest < 0:
            raise ValueError(f"The weight {name} has variances below 0. Export or download the repository again.")
