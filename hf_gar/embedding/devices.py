"""Where a model runs."""

import torch


def parse_device(device: str | torch.device) -> torch.device:
    """A device of this machine; a ValueError where PyTorch does not know it, or it is not here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    here = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not known to PyTorch. This machine has {', '.join(here)}.") from error
    if parsed.type not in here:
        raise ValueError(f"device={device!r} is not on this machine, which has {', '.join(here)}.")
    return parsed
