"""What the operators compute in."""

import torch


def working_dtype(*tensors) -> torch.dtype:
    """What positions and sums are computed in: float64 where a tensor is, else float32."""
    return torch.float64 if torch.float64 in [t.dtype for t in tensors] else torch.float32
