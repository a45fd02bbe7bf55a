"""Pixel shuffle on a CPU with channels last in memory, and its inverse for the gradient: carlib::enlarged, reduced.

PyTorch's own inverse takes four times as long as its shuffle and, for r = 2, as ours: two percent of a training step of
mini size in float32, more in bfloat16.
"""

import torch
from torch.nn import functional

from carlib.ops.once import refuse_forward_derivative

_NO_JVP = "pixel shuffles of channels_last tensors have no forward-mode derivatives (torch.func.jvp) on a CPU"
_ENLARGED, _REDUCED = "carlib::enlarged", "carlib::reduced"
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # numba has no bfloat16; numbers are only moved
torch.library.define(_ENLARGED, "(Tensor x, int r) -> Tensor")
torch.library.define(_REDUCED, "(Tensor x, int r) -> Tensor")


def enlarged(x, r):
    """(N, C, h*r, w*r) of (N, C*r*r, h, w); of both the channels come last in memory. A CPU's."""
    refuse_forward_derivative(_NO_JVP, x)
    return torch.ops.carlib.enlarged(x, r)


def reduced(x, r):
    """The inverse, likewise; sides are multiples of r."""
    refuse_forward_derivative(_NO_JVP, x)
    return torch.ops.carlib.reduced(x, r)


@torch.library.impl(_ENLARGED, "CPU")
def _enlarged(x, r):
    return functional.pixel_shuffle(x, r).contiguous(memory_format=torch.channels_last)


@torch.library.register_fake(_ENLARGED)
def _(x, r):
    n, c, h, w = x.shape
    return x.new_empty((n, h * r, w * r, c // r**2)).permute(0, 3, 1, 2)


@torch.library.impl(_REDUCED, "CPU")
def _reduced(x, r):
    if r != 2 or x.shape[2] % 2 or x.shape[3] % 2:  # PyTorch's refuses odd sides
        return functional.pixel_unshuffle(x, r).contiguous(memory_format=torch.channels_last)
    from carlib.ops.compiled import launch
    from carlib.ops.shuffle_kernels import halve

    found = _new_reduced(x, r)
    large = _pixels(x)
    launch(halve, large.reshape(len(large), large.shape[1] // 2, 2, *large.shape[2:]), _pixels(found))
    return found


@torch.library.register_fake(_REDUCED)
def _new_reduced(x, r):
    n, c, h, w = x.shape
    return x.new_empty((n, h // r, w // r, c * r**2)).permute(0, 3, 1, 2)


def _pixels(x):
    """(N, h, w, C) of whole numbers."""
    last = x.detach().permute(0, 2, 3, 1).contiguous()
    return last.view(_INTEGERS[x.element_size()]).numpy()


def _keep(ctx, inputs, output):
    ctx.r = inputs[1]


torch.library.register_autograd(_ENLARGED, lambda ctx, grad: (reduced(grad, ctx.r), None), setup_context=_keep)
torch.library.register_autograd(_REDUCED, lambda ctx, grad: (enlarged(grad, ctx.r), None), setup_context=_keep)
