"""Which dimensions of an embedding are which layer's.

Pooling over time works on each dimension alone, so a layer's embedding is a slice of the one that fuses several.
"""

from collections.abc import Sequence

import numpy as np

from hf_gar.errors import HfGarError
from hf_gar.models import FusionConfig


def layer_slices(config: FusionConfig) -> dict[int, slice]:
    """Which dimensions of the embedding are each fused layer's."""
    ends = np.cumsum([config.layer_sizes[layer] for layer in config.fused_layers])
    return {
        layer: slice(int(end) - config.layer_sizes[layer], int(end))
        for layer, end in zip(config.fused_layers, ends, strict=True)
    }


def layer_columns(slices: dict[int, slice], layers: Sequence[int], dimension: int) -> np.ndarray:
    """The dimensions that fusing `layers` alone gives, in the order of the network.

    Args:
        slices: As `layer_slices` gives them.
        layers: The layers that are wanted, in any order.
        dimension: That of the embeddings at hand.

    Raises:
        HfGarError: The embeddings are of other layers.
    """
    expected = max(part.stop for part in slices.values())
    missing = [layer for layer in layers if layer not in slices]
    if missing or dimension != expected:
        raise HfGarError(
            f"The embeddings are of the layers {', '.join(map(str, slices))}, {dimension} dimensions "
            f"({expected} were expected); asked for {', '.join(map(str, layers))}. Embed those layers first."
        )
    return np.concatenate([np.arange(part.start, part.stop) for layer, part in slices.items() if layer in layers])
