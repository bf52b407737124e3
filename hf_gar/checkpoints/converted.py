"""What a converter makes of a checkpoint file."""

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """Weights under our names, with the arguments of the configuration and the feature extractor that go with them."""

    state_dict: dict[str, torch.Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    feature_extractor: dict[str, Any] = field(default_factory=dict)
