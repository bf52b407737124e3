"""The pipeline "audio-classification" for the fusion models: recordings of any length in, labels out."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch

# Those marked F401 are needed by the others: of a local folder, transformers 4 copies only what a file names itself.
from .audio_integrity import DamageError  # noqa: F401
from .audio_loading import open_recording, read_samples
from .chunks import split_windows, window_samples
from .fusion import span_mask  # noqa: F401
from .pipeline_recordings import RecordingPipeline

FUNCTIONS = ("softmax", "sigmoid", "none")
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
                raise ValueError("window_s and hop_s need timestamps=True, which asks for the labels of windows.")
            yield from super().preprocess(inputs)
            return
        rate, minimum = self.feature_extractor.sampling_rate, self.feature_extractor.minimum_samples
        windows = window_samples(window_s, hop_s, rate, minimum, type(self.model).__name__)
        recording = open_recording(inputs)
        blocks = read_samples(recording, rate)
        last: dict[str, Any] = {}
        for start, waveform in split_windows(blocks, *windows):
            for chunk in self.chunks(iter([waveform]), recording.name):
                if last:
                    yield {**last, "is_last": False}
                last = {**chunk, "window": (start, start + len(waveform))}
        yield last

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
            logits = self.model.classify(embedding[None])[0]
        function = function_to_apply or usual_function(config.problem_type)
        threshold = config.rejection_threshold if rejection_threshold is None else rejection_threshold
        scores = label_scores(logits, function)
        return unknown_label(scores, function, threshold) or best_labels(scores, config.id2label, top_k)


def usual_function(problem_type: str | None) -> str:
    """What makes scores of logits, by the `problem_type` of the configuration."""
    return "sigmoid" if problem_type == "multi_label_classification" else "softmax"


def label_scores(logits: torch.Tensor, function: str) -> torch.Tensor:
    """A clip's scores (label,) of its logits (label,), in float32 on the processor, by one of `FUNCTIONS`."""
    logits = logits.float().cpu()
    if function == "none":
        return logits
    return logits.softmax(0) if function == "softmax" else logits.sigmoid()


def unknown_label(scores: torch.Tensor, function: str, threshold: float | None) -> list[dict[str, Any]]:
    """The label of a clip that is of none of the labels, as no score (label,) reaches the threshold; else nothing."""
    highest = scores.max().item()
    if function != "softmax" or threshold is None or highest >= threshold:
        return []
    return [{"score": 1 - highest, "label": UNKNOWN}]


def best_labels(
    scores: torch.Tensor, labels: Mapping[int, str] | Sequence[str], top_k: int | None
) -> list[dict[str, Any]]:
    """The `top_k` labels with the highest scores (label,), or all, the best first, as {"score": ..., "label": ...}."""
    best = scores.argsort(descending=True, stable=True)[:top_k].tolist()
    return [{"score": scores[index].item(), "label": labels[index]} for index in best]
