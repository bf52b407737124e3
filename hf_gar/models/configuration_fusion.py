"""What the configurations of the three fusion models share: checked fields, the choice of layers and what follows."""

import copy
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
# What normalises the embeddings that a classifier sees.
CLASSIFIER_NORMS = ("batch_norm", "layer_norm", None)


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
        """The field's value, a tuple as a list; a ValueError that names the field where it is not such a value."""
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


class Choice(NamedTuple):
    """What a field may be: one of some values."""

    values: tuple[str | None, ...]

    def check(self, name: str, value: Any) -> Any:
        """The field's value; a ValueError that names the field where it is another."""
        if value not in self.values:
            raise ValueError(f"{name} has to be one of {', '.join(map(repr, self.values))}, not {reprlib.repr(value)}.")
        return value


class OptionalField(NamedTuple):
    """What a field may be: what another one may be, or None."""

    field: Field

    def check(self, name: str, value: Any) -> Any:
        """The field's value; a ValueError that names the field where it is another."""
        return None if value is None else self.field.check(name, value)


# Of every network: rates in Hz, lengths in samples.
SAMPLING_RATE = Field(1000, 1_000_000)
HOP_LENGTH = Field(1, 16_384)


class CheckedFields:
    """Mixed into what is read from a file, so that its fields are checked whenever they are set."""

    checked_fields: ClassVar[dict[str, Any]] = {}  # by name: a Field, a Choice, or what else checks a value

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
        raise ValueError(f"{', '.join(replaced)} is not a field of a {owner.__name__}, which computes it. Remove it.")


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

    The labels of a classifier are transformers' own fields: `id2label`, `label2id`, `num_labels` and `problem_type`.

    Args:
        sampling_rate: Of the recordings that the network was trained on, in Hz.
        hop_length: From one mel frame to the next, in samples.
        classifier_layers: The layers whose fused embedding a classifier sees, or `[unfused_layer]` for the network's
            own embedding; by default the fusion layers.
        classifier_norm: What normalises that embedding: "batch_norm" by the training clips' mean and variance of each
            dimension, "layer_norm" by the clip's own, None not at all.
        rejection_threshold: A recording none of whose labels has a probability (softmax of the logits) of this or more
            is of no label: the pipeline "audio-classification" calls it "unknown". The logits themselves are as they
            are. None, the default, rejects nothing.
    """

    _auto_class = "AutoConfig"
    checked_fields = {
        "sampling_rate": SAMPLING_RATE,
        "hop_length": HOP_LENGTH,
        "classifier_norm": Choice(CLASSIFIER_NORMS),
        "problem_type": Choice(("single_label_classification", "multi_label_classification", None)),
        "rejection_threshold": OptionalField(Field(0, 1, is_whole=False)),
    }
    # How many mel frames lie between the beginnings of two frame embeddings.
    mel_frames_per_frame = 1

    def __init__(
        self,
        sampling_rate: int = 16000,
        hop_length: int = 160,
        classifier_layers: Sequence[int] | None = None,
        classifier_norm: str | None = "batch_norm",
        rejection_threshold: float | None = None,
        **kwargs,
    ):
        refuse_replacements(type(self), FusionConfig, kwargs)
        for name, check in TRANSFORMERS_FIELDS.items():
            if kwargs.get(name) is not None:
                check(name, kwargs[name])
        kwargs.setdefault("custom_pipelines", CUSTOM_PIPELINES)
        super().__init__(**kwargs)
        self.sampling_rate = sampling_rate
        self.hop_length = hop_length
        self.classifier_layers = classifier_layers
        self.classifier_norm = classifier_norm
        self.rejection_threshold = rejection_threshold

    def choose_layers(self, fusion_layers: Sequence[int] | None, depth: int | None) -> None:
        """Set which layers are fused and built.

        Args:
            fusion_layers: The layers whose outputs are concatenated, or None for the network's own unfused embedding.
            depth: The deepest layer whose weights the model holds; by default the deepest one that is used, by a
                classifier too. Nothing deeper is built, stored or computed.

        Raises:
            ValueError: As `check`.
        """
        self.fusion_layers = _as_list(fusion_layers)
        self.classifier_layers = _as_list(self.classifier_layers)
        self.depth = self.unfused_layer if depth is None else depth
        self.check()
        if depth is None:
            self.depth = max(self.fused_layers[-1], self.classified_layers[-1])

    def check(self) -> None:
        """Check the fields that depend on each other; each alone is checked when it is set.

        Raises:
            ValueError: A layer is unknown, repeated or deeper than `depth`, or `depth` is not a layer. A classifier's
                may be deeper: the model without it does not need them. Or labels are not numbered from 0.
        """
        self.fused_layers, self.classified_layers  # noqa: B018 - raise
        # As text, where they were set on a configuration as JSON has them.
        if {str(number) for number in self.id2label} != set(map(str, range(len(self.id2label)))):
            raise ValueError(
                f"id2label has to number the labels from 0 to {len(self.id2label) - 1}, not "
                f"{reprlib.repr(list(self.id2label))}."
            )

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
    def network_name(self) -> str | None:
        """What the network is called, where a model takes several."""
        return None

    @property
    def is_padding_safe(self) -> bool:
        """Whether clips of other lengths may pass through the network in a batch, padded."""
        return True

    @property
    def feature_size(self) -> int:
        """The size of a time step of the network's input: by default, the mel bins."""
        return self.num_mel_bins

    @property
    def fused_layers(self) -> tuple[int, ...]:
        """The layers that make the embedding, checked and in the order of the network.

        Raises:
            ValueError: A layer is unknown, repeated or deeper than `depth`, or `depth` is not a layer.
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
    def classified_layers(self) -> tuple[int, ...]:
        """The layers whose embedding a classifier sees, checked and in the order of the network.

        Raises:
            ValueError: A layer is unknown or repeated.
        """
        if self.classifier_layers is None:
            return self.fused_layers
        if self.classifier_layers == [self.unfused_layer]:
            return (self.unfused_layer,)
        return resolve_fusion_layers(
            self.classifier_layers, self.valid_layers, self.unfused_layer, name="classifier_layers"
        )

    def classifier_backbone(self) -> "FusionConfig":
        """The configuration of the model under a classifier: this one, but for the layers that are fused.

        Raises:
            ValueError: A layer is deeper than `depth`.
        """
        layers = self.classified_layers
        if layers == self.fused_layers:
            return self
        if layers[-1] > self.depth:
            raise ValueError(
                f"The classifier is on the layers {list(layers)}, but this model holds weights only up to "
                f"depth={self.depth}. Load it with its whole depth, or, for a new classifier, choose classifier_layers "
                f"up to {self.depth}."
            )
        config = copy.deepcopy(self)
        config.fusion_layers = None if layers == (self.unfused_layer,) else list(layers)
        return config

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
    def projection_dim(self) -> int:
        """The same, by the name that other libraries ask for: `hidden_size` may be that of a single layer."""
        return self.embedding_size

    @property
    def frame_hop_s(self) -> float:
        """From one frame embedding to the next, in seconds."""
        return self.mel_frames_per_frame * self.hop_length / self.sampling_rate


def _as_list(layers: Sequence[int] | None) -> Sequence[int] | None:
    """Layers as JSON has them."""
    return list(layers) if isinstance(layers, tuple) else layers
