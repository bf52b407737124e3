"""Recordings made ready for the model: decoded, mixed, resampled, cut into chunks, and turned into spectrograms."""

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hf_gar.embedding.crop import Crop
from hf_gar.embedding.sources.file_names import escape, unescape, unescape_source
from hf_gar.errors import HfGarError
from hf_gar.models import FusionFeatureExtractor
from hf_gar.models.audio_loading import AudioError, open_recording, read_samples
from hf_gar.models.chunks import split_chunks, split_windows

# How many chunks each worker process keeps ready.
PREFETCHED = 16
# How PyTorch says that a worker process is gone, and that it was killed.
DEAD_WORKER = "DataLoader worker (pid"
KILLED = "killed by signal: Killed"
# A model has at most so many processes that decode for it, by default.
MAX_DECODERS = 8
NO_PATH = "There is no path to a recording. Give it one, or remove the row."
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class LoadedChunk(NamedTuple):
    """A chunk of a clip, a recording or a window of it: a spectrogram (time, mel), or, where the front end runs beside
    the model, a waveform (samples,).

    The recording and the chunk of the clip are known by their numbers, the clip by the sample of the recording that it
    begins at, `start`. The chunk's own frame embeddings are [first, stop) of those that it gives. `num_samples` is the
    clip's length as far as it was read, `is_last` says that this was to its end; errors call the recording `name`.
    """

    recording: int
    start: int
    number: int
    signal: np.ndarray
    first: int
    stop: int
    num_samples: int
    is_last: bool
    name: str


class RecordingEnd(NamedTuple):
    """Follows a recording's last chunk: how many clips it has, and its length in samples."""

    recording: int
    num_clips: int
    num_samples: int


class Unreadable(NamedTuple):
    """A recording, by its number, that cannot be read, or no further; and why."""

    recording: int
    error: Exception


def read_blocks(
    source: Any, sampling_rate: int, crop: Crop | None, split: str | None
) -> tuple[str, Iterator[np.ndarray]]:
    """A recording's name, and its samples at a rate in Hz, block by block, or cropped, as one."""
    refuse_what_is_no_file(source)
    recording = open_recording(unescape_source(source))
    blocks = read_samples(recording, sampling_rate)
    if crop is not None:
        blocks = iter([crop.apply(np.concatenate(list(blocks)), sampling_rate, split, recording.name)])
    return recording.name, blocks


def refuse_what_is_no_file(source: Any) -> None:
    """Raise an AudioError for what stands where a recording should, in a dataset: an error of the source's own,
    nothing, or a path that leads to no file.
    """
    parts = source if isinstance(source, dict) else {"path": source}
    if parts.get("error"):
        raise AudioError(parts["error"])
    if any(parts.get(name) is not None for name in ("bytes", "array", "raw")):
        return
    path = parts.get("path")
    if path is None or (isinstance(path, str) and not path):
        raise AudioError(NO_PATH)
    if isinstance(path, str):
        _refuse_links_and_folders(path)


def _refuse_links_and_folders(path: str) -> None:
    name = unescape(path)
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116 - any text is a path
    except (OSError, ValueError):  # that there is nothing, whoever opens it says
        if not os.path.islink(name):  # noqa: PTH114
            return
        target = escape(os.readlink(name))  # noqa: PTH115
        raise AudioError(
            f"{path} is a link to {target}, which leads nowhere. Fetch what it links to (git-annex: `git annex get`), "
            "or remove it."
        ) from None
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "pipe, socket or device"
        raise AudioError(f"{path} is a {kind}, not a file. Rename or remove it.")


# What becomes of recordings: their chunks, and then how they end.
Loaded = LoadedChunk | RecordingEnd | Unreadable


class ChunkDataset(IterableDataset):
    """The chunks of recordings, in order; worker processes of a DataLoader share the recordings among them.

    Args:
        sources: The recordings, each anything that `load_audio` takes.
        feature_extractor: Cuts them into chunks, of which it makes spectrograms.
        crop: Brings them to one length first.
        splits: Of the recordings, for `crop`.
        windows: Where they are cut into windows: the length of a window, and from one to the next, in samples.
        as_waveforms: Leave the spectrograms to whoever takes the chunks.
    """

    def __init__(
        self,
        sources: Sequence[Any],
        feature_extractor: FusionFeatureExtractor,
        crop: Crop | None,
        splits: Sequence[str | None] | None,
        windows: tuple[int, int] | None = None,
        as_waveforms: bool = False,
    ):
        self.sources = sources
        self.feature_extractor = feature_extractor
        self.crop = crop
        self.splits = splits
        self.windows = windows
        self.as_waveforms = as_waveforms

    def __iter__(self) -> Iterator[Loaded]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index in range(first, len(self.sources), step):
            try:
                yield from self._load(index)
            except (AudioError, OSError) as error:
                yield Unreadable(index, error)

    def slice(self, start: int, stop: int) -> "ChunkDataset":
        """The dataset of some of the recordings, which count from 0 there."""
        splits = None if self.splits is None else self.splits[start:stop]
        return ChunkDataset(
            self.sources[start:stop], self.feature_extractor, self.crop, splits, self.windows, self.as_waveforms
        )

    def _load(self, index: int) -> Iterator[LoadedChunk | RecordingEnd]:
        rate = self.feature_extractor.sampling_rate
        split = None if self.splits is None else self.splits[index]
        name, blocks = read_blocks(self.sources[index], rate, self.crop, split)
        num_clips = num_samples = 0
        for start, clip in self._clips(blocks):
            for number, chunk in enumerate(split_chunks(clip, self.feature_extractor)):
                signal = chunk.waveform
                if not self.as_waveforms:
                    (signal,) = self.feature_extractor.spectrograms([signal])
                num_samples = start + chunk.num_samples
                yield LoadedChunk(
                    recording=index,
                    start=start,
                    number=number,
                    signal=signal,
                    first=chunk.first,
                    stop=chunk.stop,
                    num_samples=chunk.num_samples,
                    is_last=chunk.is_last,
                    name=name,
                )
            num_clips += 1
        yield RecordingEnd(index, num_clips, num_samples)

    def _clips(self, blocks: Iterator[np.ndarray]) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
        """The recording, or its windows: where they begin, and their samples, block by block."""
        if self.windows is None:
            yield 0, blocks
            return
        for start, waveform in split_windows(blocks, *self.windows):
            yield start, iter([waveform])


class WorkerPool(Protocol):
    """What makes recordings ready for a model."""

    def load(self, dataset: ChunkDataset) -> Iterator[Loaded]:
        """The chunks of a dataset; those of a recording come in order, and then its end."""


@dataclass(frozen=True)
class ProcessPool:
    """Makes recordings ready in so many worker processes, or in this one where there are none."""

    workers: int = 0

    def __post_init__(self):
        if self.workers < 0:
            raise ValueError(f"workers has to be 0 or more, not {self.workers}.")

    def load(self, dataset: ChunkDataset) -> Iterator[Loaded]:
        """The chunks of a dataset; those of a recording come in order, and then its end.

        Raises:
            HfGarError: A worker process died.
        """
        workers = min(self.workers, len(dataset.sources))
        if workers == 0:
            yield from dataset
            return
        loader = DataLoader(
            dataset,
            batch_size=None,
            collate_fn=_unchanged,  # arrays go through pipes: shared memory is small in many containers
            num_workers=workers,
            prefetch_factor=PREFETCHED,
            worker_init_fn=partial(_start_worker, os.getpid()),
        )
        with _stop_signals_wait():  # a loader that is stopped while it starts its processes prints an error of its own
            chunks = iter(loader)
        try:
            yield from chunks
        except RuntimeError as error:
            if not str(error).startswith(DEAD_WORKER):  # an error of its own, which is raised here again
                raise
            remedy = "It was killed, perhaps for want of memory: run the command again with fewer workers."
            raise HfGarError(
                f"A process that decoded recordings died: {error}\n"
                f"{remedy if KILLED in str(error) else 'Run the command again.'}"
            ) from error


def share_decoders(num_processors: int, num_models: int) -> int:
    """Processes that decode for each model: together as many as there are processors, up to a bound."""
    return max(1, min(MAX_DECODERS, num_processors // num_models))


@contextlib.contextmanager
def _stop_signals_wait() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while the block runs."""
    if threading.current_thread() is not threading.main_thread():  # only that one is interrupted
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _unchanged(item: Any) -> Any:
    return item


def _start_worker(parent: int, worker: int) -> None:
    # Ctrl-C is for the main process, which ends its workers with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Not os.getppid(): a parent that has ended by now is no longer the one that it gives.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    give_way()


def give_way() -> None:
    """Make this process one that decodes beside a model."""
    torch.set_num_threads(1)
    # A model on the processor shares it with the decoders. Its threads wait for each other, so that all are slowed down
    # where a decoder takes a part of one core: decoders get what the model leaves, and all cores while it waits.
    if hasattr(os, "nice"):
        os.nice(19)


def _end_with(parent: int) -> None:
    """End this process when its parent was killed: it may be waiting for ever to hand over what it has decoded."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
