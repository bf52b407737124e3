"""A job's embeddings as a dataset on the Hub: published, and fetched again."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import (
    CommitOperation,
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCard,
    DatasetCardData,
    HfApi,
)

from hf_gar.checkpoints.download import fetch_from_hub
from hf_gar.embedding.jobs.job_folder import JOB_FILE, METADATA_KEY, finished_shards, read_description
from hf_gar.embedding.jobs.shards import ROWS_AT_ONCE, open_writer
from hf_gar.errors import HfGarError
from hf_gar.hub.card import render_template
from hf_gar.hub_errors import hub_errors

TEMPLATE = "embeddings-dataset.md"
FOLDER = "data"  # of the dataset: the job's
PRIVATE = ("source", "recording_names_sha256")  # of job.json: where the recordings were, by what names


def push_dataset(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    license_id: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a finished job with a dataset card, as one commit; the dataset is made where needed.

    `fetch_job` makes a job's folder of it again. What failed, and where the model and the recordings were on this
    machine, is not published: of absolute paths in the column "file_name" only the names are.

    Args:
        folder: The job's folder.
        repo_id: The dataset's name on the Hub, "organisation/name".
        private: Whether a dataset that is made is private; by default what the organisation has set.
        license_id: Of the embeddings, which follows from that of the recordings.
        token: Of the user; by default that of `hf auth login` or of HF_TOKEN.

    Returns:
        The dataset's address.

    Raises:
        HfGarError: The job is not finished, the dataset on the Hub is something else, or the Hub refuses.
    """
    folder = Path(folder)
    paths = finished_shards(folder)
    num_rows = sum(pq.read_metadata(path).num_rows for path in paths)
    described = _publishable_description(read_description(folder))
    card = _card(repo_id, described, num_rows, pq.read_schema(paths[0]).names, license_id)
    with hub_errors(repo_id):
        api = HfApi(token=token)
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        there = api.list_repo_files(repo_id, repo_type="dataset")
        new = {f"{FOLDER}/{path.name}": path for path in paths}
        own, shards = {".gitattributes", "README.md", f"{FOLDER}/{JOB_FILE}"}, f"{FOLDER}/part-"
        others = [name for name in there if name not in own and not name.startswith(shards)]
        if others:
            raise HfGarError(f"{repo_id} holds something else ({', '.join(others[:5])}). Choose another `repo_id`.")
        operations: list[CommitOperation] = [
            CommitOperationAdd("README.md", card.content.encode()),
            CommitOperationAdd(f"{FOLDER}/{JOB_FILE}", (json.dumps(described, indent=2) + "\n").encode()),
            *(CommitOperationDelete(name) for name in there if name.startswith(shards) and name not in new),
        ]
        with tempfile.TemporaryDirectory() as temporary:
            for name, path in new.items():
                copy = _publishable(path, Path(temporary) / path.name)
                addition = CommitOperationAdd(name, copy)
                # At once, so that a job's copy need not fit on the disk; what is there already is not sent again.
                api.preupload_lfs_files(repo_id, [addition], repo_type="dataset")
                if not addition.path_or_fileobj:
                    copy.unlink()
                operations.append(addition)
            commit = api.create_commit(repo_id, operations, commit_message="Embeddings, by hf_gar", repo_type="dataset")
    return str(commit.repo_url)


def fetch_job(repo_id: str, files: str = "*") -> Path:
    """The local folder of a job that `push_dataset` published, of which all `files` (a pattern) are fetched.

    Raises:
        HfGarError: There is no such dataset, it is none of a job, or the Hub cannot be reached.
    """
    folder = fetch_from_hub(repo_id, [f"{FOLDER}/{files}"], repo_type="dataset") / FOLDER
    if not (folder / JOB_FILE).exists():
        raise HfGarError(
            f"{repo_id} is not the dataset of a job: it has no {FOLDER}/{JOB_FILE}. Make it with `hf-gar push-dataset`."
        )
    return folder


def _publishable_description(description: dict[str, Any]) -> dict[str, Any]:
    """What of `job.json` is published: of a model in a folder here, its name alone."""
    kept = {key: value for key, value in description.items() if key not in PRIVATE}
    model = Path(description["model"])
    return {**kept, "model": model.name if model.is_absolute() or model.exists() else description["model"]}


def _publishable(shard: Path, copy: Path) -> Path:
    """A copy of a shard without what failed in it and without absolute paths."""
    with pq.ParquetFile(shard) as file:
        kept = {key: value for key, value in (file.schema_arrow.metadata or {}).items() if key != METADATA_KEY}
        schema = file.schema_arrow.with_metadata(kept)
        with open_writer(copy, schema) as writer:
            writer.add_key_value_metadata({METADATA_KEY.decode(): json.dumps({"failures": []})})
            for batch in file.iter_batches(ROWS_AT_ONCE):
                table = pa.Table.from_batches([batch])
                if "file_name" in table.column_names:
                    names = [
                        name and (Path(name).name if Path(name).is_absolute() else name)
                        for name in table["file_name"].to_pylist()
                    ]
                    column = table.column_names.index("file_name")
                    table = table.set_column(column, "file_name", pa.array(names, table.schema.field("file_name").type))
                writer.write_table(table.cast(schema))
    return copy


def _card(
    repo_id: str, description: dict[str, Any], num_rows: int, columns: list[str], license_id: str | None
) -> DatasetCard:
    data = DatasetCardData(
        license=license_id,
        tags=["audio", "audio-embedding", "hf_gar"],
        configs=[{"config_name": "default", "data_files": "data/part-*.parquet"}],
    )
    text = render_template(
        TEMPLATE,
        model=description["model"],
        card_data=data.to_yaml(),
        repo_id=repo_id,
        job=description,
        num_rows=num_rows,
        columns=columns,
    )
    return DatasetCard(text)
