"""The pipeline "feature-extraction" for the fusion models: recordings of any length in, embeddings out."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers.pipelines.base import ChunkPipeline

from .audio_integrity import DamageError  # noqa: F401 - of a local folder, transformers 4 copies only what is named
from .audio_loading import AudioError, check_embedding, is_rate_and_samples, open_recording, read_samples
from .chunks import split_chunks
from .fusion import span_mask


class AudioEmbeddingPipeline(ChunkPipeline):
    """Embed recordings. Long ones are cut into chunks, of which `batch_size` pass through the model at a time.

    ```python
    embed = pipeline("feature-extraction", model="org/cnn14-fusion", trust_remote_code=True)
    embed("a.wav")  # the clip embedding, a list of D floats
    ```
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.feature_extractor.match(self.model.config)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Embed one recording or several.

        Args:
            inputs: A path, URL, bytes of an audio file, waveform at the model's rate, {"array" or "raw",
                "sampling_rate"}, {"bytes" or "path"}, or torchcodec decoder; a list, tuple or column of those; or a
                generator of those, or a dataset with an `Audio` column.
            pool (bool): True (the default) for the clip embedding, (D,); False for frame embeddings, (frame, D).
            timestamps (bool): Return {"embeddings": (frame, D), "timestamps": (frame,)} with each frame's centre in
                seconds.
            return_tensors (bool): Return float32 tensors in place of nested lists.
            batch_size (int): How many recordings, or chunks of long ones, to pass through the model at a time.

        Returns:
            The embedding of one recording, a list of those of several, or, for a generator or a dataset, an iterator
            over them, as in all pipelines.

        Raises:
            ValueError: A recording cannot be decoded, is empty, or has samples that are not finite.
            OSError: A file is missing or cannot be read.
        """
        if hasattr(inputs, "column_names"):  # a dataset of the `datasets` library
            return super().__call__(_recordings_of(inputs), **kwargs)
        is_one = isinstance(inputs, (str, bytes, bytearray)) or is_rate_and_samples(inputs)
        if isinstance(inputs, Sequence) and not is_one:
            recordings = (recording for recording in inputs)  # one by one, where a column decodes them
            return list(super().__call__(recordings, **kwargs)) if len(inputs) else []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs):
        options = {"pool", "timestamps", "return_tensors"}
        unknown = kwargs.keys() - options
        if unknown:
            raise TypeError(f"Unknown options {sorted(unknown)}; this pipeline has {sorted(options)}.")
        return {}, {name: kwargs[name] for name in ("pool", "timestamps") if name in kwargs}, kwargs

    def preprocess(self, inputs: Any) -> Iterator[dict[str, Any]]:
        rate = self.feature_extractor.sampling_rate
        recording = open_recording(inputs)
        for chunk in split_chunks(read_samples(recording, rate), self.feature_extractor):
            spectrograms = self.feature_extractor.spectrograms([chunk.waveform])
            features = self.feature_extractor.pad({"input_features": spectrograms}, return_tensors="pt")
            own_frames = (chunk.first, chunk.stop)
            yield {**features, "own_frames": own_frames, "name": recording.name, "is_last": chunk.is_last}

    def _forward(self, model_inputs: dict[str, Any], pool: bool = True, timestamps: bool = False) -> dict[str, Any]:
        own, name, is_last = (model_inputs.pop(key) for key in ("own_frames", "name", "is_last"))
        bounds = [own] if isinstance(own, tuple) else own  # a single chunk, or a batch of them
        outputs = self.model(**model_inputs)
        own_frames = span_mask(bounds, outputs.frame_mask)
        return {
            "summaries": self.model.pooling.summarize(outputs.last_hidden_state, outputs.pooler_output, own_frames),
            "num_frames": own_frames.sum(1),
            # Of a long recording, the frames are kept only where they are asked for.
            "frames": [
                None if pool and not timestamps else outputs.last_hidden_state[index, first:stop].float()
                for index, (first, stop) in enumerate(bounds)
            ],
            "name": name,
            "is_last": is_last,
        }

    def postprocess(
        self,
        chunks: list[dict[str, Any]],
        pool: bool = True,
        timestamps: bool = False,
        return_tensors: bool = False,
    ) -> Any:
        name = chunks[0]["name"]
        if pool and not timestamps:
            summaries = torch.cat([chunk["summaries"] for chunk in chunks]).to(self.device)
            num_frames = torch.cat([chunk["num_frames"] for chunk in chunks]).to(self.device)
            with torch.inference_mode():
                clip = self.model.pooling.merge(summaries, num_frames).float().cpu()
            check_embedding(clip.numpy(), name)
            return _as_result(clip, return_tensors)
        frames = torch.cat([chunk["frames"][0] for chunk in chunks])
        check_embedding(frames.cpu().numpy(), name)
        if not timestamps:
            return _as_result(frames, return_tensors)
        times = torch.from_numpy(self.feature_extractor.frame_times(len(frames)))
        return {"embeddings": _as_result(frames, return_tensors), "timestamps": _as_result(times, return_tensors)}


def _as_result(tensor: torch.Tensor, return_tensors: bool) -> Any:
    tensor = tensor.float()
    return tensor if return_tensors else tensor.tolist()


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
