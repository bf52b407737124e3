"""Which rows of a job a filter keeps."""

import numpy as np
import pyarrow as pa

from hf_gar.embedding.jobs.results import FinishedJob
from hf_gar.errors import HfGarError
from hf_gar.search.libraries import import_library

# DuckDB parses one expression and filters Arrow tables in memory: it reads no file and no variable of this process, and
# loads no extension.
SAFE = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "lock_configuration": "true",
}
NUMBER = "__hf_gar_row__"
ROWS_AT_ONCE = 65_536


def filter_rows(job: FinishedJob, where: str) -> np.ndarray:
    """The rows (row,) bool that an expression is true of.

    Args:
        job: The job.
        where: An SQL expression of the source's columns and `duration_s`, as DuckDB understands it.

    Raises:
        HfGarError: It is not an expression, names a column that is not there, or fails.
    """
    duckdb = import_library("duckdb")
    kept = np.zeros(job.num_recordings, bool)
    try:
        with duckdb.connect(config=SAFE) as connection:
            expression = duckdb.SQLExpression(where)
            first = 0
            for shard in job.shards:
                for table in job.blocks(shard, job.columns, ROWS_AT_ONCE):
                    numbers = pa.array(np.arange(first, first + len(table)))
                    rows = connection.from_arrow(table.append_column(NUMBER, numbers)).filter(expression)
                    kept[rows.project(NUMBER).fetchnumpy()[NUMBER]] = True
                    first += len(table)
    except duckdb.Error as error:
        reason = str(error).split("\n\n")[0]
        raise HfGarError(
            f"{where!r} is not a filter (`where`): {reason}\nA filter is an SQL expression such as label = 'dog' and "
            f"duration_s > 2; the columns are {', '.join(job.columns)}."
        ) from error
    return kept
