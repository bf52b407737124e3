"""A model repository's README."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hf_gar.checkpoints.audioset_labels import audioset_labels
from hf_gar.errors import HfGarError
from hf_gar.hub.load import find_repository
from hf_gar.hub.training_record import TrainingRecord, read_training
from hf_gar.models import FusionConfig, FusionFeatureExtractor
from hf_gar.registry import MODELS
from hf_gar.registry.paper import PAPER_TASKS

CARD_FILE = "README.md"
# Where in a card's metadata stands what the weights were made of.
ORIGIN = "hf_gar"


@dataclass(frozen=True)
class Origin:
    """What a repository's weights were made of; it stands in the card's metadata.

    Args:
        checkpoint: The checkpoint's file name, as `printable` writes it.
        checkpoint_sha256: Its digest.
        is_official: Whether it is the published one.
        weights_sha256: The digest of the repository's `model.safetensors`.
        hf_gar: The version that made it.
        base_model: The name of the model on the Hub that the checkpoint is of, where it came from there.
        revision: Its commit.
        license: What the checkpoint's own card says, as on the Hub.
        dropped: Parts of the checkpoint that are not in the repository.
    """

    checkpoint: str
    checkpoint_sha256: str
    is_official: bool
    weights_sha256: str
    hf_gar: str = version("hf_gar")
    base_model: str | None = None
    revision: str | None = None
    license: str | None = None
    dropped: list[str] = field(default_factory=list)


def placeholder_repo_id(model_type: str) -> str:
    """The repository's name in the card of a folder; a push puts the true one in its place."""
    return f"org/{model_type}"


def read_origin(folder: Path) -> Origin | None:
    """What the card of a repository says of its weights; None where it has no card that hf_gar wrote.

    Raises:
        HfGarError: The card's metadata cannot be read.
    """
    if not (folder / CARD_FILE).exists():
        return None
    try:
        origin = ModelCard.load(folder / CARD_FILE).data.to_dict().get(ORIGIN)
        return None if origin is None else Origin(**origin)
    except (ValueError, TypeError) as error:
        raise HfGarError(f"The metadata of {folder / CARD_FILE} is damaged: {error}. Fix or remove it.") from error


def render_card(
    config: FusionConfig,
    feature_extractor: FusionFeatureExtractor,
    origin: Origin,
    has_classifier: bool = False,
    results: Sequence[EvalResult] = (),
    training: TrainingRecord | None = None,
) -> ModelCard:
    """The card of a model repository.

    Args:
        config: The model's.
        feature_extractor: Likewise.
        origin: What its weights were made of.
        has_classifier: Whether it has one.
        results: What was measured with its weights, accuracies and such in %.
        training: Of its classifier, where hf_gar trained that: the card is then the classifier's.
    """
    spec = MODELS[config.model_type]
    source = spec.find_official(feature_extractor.sampling_rate)
    layers = format_layers(config.layer_choice or ())
    network = config.network_name or spec.network
    title = f"{network}-Fusion {layers}" if layers else network
    data = ModelCardData(
        model_name=title if results else None,  # the name of its entry in the model index
        eval_results=list(results) or None,
        library_name="transformers",
        pipeline_tag="feature-extraction" if training is None else "audio-classification",
        license=source.license if source and origin.is_official else origin.license,
        base_model=source.file_name if source and source.is_on_hub and origin.is_official else origin.base_model,
        datasets=list(source.datasets) if source and training is None else None,
        tags=[
            "audio",
            "audio-embedding",
            *(["audio-classification"] if has_classifier else []),
            "hf_gar",
            "sentence-transformers",
            config.model_type,
            "custom_code",
        ],
    )
    setattr(data, ORIGIN, {name: value for name, value in asdict(origin).items() if value not in (None, [])})
    # Benchmarks have a source.
    measured = {each.dataset_name: str(each.metric_value) for each in results if each.source_name is None}
    labels = [config.id2label[index] for index in range(config.num_labels)] if has_classifier else []
    if training is not None:
        title = f"{network}-Fusion, classifier of {len(labels)} labels"
        data.model_name, data.eval_results = title, [_test_result(training), *results]
    held_layers = [layer for layer in config.valid_layers if layer <= config.depth]
    text = render_template(
        spec.card_template if training is None else "classifier.md",
        network_card=spec.card_template,
        training=training,
        classified_layers=format_layers(config.classified_layers),
        card_data=data.to_yaml(),
        title=title,
        repo_id=placeholder_repo_id(config.model_type),
        config=config,
        feature_extractor=feature_extractor,
        origin=origin,
        source=source,
        layers=layers,
        example_layers=sorted({held_layers[0], held_layers[-1]}),
        network=network,
        paper=spec.paper,
        paper_layers=format_layers(spec.paper.fusion_layers) if spec.paper else "",
        paper_tasks=PAPER_TASKS if spec.paper else {},
        measured=measured,
        benchmarks=[each for each in results if each.source_name is not None],
        labels=labels,
        has_audioset_labels=tuple(labels) == audioset_labels(),
    )
    return ModelCard(re.sub(r"\n{3,}", "\n\n", text))  # where a template leaves a block out


def _test_result(training: TrainingRecord) -> EvalResult:
    """The test score of a classifier, for the Hub's model index."""
    return EvalResult(
        task_type="audio-classification",
        dataset_type=training.data,
        dataset_name=training.data,
        dataset_split="test",  # tells it from a linear evaluation on the same recordings
        metric_type=training.metric,
        metric_value=round(100 * training.test.value, 1),
        metric_name=f"test {training.metric} in %",
    )


def format_layers(layers: Iterable[int]) -> str:
    """Layers as a card writes them: "#3+#6"."""
    return "+".join(f"#{layer}" for layer in layers)


def add_results(folder: str | Path, results: Sequence[EvalResult]) -> ModelCard:
    """Write a repository's card again, with what was measured with its weights, in its table and its model index.

    Args:
        folder: The model repository.
        results: Each with the dataset's name as in `PAPER_TASKS` where it is one of the paper's; values in %. A result
            of the same dataset that the card has already is replaced.

    Raises:
        HfGarError: The folder is not a model repository that hf_gar made.
    """
    folder = Path(folder)
    repository = find_repository(folder)
    origin = read_origin(folder)
    if origin is None:
        raise HfGarError(f"{folder} has no card that hf_gar wrote. Make the repository with `hf-gar export`.")
    training = read_training(folder)
    own = () if training is None else (_test_result(training).metric_name,)
    there = ModelCard.load(folder / CARD_FILE).data.eval_results or []
    kept = {result.dataset_name: result for result in [*there, *results] if result.metric_name not in own}
    card = render_card(
        repository.load_config(),
        repository.load_feature_extractor(),
        origin,
        repository.has_classifier,
        results=list(kept.values()),
        training=training,
    )
    card.save(folder / CARD_FILE)
    return card


def printable(text: object) -> str:
    """Text from elsewhere on one line: control characters, line breaks and such are written as escapes (\\n)."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )


def as_code(text: object) -> str:
    """Text from elsewhere, such as a file's name, as code in Markdown, with what delimits it."""
    line = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def as_text(text: object) -> str:
    """Text from elsewhere, such as a dataset's name, as plain text in Markdown, in a table too."""
    return re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", printable(text))


def render_template(name: str, **values: Any) -> str:
    """A card of a template in `hub_cards`, which passes what comes from elsewhere through `code` or `text`."""
    environment = Environment(
        loader=FileSystemLoader(template_folder()), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters.update(code=as_code, text=as_text)
    return environment.get_template(name).render(**values)


def template_folder() -> Path:
    """The cards' templates: in the installed package, or in the source tree where hf_gar is installed from there."""
    package = Path(str(files("hf_gar")))
    installed = package / "hub_cards"
    return installed if installed.is_dir() else package.parent / "hub_cards"
