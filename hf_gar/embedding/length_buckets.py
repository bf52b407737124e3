"""Chunks of many recordings, passed through the model together with others of like length."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from hf_gar.embedding.decoding import LoadedChunk
from hf_gar.errors import HfGarError
from hf_gar.models import FusionFeatureExtractor, FusionModel
from hf_gar.models.fusion import span_mask

# Audio that passes through the model at a time, padding included: bounds the memory that it takes.
SECONDS_AT_ONCE = 80.0
SECONDS_AT_ONCE_ON_ACCELERATORS = 960.0
# Chunks of like length wait for each other, all together at most so many times as much.
WAITING_BATCHES = 8
# Inputs are of like length where the longest is at most this much longer than the shortest.
LENGTH_RATIO = 1.15


class ClipEmbedding(NamedTuple):
    """The embedding of a clip, a recording or a window of it, in float32: (D,).

    `frames`, (frame, D), are those of its frames, where they were wanted. The clip is the `num_samples` samples of the
    recording, which has a number, from `start` on; errors call it `name`.
    """

    recording: int
    start: int
    num_samples: int
    name: str
    embedding: np.ndarray
    frames: np.ndarray | None


class _Piece(NamedTuple):
    """What is kept of an embedded chunk: its summary, (1, k, D), and its frames where they are wanted, (frame, D)."""

    summary: torch.Tensor
    num_frames: int
    frames: torch.Tensor | None


@dataclass
class _Clip:
    """The embedded chunks of a clip, by their numbers; how many it has and how long it is, its last chunk says."""

    pieces: dict[int, _Piece] = field(default_factory=dict)
    num_pieces: int | None = None
    num_samples: int = 0


class LengthBuckets:
    """Collects chunks of recordings, which have numbers, and embeds them batch by batch.

    Args:
        model: On its device, in evaluation mode.
        feature_extractor: The one that made the spectrograms.
        batch_size: The most chunks at a time; by default as many as the memory is meant for.
        with_frames: Keep the frame embeddings.
    """

    def __init__(
        self,
        model: FusionModel,
        feature_extractor: FusionFeatureExtractor,
        batch_size: int | None = None,
        with_frames: bool = False,
    ):
        self.model = model
        self.feature_extractor = feature_extractor
        self.batch_size = batch_size
        self.with_frames = with_frames
        seconds = SECONDS_AT_ONCE if model.device.type == "cpu" else SECONDS_AT_ONCE_ON_ACCELERATORS
        self.frames_at_once = int(seconds * feature_extractor.sampling_rate / feature_extractor.hop_length)
        self._waiting: dict[int, list[LoadedChunk]] = defaultdict(list)  # by their class of lengths
        self._waiting_frames = 0
        self._clips: dict[tuple[int, int], _Clip] = defaultdict(_Clip)  # by their recording and where they begin in it
        self._embedded: list[ClipEmbedding] = []

    def embed(self, chunks: Iterable[LoadedChunk]) -> Iterator[ClipEmbedding]:
        """Embed chunks, those of like length together; a clip's embedding comes as soon as all its chunks are there."""
        for chunk in chunks:
            self._add(chunk)
            yield from self._take_embedded()
        self._run()
        yield from self._take_embedded()

    def _add(self, chunk: LoadedChunk) -> None:
        """Take a chunk, and embed those of like length where they make a batch."""
        length = self._input_length(chunk)
        alike = self._waiting[self.length_class(length)]
        if self._is_full(alike, chunk):
            self._embed(alike)
        alike.append(chunk)
        self._waiting_frames += length
        if self._waiting_frames > WAITING_BATCHES * self.frames_at_once:
            self._embed(max(self._waiting.values(), key=lambda others: sum(map(self._input_length, others))))

    def _run(self) -> None:
        """Embed all the chunks that wait, the shortest first."""
        batch: list[LoadedChunk] = []
        for chunk in sorted(
            (chunk for alike in self._waiting.values() for chunk in alike),
            key=lambda chunk: (len(chunk.spectrogram), chunk.recording, chunk.start, chunk.number),
        ):
            if self._is_full(batch, chunk):
                self._embed(batch)
            batch.append(chunk)
        self._embed(batch)
        self._waiting.clear()

    def _take_embedded(self) -> list[ClipEmbedding]:
        embedded, self._embedded = self._embedded, []
        return embedded

    def _merge(self, chunk: LoadedChunk, clip: _Clip) -> ClipEmbedding:
        """The embedding of a clip, of which `chunk` is one, and all of whose chunks are embedded."""
        pieces = [clip.pieces[number] for number in range(len(clip.pieces))]
        num_frames = torch.tensor([piece.num_frames for piece in pieces])
        with torch.inference_mode():
            summaries = torch.cat([piece.summary for piece in pieces]).to(self.model.device)
            embedding = self.model.pooling.merge(summaries, num_frames.to(self.model.device))
        frames = [piece.frames for piece in pieces if piece.frames is not None]
        return ClipEmbedding(
            recording=chunk.recording,
            start=chunk.start,
            num_samples=clip.num_samples,
            name=chunk.name,
            embedding=embedding.float().cpu().numpy(),
            frames=torch.cat(frames).numpy() if frames else None,
        )

    def length_class(self, length: int) -> int:
        """Inputs of one class may be in a batch, which a network that is not safe under padding runs by length."""
        return int(math.log(length) / math.log(LENGTH_RATIO)) if self.model.config.is_padding_safe else length

    def _input_length(self, chunk: LoadedChunk) -> int:
        """The spectrogram frames that pass through the model for a chunk."""
        return self.feature_extractor.max_length or len(chunk.spectrogram)

    def _is_full(self, batch: list[LoadedChunk], chunk: LoadedChunk) -> bool:
        """Whether a chunk is one too many for a batch."""
        longest = max(map(self._input_length, [*batch, chunk]))
        return len(batch) == self.batch_size or longest * (len(batch) + 1) > self.frames_at_once

    def _embed(self, batch: list[LoadedChunk]) -> None:
        """Embed a batch and empty it; where the device's memory is too small for it, in halves."""
        if not batch:
            return
        chunks = list(batch)
        batch.clear()
        self._waiting_frames -= sum(map(self._input_length, chunks))
        try:
            pieces = self._forward(chunks)
        except torch.OutOfMemoryError as error:
            if len(chunks) == 1:
                raise HfGarError(
                    f"The memory of {self.model.device} is too small for a single chunk: {error}\nUse another device, "
                    "or bfloat16 (`dtype`)."
                ) from error
            self.frames_at_once = max(1, self.frames_at_once // 2)
            half = len(chunks) // 2
            pieces = None
        if pieces is None:  # outside of the handler, which keeps the failed attempt's tensors alive
            for part in (chunks[:half], chunks[half:]):
                self._waiting_frames += sum(map(self._input_length, part))
                self._embed(part)
            return
        for chunk, piece in zip(chunks, pieces, strict=True):
            clip = self._clips[chunk.recording, chunk.start]
            clip.pieces[chunk.number] = piece
            if chunk.is_last:
                clip.num_pieces, clip.num_samples = chunk.number + 1, chunk.num_samples
            if len(clip.pieces) == clip.num_pieces:
                self._embedded.append(self._merge(chunk, self._clips.pop((chunk.recording, chunk.start))))

    def _forward(self, chunks: list[LoadedChunk]) -> list[_Piece]:
        inputs = self.feature_extractor.pad(
            {"input_features": [chunk.spectrogram for chunk in chunks]}, return_tensors="pt"
        )
        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.model.device))
            own_frames = span_mask([(chunk.first, chunk.stop) for chunk in chunks], outputs.frame_mask)
            summaries = self.model.pooling.summarize(outputs.last_hidden_state, outputs.pooler_output, own_frames).cpu()
        return [
            _Piece(
                summary=summaries[index : index + 1],
                num_frames=chunk.stop - chunk.first,
                frames=outputs.last_hidden_state[index, chunk.first : chunk.stop].float().cpu()
                if self.with_frames
                else None,
            )
            for index, chunk in enumerate(chunks)
        ]
