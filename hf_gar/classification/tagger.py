"""Tag recordings: the function that `datasets.map` calls, recordings in, labels and scores or events out."""

import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from hf_gar.backends.choice import AUTO
from hf_gar.classification.events import Event, find_events, label_track
from hf_gar.embedding.decoding import WorkerPool
from hf_gar.embedding.length_buckets import ClipEmbedding
from hf_gar.embedding.map_function import Head, MapFunction
from hf_gar.embedding.sources.tables import FILE_NAME
from hf_gar.errors import HfGarError
from hf_gar.files import write_errors
from hf_gar.hub.load import Repository
from hf_gar.models import FusionConfig, FusionFeatureExtractor, FusionForAudioClassification
from hf_gar.models.chunks import window_samples
from hf_gar.models.pipeline_audio_classification import best_labels, label_scores, unknown_label, usual_function
from hf_gar.tiny import TINY

TOP_K = 5
EVENT_THRESHOLD = 0.5
LABEL_TRACKS = "label_tracks"  # their folder in a job's
# Labels that an error names: those like the one that is unknown, or else the first.
SUGGESTIONS = 3
LISTED = 20


class Tags(NamedTuple):
    """A recording's labels with the highest scores, as the pipeline gives them: {"score": ..., "label": ...}."""

    predictions: list[dict[str, Any]]
    duration_s: float


class Events(NamedTuple):
    """The events of a recording, by their onsets."""

    events: list[Event]
    duration_s: float


class _ScoredClip(NamedTuple):
    """A clip's scores (label,), and from where to where it is in its recording, in samples.

    `unknown` is its label where it is of none of the model's.
    """

    start: int
    stop: int
    scores: torch.Tensor
    unknown: list[dict[str, Any]]


class AudioTagger(MapFunction):
    """A callable for `dataset.map(tagger, batched=True)`, which adds the columns "predictions" and "duration_s".

    "predictions" has a recording's best labels, the best first, {"label": ..., "score": ...} each, as the pipeline
    "audio-classification" gives them: a long recording has the labels of its clip embedding, and one that the
    configuration's `rejection_threshold` rejects has the label "unknown", or, of chosen `labels`, none.

    With `timestamps`, there is the column "events" instead: windows of the recording are classified, each as if it were
    a recording, and neighbouring windows with the same label make one event of it, {"onset": ..., "offset": ...,
    "label": ..., "score": ...}, in seconds. Where windows overlap, a moment has the mean of their scores. An event's
    score is the highest in it.

    A job of a tagger (`run_job`, `hf-gar tag`) writes the same columns or, with `timestamps`, one row for each event,
    with the name of its recording.

    ```python
    tagger = AudioTagger("org/cnn14-fusion", labels=["Dog", "Cat"])
    dataset = dataset.map(tagger, batched=True, batch_size=16, remove_columns="audio")
    ```

    Args:
        model: A model repository with a classifier (a folder, a name on the Hub, or what `find_repository` found; by
            default the small network that comes with this package), or a classifier.
        feature_extractor: As in `AudioEmbedder`, and so are `revision`, `device`, `backend`, `dtype`, `model_kwargs`,
            `feature_extractor_kwargs`, `audio_column`, `on_error`, `batch_size` and `workers`.
        labels: Give only these of the model's labels; by default all.
        top_k: How many labels to give at most; by default 5, or all of `labels`.
        threshold: Give only labels, or events, with this score or more; by default all labels, and events from 0.5.
        timestamps: Say when, in events.
        window_s: The length of a window, in seconds; 2 by default. The last one ends where the recording does. A
            recording that is shorter is a single window, as long as it is.
        hop_s: From the beginning of a window to that of the next, in seconds; half a window by default.
        label_tracks: In a job, write the events of each recording also as a label track for Audacity.

    Raises:
        HfGarError: The repository has no classifier, or its classifier has no such label.
        ValueError: An option has an unknown value, or does not go with the others.
    """

    task = "tag"
    activity = "Tagging"
    model_class = FusionForAudioClassification

    def __init__(
        self,
        model: str | Path | Repository | FusionForAudioClassification = TINY,
        feature_extractor: FusionFeatureExtractor | None = None,
        *,
        labels: Sequence[str] | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        timestamps: bool = False,
        window_s: float | None = None,
        hop_s: float | None = None,
        label_tracks: bool = False,
        revision: str | None = None,
        device: str | torch.device | None = None,
        backend: str = AUTO,
        dtype: str = AUTO,
        model_kwargs: dict[str, Any] | None = None,
        feature_extractor_kwargs: dict[str, Any] | None = None,
        audio_column: str = "audio",
        on_error: Literal["raise", "record"] = "raise",
        batch_size: int | None = None,
        workers: int | WorkerPool = 0,
    ):
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` has to be from 0 to 1, as scores are, not {threshold}.")
        if top_k is not None and (type(top_k) is not int or top_k < 1):
            raise ValueError(f"`top_k` has to be 1 or more, not {top_k!r}.")
        if isinstance(labels, str) or (labels is not None and not labels):
            raise ValueError(f"`labels` has to be a list of labels, not {labels!r}.")
        if timestamps and top_k is not None:
            raise ValueError(
                "`top_k` cannot be used with `timestamps`: every label that reaches the `threshold` is an event."
            )
        if not timestamps and (window_s is not None or hop_s is not None or label_tracks):
            raise ValueError("`window_s`, `hop_s` and `label_tracks` need `timestamps`, which asks for events.")
        super().__init__(
            model,
            feature_extractor,
            revision=revision,
            device=device,
            backend=backend,
            dtype=dtype,
            model_kwargs=model_kwargs,
            feature_extractor_kwargs=feature_extractor_kwargs,
            audio_column=audio_column,
            on_error=on_error,
            batch_size=batch_size,
            workers=workers,
        )
        if self.repository is not None:
            self.repository.require_classifier()
        every_label = [self.config.id2label[index] for index in range(self.config.num_labels)]
        self.chosen_labels = None if labels is None else list(dict.fromkeys(labels))
        self.labels = every_label if self.chosen_labels is None else self.chosen_labels
        self.label_numbers = [_find_label(label, every_label) for label in self.labels]
        self.top_k = top_k or (TOP_K if labels is None else len(self.labels))
        self.threshold = (EVENT_THRESHOLD if timestamps else 0.0) if threshold is None else threshold
        self.timestamps = timestamps
        self.label_tracks = label_tracks
        if timestamps:
            extractor = self.feature_extractor
            self.windows = window_samples(
                window_s, hop_s, extractor.sampling_rate, extractor.minimum_samples, self.config.model_type
            )

    def tag(
        self, sources: Sequence[Any], rank: int | None = None, on_loaded: Callable[[int], object] | None = None
    ) -> list[Tags | Events | Exception]:
        """Tag recordings; the arguments, errors and result are those of `process`, with `Tags` each, or `Events`."""
        return self.process(sources, rank, on_loaded=on_loaded)

    @property
    def added_features(self) -> datasets.Features:
        text, seconds, score = (datasets.Value(dtype) for dtype in ("string", "float64", "float32"))
        if self.timestamps:
            event = {"onset": seconds, "offset": seconds, "label": text, "score": score}
            return datasets.Features({"events": datasets.List(event), "duration_s": seconds})
        return datasets.Features({"predictions": datasets.List({"label": text, "score": score}), "duration_s": seconds})

    def load_from(self, repository: Repository, dtype: torch.dtype) -> FusionForAudioClassification:
        return repository.load_classifier(dtype, **self.model_kwargs)

    def load_head(self, repository: Repository) -> Head:
        model = repository.load_classifier(**self.model_kwargs)
        del model.backbone  # which runs elsewhere
        return model.classify

    @property
    def network_config(self) -> FusionConfig:
        return self.config.classifier_backbone()

    def head_of(self, model: FusionForAudioClassification) -> Head:
        return model.classify

    def keep(self, clip: ClipEmbedding) -> _ScoredClip:
        function = usual_function(self.config.problem_type)
        scores = label_scores(torch.from_numpy(clip.embedding), function)
        unknown = unknown_label(scores, function, self.config.rejection_threshold)
        return _ScoredClip(clip.start, clip.start + clip.num_samples, scores[self.label_numbers], unknown)

    def result(self, clips: Sequence[_ScoredClip], duration_s: float) -> Tags | Events:
        if not self.timestamps:
            (clip,) = clips
            if clip.unknown:
                return Tags(clip.unknown if self.chosen_labels is None else [], duration_s)
            best = best_labels(clip.scores, self.labels, self.top_k)
            return Tags([each for each in best if each["score"] >= self.threshold], duration_s)
        clips = sorted(clips, key=lambda clip: clip.start)
        spans = np.array([(clip.start, clip.stop) for clip in clips]) / self.feature_extractor.sampling_rate
        # What is unknown is not an event, whatever the threshold is.
        scores = torch.stack([torch.full_like(clip.scores, -1) if clip.unknown else clip.scores for clip in clips])
        return Events(find_events(scores.numpy(), spans, self.labels, self.threshold), duration_s)

    def columns(self, result: Tags | Events) -> dict[str, Any]:
        if isinstance(result, Events):
            return {"events": [event._asdict() for event in result.events], "duration_s": result.duration_s}
        return result._asdict()

    def describe(self) -> dict[str, Any]:
        names = json.dumps(self.config.id2label).encode()
        return {
            **super().describe(),
            "fusion_layers": self.config.classifier_backbone().layer_choice,
            "problem_type": self.config.problem_type,
            "rejection_threshold": self.config.rejection_threshold,
            "id2label_sha256": hashlib.sha256(names).hexdigest(),
            "labels": self.chosen_labels,
            "top_k": None if self.timestamps else self.top_k,
            "threshold": self.threshold,
            "window_s": self.windows and self.windows[0] / self.feature_extractor.sampling_rate,
            "hop_s": self.windows and self.windows[1] / self.feature_extractor.sampling_rate,
            "label_tracks": self.label_tracks,
        }

    def job_features(self, features: datasets.Features) -> datasets.Features:
        """With `timestamps`, the source's columns but for the names are not repeated for each event."""
        if not self.timestamps:
            return super().job_features(features)
        return datasets.Features({FILE_NAME: datasets.Value("string"), **self.added_features["events"].feature})

    def job_rows(self, table: pa.Table, names: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
        """With `timestamps`, a row for each event."""
        if not self.timestamps:
            return super().job_rows(table, names)
        lists = table["events"].combine_chunks()
        recordings, events = pc.list_parent_indices(lists), pc.list_flatten(lists)
        rows = {name: pc.struct_field(events, name) for name in Event._fields}
        named = pa.array(names, pa.string()).take(recordings)
        return pa.table({FILE_NAME: named, **rows}), recordings.to_numpy()

    def write_files(self, table: pa.Table, names: Sequence[str], folder: Path) -> None:
        if not self.label_tracks:
            return
        for name, events in zip(names, table["events"].to_pylist(), strict=True):
            path = label_track_path(folder, name)
            with write_errors(path):  # in place: whatever a run leaves that is killed, the shard is done again
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(label_track([Event(**event) for event in events]), encoding="utf-8")


def label_track_path(folder: Path, name: str) -> Path:
    """Where a job in `folder` writes the label track of a recording: under its name, wherever that leads to."""
    path = PurePath(name)
    below = ["_" if part == ".." else part for part in path.relative_to(path.anchor).parts]
    return folder / LABEL_TRACKS / Path(*below[:-1], f"{below[-1]}.txt")


def _find_label(label: str, labels: Sequence[str]) -> int:
    """The number of a label; a HfGarError that names those like it where there is none."""
    if label in labels:
        return labels.index(label)
    folded = {each.casefold(): each for each in labels}
    near = difflib.get_close_matches(str(label).casefold(), folded, SUGGESTIONS)
    meant = f"Did you mean {' or '.join(repr(folded[each]) for each in near)}?" if near else f"It has {_some(labels)}."
    raise HfGarError(f"The model has no label {label!r}. {meant}")


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - LISTED} more" if len(labels) > LISTED else ""
    return ", ".join(map(repr, labels[:LISTED])) + more
