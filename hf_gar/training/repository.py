"""A trained classifier as a model repository."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import ModelCard

from hf_gar.errors import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.linear_probe import ProbeRun, standardisation
from hf_gar.evaluation.plots import plot_confusion
from hf_gar.files import whole_folder
from hf_gar.hub.card import CARD_FILE, Origin, render_card
from hf_gar.hub.load import Repository, find_repository, loading
from hf_gar.hub.training_record import CONFUSION_FILE, TrainingRecord
from hf_gar.models import FusionConfig, FusionFeatureExtractor, FusionForAudioClassification
from hf_gar.models.modeling_classification import Standardization
from hf_gar.quiet import quiet_libraries

# The statistics count as those of so many batches, so that further training continues from them.
BATCHES_TRACKED = 10


def build_classifier(
    repository: Repository, config: FusionConfig, layers: Sequence[int], run: ProbeRun, task: EmbeddedTask
) -> FusionForAudioClassification:
    """A network with a linear probe on the embeddings of its layers, in float32 and evaluation mode.

    Args:
        repository: The network's.
        config: Its configuration, to which the classifier's is added.
        layers: Those whose embedding is classified.
        run: The probe.
        task: The embeddings of these layers that it was trained on.

    Raises:
        HfGarError: The model has no class for classifiers, or its weights are damaged.
    """
    classifier_class = repository.spec.classifier
    if classifier_class is None:
        raise HfGarError(f"{repository.name} is a {repository.spec.model_type}, which has no class for classifiers.")
    config.classifier_layers = list(layers)
    config.classifier_norm = "batch_norm"
    config.id2label = dict(enumerate(task.classes))
    config.label2id = {name: number for number, name in enumerate(task.classes)}
    config.problem_type = "single_label_classification" if task.targets.ndim == 1 else "multi_label_classification"
    with loading(f"The weights of {repository.name}"):
        model = classifier_class.from_pretrained(
            repository.folder, config=config, dtype=torch.float32, use_safetensors=True, ignore_mismatched_sizes=True
        )
    set_classifier(model, run, task.embeddings)
    return model.eval()


def set_classifier(model: FusionForAudioClassification, run: ProbeRun, embeddings: np.ndarray) -> None:
    """Give a classifier the statistics of the training clips and a probe's layer, so that its logits are the probe's.

    Args:
        model: With the normalisation "batch_norm".
        run: The probe.
        embeddings: Of all clips, (clip, D).
    """
    norm = model.classifier_norm
    assert isinstance(norm, Standardization)
    assert run.weight is not None
    assert run.bias is not None
    train = embeddings[run.partition.train]
    mean, variance = train.mean(0, dtype=np.float64), train.var(0, dtype=np.float64)
    # The normalisation divides by the root of variance + eps; the probe by the deviation, a constant by nothing.
    scale, _ = standardisation(torch.from_numpy(embeddings), run.partition.train)
    weight = run.weight * (scale.numpy() * np.sqrt(variance + norm.eps))
    values = {
        "running_mean": mean,
        "running_var": variance,
        "num_batches_tracked": np.array(BATCHES_TRACKED),
    }
    norm.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    model.classifier.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(run.bias)})


def write_repository(
    output: Path,
    model: FusionForAudioClassification,
    feature_extractor: FusionFeatureExtractor,
    base: Repository,
    record: TrainingRecord,
) -> None:
    """Write a complete model repository: weights, configuration, code, the record of the training, and the card.

    Args:
        output: The folder, which must not hold anything yet.
        model: The classifier.
        feature_extractor: The one that made the spectrograms it was trained on.
        base: The repository of its network.
        record: Of its training.
    """
    with whole_folder(output) as folder, quiet_libraries():
        model.save_pretrained(folder)
        feature_extractor.save_pretrained(folder)
        record.write(folder)
        if record.confusion is not None:
            names = [label.name for label in record.labels]
            plot_confusion(np.array(record.confusion), names, f"{record.data}, test clips", folder / CONFUSION_FILE)
        origin = Origin(
            checkpoint=record.base,
            checkpoint_sha256=base.weights_sha256,
            is_official=False,
            weights_sha256=find_repository(folder).weights_sha256,
            base_model=base.name if base.revision is not None else None,
            revision=base.revision,
            license=_license(base.folder),
        )
        card = render_card(model.config, feature_extractor, origin, has_classifier=True, training=record)
        card.save(folder / CARD_FILE)
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors makes its files readable by their owner alone


def _license(folder: Path) -> str | None:
    """What the card of a repository says of its licence."""
    path = folder / CARD_FILE
    found = ModelCard.load(path).data.license if path.is_file() else None
    return found if isinstance(found, str) else None
