"""Fine-tune a network on the clips of its linear layer, and test it on the same ones."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import datasets
import numpy as np
import torch
from datasets.utils import tqdm

from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.evaluation.linear_probe import ProbeRun
from hf_gar.evaluation.metrics import accuracy, mean_average_precision
from hf_gar.evaluation.task_data import AUDIO, FILE_NAME, SPLIT, TaskData, rows_of
from hf_gar.hub.training_record import FineTuningRecord
from hf_gar.models import FusionForAudioClassification
from hf_gar.training.augmentation import Augmentation
from hf_gar.training.clips import Clips
from hf_gar.training.fine_tuning import FineTuning, fine_tune
from hf_gar.training.linear import LinearTraining
from hf_gar.training.scores import score_gain, score_tests


def fine_tune_network(
    model: FusionForAudioClassification,
    linear: LinearTraining,
    data: TaskData,
    embedder: AudioEmbedder,
    folder: Path,
    settings: FineTuning,
    device: str,
) -> tuple[ProbeRun, FineTuningRecord]:
    """Fine-tune a classifier, whose linear layer is trained.

    Args:
        model: The classifier, which is changed.
        linear: The training of its linear layer, on a single split.
        data: The recordings.
        embedder: What embedded them.
        folder: As in `fine_tune`.
        settings: Likewise.
        device: Likewise.

    Returns:
        The linear layer's run, with the scores of the fine-tuned network, and what was gained.
    """
    task, before = linear.task, linear.final
    recordings = data.dataset.select(rows_of(task.file_names, data))
    targets = task.targets if task.targets.ndim == 2 else np.eye(len(task.classes), dtype=bool)[task.targets]

    def clips(rows: np.ndarray, augmentation: Augmentation | None = None) -> Clips:
        chosen = recordings.select(rows)
        return Clips(
            chosen[AUDIO], _splits(chosen), targets[rows], embedder.feature_extractor, embedder.crop, augmentation
        )

    partition = before.partition
    repository = embedder.repository
    assert repository is not None
    identity = {
        "weights_sha256": repository.weights_sha256,
        "layers": list(linear.layers),
        "classes": list(task.classes),
        "train": _digest(recordings, partition.train),
        "valid": _digest(recordings, partition.valid),
        "crop_seconds": data.task.seconds,
    }
    result = fine_tune(
        model,
        clips(partition.train, settings.augmentation),
        clips(partition.valid),
        folder,
        settings,
        identity,
        device,
    )
    valid, test = (
        _logits(model, recordings.select(rows), embedder, device) for rows in (partition.valid, partition.test)
    )
    metric = mean_average_precision if task.targets.ndim == 2 else accuracy
    after = replace(
        before, valid_score=metric(valid, task.targets[partition.valid]), valid_scores=valid, test_scores=test
    )
    linear_score, _, _ = score_tests([before], task)
    gain = score_gain(after, before, task)
    rate = float(f"{settings.learning_rate_of(model):.2g}")
    return after, FineTuningRecord(rate, result.best_epoch, result.epochs, linear_score, gain)


def _logits(
    model: FusionForAudioClassification, recordings: datasets.Dataset, embedder: AudioEmbedder, device: str
) -> np.ndarray:
    """The logits of recordings of any length, (recording, label), as the pipeline gives them."""
    embed = AudioEmbedder(
        model.backbone,
        embedder.feature_extractor,
        device=device,
        crop=embedder.crop,
        batch_size=embedder.batch_size,
    )
    with tqdm(total=len(recordings), desc="Testing", unit=" recordings", leave=None) as bar:
        found = embed(recordings[:], on_loaded=bar.update)["embedding"]
    with torch.inference_mode():
        logits = model.cpu().classify(torch.from_numpy(np.stack(found)))
    return logits.numpy()


def _splits(recordings: datasets.Dataset) -> list[str | None]:
    return list(recordings[SPLIT]) if SPLIT in recordings.column_names else [None] * len(recordings)


def _digest(recordings: datasets.Dataset, rows: np.ndarray) -> str:
    """A digest of recordings' names."""
    return sha256("\n".join(recordings.select(rows)[FILE_NAME]).encode()).hexdigest()
