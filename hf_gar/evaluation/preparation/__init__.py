"""From a public dataset's official download, as unpacked, to a task: a `metadata.csv` beside the recordings.

Recordings are not copied; `file_name` is their path seen from the CSV's folder.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from hf_gar.errors import HfGarError
from hf_gar.evaluation.preparation import official_splits, own_splits
from hf_gar.evaluation.tasks import find_task
from hf_gar.files import write_errors, write_whole_file

# Each takes the download's folder, and returns the columns file_name (seen from that folder), label, and split or fold.
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "esc50": official_splits.read_esc50,
    "us8k": official_splits.read_us8k,
    "fsd50k": official_splits.read_fsd50k,
    "spcv2": official_splits.read_spcv2,
    "vc1": official_splits.read_vc1,
    "voxforge": own_splits.read_voxforge,
    "cremad": own_splits.read_cremad,
    "gtzan": official_splits.read_gtzan,
    "nsynth": official_splits.read_nsynth,
    "nspitch": official_splits.read_nspitch,
    "surge": own_splits.read_surge,
}


def prepare_task(
    name: str, download: str | Path, output: str | Path | None = None, allow_other_counts: bool = False
) -> Path:
    """Write the `metadata.csv` of one of the paper's tasks.

    Args:
        name: The task's.
        download: The folder of the unpacked official download.
        output: The folder to write into; by default `download`.
        allow_other_counts: Write it even where the numbers of clips or classes are not the task's.

    Returns:
        The CSV's path.

    Raises:
        HfGarError: The download lacks files, or the counts are not the task's.
    """
    task = find_task(name)
    download = Path(download)
    if not download.is_dir():
        raise HfGarError(f"{download}: there is no such folder. Unpack the official download of {task.title} there.")
    table = READERS[name](download)
    missing = [file for file in table["file_name"] if not (download / file).is_file()]
    if missing:
        raise HfGarError(
            f"{len(missing)} of the {len(table)} recordings of {task.title} are not in {download}, such as "
            f"{missing[0]}. Complete the download."
        )
    if not allow_other_counts:
        labels = table["label"].astype(str)
        classes = labels.str.split(",").explode() if task.metric == "mAP" else labels
        folds = table["fold"].nunique() if "fold" in table.columns else None
        task.require_counts(len(table), classes.nunique(), folds)
    folder = download if output is None else Path(output)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    way = os.path.relpath(download.resolve(), folder.resolve())
    table["file_name"] = [(Path(way) / file).as_posix() for file in table["file_name"]]
    path = folder / "metadata.csv"
    write_whole_file(path, table.to_csv(index=False))
    return path
