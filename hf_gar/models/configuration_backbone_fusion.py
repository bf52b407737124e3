"""BackboneFusion's configuration."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from transformers import AutoConfig, PretrainedConfig

from .audio_network import AudioNetwork
from .backbone_networks import NETWORKS
from .configuration_fusion import MAX_WIDTH, Choice, Field, FusionConfig, require_mapping

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .fusion import resolve_fusion_layers  # noqa: F401

POOLINGS = ("max_mean", "mean", "cls")
# The paper fuses AST's blocks 5 and 12 of 12.
EARLIER_LAYER = 5 / 12
MAX_LAYERS = 1024
INPUT_LENGTH = Field(2, 1_000_000)


def split_type(name: str, value: Any, type_name: str, known: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """The type of what transformers has a class for, and its other fields.

    Args:
        name: What the field is called in errors.
        value: The fields, its type with them.
        type_name: Of the field with the type.
        known: The types that it may have.

    Raises:
        ValueError: It has no fields, another type, or code of its own.
    """
    require_mapping(name, value)
    fields = copy.deepcopy(value)
    found = fields.pop(type_name, None)
    if found not in known:
        raise ValueError(f"{name} has {type_name}={found!r}. BackboneFusion takes {', '.join(sorted(known))}.")
    if fields.pop("auto_map", None):
        raise ValueError(f"{name} names code of its own (auto_map), which is never run. Remove it.")
    return found, fields


class BackboneConfigField:
    """What a field with the configuration of a network may be: that of a network in `NETWORKS`, as a mapping too."""

    def check(self, name: str, value: Any) -> PretrainedConfig:
        """The configuration; a ValueError that says why it is none."""
        if isinstance(value, PretrainedConfig):
            value = value.to_dict()
        model_type, fields = split_type(name, value, "model_type", NETWORKS)
        try:
            config = NETWORKS[model_type].config_class()(**fields)
            layers = NETWORKS[model_type].count_layers(config)
        except Exception as error:  # of damaged fields, that may be anything
            raise ValueError(f"{name} is not a configuration of a {model_type}: {error}") from error
        Field(1, MAX_LAYERS).check(f"the number of layers of {name}", layers)
        return config


class BackboneFusionConfig(FusionConfig):
    """The configuration of a `BackboneFusionModel`: any audio network of transformers that is in `NETWORKS`.

    Layers are numbered as transformers numbers `hidden_states`: 0 is the input of the first block, 1 to N are the
    outputs of the blocks (CLAP: stages; DAC: those that lower the rate, and the encoder's output). The network's own
    embedding, fusion_layers=None, is layer N alone.

    Args:
        backbone_config: The network's own configuration, with its `model_type`; by default a Wav2Vec2.
        fusion_layers: The layers whose outputs are concatenated; None for the last one alone. By default two: the one
            nearest to 5/12 of the depth, and the last, as the paper fuses AST's blocks 5 and 12 of 12.
        depth: The deepest layer whose weights the model holds, 1 or more; by default the deepest one that is used.
        pooling: What makes a clip's embedding of its frames': "max_mean", their maximum plus their mean, as of the
            paper's convolutional networks; "mean"; or "cls", the mean of the network's own tokens of the whole clip,
            where it has such.
        normalize_layers: Whether each layer's output passes the normalisation that the network has after its last
            block, as in AST-Fusion; the outputs of the layers are of very different sizes without.
        input_length: Of a network that takes inputs of one length only, that length, in time steps.
        sampling_rate: Of the recordings that the network was trained on, in Hz.
        hop_length: From one time step of the network's input to the next, in samples: 1 for waveforms.
    """

    model_type = "backbone-fusion"
    sub_configs = {"backbone_config": AutoConfig}
    has_no_defaults_at_init = True
    checked_fields = FusionConfig.checked_fields | {
        "backbone_config": BackboneConfigField(),
        "pooling": Choice(POOLINGS),
    }

    def __init__(
        self,
        backbone_config: PretrainedConfig | dict[str, Any] | None = None,
        fusion_layers: Sequence[int] | Literal["default"] | None = "default",
        depth: int | None = None,
        pooling: str = "max_mean",
        normalize_layers: bool = False,
        input_length: int | None = None,
        sampling_rate: int = 16000,
        hop_length: int = 1,
        **kwargs,
    ):
        # First: transformers passes on to it what is set.
        self.backbone_config = {"model_type": "wav2vec2"} if backbone_config is None else backbone_config
        super().__init__(sampling_rate, hop_length, **kwargs)
        self.pooling = pooling
        self.normalize_layers = normalize_layers
        self.input_length = input_length
        if fusion_layers == "default":
            last = self.unfused_layer
            fusion_layers = sorted({max(1, round(EARLIER_LAYER * last)), last})
        self.choose_layers(fusion_layers, depth)

    def choose_layers(self, fusion_layers: Sequence[int] | None, depth: int | None) -> None:
        super().choose_layers(fusion_layers, depth)
        self.depth = max(1, self.depth)  # the first block is always there

    def check(self) -> None:
        super().check()
        if type(self.normalize_layers) is not bool:
            raise ValueError(f"normalize_layers has to be true or false, not {self.normalize_layers!r}.")
        if self.input_length is not None:
            INPUT_LENGTH.check("input_length", self.input_length)
        network = self.audio_network
        if self.normalize_layers and network.final_norm is None:
            raise ValueError(
                f"normalize_layers=True, but {network.class_name} has no normalisation after its last block. Leave it "
                "out: its blocks normalise their outputs themselves."
            )
        if self.pooling == "cls" and not network.has_clip_tokens:
            raise ValueError(
                f"pooling='cls', but {network.class_name} has no tokens of the whole clip. Choose 'max_mean' or 'mean'."
            )
        Field(1, MAX_WIDTH).check("feature_size", self.feature_size)

    def to_dict(self) -> dict[str, Any]:
        return _without_types(super().to_dict())

    def to_diff_dict(self) -> dict[str, Any]:
        return _without_types(super().to_diff_dict())

    @property
    def audio_network(self) -> AudioNetwork:
        """The network that `backbone_config` is the configuration of.

        Raises:
            ValueError: It cannot be fused, or `input_length` is not its.
        """
        config: Any = self.backbone_config
        return NETWORKS[config.model_type](config, self.input_length)

    @property
    def network_name(self) -> str:
        return self.audio_network.class_name.removesuffix("Model")

    @property
    def valid_layers(self) -> tuple[int, ...]:
        return tuple(range(self.audio_network.num_layers + 1))

    @property
    def layer_sizes(self) -> dict[int, int]:
        return self.audio_network.layer_sizes

    @property
    def feature_size(self) -> int:
        return self.audio_network.feature_size

    @property
    def is_padding_safe(self) -> bool:
        """Whether clips of other lengths may be in a batch; elsewhere they are run apart, by length."""
        return self.input_length is not None or self.audio_network.is_padding_safe

    @property
    def has_final_norm(self) -> bool:
        """Whether the model holds the normalisation that the network has after its last block."""
        network = self.audio_network
        return self.normalize_layers or (network.ends_with_norm and self.depth == network.num_layers)

    @property
    def frame_hop_s(self) -> float:
        return self.audio_network.frame_hop * self.hop_length / self.sampling_rate


def _without_types(fields: dict[str, Any]) -> dict[str, Any]:
    """A configuration's fields, the type of the weights only once: on loading, transformers notes it in both."""
    for name in ("dtype", "torch_dtype"):
        fields["backbone_config"].pop(name, None)
    return fields
