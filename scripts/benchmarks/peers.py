"""What a user would pick instead, with random weights: only the speed counts.

Each is there if its package is; each is its network alone, which takes ready-made spectrograms.
"""

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

Run = Callable[[], Any]


def peers(model_type: str, batch: int, frames: int) -> dict[str, Run]:
    """Runs of a batch of spectrograms of so many mel frames, by the peer's name."""
    make = {"cnn14-fusion": _panns_inference, "vggish-fusion": _torchvggish, "ast-fusion": _transformers}
    with contextlib.suppress(ImportError):
        return make[model_type](batch, frames) if model_type in make else {}
    return {}


def _panns_inference(batch: int, frames: int) -> dict[str, Run]:
    # Which is where importing it downloads the names of labels.
    config: Any = ModuleType("panns_inference.config")
    config.labels, config.classes_num = [], 527
    sys.modules.setdefault(config.__name__, config)
    from panns_inference.models import Cnn14

    network = Cnn14(
        sample_rate=16000, window_size=512, hop_size=160, mel_bins=64, fmin=50, fmax=8000, classes_num=527
    ).eval()
    network.spectrogram_extractor = network.logmel_extractor = nn.Identity()
    features = torch.randn(batch, 1, frames, 64)
    return {"panns_inference": partial(network, features)}


def _torchvggish(batch: int, frames: int) -> dict[str, Run]:
    from torchvggish.torchvggish import VGG, make_layers

    network = VGG(make_layers(), postprocess=False).eval()
    patches = torch.randn(batch * max(1, frames // 96), 1, 96, 64)
    return {"torchvggish": partial(network, patches)}


def _transformers(batch: int, frames: int) -> dict[str, Run]:
    from transformers import ASTConfig, ASTModel

    runs: dict[str, Run] = {}
    for name, length in (("transformers", frames), ("transformers, 1,024 frames", 1024)):
        network = ASTModel(ASTConfig(max_length=length)).eval()
        features = torch.randn(batch, length, 128)
        runs[name] = partial(network, features)
    return runs
