"""Windows of many recordings, passed through the model together with others of like length."""

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch

from hf_gar.embedding.preparation import PreparedWindow
from hf_gar.errors import HfGarError
from hf_gar.models import FusionFeatureExtractor, FusionModel
from hf_gar.models.fusion import span_mask

# Audio that passes through the model at a time, padding included: bounds the memory that it takes.
SECONDS_AT_ONCE = 80.0
SECONDS_AT_ONCE_ON_ACCELERATORS = 960.0
# Windows of like length wait for each other, all together at most so many times as much.
WAITING_BATCHES = 8
# Windows are of like length where the longest is at most this much longer than the shortest.
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
    """What is kept of an embedded window: its summary, (1, k, D), and its frames where they are wanted, (frame, D)."""

    summary: torch.Tensor
    num_frames: int
    frames: torch.Tensor | None


class WindowBatch:
    """Collects windows of recordings, which have numbers, and embeds them batch by batch.

    Args:
        model: On its device, in evaluation mode.
        feature_extractor: The one that made the spectrograms.
        batch_size: The most windows at a time; by default as many as the memory is meant for.
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
        self._waiting: dict[int, list[PreparedWindow]] = defaultdict(list)  # by their class of lengths
        self._waiting_frames = 0
        self._pieces: dict[int, dict[int, _Piece]] = defaultdict(dict)  # by recording, then by the window's number

    def add(self, window: PreparedWindow) -> None:
        """Take a window, and embed those of like length where they make a batch."""
        length = self._input_length(window)
        alike = self._waiting[int(math.log(length) / math.log(LENGTH_RATIO))]
        if self._is_full(alike, window):
            self._embed(alike)
        alike.append(window)
        self._waiting_frames += length
        if self._waiting_frames > WAITING_BATCHES * self.frames_at_once:
            self._embed(max(self._waiting.values(), key=lambda others: sum(map(self._input_length, others))))

    def run(self) -> None:
        """Embed all the windows that wait, the shortest first."""
        batch: list[PreparedWindow] = []
        for window in sorted(
            (window for alike in self._waiting.values() for window in alike),
            key=lambda window: (len(window.spectrogram), window.recording, window.number),
        ):
            if self._is_full(batch, window):
                self._embed(batch)
            batch.append(window)
        self._embed(batch)
        self._waiting.clear()

    def merge(self, recording: int, num_samples: int) -> Embedding:
        """The embedding of a recording of so many samples, all of whose windows are embedded."""
        by_number = self._pieces.pop(recording)
        pieces = [by_number[number] for number in sorted(by_number)]
        num_frames = torch.tensor([piece.num_frames for piece in pieces])
        with torch.inference_mode():
            summaries = torch.cat([piece.summary for piece in pieces]).to(self.model.device)
            clip = self.model.pooling.merge(summaries, num_frames.to(self.model.device))
        frames = [piece.frames for piece in pieces if piece.frames is not None]
        return Embedding(
            clip=clip.float().cpu().numpy(),
            duration_s=num_samples / self.feature_extractor.sampling_rate,
            frames=torch.cat(frames).numpy() if frames else None,
            frame_times=self.feature_extractor.frame_times(int(num_frames.sum())) if frames else None,
        )

    def _input_length(self, window: PreparedWindow) -> int:
        """The spectrogram frames that pass through the model for a window."""
        return self.feature_extractor.max_length or len(window.spectrogram)

    def _is_full(self, batch: list[PreparedWindow], window: PreparedWindow) -> bool:
        """Whether a window is one too many for a batch."""
        longest = max(map(self._input_length, [*batch, window]))
        return len(batch) == self.batch_size or longest * (len(batch) + 1) > self.frames_at_once

    def _embed(self, batch: list[PreparedWindow]) -> None:
        """Embed a batch and empty it; where the device's memory is too small for it, in halves."""
        if not batch:
            return
        windows = list(batch)
        batch.clear()
        self._waiting_frames -= sum(map(self._input_length, windows))
        try:
            pieces = self._forward(windows)
        except torch.OutOfMemoryError as error:
            if len(windows) == 1:
                raise HfGarError(
                    f"The memory of {self.model.device} is too small for a single window: {error}\nUse another device, "
                    "or bfloat16 (`dtype`)."
                ) from error
            self.frames_at_once = max(1, self.frames_at_once // 2)
            half = len(windows) // 2
            pieces = None
        if pieces is None:  # outside of the handler, which keeps the failed attempt's tensors alive
            for part in (windows[:half], windows[half:]):
                self._waiting_frames += sum(map(self._input_length, part))
                self._embed(part)
            return
        for window, piece in zip(windows, pieces, strict=True):
            self._pieces[window.recording][window.number] = piece

    def _forward(self, windows: list[PreparedWindow]) -> list[_Piece]:
        inputs = self.feature_extractor.pad(
            {"input_features": [window.spectrogram for window in windows]}, return_tensors="pt"
        )
        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.model.device))
            own_frames = span_mask([(window.first, window.stop) for window in windows], outputs.frame_mask)
            summaries = self.model.pooling.summarize(outputs.last_hidden_state, outputs.pooler_output, own_frames).cpu()
        return [
            _Piece(
                summary=summaries[index : index + 1],
                num_frames=window.stop - window.first,
                frames=outputs.last_hidden_state[index, window.first : window.stop].float().cpu()
                if self.with_frames
                else None,
            )
            for index, window in enumerate(windows)
        ]
