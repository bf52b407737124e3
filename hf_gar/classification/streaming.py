"""Label audio as it comes: blocks of samples in, the labels of windows out as soon as they are over."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hf_gar.backends.choice import AUTO
from hf_gar.classification.tagger import AudioTagger
from hf_gar.embedding.streaming import BlockReader
from hf_gar.hub.load import Repository
from hf_gar.models import FusionFeatureExtractor, FusionForAudioClassification
from hf_gar.models.chunks import WindowCutter, window_samples
from hf_gar.tiny import TINY


class WindowTags(NamedTuple):
    """A window of a stream, from `start` to `stop` in seconds, and its labels, [{"label": ..., "score": ...}, ...]."""

    start: float
    stop: float
    predictions: list[dict[str, Any]]


class StreamingTagger:
    """Label audio that is still going on: windows of it, each as if it were a recording.

    They are the windows, and have the labels, of the pipeline "audio-classification" with `timestamps=True`. Memory
    does not grow with the stream.

    ```python
    tagger = StreamingTagger("org/cnn14-fusion", sampling_rate=48000, threshold=0.5)
    for block in microphone:  # (samples,), of any length
        for window in tagger.push(block):
            print(window.start, window.predictions)
    ```

    Args:
        model: As in `AudioTagger`, and so are `feature_extractor`, `labels`, `top_k`, `threshold`, `revision`,
            `device`, `dtype` and `model_kwargs`.
        sampling_rate: Of the blocks, in Hz; by default the model's.
        window_s: The length of a window, in seconds; 2 by default. That is how late a sound may be labelled.
        hop_s: From the beginning of a window to that of the next, in seconds; half a window by default.
    """

    def __init__(
        self,
        model: str | Path | Repository | FusionForAudioClassification = TINY,
        feature_extractor: FusionFeatureExtractor | None = None,
        *,
        sampling_rate: int | None = None,
        window_s: float | None = None,
        hop_s: float | None = None,
        labels: Sequence[str] | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: str = AUTO,
        model_kwargs: dict[str, Any] | None = None,
    ):
        self._tagger = AudioTagger(
            model,
            feature_extractor,
            labels=labels,
            top_k=top_k,
            threshold=threshold,
            revision=revision,
            device=device,
            dtype=dtype,
            model_kwargs=model_kwargs,
        )
        extractor = self._tagger.feature_extractor
        self._rate = extractor.sampling_rate
        self.sampling_rate = sampling_rate or self._rate
        self._window = window_samples(
            window_s, hop_s, self._rate, extractor.minimum_samples, self._tagger.config.model_type
        )
        self._begin()

    def _begin(self) -> None:
        self._blocks = BlockReader(self.sampling_rate, self._rate)
        self._cutter = WindowCutter(*self._window)

    def push(self, block: Any) -> list[WindowTags]:
        """Take the next block; gives the windows that are over with it, perhaps none.

        Args:
            block: (samples,) or (channels, samples), of any length, floats in [-1, 1].

        Raises:
            AudioError: It is not such a block, or has samples that are not finite or far outside [-1, 1].
        """
        return self._tag(self._cutter.add(self._blocks.read(block)))

    def finish(self) -> list[WindowTags]:
        """The stream has ended; gives the windows that are left. The next block begins another stream."""
        windows = [*self._cutter.add(self._blocks.end()), *self._cutter.end()]
        self._begin()
        return self._tag(windows)

    def _tag(self, windows: Iterable[tuple[int, np.ndarray]]) -> list[WindowTags]:
        windows = list(windows)
        found = self._tagger.process([waveform for _, waveform in windows])
        return [
            WindowTags(start / self._rate, (start + len(waveform)) / self._rate, tags.predictions)
            for (start, waveform), tags in zip(windows, found, strict=True)
        ]
