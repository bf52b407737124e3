"""Train the linear layers of an evaluation: all seeds, folds and learning rates together, as one batched computation.

Every run has its own training clips, shuffles, standardisation, learning rate and early stopping, and comes out as if
it had been trained alone. Runs that differ in the learning rate only see the same mini-batches.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets.utils import tqdm

from hf_gar.evaluation.metrics import accuracy, mean_average_precision
from hf_gar.evaluation.partitions import Partition

# The mini-batches that are worked on at a time: more than the processor's cache holds is slower, not faster.
CHUNK_BYTES = 32 * 2**20
GPU_CHUNK_BYTES = 2**30
STATISTICS_ROWS = 4096
# Batches that are not full are filled up to a multiple of this, so that few shapes occur.
PADDING = 32
# A dimension whose standard deviation is within rounding of 0 is constant.
CONSTANT = 1e-6


@dataclass(frozen=True)
class ProbeSettings:
    """How a linear layer is trained (section IV of the paper).

    Args:
        batch_size: Clips in a mini-batch.
        max_epochs: The most passes over the training clips.
        patience: Training stops after so many epochs without a better validation score.
        weight_decay: Adam's.
    """

    batch_size: int = 200
    max_epochs: int = 200
    patience: int = 20
    weight_decay: float = 1e-8


@dataclass(frozen=True)
class ProbeRun:
    """One trained linear layer.

    Args:
        partition: The clips it was trained, chosen and tested on.
        learning_rate: Adam's.
        best_epoch: The epoch whose weights were kept, counted from 1.
        epochs: How many were trained.
        valid_score: The metric on the validation clips, after the best epoch.
        valid_scores: The layer's outputs for the validation clips, (validation clip, class).
        test_scores: Those for the test clips, (test clip, class).
        weight: Of the layer, for standardised embeddings, (class, D); None for a logistic regression.
        bias: Likewise, (class,).
    """

    partition: Partition
    learning_rate: float
    best_epoch: int
    epochs: int
    valid_score: float
    valid_scores: np.ndarray
    test_scores: np.ndarray
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


def train_linear_probes(
    embeddings: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    partitions: Sequence[Partition],
    learning_rates: Sequence[float],
    settings: ProbeSettings | None = None,
    device: str = "cpu",
) -> list[ProbeRun]:
    """Train a linear layer for each partition and learning rate.

    Args:
        embeddings: (clip, D) float32.
        targets: The class of each clip, (clip,), for cross-entropy and accuracy; or (clip, class), true where a clip
            has a label, for binary cross-entropy and mean average precision.
        num_classes: How many there are.
        partitions: The training, validation and test clips of each seed and fold.
        learning_rates: Adam's, all of which are tried on each partition.
        settings: As in the paper by default.
        device: As in PyTorch.

    Returns:
        The runs: all learning rates of the first partition, then of the next.
    """
    settings = settings or ProbeSettings()
    features = torch.from_numpy(np.ascontiguousarray(embeddings, np.float32)).to(device)
    labels = torch.from_numpy(targets.astype(np.float32 if targets.ndim == 2 else np.int64)).to(device)
    chunk_bytes = CHUNK_BYTES if features.device.type == "cpu" else GPU_CHUNK_BYTES
    chunk = max(1, chunk_bytes // (4 * settings.batch_size * features.shape[1]))
    chunks = [partitions[start : start + chunk] for start in range(0, len(partitions), chunk)]
    runs = []
    title = f"Training {len(partitions) * len(learning_rates)} linear classifiers"
    with tqdm(total=len(chunks) * settings.max_epochs, desc=title, unit=" epochs", leave=None) as bar:
        for left, together in zip(reversed(range(len(chunks))), chunks, strict=True):
            runs += _Training(features, labels, num_classes, together, learning_rates, settings).run(bar.update)
            bar.total = bar.n + left * settings.max_epochs  # most stop early
    return runs


class _Run:
    """The state of one run: its parameters, views into the training's, and the best that it has come to."""

    def __init__(self, learning_rate: float):
        self.learning_rate = learning_rate
        self.weight = torch.nn.Parameter(torch.empty(0))
        self.bias = torch.nn.Parameter(torch.empty(0))
        self.best_score = -math.inf
        self.best_epoch = 0
        self.epochs = 0
        self.best_weight = torch.empty(0)
        self.best_bias = torch.empty(0)

    def end_epoch(self, score: float) -> None:
        self.epochs += 1
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epochs
            self.best_weight, self.best_bias = self.weight.detach().clone(), self.bias.detach().clone()

    def is_finished(self, settings: ProbeSettings) -> bool:
        return self.epochs >= settings.max_epochs or self.epochs - self.best_epoch >= settings.patience


class _Group:
    """The runs of one partition, which see the same mini-batches: one for each learning rate."""

    def __init__(self, features: torch.Tensor, num_classes: int, partition: Partition, learning_rates: Sequence[float]):
        self.partition = partition
        self.runs = [_Run(learning_rate) for learning_rate in learning_rates]
        self.scale, self.shift = standardisation(features, partition.train)
        # As torch.nn.Linear begins, and then the shuffles, all from the run's own seed.
        self.generator = torch.Generator().manual_seed(partition.seed)
        dimension = features.shape[1]
        weight, bias = torch.empty(num_classes, dimension), torch.empty(num_classes)
        torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=self.generator)
        torch.nn.init.uniform_(bias, -1 / math.sqrt(dimension), 1 / math.sqrt(dimension), generator=self.generator)
        for run in self.runs:
            run.weight.data, run.bias.data = weight.to(features.device), bias.to(features.device)

    def shuffled(self) -> torch.Tensor:
        """The training clips in the order of one epoch, (training clip,)."""
        return torch.from_numpy(self.partition.train)[
            torch.randperm(len(self.partition.train), generator=self.generator)
        ]


def standardisation(features: torch.Tensor, train: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """What standardises each dimension as x * scale + shift, both (D,); a constant dimension becomes 0.

    Args:
        features: (clip, D).
        train: The clips that the mean and the standard deviation are taken of.
    """
    # In pieces and in float64, since a copy of all training clips may not fit into memory.
    rows = torch.from_numpy(train).to(features.device).split(STATISTICS_ROWS)
    wide = torch.float64 if features.device.type != "mps" else torch.float32
    mean = torch.stack([features[piece].sum(0, dtype=wide) for piece in rows]).sum(0) / len(train)
    squares = [(features[piece] - mean.float()).square().sum(0, dtype=wide) for piece in rows]
    deviation = (torch.stack(squares).sum(0) / len(train)).sqrt()
    scale = torch.where(deviation > CONSTANT * mean.abs(), 1 / deviation, 0)
    return scale.float(), (-mean * scale).float()


def pad_rows(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Clip numbers of several groups as one tensor (group, clip), filled up with -1."""
    longest = max(len(row) for row in rows)
    padded = torch.full((len(rows), -(-longest // PADDING) * PADDING), -1)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


class _Training:
    """Runs that are trained together.

    The parameters of the groups that still train are one tensor, (group, run * class, D), of which each run's
    parameters are views: one multiplication serves all runs, and `torch.optim.Adam` steps each with its own learning
    rate.
    """

    def __init__(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        num_classes: int,
        partitions: Sequence[Partition],
        learning_rates: Sequence[float],
        settings: ProbeSettings,
    ):
        self.features, self.labels, self.num_classes, self.settings = features, labels, num_classes, settings
        self.groups = [_Group(features, num_classes, partition, learning_rates) for partition in partitions]
        self._gather()
        self.buffer = features.new_empty(len(partitions) * settings.batch_size, features.shape[1])
        runs = [run for group in self.groups for run in group.runs]
        self.optimizer = torch.optim.Adam(
            [
                {"params": [p for run in runs if run.learning_rate == rate for p in (run.weight, run.bias)], "lr": rate}
                for rate in dict.fromkeys(learning_rates)
            ],
            weight_decay=settings.weight_decay,
            fused=features.device.type in ("cpu", "cuda"),
        )

    def run(self, on_epoch: Callable[[], object]) -> list[ProbeRun]:
        """Train to the end; `on_epoch` is called after each epoch."""
        groups = self.groups
        while self.groups:
            self._train_epoch()
            self._validate()
            on_epoch()
            unfinished = [
                group for group in self.groups if not all(run.is_finished(self.settings) for run in group.runs)
            ]
            if len(unfinished) < len(self.groups):
                self.groups = unfinished
                self._gather()
        self.groups = groups
        for group in groups:
            for run in group.runs:
                run.weight.data, run.bias.data = run.best_weight, run.best_bias
        self._gather()
        valid = self._outputs([group.partition.valid for group in groups])
        test = self._outputs([group.partition.test for group in groups])
        return [
            ProbeRun(
                partition=group.partition,
                learning_rate=run.learning_rate,
                best_epoch=run.best_epoch,
                epochs=run.epochs,
                valid_score=run.best_score,
                valid_scores=valid_scores,
                test_scores=test_scores,
                weight=run.best_weight.cpu().numpy(),
                bias=run.best_bias.cpu().numpy(),
            )
            for group, group_valid, group_test in zip(groups, valid, test, strict=True)
            for run, valid_scores, test_scores in zip(group.runs, group_valid, group_test, strict=True)
        ]

    def _gather(self) -> None:
        """Put the groups' parameters and standardisations into one tensor each, and make the former views again."""
        if not self.groups:
            return
        self.weight = torch.stack([torch.cat([run.weight.data for run in group.runs]) for group in self.groups])
        self.bias = torch.stack([torch.cat([run.bias.data for run in group.runs]) for group in self.groups])
        self.scale = torch.stack([group.scale for group in self.groups])[:, None]
        self.shift = torch.stack([group.shift for group in self.groups])[:, None]
        for index, group in enumerate(self.groups):
            for number, run in enumerate(group.runs):
                run.weight.data = self.weight[index, self._classes(number)]
                run.bias.data = self.bias[index, self._classes(number)]

    def _classes(self, number: int) -> slice:
        """The rows of a group's parameters that are its run `number`'s."""
        return slice(number * self.num_classes, (number + 1) * self.num_classes)

    def _inputs(self, rows: torch.Tensor) -> torch.Tensor:
        """Standardised embeddings (group, clip, D) of clip numbers (group, clip), of which -1 stands for none."""
        gathered = self.buffer[: rows.numel()]  # to allocate so much in every step takes as long as to fill it
        torch.index_select(self.features, 0, rows.clamp(min=0).flatten(), out=gathered)
        gathered = gathered.view(*rows.shape, -1)
        return torch.addcmul(self.shift, gathered, self.scale, out=gathered)

    def _linear(self, inputs: torch.Tensor) -> torch.Tensor:
        """The outputs (group, clip, run, class) for inputs (group, clip, D)."""
        outputs = torch.baddbmm(self.bias[:, None], inputs, self.weight.transpose(1, 2))
        return outputs.view(*outputs.shape[:2], -1, self.num_classes)

    def _train_epoch(self) -> None:
        batch = self.settings.batch_size
        for rows in pad_rows([group.shuffled() for group in self.groups]).split(batch, dim=1):
            self._step(rows.to(self.features.device), (rows >= 0).any(1).tolist())

    def _step(self, rows: torch.Tensor, has_clips: list[bool]) -> None:
        """One step of Adam for all runs that have not finished and have clips in this batch; `rows` (group, clip)."""
        inputs = self._inputs(rows)
        gradient = self._loss_gradient(self._linear(inputs), rows).flatten(2)
        weight_gradient = torch.bmm(gradient.transpose(1, 2), inputs)
        bias_gradient = gradient.sum(1)
        for index, group in enumerate(self.groups):
            for number, run in enumerate(group.runs):
                trains = has_clips[index] and not run.is_finished(self.settings)
                run.weight.grad = weight_gradient[index, self._classes(number)] if trains else None
                run.bias.grad = bias_gradient[index, self._classes(number)] if trains else None
        self.optimizer.step()

    def _loss_gradient(self, outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The gradient of the mean loss of each group's clips with respect to `outputs` (group, clip, run, class)."""
        is_clip = rows >= 0
        weight = is_clip / is_clip.sum(1, keepdim=True).clamp(min=1)
        labels = self.labels[rows.clamp(min=0)]
        if labels.ndim == 3:  # several labels: binary cross-entropy, its mean over clips and classes
            error = (outputs.sigmoid() - labels[:, :, None]) / self.num_classes
        else:
            error = outputs.softmax(-1)
            error.scatter_add_(
                -1, labels[:, :, None, None].expand(*error.shape[:3], 1), -torch.ones_like(error[..., :1])
            )
        return error * weight[:, :, None, None]

    def _validate(self) -> None:
        valid = [group.partition.valid for group in self.groups]
        for group, clips, outputs in zip(self.groups, valid, self._outputs(valid), strict=True):
            targets = self.labels[torch.from_numpy(clips).to(self.labels.device)].cpu().numpy()
            metric = mean_average_precision if targets.ndim == 2 else accuracy
            for run, scores in zip(group.runs, outputs, strict=True):
                if not run.is_finished(self.settings):
                    run.end_epoch(metric(scores, targets))

    def _outputs(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """For each group the outputs of its runs for its clips, (run, clip, class)."""
        batch = self.settings.batch_size
        padded = pad_rows([torch.from_numpy(numbers) for numbers in clips])
        pieces = [
            self._linear(self._inputs(rows.to(self.features.device))).cpu().numpy()
            for rows in padded.split(batch, dim=1)
        ]
        outputs = np.concatenate(pieces, axis=1)
        return [outputs[index, : len(numbers)].transpose(1, 0, 2) for index, numbers in enumerate(clips)]
