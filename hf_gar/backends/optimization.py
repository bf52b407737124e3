"""Export a repository's network for another runtime, and show how close to the original it is, and how fast."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hf_gar.backends.accuracy import compare, measure_speedups
from hf_gar.backends.choice import INT8, TORCH_DTYPES, choose_torch_dtype, load_network, require_known
from hf_gar.backends.description import (
    NETWORK_FILES,
    ONNX,
    OPENVINO,
    Cosines,
    OptimizedNetwork,
    chosen_length,
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
    kinds: Sequence[tuple[str, str]],
    spectrograms: Spectrograms,
    *,
    allow_inaccurate: bool = False,
    report: Callable[[str], object] = lambda line: None,
    **config: Any,
) -> list[OptimizedNetwork]:
    """Put networks for other runtimes beside a repository's weights, and tell of them in its `optimized.json`.

    Args:
        repository: In a folder of this machine.
        kinds: The backend and the dtype of each network.
        spectrograms: What int8 networks are calibrated on, and what networks are compared with PyTorch on.
        allow_inaccurate: Keep a network whose worst cosine to PyTorch in float32 is below 0.99, too.
        report: Called with a line about each step.
        config: Fields of the model's configuration to replace, such as `fusion_layers`.

    Raises:
        HfGarError: One cannot be exported, is not close enough, or cannot be written.
        ValueError: There is no such backend or dtype.
    """
    require_exporters(kinds)
    folder = repository.folder
    models = {"float32": repository.load_model(**config)}
    if choose_torch_dtype("cpu") == "bfloat16":
        models["bfloat16"] = repository.load_model(TORCH_DTYPES["bfloat16"], **config)
    model, extractor = models["float32"], repository.load_feature_extractor()
    extractor.match(model.config)
    networks = []
    with write_errors(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".optimize-") as temporary:
        report(f"exporting {repository.name}")
        exported = Path(temporary) / "float32.onnx"
        export_onnx(model, extractor, exported)
        for backend, dtype in kinds:
            report(f"making a network for {backend} in {dtype}, and comparing it with PyTorch")
            files = network_files(backend, dtype, model.config, repository.load_config())
            path = Path(temporary) / files[0]
            path.parent.mkdir(exist_ok=True)
            _make(exported, path, (backend, dtype), _calibration_inputs(model, extractor, spectrograms.calibration))
            network = load_network(backend, path, dtype, model.config, model.pooling)
            clips, frames = compare(network, model, [_inputs(extractor, each) for each in spectrograms.held_out])
            if min(clips.worst, frames.worst) < MINIMUM_COSINE and not allow_inaccurate:
                raise _not_close_enough(f"{backend} in {dtype}", clips, frames)
            optimized = OptimizedNetwork(
                backend,
                dtype,
                sha256={name: file_digest(Path(temporary) / name, "sha256") for name in files},
                weights_sha256=repository.weights_sha256,
                network=network_fields(model.config),
                clips=clips,
                frames=frames,
                speedups=measure_speedups(network, models, extractor),
                calibration=spectrograms.source if dtype == INT8 else None,
                versions={library: version(library) for library in ("hf_gar", "torch", *EXPORTERS[backend])},
                max_length=chosen_length(model.config),
            )
            del network  # which may have its file mapped into memory
            for name in files:
                (folder / name).parent.mkdir(exist_ok=True)
                (Path(temporary) / name).chmod(0o644)
                (Path(temporary) / name).replace(folder / name)
            write_optimized(folder, optimized)
            networks.append(optimized)
    return networks


def require_exporters(kinds: Sequence[tuple[str, str]]) -> None:
    """Raise where there is no such network, by its backend and dtype, or what makes it is not installed."""
    for backend, dtype in kinds:
        require_known(backend, dtype)
        if (backend, dtype) not in NETWORK_FILES:
            known = ", ".join(" in ".join(pair) for pair in NETWORK_FILES)
            raise ValueError(f"There is no network for {backend} in {dtype}; there are {known}.")
        missing = [library for library in EXPORTERS[backend] if find_spec(library) is None]
        if missing:
            raise HfGarError(f'{", ".join(missing)} is not installed: pip install "hf_gar[{backend}]"')


def _not_close_enough(name: str, clips: Cosines, frames: Cosines) -> HfGarError:
    return HfGarError(
        f"The network for {name} is not close enough to PyTorch in float32: its worst cosine is {clips.worst:.4f} of "
        f"clips and {frames.worst:.4f} of frames, below {MINIMUM_COSINE}. Calibrate it on recordings that are like "
        "yours (`calibration`), choose another `dtype`, or allow it (`allow_inaccurate`)."
    )


def _make(exported: Path, path: Path, kind: tuple[str, str], calibration: Sequence[Inputs]) -> None:
    """Write the network of a backend and dtype, `kind`, of one in ONNX and float32."""
    if kind == (ONNX, "float32"):
        shutil.copyfile(exported, path)
    elif kind == (ONNX, INT8):
        quantize_onnx(exported, path, calibration)
    elif kind == (OPENVINO, INT8):
        quantize_openvino(exported, path, calibration)
    else:
        convert_to_openvino(exported, path)


def _calibration_inputs(
    model: FusionModel, extractor: FusionFeatureExtractor, spectrograms: Sequence[np.ndarray]
) -> list[Inputs]:
    """The exported network's inputs, batches of one, which have a mask where it takes one."""
    names = (FEATURES, MASK) if model.config.is_padding_safe else (FEATURES,)
    return [{name: _inputs(extractor, each)[name] for name in names} for each in spectrograms]


def _inputs(extractor: FusionFeatureExtractor, spectrogram: np.ndarray) -> Inputs:
    """The inputs of a network for a batch of one."""
    padded = extractor.pad({FEATURES: [spectrogram]}, return_tensors="np")
    return {FEATURES: padded[FEATURES], MASK: padded[MASK].astype(np.int64)}
