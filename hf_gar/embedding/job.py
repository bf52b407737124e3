"""An embedding job: a source of recordings becomes a folder of Parquet."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq

from hf_gar.embedding.crop import Crop
from hf_gar.embedding.dataset import find_audio_column, map_dataset, undecoded
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.sources import open_source
from hf_gar.errors import HfGarError
from hf_gar.files import write_errors, write_whole_file

JOB_FILE = "job.json"
ERRORS_FILE = "errors.jsonl"
PART_FILE = "part-00000-of-00001.parquet"
LIBRARIES = ("hf_gar", "torch", "transformers", "datasets")


@dataclass(frozen=True)
class JobSummary:
    """How many recordings a job embedded, and how many it could not."""

    output: Path
    embedded: int
    failed: int


def run_job(
    source: Sequence[str | Path] | datasets.Dataset,
    model: str | Path,
    output: str | Path,
    *,
    revision: str | None = None,
    split: str | None = None,
    path_column: str | None = None,
    batch_size: int = 16,
    device: str | None = None,
    dtype: str = "float32",
    model_kwargs: dict[str, Any] | None = None,
    with_frames: bool = False,
    crop: Crop | None = None,
) -> JobSummary:
    """Embed every recording of a source, and write a folder that `datasets.load_dataset("parquet", ...)` reads.

    The folder holds the embeddings (`part-*.parquet`: the source's columns without the audio, `embedding`,
    `duration_s`), `errors.jsonl` for what could not be embedded, and `job.json`. A job that is complete is not run
    again.

    Args:
        source: As in `open_source`, or a dataset.
        model: A model repository: a folder, or a name on the Hub.
        output: The job's folder: a new or empty one, or this job's own.
        revision: A branch, tag or commit of the model, for a name on the Hub.
        split: The split of a dataset that has several.
        path_column: The column of a table that holds the paths.
        batch_size: How many recordings pass through the model at a time.
        device: As in PyTorch; by default a GPU where there is one.
        dtype: The model's: "float32", "bfloat16" or "float16".
        model_kwargs: Fields of the model's configuration to replace, such as {"fusion_layers": [2, 5]}.
        with_frames: Store the frame embeddings and their times, too.
        crop: Bring every recording to one length first.

    Raises:
        HfGarError: The source, the model or the folder will not do; the message says why.
    """
    output = Path(output)
    if isinstance(source, datasets.Dataset):
        dataset, audio_column = source, path_column or find_audio_column(source.features)
    else:
        dataset, audio_column = open_source(source, split, path_column)
    dataset = undecoded(dataset, audio_column)
    embedder = AudioEmbedder(
        model,
        revision=revision,
        device=device,
        dtype=dtype,
        model_kwargs=model_kwargs,
        audio_column=audio_column,
        on_error="record",
        with_frames=with_frames,
        crop=crop,
    )
    embedder.load_model()  # before the folder is claimed: a model that cannot be loaded is no job
    _claim_folder(output, _describe(embedder, dataset, source, split, path_column))
    if not (output / PART_FILE).exists():
        _embed_part(dataset, embedder, output, batch_size)
    embedded = pq.read_metadata(output / PART_FILE).num_rows
    return JobSummary(output, embedded, len(dataset) - embedded)


def _describe(
    embedder: AudioEmbedder,
    dataset: datasets.Dataset,
    source: Sequence[str | Path] | datasets.Dataset,
    split: str | None,
    path_column: str | None,
) -> dict[str, Any]:
    """What makes a job this one: another job in the same folder is refused."""
    assert embedder.repository is not None
    named_by = "file_name" if "file_name" in dataset.column_names else embedder.audio_column
    is_text = dataset.features[named_by] in (datasets.Value("string"), datasets.Value("large_string"))
    names = dataset[named_by][:] if is_text else None
    return {
        "model": embedder.repository.name,
        "revision": embedder.repository.revision,
        "weights_sha256": embedder.repository.weights_sha256,
        "fusion_layers": None if embedder.config.fusion_layers is None else list(embedder.config.fused_layers),
        "max_length": getattr(embedder.config, "max_length", None),
        "frames": embedder.with_frames,
        "dtype": embedder.dtype,
        "feature_extractor_sha256": _digest(embedder.feature_extractor.to_json_string()),
        "crop": embedder.crop and asdict(embedder.crop),
        "source": None
        if isinstance(source, datasets.Dataset)
        else [str(Path(item).resolve() if Path(item).exists() else item) for item in source],
        "split": split,
        "path_column": path_column,
        "recordings": len(dataset),
        "recording_names_sha256": names and _digest(json.dumps(names)),
        "versions": {library: version(library) for library in LIBRARIES},
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _claim_folder(output: Path, job: dict[str, Any]) -> None:
    """Write `job.json` into a new folder, or check that the folder is this job's."""
    path = output / JOB_FILE
    if not path.exists():
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise HfGarError(f"{output} holds something else than an embedding job. Choose another --output.")
        with write_errors(output):
            output.mkdir(parents=True, exist_ok=True)
        write_whole_file(path, json.dumps(job, indent=2) + "\n")
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HfGarError(f"{path} is damaged: {error}. Choose another --output.") from error
    differences = [
        f"{key} is {there.get(key)!r} there, {value!r} now"
        for key, value in job.items()
        if key != "versions" and there.get(key) != value
    ]
    if differences:
        raise HfGarError(f"{output} holds another job: {'; '.join(differences)}. Choose another --output.")


def _embed_part(dataset: datasets.Dataset, embedder: AudioEmbedder, output: Path, batch_size: int) -> None:
    """Embed a dataset into a Parquet file and `errors.jsonl`, which appear when they are whole."""
    temporary = output / f".{PART_FILE}.incomplete"
    with write_errors(output):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            rows = map_dataset(dataset, embedder, batch_size, cache_file_name=str(temporary / "rows.arrow"))
            reasons = rows["error"][:]
            good = rows.select([index for index, reason in enumerate(reasons) if reason is None])
            good.remove_columns("error").to_parquet(temporary / PART_FILE)
            errors = [
                {"file": _name(dataset[index], embedder.audio_column) or f"row {index}", "reason": reason}
                for index, reason in enumerate(reasons)
                if reason is not None
            ]
            write_whole_file(
                output / ERRORS_FILE, "".join(json.dumps(error, ensure_ascii=False) + "\n" for error in errors)
            )
            (temporary / PART_FILE).replace(output / PART_FILE)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _name(row: dict[str, Any], audio_column: str) -> str | None:
    """What a row's recording is called, where it has a name."""
    recording = row[audio_column]
    path = recording.get("path") if isinstance(recording, dict) else recording
    return row.get("file_name") or (path if isinstance(path, str) else None)
