"""The spectrograms of a dataset's clips in one array, from which batches are cut."""

import multiprocessing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import soundfile
import torch
from datasets.utils import tqdm

from hf_gar import Cnn14FusionFeatureExtractor
from tiny.material import LABEL_COLUMNS


@dataclass(frozen=True)
class Spectrograms:
    """Clips with their labels.

    Args:
        frames: The log-mel spectrograms of all clips, one after another, (mel frame, mel) float16, in dB.
        ends: Where each clip's ends, (clip,).
        labels: The names of each column's labels, sorted.
        targets: The number of each clip's label in each column, or -1, (clip, column).
    """

    frames: np.ndarray
    ends: np.ndarray
    labels: dict[str, list[str]]
    targets: np.ndarray

    def clip(self, number: int) -> np.ndarray:
        """One clip's spectrogram, (mel frame, mel)."""
        return self.frames[self.ends[number - 1] if number else 0 : self.ends[number]]


def make_spectrograms(clips: datasets.Dataset, file: Path, processes: int) -> Spectrograms:
    """Compute the spectrograms of clips, with progress, or map those that are in a file already."""
    if not file.exists():
        with multiprocessing.get_context("spawn").Pool(processes, torch.set_num_threads, (1,)) as pool:
            recordings = (audio["bytes"] for audio in clips["audio"])
            made = list(tqdm(pool.imap(log_mel, recordings, 64), "Spectrograms", len(clips), unit=" clips"))
        np.savez(file, frames=np.concatenate(made), ends=np.cumsum([len(each) for each in made]))
    stored = np.load(file)
    labels = {column: sorted({label for label in clips[column] if label}) for column in LABEL_COLUMNS}
    targets = [[names.index(label) if label else -1 for label in clips[column]] for column, names in labels.items()]
    return Spectrograms(stored["frames"], stored["ends"], labels, np.array(targets).T)


def log_mel(recording: bytes) -> np.ndarray:
    """The spectrogram of a file's bytes, (mel frame, mel) float16."""
    waveform, rate = soundfile.read(BytesIO(recording), dtype="float32")
    features = Cnn14FusionFeatureExtractor()(waveform, sampling_rate=rate, padding=False)["input_features"][0]
    return np.asarray(features, np.float16)
