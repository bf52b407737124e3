"""Which clips a run is trained, validated and tested on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_gar.errors import HfGarError

SEEDS = (42, 43, 44)
VALID_SHARE = 0.1
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Partition:
    """The clips of one run, as numbers.

    Args:
        seed: Of the run: its initial weights, its shuffles, and the validation clips that are held out.
        fold: The fold that is tested; None where there are the splits.
        train: (training clip,).
        valid: (validation clip,).
        test: (test clip,).
    """

    seed: int
    fold: str | None
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def make_partitions(
    targets: np.ndarray, classes: Sequence[str], memberships: np.ndarray, has_folds: bool, seeds: Sequence[int] = SEEDS
) -> list[Partition]:
    """The partitions of a task: each seed with each fold, or each seed.

    Where there is no validation split, a tenth of the training clips is held out, every class in it.

    Args:
        targets: (clip,) class numbers, or (clip, class), true where a clip has a label.
        classes: Their names.
        memberships: The fold or the split of each clip, (clip,).
        has_folds: Whether `memberships` are folds.
        seeds: Of the runs.

    Raises:
        HfGarError: A split is empty, a class is missing from training, or is too small to be held out.
    """
    partitions = []
    for seed in seeds:
        if has_folds:
            folds = sort_folds(memberships)
            if len(folds) < 2:
                raise HfGarError(f"There is only the fold {folds[0]}: a task with folds needs at least two.")
            for fold in folds:
                rest, test = np.flatnonzero(memberships != fold), np.flatnonzero(memberships == fold)
                partitions.append(_partition(seed, fold, rest, None, test, targets, classes))
        else:
            train, valid, test = (np.flatnonzero(memberships == split) for split in SPLITS)
            for split, clips in (("train", train), ("test", test)):
                if not len(clips):
                    raise HfGarError(f"The split {split!r} is empty. Mark clips as {', '.join(SPLITS)}, or use folds.")
            partitions.append(_partition(seed, None, train, valid if len(valid) else None, test, targets, classes))
    return partitions


def sort_folds(memberships: np.ndarray) -> list[str]:
    """The folds that there are, by number where they are numbers."""
    return sorted(
        set(memberships.tolist()), key=lambda fold: (not fold.isdigit(), int(fold) if fold.isdigit() else 0, fold)
    )


def _partition(
    seed: int,
    fold: str | None,
    train: np.ndarray,
    valid: np.ndarray | None,
    test: np.ndarray,
    targets: np.ndarray,
    classes: Sequence[str],
) -> Partition:
    """A partition; without validation clips, they are held out of the training clips."""
    where = "" if fold is None else f" when fold {fold} is tested"
    counts = count_classes(targets[train], len(classes))
    used = count_classes(targets, len(classes)) > 0
    missing = [classes[int(index)] for index in np.flatnonzero(used & (counts == 0))]
    if missing:
        raise HfGarError(
            f"No training clip{where} has the class {list_names(missing)}. Add training clips, or leave the class out."
        )
    if valid is None:
        small = [classes[int(index)] for index in np.flatnonzero(counts == 1)]
        if small:
            raise HfGarError(
                f"Only one training clip{where} has the class {list_names(small)}: none is left when a validation clip "
                "of every class is held out. Add clips, or mark validation clips with the split 'valid'."
            )
        train, valid = hold_out(train, targets, seed)
        if (count_classes(targets[train], len(classes))[used] == 0).any():  # clips of several labels
            raise HfGarError(f"Too few training clips{where} to hold out validation clips of every class. Add clips.")
    for name, clips in (("validation", valid), ("test", test)):
        if not count_classes(targets[clips], len(classes)).any():
            raise HfGarError(f"No {name} clip{where} has any label: there is nothing to score. Label some.")
    return Partition(seed, fold, train, valid, test)


def hold_out(
    train: np.ndarray, targets: np.ndarray, seed: int, share: float = VALID_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Split training clips into those that stay and a share that is held out, at least one clip of every class.

    Args:
        train: Clip numbers, (training clip,).
        targets: Of all clips: (clip,) or (clip, class).
        seed: Of the choice.
        share: That is held out, by default a tenth.
    """
    generator = np.random.default_rng(seed)
    held_out: list[np.ndarray] = []
    if targets.ndim == 1:
        for label in np.unique(targets[train]):
            clips = generator.permutation(train[targets[train] == label])
            held_out.append(clips[: max(1, round(share * len(clips)))])
    else:
        # The rarest class first: a clip that is held out for it counts for its other labels, too.
        labels = targets[train].astype(bool)
        chosen = np.zeros(len(train), bool)
        for label in np.argsort(labels.sum(0), kind="stable"):
            with_label = np.flatnonzero(labels[:, label])
            wanted = max(1, round(share * len(with_label))) if len(with_label) else 0
            for clip in generator.permutation(with_label[~chosen[with_label]]):
                if chosen[with_label].sum() >= wanted:
                    break
                # Not the last training clip of another of its labels.
                in_training = labels[~chosen].sum(0)
                chosen[clip] = (in_training[labels[clip]] > 1).all()
        held_out.append(train[chosen])
    valid = np.sort(np.concatenate(held_out))
    return np.setdiff1d(train, valid), valid


def count_classes(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """How many clips have each class, (class,)."""
    return targets.sum(0) if targets.ndim == 2 else np.bincount(targets, minlength=num_classes)


def list_names(names: Sequence[str], most: int = 5) -> str:
    """Names as an error lists them, up to so many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
