"""CNN14-Fusion (Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks", 2020)."""

from hf_gar.registry.paper import PaperFigures, PaperVariant, accuracies
from hf_gar.registry.spec import ModelSpec, OfficialCheckpoint

CNN14 = ModelSpec(
    model_type="cnn14-fusion",
    network="CNN14",
    config_name="hf_gar.models.configuration_cnn14_fusion:Cnn14FusionConfig",
    feature_extractor_name="hf_gar.models.feature_extraction_cnn14_fusion:Cnn14FusionFeatureExtractor",
    model_name="hf_gar.models.modeling_cnn14_fusion:Cnn14FusionModel",
    classifier_name="hf_gar.models.modeling_cnn14_fusion:Cnn14FusionForAudioClassification",
    converter_name="hf_gar.checkpoints.cnn14:convert_cnn14",
    card_template="cnn14-fusion.md",
    official_checkpoints=(
        OfficialCheckpoint(
            sampling_rate=16000,
            url="https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1",
            file_name="Cnn14_16k_mAP=0.438.pth",
            digests={
                "md5": "362fc5ff18f1d6ad2f6d464b45893f2c",
                "sha256": "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
            },
            license="cc-by-4.0",
            license_name="CC BY 4.0",
            datasets=("agkphysics/AudioSet",),
        ),
        OfficialCheckpoint(
            sampling_rate=32000,
            url="https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
            file_name="Cnn14_mAP=0.431.pth",
            digests={"md5": "541141fa2ee191a88f24a3219fff024e"},
            license="cc-by-4.0",
            license_name="CC BY 4.0",
            datasets=("agkphysics/AudioSet",),
        ),
    ),
    paper=PaperFigures(
        fusion_layers=(3, 6),
        unfused=PaperVariant(
            accuracies(90.1, 82.0, 51.4, 8.0, 75.0, 50.7, 79.7, 66.0, 10.4),
            learning_rates={"nsynth": 0.00001},
        ),
        fused=PaperVariant(
            accuracies(93.0, 85.8, 91.3, 50.6, 90.5, 59.0, 77.4, 73.8, 32.4),
            learning_rates={"nsynth": 0.00001, "surge": 0.00003},
        ),
    ),
)
