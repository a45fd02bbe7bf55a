"""What the operators compute in."""

import contextlib

import torch


def working_dtype(*tensors) -> torch.dtype:
    """What positions and sums are computed in: float64 where a tensor is, else float32."""
    return torch.float64 if torch.float64 in [t.dtype for t in tensors] else torch.float32


@contextlib.contextmanager
def undisturbed(device="cpu"):
    """Float32 by default, gradients, no autocast and no inference mode, whatever the caller has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.autocast(torch.device(device).type, enabled=False), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(before)
