"""What is changed at random in the recordings of a fine-tuning: their gain, what is mixed in, and which parts of their
spectrograms are masked.

All random numbers are PyTorch's, whose state is in a checkpoint, so that a training that is resumed sees the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hf_gar.evaluation.optional import import_optional


@dataclass(frozen=True)
class Augmentation:
    """How recordings are changed.

    Args:
        gain_db: They become up to so much louder or quieter.
        mixing: The share that is mixed with another recording, labels included (mixup, Zhang et al., 2018).
        mixing_alpha: Of the beta distribution that both parts of a mixture are drawn from.
        masks: How many bands of frequencies, and how many spans of time, are masked (SpecAugment, Park et al., 2019).
        masked_frequencies: The widest band, as a share of the mel bins.
        masked_time: The longest span, as a share of the recording.
    """

    gain_db: float = 6.0
    mixing: float = 0.5
    mixing_alpha: float = 0.3
    masks: int = 2
    masked_frequencies: float = 0.12
    masked_time: float = 0.1

    def vary_gain(self, waveform: np.ndarray) -> np.ndarray:
        """A waveform (samples,) made louder or quieter."""
        decibels = self.gain_db * (2 * torch.rand(()).item() - 1)
        return waveform * np.float32(10 ** (decibels / 20))

    def mix(
        self, waveform: np.ndarray, target: np.ndarray, draw: Callable[[], tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """A waveform (samples,) and its target (class,), or their mixture with another pair, which `draw` gives."""
        if torch.rand(()).item() >= self.mixing:
            return waveform, target
        other, other_target = draw()
        part = torch.distributions.Beta(self.mixing_alpha, self.mixing_alpha).sample().item()
        length = max(len(waveform), len(other))
        waveform, other = (np.pad(each, (0, length - len(each))) for each in (waveform, other))
        return (
            (part * waveform + (1 - part) * other).astype(np.float32),
            (part * target + (1 - part) * other_target).astype(np.float32),
        )

    def mask(self, spectrogram: np.ndarray) -> np.ndarray:
        """A spectrogram (time, mel), parts of which are replaced by its mean."""
        transforms = import_optional("torchaudio.transforms", "train")
        time, mel = spectrogram.shape
        values = torch.from_numpy(spectrogram)
        mean = values.mean()
        masked = (values - mean).T[None]  # torchaudio's masks are 0, of (batch, frequency, time)
        for _ in range(self.masks):
            masked = transforms.FrequencyMasking(max(1, round(self.masked_frequencies * mel)))(masked)
            masked = transforms.TimeMasking(max(1, round(self.masked_time * time)))(masked)
        return (masked[0].T + mean).numpy()
