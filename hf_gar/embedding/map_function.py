"""What `datasets.map` and jobs call: a model, recordings in, columns out."""

import copy
import hashlib
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import datasets
import numpy as np
import pyarrow as pa
import torch

from hf_gar.backends.choice import AUTO, TORCH_DTYPES, BackendChoice, choose_backend, require_known
from hf_gar.backends.description import TORCH
from hf_gar.backends.network import Network
from hf_gar.embedding.crop import Crop
from hf_gar.embedding.decoding import ChunkDataset, LoadedChunk, ProcessPool, RecordingEnd, Unreadable, WorkerPool
from hf_gar.embedding.devices import parse_device
from hf_gar.embedding.length_buckets import ClipEmbedding, LengthBuckets
from hf_gar.embedding.sources.file_names import escape
from hf_gar.embedding.sources.tables import FILE_NAME
from hf_gar.errors import HfGarError
from hf_gar.hub.load import Repository, find_repository
from hf_gar.models import FusionConfig, FusionFeatureExtractor, FusionPreTrainedModel
from hf_gar.models.audio_loading import AudioError, check_embedding

IMPORTED_IN = os.getpid()
AnyFunction = TypeVar("AnyFunction", bound="MapFunction")
# What is made of clips' embeddings, (batch, D), beside the network.
Head = Callable[[torch.Tensor], torch.Tensor]


class MapFunction(ABC):
    """Base of what makes columns of recordings: a callable for `dataset.map(function, batched=True)`.

    It can be pickled, takes `num_proc` and `with_rank` (one GPU a process), loads its model once in each process, and
    hashes by the model's name, revision, weights and settings, so that the cache of `map` hits.

    A recording is embedded as a single clip or, with `windows`, as several. A subclass says what is kept of a clip's
    embedding, which result a recording has, and in which columns it is stored.

    Args:
        model: A model repository (a folder, a name on the Hub, or what `find_repository` found), or a model, which is
            put into evaluation mode and moved to the device.
        feature_extractor: Where `model` is a model: its feature extractor, which takes over the model's `max_length`.
        revision: A branch, tag or commit, for a name on the Hub.
        device: As in PyTorch; by default a GPU where there is one.
        backend: What runs a repository's model: "torch", "onnx", "openvino" or "auto", as in `choose_backend`.
        dtype: Precision of a repository's model: "float32", "bfloat16", "float16", "int8" or "auto", likewise.
        model_kwargs: Fields of the model's configuration to replace.
        feature_extractor_kwargs: Fields of the repository's feature extractor to replace.
        audio_column: The column with the recordings, decoded or not.
        on_error: What to do with a recording that cannot be read: "raise" an error that names it, or "record" the
            reason in the column "error" and leave the other columns empty.
        batch_size: The most chunks in a batch; by default as many as fit into the memory that a batch may take.
        workers: Processes that decode recordings while the model works, or a pool of them; by default this one does.
    """

    # What a job with this function is called in `job.json`, and beside its progress.
    task: ClassVar[str]
    activity: ClassVar[str]
    model_class: ClassVar[type[FusionPreTrainedModel]]
    # How recordings are brought to one length, and cut into windows: their length and hop, in samples.
    crop: Crop | None = None
    windows: tuple[int, int] | None = None
    # Whether frame embeddings are kept: a recording's columns then have as much data as the recording.
    with_frames = False

    def __init__(
        self,
        model: str | Path | Repository | FusionPreTrainedModel,
        feature_extractor: FusionFeatureExtractor | None,
        *,
        revision: str | None,
        device: str | torch.device | None,
        backend: str,
        dtype: str,
        model_kwargs: dict[str, Any] | None,
        feature_extractor_kwargs: dict[str, Any] | None,
        audio_column: str,
        on_error: Literal["raise", "record"],
        batch_size: int | None,
        workers: int | WorkerPool,
    ):
        require_known(backend, dtype)
        if on_error not in ("raise", "record"):
            raise ValueError(f'on_error has to be "raise" or "record", not {on_error!r}.')
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size has to be 1 or more, not {batch_size}.")
        self.device = None if device is None else str(parse_device(device))
        self.backend = backend
        self.dtype = dtype
        self.audio_column = audio_column
        self.on_error = on_error
        self.batch_size = batch_size
        self.pool = ProcessPool(workers) if isinstance(workers, int) else workers
        self.repository: Repository | None = None
        self.model_kwargs = model_kwargs or {}
        self._loaded: tuple[Network, Head | None] | None = None
        if isinstance(model, FusionPreTrainedModel):
            if not isinstance(model, self.model_class):
                raise ValueError(
                    f"model is a {type(model).__name__}, but {type(self).__name__} takes a {self.model_class.__name__}."
                )
            if feature_extractor is None:
                raise ValueError("A model comes with its feature extractor: pass feature_extractor as well.")
            if (
                self.model_kwargs
                or feature_extractor_kwargs
                or revision is not None
                or (backend, dtype) != (AUTO, AUTO)
            ):
                raise ValueError(
                    "model_kwargs, feature_extractor_kwargs, revision, backend and dtype go with a repository; a model "
                    "is already built."
                )
            self._given_model: Any = model
            self.feature_extractor = feature_extractor
            self.config = model.config
        else:
            if feature_extractor is not None and feature_extractor_kwargs:
                raise ValueError("Pass feature_extractor or feature_extractor_kwargs, not both.")
            self._given_model = None
            self.repository = find_repository(model, revision)
            self.feature_extractor = feature_extractor or self.repository.load_feature_extractor(
                **(feature_extractor_kwargs or {})
            )
            self.config = self.repository.load_config(**self.model_kwargs)
        self.feature_extractor.match(self.config)

    def __getstate__(self) -> dict[str, Any]:
        # A process that unpickles this loads its own model; and `datasets` hashes the pickle.
        return {**self.__dict__, "_loaded": None}

    @property
    @abstractmethod
    def added_features(self) -> datasets.Features:
        """The columns that are added to those of the recordings."""

    @abstractmethod
    def load_from(self, repository: Repository, dtype: torch.dtype) -> FusionPreTrainedModel:
        """The repository's model for PyTorch, in evaluation mode."""

    @property
    def network_config(self) -> FusionConfig:
        """The configuration of the network that embeds clips."""
        return self.config

    def head_of(self, model: FusionPreTrainedModel) -> "Head | None":
        """What a model for PyTorch makes of its network's embeddings; by default nothing."""
        return None

    def load_head(self, repository: Repository) -> "Head | None":
        """The same, of a repository whose network runs elsewhere."""
        return None

    @abstractmethod
    def keep(self, clip: ClipEmbedding) -> Any:
        """What is kept of a clip, a recording or a window of it."""

    @abstractmethod
    def result(self, clips: Sequence[Any], duration_s: float) -> Any:
        """The result of a recording, of what was kept of its clips."""

    @abstractmethod
    def columns(self, result: Any) -> dict[str, Any]:
        """A recording's values of the columns that are added."""

    def __call__(
        self, batch: dict[str, list], rank: int | None = None, on_loaded: Callable[[int], object] | None = None
    ) -> dict[str, list]:
        """Process the recordings of a batch of rows, whose crops depend on their column "split", if they have one.

        Args:
            batch: The rows, column by column.
            rank: The process, where `map` runs `with_rank`.
            on_loaded: Called with the number of recordings that were read since the last call: progress.

        Returns:
            The columns that are added.
        """
        rows = list(self.added_rows(batch, rank, on_loaded))
        return {name: [row[name] for row in rows] for name in self._added_columns}

    def added_rows(
        self, batch: dict[str, list], rank: int | None = None, on_loaded: Callable[[int], object] | None = None
    ) -> Iterator[dict[str, Any]]:
        """What is added to each row of a batch, as soon as it is there; the arguments are those of a call."""
        if self.audio_column not in batch:
            raise HfGarError(
                f"There is no column {self.audio_column!r} with recordings, only {', '.join(map(repr, batch))}. "
                "Name the one with the recordings as audio_column."
            )
        sources = batch[self.audio_column]
        columns = self._added_columns
        for result in self.results(sources, rank, batch.get("split"), on_loaded):
            values = {"error": escape(str(result))} if isinstance(result, Exception) else self.columns(result)
            yield {name: values.get(name) for name in columns}

    @property
    def _added_columns(self) -> list[str]:
        return list(self.output_features(datasets.Features()))

    def process(
        self,
        sources: Sequence[Any],
        rank: int | None = None,
        splits: Sequence[str | None] | None = None,
        on_loaded: Callable[[int], object] | None = None,
    ) -> list[Any]:
        """The result of each recording, or, with `on_error="record"`, the error where it cannot be read.

        Args:
            sources: Recordings of any length, each anything that `load_audio` takes.
            rank: The process, where there are several.
            splits: Of the recordings, for a `crop`.
            on_loaded: As in a call.

        Raises:
            AudioError: A recording cannot be read (with `on_error="raise"`).
            OSError: A file is missing or cannot be read (likewise).
        """
        return list(self.results(sources, rank, splits, on_loaded))

    def results(
        self,
        sources: Sequence[Any],
        rank: int | None = None,
        splits: Sequence[str | None] | None = None,
        on_loaded: Callable[[int], object] | None = None,
    ) -> Iterator[Any]:
        """The results of `process`, in order, each as soon as it and those before it are there."""
        network, head = self._load(rank)  # first: it makes PyTorch safe in a forked process
        buckets = LengthBuckets(network, self.feature_extractor, self.batch_size, self.with_frames, head)
        dataset = ChunkDataset(
            sources, self.feature_extractor, self.crop, splits, self.windows, buckets.takes_waveforms
        )
        results = _Results(self)
        for clip in buckets.embed(self._chunks(dataset, results, on_loaded)):
            results.add_clip(clip)
            yield from results.take()
        yield from results.take()

    def _chunks(
        self, dataset: ChunkDataset, results: "_Results", on_loaded: Callable[[int], object] | None
    ) -> Iterator[LoadedChunk]:
        """The chunks of recordings; the results are told when a recording ends."""
        for item in self.pool.load(dataset):
            if isinstance(item, LoadedChunk):
                yield item
                continue
            if isinstance(item, Unreadable):
                results.fail(item.recording, item.error)
            else:
                results.add_end(item)
            if on_loaded is not None:
                on_loaded(1)

    def replaced(self: AnyFunction, **attributes: Any) -> AnyFunction:
        """The same function with other attributes; it loads a model of its own where it is run in another way."""
        other = copy.copy(self)
        other.__dict__.update(attributes)
        if any(getattr(other, name) != getattr(self, name) for name in ("device", "backend", "dtype")):
            other._loaded = None
        return other

    def output_features(self, features: datasets.Features) -> datasets.Features:
        """The columns of a mapped dataset that had `features`, without its audio."""
        kept = {name: feature for name, feature in features.items() if name != self.audio_column}
        error = {"error": datasets.Value("string")} if self.on_error == "record" else {}
        return datasets.Features({**kept, **self.added_features, **error})

    def require_new_columns(self, names: Sequence[str]) -> None:
        """Raise a HfGarError where a dataset with the columns `names` has one already that is added."""
        added = sorted({*self.added_features, "error"} & set(names))
        if added:
            raise HfGarError(f"The source already has a column {', '.join(added)}. Rename or remove it first.")

    def choose_backend(self, rank: int | None = None) -> BackendChoice:
        """What runs a repository's model, and in which precision; `rank` is the process, where there are several.

        Raises:
            HfGarError, ValueError: As in `hf_gar.backends.choice.choose_backend`.
        """
        assert self.repository is not None
        device = self._choose_device(rank)
        return choose_backend(self.repository, self.network_config, device, self.backend, self.dtype, self.with_frames)

    def load_model(self, rank: int | None = None) -> Network:
        """The network, which is loaded when it is first needed; `rank` is the process, where there are several.

        Raises:
            HfGarError: The repository's weights are damaged, what is to run them is not there, or the device is not.
        """
        return self._load(rank)[0]

    def _load(self, rank: int | None) -> "tuple[Network, Head | None]":
        """The network, and what is made of its embeddings beside it."""
        if os.getpid() != IMPORTED_IN:
            # This process was forked, as those of `map(num_proc=...)` are. OpenMP's threads did not come along, and
            # PyTorch would wait for them for ever; besides, the processes share the cores already.
            torch.set_num_threads(1)
        if self._loaded is None:
            choice = None if self.repository is None else self.choose_backend(rank)
            if choice is None or choice.network is None:
                self._loaded = self._load_torch(choice, self._choose_device(rank))
            else:
                assert self.repository is not None
                self._loaded = choice.load(self.repository, self.network_config), self.load_head(self.repository)
        return self._loaded

    def _load_torch(self, choice: BackendChoice | None, device: torch.device) -> "tuple[Network, Head | None]":
        if choice is None:
            model = self._given_model.eval()
        else:
            assert self.repository is not None
            model = self.load_from(self.repository, TORCH_DTYPES[choice.dtype])
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise HfGarError(f"The model could not be moved to the device {self.device!r}: {error}") from error
        return model.base_model, self.head_of(model)

    def _choose_device(self, rank: int | None) -> torch.device:
        if self.device is not None:
            return torch.device(self.device)
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if accelerator is None or self.backend not in (AUTO, TORCH):
            return torch.device("cpu")
        return torch.device(accelerator.type, (rank or 0) % torch.accelerator.device_count())

    # What a job needs to know.

    def describe(self) -> dict[str, Any]:
        """What tells a job with this function from another, as JSON has it."""
        assert self.repository is not None
        network = self.choose_backend().network
        return {
            "task": self.task,
            "model": self.repository.name,
            "revision": self.repository.revision,
            "weights_sha256": self.repository.weights_sha256,
            "fusion_layers": self.config.layer_choice,
            "max_length": self.feature_extractor.max_length,
            "backend": self.backend,
            "dtype": self.dtype,
            "network_sha256": None if network is None else network.digest,
            "feature_extractor_sha256": hashlib.sha256(self.feature_extractor.to_json_string().encode()).hexdigest(),
        }

    def job_features(self, features: datasets.Features) -> datasets.Features:
        """The columns of a job's Parquet, of a source that has `features`: those of a mapped dataset, or else, beside
        the recordings' names, those that are added.
        """
        kept = {name: feature for name, feature in features.items() if name != self.audio_column}
        named = {} if kept else {FILE_NAME: datasets.Value("string")}
        return datasets.Features({**named, **kept, **self.added_features})

    def job_rows(self, table: pa.Table, names: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
        """The rows of a job's Parquet, and the number in `table` of the recording that each is about, (row,).

        Args:
            table: Mapped rows, none of which failed.
            names: Of their recordings.
        """
        return table, np.arange(len(table))

    def write_files(self, table: pa.Table, names: Sequence[str], folder: Path) -> None:  # noqa: B027 - may be nothing
        """Write what a job's folder is to hold beside the Parquet; the arguments are those of `job_rows`."""


class _Results:
    """The results of recordings, which are taken in order.

    Each is made as soon as all clips of its recording are there, since what is kept of many windows may be much.
    """

    def __init__(self, function: MapFunction):
        self.function = function
        self.made: dict[int, Any] = {}
        self.num_taken = 0
        self.clips: dict[int, list[Any]] = defaultdict(list)
        self.ends: dict[int, RecordingEnd] = {}

    def take(self) -> Iterator[Any]:
        """The next results, as far as they are there."""
        while self.num_taken in self.made:
            yield self.made.pop(self.num_taken)
            self.num_taken += 1

    def fail(self, recording: int, error: Exception) -> None:
        """A recording's result is an error, which is raised where it is not to be recorded."""
        if self.function.on_error == "raise":
            raise error
        if recording >= self.num_taken:  # else it has failed before
            self.made.setdefault(recording, error)

    def add_end(self, end: RecordingEnd) -> None:
        self.ends[end.recording] = end
        self._finish(end.recording)

    def add_clip(self, clip: ClipEmbedding) -> None:
        try:
            check_embedding(clip.embedding, clip.name)
        except AudioError as error:
            self.fail(clip.recording, error)
            return
        self.clips[clip.recording].append(self.function.keep(clip))
        self._finish(clip.recording)

    def _finish(self, recording: int) -> None:
        end = self.ends.get(recording)
        if end is not None and len(self.clips[recording]) == end.num_clips:
            duration_s = end.num_samples / self.function.feature_extractor.sampling_rate
            self.made[recording] = self.function.result(self.clips.pop(recording), duration_s)
