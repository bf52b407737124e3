"""Multilayer fusion: choose layers, bring their outputs to one frame rate, concatenate, pool over time.

Source: Niizumi et al., "Composing General Audio Representation by Fusing Multilayer Features of a Pre-trained Model",
EUSIPCO 2022 (arXiv 2205.08138), section III.
"""

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch


def resolve_fusion_layers(
    fusion_layers: Sequence[int], valid_layers: Sequence[int], depth: int, name: str = "fusion_layers"
) -> tuple[int, ...]:
    """Check a choice of layers and put it in the order of the network.

    Args:
        fusion_layers: The layers to fuse, in any order.
        valid_layers: The layers of the network that can be fused, in its order.
        depth: The deepest layer whose weights the model holds.
        name: What the choice is called, for the error.

    Raises:
        ValueError: No layer, a repeated one, one that the network does not have, or one beyond `depth`.
    """
    valid = f"valid layers are {', '.join(map(str, valid_layers))}"
    if not isinstance(fusion_layers, Sequence) or isinstance(fusion_layers, str):
        raise ValueError(
            f"{name} has to be a list of layer numbers or None, not {reprlib.repr(fusion_layers)}; {valid}."
        )
    if not fusion_layers:
        raise ValueError(f"{name} is empty: name a layer, or None for the unfused embedding; {valid}.")
    named = f"{name}={reprlib.repr(list(fusion_layers))}"
    unknown = [layer for layer in fusion_layers if type(layer) is not int or layer not in valid_layers]
    if unknown:
        raise ValueError(f"{named} has unknown layers {reprlib.repr(unknown)}; {valid}.")
    if len(set(fusion_layers)) != len(fusion_layers):
        raise ValueError(f"{named} repeats a layer: name each layer once.")
    too_deep = [layer for layer in fusion_layers if layer > depth]
    if too_deep:
        raise ValueError(
            f"{named} asks for layers {reprlib.repr(too_deep)}, but this model holds weights only up to "
            f"depth={depth}. Choose layers up to {depth}, or export the model again with `hf-gar export --all-layers`."
        )
    return tuple(sorted(fusion_layers))


def is_traced() -> bool:
    """Whether a graph is being made of what runs, for torch.compile or an export: nothing may branch on values then."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on a device; where that is a GPU, nobody waits until it is there."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """The mask (batch, size), true where a position is within its sequence's length; `lengths` is (batch,)."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def span_mask(spans: Sequence[tuple[int, int]], frames: torch.Tensor) -> torch.Tensor | None:
    """The mask (batch, frame) for `frames` (batch, frame, D), true for those [first, stop) of each clip.

    None where that is all of them.
    """
    size = frames.shape[1]
    if all(span == (0, size) for span in spans):
        return None
    first, stop = torch.tensor(spans).to(frames.device, non_blocking=True).unbind(1)
    position = torch.arange(size, device=frames.device)
    return (position >= first[:, None]) & (position < stop[:, None])


def tap_to_frames(tap: torch.Tensor, steps_per_frame: int) -> torch.Tensor:
    """Max-pool a convolutional layer's output over time and flatten it, channel-major.

    Args:
        tap: A layer's output, (batch, channel, time, frequency).
        steps_per_frame: How many of its time steps make a frame; steps that do not fill a last frame are dropped.

    Returns:
        (batch, frame, channel * frequency).
    """
    if steps_per_frame > 1:
        tap = torch.nn.functional.max_pool2d(tap, (steps_per_frame, 1))
    # The one copy that there has to be: `flatten` would make it, too, but torch.export then asks whether it has to.
    return tap.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(2)


class ClipPooling(ABC):
    """What makes a clip's embedding of its chunks, of which a short clip has one.

    A chunk is summarised where the network has it (`summarize`), and the summaries are merged (`merge`).
    """

    @property
    def has_weights(self) -> bool:
        """Whether it has weights of its own, which are the model's."""
        return False

    @abstractmethod
    def summarize(
        self, frames: torch.Tensor, clips: torch.Tensor | None, own_frames: torch.Tensor | None
    ) -> torch.Tensor:
        """What `merge` needs of chunks, in float32: a sum of many frames overflows half precision.

        Args:
            frames: Their frame embeddings, (chunk, frame, D).
            clips: Their embeddings, (chunk, D), where the network does not pool them from its frames.
            own_frames: (chunk, frame), true for the frames that are a chunk's own, neither context nor padding; None
                where all are.

        Returns:
            (chunk, k, D); k depends on the kind of pooling.
        """

    @abstractmethod
    def merge(self, summaries: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
        """The embeddings of clips.

        Args:
            summaries: Of each clip's chunks, (..., chunk, k, D).
            num_frames: How many frames of their own the chunks have, (..., chunk).

        Returns:
            (..., D).
        """


class FramePooling(ClipPooling):
    """The maximum plus the mean over the frames of a clip (section III-B of the paper).

    Args:
        head: What follows in some unfused networks, a linear layer and ReLU.
        with_maximum: Without, it is the mean alone.
    """

    def __init__(self, head: torch.nn.Linear | None = None, with_maximum: bool = True):
        self.head = head
        self.with_maximum = with_maximum

    @property
    def has_weights(self) -> bool:
        return self.head is not None

    def summarize(
        self, frames: torch.Tensor, clips: torch.Tensor | None, own_frames: torch.Tensor | None
    ) -> torch.Tensor:
        """The maximum and the sum over each chunk's own frames, (chunk, 2, D)."""
        highest = summed = frames
        if own_frames is not None:
            outside = ~own_frames[:, :, None]
            highest = frames.masked_fill(outside, torch.finfo(frames.dtype).min)
            summed = frames.masked_fill(outside, 0)
        return torch.stack([highest.amax(1).float(), summed.sum(1, dtype=torch.float32)], dim=1)

    def merge(self, summaries: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
        maximum, total = summaries.unbind(-2)
        pooled = total.sum(-2) / num_frames.sum(-1, keepdim=True)
        if self.with_maximum:
            pooled = maximum.amax(-2) + pooled
        return pooled if self.head is None else self.head(pooled.to(self.head.weight.dtype)).relu()


class DurationPooling(ClipPooling):
    """The mean of the chunks' embeddings, weighted by their durations: for networks with an embedding of their own."""

    def summarize(
        self, frames: torch.Tensor, clips: torch.Tensor | None, own_frames: torch.Tensor | None
    ) -> torch.Tensor:
        """The chunks' embeddings, (chunk, 1, D)."""
        assert clips is not None
        return clips.float()[:, None]

    def merge(self, summaries: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
        shares = num_frames / num_frames.sum(-1, keepdim=True)
        return (summaries.squeeze(-2) * shares[..., None]).sum(-2)
