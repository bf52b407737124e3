"""Embed a source of recordings: open it, claim the folder, run the parts that are missing, gather what failed."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import datasets

from hf_gar.embedding.crop import Crop
from hf_gar.embedding.embedder import AudioEmbedder, choose_dtype
from hf_gar.embedding.job import Job, claim_job
from hf_gar.embedding.job_folder import JOB_FILE, JobStatus, read_description, read_status, write_errors_file
from hf_gar.embedding.local_engine import available_devices, run_locally
from hf_gar.embedding.preparation import share_decoders
from hf_gar.embedding.sources import Source, open_source
from hf_gar.errors import HfGarError

AUTO = "auto"


def run_job(
    source: Sequence[str | Path] | datasets.Dataset | datasets.IterableDataset | Source,
    model: str | Path,
    output: str | Path,
    *,
    revision: str | None = None,
    dataset_revision: str | None = None,
    config_name: str | None = None,
    split: str | None = None,
    path_column: str | None = None,
    streaming: bool = False,
    audiofolder: bool = False,
    limit: int | None = None,
    model_kwargs: dict[str, Any] | None = None,
    feature_extractor_kwargs: dict[str, Any] | None = None,
    with_frames: bool = False,
    crop: Crop | None = None,
    dtype: str = "float32",
    num_parts: int | None = None,
    part: int | None = None,
    strict: bool = False,
    retry_failed: bool = False,
    batch_size: int | None = None,
    decoders: int | None = None,
    devices: Sequence[str] | None = None,
    engine: Literal["local", "ray"] = "local",
    report: Callable[[str], object] = lambda line: None,
    **ray_options: Any,
) -> JobStatus:
    """Embed every recording of a source, and write a folder that `datasets.load_dataset("parquet", ...)` reads.

    The folder holds the embeddings (`part-*.parquet`: the source's columns without the audio, `embedding`,
    `duration_s`), `errors.jsonl` for what could not be embedded, and `job.json`. The same call again does only what is
    missing; several at once share the work.

    Args:
        source: A `Source`, or as in `open_source`, as are config_name, split, path_column, streaming, audiofolder and
            limit.
        model: A model repository: a folder, or a name on the Hub.
        output: The job's folder: a new or empty one, or this job's own.
        revision: A branch, tag or commit of the model, for a name on the Hub.
        dataset_revision: A branch, tag or commit of the source, for a dataset on the Hub.
        model_kwargs: Fields of the model's configuration to replace, such as {"fusion_layers": [2, 5]}.
        feature_extractor_kwargs: Fields of the feature extractor to replace, such as AST's {"mean": ..., "std": ...}.
        with_frames: Store the frame embeddings and their times, too.
        crop: Bring every recording to one length first.
        dtype: The model's: "float32", "bfloat16", "float16", or "auto", which is bfloat16 where the device has it.
        num_parts: How many files; by default one for each 2,000 recordings, or one for each file that is streamed.
        part: Run this part alone, by its number from 0.
        strict: Stop at the first recording that cannot be embedded.
        retry_failed: Embed those recordings again that could not be embedded before.
        batch_size: The most windows that pass through the model at a time; by default as many as the memory is for.
        decoders: Processes that decode, for each device; by default by the number of processors.
        devices: As in PyTorch, one process each; by default every GPU, or the processor.
        engine: "local", or "ray" for a Ray cluster.
        report: Is called with a line about how far the job is, when it begins.
        ray_options: Of `run_on_ray`.

    Returns:
        How far the job is, or that part of it.

    Raises:
        HfGarError: The source, the model or the folder will not do; the message says why.
    """
    output = Path(output)
    devices = devices or available_devices()
    opened = (
        source
        if isinstance(source, Source)
        else open_source(
            source,
            revision=dataset_revision,
            config_name=config_name,
            split=split,
            path_column=path_column,
            streaming=streaming,
            audiofolder=audiofolder,
            limit=limit,
        )
    )
    has_begun = (output / JOB_FILE).exists()
    if dtype == AUTO:
        dtype = read_description(output)["dtype"] if has_begun else choose_dtype(devices[0])
    embedder = AudioEmbedder(
        model,
        revision=revision,
        dtype=dtype,
        model_kwargs=model_kwargs,
        feature_extractor_kwargs=feature_extractor_kwargs,
        audio_column=opened.audio_column,
        on_error="record",
        with_frames=with_frames,
        crop=crop,
        device=devices[0],
        batch_size=batch_size,
        workers=share_decoders(os.cpu_count() or 1, len(devices)) if decoders is None else decoders,
    )
    if engine == "local" and not has_begun:
        embedder.load_model()  # before the folder is claimed: a model that cannot be loaded is no job
    job = claim_job(output, opened, embedder, num_parts, strict)
    parts = _parts_to_run(job, part, retry_failed)
    report(_plan(job, parts, part, retry_failed))
    try:
        _run_parts(job, parts, devices, engine, retry_failed, ray_options)
    except BaseException:
        with contextlib.suppress(HfGarError):  # the first error is the one to tell
            write_errors_file(output)
        raise
    write_errors_file(output)
    return read_status(output, None if part is None else [part])


def _parts_to_run(job: Job, part: int | None, retry_failed: bool) -> list[int]:
    if part is not None and not 0 <= part < job.num_parts:
        raise ValueError(f"part has to be between 0 and {job.num_parts - 1}, not {part}.")
    if part is not None:
        return [part]
    return list(range(job.num_parts)) if retry_failed else list(read_status(job.output).missing)


def _plan(job: Job, parts: list[int], part: int | None, retry_failed: bool) -> str:
    """What a run is about to do, as a line of text."""
    rows = job.source.num_rows
    recordings = "" if rows is None else f"{rows} recordings in "
    parts_text = f"{recordings}{job.num_parts} part{'s' if job.num_parts > 1 else ''}"
    if part is not None:
        return f"{parts_text}; embedding part {part}"
    if retry_failed:
        return f"{parts_text}; embedding what is missing and what failed before"
    if not parts:
        return f"{parts_text}; all are done"
    done = job.num_parts - len(parts)
    return f"{parts_text}; {done} of {job.num_parts} are done, resuming" if done else parts_text


def _run_parts(
    job: Job, parts: list[int], devices: Sequence[str], engine: str, retry_failed: bool, ray_options: dict[str, Any]
) -> None:
    if not parts:
        return
    if engine == "ray":
        from hf_gar.embedding.ray_engine import run_on_ray

        run_on_ray(job, parts, retry_failed=retry_failed, **ray_options)
    else:
        run_locally(job, parts, devices, retry_failed)
