"""The recordings of a fine-tuning, as PyTorch's data sets and batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hf_gar.embedding.crop import Crop
from hf_gar.embedding.decoding import read_blocks
from hf_gar.models import FusionFeatureExtractor
from hf_gar.training.augmentation import Augmentation

# Decoded recordings are kept up to so many samples: 1 GiB.
KEPT_SAMPLES = 2**28
# What of longer recordings is heard at a time: in training, at a random place, else their beginning.
SECONDS = 10.0


class Clips(Dataset):
    """Recordings as a network's inputs, with their labels as floats, (class,).

    Args:
        sources: The recordings, as a dataset's undecoded column has them.
        splits: Of each recording, for a `crop`.
        targets: (recording, class), 1 where a recording has a label.
        feature_extractor: Makes the inputs.
        crop: Brings recordings to one length.
        augmentation: What is changed at random; None where nothing is.
    """

    def __init__(
        self,
        sources: Sequence[Any],
        splits: Sequence[str | None],
        targets: np.ndarray,
        feature_extractor: FusionFeatureExtractor,
        crop: Crop | None,
        augmentation: Augmentation | None = None,
    ):
        self.sources, self.splits, self.targets = sources, splits, targets.astype(np.float32)
        self.feature_extractor, self.crop, self.augmentation = feature_extractor, crop, augmentation
        # Cut to what the network takes at a time.
        limit = feature_extractor.max_samples or round(SECONDS * feature_extractor.sampling_rate)
        self.max_samples = min(limit, round(SECONDS * feature_extractor.sampling_rate))
        self._kept: dict[int, np.ndarray] = {}
        self._kept_samples = 0

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        waveform, target = self._piece(index)
        if self.augmentation is not None:
            waveform, target = self.augmentation.mix(waveform, target, self._any_piece)
        inputs = {name: values[0] for name, values in self.feature_extractor.inputs([waveform]).items()}
        if self.augmentation is not None and self.feature_extractor.steps == "mel frames":
            inputs["input_features"] = self.augmentation.mask(inputs["input_features"])
        return {**inputs, "labels": target}

    def collate(self, clips: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        """A batch of clips: `input_features` (clip, time, feature), their mask, and `labels` (clip, class)."""
        labels = torch.from_numpy(np.stack([clip["labels"] for clip in clips]))
        inputs = [{name: value for name, value in clip.items() if name != "labels"} for clip in clips]
        return {**self.feature_extractor.pad(inputs, return_tensors="pt"), "labels": labels}

    def _any_piece(self) -> tuple[np.ndarray, np.ndarray]:
        return self._piece(int(torch.randint(len(self), ())))

    def _piece(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """What is heard of a recording, (samples,), and its labels, (class,)."""
        waveform = self._waveform(index)
        surplus = len(waveform) - self.max_samples
        if self.augmentation is None:
            return waveform[: self.max_samples], self.targets[index]
        start = int(torch.randint(surplus + 1, ())) if surplus > 0 else 0
        return self.augmentation.vary_gain(waveform[start : start + self.max_samples]), self.targets[index]

    def _waveform(self, index: int) -> np.ndarray:
        """A recording, (samples,), decoded once where there is memory for it."""
        if index in self._kept:
            return self._kept[index]
        rate = self.feature_extractor.sampling_rate
        _, blocks = read_blocks(self.sources[index], rate, self.crop, self.splits[index])
        waveform = np.concatenate(list(blocks))
        if self._kept_samples + len(waveform) <= KEPT_SAMPLES:
            self._kept[index] = waveform
            self._kept_samples += len(waveform)
        return waveform
