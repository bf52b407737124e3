"""What exported networks a repository holds, and how close to the original each was shown to be: `optimized.json`."""

import json
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path, PurePosixPath
from typing import Any

from hf_gar.checkpoints.download import file_digest
from hf_gar.checkpoints.reading import read_json
from hf_gar.errors import HfGarError
from hf_gar.files import write_whole_file
from hf_gar.hub.load import OPTIMIZED_FILE, Repository, joint_digest
from hf_gar.models import FusionConfig

TORCH, ONNX, OPENVINO = BACKENDS = ("torch", "onnx", "openvino")
# The file of each network, in the places of sentence-transformers and optimum. OpenVINO computes in bfloat16 what is
# stored in float32; ONNX Runtime has no bfloat16 for processors.
NETWORK_FILES: dict[tuple[str, str], str] = {
    (ONNX, "float32"): "onnx/model.onnx",
    (ONNX, "int8"): "onnx/model_qint8.onnx",
    (OPENVINO, "float32"): "openvino/openvino_model.xml",
    (OPENVINO, "bfloat16"): "openvino/openvino_model.xml",
    (OPENVINO, "int8"): "openvino/openvino_model_qint8_quantized.xml",
}
# Fields of a configuration that an exported network does not depend on, as AST's runs at any length; or that others
# tell: the layers, and of a backbone the weights.
IRRELEVANT_FIELDS = {
    "kwargs",
    "depth",
    "fusion_layers",
    "max_length",
    "dropout",
    "initializer_range",
    "backbone_config",
}


@dataclass(frozen=True)
class Cosines:
    """Cosine similarities to the embeddings of PyTorch in float32."""

    worst: float
    median: float


@dataclass(frozen=True)
class OptimizedNetwork:
    """A network that was exported into a repository.

    Args:
        backend: "onnx" or "openvino".
        dtype: "float32", "bfloat16" or "int8".
        sha256: Of its files, by their names in the repository, the one to load first.
        weights_sha256: Of the weights that it was made of.
        network: What of the configuration it depends on, as `network_fields` gives it.
        clips: How close its clip embeddings are, on recordings that it was not calibrated on.
        frames: How close its frame embeddings are, likewise.
        speedups: How many times as fast as PyTorch it was where it was made, by PyTorch's dtype.
        calibration: What an int8 network was calibrated on; None for others.
        versions: Of the libraries that made it.
        max_length: The input length that it was compared at, in frames, where a configuration chooses one, as AST's.
    """

    backend: str
    dtype: str
    sha256: dict[str, str]
    weights_sha256: str
    network: dict[str, Any]
    clips: Cosines
    frames: Cosines
    speedups: dict[str, float]
    calibration: str | None
    versions: dict[str, str]
    max_length: int | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Its files in the repository, the one to load first."""
        return tuple(self.sha256)

    @property
    def digest(self) -> str:
        """The sha256 of its files."""
        return joint_digest(list(self.sha256.values()))

    def fits(self, repository: Repository, config: FusionConfig) -> bool:
        """Whether it was made of a repository's weights, for a configuration."""
        return self.weights_sha256 == repository.weights_sha256 and self.network == network_fields(config)

    def was_compared_at(self, config: FusionConfig) -> bool:
        """Whether its cosines are of a configuration's input length; in float, they are of any.

        AST-Fusion in int8 for ONNX Runtime, calibrated on inputs of 5 s: 0.999 there, 0.949 on inputs of 1 s.
        """
        return self.calibration is None or self.max_length == chosen_length(config)

    def require_intact(self, folder: Path) -> None:
        """Raise a HfGarError where a file is missing, or is not the one that was measured."""
        for name in self.files:
            path = folder / name
            if not path.is_file():
                raise HfGarError(f"{path} is missing. Make it again with `hf-gar optimize`.")
            if file_digest(path, "sha256") != self.sha256[name]:
                raise HfGarError(
                    f"{path} is not the network that {OPTIMIZED_FILE} tells of. Make it again with `hf-gar optimize`."
                )


def network_files(backend: str, dtype: str, config: FusionConfig, default: FusionConfig) -> tuple[str, ...]:
    """The files of a network with a configuration, the one to load first, in a repository whose own is `default`.

    Networks on other layers than the default ones are beside it: `onnx/model_unfused.onnx`.
    """
    path = PurePosixPath(NETWORK_FILES[backend, dtype])
    layers = "_unfused" if config.layer_choice is None else f"_layers_{'_'.join(map(str, config.layer_choice))}"
    if config.layer_choice != default.layer_choice:
        path = path.with_stem(path.stem + layers)
    weights = [path.with_suffix(".bin")] if backend == OPENVINO else []
    return tuple(map(str, [path, *weights]))


def chosen_length(config: FusionConfig) -> int | None:
    """The input length of a configuration, in frames, where that has to be chosen."""
    return config.max_length if "max_length" in config.checked_fields else None


def network_fields(config: FusionConfig) -> dict[str, Any]:
    """What of a configuration decides what a network computes, as JSON has it."""
    fields = config.to_dict()
    names = (signature(type(config)).parameters.keys() | {"sampling_rate", "hop_length"}) - IRRELEVANT_FIELDS
    relevant = {name: fields[name] for name in sorted(names) if name in fields}
    return json.loads(json.dumps({"layers": list(config.fused_layers), **relevant}))


def read_optimized(folder: Path) -> list[OptimizedNetwork]:
    """The networks that were exported into a repository; none where it has no `optimized.json`.

    Raises:
        HfGarError: The file is damaged.
    """
    path = folder / OPTIMIZED_FILE
    if not path.is_file():
        return []
    try:
        networks = [
            OptimizedNetwork(
                **{**entry, "clips": Cosines(**entry["clips"]), "frames": Cosines(**entry["frames"])},
            )
            for entry in read_json(path)["networks"]
        ]
        for network in networks:
            if any(PurePosixPath(name).parts != (network.backend, PurePosixPath(name).name) for name in network.files):
                raise ValueError(f"files named {', '.join(network.files)}")
        return networks
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HfGarError(f"{path} is damaged: {error!r}. Remove it, and run `hf-gar optimize` again.") from error


def write_optimized(folder: Path, network: OptimizedNetwork) -> None:
    """Add a network to a repository's `optimized.json`, where it replaces what had its files or is of other weights."""
    kept = [
        other
        for other in read_optimized(folder)
        if (other.dtype, other.files) != (network.dtype, network.files)
        and other.weights_sha256 == network.weights_sha256
        and all(other.sha256[name] == network.sha256[name] for name in set(other.files) & set(network.files))
    ]
    entries = [asdict(each) for each in [*kept, network]]
    write_whole_file(folder / OPTIMIZED_FILE, json.dumps({"networks": entries}, indent=2) + "\n")
