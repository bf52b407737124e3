"""The networks' official files: where they are, how they are fetched, and how they become our weights."""

from hf_gar.checkpoints.ast import convert_ast
from hf_gar.checkpoints.cnn14 import convert_cnn14
from hf_gar.checkpoints.converted import ConvertedCheckpoint
from hf_gar.checkpoints.vggish import convert_vggish

CONVERTERS = {"vggish-fusion": convert_vggish, "cnn14-fusion": convert_cnn14, "ast-fusion": convert_ast}

__all__ = ["CONVERTERS", "ConvertedCheckpoint"]
