"""What the feature extractors of the three fusion models share: checks, batches, padding, frame times."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, TensorType, logging

from .audio_loading import AudioError, as_float_array, check_samples

logger = logging.get_logger(__name__)


class FusionFeatureExtractor(SequenceFeatureExtractor):
    """Base of the fusion models' feature extractors: waveforms in, log-mel spectrograms and their mask out.

    A subclass says what it computes in `log_mel`, and in `minimum_samples`, `mel_frames_per_frame` and `mel_hop_s`.
    """

    model_input_names = ["input_features", "attention_mask"]
    _auto_class = "AutoFeatureExtractor"

    mel_frames_per_frame: int
    hop_length: int

    def log_mel(self, waveforms: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The spectrogram (time, mel) of each waveform (samples,), each at least `minimum_samples` long."""
        raise AttributeError(f"{type(self).__name__} has to define log_mel.")

    @property
    def minimum_samples(self) -> int:
        """Shorter waveforms are padded with zeros to this length, the least that the network takes, in samples."""
        raise AttributeError(f"{type(self).__name__} has to define minimum_samples.")

    def __call__(
        self,
        audio: np.ndarray | torch.Tensor | Sequence[float] | Sequence[np.ndarray] | Sequence[torch.Tensor],
        sampling_rate: int | None = None,
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
    ) -> BatchFeature:
        """Compute the model's inputs.

        Args:
            audio: One mono waveform (samples,) or a list of them: floats in [-1, 1].
            sampling_rate: The rate of `audio`, in Hz. Pass it: another rate than the model's is then refused.
            padding: As in transformers: True or "longest", "max_length", or False.
            max_length: For padding and truncation, in spectrogram frames.
            truncation: Cut spectrograms to `max_length`. By default nothing is cut.
            pad_to_multiple_of: Pad the time to a multiple of this many spectrogram frames.
            return_attention_mask: Whether to return the mask; by default as the extractor is configured.
            return_tensors: "pt" or "np".

        Returns:
            `input_features` (batch, time, mel) and `attention_mask` (batch, time), 1 for a clip's own frames.

        Raises:
            ValueError: The rate is another one, or a waveform is empty, not finite, or not mono.
        """
        if sampling_rate is None:
            logger.warning_once(
                f"Pass sampling_rate={self.sampling_rate} to {type(self).__name__}: without it, audio of another rate "
                "goes unnoticed and gives wrong embeddings."
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"This model takes audio at {self.sampling_rate} Hz, but sampling_rate={sampling_rate} was passed. "
                "Resample first, for example with soxr.resample or hf_gar.load_audio, or use the pipeline, which does."
            )
        features = self.log_mel([self._prepare(waveform, name) for waveform, name in self._as_batch(audio)])
        return self.pad(
            BatchFeature({"input_features": [clip.numpy() for clip in features]}),
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )

    def frame_times(self, num_frames: int) -> np.ndarray:
        """The centre of each of a clip's first `num_frames` frame embeddings, in seconds, (frame,)."""
        raise AttributeError(f"{type(self).__name__} has to define frame_times.")

    def _as_batch(self, audio: Any) -> list[tuple[Any, str]]:
        """The waveforms of a call, each with the name that an error calls it by."""
        is_list = isinstance(audio, (list, tuple))
        if is_list and not audio:
            raise AudioError("The list of waveforms is empty: pass at least one.")
        if is_list and not np.isscalar(audio[0]):
            return [(waveform, f"waveform {index} of the batch") for index, waveform in enumerate(audio)]
        if is_list and isinstance(audio[0], str):
            raise AudioError(f"The feature extractor takes waveforms, not text ({audio[0]!r}); see `load_audio`.")
        return [(audio, "the waveform")]

    def _prepare(self, waveform: Any, name: str) -> torch.Tensor:
        """Check a waveform and pad it to the least that the network takes; (samples,)."""
        array = as_float_array(waveform, name)
        if array.ndim != 1:
            raise AudioError(
                f"{name} has the shape {array.shape}, expected (samples,). Mix channels to mono, for example with "
                "audio.mean(axis=0) where they come first; pass a batch as a list of waveforms."
            )
        check_samples(array, name)
        return torch.from_numpy(np.pad(array, (0, max(0, self.minimum_samples - len(array)))))
