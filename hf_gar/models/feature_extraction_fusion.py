"""What the feature extractors of all fusion models share: checks of waveforms, padding, frame times."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, TensorType, logging

from .audio_loading import AudioError, as_float_array, check_samples, load_audio, tells_its_rate
from .configuration_fusion import (
    HOP_LENGTH,
    MAX_MEL_BINS,
    SAMPLING_RATE,
    CheckedFields,
    Field,
    FusionConfig,
    refuse_replacements,
)

logger = logging.get_logger(__name__)

# What the models rely on: a clip's own frames come first in a batch, and its mask says which they are.
FIXED_FIELDS = {"padding_side": "right", "return_attention_mask": True}


class FusionFeatureExtractor(CheckedFields, SequenceFeatureExtractor):
    """Base of the fusion models' feature extractors: waveforms in, the network's inputs and their mask out.

    A subclass computes the inputs in `spectrograms`, and tells what of a recording its network needs. Its fields are
    checked like those of a `FusionConfig`. The time steps of an input are mel frames, unless `steps` says otherwise.

    Args:
        feature_size: The size of a time step of the inputs: the number of mel bins.
        sampling_rate: In Hz.
        padding_value: The value after the end of the shorter clips of a batch.

    Raises:
        ValueError: A field is none that a front end could have, or is another class's.
    """

    # Of the model that the inputs are for.
    model_type: str
    checked_fields = {
        "feature_size": Field(1, MAX_MEL_BINS),
        "sampling_rate": SAMPLING_RATE,
        "hop_length": HOP_LENGTH,
        "padding_value": Field(-1e6, 1e6, is_whole=False),
    }
    model_input_names = ["input_features", "attention_mask"]
    _auto_class = "AutoFeatureExtractor"

    # From one time step of the inputs to the next, in samples; and what the time steps are called.
    hop_length: int
    steps = "mel frames"
    # Where the network has an input of a fixed length: that length, in time steps.
    max_length: int | None = None
    # Whether spectrograms are normalised by the statistics of a dataset, (x - mean) / (2 std), its fields.
    is_normalized_by_statistics = False
    # Whether the inputs can be computed where the model is, in `device_spectrograms`.
    has_device_front_end = False
    # For recordings in chunks (see chunks.py), in frame embeddings.
    chunk_context_frames = 0

    def __init__(self, feature_size: int, sampling_rate: int, padding_value: float = 0.0, **kwargs):
        refuse_replacements(type(self), SequenceFeatureExtractor, kwargs)
        saved_by = kwargs.get("feature_extractor_type", type(self).__name__)
        if saved_by != type(self).__name__:
            raise ValueError(
                f"feature_extractor_type={saved_by!r} is another model's: the feature extractor of a {self.model_type} "
                f"is a {type(self).__name__}. Get the file from the model's own repository."
            )
        for name, value in FIXED_FIELDS.items():
            if kwargs.get(name, value) != value:
                raise ValueError(f"{name} has to be {value!r}, not {kwargs[name]!r}: the models rely on it.")
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)

    def inputs(self, waveforms: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
        """What `pad` takes: the spectrograms, and the masks where they do not follow from the spectrograms' lengths."""
        return {"input_features": self.spectrograms(waveforms)}

    def spectrograms(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The network's input (time, feature) for each waveform (samples,), which is not empty and finite; nothing is
        padded but waveforms that are shorter than the network takes.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define spectrograms.")

    def device_spectrograms(
        self, waveforms: Sequence[np.ndarray], device: torch.device
    ) -> tuple[torch.Tensor, list[int]]:
        """The inputs for waveforms (samples,), as in `spectrograms`, computed on a device and padded to one length.

        Waveforms of one length that follow each other are computed together.

        Returns:
            The inputs (clip, time, feature), and how many time steps each clip has of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no front end that runs beside the model.")

    @property
    def minimum_samples(self) -> int:
        """Shorter waveforms are padded with zeros to this length, the minimum that the network takes, in samples."""
        raise NotImplementedError(f"{type(self).__name__} has to define minimum_samples.")

    @property
    def chunk_frames(self) -> int:
        """The frame embeddings of a chunk of a long recording."""
        raise NotImplementedError(f"{type(self).__name__} has to define chunk_frames.")

    @property
    def stream_frames(self) -> int:
        """The frame embeddings of the smallest chunk whose frames are those of longer chunks, too."""
        return self.chunk_frames

    @property
    def chunk_tail(self) -> int:
        """How far a chunk's last frame reaches beyond the beginning of the next one, in samples."""
        raise NotImplementedError(f"{type(self).__name__} has to define chunk_tail.")

    @property
    def max_samples(self) -> int | None:
        """The longest chunk that the network takes, in samples; None where there is no limit."""
        return None

    @property
    def frame_samples(self) -> int:
        """From one frame embedding to the next, in samples."""
        raise NotImplementedError(f"{type(self).__name__} has to define frame_samples.")

    @property
    def first_frame_centre(self) -> float:
        """Where what the first frame embedding is made of has its centre, in samples."""
        raise NotImplementedError(f"{type(self).__name__} has to define first_frame_centre.")

    def num_frames(self, num_samples: int) -> int:
        """The number of frame embeddings of a recording of `num_samples` samples."""
        raise NotImplementedError(f"{type(self).__name__} has to define num_frames.")

    def frame_times(self, num_frames: int) -> np.ndarray:
        """The centre of each of a recording's first `num_frames` frame embeddings, in seconds, (frame,)."""
        return (self.first_frame_centre + self.frame_samples * np.arange(num_frames)) / self.sampling_rate

    def match(self, config: FusionConfig) -> None:
        """Take over the input length that a model was loaded with.

        Raises:
            ValueError: The model is of another type, or takes spectrograms of another rate or size.
        """
        pairs = {
            "model_type": (self.model_type, config.model_type),
            "sampling_rate": (self.sampling_rate, config.sampling_rate),
            "hop_length": (self.hop_length, config.hop_length),
            "feature_size": (self.feature_size, config.feature_size),
        }
        for name, (ours, models) in pairs.items():
            if ours != models:
                raise ValueError(
                    f"The feature extractor has {name}={ours}, but its model takes {models}. Load both "
                    "from the same repository."
                )
        if "max_length" in config.checked_fields:
            self.max_length = config.max_length

    def __call__(
        self,
        audio: Any,
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
            audio: One mono waveform (samples,), or a batch: a list of them, or an array (batch, samples). Floats in
                [-1, 1]. In place of a waveform also a path, URL, bytes of an audio file, {"array" or "raw",
                "sampling_rate"}, {"bytes" or "path"}, or torchcodec decoder, which are mixed to mono and resampled.
            sampling_rate: The rate of waveforms, in Hz. Pass it: another rate than the model's is then refused.
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask, return_tensors: As in `pad`.

        Returns:
            `input_features` (batch, time, feature) and `attention_mask` (batch, time), 1 for a clip's own time steps.

        Raises:
            ValueError: The rate is another one, a recording cannot be decoded, or a waveform is empty, not finite, not
                mono, or too long.
            OSError: A file is missing or cannot be read.
        """
        waveforms = self._as_batch(audio, sampling_rate)
        for waveform, name in waveforms:
            check_samples(waveform, name)
        return self.pad(
            self.inputs([waveform for waveform, _ in waveforms]),
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )

    def _check_rate(self, sampling_rate: int | None) -> None:
        """Raise a ValueError where waveforms have another rate than the model takes; warn where it is not known."""
        if sampling_rate is None:
            logger.warning_once(
                f"Pass sampling_rate={self.sampling_rate} to {type(self).__name__}: without it, audio of another rate "
                "goes unnoticed and gives wrong embeddings."
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"This model takes audio at {self.sampling_rate} Hz, but sampling_rate={sampling_rate} was passed. "
                "Resample first, for example with soxr.resample or hf_gar.load_audio, or pass "
                '{"array": waveform, "sampling_rate": rate}.'
            )

    def pad(
        self,
        processed_features: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
    ) -> BatchFeature:
        """Bring the inputs of clips to one length, and tell in a mask which time steps are a clip's own.

        Args:
            processed_features: `input_features`, (time, feature) each, and what else there is of each clip, as a
                mapping of lists or a list of mappings; an `attention_mask` that is there is kept.
            padding: As in transformers: True or "longest", "max_length", or False. Where the network has an input of a
                fixed length, the first two are "max_length".
            max_length: For padding and truncation, in time steps; by default that of the network.
            truncation: Cut inputs to `max_length`. Without it, longer ones are an error.
            pad_to_multiple_of: Pad the time to a multiple of this many time steps.
            return_attention_mask: Whether to return the mask; by default as the extractor is configured.
            return_tensors: "pt" or "np"; by default lists of arrays.

        Raises:
            ValueError: There are no `input_features`, one is longer than `max_length`, or the length to pad to is not
                known.
        """
        columns = _columns_of(processed_features)
        clips = [np.asarray(clip, np.float32) for clip in columns.pop("input_features")]
        masks = [np.asarray(mask) for mask in columns.pop("attention_mask", [np.ones(len(clip)) for clip in clips])]
        max_length = self.max_length if max_length is None else max_length
        if truncation:
            if max_length is None:
                raise ValueError(f"truncation=True cuts to a max_length in {self.steps}: pass it.")
            clips, masks = [clip[:max_length] for clip in clips], [mask[:max_length] for mask in masks]
        length = self._padded_length([len(clip) for clip in clips], padding, max_length, pad_to_multiple_of)
        if length is not None:
            clips = [pad_end(clip, length, self.padding_value) for clip in clips]
            masks = [pad_end(mask, length, 0) for mask in masks]
        padded = {"input_features": clips}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            padded["attention_mask"] = [mask.astype(np.int32) for mask in masks]
        return BatchFeature({**padded, **columns}, tensor_type=return_tensors)

    def _padded_length(
        self,
        lengths: list[int],
        padding: bool | str | PaddingStrategy,
        max_length: int | None,
        pad_to_multiple_of: int | None,
    ) -> int | None:
        """The length that the inputs are padded to, in time steps; None where they are left as they are."""
        strategy = PaddingStrategy.LONGEST if padding is True else PaddingStrategy(padding or "do_not_pad")
        if strategy == PaddingStrategy.DO_NOT_PAD or not lengths:
            return None
        if strategy == PaddingStrategy.LONGEST and self.max_length is None:
            max_length = max(lengths)
        if max_length is None:
            raise ValueError(f'padding="max_length" takes a max_length in {self.steps}: pass it.')
        for index, length in enumerate(lengths):
            if length > max_length:
                clip = f"Clip {index} of the batch" if len(lengths) > 1 else "The clip"
                seconds = max_length * self.hop_length / self.sampling_rate
                raise AudioError(
                    f"{clip} has {length} {self.steps}, more than max_length={max_length} ({seconds:g} s). "
                    "Embed it with the pipeline or hf_gar, which cut long recordings into chunks; or pass "
                    "truncation=True; or load model and feature extractor with a larger max_length."
                )
        return -(-max_length // (pad_to_multiple_of or 1)) * (pad_to_multiple_of or 1)

    def _as_batch(self, audio: Any, sampling_rate: int | None) -> list[tuple[np.ndarray, str]]:
        """The waveforms of a call, (samples,) each, with the name that an error calls it by."""
        is_list = isinstance(audio, (list, tuple))
        if is_list and not audio:
            raise AudioError("The list of waveforms is empty: pass at least one.")
        is_batch = getattr(audio, "ndim", 1) == 2
        if is_list:
            is_batch = tells_its_rate(audio[0]) or not np.isscalar(audio[0])
        clips = list(audio) if is_batch else [audio]
        if not all(map(tells_its_rate, clips)):
            self._check_rate(sampling_rate)
        names = [f"waveform {index} of the batch" for index in range(len(clips))] if is_batch else ["the waveform"]
        return [
            (load_audio(clip, self.sampling_rate) if tells_its_rate(clip) else _as_waveform(clip, name), name)
            for clip, name in zip(clips, names, strict=True)
        ]


def _as_waveform(waveform: Any, name: str) -> np.ndarray:
    """A mono waveform (samples,), float32."""
    array = as_float_array(waveform, name)
    if array.ndim != 1:
        raise AudioError(
            f"{name} has the shape {array.shape}, expected (samples,). Mix channels to mono, for example with "
            "audio.mean(axis=0) where they come first; pass a batch as a list of waveforms, or as (batch, samples)."
        )
    return array


def _columns_of(features: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lists of what there is of each clip, by name."""
    if not isinstance(features, Mapping):
        features = {name: [clip[name] for clip in features] for name in features[0]}
    if "input_features" not in features:
        raise ValueError(f"There are no `input_features` to pad, only {', '.join(features) or 'nothing'}.")
    return dict(features)


def pad_end(array: np.ndarray, length: int, value: float) -> np.ndarray:
    """An array (time, ...) made `length` long with a value at its end."""
    return np.pad(array, [(0, max(0, length - len(array)))] + [(0, 0)] * (array.ndim - 1), constant_values=value)
