"""The resampling operator as PyTorch knows it: carlib::resample and, for its gradients, carlib::resample_backward.

To torch.compile and torch.export each is one node whose inside they do not look at; so `impl` is resolved inside, when
the tensors are there. Second derivatives: carlib.resample(..., impl="reference").
"""

import sys
from functools import cache
from typing import NamedTuple

import torch

from carlib.ops.once import refuse_forward_derivative, refuse_second_derivative

_ONLY = 'has forward-mode derivatives (torch.func.jvp, jacfwd) only with impl="reference"'


class Geometry(NamedTuple):
    """Where taps lie: everything of Eq. 1-3 that is not a tensor."""

    scale: int
    size: int  # K, taps along each axis
    pad: int  # width of the reflected border, HR pixels
    centre: float  # c, the half tap
    release_border: bool


def resample_op(hr, kernel, offset_v, offset_h, geometry, impl):
    """`carlib.resample` by "auto", "torch", "numba" or "cuda"; the arguments have been checked there."""
    refuse_forward_derivative(f"carlib.resample {_ONLY}", hr, kernel, offset_v, offset_h)
    return torch.ops.carlib.resample(hr, kernel, offset_v, offset_h, *geometry, impl)


def automatic(hr) -> str:
    """The implementation that "auto" means for a tensor; a line on stderr if it is not the fastest for this GPU."""
    if hr.device.type == "cpu":
        return "numba"
    why = _why_no_cuda(hr)
    if why and hr.device.type == "cuda" and not torch.version.hip:
        _warn(why)
    return "torch" if why else "cuda"


@cache  # once a process
def _warn(why):
    print(f'carlib: resampling by impl="torch", not by the CUDA kernels: {why}', file=sys.stderr)


def _passes(impl, hr):
    """Forward and backward pass of an implementation, once it is sure that it can run."""
    if impl == "auto":
        impl = automatic(hr)
    if impl == "numba":
        if hr.device.type != "cpu":
            raise ValueError(f'impl="numba" runs on the CPU, hr is on {hr.device}: use impl="torch" or "auto"')
        from carlib.ops.resample_numba import backward, forward
    elif impl == "cuda":
        if why := _why_no_cuda(hr):
            raise ValueError(f'impl="cuda" cannot run here: {why}; use impl="torch" or "auto"')
        from carlib.ops.resample_cuda import backward, forward
    else:
        from carlib.ops.resample_torch import backward, forward
    return forward, backward


def _why_no_cuda(hr) -> str:
    """What keeps the CUDA kernels from running on this tensor, with the remedy; nothing if they can."""
    if hr.device.type not in ("cuda", "cpu") or torch.version.hip:
        return f"hr is on {hr.device}, not on an Nvidia GPU"
    try:
        from carlib.ops.resample_cuda import why_not
    except ImportError as error:
        return f"numba has no CUDA target ({error}); install it: pip install 'carlib[cuda]'"
    return why_not(hr)


# Defined by schema, not by torch.library.custom_op, whose first call in a process imports torch._dynamo: seconds.
_TENSORS = "Tensor hr, Tensor kernel, Tensor offset_v, Tensor offset_h"
_NUMBERS = "int scale, int size, int pad, float centre, bool release_border, str impl"
_FORWARD, _BACKWARD = "carlib::resample", "carlib::resample_backward"
torch.library.define(_FORWARD, f"({_TENSORS}, {_NUMBERS}) -> Tensor")
torch.library.define(
    _BACKWARD, f"(Tensor grad_lr, {_TENSORS}, {_NUMBERS}, bool[] needed) -> (Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.impl(_FORWARD, "default")
def _resample(hr, kernel, offset_v, offset_h, *numbers):
    *geometry, impl = numbers
    forward, _ = _passes(impl, hr)
    return forward(hr, kernel, offset_v, offset_h, Geometry(*geometry))


@torch.library.register_fake(_FORWARD)
def _(hr, kernel, offset_v, offset_h, *numbers):
    return hr.new_empty((*hr.shape[:2], *kernel.shape[2:]))


@torch.library.impl(_BACKWARD, "default")
def _resample_backward(grad_lr, hr, kernel, offset_v, offset_h, *numbers):
    *geometry, impl, needed = numbers
    _, backward = _passes(impl, hr)
    found = backward(grad_lr, hr, kernel, offset_v, offset_h, Geometry(*geometry), needed)
    return tuple(hr.new_empty(0) if gradient is None else gradient for gradient in found)


@torch.library.register_fake(_BACKWARD)
def _(grad_lr, hr, kernel, offset_v, offset_h, *numbers):
    pairs = zip((hr, kernel, offset_v, offset_h), numbers[-1], strict=True)
    return tuple(tensor.new_empty(tensor.shape) if need else hr.new_empty(0) for tensor, need in pairs)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:4])
    ctx.numbers = inputs[4:]


def _gradients(ctx, grad_lr):
    needed = list(ctx.needs_input_grad[:4])
    found = torch.ops.carlib.resample_backward(grad_lr, *ctx.saved_tensors, *ctx.numbers, needed)
    return *(gradient if need else None for gradient, need in zip(found, needed, strict=True)), *[None] * 6


torch.library.register_autograd(_FORWARD, _gradients, setup_context=_keep)
refuse_second_derivative(_BACKWARD, 'carlib.resample has second derivatives only with impl="reference"')
