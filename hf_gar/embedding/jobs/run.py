"""Run a job: claim the folder, run the shards that are missing, gather what failed."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hf_gar.backends.choice import AUTO
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.jobs.job import Job, claim_job
from hf_gar.embedding.jobs.job_folder import JOB_FILE, JobStatus, read_description, read_status, write_errors_file
from hf_gar.embedding.jobs.local_engine import LocalEngine
from hf_gar.embedding.map_function import MapFunction
from hf_gar.embedding.sources.source import AnySource, Source, as_source
from hf_gar.errors import HfGarError
from hf_gar.hub.load import Repository


class Engine(Protocol):
    """What runs the shards of a job, and where."""

    @property
    def device(self) -> str:
        """As in PyTorch: the first that a model runs on."""

    def run(self, job: Job, shards: Sequence[int], retry_failed: bool) -> None:
        """Do shards of a job; a shard that another run works on is left to it."""


@dataclass(frozen=True)
class JobOptions:
    """How a job is run.

    Args:
        num_shards: How many files; by default one for each 2,000 recordings, or one for each file that is streamed.
        shard: Run this shard alone, by its number from 0.
        strict: Stop at the first recording that fails.
        retry_failed: Try those recordings again that failed before.
        engine: Runs the shards: a `LocalEngine`, or a `RayEngine`.
        report: Called with a line about how far the job is, when it begins.
    """

    num_shards: int | None = None
    shard: int | None = None
    strict: bool = False
    retry_failed: bool = False
    engine: Engine = field(default_factory=LocalEngine)
    report: Callable[[str], object] = lambda line: None


def run_job(source: Source, function: MapFunction, output: str | Path, options: JobOptions | None = None) -> JobStatus:
    """Embed or tag every recording of a source; write a folder that `datasets.load_dataset("parquet", ...)` reads.

    The folder holds the rows (`part-*.parquet`: the source's columns without the audio, and what the function adds,
    such as `embedding` and `duration_s`), `errors.jsonl` for the recordings that failed, and `job.json`. The same call
    again does only what is missing; several at once share the work.

    Args:
        source: As `open_source` gives it.
        function: An `AudioEmbedder` or `AudioTagger`, of a model repository. Its `audio_column`, `on_error`, `device`
            and `workers` follow from the source and the engine.
        output: The job's folder: a new or empty one, or this job's own.
        options: How it is run.

    Returns:
        How far the job is, or that shard of it.

    Raises:
        HfGarError: The source, the model or the folder cannot be used; the message says why.
    """
    output, options = Path(output), options or JobOptions()
    if function.repository is None:
        raise ValueError(
            "A job is resumed with its model, so it needs a repository: save the model, and pass its folder."
        )
    has_begun = (output / JOB_FILE).exists()
    function.require_new_columns(source.dataset.column_names)
    function = function.replaced(audio_column=source.audio_column, on_error="record", device=options.engine.device)
    if has_begun:
        there = read_description(output)
        asked = {"backend": function.backend, "dtype": function.dtype}
        function = function.replaced(**{name: there[name] for name, value in asked.items() if value == AUTO})
    choice = function.choose_backend()
    function = function.replaced(backend=choice.backend, dtype=choice.dtype)
    options.report(f"running on {choice.describe()}")
    if not has_begun:
        function.load_model()  # before the folder is claimed: a model that cannot be loaded makes no job
    job = claim_job(output, source, function, options.num_shards, options.strict)
    shards = _shards_to_run(job, options.shard, options.retry_failed)
    options.report(_plan(job, shards, options.shard, options.retry_failed))
    try:
        if shards:
            options.engine.run(job, shards, options.retry_failed)
    except BaseException:
        with contextlib.suppress(HfGarError):  # the first error is the one to tell
            write_errors_file(output)
        raise
    write_errors_file(output)
    return read_status(output, None if options.shard is None else [options.shard])


def embed_recordings(
    source: AnySource,
    model: str | Path | Repository,
    output: str | Path,
    options: JobOptions | None = None,
    **embedder_options: Any,
) -> JobStatus:
    """`run_job` of a source, or of what `open_source` takes, with an `AudioEmbedder` made of the other arguments."""
    return run_job(as_source(source), AudioEmbedder(model, **embedder_options), output, options)


def _shards_to_run(job: Job, shard: int | None, retry_failed: bool) -> list[int]:
    if shard is not None and not 0 <= shard < job.num_shards:
        raise ValueError(f"shard has to be between 0 and {job.num_shards - 1}, not {shard}.")
    if shard is not None:
        return [shard]
    return list(range(job.num_shards)) if retry_failed else list(read_status(job.output).missing)


def _plan(job: Job, shards: list[int], shard: int | None, retry_failed: bool) -> str:
    """What a run is about to do, as a line of text."""
    rows = job.source.num_rows
    recordings = "" if rows is None else f"{rows} recordings in "
    shards_text = f"{recordings}{job.num_shards} shard{'s' if job.num_shards > 1 else ''}"
    if shard is not None:
        return f"{shards_text}; shard {shard} alone"
    if retry_failed:
        return f"{shards_text}; what is missing, and what failed before"
    if not shards:
        return f"{shards_text}; all are done"
    done = job.num_shards - len(shards)
    return f"{shards_text}; {done} of {job.num_shards} are done, resuming" if done else shards_text
