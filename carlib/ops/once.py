"""Operators that can be differentiated once, and backward."""

import torch
from torch.autograd import forward_ad


def refuse_second_derivative(backward, told):
    """Have the backward pass `backward` (an operator's name) raise RuntimeError(told) where it is differentiated."""

    def refuse(ctx, *gradients):
        raise RuntimeError(told)

    torch.library.register_autograd(backward, refuse)


def refuse_forward_derivative(told, *tensors):
    """Raise RuntimeError(told) where one of them carries a derivative forward: an operator would drop it silently."""
    if forward_ad._current_level < 0:
        return
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError(told)
