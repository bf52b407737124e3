"""What a converter makes of a checkpoint file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from hf_gar.checkpoints.audioset_labels import audioset_labels


@dataclass(frozen=True)
class ConvertedClassifier:
    """A checkpoint's own classifier, a linear layer on the network's own embedding.

    Args:
        weight: (label, D).
        bias: (label,).
        norm: What normalises the embedding, as in the configuration's `classifier_norm`.
        labels: The names of its labels; where they are not known, AudioSet's if there are as many as AudioSet has.
        problem_type: As in transformers; by default "multi_label_classification" for AudioSet's labels.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    norm: str | None = None
    labels: Sequence[str] | None = None
    problem_type: str | None = None

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights under our names."""
        return {"classifier.weight": self.weight, "classifier.bias": self.bias}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the configuration, but for the layer."""
        fields: dict[str, Any] = {"classifier_norm": self.norm, "problem_type": self.problem_type}
        labels = self.labels
        if labels is None and len(self.weight) == len(audioset_labels()):
            labels = audioset_labels()
        if labels is None:
            return {**fields, "num_labels": len(self.weight)}
        if tuple(labels) == audioset_labels():
            fields["problem_type"] = self.problem_type or "multi_label_classification"
        numbers = {label: index for index, label in enumerate(labels)}
        return {**fields, "id2label": {index: label for label, index in numbers.items()}, "label2id": numbers}


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """Weights under our names, with the arguments of the configuration and the feature extractor that go with them.

    `classifier` is the checkpoint's own, where it has one; `dropped` is what else it had, which is not in `state_dict`.
    """

    state_dict: dict[str, torch.Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    feature_extractor: dict[str, Any] = field(default_factory=dict)
    classifier: ConvertedClassifier | None = None
    dropped: Sequence[str] = ()
