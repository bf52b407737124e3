"""A model repository's README."""

from importlib.resources import files
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from hf_gar.checkpoints.sources import official_checkpoint
from hf_gar.models import FusionConfig, FusionFeatureExtractor


def template_path(model_type: str) -> Path:
    """The card's template: in the installed package, or in the source tree where hf_gar is installed from there."""
    package = Path(str(files("hf_gar")))
    installed = package / "hub_cards"
    return (installed if installed.is_dir() else package.parent / "hub_cards") / f"{model_type}.md"


def render_card(
    config: FusionConfig,
    feature_extractor: FusionFeatureExtractor,
    checkpoint_name: str,
    checkpoint_sha256: str,
    is_official: bool,
) -> ModelCard:
    """The card of a model made from a checkpoint file of this name and digest.

    `is_official` says that it was downloaded as such; a file that somebody brought is official where its digest is.
    """
    source = official_checkpoint(config.model_type, feature_extractor.sampling_rate)
    published = source.digests.get("sha256")
    is_official = is_official or (published is not None and checkpoint_sha256.startswith(published))
    layers = [layer for layer in config.valid_layers if layer <= config.depth]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="feature-extraction",
        license=source.license if is_official else None,
        tags=["audio", "audio-embedding", "hf_gar", config.model_type, "custom_code"],
    )
    return ModelCard.from_template(
        data,
        template_path=str(template_path(config.model_type)),
        config=config,
        feature_extractor=feature_extractor,
        layers="" if config.fusion_layers is None else "+".join(f"#{layer}" for layer in config.fused_layers),
        source=source,
        checkpoint_name=checkpoint_name,
        checkpoint_sha256=checkpoint_sha256,
        is_official=is_official,
        example_layers=sorted({layers[0], layers[-1]}),
        deepest_layer=layers[-1],
    )
