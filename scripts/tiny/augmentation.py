"""Batches for training: crops of clips, mixed, filtered, reverberated, noised and masked, all on spectrograms.

The power of a mixture is, on average, the sum of its parts' powers, so that what is done to waveforms can be done to
power mel spectrograms, for a fraction of the work.
"""

from functools import lru_cache

import numpy as np
import torch

from tiny.spectrograms import Spectrograms

FLOOR = -100.0  # dB, the front end's own
CROPS = (64, 96, 128, 160, 224)  # mel frames, one length a batch


class Batches(torch.utils.data.Dataset):
    """The batches of a training, each made from its number alone."""

    def __init__(self, clips: Spectrograms, size: int, steps: int, seed: int):
        """What they are cut from, the clips in a batch, how many batches there are, and the seed of all chance."""
        self.clips, self.size, self.steps, self.seed = clips, size, steps, seed
        self.shuffled_pass = lru_cache(maxsize=2)(self._shuffle)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch: spectrograms (clip, mel frame, mel) and targets (clip, label), the shares of what is mixed."""
        rng = np.random.default_rng([self.seed, step])
        length = int(rng.choice(CROPS))
        count = len(self.clips.ends)
        places = range(step * self.size, (step + 1) * self.size)  # in an endless sequence of shuffled passes
        numbers = [int(self.shuffled_pass(place // count)[place % count]) for place in places]
        decibels = torch.from_numpy(np.stack([crop(self.clips.clip(number), length, rng) for number in numbers]))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return Augmentation(generator, self.size)(decibels, self._targets(numbers))

    def _shuffle(self, number: int) -> np.ndarray:
        return np.random.default_rng([self.seed, number, 1]).permutation(len(self.clips.ends))

    def _targets(self, numbers: list[int]) -> torch.Tensor:
        columns = [
            torch.nn.functional.one_hot(torch.from_numpy(chosen) + 1, len(names) + 1)[:, 1:]
            for chosen, names in zip(self.clips.targets[numbers].T, self.clips.labels.values(), strict=True)
        ]
        return torch.cat(columns, dim=1).float()


def crop(clip: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """A random piece of a clip (mel frame, mel), or all of it at a random place in silence, float32."""
    spare = len(clip) - length
    if spare >= 0:
        begin = int(rng.integers(spare + 1))
        return clip[begin : begin + length].astype(np.float32)
    piece = np.full((length, clip.shape[1]), FLOOR, np.float32)
    begin = int(rng.integers(-spare + 1))
    piece[begin : begin + len(clip)] = clip
    return piece


class Augmentation:
    """What is done to a batch, each part to a random share of its clips."""

    def __init__(self, generator: torch.Generator, size: int):
        self.generator, self.size = generator, size

    def __call__(self, decibels: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Spectrograms (clip, mel frame, mel) in dB and targets (clip, label), as `Batches` gives them."""
        power = 10 ** (self.shift(decibels) / 10)
        power = self.reverberate(power)
        power = power * 10 ** (self.filter(power.shape[2]) / 10)
        power, targets = self.mix(power, targets)
        power = self.add_noise(power)
        decibels = 10 * torch.log10(power.clamp(min=1e-12)) + self.uniform(-15, 10)
        decibels = decibels + self.limit_band(decibels.shape[2])
        return self.mask(decibels.clamp(min=FLOOR)), targets

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Random numbers (clip, 1, 1), or (clip, *shape)."""
        return low + (high - low) * torch.rand(self.size, *(shape or (1, 1)), generator=self.generator)

    def happens(self, probability: float) -> torch.Tensor:
        """For each clip whether something is done to it, (clip, 1, 1)."""
        return self.uniform(0, 1) < probability

    def shift(self, decibels: torch.Tensor) -> torch.Tensor:
        """Move half of the spectrograms up or down by at most 3 mel bins: another pitch, another size."""
        mel = decibels.shape[2]
        position = (torch.arange(mel) + self.uniform(-3, 3) * self.happens(0.5)).clamp(0, mel - 1)
        below = position.floor().long()
        above = (below + 1).clamp(max=mel - 1)
        share = position - below
        return decibels.gather(2, below.expand_as(decibels)) * (1 - share) + (
            decibels.gather(2, above.expand_as(decibels)) * share
        )

    def reverberate(self, power: torch.Tensor) -> torch.Tensor:
        """Let a third of the clips ring on: power decays exponentially, by 60 dB in 0.15 to 1.5 s."""
        frames = torch.arange(48)
        seconds = 0.15 * 10 ** self.uniform(0, 1)
        tail = 10 ** (-6 * frames * 0.01 / seconds) * (10 ** self.uniform(-2.5, -0.7))
        tail = torch.where(self.happens(0.33), tail, 0)
        tail[..., 0] = 1
        padded = torch.nn.functional.pad(power.transpose(1, 2), (len(frames) - 1, 0)).transpose(0, 1)  # mel, clip, time
        return torch.nn.functional.conv1d(padded, tail.flip(2), groups=self.size).permute(1, 2, 0)

    def filter(self, mel: int) -> torch.Tensor:
        """A smooth random gain of each mel bin in dB, (clip, 1, mel)."""
        points = torch.randn(self.size, 1, 6, generator=self.generator) * self.uniform(0, 7)
        return torch.nn.functional.interpolate(points, mel, mode="linear", align_corners=True)

    def mix(self, power: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add another clip of the batch to half of the clips, up to 10 dB louder or softer."""
        other = torch.randperm(self.size, generator=self.generator)
        level = power.mean((1, 2), keepdim=True).clamp(min=1e-9)
        ratio = 10 ** (self.uniform(-10, 10) / 10) * self.happens(0.5)
        mixed = power + power[other] * ratio * level / level[other]
        share = 1 / (1 + ratio.sqrt().squeeze(2))
        return mixed, share * targets + (1 - share) * targets[other]

    def add_noise(self, power: torch.Tensor) -> torch.Tensor:
        """Add steady noise of a random colour to most clips, at 0 to 45 dB below them."""
        level = power.mean((1, 2), keepdim=True) * 10 ** (-self.uniform(0, 45) / 10) * self.happens(0.8)
        slope = 10 ** (self.uniform(-2.5, 1) * torch.linspace(-0.5, 0.5, power.shape[2]))
        noise = -torch.rand(2, *power.shape, generator=self.generator).clamp(min=1e-6).log().mean(0)
        return power + level * slope / slope.mean(2, keepdim=True) * noise

    def limit_band(self, mel: int) -> torch.Tensor:
        """The gain in dB of what lets a fifth of the clips through below a random mel bin only, (clip, 1, mel)."""
        beyond = torch.arange(mel) - self.uniform(30, 60)
        return torch.where(self.happens(0.2), (-12 * beyond).clamp(-80, 0), 0)

    def mask(self, decibels: torch.Tensor) -> torch.Tensor:
        """Replace a span of mel frames and one of mel bins by the mean, each in half of the clips."""
        _, time, mel = decibels.shape
        mean = decibels.mean((1, 2), keepdim=True)
        for axis, widest in ((torch.arange(time)[:, None], time // 5), (torch.arange(mel)[None], 10)):
            width = self.uniform(0, widest) * self.happens(0.5)
            begin = self.uniform(0, 1) * (axis.numel() - width)
            decibels = torch.where((axis >= begin) & (axis < begin + width), mean, decibels)
        return decibels
