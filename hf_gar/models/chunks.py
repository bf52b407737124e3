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


def split_chunks(blocks: Iterator[np.ndarray], chunking: Chunking) -> Iterator[Chunk]:
    """Cut a recording, given block by block, into chunks; a short one is a single chunk."""
    step, context = chunking.chunk_frames, chunking.chunk_context_frames
    samples = chunking.frame_samples
    buffer, start = np.empty(0, np.float32), 0  # the samples that are still needed, and where they begin
    ended = False
    first_frame = 0
    while True:
        end = (first_frame + step + context) * samples + chunking.chunk_tail
        # As much again, so that it is known whether another chunk follows.
        while not ended and start + len(buffer) < end + step * samples:
            block = next(blocks, None)
            ended = block is None
            if block is not None:
                buffer = np.concatenate([buffer, block]) if len(buffer) else block
        frames = chunking.num_frames(start + len(buffer)) - first_frame
        is_last = ended and frames <= step
        left = min(context, first_frame)
        begin = (first_frame - left) * samples - start
        waveform = buffer[begin:] if is_last else buffer[begin : end - start]
        # Beyond max_samples lies less than a frame, which the network does not see.
        waveform = waveform[: chunking.max_samples]
        yield Chunk(waveform, left, left + (frames if is_last else step), is_last, start + len(buffer))
        if is_last:
            return
        first_frame += step
        begin = (first_frame - min(context, first_frame)) * samples
        buffer, start = buffer[begin - start :], begin


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
    buffer, begin = np.empty(0, np.float32), 0  # the samples that are still needed, and where they begin
    start = covered = 0  # where the next window begins, and the last one ended
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        end = begin + len(buffer)
        while start + length <= end:
            yield start, buffer[start - begin : start - begin + length]
            start, covered = start + hop, start + length
        needed = max(begin, min(start, end - length))
        buffer, begin = buffer[needed - begin :], needed
    end = begin + len(buffer)
    if covered < end:
        first = max(0, end - length)
        yield first, buffer[first - begin :]
