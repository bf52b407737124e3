"""Embed a task's recordings once, as a job that is kept."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_gar.backends.choice import AUTO
from hf_gar.embedding.crop import Crop
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.jobs.job_folder import ERRORS_FILE
from hf_gar.embedding.jobs.local_engine import LocalEngine
from hf_gar.embedding.jobs.results import JobResults, read_job
from hf_gar.embedding.jobs.run import JobOptions, run_job
from hf_gar.embedding.normalization import measure_normalization
from hf_gar.embedding.sources.source import Source
from hf_gar.errors import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.task_data import AUDIO, FILE_NAME, SPLIT, TaskData, rows_of
from hf_gar.hub.load import Repository
from hf_gar.models import FusionFeatureExtractor

# Of a large task, the filter banks of so many clips are measured, chosen at random, always the same.
MEASURED_CLIPS = 2000


@dataclass(frozen=True)
class EmbeddingOptions:
    """How a task's recordings are embedded.

    Args:
        devices: As in PyTorch, one process each; by default every GPU, or the processor.
        backend: As in `AudioEmbedder`.
        dtype: As in `AudioEmbedder`.
        batch_size: As in `AudioEmbedder`.
        allow_failures: Continue without recordings that cannot be embedded.
    """

    devices: tuple[str, ...] = ()
    backend: str = AUTO
    dtype: str = AUTO
    batch_size: int | None = None
    allow_failures: bool = False

    @property
    def engine(self) -> LocalEngine:
        """What runs the job."""
        return LocalEngine(self.devices)


def embed_task(
    data: TaskData,
    repository: Repository,
    job_folder: str | Path,
    model_kwargs: dict[str, Any] | None = None,
    options: EmbeddingOptions | None = None,
) -> EmbeddedTask:
    """Embed a task's recordings, brought to the task's length; where the job is there already, only read it.

    Args:
        data: The task with its recordings.
        repository: The model's.
        job_folder: As in `hf-gar embed`.
        model_kwargs: Fields of the model's configuration to replace.
        options: How its recordings are embedded.

    Raises:
        HfGarError: The folder holds another job, or recordings could not be embedded.
    """
    options = options or EmbeddingOptions()
    return embed_with(make_embedder(data, repository, model_kwargs, options), data, job_folder, options)


def make_embedder(
    data: TaskData, repository: Repository, model_kwargs: dict[str, Any] | None, options: EmbeddingOptions
) -> AudioEmbedder:
    """What embeds a task's recordings; the arguments are those of `embed_task`.

    A network with an input of a fixed length, as AST, runs at the task's length, as in the paper, unless `model_kwargs`
    says another `max_length`. One that takes normalised spectrograms, as AST, gets them normalised by the statistics of
    the task's training clips: of all clips where there are folds, whose training clips differ.
    """
    model_kwargs = dict(model_kwargs or {})
    extractor = repository.load_feature_extractor()
    seconds = data.task.seconds
    takes_other_lengths = "max_length" in repository.spec.config.checked_fields
    if seconds is not None and takes_other_lengths and "max_length" not in model_kwargs:
        model_kwargs["max_length"] = mel_frames(seconds, extractor)
    crop = None if seconds is None else Crop(seconds)
    return AudioEmbedder(
        repository,
        model_kwargs=model_kwargs,
        feature_extractor_kwargs=_task_normalization(data, extractor, crop),
        crop=crop,
        backend=options.backend,
        dtype=options.dtype,
        batch_size=options.batch_size,
    )


def embed_with(
    embedder: AudioEmbedder, data: TaskData, job_folder: str | Path, options: EmbeddingOptions
) -> EmbeddedTask:
    """Embed a task's recordings as `embed_task` does, with what `make_embedder` made."""
    source = Source(data.dataset, AUDIO, None if data.source is None else (data.source,))
    results = embed_once(source, embedder, job_folder, options)
    rows = rows_of(list(results.rows[FILE_NAME]), data)
    memberships = _memberships(data)[rows]
    splits_there = list(results.rows[SPLIT]) if SPLIT in results.rows else None
    splits_now = list(memberships) if data.membership_column == SPLIT else None
    if embedder.crop is not None and splits_there != splits_now:
        raise HfGarError(
            f"{job_folder} was made with another split of the same recordings, which decides where they are cut. "
            "Choose another `output`."
        )
    return EmbeddedTask(
        results.embeddings,
        data.targets[rows],
        data.classes,
        memberships,
        data.membership_column == "fold",
        list(results.rows[FILE_NAME]),
    )


def embed_once(
    source: Source, embedder: AudioEmbedder, job_folder: str | Path, options: EmbeddingOptions
) -> JobResults:
    """Embed recordings as a job, or read the job where it is there already.

    Raises:
        HfGarError: The folder holds another job, or recordings could not be embedded.
    """
    # Recordings that failed may have been repaired.
    summary = run_job(source, embedder, job_folder, JobOptions(engine=options.engine, retry_failed=True))
    if summary.failed:
        message = f"{summary.failed} recordings could not be embedded: see {summary.output / ERRORS_FILE}."
        if not options.allow_failures or not summary.done:
            raise HfGarError(
                f"{message} Repair them and try again, or allow it (`allow_failures`), which leaves them out."
            )
        print(f"hf-gar: {message}", file=sys.stderr)
    return read_job(job_folder)


def concatenate(tasks: Sequence[EmbeddedTask]) -> EmbeddedTask:
    """A task's embeddings by several models as one, of the clips that each of them embedded."""
    numbers = [{name: number for number, name in enumerate(task.file_names)} for task in tasks]
    names = [name for name in tasks[0].file_names if all(name in each for each in numbers)]
    rows = [np.array([each[name] for name in names]) for each in numbers]
    return replace(
        tasks[0],
        embeddings=np.concatenate([task.embeddings[found] for task, found in zip(tasks, rows, strict=True)], axis=1),
        targets=tasks[0].targets[rows[0]],
        memberships=tasks[0].memberships[rows[0]],
        file_names=names,
    )


def _task_normalization(
    data: TaskData, extractor: FusionFeatureExtractor, crop: Crop | None
) -> dict[str, float] | None:
    """The task's own statistics, where the network's spectrograms are normalised by such; None elsewhere."""
    if not extractor.is_normalized_by_statistics:
        return None
    in_training = (
        np.flatnonzero(_memberships(data) == "train")
        if data.membership_column == "split"
        else np.arange(len(data.dataset))
    )
    chosen = np.random.default_rng(0).permutation(in_training)[:MEASURED_CLIPS]
    clips = data.dataset.select(np.sort(chosen))
    # Those that cannot be read are the job's to name.
    mean, std = measure_normalization(clips, extractor, AUDIO, crop, skip_unreadable=True)
    # Rounded, as the last digits depend on the number of threads, and would make it another job.
    return {"mean": float(f"{mean:.6g}"), "std": float(f"{std:.6g}")}


def mel_frames(seconds: float, extractor: FusionFeatureExtractor) -> int:
    """How many mel frames a front end makes of so many seconds: the length that the network's input needs."""
    rate = extractor.sampling_rate
    silence = np.zeros(round(seconds * rate), np.float32)
    return len(extractor(silence, sampling_rate=rate, padding=False)["input_features"][0])


def _memberships(data: TaskData) -> np.ndarray:
    return data.dataset.with_format("numpy")[data.membership_column][:].astype(str)
