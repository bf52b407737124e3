"""Train a small CNN14 to name what it hears."""

from dataclasses import dataclass

import torch
from datasets.utils import tqdm

from hf_gar import Cnn14FusionConfig, Cnn14FusionModel
from hf_gar.models.modeling_fusion import set_channels_last
from tiny.augmentation import Batches
from tiny.spectrograms import Spectrograms

CHANNELS = (16, 32, 64, 96, 128, 224)
# How much each column of labels counts.
WEIGHTS = {"sound": 1.0, "word": 1.0, "voice": 0.3}
# Batches over which the statistics of batch normalisation are averaged in the end.
STATISTICS_STEPS = 200


@dataclass(frozen=True)
class TrainingOptions:
    """How the network is trained.

    Args:
        steps: Batches.
        batch_size: Clips in a batch.
        learning_rate: AdamW's highest: it rises from 0 and falls to 0 along a cosine.
        weight_decay: AdamW's.
        seed: Of the weights and the batches.
    """

    steps: int = 5500
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    seed: int = 0


def train(clips: Spectrograms, options: TrainingOptions) -> Cnn14FusionModel:
    """A trained network, its own classifier dropped; the same again for the same options on the same machine."""
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    model = untrained_network()
    set_channels_last(model)
    labels = sum(len(names) for names in clips.labels.values())
    classifier = torch.nn.Linear(model.config.embedding_size, labels)
    parameters = [*model.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, options.steps, pct_start=0.1, cycle_momentum=False
    )
    batches = Batches(clips, options.batch_size, options.steps, options.seed)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4)
    model.train()
    smooth = None
    with tqdm(loader, "Training", unit=" batches") as bar:
        for spectrograms, targets in bar:
            loss = step_loss(model, classifier, spectrograms, targets, clips)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
            smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
            bar.set_postfix_str(f"loss {smooth:.3f}", refresh=False)
    average_statistics(model, Batches(clips, options.batch_size, STATISTICS_STEPS, options.seed + 1))
    return model.eval()


def untrained_network() -> Cnn14FusionModel:
    """The network with random weights, its own embedding as the output."""
    return Cnn14FusionModel(Cnn14FusionConfig(fusion_layers=None, channels=CHANNELS, dropout=0.0))


def step_loss(
    model: Cnn14FusionModel,
    classifier: torch.nn.Linear,
    spectrograms: torch.Tensor,
    targets: torch.Tensor,
    clips: Spectrograms,
) -> torch.Tensor:
    """The cross-entropy of each column of labels over the clips that have one, weighted."""
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = model(spectrograms).pooler_output
    scores = classifier(torch.nn.functional.dropout(embeddings.float(), 0.1))
    sizes = [len(names) for names in clips.labels.values()]
    losses = [
        -WEIGHTS[column] * (target * score.log_softmax(1)).sum() / len(targets)
        for column, score, target in zip(clips.labels, scores.split(sizes, 1), targets.split(sizes, 1), strict=True)
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def average_statistics(model: Cnn14FusionModel, batches: Batches) -> None:
    """Replace batch normalisation's running statistics by their averages over batches."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
    for spectrograms, _ in torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1):
        model(spectrograms)
    for layer in layers:
        layer.momentum = 0.1
