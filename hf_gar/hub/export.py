"""Make a model repository of a checkpoint."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard

from hf_gar.checkpoints.backbone import weight_files
from hf_gar.checkpoints.converted import ConvertedCheckpoint, ConvertedClassifier
from hf_gar.checkpoints.download import (
    REPOSITORY_NAME,
    TRANSFORMERS_FILES,
    download,
    fetch_from_hub,
    file_digest,
    wrong_digest,
)
from hf_gar.checkpoints.reading import CHECKPOINT_SUFFIXES
from hf_gar.errors import HfGarError
from hf_gar.files import require_new_folder, whole_folder
from hf_gar.hub.card import CARD_FILE, Origin, printable, render_card
from hf_gar.hub.load import find_repository, joint_digest, loading
from hf_gar.models import FusionConfig, FusionPreTrainedModel
from hf_gar.quiet import quiet_libraries
from hf_gar.registry import MODELS, ModelSpec
from hf_gar.registry.spec import OfficialCheckpoint

OFFICIAL = "official"


def export_repository(
    model_type: str,
    checkpoint: str | Path,
    output: str | Path,
    sampling_rate: int | None = None,
    with_classifier: bool | None = None,
    all_layers: bool = False,
    **config: Any,
) -> Path:
    """Write a folder that is a complete model repository: configuration, weights, code and card.

    Args:
        model_type: As in `hf_gar.registry.MODELS`, for example "cnn14-fusion".
        checkpoint: A checkpoint file, or "official" to download the published one; for AST also, and for
            BackboneFusion, a folder, or the name of a model on the Hub, that transformers wrote.
        output: The folder to write, which must not hold anything yet.
        sampling_rate: The rate of the network, in Hz, where there are several; by default that of the file, or
            that of the model's first official one.
        with_classifier: Whether to write the checkpoint's own classifier, too, with the layers that it needs; by
            default where it has one, unless the layers that `config` chooses do not reach as far.
        all_layers: Keep the weights of every layer, not only up to the deepest one that is used.
        config: Fields of the model's configuration, such as `fusion_layers` and `depth`.

    Returns:
        `output`.

    Raises:
        HfGarError: The checkpoint or the folder cannot be used; the message says why.
        ValueError: A field of the configuration is wrong.
    """
    output = Path(output)
    spec = MODELS[model_type]
    require_new_folder(output)
    path = _find_checkpoint(spec, checkpoint, sampling_rate)
    converted: ConvertedCheckpoint = spec.convert(path)
    if all_layers:
        config["depth"] = spec.config(**{**converted.config, "fusion_layers": None}).depth
    classifier = _choose_classifier(spec, converted, with_classifier, path, config)
    model_config = spec.config(**{**converted.config, **config})
    if classifier is not None:
        of_classifier = {**classifier.config, "classifier_layers": [model_config.unfused_layer]}
        model_config = spec.config(**{**converted.config, **of_classifier, **config})
    feature_extractor = spec.feature_extractor(**converted.feature_extractor)
    if sampling_rate not in (None, feature_extractor.sampling_rate):
        raise HfGarError(
            f"{path} is the network for {feature_extractor.sampling_rate} Hz, not for {sampling_rate} Hz. Leave "
            "`sampling_rate` out, or choose another file."
        )
    feature_extractor.match(model_config)
    with loading(f"{path}, as a {model_type},"):
        model = _build_model(spec, model_config, converted.state_dict, classifier)
    weights = weight_files(path) if path.is_dir() else [path]
    source = spec.find_official(feature_extractor.sampling_rate)
    with whole_folder(output) as folder, quiet_libraries():
        model.save_pretrained(folder)
        feature_extractor.save_pretrained(folder)
        origin = Origin(
            checkpoint=printable(weights[0].name),
            checkpoint_sha256=joint_digest([file_digest(file, "sha256") for file in weights]),
            is_official=_is_official(checkpoint, path, source),
            weights_sha256=find_repository(folder).weights_sha256,
            dropped=list(converted.dropped),
            **_describe_source(checkpoint, path),
        )
        render_card(model.config, feature_extractor, origin, classifier is not None).save(folder / CARD_FILE)
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors makes its files readable by their owner alone
    return output


def _choose_classifier(
    spec: ModelSpec, converted: ConvertedCheckpoint, with_classifier: bool | None, path: Path, config: dict[str, Any]
) -> ConvertedClassifier | None:
    """The checkpoint's classifier, where it is to be exported."""
    classifier = None if spec.classifier is None else converted.classifier
    if with_classifier and classifier is None:
        raise HfGarError(
            f"{path} has no classifier that could give labels: it is a {spec.network} for embeddings only. Leave "
            "`with_classifier` out, and train a classifier of your own on the embeddings."
        )
    if with_classifier is None:
        without = spec.config(**{**converted.config, **config})
        is_cut = without.depth < without.unfused_layer and config.keys() & {"fusion_layers", "depth"}
        return None if is_cut else classifier
    return classifier if with_classifier else None


def _build_model(
    spec: ModelSpec,
    config: FusionConfig,
    state_dict: dict[str, torch.Tensor],
    classifier: ConvertedClassifier | None,
) -> FusionPreTrainedModel:
    """The model with its weights, and with its classifier where there is one."""
    if classifier is None or spec.classifier is None:
        return spec.model.from_pretrained(None, config=config, state_dict=state_dict)
    prefix = spec.classifier.base_model_prefix
    state_dict = {f"{prefix}.{name}": weight for name, weight in state_dict.items()}
    return spec.classifier.from_pretrained(None, config=config, state_dict={**state_dict, **classifier.state_dict})


def _find_checkpoint(spec: ModelSpec, checkpoint: str | Path, sampling_rate: int | None) -> Path:
    """The local path of a checkpoint, fetched where it is "official" or the name of a model on the Hub."""
    if checkpoint == OFFICIAL:
        return download(spec.official_checkpoint(sampling_rate))
    path = Path(checkpoint)
    if not path.exists() and path.suffix not in CHECKPOINT_SUFFIXES and REPOSITORY_NAME.fullmatch(str(checkpoint)):
        return fetch_from_hub(str(checkpoint), TRANSFORMERS_FILES)
    return path


def _is_official(checkpoint: str | Path, path: Path, source: OfficialCheckpoint | None) -> bool:
    """Whether the checkpoint at `path` is the published one: by its digests, or by its name where it was fetched."""
    if checkpoint == OFFICIAL or source is None:
        return source is not None
    if source.is_on_hub:
        return str(checkpoint) == source.file_name and not Path(checkpoint).exists()
    return wrong_digest(path, source) is None


def _describe_source(checkpoint: str | Path, path: Path) -> dict[str, str]:
    """Of a checkpoint that is a repository of transformers: its name and commit on the Hub, and its licence."""
    described = {}
    # Where it was fetched, the folder is named by its commit.
    if checkpoint != OFFICIAL and path.is_dir() and not Path(checkpoint).exists():
        described = {"base_model": str(checkpoint), "revision": path.name}
    if (path / CARD_FILE).is_file():
        with contextlib.suppress(ValueError):  # a card without metadata, or with damaged ones
            found = ModelCard.load(path / CARD_FILE).data.license
            described |= {"license": found} if isinstance(found, str) else {}
    return described
