"""What the commands that run a job share: their options, and how a job ends."""

import argparse
import sys
from typing import Any

from hf_gar.cli.messages import say
from hf_gar.cli.options import number, whole_number

SOME_FAILED = 3
ALL_FAILED = 4
NOT_FINISHED = 5
EXIT_CODES = (
    "Exit codes: 0 all done, 1 error, 2 wrong options, 3 some recordings failed, 4 all failed, 5 shards are left to "
    "another run, 130 stopped by Ctrl-C, 143 stopped by SIGTERM."
)
STANDARD_INPUT = "-"  # in place of SOURCE


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Which recordings."""
    source = parser.add_argument_group("source")
    source.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="a folder, audio files, a CSV, Parquet or JSON Lines table, WebDataset tar files, or a dataset; - for a "
        "list of audio files on standard input",
    )
    source.add_argument("--limit", type=whole_number(1), metavar="N", help="take the first N recordings only")
    source.add_argument("--dataset-revision", metavar="REVISION", help="branch, tag or commit of a dataset on the Hub")
    source.add_argument(
        "--config", dest="config_name", metavar="NAME", help="configuration of a dataset on the Hub that has several"
    )
    source.add_argument("--split", help="split of a dataset that has several")
    source.add_argument("--path-column", metavar="NAME", help="the column with the recordings or their paths")
    source.add_argument(
        "--streaming", action="store_true", help="stream a dataset from the Hub: nothing of it is kept on disk"
    )
    source.add_argument("--audiofolder", action="store_true", help="take the folders in SOURCE for splits and labels")


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Where the job is, how it is cut into shards, and what runs them."""
    parser.add_argument("--output", required=True, metavar="DIR", help="the job's folder")
    job = parser.add_argument_group("job")
    job.add_argument(
        "--num-shards",
        type=whole_number(1),
        metavar="N",
        help="number of files to write (default: one per 2,000 recordings)",
    )
    job.add_argument(
        "--shard",
        type=whole_number(0),
        metavar="K",
        help="do only shard K, counted from 0: for a scheduler's job array",
    )
    job.add_argument("--strict", action="store_true", help="stop at the first recording that fails")
    job.add_argument("--retry-failed", action="store_true", help="also retry the recordings that failed before")
    job.add_argument(
        "--batch-size",
        type=_batch_size,
        default=None,
        metavar="N|auto",
        help="maximum number of chunks in a batch (default: auto)",
    )
    job.add_argument(
        "--workers", type=whole_number(0), metavar="N", help="decoding processes per device (default: auto)"
    )
    job.add_argument("--engine", choices=["local", "ray"], default="local")
    job.add_argument("--ray-workers", type=whole_number(1), metavar="N", help="number of models on Ray (default: auto)")
    job.add_argument("--address", help="address of the Ray cluster (default: RAY_ADDRESS, or a new one here)")
    job.add_argument("--gpus-per-worker", type=number(0), metavar="N", help="GPUs for each Ray worker; 0 for none")


def check_job_options(options: argparse.Namespace) -> None:
    """Raise a ValueError where options do not go together, before any library is loaded."""
    of_ray = (options.address, options.ray_workers, options.gpus_per_worker)
    if options.engine != "ray" and any(value is not None for value in of_ray):
        raise ValueError("--address, --ray-workers and --gpus-per-worker go with --engine ray.")
    if options.engine == "ray" and (options.workers is not None or options.device is not None):
        raise ValueError(
            "--workers and --device go with the local engine: on Ray, each node decodes on its own processors."
        )
    if None not in (options.shard, options.num_shards) and options.shard >= options.num_shards:
        raise ValueError(f"--shard counts from 0: it is at most {options.num_shards - 1}, not {options.shard}.")


def open_source_of(options: argparse.Namespace) -> Any:
    """The source that is asked for."""
    from hf_gar.embedding.sources.source import open_source, read_file_list

    return open_source(
        read_file_list(sys.stdin.buffer) if options.source == [STANDARD_INPUT] else options.source,
        revision=options.dataset_revision,
        config_name=options.config_name,
        split=options.split,
        path_column=options.path_column,
        streaming=options.streaming,
        audiofolder=options.audiofolder,
        limit=options.limit,
    )


def run_job_of(options: argparse.Namespace, source: Any, function: Any, done: str) -> int:
    """Run a job to its end, and say how it went; `done` is what was done to its recordings. Returns the exit code."""
    from hf_gar.embedding.jobs.job_folder import ERRORS_FILE
    from hf_gar.embedding.jobs.run import JobOptions, run_job

    job_options = JobOptions(
        num_shards=options.num_shards,
        shard=options.shard,
        strict=options.strict,
        retry_failed=options.retry_failed,
        engine=_engine(options),
        report=(lambda _: None) if options.quiet else say,
    )
    status = run_job(source, function, options.output, job_options)
    print(f"{status.done} recordings {done} in {status.output}.")
    if status.failed:
        print(
            f"{status.failed} could not be {done}: see {status.output / ERRORS_FILE}. --retry-failed tries them again.",
            file=sys.stderr,
        )
    if status.missing:
        print(f"Another run is working on shards {', '.join(map(str, status.missing))}.", file=sys.stderr)
        return NOT_FINISHED
    if not status.failed:
        return 0
    return SOME_FAILED if status.done else ALL_FAILED


def _engine(options: argparse.Namespace) -> Any:
    """What runs the shards of the job."""
    if options.engine == "ray":
        from hf_gar.embedding.jobs.ray_engine import RayEngine

        return RayEngine(options.address, options.ray_workers, options.gpus_per_worker)
    from hf_gar.embedding.jobs.local_engine import LocalEngine

    return LocalEngine(tuple(options.device or ()), options.workers)


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else whole_number(1)(text)
