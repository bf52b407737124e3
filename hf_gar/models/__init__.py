"""The hub files: what travels to a model repository, and runs there without hf_gar.

Every file here but this one is flat: it imports torch, numpy, transformers and its siblings, nothing else (soundfile,
soxr and torchcodec are tried).
"""

from typing import NamedTuple

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from hf_gar.models.configuration_ast_fusion import ASTFusionConfig
from hf_gar.models.configuration_cnn14_fusion import Cnn14FusionConfig
from hf_gar.models.configuration_fusion import FusionConfig
from hf_gar.models.configuration_vggish_fusion import VGGishFusionConfig
from hf_gar.models.feature_extraction_ast_fusion import ASTFusionFeatureExtractor
from hf_gar.models.feature_extraction_cnn14_fusion import Cnn14FusionFeatureExtractor
from hf_gar.models.feature_extraction_fusion import FusionFeatureExtractor
from hf_gar.models.feature_extraction_vggish_fusion import VGGishFusionFeatureExtractor
from hf_gar.models.modeling_ast_fusion import ASTFusionModel
from hf_gar.models.modeling_cnn14_fusion import Cnn14FusionModel
from hf_gar.models.modeling_fusion import FusionModel
from hf_gar.models.modeling_vggish_fusion import VGGishFusionModel


class ModelClasses(NamedTuple):
    """The classes of one model."""

    config: type[FusionConfig]
    feature_extractor: type[FusionFeatureExtractor]
    model: type[FusionModel]


MODEL_CLASSES = {
    "vggish-fusion": ModelClasses(VGGishFusionConfig, VGGishFusionFeatureExtractor, VGGishFusionModel),
    "cnn14-fusion": ModelClasses(Cnn14FusionConfig, Cnn14FusionFeatureExtractor, Cnn14FusionModel),
    "ast-fusion": ModelClasses(ASTFusionConfig, ASTFusionFeatureExtractor, ASTFusionModel),
}


def register() -> None:
    """Make transformers' AutoConfig, AutoFeatureExtractor and AutoModel know the models, without remote code."""
    for model_type, classes in MODEL_CLASSES.items():
        AutoConfig.register(model_type, classes.config, exist_ok=True)
        AutoFeatureExtractor.register(classes.config, classes.feature_extractor, exist_ok=True)
        AutoModel.register(classes.config, classes.model, exist_ok=True)
