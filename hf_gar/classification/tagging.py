"""Tag datasets of the `datasets` library, and the recordings of a source as a job."""

from pathlib import Path
from typing import Any

import datasets

from hf_gar.classification.tagger import AudioTagger
from hf_gar.embedding.dataset import find_audio_column, map_dataset
from hf_gar.embedding.jobs.job_folder import JobStatus
from hf_gar.embedding.jobs.run import JobOptions, run_job
from hf_gar.embedding.sources.source import AnySource, as_source
from hf_gar.hub.load import Repository
from hf_gar.tiny import TINY


def tag_dataset(
    dataset: datasets.Dataset,
    model: Any = TINY,
    feature_extractor: Any = None,
    *,
    map_batch_size: int = 16,
    audio_column: str | None = None,
    **tagger_options: Any,
) -> datasets.Dataset:
    """Add labels with their scores to every row of a dataset, or events.

    Args:
        dataset: Its recordings may be an `Audio` column, paths, bytes or waveforms.
        model: As in `AudioTagger`.
        feature_extractor: Where `model` is a classifier: its feature extractor.
        map_batch_size: How many rows are read, tagged and written at a time: the `batch_size` of `datasets.map`.
        audio_column: The column with the recordings; by default the first `Audio` column, or "audio".
        tagger_options: More arguments of `AudioTagger`, whose `batch_size` is that of the model.

    Returns:
        The dataset without its recordings, with the columns "predictions", [{"label": ..., "score": ...}, ...], and
        "duration_s"; with `timestamps=True`, with "events" in place of "predictions".

    Raises:
        HfGarError: There is no such column, or no such model, or it has no classifier.
        AudioError: A recording cannot be read (unless `on_error="record"`).
    """
    audio_column = audio_column or find_audio_column(dataset.features)
    tagger = AudioTagger(model, feature_extractor, audio_column=audio_column, **tagger_options)
    return map_dataset(dataset, tagger, map_batch_size)


def tag_recordings(
    source: AnySource,
    model: str | Path | Repository,
    output: str | Path,
    options: JobOptions | None = None,
    **tagger_options: Any,
) -> JobStatus:
    """`run_job` of a source, or of what `open_source` takes, with an `AudioTagger` made of the other arguments."""
    return run_job(as_source(source), AudioTagger(model, **tagger_options), output, options)
