"""Run the shards of a job on this machine: one process a device, each with processes that decode for it."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from datasets.utils import tqdm

from hf_gar.embedding.decoding import ProcessPool, share_decoders
from hf_gar.embedding.devices import parse_device
from hf_gar.embedding.jobs.job import Job
from hf_gar.errors import HfGarError


def available_devices() -> tuple[str, ...]:
    """The devices that a job uses by default: every GPU, or the processor."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ("cpu",)
    return tuple(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))


@dataclass(frozen=True)
class LocalEngine:
    """Runs shards on this machine.

    Args:
        devices: As in PyTorch, one process each; by default every GPU, or the processor.
        workers: Processes that decode, for each device; by default by the number of processors.
    """

    devices: tuple[str, ...] = ()
    workers: int | None = None

    def __post_init__(self):
        for device in self.devices:
            parse_device(device)

    @property
    def device(self) -> str:
        """The first device."""
        return (self.devices or available_devices())[0]

    def run(self, job: Job, shards: Sequence[int], retry_failed: bool) -> None:
        """Do shards of a job, on several devices in several processes.

        Raises:
            HfGarError: A shard fails.
        """
        devices = self.devices or available_devices()
        workers = share_decoders(os.cpu_count() or 1, len(devices)) if self.workers is None else self.workers
        job = replace(job, function=job.function.replaced(pool=ProcessPool(workers)))
        if len(devices) == 1:
            _run_shards(job, shards, devices[0], 0, retry_failed)
        else:
            _run_in_processes(job, shards, devices, retry_failed)


def _run_in_processes(job: Job, shards: Sequence[int], devices: Sequence[str], retry_failed: bool) -> None:
    context = multiprocessing.get_context("spawn")  # a fork and CUDA do not go together
    processes = [
        # Each has its own shards; one that is done helps the others, kept off what they work on by the shards' locks.
        context.Process(
            target=_run_shards_in_process,
            args=(job, shards[index :: len(devices)], device, index, retry_failed, shards),
            name=device,
        )
        for index, device in enumerate(devices)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:  # where this one is stopped, so are they
        for process in processes:
            if process.is_alive():
                process.terminate()
    failed = [process.name for process in processes if process.exitcode]
    if failed:
        raise HfGarError(
            f"The processes on {', '.join(failed)} failed; what they wrote stands above. Run the same command again to "
            "resume."
        )


def _run_shards_in_process(*arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends this one
    _run_shards(*arguments)


def _run_shards(
    job: Job, shards: Sequence[int], device: str, position: int, retry_failed: bool, others: Sequence[int] = ()
) -> None:
    job = replace(job, function=job.function.replaced(device=device))
    total = None if job.recordings_in_shard is None else len(shards) * job.recordings_in_shard
    with tqdm(total=total, desc=f"{job.function.activity} on {device}", unit=" recordings", position=position) as bar:
        busy = [shard for shard in shards if job.run_shard(shard, retry_failed, bar.update) is None]
        for shard in busy:
            job.run_shard(shard, retry_failed, bar.update, comes_back=True)
        # The process that had these may have died since.
        for shard in others:
            job.run_shard(shard, on_loaded=bar.update)
