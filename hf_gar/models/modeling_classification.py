"""What the classifiers on the fusion models share: a linear layer on the clip embedding, loss, loading and saving."""

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .configuration_fusion import FusionConfig
from .fusion import is_traced
from .modeling_fusion import FusionModel, FusionPreTrainedModel

# Imported so that save_pretrained, which copies what this file imports, copies the pipeline that config.json names.
from .pipeline_audio_classification import FusionAudioClassificationPipeline  # noqa: F401

CLASSIFICATION_PIPELINE = {
    "audio-classification": {
        "impl": "pipeline_audio_classification.FusionAudioClassificationPipeline",
        "pt": ["AutoModelForAudioClassification"],
        "type": "audio",
    }
}
MOMENTUM = 0.1  # the share of a batch in the running statistics


class ClassifierError(ValueError, RuntimeError):
    """The classifier that is stored is not the configuration's; where sizes differ, transformers has a RuntimeError."""


class Standardization(nn.BatchNorm1d):
    """Batch normalisation without weights: embeddings (batch, D) by the training clips' mean and variance.

    The first batches are averaged, so that few are enough: with a momentum from the start, much of what the statistics
    begin with, 0 and 1, would remain.
    """

    def __init__(self, size: int):
        super().__init__(size, affine=False)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        if self.training and len(embeddings) == 1:  # which has no variance
            return nn.functional.batch_norm(embeddings, self.running_mean, self.running_var, eps=self.eps)
        if self.training:
            assert self.num_batches_tracked is not None
            self.momentum = max(MOMENTUM, 1 / (1 + int(self.num_batches_tracked)))
        return super().forward(embeddings)


class FusionForAudioClassification(FusionPreTrainedModel):
    """Base of the classifiers: a fusion model, a normalisation of its clip embedding, and a linear layer.

    A subclass names the class of its `backbone`, which then knows it, too: either saves a repository that both load.
    """

    _auto_class = "AutoModelForAudioClassification"
    backbone_class: type[FusionModel]

    def __init_subclass__(cls, **kwargs):
        backbone_class = vars(cls).get("backbone_class")
        if backbone_class is not None:
            cls.config_class = backbone_class.config_class
            backbone_class.classifier_class = cls
        super().__init_subclass__(**kwargs)

    def __init__(self, config: FusionConfig):
        super().__init__(config)
        self.backbone = self.backbone_class(config.classifier_backbone())
        size = self.backbone.config.embedding_size
        if config.classifier_norm == "batch_norm":
            self.classifier_norm: nn.Module = Standardization(size)
        elif config.classifier_norm == "layer_norm":  # with the epsilon of the network's own, as in transformers' AST
            eps = getattr(config, "layer_norm_eps", 1e-5)
            self.classifier_norm = nn.LayerNorm(size, eps=eps, elementwise_affine=False)
        else:
            self.classifier_norm = nn.Identity()
        self.classifier = nn.Linear(size, config.num_labels)
        self.post_init()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *model_args,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        **kwargs,
    ):
        """Load a classifier, as in transformers; where there is none in a repository, it is new, with a warning.

        Raises:
            ValueError: A weight will not do, as in `FusionPreTrainedModel.from_pretrained`.
            ClassifierError: The classifier is another one than the configuration's, without `ignore_mismatched_sizes`.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **kwargs,
        )
        if not ignore_mismatched_sizes:
            model._require_whole_classifier(info)
        return (model, info) if output_loading_info else model

    def _require_whole_classifier(self, info: dict) -> None:
        """Raise a ClassifierError where, by `info` on what was loaded, only some of the classifier's weights fit."""
        weights = {name: weight for name, weight in self.state_dict().items() if not name.startswith("backbone.")}
        missing = weights.keys() & info["missing_keys"]
        # In transformers 5 with their shapes.
        mismatched = sorted(each if isinstance(each, str) else each[0] for each in info["mismatched_keys"])
        problems = [f"{name} has another shape than {tuple(weights[name].shape)}" for name in mismatched]
        if missing != weights.keys():  # all of it is missing where it is new
            problems += [f"{name} is missing" for name in sorted(missing)]
        problems += [f"{name} is unknown" for name in sorted(info["unexpected_keys"])]
        if problems:
            raise ClassifierError(
                f"The stored classifier does not have {self.config.num_labels} labels on the layers "
                f"{list(self.backbone.config.fused_layers)} with classifier_norm={self.config.classifier_norm!r}: "
                f"{'; '.join(problems)}. Load it with its own configuration; or pass ignore_mismatched_sizes=True to "
                "replace it by a new one, which has to be trained."
            )

    def save_pretrained(self, save_directory, **kwargs):
        """Save a repository, as in transformers, which the class of the backbone loads, too."""
        # However the fusion is chosen when it is loaded again, the classifier stays on its layers.
        self.config.classifier_layers = list(self.backbone.config.fused_layers)
        self.config.custom_pipelines = {**self.config.custom_pipelines, **CLASSIFICATION_PIPELINE}
        super().save_pretrained(save_directory, **kwargs)

    def freeze_feature_encoder(self) -> None:
        """Train the classifier alone: the backbone's weights are frozen, and it stays in evaluation mode."""
        self.backbone.requires_grad_(False)
        self.backbone.eval()

    def train(self, mode: bool = True):
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()  # frozen: no dropout, and its normalisations keep their statistics
        return self

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        """The logits (batch, label) of clip embeddings (batch, D), as the backbone gives them."""
        return self.classifier(self.classifier_norm(embeddings.to(self.classifier.weight.dtype)))

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[torch.Tensor, ...]:
        """Classify a batch of clips.

        Args:
            input_features: The feature extractor's spectrograms, (batch, time, mel).
            attention_mask: (batch, time), 1 for a clip's own frames, which come first; by default all are.
            labels: Of each clip: its number, (batch,), for cross-entropy; or, with
                `problem_type="multi_label_classification"`, 1 for each label that it has, (batch, label), for binary
                cross-entropy. Without a `problem_type`, floats are taken for the latter.
            output_hidden_states: Whether to return the frames of each layer that is classified as well.
            output_attentions: Whether to return the attentions as well, as in `FusionModel.forward`.

        Returns:
            The logits, (batch, label); with `labels`, the loss, their mean.

        Raises:
            ValueError: The input has another shape or length than the network takes, or the labels are not of these.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        outputs = self.backbone(
            input_features,
            attention_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        logits = self.classify(outputs.pooler_output)
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """transformers' loss of logits (batch, label), after a check of the labels."""
        batch, num_labels = logits.shape
        kind = self.config.problem_type
        if kind is None:
            kind = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
        is_multi_label = kind == "multi_label_classification"
        expected = (batch, num_labels) if is_multi_label else (batch,)
        if labels.shape != expected:
            raise ValueError(
                f"labels has the shape {tuple(labels.shape)}, expected {expected} for problem_type={kind!r} and "
                f"{num_labels} labels."
            )
        if num_labels == 1 and not is_multi_label:
            raise ValueError(
                "There is only one label, which every clip has. Give the clips without it a label of their own, or set "
                'problem_type="multi_label_classification".'
            )
        if not is_multi_label and labels.device.type == "cpu" and not is_traced() and labels.max() >= num_labels:
            raise ValueError(
                f"labels has the number {int(labels.max())}, but the classifier has {num_labels} labels, which are "
                "numbered from 0. Load it with your own labels (id2label, label2id), and ignore_mismatched_sizes=True "
                "where it had others."
            )
        self.config.problem_type = kind  # as transformers does: it is saved, and the pipeline follows it
        logits = logits.float()
        return self.loss_function(labels.to(logits.dtype) if is_multi_label else labels, logits, self.config)
