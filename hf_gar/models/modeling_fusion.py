"""What the fusion models share: strict loading, fusion, pooling, outputs."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_utils import load_state_dict
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_fusion import FusionConfig
from .fusion import ClipPooling, FramePooling, is_traced, length_mask
from .module_audio_embedding import MODULES, MODULES_FILE

# Imported so that save_pretrained, which copies what this file imports, copies the pipeline that config.json names.
from .pipeline_audio_embedding import AudioEmbeddingPipeline  # noqa: F401

# Where a classifier's weights are in a repository, beside the backbone's.
CLASSIFIER_WEIGHTS = r"^classifier(_norm)?\."

# The convolutions' kernels that are laid out anew at a time.
KERNELS_AT_ONCE = 64
# The types that weights are stored in: others are cast silently by transformers, integers to what is not a weight.
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
        attentions: With `output_attentions=True`, the attention of each block that was computed, (batch, head, token,
            token); of networks that have it.

    With `return_dict=False` they come as a tuple in this order: `last_hidden_state`, `pooler_output` and `frame_mask`
    have the positions 0, 1 and 2; those of `hidden_states` and `attentions` that were asked for follow.
    """

    # Always given; ModelOutput asks for defaults.
    last_hidden_state: torch.Tensor = None  # type: ignore[assignment]
    pooler_output: torch.Tensor = None  # type: ignore[assignment]
    frame_mask: torch.Tensor = None  # type: ignore[assignment]
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class LayerOutputs(NamedTuple):
    """What the chosen layers give: their frames, (batch, frame, D of the layer).

    `clips`, (batch, D of the layer), is for networks whose clip embedding is not pooled from their frames, and
    `attentions`, (batch, head, token, token), for those that have attention and were asked for it.
    """

    frames: list[torch.Tensor]
    clips: list[torch.Tensor] | None = None
    attentions: list[torch.Tensor] | None = None


class FusionPreTrainedModel(PreTrainedModel):
    """Base of the fusion models and of what holds one of them as its `backbone`, under a head.

    A model's own weights have to be complete, and of the right shapes and types. Those of a head are transformers'
    business: where a repository has none, they are new, with a warning.
    """

    config_class: type[FusionConfig] = FusionConfig
    base_model_prefix = "backbone"
    main_input_name = "input_features"
    input_modalities = "audio"
    _no_split_modules: list[str] = []
    _keys_to_ignore_on_load_unexpected: list[str] | set[str] | None = None
    _can_compile_fullgraph = True

    def __init__(self, config: FusionConfig):
        config.check()
        super().__init__(config)

    @staticmethod
    def stored_name(name: str) -> str:
        """What a weight is called where it is stored, for any name that a version of transformers has for it."""
        return name

    def save_pretrained(self, save_directory, **kwargs):
        """Save a repository, as in transformers, and name all the classes that load it, sentence-transformers' too."""
        classes = [getattr(type(self), name, None) for name in ("backbone_class", "classifier_class")]
        auto_map = {each._auto_class: f"{each.__module__.split('.')[-1]}.{each.__name__}" for each in classes if each}
        # transformers adds the class itself, and the configuration's.
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **auto_map}
        super().save_pretrained(save_directory, **kwargs)
        with open(os.path.join(save_directory, MODULES_FILE), "w", encoding="utf-8") as file:
            file.write(MODULES)

    def post_init(self) -> None:
        super().post_init()
        # Layers that the backbone does not build are not missed under a head either; transformers 5 sees to it itself.
        self._keys_to_ignore_on_load_unexpected = (
            self._keys_to_ignore_on_load_unexpected or self.base_model._keys_to_ignore_on_load_unexpected
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, output_loading_info: bool = False, **kwargs):
        """Load a model, as in transformers, but refuse weights that are not the model's own, or not finite.

        Raises:
            ValueError: A weight is missing, unknown, of another shape, not of a floating type, or not finite; or none
                fits into the memory that was given, where transformers does not see to that.
        """
        # Where weights are offloaded, the statistics of batch normalisations go with them: transformers 4 does not load
        # them otherwise, and says nothing.
        kwargs["offload_buffers"] = True
        if kwargs.get("state_dict") is not None:  # the caller's, which is not to be laid out anew
            kwargs["state_dict"] = {name: weight.clone() for name, weight in kwargs["state_dict"].items()}
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        is_placed = hasattr(model, "hf_device_map") or kwargs.get("device_map") in (None, "meta", torch.device("meta"))
        if not is_placed and any(weight.is_meta for weight in model.parameters()):
            # transformers 5.0 leaves them there, and would compute with nothing.
            raise ValueError(
                "No weight of the model fits into the memory that it was given, and this version of transformers "
                "cannot run it from the disk alone. Raise max_memory."
            )
        require_usable_values(model)
        set_channels_last(model)
        return (model, info) if output_loading_info else model

    @classmethod
    def _load_pretrained_model(cls, model, state_dict, checkpoint_files, *args, **kwargs):
        # Where transformers knows the files and has built the model, but has neither read nor allocated a weight.
        stored = state_dict
        if stored is None:
            stored = {}
            for file in checkpoint_files or ():
                stored.update(load_state_dict(file, map_location="meta"))  # shapes and types alone
        require_weights_of(model.base_model, stored)
        return super()._load_pretrained_model(model, state_dict, checkpoint_files, *args, **kwargs)


class FusionModel(FusionPreTrainedModel):
    """Base of the fusion models. A subclass computes the chosen layers in `layer_outputs`."""

    _auto_class = "AutoModel"
    # The shortest clip that the network takes, in mel frames.
    minimum_length = 1
    has_attentions = False
    # Whether its convolutions run over (frequency, time), though their kernels are (time, frequency).
    has_time_last = False
    # Its classifier's class, which says so itself.
    classifier_class: type[PreTrainedModel] | None = None

    @classmethod
    def _load_pretrained_model(cls, model, *args, **kwargs):
        ignored = model._keys_to_ignore_on_load_unexpected
        kind = set if isinstance(ignored, set) else list  # a list in transformers 4, a set in 5
        model._keys_to_ignore_on_load_unexpected = kind([*(ignored or ()), CLASSIFIER_WEIGHTS])
        return super()._load_pretrained_model(model, *args, **kwargs)

    def layer_outputs(self, input_features: torch.Tensor, lengths: torch.Tensor | None) -> LayerOutputs:
        """The outputs of the chosen layers for spectrograms (batch, time, mel).

        `lengths` (batch,) are the clips' own mel frames; None where no clip is padded. A network that has attentions
        takes `output_attentions` as well.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define layer_outputs.")

    def frame_counts(self, lengths: torch.Tensor) -> torch.Tensor:
        """How many frame embeddings clips of `lengths` mel frames have, (batch,) -> (batch,)."""
        raise NotImplementedError(f"{type(self).__name__} has to define frame_counts.")

    @property
    def pooling(self) -> ClipPooling:
        """What makes the clip embedding."""
        return FramePooling()

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> FusionOutput | tuple[torch.Tensor, ...]:
        """Embed a batch of clips.

        Args:
            input_features: The feature extractor's spectrograms, (batch, time, mel).
            attention_mask: (batch, time), 1 for a clip's own frames, which come first; by default all are.
            output_hidden_states: Whether to return each fused layer's frames as well.
            output_attentions: Whether to return the attentions as well, of a network that has them and was loaded with
                `attn_implementation="eager"`.

        The network can be compiled and exported (`torch.compile`, `torch.export`, `torch.onnx.export` with dynamo=True)
        for batches and recordings of any size; `torch.export` takes CNN14 from 64 mel frames on, which is two frame
        embeddings. Lengths are then no longer checked, nor are those of a mask that is on a GPU, which is not waited
        for: the embedding of a clip that is shorter than the network takes is NaN.

        Returns:
            A `FusionOutput`. A clip's embeddings are the same alone and in any batch, up to rounding: in half precision
            the order of a sum, which depends on the batch's size, makes as much of a difference as its rounding.

        Raises:
            ValueError: The input has another shape or length than the network takes, or it has no attentions to return.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_attentions and not self.has_attentions:
            raise ValueError(
                f"output_attentions=True, but {type(self).__name__} has no attentions to return. Leave it out."
            )
        lengths = self._lengths(input_features, attention_mask)
        options = {"output_attentions": True} if output_attentions else {}
        layers, clips, attentions = self.layer_outputs(input_features, lengths, **options)
        layers = on_one_device(layers)
        if lengths is None:
            frame_mask = torch.ones(layers[0].shape[:2], dtype=torch.bool, device=layers[0].device)
        else:
            frame_mask = length_mask(self.frame_counts(lengths).to(layers[0].device), layers[0].shape[1])
            layers = [layer.masked_fill(~frame_mask[:, :, None], 0) for layer in layers]
        frames = torch.cat(layers, dim=-1)
        clip = None if clips is None else torch.cat(on_one_device(clips), dim=-1)
        summaries = self.pooling.summarize(frames, clip, None if lengths is None else frame_mask)
        # Each clip is a single chunk.
        pooled = self.pooling.merge(summaries[:, None], frame_mask.sum(1, keepdim=True))
        return FusionOutput(
            last_hidden_state=frames,
            pooler_output=pooled.to(frames.dtype),
            frame_mask=frame_mask,
            hidden_states=tuple(layers) if output_hidden_states else None,
            attentions=None if attentions is None else tuple(attentions),
        )

    def encode_frames(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The frame embeddings in the layout of the original code, (batch, D, frame)."""
        return self(input_features, attention_mask=attention_mask).last_hidden_state.transpose(1, 2)

    def _lengths(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor | None:
        """The clips' own mel frames, (batch,); None where no clip is known to be padded."""
        if input_features.ndim != 3 or input_features.shape[2] != self.config.feature_size:
            raise ValueError(
                f"input_features has the shape {tuple(input_features.shape)}, expected (batch, time, "
                f"{self.config.feature_size}), as the feature extractor makes it."
            )
        batch, time, _ = input_features.shape
        if attention_mask is not None and attention_mask.shape != (batch, time):
            raise ValueError(f"attention_mask has the shape {tuple(attention_mask.shape)}, expected {(batch, time)}.")
        lengths = None if attention_mask is None else attention_mask.sum(1)
        if is_traced() or (lengths is not None and lengths.device.type != "cpu"):
            return lengths  # reading them would wait for the device
        shortest = time if lengths is None else int(lengths.min())
        if shortest < self.minimum_length:
            raise ValueError(
                f"A clip has {shortest} mel frames, but {type(self).__name__} takes a minimum of "
                f"{self.minimum_length}. The feature extractor pads shorter clips: pass it the waveform as it is."
            )
        return None if shortest == time else lengths


def on_one_device(layers: list[torch.Tensor]) -> list[torch.Tensor]:
    """The outputs of layers, each of which may be on a device of its own, on the last one's."""
    return [layer.to(layers[-1].device) for layer in layers]


def require_eager(attention: str) -> None:
    """Raise a ValueError where a network's attention implementation gives no attentions."""
    if attention != "eager":
        raise ValueError(
            f"output_attentions=True, but attn_implementation={attention!r} does not compute them as such. Load "
            'the model with attn_implementation="eager".'
        )


def set_channels_last(model: PreTrainedModel) -> None:
    """Lay the weights of convolutions out so that they are fastest, on processors and GPUs alike.

    They are loaded contiguous, and saved so. It is done in place, since a copy would be held beside the file's pages,
    which stay for as long as any weight is in them.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            kernels = module.weight.data.contiguous()  # (out, in, height, width)
            order = (0, 3, 2, 1) if model.base_model.has_time_last else (0, 2, 3, 1)
            # Each kernel keeps its place in memory, so that some can be laid out at a time.
            laid_out = kernels.view([kernels.shape[axis] for axis in order])
            for place, kernel in zip(laid_out.split(KERNELS_AT_ONCE), kernels.split(KERNELS_AT_ONCE), strict=True):
                place.copy_(kernel.permute(order).clone(memory_format=torch.contiguous_format))
            module.weight.data = laid_out.permute([order.index(axis) for axis in range(4)])


def require_weights_of(model: FusionPreTrainedModel, stored: Mapping[str, torch.Tensor]) -> None:
    """Raise a ValueError where stored weights are not a backbone's; only their shapes and types are looked at.

    Those under the prefix of a backbone are meant, where there are any: a repository with a head has others.
    """
    prefix = f"{model.base_model_prefix}."
    # A count of batches is an integer.
    of_classifier = [name for name in stored if re.match(CLASSIFIER_WEIGHTS, name) and not name.endswith("_tracked")]
    integers = [f"{name} {stored[name].dtype}" for name in of_classifier if stored[name].dtype not in STORED_TYPES]
    if any(name.startswith(prefix) for name in stored):
        stored = {name.removeprefix(prefix): weight for name, weight in stored.items() if name.startswith(prefix)}
    stored = {model.stored_name(name): weight for name, weight in stored.items()}
    expected = {model.stored_name(name): weight for name, weight in model.state_dict().items()}
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
        ]
        + integers,
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


def require_usable_values(model: PreTrainedModel) -> None:
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
