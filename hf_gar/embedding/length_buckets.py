"""Chunks of many recordings, passed through the model together with others of like length."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from hf_gar.backends.network import Network
from hf_gar.embedding.decoding import LoadedChunk
from hf_gar.errors import HfGarError
from hf_gar.models import FusionFeatureExtractor
from hf_gar.models.fusion import span_mask, to_device

# Audio that passes through the model at a time, padding included: bounds the memory that it takes.
SECONDS_AT_ONCE = 80.0
SECONDS_AT_ONCE_ON_ACCELERATORS = 960.0
# Chunks of like length wait for each other, all together at most so many times as much.
WAITING_BATCHES = 8
# Chunks are of like length where the longest is at most this much longer than the shortest.
LENGTH_RATIO = 1.15


class Embedding(NamedTuple):
    """A recording's embedding, in float32: of the clip, (D,), and of its frames, (frame, D), where they were wanted.

    `frame_times` are the frames' centres, in seconds, (frame,).
    """

    clip: np.ndarray
    duration_s: float
    frames: np.ndarray | None
    frame_times: np.ndarray | None


class _Piece(NamedTuple):
    """What is kept of an embedded chunk: its summary, (k, D), and its frames where they are wanted, (frame, D)."""

    summary: torch.Tensor
    num_frames: int
    frames: torch.Tensor | None


class LengthBuckets:
    """Collects chunks of recordings, which have numbers, and embeds them batch by batch.

    On a GPU, nothing here waits for it before the embeddings are merged: batches are prepared while it is at work.

    Args:
        network: On its device, in evaluation mode.
        feature_extractor: The network's, which made the spectrograms, or makes them here of waveforms.
        batch_size: The most chunks at a time; by default as many as the memory is meant for.
        with_frames: Keep the frame embeddings.
    """

    def __init__(
        self,
        network: Network,
        feature_extractor: FusionFeatureExtractor,
        batch_size: int | None = None,
        with_frames: bool = False,
    ):
        self.network = network
        self.feature_extractor = feature_extractor
        self.batch_size = batch_size
        self.with_frames = with_frames
        # On a GPU the front end is a small part of the network's work; in a decoder, a large part of its own.
        self.takes_waveforms = feature_extractor.has_device_front_end and network.device.type == "cuda"
        seconds = SECONDS_AT_ONCE if network.device.type == "cpu" else SECONDS_AT_ONCE_ON_ACCELERATORS
        self.frames_at_once = int(seconds * feature_extractor.sampling_rate / feature_extractor.hop_length)
        self._waiting: dict[int, list[LoadedChunk]] = defaultdict(list)  # by their class of lengths
        self._waiting_frames = 0
        self._pieces: dict[int, dict[int, _Piece]] = defaultdict(dict)  # by recording, then by the chunk's number

    def add(self, chunk: LoadedChunk) -> None:
        """Take a chunk, and embed those of like length where they make a batch."""
        length = self._input_length(chunk)
        alike = self._waiting[self.length_class(length)]
        if self._is_full(alike, chunk):
            self._embed(alike)
        alike.append(chunk)
        self._waiting_frames += length
        if self._waiting_frames > WAITING_BATCHES * self.frames_at_once:
            self._embed(max(self._waiting.values(), key=lambda others: sum(map(self._input_length, others))))

    def run(self) -> None:
        """Embed all the chunks that wait, the shortest first."""
        batch: list[LoadedChunk] = []
        for chunk in sorted(
            (chunk for alike in self._waiting.values() for chunk in alike),
            key=lambda chunk: (len(chunk.signal), chunk.recording, chunk.number),
        ):
            if self._is_full(batch, chunk):
                self._embed(batch)
            batch.append(chunk)
        self._embed(batch)
        self._waiting.clear()

    def merge(self, num_samples: Mapping[int, int]) -> dict[int, Embedding]:
        """The embeddings of recordings of so many samples each, by number, all of whose chunks are embedded."""
        if self.network.device.type != "cpu":
            torch.accelerator.synchronize(self.network.device)
        by_count: dict[int, list[int]] = defaultdict(list)  # those of as many chunks are merged together
        for recording in num_samples:
            by_count[len(self._pieces[recording])].append(recording)
        embeddings = {}
        for alike in by_count.values():
            pieces = [[chunks[number] for number in sorted(chunks)] for chunks in map(self._pieces.pop, alike)]
            for recording, of_one, clip in zip(alike, pieces, self._merge_clips(pieces), strict=True):
                frames = [piece.frames for piece in of_one if piece.frames is not None]
                num_frames = sum(piece.num_frames for piece in of_one)
                embeddings[recording] = Embedding(
                    clip=clip,
                    duration_s=num_samples[recording] / self.feature_extractor.sampling_rate,
                    frames=torch.cat(frames).numpy() if frames else None,
                    frame_times=self.feature_extractor.frame_times(num_frames) if frames else None,
                )
        return embeddings

    def _merge_clips(self, pieces: list[list[_Piece]]) -> np.ndarray:
        """The clip embeddings (recording, D) of recordings of one number of chunks."""
        summaries = torch.stack([torch.stack([piece.summary for piece in of_one]) for of_one in pieces])
        num_frames = torch.tensor([[piece.num_frames for piece in of_one] for of_one in pieces])
        device = self.network.device
        with torch.inference_mode():
            return self.network.pooling.merge(summaries.to(device), num_frames.to(device)).float().cpu().numpy()

    def length_class(self, length: int) -> int:
        """Inputs of one class may be in a batch, which a network that is not safe under padding runs by length."""
        return int(math.log(length) / math.log(LENGTH_RATIO)) if self.network.config.is_padding_safe else length

    def _input_length(self, chunk: LoadedChunk) -> int:
        """The spectrogram frames that pass through the network for a chunk; of a waveform, as good as that."""
        if self.feature_extractor.max_length is not None:
            return self.feature_extractor.max_length
        samples_per_frame = self.feature_extractor.hop_length if self.takes_waveforms else 1
        return max(1, len(chunk.signal) // samples_per_frame)

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
                    f"The memory of {self.network.device} is too small for a single chunk: {error}\nUse another "
                    "device, or bfloat16 (`dtype`)."
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
            self._pieces[chunk.recording][chunk.number] = piece

    def _forward(self, chunks: list[LoadedChunk]) -> list[_Piece]:
        with torch.inference_mode():
            outputs = self.network(**self._inputs(chunks))
            frames = outputs.last_hidden_state
            own_frames = span_mask([(chunk.first, chunk.stop) for chunk in chunks], frames)
            summaries = _to_host(self.network.pooling.summarize(frames, outputs.pooler_output, own_frames))
            kept = _to_host(frames.float()) if self.with_frames else None
        return [
            _Piece(
                summary=summaries[index],
                num_frames=chunk.stop - chunk.first,
                frames=None if kept is None else kept[index, chunk.first : chunk.stop],
            )
            for index, chunk in enumerate(chunks)
        ]

    def _inputs(self, chunks: list[LoadedChunk]) -> dict[str, torch.Tensor]:
        """The network's arguments; there is no mask where nothing is padded."""
        device, signals = self.network.device, [chunk.signal for chunk in chunks]
        if self.takes_waveforms:
            features, lengths = self.feature_extractor.device_spectrograms(signals, device)
            mask = torch.arange(features.shape[1]) < torch.tensor(lengths)[:, None]
        else:
            padded = self.feature_extractor.pad({"input_features": signals}, return_tensors="pt")
            features, mask = to_device(padded["input_features"], device), padded["attention_mask"]
        return {"input_features": features} | ({} if mask.all() else {"attention_mask": to_device(mask, device)})


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the host's memory; of a GPU's tensor, one that is there when the GPU has done all before it."""
    return tensor.to("cpu", non_blocking=tensor.is_cuda)
