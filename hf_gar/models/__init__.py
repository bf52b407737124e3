"""The hub files: what travels to a model repository, and runs there without hf_gar.

Every file here but this one is flat: it imports torch, numpy, transformers and its siblings, nothing else (soundfile,
soxr and torchcodec are tried).
"""

from typing import NamedTuple

from hf_gar.models.configuration_cnn14_fusion import Cnn14FusionConfig
from hf_gar.models.configuration_fusion import FusionConfig
from hf_gar.models.feature_extraction_cnn14_fusion import Cnn14FusionFeatureExtractor
from hf_gar.models.feature_extraction_fusion import FusionFeatureExtractor
from hf_gar.models.modeling_cnn14_fusion import Cnn14FusionModel
from hf_gar.models.modeling_fusion import FusionModel


class ModelClasses(NamedTuple):
    """The classes of one model."""

    config: type[FusionConfig]
    feature_extractor: type[FusionFeatureExtractor]
    model: type[FusionModel]


MODEL_CLASSES = {"cnn14-fusion": ModelClasses(Cnn14FusionConfig, Cnn14FusionFeatureExtractor, Cnn14FusionModel)}
