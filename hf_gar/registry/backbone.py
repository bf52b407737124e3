"""BackboneFusion: the audio networks of transformers."""

from hf_gar.registry.spec import ModelSpec

BACKBONE = ModelSpec(
    model_type="backbone-fusion",
    network="Backbone",
    config_name="hf_gar.models.configuration_backbone_fusion:BackboneFusionConfig",
    feature_extractor_name="hf_gar.models.feature_extraction_backbone_fusion:BackboneFusionFeatureExtractor",
    model_name="hf_gar.models.modeling_backbone_fusion:BackboneFusionModel",
    classifier_name="hf_gar.models.modeling_backbone_fusion:BackboneFusionForAudioClassification",
    converter_name="hf_gar.checkpoints.backbone:convert_backbone",
    card_template="backbone-fusion.md",
)
