"""What the configurations of the three fusion models share: checked fields, the choice of layers and what follows."""

import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from transformers import PretrainedConfig

from .fusion import resolve_fusion_layers

CUSTOM_PIPELINES = {
    "feature-extraction": {
        "impl": "pipeline_audio_embedding.AudioEmbeddingPipeline",
        "pt": ["AutoModel"],
        "type": "audio",
    }
}


# What numbers a network could have: far beyond any that was trained, and far below what a machine cannot hold.
MAX_CHANNELS = 8192
MAX_WIDTH = 32_768
MAX_MEL_BINS = 512


class Field(NamedTuple):
    """What a field may be: a finite number from `minimum` to `maximum`, or a list of `length` such numbers."""

    minimum: float
    maximum: float
    is_whole: bool = True
    length: int | None = None

    def check(self, name: str, value: Any) -> Any:
        """The field's value, a tuple as a list; a ValueError that names the field where it is no such value."""
        if self.length is None:
            kinds = int if self.is_whole else (int, float, np.floating)
            if isinstance(value, bool) or not isinstance(value, kinds) or not self.minimum <= value <= self.maximum:
                kind = "an integer" if self.is_whole else "a number"
                raise ValueError(
                    f"{name} has to be {kind} from {self.minimum} to {self.maximum}, not {reprlib.repr(value)}."
                )
            return value
        if not isinstance(value, (list, tuple)) or len(value) != self.length:
            raise ValueError(f"{name} has to be a list of {self.length} sizes, not {reprlib.repr(value)}.")
        size = self._replace(length=None)
        return [size.check(f"{name}[{index}]", number) for index, number in enumerate(value)]


# Of every network: rates in Hz, lengths in samples.
SAMPLING_RATE = Field(1000, 1_000_000)
HOP_LENGTH = Field(1, 16_384)


class CheckedFields:
    """Mixed into what is read from a file, so that its fields are checked whenever they are set."""

    checked_fields: ClassVar[dict[str, Field]] = {}  # by name

    def __setattr__(self, name: str, value: Any) -> None:
        field = self.checked_fields.get(name)
        super().__setattr__(name, value if field is None else field.check(name, value))


def refuse_replacements(owner: type, base: type, names: Iterable[str]) -> None:
    """Raise a ValueError where fields of a file, by `names`, would replace what the class itself defines.

    Args:
        owner: The class of what is read from the file.
        base: What this class and those from it down to `owner` define is not to be replaced.
        names: The fields that are none of the arguments of `owner`.
    """
    defined = {name for each in owner.__mro__ if issubclass(each, base) for name in vars(each)} - {"model_type"}
    replaced = sorted(defined.intersection(names))
    if replaced:
        raise ValueError(f"{', '.join(replaced)} is no field of a {owner.__name__}, which computes it. Remove it.")


def require_dtype(name: str, value: Any) -> None:
    """Raise a ValueError where a field is not a type that weights can have, or the name of one."""
    dtype = getattr(torch, value, None) if isinstance(value, str) else value
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"{name} has to be float32, bfloat16 or float16, not {reprlib.repr(value)}.")


def require_mapping(name: str, value: Any) -> None:
    """Raise a ValueError where a field is not a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} has to be an object, not {reprlib.repr(value)}.")


# Of transformers' own fields, those that it does not check itself.
TRANSFORMERS_FIELDS: dict[str, Callable[[str, Any], object]] = {
    "dtype": require_dtype,
    "torch_dtype": require_dtype,
    "id2label": require_mapping,
    "label2id": require_mapping,
    "num_labels": Field(1, MAX_WIDTH).check,
}


class FusionConfig(CheckedFields, PretrainedConfig):
    """Base of the fusion models' configurations.

    A subclass calls this class's `__init__`, sets its own fields, and then calls `choose_layers`. It says what its
    fields may be in `checked_fields` and, where they depend on each other, `check`; which layers there are in
    `valid_layers` and `layer_sizes`; and how long a frame embedding is in `mel_frames_per_frame`.

    Args:
        sampling_rate: Of the recordings that the network was trained on, in Hz.
        hop_length: From one mel frame to the next, in samples.
    """

    _auto_class = "AutoConfig"
    checked_fields = {"sampling_rate": SAMPLING_RATE, "hop_length": HOP_LENGTH}
    # How many mel frames lie between the beginnings of two frame embeddings.
    mel_frames_per_frame = 1

    def __init__(self, sampling_rate: int = 16000, hop_length: int = 160, **kwargs):
        refuse_replacements(type(self), FusionConfig, kwargs)
        for name, check in TRANSFORMERS_FIELDS.items():
            if kwargs.get(name) is not None:
                check(name, kwargs[name])
        kwargs.setdefault("custom_pipelines", CUSTOM_PIPELINES)
        super().__init__(**kwargs)
        self.sampling_rate = sampling_rate
        self.hop_length = hop_length

    def choose_layers(self, fusion_layers: Sequence[int] | None, depth: int | None) -> None:
        """Set which layers are fused and built.

        Args:
            fusion_layers: The layers whose outputs are concatenated, or None for the network's own unfused embedding.
            depth: The deepest layer whose weights the model holds; by default the deepest one that is used. Nothing
                deeper is built, stored or computed.

        Raises:
            ValueError: As `check`.
        """
        self.fusion_layers = list(fusion_layers) if isinstance(fusion_layers, tuple) else fusion_layers
        self.depth = self.unfused_layer if depth is None else depth
        self.check()
        if depth is None:
            self.depth = self.fused_layers[-1]

    def check(self) -> None:
        """Check the fields that depend on each other; each alone is checked when it is set.

        Raises:
            ValueError: A layer is unknown, repeated or deeper than `depth`, or `depth` is no layer.
        """
        self.fused_layers  # noqa: B018 - raises

    @property
    def valid_layers(self) -> tuple[int, ...]:
        """The layers that can be fused, in the order of the network."""
        raise NotImplementedError(f"{type(self).__name__} has to define valid_layers.")

    @property
    def unfused_layer(self) -> int:
        """The layer whose output alone is the network's own embedding; there is none deeper."""
        return self.valid_layers[-1]

    @property
    def layer_sizes(self) -> dict[int, int]:
        """The dimension of each layer's frame embeddings, that of the unfused one included."""
        raise NotImplementedError(f"{type(self).__name__} has to define layer_sizes.")

    @property
    def fused_layers(self) -> tuple[int, ...]:
        """The layers that make the embedding, checked and in the order of the network.

        Raises:
            ValueError: A layer is unknown, repeated or deeper than `depth`, or `depth` is no layer.
        """
        layers = tuple(self.layer_sizes)
        if type(self.depth) is not int or self.depth not in layers:
            raise ValueError(f"depth has to be one of the layers {', '.join(map(str, layers))}, not {self.depth!r}.")
        if self.fusion_layers is not None:
            return resolve_fusion_layers(self.fusion_layers, self.valid_layers, self.depth)
        if self.depth < self.unfused_layer:
            raise ValueError(
                "fusion_layers=None asks for the unfused embedding, which needs the whole network "
                f"(depth={self.unfused_layer}), but this model holds weights only up to depth={self.depth}. Name "
                f"layers up to {self.depth}, or export the model again with `hf-gar export --all-layers`."
            )
        return (self.unfused_layer,)

    @property
    def is_unfused(self) -> bool:
        """Whether the embedding is the network's own, whether it is asked for by None or by its layer's number."""
        return self.fused_layers == (self.unfused_layer,)

    @property
    def layer_choice(self) -> list[int] | None:
        """`fusion_layers` in its one form: in the order of the network, or None for the network's own embedding."""
        return None if self.is_unfused else list(self.fused_layers)

    @property
    def embedding_size(self) -> int:
        """The dimension D of the clip and frame embeddings."""
        return sum(self.layer_sizes[layer] for layer in self.fused_layers)

    @property
    def frame_hop_s(self) -> float:
        """From one frame embedding to the next, in seconds."""
        return self.mel_frames_per_frame * self.hop_length / self.sampling_rate
