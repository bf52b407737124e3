"""What runs a network: PyTorch's model itself, or the same network on another runtime."""

from typing import Protocol

import torch

from hf_gar.models import FusionConfig
from hf_gar.models.fusion import ClipPooling
from hf_gar.models.modeling_fusion import FusionOutput


class Network(Protocol):
    """A network that embeds batches of clips; a `FusionModel` is one.

    It gives the same embeddings whatever runs it, up to the rounding of its precision, and the same for a clip alone
    and in any batch.
    """

    @property
    def config(self) -> FusionConfig:
        """The configuration."""

    @property
    def device(self) -> torch.device:
        """Where it takes its inputs, and leaves its outputs."""

    @property
    def pooling(self) -> ClipPooling:
        """What makes a clip's embedding of its chunks."""

    def __call__(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> FusionOutput:
        """Embed clips, as `FusionModel.forward` does."""
