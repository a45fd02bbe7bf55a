"""Guided weights on the CPU as PyTorch knows them: carlib::guided and, for its gradient, carlib::guided_backward.

models/guided.py says what is computed. Composed of PyTorch's operators it goes through the colours under all taps, many
times the image, more than twenty times; the compiled loops keep a block of LR pixels in the first-level cache.
"""

import math

import numpy as np
import torch

from carlib.ops.once import refuse_forward_derivative, refuse_second_derivative
from carlib.ops.resample import reflect_indices

# As in resample_op.py; a window's taps are those of the kernel, `step` is (N, 3, h, w), `hr` (N, 3, H, W).
_TENSORS = "Tensor hr, Tensor window"
_FORWARD, _BACKWARD = "carlib::guided", "carlib::guided_backward"
torch.library.define(
    _FORWARD, f"(Tensor step, {_TENSORS}, int scale, float centre, float eps) -> (Tensor, Tensor, Tensor)"
)
torch.library.define(
    _BACKWARD, f"(Tensor grad, {_TENSORS}, Tensor inverses, Tensor means, int scale, float centre) -> Tensor"
)


def guided(step, hr, window, scale, centre, eps):
    """(N, K*K, h, w) residual weights, differentiable once and in `step` alone.

    Arguments as `models.guided.guided_residual`; hr is float32 or float64 and decides the dtype of the result.
    Raises:
        ValueError: the shapes of step and hr do not fit.
    """
    refuse_forward_derivative("guided weights have no forward-mode derivatives (torch.func.jvp, jacfwd)", step, hr)
    return torch.ops.carlib.guided(step, hr, window, scale, centre, eps)[0]


@torch.library.impl(_FORWARD, "CPU")
def _guided(step, hr, window, scale, centre, eps):
    from carlib.ops.compiled import as_array, launch
    from carlib.ops.guided_kernels import forward

    n, sides = step.shape[0], step.shape[2:]
    if step.shape[1] != 3 or hr.shape != (n, 3, *(scale * side for side in sides)):
        raise ValueError(f"step is {tuple(step.shape)} and hr {tuple(hr.shape)}, not (N, 3, h, w) and x{scale} of it")
    planes, *geometry = _planes(hr, len(window), scale, centre, sides)
    found = _new(step, hr, window, scale, centre, eps)
    flat = [tensor.flatten(2).numpy() for tensor in found]
    launch(forward, as_array(step.flatten(2), hr.dtype), planes, as_array(window, hr.dtype), *geometry, eps, *flat)
    return found


@torch.library.register_fake(_FORWARD)
def _new(step, hr, window, scale, centre, eps):
    n, sides = step.shape[0], step.shape[2:]
    inverses = hr.new_empty((n, 6, *sides), dtype=torch.float64)
    return hr.new_empty((n, window.shape[0], *sides)), inverses, hr.new_empty((n, 3, *sides))


@torch.library.impl(_BACKWARD, "CPU")
def _guided_backward(grad, hr, window, inverses, means, scale, centre):
    from carlib.ops.compiled import as_array, launch
    from carlib.ops.guided_kernels import backward

    planes, *geometry = _planes(hr, len(window), scale, centre, grad.shape[2:])
    kept = [as_array(tensor.flatten(2), tensor.dtype) for tensor in (inverses, means)]
    found = hr.new_empty(means.shape)
    launch(
        backward,
        as_array(grad.flatten(2), hr.dtype),
        planes,
        as_array(window, hr.dtype),
        *geometry,
        *kept,
        found.flatten(2).numpy(),
    )
    return found


@torch.library.register_fake(_BACKWARD)
def _(grad, hr, window, inverses, means, scale, centre):
    return hr.new_empty(means.shape)


def _planes(hr, count, scale, centre, sides):
    """The image taken apart, and size, pitch and places as the loops want them."""
    from carlib.ops.compiled import as_array, launch
    from carlib.ops.guided_kernels import BLOCK, lay_out

    size, image = math.isqrt(count), as_array(hr, hr.dtype)
    beyond = (size - 1) // scale  # planes are wider than the LR image by this
    first = (scale - 1) / 2 - centre  # HR position of the first LR pixel's first tap
    lengths = [n + beyond for n in sides]
    rows, columns = (
        _sources(math.floor(first), length * scale, n, size // 2)
        for length, n in zip(lengths, hr.shape[2:], strict=True)
    )
    pitch = lengths[1]
    places = np.full(-(-sides[0] * pitch // BLOCK) * BLOCK, -1, np.int32)
    places[: sides[0] * pitch].reshape(sides[0], pitch)[:, : sides[1]] = np.arange(math.prod(sides)).reshape(sides)
    planes = np.empty((len(hr), 3, scale, scale, beyond * (pitch + 1) + len(places)), image.dtype)
    launch(lay_out, image, rows, columns, first != math.floor(first), planes)
    return planes, size, pitch, places


def _sources(first, beyond, n, pad):
    """Source index in 0..n-1 of positions first..first+beyond, of an image continued as the operator does: reflected as
    far as `pad`, and from there on by its last line."""
    reflected = reflect_indices(-pad, n - 1 + pad, n)
    return reflected[torch.arange(first, first + beyond + 1).clamp(-pad, n - 1 + pad) + pad].numpy()


def _keep(ctx, inputs, output):
    _, hr, window, ctx.scale, ctx.centre, _ = inputs
    ctx.save_for_backward(hr, window, *output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad, *_):
    if any(ctx.needs_input_grad[1:3]):
        raise RuntimeError("carlib::guided has a gradient for `step` alone")
    found = None
    if grad is not None:
        found = torch.ops.carlib.guided_backward(grad, *ctx.saved_tensors, ctx.scale, ctx.centre)
    return found, *[None] * 5


torch.library.register_autograd(_FORWARD, _gradients, setup_context=_keep)
refuse_second_derivative(_BACKWARD, "guided weights have second derivatives only where hr wants a gradient, too")
