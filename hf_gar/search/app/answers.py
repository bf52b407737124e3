"""What the app answers to a sound: its labels, the recordings that are like it, and its place on the map."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hf_gar.embedding.jobs.recording_files import HUB_DATASETS, fetch_recordings, find_recordings, split_hub_address
from hf_gar.embedding.jobs.results import JobResults
from hf_gar.embedding.sources.file_names import AUDIO_SUFFIXES
from hf_gar.models.audio_loading import AudioError, open_recording
from hf_gar.models.chunks import WINDOW_S
from hf_gar.models.pipeline_audio_classification import FusionAudioClassificationPipeline
from hf_gar.search.app.label_plot import draw_labels
from hf_gar.search.index.embedding_index import EmbeddingIndex
from hf_gar.search.maps.page import describe_rows
from hf_gar.search.maps.query_map import QueryMap
from hf_gar.search.queries import QueryEmbedder

MOST_SIMILAR = 10
MAX_WINDOWS = 200  # of a long recording, whose windows are longer


class Hit(NamedTuple):
    """A recording that is like the query: how similar, from -1 to 1, its name, and what its columns say.

    `audio` is its rate in Hz and its first 30 s, mono, (samples,) int16; None where it is not here.
    """

    similarity: float
    name: str
    details: str
    audio: tuple[int, np.ndarray] | None


class Answer(NamedTuple):
    """Plotly's figures of the labels over time, where the model has a classifier, and of the map; and what is alike."""

    labels: Any | None
    hits: list[Hit]
    map: Any


class Answers:
    """Answers to sounds. The model and the map are loaded once.

    Args:
        index: Of the job.
        model: Where the job's model is now, by default where it was.
        device: As in PyTorch.
        color: The column that colours the map.
        audio_root: The folder of the recordings, where it is not the source's; or hf://datasets/ORG/NAME, a dataset on
            the Hub that has them as files.

    Raises:
        HfGarError: The model is gone, or another one than the job's; or as in `QueryMap`.
    """

    def __init__(
        self,
        index: EmbeddingIndex,
        *,
        model: str | Path | None = None,
        device: str | None = None,
        color: str | None = None,
        audio_root: str | Path | None = None,
    ):
        self.index = index
        if isinstance(audio_root, str) and audio_root.startswith(HUB_DATASETS):
            split_hub_address(audio_root)  # raises
            self._find_files: Callable[[JobResults], list[Path | None]] = partial(fetch_recordings, address=audio_root)
        else:
            self._find_files = partial(find_recordings, audio_root=audio_root)
        self.embedder = index.embedder(model, device)
        self.classify = _classification_pipeline(self.embedder)
        self.map = QueryMap(index, color)

    def answer(self, path: str | Path) -> Answer:
        """What is to say of a recording.

        Raises:
            AudioError: It cannot be read.
            HfGarError: It is silent.
        """
        # Under its own name: the path is that of a temporary file.
        query = {"bytes": Path(path).read_bytes(), "path": Path(path).name}
        (embedding,) = self.embedder.embed([query])
        labels = None
        if self.classify is not None:
            window_s = max(WINDOW_S, 2 * embedding.duration_s / MAX_WINDOWS)
            labels = draw_labels(self.classify(query, top_k=None, timestamps=True, window_s=window_s))
        clip = embedding.clip[None]
        return Answer(labels, self._hits(clip), self.map.figure(self.index.standardize(clip)))

    def _hits(self, embedding: np.ndarray) -> list[Hit]:
        found = self.index.search_embeddings(embedding, min(MOST_SIMILAR, len(self.index)))
        numbers, similarities = found["row"][:], found["similarity"][:]
        order = np.argsort(numbers).tolist()
        rows = self.index.job.read(np.sort(numbers), with_embeddings=False)
        files, about = self._find_files(rows), describe_rows(rows.rows)
        hits = [
            Hit(similarities[place], row["name"], ", ".join(map(": ".join, row["details"])), _listen(file))
            for place, row, file in zip(order, about, files, strict=True)
        ]
        return [hits[place] for place in np.argsort(order)]


def _classification_pipeline(embedder: QueryEmbedder) -> FusionAudioClassificationPipeline | None:
    """What classifies recordings with the classifier of the job's model; None where it has none."""
    repository, device = embedder.embedder.repository, embedder.embedder.load_model().device
    if repository is None or not repository.has_classifier:
        return None
    classifier, extractor = repository.load_classifier(), repository.load_feature_extractor()
    return FusionAudioClassificationPipeline(model=classifier, feature_extractor=extractor, device=device)


def _listen(path: Path | None) -> tuple[int, np.ndarray] | None:
    """A recording's rate in Hz and its first 30 s, mono, (samples,) int16; None where it is none, or not here."""
    # By name alone, so that a table of wrong paths does not hand out other files.
    if path is None or path.suffix.lower() not in AUDIO_SUFFIXES:
        return None
    try:
        recording = open_recording(str(path))
        block = next(recording.blocks)
    except (AudioError, OSError, ImportError):
        return None
    assert recording.sampling_rate is not None
    return recording.sampling_rate, (np.clip(block, -1, 1) * np.iinfo(np.int16).max).astype(np.int16)
