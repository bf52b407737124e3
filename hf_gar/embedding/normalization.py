"""The mean and standard deviation of a dataset's filter banks, which AST's spectrograms are normalised by."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets.utils import tqdm

from hf_gar.embedding.crop import Crop
from hf_gar.embedding.dataset import find_audio_column, undecoded
from hf_gar.embedding.decoding import read_blocks
from hf_gar.embedding.sources.source import open_source
from hf_gar.models import FusionFeatureExtractor
from hf_gar.models.audio_loading import AudioError


def measure_normalization(
    source: str | Path | Sequence[str | Path] | datasets.Dataset | datasets.IterableDataset,
    feature_extractor: FusionFeatureExtractor,
    audio_column: str | None = None,
    crop: Crop | None = None,
    skip_unreadable: bool = False,
) -> tuple[float, float]:
    """Measure the statistics that the paper's evaluation normalises a task by: those of its training recordings.

    ```python
    mean, std = hf_gar.measure_normalization("recordings", extractor)
    extractor = AutoFeatureExtractor.from_pretrained("org/ast-fusion", trust_remote_code=True, mean=mean, std=std)
    ```

    Args:
        source: What a job takes: a folder of recordings, a table with their paths, a list of files, tar files, or a
            dataset on the Hub. Or a dataset that is open, whose recordings may be an `Audio` column, paths, bytes or
            waveforms.
        feature_extractor: Computes the filter banks; its own mean and std make no difference. It has to be one that
            normalises by such statistics, as AST's.
        audio_column: The column of a table or dataset with the recordings; by default as in a job: the first `Audio`
            column, or one of the usual names.
        crop: Bring every recording to one length first.
        skip_unreadable: Leave recordings out that cannot be read.

    Returns:
        The mean and the standard deviation over all bins of all frames of all recordings.

    Raises:
        AudioError: A recording cannot be read.
        HfGarError: There is no such source, or it has no recordings.
        OSError: A file is missing or cannot be read.
        ValueError: None of the recordings can be read, or all are silent; or the feature extractor is of another kind.
    """
    if not feature_extractor.is_normalized_by_statistics:
        raise ValueError(
            f"feature_extractor is a {type(feature_extractor).__name__}, which does not normalise by the statistics "
            "of a dataset: there is nothing to measure for it. Pass an ASTFusionFeatureExtractor or the like."
        )
    # (x - 0) / (2 * 0.5): the filter banks as they are.
    without_normalization = feature_extractor.from_dict({**feature_extractor.to_dict(), "mean": 0.0, "std": 0.5})
    dataset, audio_column = _open(source, audio_column)
    count, total, squares = 0, 0.0, 0.0
    for source_of_one, split in _rows(dataset, audio_column):
        try:
            _, blocks = read_blocks(source_of_one, feature_extractor.sampling_rate, crop, split)
            waveform = np.concatenate(list(blocks))
        except (AudioError, OSError):
            if skip_unreadable:
                continue
            raise
        (bank,) = without_normalization.spectrograms([waveform])
        count += bank.size
        total += float(bank.sum(dtype=np.float64))
        squares += float(np.square(bank, dtype=np.float64).sum())
    if not count:
        raise ValueError("The source has no recordings that can be read: there is nothing to measure.")
    mean = total / count
    variance = squares / count - mean**2
    if variance <= 0:
        raise ValueError("The source's recordings are all silent: there is nothing to normalise by.")
    return mean, variance**0.5


def _open(source: Any, audio_column: str | None) -> tuple[datasets.Dataset | datasets.IterableDataset, str]:
    """A dataset with its recordings undecoded, and the column that they are in."""
    if isinstance(source, (datasets.Dataset, datasets.IterableDataset)):
        audio_column = audio_column or find_audio_column(source.features)
        return undecoded(source, audio_column), audio_column
    opened = open_source([source] if isinstance(source, (str, Path)) else source, path_column=audio_column)
    return opened.dataset, opened.audio_column


def _rows(dataset: datasets.Dataset | datasets.IterableDataset, audio_column: str) -> Iterator[tuple[Any, str | None]]:
    """Each recording with the split that it belongs to, where there are splits."""
    columns = [audio_column, *(["split"] if "split" in dataset.column_names else [])]
    total = len(dataset) if isinstance(dataset, datasets.Dataset) else None
    rows = dataset.select_columns(columns)
    for row in tqdm(rows, total=total, desc="Measuring the filter banks", unit=" recordings"):
        yield row[audio_column], row.get("split")
