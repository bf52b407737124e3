"""Jobs to search in and to draw maps of, and what the maps' pages hold."""

import json
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from hf_gar.embedding.jobs.job_folder import METADATA_KEY, shard_path
from tests.conftest import tone

DIMENSION = 12


def write_job(folder: Path, columns: dict, embeddings: np.ndarray, shards: int = 1, **description) -> Path:
    """A job's folder as `hf-gar embed` leaves it, in so many shards."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    vectors = pa.FixedSizeListArray.from_arrays(embeddings.astype(np.float32).ravel(), embeddings.shape[1])
    table = table.append_column("embedding", vectors)
    table = table.replace_schema_metadata({**table.schema.metadata, METADATA_KEY: b'{"failures": []}'})
    bounds = np.linspace(0, len(table), shards + 1).astype(int)
    for shard, (start, stop) in enumerate(pairwise(bounds)):
        pq.write_table(table.slice(start, stop - start), shard_path(folder, shard, shards))
    described = {"model": "org/vggish-fusion", "fusion_layers": [9, 14], "source": None, "path_column": None}
    described["num_shards"] = shards
    (folder / "job.json").write_text(json.dumps({**described, **description}))
    return folder


def clusters(of_each: int, labels: int = 4, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Labels, and embeddings (label * of_each, D) far from those of other labels."""
    generator = np.random.default_rng(seed)
    centres = 10 * generator.standard_normal((labels, DIMENSION))
    embeddings = np.repeat(centres, of_each, axis=0) + generator.standard_normal((labels * of_each, DIMENSION))
    return [f"label {label}" for label in range(labels) for _ in range(of_each)], embeddings


def write_clips(folder: Path, names: list[str]) -> list[Path]:
    paths = [folder / name for name in names]
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * tone(0.4, seed=index), 16000)
    return paths


class Scripts(HTMLParser):
    """The elements of a page, and its scripts' contents, as an HTML parser finds them."""

    def __init__(self, page: Path):
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)


def content(page: Path) -> dict:
    """What a page draws."""
    return json.loads(next(script for script in Scripts(page).scripts if script.startswith("{")))
