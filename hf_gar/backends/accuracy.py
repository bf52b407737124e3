"""How close a network's embeddings are to those of PyTorch in float32, and how fast it gives them."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from hf_gar.backends.description import Cosines
from hf_gar.backends.network import Network
from hf_gar.models import FusionFeatureExtractor

REPETITIONS = 3
# As many as a job passes at a time. With few, PyTorch's threads, which wait busily after its turn, slow others down.
CLIPS, CLIP_S = 16, 5.0


def compare(network: Network, reference: Network, inputs: Sequence[dict[str, np.ndarray]]) -> tuple[Cosines, Cosines]:
    """The cosine similarities of clip and of frame embeddings, each input (1, time, feature) being a clip."""
    clips, frames = [], []
    for each in inputs:
        tensors = {name: torch.from_numpy(array) for name, array in each.items()}
        with torch.inference_mode():
            found, expected = network(**tensors), reference(**tensors)
        own = expected.frame_mask
        clips.append(_cosines(found.pooler_output, expected.pooler_output))
        frames.append(_cosines(found.last_hidden_state[own], expected.last_hidden_state[own]))
    return _summarize(torch.cat(clips)), _summarize(torch.cat(frames))


def _cosines(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(found.double(), expected.double(), dim=-1)


def _summarize(cosines: torch.Tensor) -> Cosines:
    return Cosines(float(cosines.min()), float(cosines.median()))


def time_in_turns(runs: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, np.ndarray]:
    """How long each run takes, (repetition,) in seconds; they take turns, so that none has a busier machine."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for repetition in range(1 + repetitions):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                if repetition:  # the first one warms up
                    seconds[name].append(time.perf_counter() - began)
    return {name: np.array(each) for name, each in seconds.items()}


def measure_speedups(
    network: Network, others: Mapping[str, Network], extractor: FusionFeatureExtractor
) -> dict[str, float]:
    """How many times as fast a network is as others, on clips of 5 s; the medians of runs that take turns."""
    samples = round(CLIP_S * extractor.sampling_rate)
    noise = 0.1 * np.random.default_rng(0).standard_normal((CLIPS, samples)).astype(np.float32)
    is_fixed = extractor.max_length is not None
    inputs = extractor(noise, sampling_rate=extractor.sampling_rate, truncation=is_fixed, return_tensors="pt")
    runs = {name: partial(each, inputs["input_features"]) for name, each in {"": network, **others}.items()}
    seconds = time_in_turns(runs, REPETITIONS)
    own = float(np.median(seconds.pop("")))
    return {name: float(np.median(each)) / own for name, each in seconds.items()}
