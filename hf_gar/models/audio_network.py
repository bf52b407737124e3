"""A network of transformers whose layers can be fused: what it is made of, and how it is built and run.

Layers are numbered as transformers numbers `hidden_states`: 0 is the input of the first block, N the output of the
last. A network's time steps are mel frames, or samples where it takes waveforms.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import islice
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig


class NetworkOutputs(NamedTuple):
    """What a network gives: of each layer (batch, token, D), without the final normalisation.

    `attentions`, of each block (batch, head, token, token), are there where they were asked for.
    """

    hidden_states: Sequence[torch.Tensor]
    attentions: Sequence[torch.Tensor] | None = None


class Blocks(nn.ModuleList):
    """The blocks of a network, of which only the first are run; the deeper ones are held, to be saved.

    Args:
        blocks: All of them.
        num_used: How many are run; None for all.
    """

    def __init__(self, blocks: Iterable[nn.Module], num_used: int | None = None):
        super().__init__(blocks)
        self.num_used = num_used

    def __iter__(self) -> Iterator[nn.Module]:
        return islice(super().__iter__(), self.num_used)


class AudioNetwork:
    """A network of transformers, as its configuration says. A subclass is a kind of network, and says what is special.

    Args:
        config: The network's own.
        input_length: The length of its inputs, in time steps, where the network takes no other.

    Raises:
        ValueError: It is a network of this kind, but one that cannot be fused.
    """

    # Of the network's class in transformers: its name, and its module where transformers does not export it.
    class_name: str
    module: str | None = None
    # The argument that takes the inputs, and the field with the number of blocks.
    input_name = "input_values"
    depth_field = "num_hidden_layers"
    # What is only for training, or comes after the last block; and modules, by path, that are not needed.
    unused_fields = {
        "add_adapter": False,
        "use_intermediate_ffn_before_adapter": False,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
        "layerdrop": 0.0,
        "encoder_layerdrop": 0.0,
    }
    unused_modules: tuple[str, ...] = ()
    # The paths of the blocks, {} for a block's number, counted from 0, as versions of transformers have them.
    block_paths: tuple[str, ...] = ("encoder.layers.{}",)
    # The paths of what the last layer takes beside its block.
    last_modules: tuple[str, ...] = ()
    # The normalisation after the last block, by path, where there is one; and whether transformers' last hidden state
    # has passed it.
    final_norm: str | None = None
    ends_with_norm = False
    # Whether a clip's frames do not depend on padding that the attention mask tells of.
    is_padding_safe = False
    # Whether there are tokens of the whole clip beside those of its frames.
    has_clip_tokens = False
    # Whether it has attentions of all tokens to all.
    has_attentions = True

    def __init__(self, config: PretrainedConfig, input_length: int | None = None):
        self.config = config
        self.input_length = input_length
        self.check()

    def check(self) -> None:
        """Raise a ValueError where the network cannot be fused."""
        if self.input_length is not None:
            raise ValueError(f"{self.class_name} takes inputs of any length: leave input_length out.")

    @classmethod
    def count_layers(cls, config: PretrainedConfig) -> int:
        """N, the number of blocks that a configuration tells."""
        return getattr(config, cls.depth_field)

    @property
    def num_layers(self) -> int:
        """N, the number of blocks."""
        return self.count_layers(self.config)

    @property
    def layer_sizes(self) -> dict[int, int]:
        """The dimension of each layer's frames."""
        return dict.fromkeys(range(self.num_layers + 1), self.config.hidden_size)

    @property
    def feature_size(self) -> int:
        """The size of a time step of the inputs: of a waveform, 1."""
        return 1

    @property
    def frame_window(self) -> float:
        """The time steps that a frame is made of."""
        raise NotImplementedError(f"{type(self).__name__} has to define frame_window.")

    @property
    def frame_hop(self) -> float:
        """The time steps from one frame to the next."""
        raise NotImplementedError(f"{type(self).__name__} has to define frame_hop.")

    @classmethod
    def config_class(cls) -> type[PretrainedConfig]:
        """The class of its configuration; a ValueError where this version of transformers has none."""
        return _find(transformers, f"{cls.class_name.removesuffix('Model').removesuffix('Encoder')}Config")

    def network_class(self) -> type[nn.Module]:
        """Its class; a ValueError where this version of transformers has none."""
        owner = transformers if self.module is None else import_module(f"transformers.models.{self.module}")
        return _find(owner, self.class_name)

    def build(self, depth: int) -> tuple[nn.Module, nn.Module]:
        """The network up to a block, the first at least, and the normalisation after the last one, apart from it.

        Args:
            depth: The last block that is built.
        """
        config = copy.deepcopy(self.config)
        for name, value in self.unused_fields.items():
            if hasattr(config, name):
                setattr(config, name, value)
        setattr(config, self.depth_field, max(1, depth))
        network = self.network_class()(config)
        final_norm = nn.Identity() if self.final_norm is None else network.get_submodule(self.final_norm)
        for path in (*self.unused_modules, *([self.final_norm] if self.final_norm else [])):
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, nn.Identity())
        return network, final_norm

    def run_first(self, network: nn.Module, num_blocks: int) -> None:
        """Let a network, as in `build`, run only so many of its blocks, the first at least."""
        for path in {path.rpartition(".")[0] for path in self.block_paths}:
            parent, _, name = path.rpartition(".")
            with suppress(AttributeError):  # a path of another version of transformers
                owner = network.get_submodule(parent)
                setattr(owner, name, Blocks(getattr(owner, name), max(1, num_blocks)))

    def run(
        self, network: nn.Module, inputs: torch.Tensor, mask: torch.Tensor | None, with_attentions: bool = False
    ) -> NetworkOutputs:
        """What a network, as in `build`, gives for inputs (batch, time, feature), up to the last block that it runs.

        Args:
            network: As in `build`.
            inputs: (batch, time, feature).
            mask: (batch, time), 1 for a clip's own time steps; None where all are, or the network takes no mask.
            with_attentions: Whether to return the attentions, of a network that has them.
        """
        arguments: dict[str, Any] = {self.input_name: self.as_input(inputs), "output_attentions": with_attentions}
        if mask is not None:
            arguments["attention_mask"] = mask.long()
        outputs = network(**arguments, output_hidden_states=True, return_dict=True)
        return NetworkOutputs(outputs.hidden_states, outputs.attentions if with_attentions else None)

    def as_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs (batch, time, feature) in the network's own layout: a waveform is (batch, time)."""
        return inputs[:, :, 0]

    def frames(self, hidden_state: torch.Tensor, layer: int) -> torch.Tensor:
        """A hidden state's frames, (batch, frame, D)."""
        return hidden_state

    def clips(self, hidden_state: torch.Tensor) -> torch.Tensor:
        """What a hidden state has of the whole clip, (batch, D), where the network has tokens of it."""
        raise NotImplementedError(f"{self.class_name} has no tokens of the whole clip.")


def _find(module: Any, name: str) -> Any:
    if not hasattr(module, name):
        raise ValueError(f"transformers {transformers.__version__} has no {name}: use a later version.")
    return getattr(module, name)
