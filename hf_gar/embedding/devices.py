"""Where a model runs, and in which precision."""

from typing import Any

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16")


def parse_device(device: str | torch.device) -> torch.device:
    """A device of this machine; a ValueError where PyTorch does not know it, or it is not here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    here = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is none that PyTorch knows. This machine has {', '.join(here)}."
        ) from error
    if parsed.type not in here:
        raise ValueError(f"device={device!r} is not on this machine, which has {', '.join(here)}.")
    return parsed


def choose_dtype(device: str) -> str:
    """The name of the fastest dtype that is good enough: "bfloat16" where the device computes it natively."""
    if torch.device(device).type == "cuda":
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        read_capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in every version of PyTorch
        capabilities: dict[str, Any] = read_capabilities() if read_capabilities else {}
        is_native = torch.device(device).type == "cpu" and any(capabilities.get(name) for name in BFLOAT16_INSTRUCTIONS)
    return "bfloat16" if is_native else "float32"
