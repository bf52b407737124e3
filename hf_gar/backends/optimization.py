"""Export a repository's network for another runtime, and show how close to the original it is, and how fast."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hf_gar.backends.accuracy import compare, measure_speedups
from hf_gar.backends.choice import INT8, TORCH_DTYPES, choose_torch_dtype, load_network, require_known
from hf_gar.backends.description import (
    NETWORK_FILES,
    ONNX,
    OptimizedNetwork,
    network_fields,
    network_files,
    write_optimized,
)
from hf_gar.backends.exported_network import FEATURES, MASK
from hf_gar.backends.onnx_export import export_onnx
from hf_gar.backends.quantization import Inputs, convert_to_openvino, quantize_onnx, quantize_openvino
from hf_gar.checkpoints.download import file_digest
from hf_gar.errors import HfGarError
from hf_gar.files import write_errors
from hf_gar.hub.load import Repository
from hf_gar.models import FusionFeatureExtractor, FusionModel

MINIMUM_COSINE = 0.99
# What makes a network for a runtime.
EXPORTERS = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "openvino": ("nncf", "onnx", "onnxscript", "openvino")}


@dataclass(frozen=True)
class Spectrograms:
    """Spectrograms (time, mel) of recordings, to calibrate on, and of others, to measure on; and what they are of."""

    calibration: Sequence[np.ndarray]
    held_out: Sequence[np.ndarray]
    source: str


def optimize_network(
    repository: Repository,
    backend: str,
    dtype: str,
    spectrograms: Spectrograms,
    *,
    allow_inaccurate: bool = False,
    report: Callable[[str], object] = lambda line: None,
    **config: Any,
) -> OptimizedNetwork:
    """Put a network for another runtime beside a repository's weights, and tell of it in its `optimized.json`.

    Args:
        repository: In a folder of this machine.
        backend: "onnx" or "openvino".
        dtype: "float32", "int8", or, of OpenVINO, "bfloat16".
        spectrograms: What an int8 network is calibrated on, and what the network is compared with PyTorch on.
        allow_inaccurate: Keep a network whose worst cosine to PyTorch in float32 is below 0.99, too.
        report: Called with a line about each step.
        config: Fields of the model's configuration to replace, such as `fusion_layers`.

    Raises:
        HfGarError: It cannot be exported, is not close enough, or cannot be written.
        ValueError: There is no such backend or dtype.
    """
    require_exporters(backend, dtype)
    model = repository.load_model(**config)
    extractor = repository.load_feature_extractor()
    extractor.match(model.config)
    files, folder = network_files(backend, dtype, model.config, repository.load_config()), repository.folder
    with write_errors(folder / files[0]), tempfile.TemporaryDirectory(dir=folder, prefix=".optimize-") as temporary:
        made = Path(temporary)
        report(f"exporting {repository.name} to {backend} in {dtype}")
        _make(model, extractor, made / files[0], (backend, dtype), spectrograms.calibration)
        report("comparing it with PyTorch in float32")
        network = load_network(backend, made / files[0], dtype, model.config, model.pooling)
        clips, frames = compare(network, model, [_inputs(extractor, each) for each in spectrograms.held_out])
        worst = min(clips.worst, frames.worst)
        if worst < MINIMUM_COSINE and not allow_inaccurate:
            raise HfGarError(
                f"The network is not close enough to PyTorch in float32: its worst cosine is {clips.worst:.4f} of "
                f"clips and {frames.worst:.4f} of frames, below {MINIMUM_COSINE}. Calibrate it on recordings that are "
                "like yours (`calibration`), choose another `dtype`, or allow it (`allow_inaccurate`)."
            )
        report("measuring its speed")
        others = {"float32": model}
        if choose_torch_dtype("cpu") == "bfloat16":
            others["bfloat16"] = repository.load_model(TORCH_DTYPES["bfloat16"], **config)
        optimized = OptimizedNetwork(
            backend,
            dtype,
            sha256={name: file_digest(made / name, "sha256") for name in files},
            weights_sha256=repository.weights_sha256,
            network=network_fields(model.config),
            clips=clips,
            frames=frames,
            speedups=measure_speedups(network, others, extractor),
            calibration=spectrograms.source if dtype == INT8 else None,
            versions={library: version(library) for library in ("hf_gar", "torch", *EXPORTERS[backend])},
        )
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (made / name).chmod(0o644)
            (made / name).replace(folder / name)
    write_optimized(folder, optimized)
    return optimized


def require_exporters(backend: str, dtype: str) -> None:
    """Raise where there is no such network, or what makes it is not installed."""
    require_known(backend, dtype)
    if (backend, dtype) not in NETWORK_FILES:
        known = ", ".join(" in ".join(pair) for pair in NETWORK_FILES)
        raise ValueError(f"There is no network for {backend} in {dtype}; there are {known}.")
    missing = [library for library in EXPORTERS[backend] if find_spec(library) is None]
    if missing:
        raise HfGarError(f'{", ".join(missing)} is not installed: pip install "hf_gar[{backend}]"')


def _make(
    model: FusionModel,
    extractor: FusionFeatureExtractor,
    path: Path,
    kind: tuple[str, str],
    calibration: Sequence[np.ndarray],
) -> None:
    """Write the network of a backend and dtype, `kind`."""
    backend, dtype = kind
    path.parent.mkdir()
    float_path = path if kind == (ONNX, "float32") else path.parent / "float32.onnx"
    export_onnx(model, extractor, float_path)
    if dtype == INT8:
        inputs = [_inputs(extractor, each, model.config.is_padding_safe) for each in calibration]
        if backend == ONNX:
            quantize_onnx(float_path, path, inputs)
        else:
            is_transformer = any(isinstance(module, nn.LayerNorm) for module in model.modules())
            quantize_openvino(float_path, path, inputs, is_transformer)
    elif backend != ONNX:
        convert_to_openvino(float_path, path)


def _inputs(extractor: FusionFeatureExtractor, spectrogram: np.ndarray, with_mask: bool = True) -> Inputs:
    """The inputs of a network for a batch of one."""
    padded = extractor.pad({FEATURES: [spectrogram]}, return_tensors="np")
    mask = {MASK: padded[MASK].astype(np.int64)} if with_mask else {}
    return {FEATURES: padded[FEATURES], **mask}
