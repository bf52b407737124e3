"""VGGish-Fusion (Hershey et al., "CNN Architectures for Large-Scale Audio Classification", 2017)."""

from hf_gar.registry.paper import PaperFigures, PaperVariant, accuracies
from hf_gar.registry.spec import ModelSpec, OfficialCheckpoint

VGGISH = ModelSpec(
    model_type="vggish-fusion",
    network="VGGish",
    config_name="hf_gar.models.configuration_vggish_fusion:VGGishFusionConfig",
    feature_extractor_name="hf_gar.models.feature_extraction_vggish_fusion:VGGishFusionFeatureExtractor",
    model_name="hf_gar.models.modeling_vggish_fusion:VGGishFusionModel",
    classifier_name="hf_gar.models.modeling_vggish_fusion:VGGishFusionForAudioClassification",
    converter_name="hf_gar.checkpoints.vggish:convert_vggish",
    card_template="vggish-fusion.md",
    official_checkpoints=(
        OfficialCheckpoint(
            sampling_rate=16000,
            url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
            file_name="vggish-10086976.pth",
            digests={"sha256": "10086976"},  # the beginning, which its publisher gives in the file's name
            license="apache-2.0",
            license_name="Apache-2.0",
        ),
    ),
    paper=PaperFigures(
        fusion_layers=(9, 14),
        unfused=PaperVariant(
            accuracies(68.2, 75.1, 14.3, 9.0, 75.7, 44.4, 75.3, 53.9, 8.8),
            learning_rates={"esc50": 0.003, "vc1": 0.0005},
        ),
        fused=PaperVariant(
            accuracies(86.5, 80.9, 91.4, 54.5, 91.6, 59.3, 70.8, 73.6, 33.3),
            learning_rates={"vc1": 0.0005, "surge": 0.0001},
        ),
    ),
)
