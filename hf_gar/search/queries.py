"""What is looked for: recordings, embedded with a job's own model and settings, and rows of the job."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.compute as pc

from hf_gar.embedding.crop import Crop
from hf_gar.embedding.decoding import read_blocks
from hf_gar.embedding.embedder import AudioEmbedder, Embedding
from hf_gar.embedding.jobs.results import FinishedJob
from hf_gar.embedding.jobs.shards import NAME_COLUMNS
from hf_gar.errors import HfGarError
from hf_gar.hub.load import find_repository

SILENT = 2.0**-15  # of full scale: less than one step of 16 bits


class QueryEmbedder:
    """Embeds recordings as a job did.

    Args:
        job: The job.
        model: Where its model is now, by default where it was.
        device: As in PyTorch.
        with_frames: Give their frames, too.

    Raises:
        HfGarError: The model is gone, or another one than the job's.
    """

    def __init__(
        self,
        job: FinishedJob,
        model: str | Path | None = None,
        device: str | None = None,
        with_frames: bool = False,
    ):
        described = job.description
        repository = find_repository(model or described["model"], None if model else described["revision"])
        if repository.weights_sha256 != described["weights_sha256"]:
            raise HfGarError(
                f"The weights of {repository.name} are not those that {job.folder} was embedded with (their digests "
                f"are {repository.weights_sha256} and {described['weights_sha256']}). Say where that model is "
                "(`model`)."
            )
        model_kwargs = {"fusion_layers": described["fusion_layers"]}
        if described["max_length"] is not None:
            model_kwargs["max_length"] = described["max_length"]
        self.embedder = AudioEmbedder(
            repository,
            device=device,
            backend=described["backend"],
            dtype=described["dtype"],
            model_kwargs=model_kwargs,
            crop=described["crop"] and Crop(**described["crop"]),
            with_frames=with_frames,
        )
        network = self.embedder.choose_backend().network
        if described["network_sha256"] != (None if network is None else network.digest):
            raise HfGarError(
                f"{job.folder} was embedded with another network of {described['backend']} than {repository.name} has "
                "now. Search with rows of the job instead, or embed it again."
            )
        extractor = self.embedder.feature_extractor
        if hashlib.sha256(extractor.to_json_string().encode()).hexdigest() != described["feature_extractor_sha256"]:
            raise HfGarError(
                f"{job.folder} was embedded with another feature extractor than that of {repository.name}. Search with "
                "rows of the job instead."
            )

    def embed(self, queries: Sequence[Any]) -> list[Embedding]:
        """Embed recordings.

        Raises:
            AudioError: One cannot be read.
            HfGarError: One is silent.
        """
        for query in queries:
            name, blocks = read_blocks(query, self.embedder.feature_extractor.sampling_rate, None, None)
            if not any(np.abs(block).max(initial=0) >= SILENT for block in blocks):
                raise HfGarError(f"{name} is silent: there is nothing to look for. Choose another query.")
        return cast(list[Embedding], self.embedder.embed(queries))  # it raises errors, and returns none


def require_queries(queries: Sequence[Any]) -> None:
    """Raise a ValueError for what is not a list, as a single path is, or an empty one."""
    if isinstance(queries, (str, bytes, Path, dict, int)):
        raise ValueError(f"Expected a list of queries, not {type(queries).__name__}: put a single one into a list.")
    if len(queries) == 0:
        raise ValueError("There is no query. Pass at least one.")


def name_column(job: FinishedJob) -> str | None:
    """The column that names the recordings, where there is one."""
    return next((name for name in NAME_COLUMNS if name in job.columns), None)


def find_row(job: FinishedJob, name: str) -> int:
    """The number of the recording of a job that is called `name`.

    Raises:
        HfGarError: There is none, or several.
    """
    column = name_column(job)
    if column is None:
        raise HfGarError(f"{job.folder} has no column of names. Say which `row` instead.")
    found: list[int] = []
    first = 0
    for shard in job.shards:
        for table in job.blocks(shard, [column]):
            found += (first + np.flatnonzero(pc.equal(table[column], name).fill_null(False))).tolist()
            first += len(table)
    if not found:
        raise HfGarError(f"{job.folder} has no recording called {name!r} in its column {column}.")
    if len(found) > 1:
        rows = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise HfGarError(f"{len(found)} recordings of {job.folder} are called {name!r}: say which `row`, of {rows}.")
    return found[0]
