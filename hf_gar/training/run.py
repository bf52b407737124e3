"""From a model and labelled recordings to a classifier's model repository: what `hf-gar train` does."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_gar.evaluation.embed_task import EmbeddingOptions, embed_with, make_embedder
from hf_gar.evaluation.evaluate import EmbeddedTask, check_embeddings, parse_learning_rates
from hf_gar.evaluation.layer_search import probed_layers
from hf_gar.evaluation.linear_probe import ProbeRun
from hf_gar.evaluation.optional import import_optional
from hf_gar.evaluation.partitions import SEEDS, count_classes
from hf_gar.evaluation.report import EMBEDDINGS
from hf_gar.evaluation.task_data import TaskData
from hf_gar.files import require_new_folder
from hf_gar.hub.card import read_origin
from hf_gar.hub.load import Repository, find_repository
from hf_gar.hub.training_record import LabelRecord, RejectionRecord, TrainingRecord
from hf_gar.training.data import check_labels, with_test_split, with_tested_fold
from hf_gar.training.linear import LinearTraining, train_linear
from hf_gar.training.rejection import check_rejection, learn_threshold, measure_rejection, reject_unknown
from hf_gar.training.repository import build_classifier, write_repository
from hf_gar.training.scores import score_tests

if TYPE_CHECKING:
    from hf_gar.training.fine_tuning import FineTuning

# Beside the repository, a folder of its name and this holds what a training that was stopped resumes from.
WORK_SUFFIX = "-training"
FINE_TUNING = "fine-tuning"


def train_classifier(
    model: str | Path | Repository,
    data: TaskData,
    output: str | Path,
    *,
    model_kwargs: dict[str, Any] | None = None,
    learning_rate: str | None = None,
    search: bool = False,
    test_fold: str | None = None,
    reject: float | None = None,
    fine_tuning: "FineTuning | None" = None,
    seeds: Sequence[int] = SEEDS,
    embedding: EmbeddingOptions | None = None,
) -> TrainingRecord:
    """Train a linear layer on a model's embeddings, or the whole network, test it, and write it as a model repository.

    What was embedded, and what was fine-tuned, is kept in a folder beside `output`: the same call resumes from there.

    Args:
        model: The network's model repository: a folder, a name on the Hub, or what `find_repository` found.
        data: The labelled recordings, as in `open_task`; without a test split, a fifth of them is held out for it.
        output: The folder to write, which must not hold anything yet.
        model_kwargs: Fields of the network's configuration to replace, such as {"fusion_layers": [2, 5]} for the layers
            whose embedding is classified.
        learning_rate: Of the linear layer, as in `run_evaluation`.
        search: Choose the layers, and the learning rate unless it is given, by the validation score.
        test_fold: Where there are folds, the only one to test; by default, each is tested by a classifier of its own,
            or in a fine-tuning the last one.
        reject: Learn a threshold for unknown sounds that this share of the validation clips is below.
        fine_tuning: How the whole network is trained after the linear layer; None where it is not.
        seeds: Of the training, and of the validation clips that are held out; of several, the one that validates best
            is written. The first is also that of a test split that is held out, and of the fine-tuning.
        embedding: How the recordings are embedded; everything else runs on the first of its devices.

    Raises:
        HfGarError: The labels, splits or folds cannot be used, or the folder holds something; the message says what to
            do.
    """
    _require_libraries(fine_tuning is not None)
    repository, embedding, output = find_repository(model), embedding or EmbeddingOptions(), Path(output)
    require_new_folder(output)
    check_labels(data)
    data, is_random_split = with_test_split(data, seeds[0])
    model_kwargs = dict(model_kwargs or {})
    if search:
        model_kwargs["fusion_layers"] = list(probed_layers(repository.load_config(**model_kwargs)))
    embedder = make_embedder(data, repository, model_kwargs, embedding)
    rate = "sweep" if search and learning_rate is None else learning_rate
    rates = parse_learning_rates(rate, data.task.learning_rate(embedder.config))
    work, device = output.with_name(output.name + WORK_SUFFIX), embedding.engine.device
    task = embed_with(embedder, data, work / EMBEDDINGS, embedding)
    check_embeddings(task)
    if test_fold is not None or (fine_tuning is not None and task.has_folds):
        task = with_tested_fold(task, test_fold)
    if reject is not None:
        check_rejection(task)
    linear = train_linear(task, embedder.config, rates, search, seeds, device)
    # Whichever layers are classified, those that are fused stay the repository's own.
    own_kwargs = {name: value for name, value in embedder.model_kwargs.items() if name != "fusion_layers"}
    config = repository.load_config(**own_kwargs)
    classifier = build_classifier(repository, config, linear.layers, linear.final, linear.task)
    runs, fine_tuned = linear.runs, None
    if fine_tuning is not None:
        from hf_gar.training.network import fine_tune_network

        settings = replace(fine_tuning, seed=seeds[0])
        run, fine_tuned = fine_tune_network(classifier, linear, data, embedder, work / FINE_TUNING, settings, device)
        runs = [run]
    rejection = None if reject is None else _learn_rejection(runs, linear.task, reject, fine_tuned is not None)
    classifier.config.rejection_threshold = None if rejection is None else rejection.threshold
    record = TrainingRecord(
        **_describe_base(repository),
        **_describe_scores(runs, linear),
        data=data.task.name,
        is_random_split=is_random_split,
        is_searched=search,
        seeds=list(seeds),
        seconds=data.task.seconds,
        rejection=rejection,
        fine_tuning=fine_tuned,
    )
    write_repository(output, classifier, embedder.feature_extractor, repository, record)
    return record


def _require_libraries(fine_tunes: bool) -> None:
    """Fail before the work rather than after it."""
    for module in ("matplotlib", "scipy"):
        import_optional(module)
    if fine_tunes:
        for module in ("accelerate", "tensorboard", "torchaudio"):
            import_optional(module, "train")


def _learn_rejection(runs: list[ProbeRun], task: EmbeddedTask, asked: float, is_fine_tuned: bool) -> RejectionRecord:
    """A threshold, and what it does; of sounds that a fine-tuned network does not know that is not measured."""
    rejection = measure_rejection(runs, task, learn_threshold(runs, asked), asked)
    if is_fine_tuned:
        return rejection
    unknown, count = reject_unknown(runs, task, asked)
    return replace(rejection, unknown_rejected=unknown, labels_left_out=count)


def _describe_base(repository: Repository) -> dict[str, Any]:
    origin = read_origin(repository.folder)
    is_on_hub = repository.revision is not None
    return {
        "base": repository.name if is_on_hub else Path(repository.name).name,
        "base_sha256": repository.weights_sha256,
        "is_base_official": origin is not None and origin.is_official,
    }


def _describe_scores(runs: list[ProbeRun], linear: LinearTraining) -> dict[str, Any]:
    """The scores of the runs, and of each label the clips that the classifier for use was trained and validated on."""
    task, final = linear.task, linear.final
    test, scores, confusion = score_tests(runs, task)
    tested = np.unique(np.concatenate([run.partition.test for run in runs]))
    counts = [
        count_classes(task.targets[clips], len(task.classes)).tolist()
        for clips in (final.partition.train, final.partition.valid, tested)
    ]
    return {
        "metric": task.metric,
        "test": test,
        "valid": float(np.mean([run.valid_score for run in runs])),
        "folds": len(set(task.memberships)) if task.has_folds else None,
        "layers": list(linear.layers),
        "learning_rate": final.learning_rate,
        "best_epoch": final.best_epoch,
        "seed": final.partition.seed,
        "labels": [LabelRecord(*each) for each in zip(task.classes, *counts, scores, strict=True)],
        "confusion": None if confusion is None else confusion.tolist(),
    }
