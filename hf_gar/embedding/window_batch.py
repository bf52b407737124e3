"""Windows of many recordings, passed through the model together."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch

from hf_gar.models import FusionFeatureExtractor, FusionModel
from hf_gar.models.windows import Window

# Audio that passes through the model at a time, padding included: bounds the memory that long recordings take.
SECONDS_AT_ONCE = 120.0


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
    """Collects windows of recordings, which have numbers, and embeds them batch by batch."""

    def __init__(self, model: FusionModel, feature_extractor: FusionFeatureExtractor, with_frames: bool):
        self.model = model
        self.feature_extractor = feature_extractor
        self.with_frames = with_frames
        self._waiting: list[tuple[int, Window]] = []
        self._pieces: dict[int, list[_Piece]] = defaultdict(list)

    def add(self, recording: int, window: Window) -> None:
        """Take the next window of a recording; those that wait are embedded first where it would become too much."""
        lengths = [len(waiting.waveform) for _, waiting in self._waiting] + [len(window.waveform)]
        # Where the network has an input of a fixed length, all are padded to it.
        if (
            max(*lengths, self.feature_extractor.max_samples or 0) * len(lengths)
            > SECONDS_AT_ONCE * self.feature_extractor.sampling_rate
        ):
            self.run()
        self._waiting.append((recording, window))

    def run(self) -> None:
        """Embed the windows that wait."""
        if not self._waiting:
            return
        inputs = self.feature_extractor(
            [window.waveform for _, window in self._waiting],
            sampling_rate=self.feature_extractor.sampling_rate,
            return_tensors="pt",
        )
        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.model.device))
            own_frames = torch.zeros_like(outputs.frame_mask)
            for index, (_, window) in enumerate(self._waiting):
                own_frames[index, window.first : window.stop] = True
            summaries = self.model.summarize_windows(outputs, own_frames).cpu()
        for index, (recording, window) in enumerate(self._waiting):
            frames = outputs.last_hidden_state[index, window.first : window.stop] if self.with_frames else None
            self._pieces[recording].append(
                _Piece(
                    summary=summaries[index : index + 1],
                    num_frames=window.stop - window.first,
                    frames=None if frames is None else frames.float().cpu(),
                )
            )
        self._waiting = []

    def merge(self, recording: int, duration_s: float) -> Embedding:
        """The embedding of a recording, all of whose windows are embedded."""
        pieces = self._pieces.pop(recording)
        num_frames = torch.tensor([piece.num_frames for piece in pieces])
        with torch.inference_mode():
            clip = self.model.merge_windows(torch.cat([piece.summary for piece in pieces]), num_frames)
        frames = [piece.frames for piece in pieces if piece.frames is not None]
        return Embedding(
            clip=clip.float().cpu().numpy(),
            duration_s=duration_s,
            frames=torch.cat(frames).numpy() if frames else None,
            frame_times=self.feature_extractor.frame_times(int(num_frames.sum())) if frames else None,
        )
