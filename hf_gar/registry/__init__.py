"""The models: what each one is, declared in one place; the command line, cards, exports and evaluation derive from it.

`MODELS` is a plain dictionary: another package's model is added by `MODELS[spec.model_type] = spec`.
"""

from hf_gar.registry.ast import AST
from hf_gar.registry.backbone import BACKBONE
from hf_gar.registry.cnn14 import CNN14
from hf_gar.registry.spec import ModelSpec
from hf_gar.registry.vggish import VGGISH

MODELS: dict[str, ModelSpec] = {spec.model_type: spec for spec in (VGGISH, CNN14, AST, BACKBONE)}


def register() -> None:
    """Make transformers' Auto classes know the models and their classifiers, without remote code."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

    for spec in MODELS.values():
        AutoConfig.register(spec.model_type, spec.config, exist_ok=True)
        AutoFeatureExtractor.register(spec.config, spec.feature_extractor, exist_ok=True)
        AutoModel.register(spec.config, spec.model, exist_ok=True)
        if spec.classifier is not None:
            AutoModelForAudioClassification.register(spec.config, spec.classifier, exist_ok=True)
