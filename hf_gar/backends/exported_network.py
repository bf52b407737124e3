"""What networks on other runtimes than PyTorch share: they run on the processor, on float32 arrays."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hf_gar.models import FusionConfig
from hf_gar.models.fusion import ClipPooling
from hf_gar.models.modeling_fusion import FusionOutput

# The names of an exported network's inputs and outputs: those of `FusionModel.forward`.
FEATURES, MASK = INPUTS = ("input_features", "attention_mask")
FRAMES, CLIPS, FRAME_MASK = OUTPUTS = ("last_hidden_state", "pooler_output", "frame_mask")


class Piece(NamedTuple):
    """Clips [start, stop) of a batch, which are of one length, in time steps."""

    start: int
    stop: int
    length: int


class ExportedNetwork(ABC):
    """A network that was exported. A subclass loads it into a runtime, and runs it.

    Args:
        config: Of the model.
        pooling: Of the model.
        path: The network's file.
        dtype: "float32", "bfloat16" or "int8".
        threads: How many it computes in.
    """

    device = torch.device("cpu")

    def __init__(self, config: FusionConfig, pooling: ClipPooling, path: Path, dtype: str, threads: int):
        self.config = config
        self.pooling = pooling
        self._load(path, dtype, threads)

    @property
    def has_fixed_length(self) -> bool:
        """Whether it sees inputs of one length only, padding and all."""
        return "max_length" in self.config.checked_fields or getattr(self.config, "input_length", None) is not None

    @abstractmethod
    def _load(self, path: Path, dtype: str, threads: int) -> None:
        """Load the network."""

    @abstractmethod
    def _embed(self, features: np.ndarray, lengths: np.ndarray) -> Mapping[str, np.ndarray]:
        """The outputs, by name, for `features` (batch, time, feature), of which `lengths` (batch,) are the clips'."""

    def __call__(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> FusionOutput:
        """Embed clips, as `FusionModel.forward` does."""
        features = input_features.float().contiguous().numpy()
        batch, time, _ = features.shape
        lengths = np.full(batch, time) if attention_mask is None else attention_mask.sum(1).numpy()
        outputs = self._embed(features, lengths)
        frames, clips, frame_mask = (torch.from_numpy(outputs[name]) for name in OUTPUTS)
        return FusionOutput(last_hidden_state=frames, pooler_output=clips, frame_mask=frame_mask)


def cut_into_pieces(lengths: Sequence[int] | np.ndarray, most: int) -> Iterator[Piece]:
    """Clips that follow each other and are of one length, as many as have at most so many time steps; one at least."""
    start = 0
    for stop in range(1, len(lengths) + 1):
        length = int(lengths[start])
        if stop == len(lengths) or lengths[stop] != length or (stop + 1 - start) * length > most:
            yield Piece(start, stop, length)
            start = stop


def put_together(batch: int, parts: Iterable[tuple[Piece, Mapping[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """The outputs of a batch of the outputs of its pieces, with zeros after a clip's end."""
    parts = list(parts)
    longest = max(outputs[FRAMES].shape[1] for _, outputs in parts)
    whole: dict[str, np.ndarray] = {}
    for piece, outputs in parts:
        for name, array in outputs.items():
            if name not in whole:
                shape = array.shape[1:] if name == CLIPS else (longest, *array.shape[2:])
                whole[name] = np.zeros((batch, *shape), array.dtype)
            rows = whole[name][piece.start : piece.stop]
            (rows if name == CLIPS else rows[:, : array.shape[1]])[:] = array
    return whole
