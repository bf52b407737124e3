"""Embed a dataset of the `datasets` library, or map another function over one."""

from typing import Any

import datasets

from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.map_function import MapFunction
from hf_gar.errors import HfGarError
from hf_gar.tiny import TINY

TEXT = (datasets.Value("string"), datasets.Value("large_string"))


def embed_dataset(
    dataset: datasets.Dataset,
    model: Any = TINY,
    feature_extractor: Any = None,
    *,
    map_batch_size: int = 16,
    audio_column: str | None = None,
    **embedder_options: Any,
) -> datasets.Dataset:
    """Add an embedding to every row of a dataset.

    Args:
        dataset: Its recordings may be an `Audio` column, paths, bytes or waveforms.
        model: As in `AudioEmbedder`.
        feature_extractor: Where `model` is a model: its feature extractor.
        map_batch_size: How many rows are read, embedded and written at a time: the `batch_size` of `datasets.map`.
        audio_column: The column with the recordings; by default the first `Audio` column, or "audio".
        embedder_options: More arguments of `AudioEmbedder`, whose `batch_size` is that of the model.

    Returns:
        The dataset without its recordings, with the columns "embedding", (D,) float32, and "duration_s".

    Raises:
        HfGarError: There is no such column, or no such model.
        AudioError: A recording cannot be read (unless `on_error="record"`).
    """
    audio_column = audio_column or find_audio_column(dataset.features)
    embedder = AudioEmbedder(model, feature_extractor, audio_column=audio_column, **embedder_options)
    return map_dataset(dataset, embedder, map_batch_size)


def map_dataset(dataset: datasets.Dataset, function: MapFunction, map_batch_size: int) -> datasets.Dataset:
    """The dataset without its recordings, with the columns that a function adds.

    Raises:
        HfGarError: There is no column of the function's `audio_column`, or one that it adds is there already.
        AudioError: A recording cannot be read (unless the function records errors).
    """
    if function.audio_column not in dataset.column_names:
        raise HfGarError(
            f"The dataset has no column {function.audio_column!r} with recordings, only "
            f"{', '.join(map(repr, dataset.column_names))}. Name the right one as audio_column."
        )
    function.require_new_columns(dataset.column_names)
    return undecoded(dataset, function.audio_column).map(
        function,
        batched=True,
        batch_size=map_batch_size,
        # Rows are held in memory until as many are written: the frames of one long recording fill it already.
        writer_batch_size=1 if function.with_frames else map_batch_size,
        remove_columns=function.audio_column,
        features=function.output_features(dataset.features),
        desc=function.activity,
    )


def find_audio_column(features: datasets.Features) -> str:
    """The first `Audio` column, or "audio"."""
    return next((name for name, feature in features.items() if isinstance(feature, datasets.Audio)), "audio")


def undecoded(
    dataset: datasets.Dataset | datasets.IterableDataset, audio_column: str
) -> datasets.Dataset | datasets.IterableDataset:
    """The dataset with its recordings as they are stored: they are decoded where errors can be named."""
    if not isinstance(dataset.features.get(audio_column), datasets.Audio):
        return dataset
    if isinstance(dataset, datasets.IterableDataset):  # which would encode rows that a generator yields
        return dataset.cast_column(audio_column, {"bytes": datasets.Value("binary"), "path": datasets.Value("string")})
    return dataset.cast_column(audio_column, datasets.Audio(decode=False))
