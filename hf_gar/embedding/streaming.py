"""Embed audio as it comes: blocks of samples in, frame embeddings out as soon as they are final."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr
import torch

from hf_gar.backends.choice import AUTO
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.hub.load import Repository
from hf_gar.models import FusionFeatureExtractor, FusionModel
from hf_gar.models.audio_loading import check_embedding, check_samples, mix_to_mono
from hf_gar.models.chunks import Chunk, ChunkCutter
from hf_gar.tiny import TINY

NAME = "the stream"  # in errors


class BlockReader:
    """Brings the blocks of a stream to a model's rate, in mono.

    Args:
        sampling_rate: Of the blocks, in Hz; by default the model's.
        model_rate: The model's, in Hz.
    """

    def __init__(self, sampling_rate: int | None, model_rate: int):
        self._resampler = None
        if sampling_rate not in (None, model_rate):
            self._resampler = soxr.ResampleStream(sampling_rate, model_rate, num_channels=1, dtype="float32")

    def read(self, block: Any) -> np.ndarray:
        """The samples (samples,) that a block (samples,) or (channels, samples) completes.

        Raises:
            AudioError: It is not such a block, or has samples that are not finite or far outside [-1, 1].
        """
        samples = mix_to_mono(block, NAME)
        if len(samples):
            check_samples(samples, NAME)
        return samples if self._resampler is None else self._resampler.resample_chunk(np.ascontiguousarray(samples))

    def end(self) -> np.ndarray:
        """The samples (samples,) that were still to come."""
        empty = np.empty(0, np.float32)
        return empty if self._resampler is None else self._resampler.resample_chunk(empty, last=True)


class StreamedFrames(NamedTuple):
    """Frame embeddings of a stream, (frame, D) in float32, and where their centres are, (frame,) in seconds."""

    embeddings: np.ndarray
    times: np.ndarray


class StreamingEmbedder:
    """Embed audio that is still going on: a microphone, a socket, an endless file.

    A frame embedding comes out as soon as nothing that follows can change it. VGGish's and CNN14's are those of one
    pass over the whole recording; those of other networks are those of a job, which cuts recordings into chunks. Memory
    does not grow with the stream.

    ```python
    embedder = StreamingEmbedder("org/cnn14-fusion", sampling_rate=48000)
    for block in microphone:  # (samples,), of any length
        frames = embedder.push(block)
    frames = embedder.finish()
    ```

    Args:
        model: As in `AudioEmbedder`, and so are `feature_extractor`, `revision`, `device`, `dtype` and `model_kwargs`.
        sampling_rate: Of the blocks, in Hz; by default the model's.
    """

    def __init__(
        self,
        model: str | Path | Repository | FusionModel = TINY,
        feature_extractor: FusionFeatureExtractor | None = None,
        *,
        sampling_rate: int | None = None,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: str = AUTO,
        model_kwargs: dict[str, Any] | None = None,
    ):
        embedder = AudioEmbedder(
            model,
            feature_extractor,
            revision=revision,
            device=device,
            dtype=dtype,
            with_frames=True,  # no backend is chosen whose frames are not close to PyTorch's
            model_kwargs=model_kwargs,
        )
        self.feature_extractor = embedder.feature_extractor
        self.sampling_rate = sampling_rate or self.feature_extractor.sampling_rate
        self._model = embedder.load_model()
        self._begin()

    def _begin(self) -> None:
        self._blocks = BlockReader(self.sampling_rate, self.feature_extractor.sampling_rate)
        self._cutter = ChunkCutter(self.feature_extractor)

    @property
    def latency_s(self) -> float:
        """From the beginning of a frame until it comes out, at most, in seconds, without the computation."""
        frames = self.feature_extractor.stream_frames
        return ChunkCutter(self.feature_extractor).needed_samples(frames) / self.feature_extractor.sampling_rate

    def push(self, block: Any) -> StreamedFrames:
        """Take the next block; gives the frames that are final with it, perhaps none.

        Args:
            block: (samples,) or (channels, samples), of any length, floats in [-1, 1].

        Raises:
            AudioError: It is not such a block, or has samples that are not finite or far outside [-1, 1].
        """
        self._cutter.add(self._blocks.read(block))
        unit, longest = self.feature_extractor.stream_frames, self.feature_extractor.chunk_frames
        first, chunks = self._cutter.first_frame, []
        while frames := min(self._cutter.final_frames(), longest) // unit * unit:
            chunks.append(self._cutter.cut(frames, is_last=False))
        return self._embed(chunks, first)

    def finish(self) -> StreamedFrames:
        """The stream has ended; gives the frames that are left. The next block begins another stream."""
        self._cutter.add(self._blocks.end())
        longest = self.feature_extractor.chunk_frames
        first, chunks = self._cutter.first_frame, []
        while self._cutter.num_samples and (frames := self._cutter.left_frames()) > 0:
            chunks.append(self._cutter.cut(min(frames, longest), is_last=frames <= longest))
        self._begin()
        return self._embed(chunks, first)

    def _embed(self, chunks: Sequence[Chunk], first_frame: int) -> StreamedFrames:
        extractor = self.feature_extractor
        pieces = [np.empty((0, self._model.config.embedding_size), np.float32)]
        for chunk in chunks:
            features = {"input_features": extractor.spectrograms([chunk.waveform])}
            inputs = extractor.pad(features, return_tensors="pt").to(self._model.device)
            with torch.inference_mode():
                frames = self._model(**inputs).last_hidden_state[0, chunk.first : chunk.stop]
            pieces.append(frames.float().cpu().numpy())
        embeddings = np.concatenate(pieces)
        check_embedding(embeddings, NAME)
        begin = first_frame * extractor.frame_samples / extractor.sampling_rate
        return StreamedFrames(embeddings, begin + extractor.frame_times(len(embeddings)))
