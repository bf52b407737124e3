"""The function that `datasets.map` calls: recordings in, embeddings out."""

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import datasets
import torch

from hf_gar.backends.choice import AUTO, TORCH_DTYPES, BackendChoice, choose_backend, require_known
from hf_gar.backends.description import TORCH
from hf_gar.backends.network import Network
from hf_gar.embedding.crop import Crop
from hf_gar.embedding.decoding import ChunkDataset, ProcessPool, Unreadable, WorkerPool
from hf_gar.embedding.file_names import escape
from hf_gar.embedding.length_buckets import Embedding, LengthBuckets
from hf_gar.errors import HfGarError
from hf_gar.hub.load import Repository, find_repository
from hf_gar.models import FusionFeatureExtractor, FusionModel
from hf_gar.models.audio_loading import AudioError, check_embedding
from hf_gar.tiny import TINY

IMPORTED_IN = os.getpid()


def parse_device(device: str | torch.device) -> torch.device:
    """A device of this machine; a ValueError where PyTorch does not know it, or it is not here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    here = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is none that PyTorch knows. This machine has {', '.join(here)}."
        ) from error
    if parsed.type not in here:
        raise ValueError(f"device={device!r} is not on this machine, which has {', '.join(here)}.")
    return parsed


class AudioEmbedder:
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
        backend: What runs a repository's model: "torch", or, on the processor, "onnx" or "openvino", for which
            `hf-gar optimize` has put a network beside the weights; "auto", the default, is the fastest that is
            installed and as good as float32, as of `choose_backend`.
        dtype: That it is run in: "float32", "bfloat16", "float16", or "int8" on the other backends; "auto", the
            default, is what the backend's network is in, and of PyTorch bfloat16 where the device computes it
            natively, else float32. The embeddings are always float32.
        compile: Compile PyTorch's model first, which takes a minute or two and pays for many recordings only.
        model_kwargs: Fields of the model's configuration to replace, such as {"fusion_layers": [2, 5]}.
        feature_extractor_kwargs: Fields of the repository's feature extractor to replace, such as AST's {"mean": -4.3,
            "std": 4.6}.
        audio_column: The column with the recordings, decoded or not.
        on_error: What to do with a recording that cannot be read: "raise" an error that names it, or "record" the
            reason in the column "error" and leave the embedding empty.
        with_frames: Add the columns "frame_embeddings", (frame, D), and "frame_times", (frame,) in seconds, as well.
        crop: Bring every recording to one length first.
        batch_size: The most chunks that pass through the model at a time; by default as many as its memory is meant
            for.
        workers: Processes that decode recordings while the model works, or a pool of them; by default this one does.
    """

    def __init__(
        self,
        model: str | Path | Repository | FusionModel = TINY,
        feature_extractor: FusionFeatureExtractor | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        backend: str = AUTO,
        dtype: str = AUTO,
        compile: bool = False,  # noqa: A002 - as PyTorch calls it
        model_kwargs: dict[str, Any] | None = None,
        feature_extractor_kwargs: dict[str, Any] | None = None,
        audio_column: str = "audio",
        on_error: Literal["raise", "record"] = "raise",
        with_frames: bool = False,
        crop: Crop | None = None,
        batch_size: int | None = None,
        workers: int | WorkerPool = 0,
    ):
        require_known(backend, dtype)
        if on_error not in ("raise", "record"):
            raise ValueError(f'on_error has to be "raise" or "record", not {on_error!r}.')
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size has to be 1 or more, not {batch_size}.")
        self.device = None if device is None else str(parse_device(device))
        self.backend = backend
        self.dtype = dtype
        self.compile = compile
        self.audio_column = audio_column
        self.on_error = on_error
        self.with_frames = with_frames
        self.crop = crop
        self.batch_size = batch_size
        self.pool = ProcessPool(workers) if isinstance(workers, int) else workers
        self.repository: Repository | None = None
        self.model_kwargs = model_kwargs or {}
        self._model: Network | None = None
        if isinstance(model, FusionModel):
            if feature_extractor is None:
                raise ValueError("A model comes with its feature extractor: pass feature_extractor as well.")
            of_repository = (self.model_kwargs, feature_extractor_kwargs, revision, dtype != AUTO, backend != AUTO)
            if any(of_repository) or compile:
                raise ValueError(
                    "model_kwargs, feature_extractor_kwargs, revision, backend, dtype and compile go with a "
                    "repository; a model is already built."
                )
            self._given_model: FusionModel | None = model
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
        return {**self.__dict__, "_model": None}

    def __call__(
        self, batch: dict[str, list], rank: int | None = None, on_loaded: Callable[[int], object] | None = None
    ) -> dict[str, list]:
        """Embed the recordings of a batch of rows, whose crops depend on their column "split", if they have one.

        Args:
            batch: The rows, column by column.
            rank: The process, where `map` runs `with_rank`.
            on_loaded: As of `embed`.

        Returns:
            The columns that are added.
        """
        if self.audio_column not in batch:
            raise HfGarError(
                f"There is no column {self.audio_column!r} to embed, only {', '.join(map(repr, batch))}. "
                "Name the one with the recordings as audio_column."
            )
        splits = batch.get("split", [None] * len(batch[self.audio_column]))
        results = self.embed(batch[self.audio_column], rank, splits, on_loaded)
        done = [result if isinstance(result, Embedding) else None for result in results]
        columns: dict[str, list] = {
            "embedding": [result and result.clip for result in done],
            "duration_s": [result and result.duration_s for result in done],
        }
        if self.with_frames:
            columns["frame_embeddings"] = [result and result.frames for result in done]
            columns["frame_times"] = [result and result.frame_times for result in done]
        if self.on_error == "record":
            columns["error"] = [None if isinstance(result, Embedding) else escape(str(result)) for result in results]
        return columns

    def embed(
        self,
        sources: Sequence[Any],
        rank: int | None = None,
        splits: Sequence[str | None] | None = None,
        on_loaded: Callable[[int], object] | None = None,
    ) -> list[Embedding | Exception]:
        """Embed recordings of any length, each anything that `load_audio` takes.

        Args:
            sources: The recordings.
            rank: The process, where there are several.
            splits: Of the recordings, for a `crop`.
            on_loaded: Called with the number of recordings that were read since the last call: progress.

        Returns:
            For each recording its `Embedding`, or, with `on_error="record"`, the error where it cannot be read.

        Raises:
            AudioError: A recording cannot be read (with `on_error="raise"`).
            OSError: A file is missing or cannot be read (likewise).
        """
        model = self.load_model(rank)  # first: it makes PyTorch safe in a forked process
        batch = LengthBuckets(model, self.feature_extractor, self.batch_size, self.with_frames)
        names: dict[int, str] = {}
        num_samples: dict[int, int] = {}
        errors: dict[int, Exception] = {}
        dataset = ChunkDataset(sources, self.feature_extractor, self.crop, splits, batch.takes_waveforms)
        for item in self.pool.load(dataset):
            if isinstance(item, Unreadable):
                self._raise_or_record(item.error, item.recording, errors)
            else:
                batch.add(item)
                names[item.recording], num_samples[item.recording] = item.name, item.num_samples
            if on_loaded is not None and (isinstance(item, Unreadable) or item.is_last):
                on_loaded(1)
        batch.run()
        embeddings = batch.merge(num_samples)
        for index, embedding in embeddings.items():
            try:
                check_embedding(embedding.clip, names[index])
            except AudioError as error:
                self._raise_or_record(error, index, errors)
        return [errors.get(index) or embeddings[index] for index in range(len(sources))]

    def _raise_or_record(self, error: Exception, index: int, errors: dict[int, Exception]) -> None:
        if self.on_error == "raise":
            raise error
        errors.setdefault(index, error)

    def replaced(self, **attributes: Any) -> "AudioEmbedder":
        """The same embedder with other attributes; it loads a model of its own where it is run in another way."""
        other = copy.copy(self)
        other.__dict__.update(attributes)
        how = ("device", "backend", "dtype", "compile")
        if any(getattr(other, name) != getattr(self, name) for name in how):
            other._model = None
        return other

    def output_features(self, features: datasets.Features) -> datasets.Features:
        """The columns of a mapped dataset that had `features`, without its audio."""
        kept = {name: feature for name, feature in features.items() if name != self.audio_column}
        kept["embedding"] = datasets.List(datasets.Value("float32"), length=self.config.embedding_size)
        kept["duration_s"] = datasets.Value("float64")
        if self.with_frames:
            kept["frame_embeddings"] = datasets.List(kept["embedding"])
            kept["frame_times"] = datasets.List(datasets.Value("float64"))
        if self.on_error == "record":
            kept["error"] = datasets.Value("string")
        return datasets.Features(kept)

    def choose_backend(self, rank: int | None = None) -> BackendChoice:
        """What runs a repository's model, and in which precision; `rank` is the process, where there are several.

        Raises:
            HfGarError, ValueError: As of `hf_gar.backends.choice.choose_backend`.
        """
        assert self.repository is not None
        device = self._choose_device(rank)
        return choose_backend(self.repository, self.config, device, self.backend, self.dtype, self.with_frames)

    def load_model(self, rank: int | None = None) -> Network:
        """The model, which is loaded when it is first needed; `rank` is the process, where there are several.

        Raises:
            HfGarError: The repository's weights are damaged, or the device is not there.
        """
        if os.getpid() != IMPORTED_IN:
            # This process was forked, as those of `map(num_proc=...)` are. OpenMP's threads did not come along, and
            # PyTorch would wait for them for ever; besides, the processes share the cores already.
            torch.set_num_threads(1)
        if self._model is None:
            choice = None if self.repository is None else self.choose_backend(rank)
            if choice is None or choice.network is None:
                self._model = self._load_torch(choice, self._choose_device(rank))
            else:
                assert self.repository is not None
                self._model = choice.load(self.repository, **self.model_kwargs)
        return self._model

    def _load_torch(self, choice: BackendChoice | None, device: torch.device) -> FusionModel:
        if choice is None:
            assert self._given_model is not None
            model = self._given_model.eval()
        else:
            assert self.repository is not None
            model = self.repository.load_model(TORCH_DTYPES[choice.dtype], **self.model_kwargs)
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise HfGarError(f"The model could not be moved to the device {self.device!r}: {error}") from error
        if self.compile:
            # With its weights as constants, so that normalisations become part of convolutions.
            model.compile(dynamic=True, options={"freezing": True} if device.type == "cpu" else None)
        return model

    def _choose_device(self, rank: int | None) -> torch.device:
        if self.device is not None:
            return torch.device(self.device)
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if accelerator is None or self.backend not in (AUTO, TORCH):
            return torch.device("cpu")
        return torch.device(accelerator.type, (rank or 0) % torch.accelerator.device_count())
