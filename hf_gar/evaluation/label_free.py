"""Which layers to fuse, ranked without labels, by what their embeddings of unlabelled recordings look like.

Two crops of each recording are embedded, its halves, once for all layers. Every layer and every pair is measured:

- effective rank: in how many directions the embeddings spread (Roy & Vetterli, 2007). Networks whose embeddings have a
  higher one classify better after linear evaluation ("RankMe", Garrido et al., 2023);
- isotropy: how evenly they spread over all directions (the uniformity of Wang & Isola, 2020);
- agreement: how much more alike the halves of a recording are than those of different ones, in standard deviations of
  the latter.

All three follow from the inner products of standardised embeddings, which add up over the layers that are fused.
"""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from datasets.utils import tqdm

from hf_gar.embedding.crop import FIRST_HALF, SECOND_HALF
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.sources.source import Source
from hf_gar.errors import HfGarError
from hf_gar.evaluation.embed_task import EmbeddingOptions, embed_once
from hf_gar.evaluation.optional import import_optional
from hf_gar.evaluation.task_data import FILE_NAME, SPLIT

RECORDING = "recording"
MEASURES = ("effective_rank", "isotropy", "agreement")
# Fewer recordings say little of the directions that embeddings spread in.
ADVISED_RECORDINGS = 100
MINIMUM_RECORDINGS = 3
MAX_RECORDINGS = 1000
SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class LabelFreeRanking:
    """Layers and pairs of layers, ranked without labels.

    Args:
        candidates: One row a choice, the first ranked first: layers (a tuple), dimension, the three `MEASURES`, each of
            them the better the higher, and mean_rank, the mean of its places by them, from 1.
        num_recordings: How many were embedded.
    """

    candidates: pd.DataFrame
    num_recordings: int

    @property
    def best(self) -> tuple[int, ...]:
        """The layers that are ranked first."""
        return self.candidates["layers"].iloc[0]


def embed_halves(
    source: Source,
    embedder: AudioEmbedder,
    job_folder: str | Path,
    max_recordings: int = MAX_RECORDINGS,
    options: EmbeddingOptions | None = None,
) -> np.ndarray:
    """Embed both halves of recordings, as a job that is kept.

    Args:
        source: The recordings; of more than `max_recordings`, so many are chosen at random, always the same.
        embedder: Its `crop` is a `Halves`.
        job_folder: As in `hf-gar embed`.
        max_recordings: The most recordings that are taken.
        options: How they are embedded.

    Returns:
        (half, recording, D).

    Raises:
        HfGarError: The source is streamed, the folder holds another job, or recordings could not be embedded.
    """
    if not isinstance(source.dataset, datasets.Dataset):
        raise HfGarError(
            "Recordings in tar files are streamed, and cannot be chosen at random. Name a folder, a table or a dataset."
        )
    chosen = np.sort(np.random.default_rng(0).permutation(len(source.dataset))[:max_recordings])
    recordings = source.dataset.select(chosen)
    kept = [name for name in (source.audio_column, FILE_NAME) if name in recordings.column_names]
    recordings = recordings.select_columns(kept).add_column(RECORDING, np.arange(len(recordings)))
    both = [recordings.add_column(SPLIT, [half] * len(recordings)) for half in (FIRST_HALF, SECOND_HALF)]
    halved = Source(datasets.concatenate_datasets(both), source.audio_column, source.names, source.options)
    results = embed_once(halved, embedder, job_folder, options or EmbeddingOptions())
    table = results.rows.assign(position=np.arange(len(results.rows)))
    positions = table.pivot(index=RECORDING, columns=SPLIT, values="position").dropna().astype(int)
    return results.embeddings[positions[[FIRST_HALF, SECOND_HALF]].to_numpy().T]


def rank_layers(halves: np.ndarray, slices: dict[int, slice]) -> LabelFreeRanking:
    """Rank each layer and each pair of layers.

    Args:
        halves: The embeddings of the halves, (half, recording, D), of all layers.
        slices: Which of their dimensions are each layer's.

    Raises:
        HfGarError: There are fewer than three recordings.
    """
    num_recordings = halves.shape[1]
    if num_recordings < MINIMUM_RECORDINGS:
        raise HfGarError(
            f"{num_recordings} recordings are too few to rank layers by: take {ADVISED_RECORDINGS} or more."
        )
    products = {layer: inner_products(halves[:, :, part]) for layer, part in slices.items()}
    choices = [*((layer,) for layer in slices), *combinations(slices, 2)]
    candidates = pd.DataFrame(
        {
            "layers": layers,
            "dimension": sum(slices[layer].stop - slices[layer].start for layer in layers),
            **measure(np.sum([products[layer] for layer in layers], axis=0)),
        }
        for layers in tqdm(choices, desc="Ranking layers", unit=" choices")
    )
    candidates["mean_rank"] = candidates[list(MEASURES)].rank(ascending=False, na_option="bottom").mean(axis=1)
    candidates = candidates.sort_values(["mean_rank", "dimension"], ignore_index=True)
    return LabelFreeRanking(candidates, num_recordings)


def inner_products(halves: np.ndarray) -> np.ndarray:
    """Of a layer's embeddings (half, recording, D), each dimension of each half standardised, the inner products.

    Returns:
        Of first with first halves, first with second and second with second, (3, recording, recording).
    """
    scaler = import_optional("sklearn.preprocessing").StandardScaler()
    first, second = (scaler.fit_transform(half.astype(np.float64)) for half in halves)
    return np.stack([first @ first.T, first @ second.T, second @ second.T])


def measure(products: np.ndarray) -> dict[str, float]:
    """The `MEASURES` of embeddings whose `inner_products`, (3, recording, recording), are given."""
    first, cross, second = products
    lengths = [np.sqrt(np.maximum(np.diagonal(each), SMALLEST)) for each in (first, second)]
    others = ~np.eye(len(cross), dtype=bool)  # pairs of different recordings
    within = [(each / np.outer(length, length))[others] for each, length in zip((first, second), lengths, strict=True)]
    similarity = cross / np.outer(*lengths)
    own, of_others = similarity.diagonal(), similarity[others]
    with np.errstate(divide="ignore", invalid="ignore"):  # where a layer's outputs are all alike
        agreement = (own.mean() - of_others.mean()) / of_others.std()
    return {
        "effective_rank": float(np.mean([effective_rank(each) for each in (first, second)])),
        # Of vectors of length 1, the squared distance is twice what the cosine lacks to 1.
        "isotropy": float(-np.log(np.mean([np.exp(-4 * (1 - cosines)) for cosines in within]))),
        "agreement": float(agreement),
    }


def effective_rank(products: np.ndarray) -> float:
    """The exponential of the entropy of the singular values of embeddings (recording, D).

    Args:
        products: Their inner products, (recording, recording).
    """
    singular_values = np.sqrt(np.maximum(np.linalg.eigvalsh(products), 0))
    return float(np.exp(import_optional("scipy.stats").entropy(singular_values)))
