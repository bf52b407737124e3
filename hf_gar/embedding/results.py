"""What an embedding job wrote, read again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hf_gar.embedding.job import part_path, read_description, read_status
from hf_gar.errors import HfGarError


@dataclass(frozen=True)
class JobResults:
    """A finished job: one row a recording, in the order of its source.

    Args:
        folder: The job's folder.
        description: `job.json`.
        rows: The source's columns and `duration_s`.
        embeddings: (recording, D) float32.
    """

    folder: Path
    description: dict[str, Any]
    rows: pd.DataFrame
    embeddings: np.ndarray


def read_job(folder: str | Path) -> JobResults:
    """Read the results of a finished embedding job.

    Raises:
        HfGarError: The folder is no job's, or the job is not finished.
    """
    folder = Path(folder)
    description, status = read_description(folder), read_status(folder)
    if status.missing:
        raise HfGarError(
            f"{folder} is not finished: {len(status.missing)} of {status.num_parts} parts are missing. Run the same "
            "`hf-gar embed` again."
        )
    parts = [part_path(folder, part, status.num_parts) for part in range(status.num_parts)]
    tables = [pq.read_table(part) for part in parts]
    embeddings = [table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False) for table in tables]
    hidden = {"embedding", "frame_embeddings", "frame_times"}
    rows = pd.concat(
        [table.drop_columns([name for name in table.column_names if name in hidden]).to_pandas() for table in tables],
        ignore_index=True,
    )
    dimension = tables[0].schema.field("embedding").type.list_size
    return JobResults(folder, description, rows, np.concatenate(embeddings).reshape(len(rows), dimension))
