"""Choose the layers to fuse, by classes, words and voices that were held out of training and are in no other task."""

from itertools import combinations

import datasets
import numpy as np
import pandas as pd
import torch
from datasets.utils import tqdm

from hf_gar import Cnn14FusionModel
from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.evaluation.evaluate import EmbeddedTask, evaluate_embeddings
from hf_gar.evaluation.layer_search import choose_dimensions
from hf_gar.evaluation.tasks import LEARNING_RATE
from tiny.spectrograms import Spectrograms

FOLDS = 5


@torch.no_grad()
def embed(model: Cnn14FusionModel, clips: Spectrograms) -> np.ndarray:
    """The embeddings of the layers that a model fuses, (clip, D), each clip on its own."""
    spectrograms = (torch.from_numpy(clips.clip(number).astype(np.float32)) for number in range(len(clips.ends)))
    return np.concatenate([model(each[None]).pooler_output.numpy() for each in spectrograms])


def development_tasks(rows: datasets.Dataset, embeddings: np.ndarray) -> dict[str, EmbeddedTask]:
    """Four tasks of held-out classes.

    Words that were not trained on, by voices that were not either, in folds of voices; the voices, in folds of words;
    instruments; and kinds of synthetic sound.
    """
    table = rows.select_columns(["sound", "word", "voice", "source"]).to_pandas()
    is_spoken, is_synthetic = table["word"].notna(), table["source"] == "synthetic"
    within = table.groupby("sound").cumcount()
    return {
        "new words": _task(table["word"], _numbers(table["voice"]), is_spoken, embeddings),
        "new voices": _task(table["voice"], _numbers(table["word"]), is_spoken, embeddings),
        "new instruments": _task(table["sound"], within, ~is_spoken & ~is_synthetic, embeddings),
        "new kinds": _task(table["sound"], within, is_synthetic, embeddings),
    }


def _numbers(names: pd.Series) -> pd.Series:
    return pd.Series(pd.factorize(names, sort=True)[0], names.index)


def _task(labels: pd.Series, groups: pd.Series, chosen: pd.Series, embeddings: np.ndarray) -> EmbeddedTask:
    """The task of telling labels apart, of the chosen clips, in folds of groups."""
    classes, targets = np.unique(labels[chosen].to_numpy(str), return_inverse=True)
    folds = (groups[chosen] % FOLDS).to_numpy().astype(str)
    names = [str(number) for number in np.flatnonzero(chosen)]
    return EmbeddedTask(embeddings[chosen.to_numpy()], targets, tuple(classes), folds, True, names)


def compare_layers(model: Cnn14FusionModel, tasks: dict[str, EmbeddedTask]) -> pd.DataFrame:
    """The accuracy, in %, on each task of every set of layers, by their mean: the best first, of equals the smaller.

    Args:
        model: Whose configuration fuses all layers.
        tasks: As `development_tasks` makes them of its embeddings.
    """
    slices = layer_slices(model.config)
    choices = [layers for size in range(1, len(slices) + 1) for layers in combinations(slices, size)]
    scores = [
        {
            name: 100 * evaluate_embeddings(choose_dimensions(task, slices, layers), [LEARNING_RATE]).test.mean
            for name, task in tasks.items()
        }
        for layers in tqdm(choices, "Comparing layers", unit=" sets")
    ]
    table = pd.DataFrame(scores, index=pd.Index(["+".join(map(str, layers)) for layers in choices], name="layers"))
    table["mean"] = table.mean(axis=1)
    return table.sort_values("mean", ascending=False, kind="stable")
