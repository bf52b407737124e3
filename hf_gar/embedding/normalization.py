"""The mean and standard deviation of a dataset's filter banks, which AST is normalised by."""

import datasets
import numpy as np
import torch

from hf_gar.embedding.crop import Crop
from hf_gar.embedding.dataset import find_audio_column, undecoded
from hf_gar.embedding.preparation import read_blocks
from hf_gar.models import ASTFusionFeatureExtractor
from hf_gar.models.audio_loading import AudioError, check_samples


def measure_normalization(
    dataset: datasets.Dataset,
    feature_extractor: ASTFusionFeatureExtractor,
    audio_column: str | None = None,
    crop: Crop | None = None,
    skip_unreadable: bool = False,
) -> tuple[float, float]:
    """Measure the statistics that the paper's evaluation normalises a task by: those of its training recordings.

    ```python
    mean, std = hf_gar.measure_normalization(dataset, extractor)
    extractor = AutoFeatureExtractor.from_pretrained("org/ast-fusion", trust_remote_code=True, mean=mean, std=std)
    ```

    Args:
        dataset: Its recordings may be an `Audio` column, paths, bytes or waveforms.
        feature_extractor: Computes the filter banks; its own mean and std make no difference.
        audio_column: The column with the recordings; by default the first `Audio` column, or "audio".
        crop: Bring every recording to one length first.
        skip_unreadable: Leave recordings out that cannot be read.

    Returns:
        The mean and the standard deviation over all bins of all frames of all recordings.

    Raises:
        AudioError: A recording cannot be read.
        OSError: A file is missing or cannot be read.
        ValueError: The dataset has no rows, or only silence.
    """
    if not len(dataset):
        raise ValueError("The dataset has no recordings to measure.")
    audio_column = audio_column or find_audio_column(dataset.features)
    count, total, squares = 0, 0.0, 0.0
    rate = feature_extractor.sampling_rate
    splits = dataset["split"] if "split" in dataset.column_names else [None] * len(dataset)
    for source, split in zip(undecoded(dataset, audio_column)[audio_column], splits, strict=True):
        try:
            name, blocks = read_blocks(source, rate, crop, split)
            samples = np.concatenate(list(blocks))
            check_samples(samples, name)
        except (AudioError, OSError):
            if skip_unreadable:
                continue
            raise
        waveform = torch.from_numpy(samples)
        shortfall = max(0, feature_extractor.minimum_samples - len(waveform))
        bank = feature_extractor.filter_bank([torch.nn.functional.pad(waveform, (0, shortfall))])[0].double()
        count += bank.numel()
        total += float(bank.sum())
        squares += float(bank.square().sum())
    if not count:
        raise ValueError("None of the dataset's recordings can be read.")
    mean = total / count
    variance = squares / count - mean**2
    if variance <= 0:
        raise ValueError("The dataset's recordings are all silent: there is nothing to normalise by.")
    return mean, variance**0.5
