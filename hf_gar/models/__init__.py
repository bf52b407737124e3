"""The hub files: what travels to a model repository, and runs there without hf_gar.

Every file here but this one is flat: it imports torch, numpy, transformers and its siblings, nothing else (soundfile,
soxr and torchcodec are tried). What the models share is exported here; `hf_gar.registry` names the models themselves.
"""

from hf_gar.models.configuration_fusion import FusionConfig
from hf_gar.models.feature_extraction_fusion import FusionFeatureExtractor
from hf_gar.models.modeling_classification import FusionForAudioClassification
from hf_gar.models.modeling_fusion import FusionModel, FusionPreTrainedModel

__all__ = [
    "FusionConfig",
    "FusionFeatureExtractor",
    "FusionForAudioClassification",
    "FusionModel",
    "FusionPreTrainedModel",
]
