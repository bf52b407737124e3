"""The networks' official files: where they are, how they are fetched, and how they become our weights."""

from hf_gar.checkpoints.cnn14 import convert_cnn14
from hf_gar.checkpoints.converted import ConvertedCheckpoint

CONVERTERS = {"cnn14-fusion": convert_cnn14}

__all__ = ["CONVERTERS", "ConvertedCheckpoint"]
