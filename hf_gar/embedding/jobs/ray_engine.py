"""Run the shards of a job on a Ray cluster: decoding on its processors, the model on its GPUs or processors."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from datasets.utils import tqdm

from hf_gar.backends.description import TORCH
from hf_gar.embedding.decoding import ChunkDataset, Loaded, give_way, share_decoders
from hf_gar.embedding.jobs.job import Job
from hf_gar.embedding.jobs.local_engine import available_devices
from hf_gar.errors import HfGarError

try:
    import ray
except ImportError as error:
    raise ImportError('The engine "ray" needs Ray: pip install "hf_gar[ray]"') from error

# Recordings that a decoder takes at most, chunks that it hands over at a time, and how many hand-overs it is ahead.
RECORDINGS_AT_ONCE = 64
CHUNKS_AT_ONCE = 16
AHEAD = 4
# How often Ray does a shard again whose worker was lost: one that kills its workers is an error in the end.
RETRIES = 10


@dataclass(frozen=True)
class RayEngine:
    """Runs shards on a Ray cluster; a shard whose worker is lost is done again by another.

    The nodes need this package, the source's files and the job's folder under the same paths.

    Args:
        address: Of the cluster, as in `ray.init`; by default the one that RAY_ADDRESS names, or a new one here.
        models: Models at work at a time; by default one for each GPU, or for each processor where there are none.
        gpus_per_model: GPUs for each model, 0 for the processor; by default 1 where the cluster has any.
    """

    address: str | None = None
    models: int | None = None
    gpus_per_model: float | None = None

    @property
    def device(self) -> str:
        """The first of this machine, which decides on the backend and precision of all."""
        return "cpu" if self.gpus_per_model == 0 else available_devices()[0]

    def run(self, job: Job, shards: Sequence[int], retry_failed: bool) -> None:
        """Do shards of a job.

        Raises:
            HfGarError: The cluster cannot be reached or is too small, or a shard fails.
        """
        is_ours = not ray.is_initialized()
        if is_ours:
            try:
                ray.init(address=self.address, log_to_driver=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise HfGarError(f"There is no Ray cluster at {self.address}: {error}") from error
        try:
            resources = ray.cluster_resources()
            gpus = self.gpus_per_model if self.gpus_per_model is not None else float(resources.get("GPU", 0) > 0)
            available = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1)
            count = min(self.models or int(available), len(shards))
            if count < 1 or count > available:
                raise HfGarError(
                    f"The cluster has {resources.get('CPU', 0):g} processors and {resources.get('GPU', 0):g} GPUs, too "
                    f"few for {count} models with {gpus:g} GPUs each. Ask for fewer models, or fewer GPUs for each."
                )
            _run(job, shards, count, gpus, share_decoders(int(resources.get("CPU", 1)), count), retry_failed)
        finally:
            if is_ours:
                ray.shutdown()


def _run(job: Job, shards: Sequence[int], count: int, gpus: float, decoders: int, retry_failed: bool) -> None:
    worker_class = ray.remote(num_cpus=0 if gpus else 1, num_gpus=gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(
        _Worker
    )
    shared_job = ray.put(job)
    waiting = deque(shards)
    busy: set[int] = set()  # shards that another run had locked; they are tried once more, as it may have died
    # A worker gets its first shard when it is there: Ray may not find a place for all of them.
    running: dict[Any, tuple[Any, int | None]] = {}
    for _ in range(count):
        worker = worker_class.remote()
        running[worker.is_ready.remote()] = worker, None
    left = len(shards)
    with tqdm(total=left, desc=f"{job.function.activity} on {count} Ray workers", unit=" shards") as bar:
        while left:
            (reference,), _ = ray.wait(list(running), num_returns=1)
            worker, shard = running.pop(reference)
            try:
                is_done = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise HfGarError(str(error.cause)) from error
            except ray.exceptions.RayError as error:
                raise HfGarError(f"Ray could not do a shard: {error}\nRun the same command again to resume.") from error
            if shard is not None and not is_done and shard not in busy:
                busy.add(shard)
                waiting.append(shard)
            elif shard is not None:
                left -= 1
                bar.update(1)
            if waiting:
                shard = waiting.popleft()
                running[worker.run_shard.remote(shared_job, shard, decoders, retry_failed, shard in busy)] = (
                    worker,
                    shard,
                )


class _Worker:
    """An actor: a model, and the decoders that it has.

    It has no arguments, which might be gone from Ray's store when it is started again.
    """

    def __init__(self) -> None:
        self.job: Job | None = None

    def is_ready(self) -> bool:
        """Answers when the actor has started."""
        return True

    def run_shard(self, job: Job, shard: int, decoders: int, retry_failed: bool, comes_back: bool) -> bool:
        """Whether the shard is done; if not, another run works on it."""
        if self.job is None:  # the model and the decoders are started with the first shard, and kept
            device = "cuda" if ray.get_gpu_ids() and job.function.backend == TORCH else "cpu"
            self.job = replace(job, function=job.function.replaced(device=device, pool=_Decoders(decoders)))
        return self.job.run_shard(shard, retry_failed, comes_back=comes_back) is not None


class _Decoders:
    """Actors that make recordings ready for one model, anywhere on the cluster."""

    def __init__(self, count: int):
        # They reserve no processor: one that waits until its chunks are wanted would keep it from a model. They last,
        # as Ray ends the processes of tasks whenever there are more than processors, and new ones take seconds.
        options = {"num_cpus": 0, "max_restarts": RETRIES, "max_task_retries": RETRIES, "scheduling_strategy": "SPREAD"}
        self.actors = [ray.remote(**options)(_Decoder).remote() for _ in range(count)]

    def load(self, dataset: ChunkDataset) -> Iterator[Loaded]:
        """The chunks of a dataset, in order; each actor is a bounded number ahead."""
        recordings = len(dataset.sources)
        at_once = max(1, min(RECORDINGS_AT_ONCE, -(-recordings // len(self.actors))))
        free = deque(self.actors)
        starts = deque(range(0, recordings, at_once))
        running: deque[tuple[int, Any, Any]] = deque()
        while starts or running:
            while starts and free:
                start, actor = starts.popleft(), free.popleft()
                stream = actor.load.options(num_returns="streaming", _generator_backpressure_num_objects=AHEAD)
                running.append((start, actor, stream.remote(dataset.slice(start, start + at_once))))
            start, actor, references = running.popleft()
            for reference in references:
                for item in ray.get(reference):
                    yield item._replace(recording=start + item.recording)
            free.append(actor)


class _Decoder:
    """An actor that makes recordings ready."""

    def __init__(self) -> None:
        give_way()

    def load(self, dataset: ChunkDataset) -> Iterator[list[Loaded]]:
        """Its chunks, some at a time."""
        chunks = iter(dataset)
        while some := list(islice(chunks, CHUNKS_AT_ONCE)):
            yield some
