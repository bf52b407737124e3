"""What an embedding job wrote, read again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from hf_gar.embedding.job_folder import finished_parts, read_description
from hf_gar.embedding.parts import ARRAY_COLUMNS


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
    parts = finished_parts(folder)
    dimension = pq.read_schema(parts[0]).field("embedding").type.list_size
    embeddings = np.empty((sum(pq.read_metadata(part).num_rows for part in parts), dimension), np.float32)
    rows, first = [], 0
    for part in parts:  # one at a time: the embeddings may be many gigabytes
        table = pq.read_table(part)
        block = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
        embeddings[first : first + len(block)] = block
        first += len(block)
        rows.append(table.drop_columns([name for name in table.column_names if name in ARRAY_COLUMNS]).to_pandas())
    return JobResults(folder, read_description(folder), pd.concat(rows, ignore_index=True), embeddings)
