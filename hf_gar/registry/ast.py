"""AST-Fusion (Gong et al., "AST: Audio Spectrogram Transformer", 2021)."""

from hf_gar.registry.paper import PaperFigures, PaperVariant, accuracies
from hf_gar.registry.spec import ModelSpec, OfficialCheckpoint

AST = ModelSpec(
    model_type="ast-fusion",
    network="AST",
    config_name="hf_gar.models.configuration_ast_fusion:ASTFusionConfig",
    feature_extractor_name="hf_gar.models.feature_extraction_ast_fusion:ASTFusionFeatureExtractor",
    model_name="hf_gar.models.modeling_ast_fusion:ASTFusionModel",
    classifier_name="hf_gar.models.modeling_ast_fusion:ASTFusionForAudioClassification",
    converter_name="hf_gar.checkpoints.ast:convert_ast",
    card_template="ast-fusion.md",
    official_checkpoints=(
        OfficialCheckpoint(
            sampling_rate=16000,
            url="https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593",
            file_name="MIT/ast-finetuned-audioset-10-10-0.4593",
            digests={},
            license="bsd-3-clause",
            license_name="BSD-3-Clause",
            datasets=("agkphysics/AudioSet",),
        ),
    ),
    paper=PaperFigures(
        fusion_layers=(4, 11),
        unfused=PaperVariant(
            accuracies(93.5, 85.5, 71.8, 16.5, 81.2, 57.9, 84.3, 73.2, 25.8),
            learning_rates={"surge": 0.0001},
        ),
        fused=PaperVariant(
            accuracies(94.2, 85.5, 80.4, 24.9, 87.6, 60.7, 82.9, 77.6, 34.6),
            learning_rates={"surge": 0.0001},
        ),
    ),
)
