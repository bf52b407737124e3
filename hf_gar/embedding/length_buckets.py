"""Chunks of many recordings, passed through the model together with others of like length."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
# Chunks of like length wait for each other, until so many times as much has come after them.
WAITING_BATCHES = 8
# Chunks are of like length where the longest is at most this much longer than the shortest.
LENGTH_RATIO = 1.15


class ClipEmbedding(NamedTuple):
    """The embedding of a clip, a recording or a window of it, in float32: (D,); or what a head made of it.

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
    """What is kept of an embedded chunk: its summary, (k, D), where the network is, and, in the host's memory, its
    frames where they are wanted, (frame, D).
    """

    summary: torch.Tensor
    num_frames: int
    frames: torch.Tensor | None


@dataclass
class _Clip:
    """The embedded chunks of a clip, by their numbers; how many it has and how long it is, its last chunk says.

    When all are there, so is its embedding, (D,), in the host's memory.
    """

    recording: int
    start: int
    name: str
    pieces: dict[int, _Piece] = field(default_factory=dict)
    num_pieces: int | None = None
    num_samples: int = 0
    embedding: torch.Tensor | None = None

    def ordered_pieces(self) -> list[_Piece]:
        return [self.pieces[number] for number in range(len(self.pieces))]

    def result(self) -> ClipEmbedding:
        assert self.embedding is not None
        frames = [piece.frames for piece in self.ordered_pieces() if piece.frames is not None]
        return ClipEmbedding(
            recording=self.recording,
            start=self.start,
            num_samples=self.num_samples,
            name=self.name,
            embedding=self.embedding.numpy(),
            frames=torch.cat(frames).numpy() if frames else None,
        )


class _Alike(NamedTuple):
    """Chunks of like length that wait for more, since so many frames had been added."""

    since: int
    chunks: list[LoadedChunk]


class _Batch(NamedTuple):
    """The clips that a batch completed; on a GPU, `done` is when all that they are made of is in the host's memory."""

    clips: list[_Clip]
    done: torch.cuda.Event | None

    def take(self) -> list[ClipEmbedding]:
        if self.done is not None:
            self.done.synchronize()
        return [clip.result() for clip in self.clips]


class LengthBuckets:
    """Collects chunks of recordings, which have numbers, and embeds them batch by batch.

    On a GPU, a batch's results are taken when the next one has been launched, so that it has work while they are.

    Args:
        network: On its device, in evaluation mode.
        feature_extractor: The network's, which made the spectrograms, or makes them here of waveforms.
        batch_size: The most chunks at a time; by default as many as the memory is meant for.
        with_frames: Keep the frame embeddings.
        head: Is applied to the clips' embeddings, (batch, D), on their device: clips then have its output.
    """

    def __init__(
        self,
        network: Network,
        feature_extractor: FusionFeatureExtractor,
        batch_size: int | None = None,
        with_frames: bool = False,
        head: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        self.network = network
        self.head = head
        self.feature_extractor = feature_extractor
        self.batch_size = batch_size
        self.with_frames = with_frames
        # On a GPU the front end is a small part of the network's work; in a decoder, a large part of its own.
        self.takes_waveforms = feature_extractor.has_device_front_end and network.device.type == "cuda"
        seconds = SECONDS_AT_ONCE if network.device.type == "cpu" else SECONDS_AT_ONCE_ON_ACCELERATORS
        self.frames_at_once = int(seconds * feature_extractor.sampling_rate / feature_extractor.hop_length)
        self._waiting: dict[int, _Alike] = {}  # by their class of lengths, those that wait longest first
        self._frames_added = 0
        self._clips: dict[tuple[int, int], _Clip] = {}  # by their recording and where they begin in it
        self._batches: deque[_Batch] = deque()  # that were launched, but not taken yet

    def embed(self, chunks: Iterable[LoadedChunk]) -> Iterator[ClipEmbedding]:
        """Embed chunks, those of like length together; a clip's embedding comes as soon as all its chunks are there, on
        a GPU when another batch was launched.
        """
        batches_ahead = 1 if self.network.device.type == "cuda" else 0
        for chunk in chunks:
            self._add(chunk)
            yield from self._take_embedded(batches_ahead)
        self._run()
        yield from self._take_embedded()

    def _add(self, chunk: LoadedChunk) -> None:
        """Take a chunk, and embed those of like length where they make a batch, or those that have waited enough."""
        length_class = self.length_class(self._input_length(chunk))
        if length_class in self._waiting and self._is_full(self._waiting[length_class].chunks, chunk):
            self._embed(self._waiting.pop(length_class).chunks)
        self._waiting.setdefault(length_class, _Alike(self._frames_added, [])).chunks.append(chunk)
        self._frames_added += self._input_length(chunk)
        waits_longest = next(iter(self._waiting))
        if self._frames_added - self._waiting[waits_longest].since > WAITING_BATCHES * self.frames_at_once:
            self._embed(self._waiting.pop(waits_longest).chunks)

    def _run(self) -> None:
        """Embed all the chunks that wait, the shortest first."""
        batch: list[LoadedChunk] = []
        for chunk in sorted(
            (chunk for alike in self._waiting.values() for chunk in alike.chunks),
            key=lambda chunk: (len(chunk.signal), chunk.recording, chunk.start, chunk.number),
        ):
            if self._is_full(batch, chunk):
                self._embed(batch)
                batch = []
            batch.append(chunk)
        self._embed(batch)
        self._waiting.clear()

    def _take_embedded(self, batches_ahead: int = 0) -> Iterator[ClipEmbedding]:
        """The clips that are embedded, but for those of the last batches, so many."""
        while len(self._batches) > batches_ahead:
            yield from self._batches.popleft().take()

    def _merge(self, clips: Sequence[_Clip]) -> None:
        """Make the embeddings of clips, all of whose chunks are embedded."""
        by_count: dict[int, list[_Clip]] = defaultdict(list)  # those of as many chunks are merged together
        for clip in clips:
            by_count[len(clip.pieces)].append(clip)
        for alike in by_count.values():
            pieces = [clip.ordered_pieces() for clip in alike]
            num_frames = torch.tensor([[piece.num_frames for piece in of_one] for of_one in pieces])
            with torch.inference_mode():
                summaries = torch.stack([torch.stack([piece.summary for piece in of_one]) for of_one in pieces])
                merged = self.network.pooling.merge(summaries, to_device(num_frames, summaries.device))
                outputs = merged.float() if self.head is None else self.head(merged.float()).float()
                embeddings = _to_host(outputs)
            for clip, embedding in zip(alike, embeddings, strict=True):
                clip.embedding = embedding

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

    def _embed(self, chunks: list[LoadedChunk]) -> None:
        """Embed a batch; where the device's memory is too small for it, in halves."""
        if not chunks:
            return
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
            self._embed(chunks[:half])
            self._embed(chunks[half:])
            return
        complete = []
        for chunk, piece in zip(chunks, pieces, strict=True):
            key = chunk.recording, chunk.start
            clip = self._clips.setdefault(key, _Clip(*key, chunk.name))
            clip.pieces[chunk.number] = piece
            if chunk.is_last:
                clip.num_pieces, clip.num_samples = chunk.number + 1, chunk.num_samples
            if len(clip.pieces) == clip.num_pieces:
                complete.append(self._clips.pop(key))
        self._merge(complete)
        self._batches.append(_Batch(complete, _mark(self.network.device)))

    def _forward(self, chunks: list[LoadedChunk]) -> list[_Piece]:
        with torch.inference_mode():
            outputs = self.network(**self._inputs(chunks))
            frames = outputs.last_hidden_state
            own_frames = span_mask([(chunk.first, chunk.stop) for chunk in chunks], frames)
            summaries = self.network.pooling.summarize(frames, outputs.pooler_output, own_frames)
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


def _mark(device: torch.device) -> torch.cuda.Event | None:
    """When a GPU has done all that it was given so far; None for other devices, which are waited for in any case."""
    if device.type != "cuda":
        return None
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(device))
    return done
