"""Which runtime runs a network, and in which precision."""

import platform
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch

from hf_gar.backends.description import (
    BACKENDS,
    ONNX,
    OPENVINO,
    TORCH,
    OptimizedNetwork,
    chosen_length,
    network_fields,
    read_optimized,
)
from hf_gar.backends.exported_network import ExportedNetwork
from hf_gar.errors import HfGarError
from hf_gar.hub.load import Repository
from hf_gar.models import FusionConfig
from hf_gar.models.fusion import ClipPooling

AUTO = "auto"
INT8 = "int8"
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPES = (*TORCH_DTYPES, INT8)
# The class of each runtime's networks, and the package that it comes in.
RUNTIMES = {
    ONNX: ("hf_gar.backends.onnx_network:OnnxNetwork", "onnxruntime"),
    OPENVINO: ("hf_gar.backends.openvino_network:OpenVinoNetwork", "openvino"),
}
# By default, a network is taken whose embeddings were shown to be closer than this to those of PyTorch in float32.
GOOD_COSINE = 0.999
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16")
# x86's for products of 8 bits, without which their sums overflow in 16; Arm's do not.
INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class BackendChoice:
    """A runtime and a precision; `network` is what was exported for them, where that is not PyTorch."""

    backend: str
    dtype: str
    network: OptimizedNetwork | None = None

    def describe(self) -> str:
        """It in words."""
        if self.network is None:
            return f"PyTorch in {self.dtype}"
        return f"{self.backend} in {self.dtype} (worst cosine to float32 {self.network.clips.worst:.5f})"

    def load(self, repository: Repository, config: FusionConfig) -> ExportedNetwork:
        """The network, loaded into its runtime; `config` is the model's.

        Raises:
            HfGarError: It is missing or damaged.
        """
        assert self.network is not None
        folder = repository.fetch(self.network.files)
        self.network.require_intact(folder)
        path = folder / self.network.files[0]
        return load_network(self.backend, path, self.dtype, config, repository.load_pooling(config))


def load_network(backend: str, path: Path, dtype: str, config: FusionConfig, pooling: ClipPooling) -> ExportedNetwork:
    """A network, loaded into the runtime "onnx" or "openvino" from its file; it computes in as many threads as PyTorch.

    Raises:
        HfGarError: The runtime cannot load the file.
    """
    return resolve_name(RUNTIMES[backend][0])(config, pooling, path, dtype, torch.get_num_threads())


def choose_torch_dtype(device: str | torch.device) -> str:
    """The name of PyTorch's fastest dtype that is good enough: "bfloat16" where the device computes it natively."""
    device = torch.device(device)
    if device.type == "cuda":
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_native = device.type == "cpu" and _has_any(BFLOAT16_INSTRUCTIONS)
    return "bfloat16" if is_native else "float32"


def choose_backend(
    repository: Repository,
    config: FusionConfig,
    device: torch.device,
    backend: str = AUTO,
    dtype: str = AUTO,
    with_frames: bool = False,
) -> BackendChoice:
    """The runtime that a repository's model is run on.

    "auto" is the fastest that is installed and whose worst cosine to PyTorch in float32 was shown to be above 0.999
    when it was exported, of frames too where they are wanted; otherwise PyTorch. Accelerators are PyTorch's.

    Args:
        repository: The model's.
        config: Of the model, as it is loaded.
        device: That it runs on.
        backend: "auto", "torch", "onnx" or "openvino".
        dtype: "auto", "float32", "bfloat16", "float16" or "int8".
        with_frames: Whether frame embeddings are wanted.

    Raises:
        HfGarError: What was asked for is not installed, or the repository has no such network.
        ValueError: There is no such backend or dtype, or they do not go together.
    """
    require_known(backend, dtype)
    if backend not in (AUTO, TORCH) and device.type != "cpu":
        raise ValueError(f"backend={backend!r} runs on the processor, not on {device}: choose the `device` cpu.")
    if backend not in (AUTO, TORCH) and not is_installed(backend):
        raise HfGarError(f'{RUNTIMES[backend][1]} is not installed: pip install "hf_gar[{backend}]"')
    found = _candidates(repository, config, backend, dtype, with_frames) if device.type == "cpu" else []
    best = max(found, key=lambda network: network.speedups["float32"], default=None)
    if backend in (AUTO, TORCH) and dtype != INT8:
        torch_dtype = choose_torch_dtype(device) if dtype == AUTO else dtype
        if best is None or best.speedups.get(torch_dtype, 0) < 1:
            return BackendChoice(TORCH, torch_dtype)
    if best is None:
        raise _none_found(repository, config, backend, dtype)
    return BackendChoice(best.backend, best.dtype, best)


def require_known(backend: str, dtype: str) -> None:
    """Raise a ValueError where there is no such backend or dtype, or they do not go together."""
    if backend not in (AUTO, *BACKENDS):
        raise ValueError(f"backend has to be one of {', '.join((AUTO, *BACKENDS))}, not {backend!r}.")
    if dtype not in (AUTO, *DTYPES):
        raise ValueError(f"dtype has to be one of {', '.join((AUTO, *DTYPES))}, not {dtype!r}.")
    if (backend, dtype) == (TORCH, INT8):
        raise ValueError("int8 goes with the backends onnx and openvino: PyTorch computes in floating point.")
    if dtype == INT8 and not supports_int8():
        raise ValueError(
            f"This processor has none of {', '.join(INT8_INSTRUCTIONS)}: sums in int8 would overflow. Choose another "
            "`dtype`."
        )


def supports_int8() -> bool:
    """Whether this processor computes int8 networks without overflow."""
    return _has_any(INT8_INSTRUCTIONS) or platform.machine().lower() not in ("x86_64", "amd64")


def _has_any(instructions: tuple[str, ...]) -> bool:
    read_capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in every version of PyTorch
    capabilities: dict[str, Any] = read_capabilities() if read_capabilities else {}
    return any(capabilities.get(name) for name in instructions)


def _candidates(
    repository: Repository, config: FusionConfig, backend: str, dtype: str, with_frames: bool
) -> list[OptimizedNetwork]:
    """The networks that would do: by its name any, and otherwise those that are close to float32."""
    is_named = AUTO not in (backend, dtype)
    runs_here = {INT8: supports_int8(), "bfloat16": choose_torch_dtype("cpu") == "bfloat16"}
    return [
        network
        for network in read_optimized(repository.folder)
        if network.fits(repository, config)
        and backend in (AUTO, network.backend)
        and dtype in (AUTO, network.dtype)
        and runs_here.get(network.dtype, True)
        and (is_named or _is_good(network, config, with_frames))
        and (backend != AUTO or is_installed(network.backend))
    ]


def is_installed(backend: str) -> bool:
    """Whether the package of a runtime, "onnx" or "openvino", is installed."""
    return find_spec(RUNTIMES[backend][1]) is not None


def _is_good(network: OptimizedNetwork, config: FusionConfig, with_frames: bool) -> bool:
    worst = [network.clips.worst, network.frames.worst] if with_frames else [network.clips.worst]
    return min(worst) > GOOD_COSINE and network.was_compared_at(config)


def _none_found(repository: Repository, config: FusionConfig, backend: str, dtype: str) -> HfGarError:
    there = [
        f"{network.backend} in {network.dtype}, {_about(network, repository, config)}"
        for network in read_optimized(repository.folder)
    ]
    layers = "the unfused layer" if config.layer_choice is None else f"the layers {config.layer_choice}"
    command = ["hf-gar optimize", str(repository.folder) if repository.is_own_folder else "DIR"]
    command += ["--backend", ONNX if backend == AUTO else backend, "--dtype", INT8 if dtype == AUTO else dtype]
    if config.layer_choice is None:
        command += ["--unfused"]
    else:
        command += ["--fusion-layers", *map(str, config.layer_choice)]
    length = chosen_length(config)
    if length is not None:
        command += ["--max-length", str(length)]
    asked = [
        word for word in ("" if backend == AUTO else f"for {backend}", "" if dtype == AUTO else f"in {dtype}") if word
    ]
    return HfGarError(
        f"{repository.name} has no network {' '.join(asked)} of its weights and {layers} that is close enough to "
        f"float32; it has {'; '.join(there) or 'none'}. Make one: {' '.join(command)}"
    )


def _about(network: OptimizedNetwork, repository: Repository, config: FusionConfig) -> str:
    """What may keep a network from being taken."""
    if network.weights_sha256 != repository.weights_sha256:
        return "of other weights"
    if network.network != network_fields(config):
        return f"of the layers {network.network['layers']}"
    if not network.was_compared_at(config):
        return f"compared at max_length={network.max_length} (name its dtype to use it)"
    cosines = f"worst cosine {network.clips.worst:.5f} of clips and {network.frames.worst:.5f} of frames"
    return f"{cosines} (name its dtype to use it)" if network.clips.worst <= GOOD_COSINE else cosines
