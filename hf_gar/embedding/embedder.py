"""Embed recordings: the function that `datasets.map` calls, recordings in, embeddings out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np
import torch

from hf_gar.backends.choice import AUTO
from hf_gar.embedding.crop import Crop
from hf_gar.embedding.decoding import WorkerPool
from hf_gar.embedding.length_buckets import ClipEmbedding
from hf_gar.embedding.map_function import MapFunction
from hf_gar.hub.load import Repository
from hf_gar.models import FusionFeatureExtractor, FusionModel
from hf_gar.tiny import TINY


class Embedding(NamedTuple):
    """A recording's embedding, in float32: of the clip, (D,), and of its frames, (frame, D), where they were wanted.

    `frame_times` are the frames' centres, in seconds, (frame,).
    """

    clip: np.ndarray
    duration_s: float
    frames: np.ndarray | None
    frame_times: np.ndarray | None


class AudioEmbedder(MapFunction):
    """A callable for `dataset.map(embedder, batched=True)`, which adds the columns "embedding" and "duration_s".

    It can be pickled, takes `num_proc` and `with_rank` (one GPU a process), loads its model once in each process, and
    hashes by the model's name, revision, weights and settings, so that the cache of `map` hits.

    With `on_error="record"`, pass `features=embedder.output_features(dataset.features)` to `map` as well: it would
    guess the types from the first rows, where nothing may have failed.

    ```python
    embedder = AudioEmbedder("org/cnn14-fusion")
    dataset = dataset.map(embedder, batched=True, batch_size=16, remove_columns="audio")
    ```

    Args:
        model: A model repository (a folder, a name on the Hub, or what `find_repository` found; by default the small
            network that comes with this package), or a model, which is put into evaluation mode and moved to the
            device.
        feature_extractor: Where `model` is a model: its feature extractor, which takes over the model's `max_length`.
        revision: A branch, tag or commit, for a name on the Hub.
        device: As in PyTorch; by default a GPU where there is one.
        backend: What runs a repository's model: "torch", "onnx" or "openvino". "auto", the default, is the fastest that
            is installed and that `optimize_repository` has shown to be as good as float32; else PyTorch.
        dtype: Precision of a repository's model: "float32", "bfloat16", "float16" or "int8"; "auto", the default, is
            that of the network that `backend` chooses: with PyTorch bfloat16 where the device computes it natively,
            else float32. The embeddings are always float32.
        model_kwargs: Fields of the model's configuration to replace, such as {"fusion_layers": [2, 5]}.
        feature_extractor_kwargs: Fields of the repository's feature extractor to replace, such as AST's {"mean": -4.3,
            "std": 4.6}.
        audio_column: The column with the recordings, decoded or not.
        on_error: What to do with a recording that cannot be read: "raise" an error that names it, or "record" the
            reason in the column "error" and leave the embedding empty.
        with_frames: Add the columns "frame_embeddings", (frame, D), and "frame_times", (frame,) in seconds, as well.
        crop: Bring every recording to one length first.
        batch_size: The most chunks in a batch; by default as many as fit into the memory that a batch may take.
        workers: Processes that decode recordings while the model works, or a pool of them; by default this one does.
    """

    task = "embed"
    activity = "Embedding"
    model_class = FusionModel

    def __init__(
        self,
        model: str | Path | Repository | FusionModel = TINY,
        feature_extractor: FusionFeatureExtractor | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        backend: str = AUTO,
        dtype: str = AUTO,
        model_kwargs: dict[str, Any] | None = None,
        feature_extractor_kwargs: dict[str, Any] | None = None,
        audio_column: str = "audio",
        on_error: Literal["raise", "record"] = "raise",
        with_frames: bool = False,
        crop: Crop | None = None,
        batch_size: int | None = None,
        workers: int | WorkerPool = 0,
    ):
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
        self.with_frames = with_frames
        self.crop = crop

    def embed(
        self,
        sources: Sequence[Any],
        rank: int | None = None,
        splits: Sequence[str | None] | None = None,
        on_loaded: Callable[[int], object] | None = None,
    ) -> list[Embedding | Exception]:
        """Embed recordings; the arguments, errors and result are those of `process`, with an `Embedding` each."""
        return self.process(sources, rank, splits, on_loaded)

    @property
    def added_features(self) -> datasets.Features:
        embedding = datasets.List(datasets.Value("float32"), length=self.config.embedding_size)
        features = {"embedding": embedding, "duration_s": datasets.Value("float64")}
        if self.with_frames:
            features["frame_embeddings"] = datasets.List(embedding)
            features["frame_times"] = datasets.List(datasets.Value("float64"))
        return datasets.Features(features)

    def load_from(self, repository: Repository, dtype: torch.dtype) -> FusionModel:
        return repository.load_model(dtype, **self.model_kwargs)

    def keep(self, clip: ClipEmbedding) -> ClipEmbedding:
        return clip

    def result(self, clips: Sequence[ClipEmbedding], duration_s: float) -> Embedding:
        (clip,) = clips
        times = None if clip.frames is None else self.feature_extractor.frame_times(len(clip.frames))
        return Embedding(clip.embedding, duration_s, clip.frames, times)

    def columns(self, result: Embedding) -> dict[str, Any]:
        return {
            "embedding": result.clip,
            "duration_s": result.duration_s,
            "frame_embeddings": result.frames,
            "frame_times": result.frame_times,
        }

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "frames": self.with_frames, "crop": self.crop and asdict(self.crop)}
