"""What the machine can do: convolutions like those of the networks, by the fastest library that is there."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.timing import take_turns

# So many 3x3 convolutions of 256 channels, on a batch of feature maps as of CNN14's third block.
DEPTH, BATCH, CHANNELS, TIME, FREQUENCY = 4, 8, 256, 128, 16
OPERATIONS = DEPTH * 2 * 9 * CHANNELS * CHANNELS * BATCH * TIME * FREQUENCY


def measure_limits(repetitions: int) -> dict[str, float]:
    """The most operations a second, in units of 10^9, by precision."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((BATCH, CHANNELS, TIME, FREQUENCY), np.float32)
    weights = generator.standard_normal((CHANNELS, CHANNELS, 3, 3), np.float32) / 48
    runs = _torch(features, weights)
    with contextlib.suppress(ImportError):
        runs.update(_openvino(features, weights))
    limits: dict[str, float] = {}
    for name, speed in take_turns(runs, 1, repetitions).items():
        dtype = name.split()[-1]
        limits[dtype] = max(limits.get(dtype, 0), OPERATIONS * speed.median / 1e9)
    return limits


def _torch(features: np.ndarray, weights: np.ndarray) -> dict[str, Callable[[], Any]]:
    runs: dict[str, Callable[[], Any]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        x, w = (
            torch.from_numpy(each).to(dtype).contiguous(memory_format=torch.channels_last)
            for each in (features, weights)
        )

        runs[f"torch {name}"] = partial(_convolve, x, w)
    return runs


def _convolve(features: torch.Tensor, weights: torch.Tensor) -> None:
    for _ in range(DEPTH):
        features = torch.nn.functional.conv2d(features, weights, padding=1).relu_()


def _openvino(features: np.ndarray, weights: np.ndarray) -> dict[str, Callable[[], Any]]:
    from hf_gar.backends.openvino_network import openvino, shared_core

    ops = openvino.opset13
    runs = {}
    for dtype, precision in (("float32", "f32"), ("bfloat16", "bf16"), ("int8", "f32")):
        x = result = ops.parameter(features.shape, np.float32)
        for _ in range(DEPTH):
            kernel = ops.constant(weights)
            if dtype == "int8":
                result = ops.fake_quantize(result, *map(np.float32, (0, 4, 0, 4)), levels=256)
                kernel = ops.fake_quantize(kernel, *map(np.float32, (-0.1, 0.1, -0.1, 0.1)), levels=255)
            result = ops.relu(ops.convolution(result, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = shared_core().compile_model(openvino.Model([result], [x]), "CPU", settings)
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(features))
        runs[f"openvino {dtype}"] = request.infer
    return runs
