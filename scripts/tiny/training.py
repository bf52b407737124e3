"""Train a small CNN14 to name what it hears, by its own embedding and by that of all of its blocks."""

from dataclasses import dataclass

import torch
from datasets.utils import tqdm

from hf_gar import Cnn14FusionConfig, Cnn14FusionForAudioClassification, Cnn14FusionModel
from hf_gar.models.modeling_classification import Standardization
from hf_gar.models.modeling_fusion import set_channels_last
from tiny.augmentation import Batches
from tiny.spectrograms import Spectrograms

CHANNELS = (16, 32, 64, 96, 128, 224)
BLOCKS = list(range(1, len(CHANNELS) + 1))
UNFUSED = len(CHANNELS) + 1
# How much each column of labels counts, and how much what all blocks tell, beside the network's own embedding.
WEIGHTS = {"sound": 1.0, "word": 1.0, "voice": 0.3}
ALL_BLOCKS_WEIGHT = 0.5
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

    steps: int = 6000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    seed: int = 0


class Tagger(torch.nn.Module):
    """The network, and the linear layers that tell labels from its embeddings while it is trained.

    Args:
        labels: The names of each column's labels.
    """

    def __init__(self, labels: dict[str, list[str]]):
        super().__init__()
        self.network = Cnn14FusionModel(network_config(labels["sound"], BLOCKS))
        set_channels_last(self.network)
        self.sizes = {column: len(names) for column, names in labels.items()}
        own_size, size = CHANNELS[-1], self.network.config.embedding_size
        self.by_own_embedding = torch.nn.ModuleDict(
            {column: torch.nn.Linear(own_size, count) for column, count in self.sizes.items()}
        )
        self.by_all_blocks = torch.nn.Sequential(
            Standardization(size), torch.nn.Dropout(0.3), torch.nn.Linear(size, sum(self.sizes.values()))
        )

    def loss(self, spectrograms: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The cross-entropy of each column of labels over the clips that have one, weighted.

        Args:
            spectrograms: (clip, mel frame, mel).
            targets: The share of each label, one column's after another, (clip, label).
        """
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.network(spectrograms, output_hidden_states=True)
            own = self.own_embeddings(outputs.hidden_states[-1])
        own = torch.nn.functional.dropout(own.float(), 0.1)
        by_all_blocks = self.by_all_blocks(outputs.pooler_output.float())
        sizes = list(self.sizes.values())
        losses = []
        for (column, layer), target, scores in zip(
            self.by_own_embedding.items(), targets.split(sizes, 1), by_all_blocks.split(sizes, 1), strict=True
        ):
            for weight, logits in ((1.0, layer(own)), (ALL_BLOCKS_WEIGHT, scores)):
                losses.append(-WEIGHTS[column] * weight * (target * logits.log_softmax(1)).sum() / len(target))
        return torch.stack(losses).sum()

    def own_embeddings(self, last_block: torch.Tensor) -> torch.Tensor:
        """CNN14's own embeddings (clip, D) of its last block's frames, (clip, frame, channel * frequency)."""
        frames = last_block.unflatten(2, (CHANNELS[-1], -1)).mean(3)
        return self.network.fc1(frames.amax(1) + frames.mean(1)).relu()

    def classifier(self, sounds: list[str]) -> Cnn14FusionForAudioClassification:
        """The network with the classifier that tells sounds from its own embedding, in evaluation mode."""
        model = Cnn14FusionForAudioClassification(network_config(sounds, BLOCKS))
        model.backbone.load_state_dict(self.network.state_dict())
        model.classifier.load_state_dict(self.by_own_embedding["sound"].state_dict())
        return model.eval()


def network_config(sounds: list[str], layers: list[int]) -> Cnn14FusionConfig:
    """The configuration of a network that fuses layers, and whose classifier tells sounds from its own embedding."""
    return Cnn14FusionConfig(
        fusion_layers=layers,
        depth=UNFUSED,
        channels=CHANNELS,
        dropout=0.0,
        classifier_layers=[UNFUSED],
        classifier_norm=None,
        id2label=dict(enumerate(sounds)),
        label2id={name: number for number, name in enumerate(sounds)},
        problem_type="single_label_classification",
    )


def train(clips: Spectrograms, options: TrainingOptions) -> Cnn14FusionForAudioClassification:
    """A trained network with its classifier; the same again for the same options on the same machine."""
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    tagger = Tagger(clips.labels)
    parameters = list(tagger.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, options.steps, pct_start=0.1, cycle_momentum=False
    )
    batches = Batches(clips, options.batch_size, options.steps, options.seed)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4)
    tagger.train()
    smooth = None
    with tqdm(loader, "Training", unit=" batches") as bar:
        for spectrograms, targets in bar:
            loss = tagger.loss(spectrograms, targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
            smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
            bar.set_postfix_str(f"loss {smooth:.3f}", refresh=False)
    average_statistics(tagger.network, Batches(clips, options.batch_size, STATISTICS_STEPS, options.seed + 1))
    return tagger.classifier(clips.labels["sound"])


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
