"""Embeddings whose classes are known."""

import numpy as np

from hf_gar.evaluation.evaluate import EmbeddedTask


def clusters(clips: int, dimension: int, classes: int, spread: float = 1.0, seed: int = 0):
    """Embeddings (clip, D) around a centre for each class, far from standardised, and the classes (clip,)."""
    generator = np.random.default_rng(seed)
    targets = np.arange(clips) % classes
    centres = generator.normal(size=(classes, dimension))
    embeddings = 5 + 3 * (centres[targets] + spread * generator.normal(size=(clips, dimension)))
    return embeddings.astype(np.float32), targets


def single_label_task(clips=120, dimension=8, classes=3, folds=None, spread=1.0, seed=0) -> EmbeddedTask:
    """A task of the splits train, valid and test, or of folds."""
    embeddings, targets = clusters(clips, dimension, classes, spread, seed)
    order = np.arange(clips) // classes
    splits = np.array(["train", "train", "valid", "test"])[order % 4]
    memberships = (order % folds + 1).astype(str) if folds else splits
    names = tuple(f"class{index}" for index in range(classes))
    return EmbeddedTask(embeddings, targets, names, memberships, bool(folds), [f"{i}.wav" for i in range(clips)])
