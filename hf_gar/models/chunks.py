"""Recordings of any length: chunks that are embedded one by one, with bounded memory.

Chunk w covers the frame embeddings [w N, (w + 1) N) of a recording. What the network sees beyond them goes along: C
frames of context on either side, whose embeddings are dropped, and a tail that the last frame reaches into.

    |  C  |           N frames           |  C  | tail |        the waveform of a chunk in the middle
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

WINDOW_S = 2.0  # the default


class Chunking(Protocol):
    """How a feature extractor cuts recordings; lengths in samples, or in frames where the name says so."""

    @property
    def frame_samples(self) -> int:
        """From one frame embedding to the next."""

    @property
    def chunk_frames(self) -> int:
        """N: the frame embeddings of a chunk."""

    @property
    def chunk_context_frames(self) -> int:
        """C: the frames on either side whose embeddings are dropped."""

    @property
    def chunk_tail(self) -> int:
        """How far the last frame reaches beyond the beginning of the next."""

    @property
    def max_samples(self) -> int | None:
        """The longest chunk, where the network has such a limit."""

    def num_frames(self, num_samples: int) -> int:
        """The number of frame embeddings of a recording."""


class Chunk(NamedTuple):
    """A piece of a recording; its own frame embeddings are [first, stop) of those that the piece gives."""

    waveform: np.ndarray
    first: int
    stop: int
    is_last: bool
    num_samples: int  # of the recording as far as it was read: all of it, where this is the last chunk


class ChunkCutter:
    """Cuts chunks from a recording as it comes, and forgets what no later one needs.

    Args:
        chunking: How; a chunk may have fewer frames of its own than `chunk_frames`.
    """

    def __init__(self, chunking: Chunking):
        self.chunking = chunking
        self.num_samples = 0  # of the recording so far
        self.first_frame = 0  # that is in no chunk yet
        self._buffer = np.empty(0, np.float32)  # the samples that are still needed

    def add(self, block: np.ndarray) -> None:
        """Take the next block of the recording, (samples,)."""
        self._buffer = np.concatenate([self._buffer, block]) if len(self._buffer) else block
        self.num_samples += len(block)

    def needed_samples(self, frames: int) -> int:
        """How long the recording has to be for its next frames, so many, to depend on nothing that follows."""
        context, tail = self.chunking.chunk_context_frames, self.chunking.chunk_tail
        return (self.first_frame + frames + context) * self.chunking.frame_samples + tail

    def final_frames(self) -> int:
        """How many of the next frames depend on nothing that follows."""
        return max(0, (self.num_samples - self.needed_samples(0)) // self.chunking.frame_samples)

    def left_frames(self) -> int:
        """How many of the frames are in no chunk yet, if the recording ends here."""
        return self.chunking.num_frames(self.num_samples) - self.first_frame

    def cut(self, frames: int, is_last: bool) -> Chunk:
        """A chunk with the next frames, so many, as its own; the last one, with all that there is."""
        begin, left = self._begin()
        end = self.needed_samples(frames) - self._start
        # Beyond max_samples lies less than a frame, which the network does not see.
        waveform = self._buffer[begin : None if is_last else end][: self.chunking.max_samples]
        self.first_frame += frames
        self._buffer = self._buffer[self._begin()[0] :]
        return Chunk(waveform, left, left + frames, is_last, self.num_samples)

    @property
    def _start(self) -> int:
        """Where the buffer begins in the recording."""
        return self.num_samples - len(self._buffer)

    def _begin(self) -> tuple[int, int]:
        """Where the next chunk begins in the buffer, and how many frames of context that are before its own."""
        left = min(self.chunking.chunk_context_frames, self.first_frame)
        return (self.first_frame - left) * self.chunking.frame_samples - self._start, left


def split_chunks(blocks: Iterator[np.ndarray], chunking: Chunking) -> Iterator[Chunk]:
    """Cut a recording, given block by block, into chunks; a short one is a single chunk."""
    cutter, step = ChunkCutter(chunking), chunking.chunk_frames
    is_last = False
    while not is_last:
        block: np.ndarray | None = np.empty(0, np.float32)
        # As much again, so that it is known whether another chunk follows.
        while block is not None and cutter.num_samples < cutter.needed_samples(2 * step):
            block = next(blocks, None)
            if block is not None:
                cutter.add(block)
        is_last = block is None and cutter.left_frames() <= step
        yield cutter.cut(cutter.left_frames() if is_last else step, is_last)


def window_samples(
    window_s: float | None, hop_s: float | None, sampling_rate: int, minimum: int, network: str
) -> tuple[int, int]:
    """The length of a window, and from the beginning of one to that of the next, in samples.

    Args:
        window_s: The length in seconds; by default 2.
        hop_s: From one to the next, in seconds; by default half a window.
        sampling_rate: In Hz.
        minimum: The shortest clip that the network takes, in samples.
        network: What it is called, in an error.

    Raises:
        ValueError: The network does not take such short windows, or some of a recording would be in none.
    """
    window_s = WINDOW_S if window_s is None else window_s
    hop_s = window_s / 2 if hop_s is None else hop_s
    if not window_s * sampling_rate >= minimum:
        raise ValueError(
            f"window_s={window_s} is shorter than the {minimum / sampling_rate:g} s that {network} takes as a minimum. "
            "Choose longer windows; hop_s may be shorter."
        )
    if not 1 / sampling_rate <= hop_s <= window_s:
        raise ValueError(
            f"hop_s={hop_s} has to be above 0 and at most window_s={window_s}: with more, what lies between two "
            "windows would not be classified."
        )
    return round(window_s * sampling_rate), round(hop_s * sampling_rate)


class WindowCutter:
    """Cuts windows of one length, which may overlap, from a recording as it comes.

    Args:
        length: Of a window, in samples.
        hop: From the beginning of a window to that of the next, in samples; at most `length`.
    """

    def __init__(self, length: int, hop: int):
        self.length, self.hop = length, hop
        self._buffer, self._begin = np.empty(0, np.float32), 0  # the samples that are still needed, where they begin
        self._start = self._covered = 0  # where the next window begins, and the last one ended

    def add(self, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Take the next block of the recording, (samples,); yields windows as `split_windows` does."""
        self._buffer = np.concatenate([self._buffer, block])
        end = self._begin + len(self._buffer)
        while self._start + self.length <= end:
            first = self._start - self._begin
            yield self._start, self._buffer[first : first + self.length]
            self._start, self._covered = self._start + self.hop, self._start + self.length
        needed = max(self._begin, min(self._start, end - self.length))
        self._buffer, self._begin = self._buffer[needed - self._begin :], needed

    def end(self) -> Iterator[tuple[int, np.ndarray]]:
        """The recording has ended; yields the window at its end, where what is there is in none yet."""
        end = self._begin + len(self._buffer)
        if self._covered < end:
            first = max(0, end - self.length)
            yield first, self._buffer[first - self._begin :]


def split_windows(blocks: Iterator[np.ndarray], length: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a recording, given block by block, into windows of one length, which may overlap.

    The last one ends where the recording does: where the hop does not fit, it overlaps the one before by more. A
    recording that is shorter than a window is a single one, as long as it is.

    Args:
        blocks: Of the recording, each (samples,).
        length: Of a window, in samples.
        hop: From the beginning of a window to that of the next, in samples; at most `length`.

    Yields:
        A window's first sample, and its waveform, (samples,).
    """
    cutter = WindowCutter(length, hop)
    for block in blocks:
        yield from cutter.add(block)
    yield from cutter.end()
