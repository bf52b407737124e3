"""What the pipelines of the fusion models share: recordings of any length in, summaries of their chunks out."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline

from .audio_integrity import DamageError  # noqa: F401 - of a local folder, transformers 4 copies only what is named
from .audio_loading import (
    AudioError,
    check_embedding,
    is_rate_and_samples,
    open_recording,
    read_samples,
    tells_its_rate,
)
from .chunks import split_chunks
from .fusion import span_mask


class RecordingPipeline(ChunkPipeline):
    """Base of the pipelines: long recordings are cut into chunks, of which `batch_size` pass the model at a time.

    A subclass names the options of a call, and makes its result of a recording's chunks in `postprocess`.
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False
    # The options of a call, by the step that takes them.
    preprocess_options: frozenset[str] = frozenset()
    forward_options: frozenset[str] = frozenset()
    postprocess_options: frozenset[str] = frozenset()

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.feature_extractor.match(self.model.config)

    @property
    def backbone(self) -> Any:
        """The model that embeds: the one under a classifier, or the model itself, compiled or wrapped as it may be."""
        return getattr(self.model, self.model.base_model_prefix, self.model)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Process one recording or several.

        Args:
            inputs: A path, URL, bytes of an audio file, waveform at the model's rate, {"array" or "raw",
                "sampling_rate"}, {"bytes" or "path"}, or torchcodec decoder; a list, tuple, column or other iterable of
                those; or a dataset with an `Audio` column.
            batch_size (int): How many recordings, or chunks of long ones, to pass through the model at a time.
            kwargs: The options of the pipeline.

        Returns:
            The result of one recording, a list of those of several, or, for a dataset and for iterables whose length is
            not known, an iterator over them, as in all pipelines.

        Raises:
            ValueError: A recording cannot be decoded, is empty, or has samples that are not finite.
            OSError: A file is missing or cannot be read.
        """
        if hasattr(inputs, "column_names"):  # a dataset of the `datasets` library
            return super().__call__(_recordings_of(inputs), **kwargs)
        is_waveform = isinstance(inputs, (np.ndarray, torch.Tensor))
        is_one = is_waveform or tells_its_rate(inputs) or is_rate_and_samples(inputs) or hasattr(inputs, "read")
        if is_one or not isinstance(inputs, Iterable):
            return super().__call__(inputs, **kwargs)
        if isinstance(inputs, Sized) and not len(inputs):
            return []
        results = super().__call__((recording for recording in inputs), **kwargs)  # as they come
        return list(results) if isinstance(inputs, Sized) else results

    def _sanitize_parameters(self, **kwargs):
        steps = (self.preprocess_options, self.forward_options, self.postprocess_options)
        options = frozenset().union(*steps)
        unknown = kwargs.keys() - options
        if unknown:
            raise TypeError(f"Unknown options {sorted(unknown)}; this pipeline has {sorted(options)}.")
        return tuple({name: kwargs[name] for name in step if name in kwargs} for step in steps)

    def preprocess(self, inputs: Any) -> Iterator[dict[str, Any]]:
        recording = open_recording(inputs)
        yield from self.chunks(read_samples(recording, self.feature_extractor.sampling_rate), recording.name)

    def chunks(self, blocks: Iterator[np.ndarray], name: str) -> Iterator[dict[str, Any]]:
        """The model's inputs for the chunks of a recording, which is given block by block, each (samples,)."""
        for chunk in split_chunks(blocks, self.feature_extractor):
            spectrograms = self.feature_extractor.spectrograms([chunk.waveform])
            features = self.feature_extractor.pad({"input_features": spectrograms}, return_tensors="pt")
            own_frames = (chunk.first, chunk.stop)
            yield {**features, "own_frames": own_frames, "name": name, "is_last": chunk.is_last}

    def _forward(self, model_inputs: dict[str, Any], with_frames: bool = False) -> dict[str, Any]:
        """What there is of chunks: their summaries (chunk, k, D), and, of each, its frames (frame, D) if asked for."""
        names = self.feature_extractor.model_input_names
        rest = {name: model_inputs.pop(name) for name in list(model_inputs) if name not in names}
        own = rest.pop("own_frames")
        bounds = [own] if isinstance(own, tuple) else own  # a single chunk, or a batch of them
        outputs = self.backbone(**model_inputs)
        frames = outputs.last_hidden_state
        own_frames = span_mask(bounds, frames)
        return {
            "summaries": self.backbone.pooling.summarize(frames, outputs.pooler_output, own_frames),
            "num_frames": torch.tensor([stop - first for first, stop in bounds]),
            "frames": [
                frames[index, first:stop].float() if with_frames else None for index, (first, stop) in enumerate(bounds)
            ],
            **rest,
        }

    def merge(self, chunks: Sequence[dict[str, Any]]) -> torch.Tensor:
        """The embedding of a recording of its chunks, (D,), in float32 on the model's device.

        Raises:
            AudioError: It is not finite.
        """
        summaries = torch.cat([chunk["summaries"] for chunk in chunks]).to(self.device)
        num_frames = torch.cat([chunk["num_frames"] for chunk in chunks]).to(self.device)
        with torch.inference_mode():
            clip = self.backbone.pooling.merge(summaries, num_frames).float()
        check_embedding(clip.cpu().numpy(), chunks[0]["name"])
        return clip


def _recordings_of(dataset: Any) -> Iterator[Any]:
    """The recordings of a dataset, one by one."""
    audio_columns = [name for name, feature in (dataset.features or {}).items() if type(feature).__name__ == "Audio"]
    if len(audio_columns) != 1:
        raise AudioError(
            f"The dataset has {len(audio_columns)} `Audio` columns among {', '.join(dataset.column_names or [])}. "
            'Pass the column with the recordings: dataset["audio"].'
        )
    (name,) = audio_columns
    # As they are stored: `datasets` would take torchcodec to decode them.
    is_stream = hasattr(dataset, "decode")
    rows = dataset.decode(False) if is_stream else dataset.cast_column(name, type(dataset.features[name])(decode=False))
    return (row[name] for row in rows)
