"""Multilayer fusion: choose layers, bring their outputs to one frame rate, concatenate, pool over time.

Source: Niizumi et al., "Composing General Audio Representation by Fusing Multilayer Features of a Pre-trained Model",
EUSIPCO 2022 (arXiv 2205.08138), section III.
"""

import reprlib
from collections.abc import Sequence

import torch


def resolve_fusion_layers(fusion_layers: Sequence[int], valid_layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """Check a choice of layers and put it in the order of the network.

    Args:
        fusion_layers: The layers to fuse, in any order.
        valid_layers: The layers of the network that can be fused, in its order.
        depth: The deepest layer whose weights the model holds.

    Raises:
        ValueError: No layer, a repeated one, one that the network does not have, or one beyond `depth`.
    """
    valid = f"valid layers are {', '.join(map(str, valid_layers))}"
    if not isinstance(fusion_layers, Sequence) or isinstance(fusion_layers, str):
        raise ValueError(
            f"fusion_layers has to be a list of layer numbers or None, not {reprlib.repr(fusion_layers)}; {valid}."
        )
    if not fusion_layers:
        raise ValueError(f"fusion_layers is empty: name a layer, or None for the unfused embedding; {valid}.")
    named = f"fusion_layers={reprlib.repr(list(fusion_layers))}"
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


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """The mask (batch, size), true where a position is within its sequence's length; `lengths` is (batch,)."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def tap_to_frames(tap: torch.Tensor, steps_per_frame: int) -> torch.Tensor:
    """Max-pool a convolutional layer's output over time and flatten it, channel-major.

    Args:
        tap: A layer's output, (batch, channel, time, frequency).
        steps_per_frame: How many of its time steps make a frame; steps that do not fill a last frame are dropped.

    Returns:
        (batch, frame, channel * frequency).
    """
    return torch.nn.functional.max_pool2d(tap, (steps_per_frame, 1)).transpose(1, 2).flatten(2)


def pool_frames(frames: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """The maximum plus the mean over each clip's own frames (section III-B of the paper).

    Args:
        frames: (batch, frame, dimension).
        frame_mask: (batch, frame), true for the clip's own frames.

    Returns:
        (batch, dimension).
    """
    maximum, total = maximum_and_sum(frames, frame_mask)
    return (maximum + total / frame_mask.sum(1)[:, None]).to(frames.dtype)


def maximum_and_sum(frames: torch.Tensor, frame_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Over each clip's own frames, both (batch, dimension), in float32: a sum of many overflows half precision."""
    frames, outside = frames.float(), ~frame_mask[:, :, None]
    maximum = frames.masked_fill(outside, torch.finfo(frames.dtype).min).amax(1)
    return maximum, frames.masked_fill(outside, 0).sum(1)
