"""The pipeline "audio-classification" for the fusion models: recordings of any length in, labels out."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import open_recording, read_samples
from .chunks import split_windows
from .fusion import span_mask  # noqa: F401
from .pipeline_recordings import RecordingPipeline

FUNCTIONS = ("softmax", "sigmoid", "none")
WINDOW_S = 2.0
UNKNOWN = "unknown"  # what a recording is called that is of none of the labels


class FusionAudioClassificationPipeline(RecordingPipeline):
    """Classify recordings. A long one has the labels of its clip embedding, as the embedding pipeline gives it.

    ```python
    classify = pipeline("audio-classification", model="org/cnn14-fusion", trust_remote_code=True)
    classify("a.wav")  # [{"score": 0.93, "label": "Speech"}, ...], the best first
    classify("a.wav", timestamps=True)  # [{"timestamp": (0.0, 2.0), "labels": [...]}, ...]
    ```

    A call takes what `RecordingPipeline.__call__` does, and these options:

    Args:
        top_k (int): How many labels to return, or None for all; 5 by default.
        function_to_apply (str): What makes scores of logits: "softmax", "sigmoid" or "none". By default "sigmoid" where
            the model's `problem_type` is "multi_label_classification", else "softmax".
        rejection_threshold (float): Where the best label's softmax score is below this, the result is
            [{"score": ..., "label": "unknown"}] alone, whose score is what the best one lacks of 1. By default the
            configuration's `rejection_threshold`, if it has one; 0 rejects nothing. Scores of another
            `function_to_apply` are never rejected.
        timestamps (bool): Classify windows of a recording, each as if it were a recording of its own, and return
            {"timestamp": (start, end), "labels": [...]} for each, in seconds.
        window_s (float): The length of a window, in seconds; 2 by default. The last one ends where the recording does.
            A recording that is shorter is a single window, as long as it is.
        hop_s (float): From the beginning of a window to that of the next, in seconds; half a window by default.
    """

    preprocess_options = frozenset({"timestamps", "window_s", "hop_s"})
    postprocess_options = frozenset({"top_k", "function_to_apply", "rejection_threshold", "timestamps"})

    def _sanitize_parameters(self, **kwargs):
        top_k, function = kwargs.get("top_k"), kwargs.get("function_to_apply")
        if top_k is not None and (type(top_k) is not int or top_k < 1):
            raise ValueError(f"top_k has to be 1 or more, or None for all labels, not {top_k!r}.")
        if function is not None and function not in FUNCTIONS:
            raise ValueError(f"function_to_apply has to be one of {', '.join(FUNCTIONS)}, not {function!r}.")
        threshold = kwargs.get("rejection_threshold")
        if threshold is not None and not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
            raise ValueError(f"rejection_threshold has to be from 0 to 1, or None for the model's, not {threshold!r}.")
        return super()._sanitize_parameters(**kwargs)

    def preprocess(
        self, inputs: Any, timestamps: bool = False, window_s: float | None = None, hop_s: float | None = None
    ) -> Iterator[dict[str, Any]]:
        if not timestamps:
            if (window_s, hop_s) != (None, None):
                raise ValueError("window_s and hop_s go with timestamps=True, which asks for the labels of windows.")
            yield from super().preprocess(inputs)
            return
        length, hop = self._window_samples(WINDOW_S if window_s is None else window_s, hop_s)
        recording = open_recording(inputs)
        blocks = read_samples(recording, self.feature_extractor.sampling_rate)
        last: dict[str, Any] = {}
        for start, waveform in split_windows(blocks, length, hop):
            for chunk in self.chunks(iter([waveform]), recording.name):
                if last:
                    yield {**last, "is_last": False}
                last = {**chunk, "window": (start, start + len(waveform))}
        yield last

    def _window_samples(self, window_s: float, hop_s: float | None) -> tuple[int, int]:
        """The length of a window, and from one to the next, in samples."""
        rate, minimum = self.feature_extractor.sampling_rate, self.feature_extractor.minimum_samples
        if not window_s * rate >= minimum:
            raise ValueError(
                f"window_s={window_s} is shorter than the {minimum / rate:g} s that {type(self.model).__name__} takes "
                "as a minimum. Choose longer windows; hop_s may be shorter."
            )
        hop_s = window_s / 2 if hop_s is None else hop_s
        if not 1 / rate <= hop_s <= window_s:
            raise ValueError(
                f"hop_s={hop_s} has to be above 0 and at most window_s={window_s}: with more, what lies between two "
                "windows would not be classified."
            )
        return round(window_s * rate), round(hop_s * rate)

    def postprocess(
        self,
        chunks: Sequence[dict[str, Any]],
        top_k: int | None = 5,
        function_to_apply: str | None = None,
        rejection_threshold: float | None = None,
        timestamps: bool = False,
    ) -> list[dict[str, Any]]:
        options = (top_k, function_to_apply, rejection_threshold)
        if not timestamps:
            return self._labels(chunks, *options)
        rate = self.feature_extractor.sampling_rate
        return [
            {"timestamp": (start / rate, end / rate), "labels": self._labels(list(window), *options)}
            for (start, end), window in groupby(chunks, key=lambda chunk: chunk["window"])
        ]

    def _labels(
        self,
        chunks: Sequence[dict[str, Any]],
        top_k: int | None,
        function_to_apply: str | None,
        rejection_threshold: float | None,
    ) -> list[dict[str, Any]]:
        """The labels of a recording of its chunks, the best first."""
        embedding, config = self.merge(chunks), self.model.config
        with torch.inference_mode():
            scores = self.model.classify(embedding[None])[0].float().cpu()
        if function_to_apply is None:
            function_to_apply = "sigmoid" if config.problem_type == "multi_label_classification" else "softmax"
        if function_to_apply != "none":
            scores = scores.softmax(0) if function_to_apply == "softmax" else scores.sigmoid()
        best = scores.argsort(descending=True, stable=True)[:top_k].tolist()
        threshold = config.rejection_threshold if rejection_threshold is None else rejection_threshold
        if function_to_apply == "softmax" and threshold is not None and scores[best[0]] < threshold:
            return [{"score": 1 - scores[best[0]].item(), "label": UNKNOWN}]
        return [{"score": scores[index].item(), "label": config.id2label[index]} for index in best]
