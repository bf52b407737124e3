"""Embed a task's recordings once, as a job that is kept."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from hf_gar.embedding.crop import Crop
from hf_gar.embedding.job_folder import ERRORS_FILE
from hf_gar.embedding.normalization import measure_normalization
from hf_gar.embedding.results import read_job
from hf_gar.embedding.run import run_job
from hf_gar.embedding.sources import Source
from hf_gar.errors import HfGarError
from hf_gar.evaluation.evaluate import EmbeddedTask
from hf_gar.evaluation.task_data import AUDIO, FILE_NAME, SPLIT, TaskData, rows_of
from hf_gar.hub.load import find_repository
from hf_gar.models import FusionConfig, FusionFeatureExtractor

# Of a large task, the filter banks of so many clips are measured, chosen at random, always the same.
MEASURED_CLIPS = 2000


def load_config(model: str | Path, revision: str | None, model_kwargs: dict[str, Any]) -> FusionConfig:
    """The configuration of a model repository, with some fields replaced."""
    return find_repository(model, revision).load_config(**model_kwargs)


def embed_task(
    data: TaskData,
    model: str | Path,
    job_folder: str | Path,
    *,
    revision: str | None = None,
    model_kwargs: dict[str, Any] | None = None,
    allow_failures: bool = False,
    **job_options: Any,
) -> EmbeddedTask:
    """Embed a task's recordings, brought to the task's length; where the job is there already, only read it.

    A network with an input of a fixed length, as AST, runs at the task's length, as in the paper, unless `model_kwargs`
    says another `max_length`. One that takes normalised spectrograms, as AST, gets them normalised by the statistics of
    the task's training clips: of all clips where there are folds, whose training clips differ.

    Args:
        data: The task with its recordings.
        model: A model repository: a folder, or a name on the Hub.
        job_folder: As of `hf-gar embed`.
        revision: A branch, tag or commit, for a name on the Hub.
        model_kwargs: Fields of the model's configuration to replace.
        allow_failures: Go on without recordings that cannot be embedded.
        job_options: More arguments of `run_job`, such as `batch_size`, `devices` and `dtype`.

    Raises:
        HfGarError: The folder holds another job, or recordings could not be embedded.
    """
    model_kwargs = dict(model_kwargs or {})
    repository = find_repository(model, revision)
    extractor = repository.load_feature_extractor()
    seconds = data.task.seconds
    if seconds is not None and extractor.max_length is not None and "max_length" not in model_kwargs:
        model_kwargs["max_length"] = mel_frames(seconds, extractor)
    crop = None if seconds is None else Crop(seconds)
    summary = run_job(
        Source(data.dataset, AUDIO, None if data.source is None else (data.source,)),
        model,
        job_folder,
        revision=revision,
        retry_failed=True,  # recordings may have been mended
        model_kwargs=model_kwargs,
        crop=crop,
        feature_extractor_kwargs=_task_normalization(data, extractor, crop),
        **job_options,
    )
    if summary.failed:
        message = f"{summary.failed} recordings could not be embedded: see {summary.output / ERRORS_FILE}."
        if not allow_failures or not summary.embedded:
            raise HfGarError(
                f"{message} Mend them and run the command again, or pass --allow-other-counts to go on without them."
            )
        print(f"hf-gar: {message}", file=sys.stderr)
    results = read_job(job_folder)
    rows = rows_of(list(results.rows[FILE_NAME]), data)
    parts = _parts(data)[rows]
    splits_there = list(results.rows[SPLIT]) if SPLIT in results.rows else None
    splits_now = list(parts) if data.part_column == SPLIT else None
    if crop is not None and splits_there != splits_now:
        raise HfGarError(
            f"{job_folder} was made with another split of the same recordings, which decides where they are cut. "
            "Choose another --output."
        )
    return EmbeddedTask(
        results.embeddings,
        data.targets[rows],
        data.classes,
        parts,
        data.part_column == "fold",
        list(results.rows[FILE_NAME]),
    )


def _task_normalization(
    data: TaskData, extractor: FusionFeatureExtractor, crop: Crop | None
) -> dict[str, float] | None:
    """The task's own statistics, where the network's spectrograms are normalised by such; None elsewhere."""
    if not extractor.is_normalized_by_statistics:
        return None
    in_training = (
        np.flatnonzero(_parts(data) == "train") if data.part_column == "split" else np.arange(len(data.dataset))
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


def _parts(data: TaskData) -> np.ndarray:
    return data.dataset.with_format("numpy")[data.part_column][:].astype(str)
