"""Train a network together with its classifier, by transformers' Trainer."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from datasets.utils import tqdm
from safetensors.torch import load_file, save_file
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_gar.checkpoints.reading import read_json
from hf_gar.errors import HfGarError
from hf_gar.evaluation.metrics import accuracy, mean_average_precision
from hf_gar.files import replace_when_whole, write_new_file, write_whole_file
from hf_gar.models import FusionForAudioClassification
from hf_gar.quiet import quiet_libraries
from hf_gar.training.augmentation import Augmentation
from hf_gar.training.clips import Clips

SETTINGS_FILE, RESULT_FILE, WEIGHTS_FILE = "settings.json", "result.json", "model.safetensors"
LOGS = "logs"
RATE_OF_A_MILLION = 0.001
STATE_FILE = "trainer_state.json"  # the last file of a checkpoint to be written

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class FineTuning:
    """How a network is fine-tuned.

    Args:
        learning_rate: The highest that AdamW comes to; by default, the larger the network, the smaller: 0.001 for a
            million weights, divided by the root of the number of millions.
        classifier_share: The share of it that the linear layer, which is trained already, gets.
        epochs: The most passes over the training clips.
        patience: Training stops after so many epochs without a lower validation loss.
        batch_size: Clips in a mini-batch.
        weight_decay: AdamW's.
        warmup: The share of the training in which the learning rate rises; it falls to 0 along a cosine in the rest.
        seed: Of shuffles and augmentation.
        augmentation: What is changed at random in the recordings.
    """

    learning_rate: float | None = None
    classifier_share: float = 0.1
    epochs: int = 20
    patience: int = 8
    batch_size: int = 16
    weight_decay: float = 0.01
    warmup: float = 0.1
    seed: int = 42
    augmentation: Augmentation = field(default_factory=Augmentation)

    def learning_rate_of(self, model: FusionForAudioClassification) -> float:
        """The learning rate, or the default for a model."""
        return self.learning_rate or RATE_OF_A_MILLION / (model.num_parameters() / 1e6) ** 0.5


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning came to: `best_epoch` is counted from 1, 0 where the network is best as it was."""

    best_epoch: int
    epochs: int


def fine_tune(
    model: FusionForAudioClassification,
    train: Clips,
    valid: Clips,
    folder: Path,
    settings: FineTuning,
    identity: dict[str, Any],
    device: str,
) -> FineTuned:
    """Train all of a classifier's weights, and leave it with those of the lowest validation loss, its own included.

    Its normalisations keep their statistics: those of the padded, mixed and masked clips of a batch are others. A
    training that was killed is resumed from the last epoch that it finished; one that has ended is read.

    Args:
        model: The classifier, whose linear layer is trained already; on the processor.
        train: The training clips.
        valid: The validation clips.
        folder: For checkpoints, the state of the training, and TensorBoard's logs.
        settings: How it is trained.
        identity: What else tells this training from others in the same folder, as JSON has it.
        device: As in PyTorch.

    Raises:
        HfGarError: The folder holds another training.
    """
    _require_same(folder, {**asdict(settings), **identity})
    if (folder / RESULT_FILE).exists():
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        return FineTuned(**json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")))
    with quiet_libraries(), _fixed_statistics(model):
        trainer = _make_trainer(model, train, valid, folder, settings, device)
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        loss_before = trainer.evaluate()["eval_loss"]
        trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
        state = trainer.state
    per_epoch = -(-len(train) // settings.batch_size)
    result = FineTuned((state.best_global_step or 0) // per_epoch, state.global_step // per_epoch)
    if state.best_metric is None or not state.best_metric <= loss_before:  # or it is not a number
        model.load_state_dict(before)
        result = FineTuned(0, result.epochs)
    model.cpu().eval()
    with replace_when_whole(folder / WEIGHTS_FILE) as temporary:
        save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, temporary)
    write_whole_file(folder / RESULT_FILE, json.dumps(asdict(result)) + "\n")
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint)
    return result


def _make_trainer(
    model: FusionForAudioClassification, train: Clips, valid: Clips, folder: Path, settings: FineTuning, device: str
) -> Trainer:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    epoch = -(-len(train) // settings.batch_size)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate_of(model),
        weight_decay=settings.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * settings.epochs * epoch),
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,  # and the best
        load_best_model_at_end=True,
        metric_for_best_model="loss",  # the accuracy of few clips is the same for many epochs
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        seed=settings.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        use_cpu=device == "cpu",
        disable_tqdm=True,
        report_to="none",
    )
    is_multi_label = model.config.problem_type == "multi_label_classification"
    loss: Loss = binary_cross_entropy_with_logits if is_multi_label else cross_entropy
    trainer = Trainer(
        model,
        arguments,
        data_collator=train.collate,
        train_dataset=train,
        eval_dataset=valid,
        compute_loss_func=partial(_loss, loss),
        compute_metrics=_mean_average_precision if is_multi_label else _accuracy,
        optimizers=(_make_optimizer(model, settings), None),
        callbacks=[
            EarlyStoppingCallback(settings.patience),
            TensorBoardCallback(SummaryWriter(str(folder / LOGS))),
            _Progress(epoch),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _loss(function: Loss, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """The mean loss; `labels` (clip, class) are from 0 to 1: of a mixture, what it has of each class."""
    return function(outputs.logits, labels)


def _accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": accuracy(prediction.predictions, prediction.label_ids.argmax(1))}


def _mean_average_precision(prediction: Any) -> dict[str, float]:
    return {"mAP": mean_average_precision(prediction.predictions, prediction.label_ids)}


def _make_optimizer(model: FusionForAudioClassification, settings: FineTuning) -> torch.optim.Optimizer:
    trained = [(name.startswith("classifier."), weight) for name, weight in model.named_parameters()]
    rate = settings.learning_rate_of(model)
    rates = {True: settings.classifier_share * rate, False: rate}
    groups = [
        {"params": [weight for is_classifier, weight in trained if is_classifier == kind], "lr": rate}
        for kind, rate in rates.items()
    ]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


class _Progress(TrainerCallback):
    """One bar, of steps, that tells the lowest validation loss."""

    def __init__(self, steps_per_epoch: int):
        self.steps_per_epoch = steps_per_epoch
        self.bar: Any = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="Fine-tuning", unit=" batches", leave=None
        )

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and logs and "eval_loss" in logs:
            epoch = state.global_step // self.steps_per_epoch
            self.bar.set_postfix_str(f"epoch {epoch}: validation loss {logs['eval_loss']:.3f}")

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


@contextlib.contextmanager
def _fixed_statistics(model: torch.nn.Module) -> Iterator[None]:
    """Within the block, batch normalisations use the statistics that they have, in training, too."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    # The trainer puts the whole model into training mode at each step.
    hooks = [norm.register_forward_pre_hook(lambda module, _: module.eval() and None) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _require_same(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what a folder's training is; raise a HfGarError where it is another one."""
    path = folder / SETTINGS_FILE
    described = json.dumps(settings, indent=2) + "\n"
    if not path.exists():
        write_new_file(path, described)
    there = read_json(path)
    different = [name for name, value in json.loads(described).items() if there.get(name) != value]
    if different:
        raise HfGarError(
            f"{folder} holds a fine-tuning with another {different[0]}. Remove that folder to begin again, or choose "
            "another `output`."
        )


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def _last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that is whole; what was being written when the training was killed is removed."""
    last = None
    for checkpoint in _checkpoints(folder):
        try:
            json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
            last = str(checkpoint)
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
    return last
