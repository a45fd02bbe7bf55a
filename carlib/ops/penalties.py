"""The sums behind the penalties on offsets (Eq. 9 and 10; carlib/losses.py says what they mean).

On a CPU they are compiled loops, forward and backward, which go through kernels and offsets once each: autograd would
go through them ten times. Elsewhere they are composed of PyTorch's operators.
"""

import numpy as np
import torch

from carlib.ops.once import refuse_forward_derivative, refuse_second_derivative
from carlib.ops.precision import working_dtype

_NO_JVP = "the penalties on offsets have no forward-mode derivatives (torch.func.jvp, jacfwd)"


def sum_of_lengths(offset_v, offset_h, weight):
    """Scalar: the sum of weight * |offset|, with gradient 0 at the origin, where offsets start.

    Args:
        offset_v, offset_h: (N, K*K, h, w).
        weight: (K*K,), a constant.
    Returns:
        of offsets on a CPU in float64: a sum may be too large for their dtype, which divided is not.
    """
    if offset_v.device.type == "cpu":
        refuse_forward_derivative(_NO_JVP, offset_v, offset_h)
        return torch.ops.carlib.sum_of_lengths(offset_v, offset_h, weight)
    return _lengths(*_in_working_dtype(offset_v, offset_h), weight)


def sum_of_steps(kernel, offset_v, offset_h):
    """Scalar: the sum of |kernel| * |step of offset_v to the right|, and the same of offset_h downward; (N, K*K, h, w).

    The kernel is taken at the first pixel of each pair. dtype as that of `sum_of_lengths`.
    """
    if kernel.device.type == "cpu":
        refuse_forward_derivative(_NO_JVP, kernel, offset_v, offset_h)
        return torch.ops.carlib.sum_of_steps(kernel, offset_v, offset_h)
    return _steps(*_in_working_dtype(kernel, offset_v, offset_h))


def _in_working_dtype(*tensors):
    """float16 ends at 65504, which sums over patches exceed."""
    dtype = working_dtype(*tensors)
    return [tensor.to(dtype) for tensor in tensors]


def _lengths(v, h, weight):
    square = v * v + h * h
    at_rest = square == 0  # where the root has no derivative
    length = torch.where(at_rest, 0, torch.where(at_rest, 1, square).sqrt())
    return (weight.view(1, -1, 1, 1) * length).sum()


def _steps(kernel, v, h):
    weight = kernel.abs()
    along_rows = v.diff(dim=3).abs() * weight[..., :, :-1]
    along_columns = h.diff(dim=2).abs() * weight[..., :-1, :]
    return along_rows.sum() + along_columns.sum()


_LENGTHS, _OF_LENGTHS = "carlib::sum_of_lengths", "carlib::sum_of_lengths_backward"
_STEPS, _OF_STEPS = "carlib::sum_of_steps", "carlib::sum_of_steps_backward"
torch.library.define(_LENGTHS, "(Tensor v, Tensor h, Tensor weight) -> Tensor")
torch.library.define(_OF_LENGTHS, "(Tensor grad, Tensor v, Tensor h, Tensor weight) -> (Tensor, Tensor)")
torch.library.define(_STEPS, "(Tensor kernel, Tensor v, Tensor h) -> Tensor")
torch.library.define(_OF_STEPS, "(Tensor grad, Tensor kernel, Tensor v, Tensor h) -> (Tensor, Tensor, Tensor)")


@torch.library.impl(_LENGTHS, "CPU")
def _sum_of_lengths(v, h, weight):
    from carlib.ops.compiled import launch
    from carlib.ops.penalty_kernels import lengths

    sums = np.empty(v.shape[:2])
    launch(lengths, *_arrays(v, h), sums)
    return (torch.from_numpy(sums).sum(0) * weight.double()).sum()


@torch.library.impl(_OF_LENGTHS, "CPU")
def _sum_of_lengths_backward(grad, v, h, weight):
    from carlib.ops.compiled import launch
    from carlib.ops.penalty_kernels import lengths_backward

    arrays = _arrays(v, h)
    found = [np.empty_like(a) for a in arrays]
    launch(lengths_backward, *arrays, (grad * weight.double()).numpy().astype(arrays[0].dtype), *found)
    return _tensors(found, (v, h))


@torch.library.impl(_STEPS, "CPU")
def _sum_of_steps(kernel, v, h):
    from carlib.ops.compiled import launch
    from carlib.ops.penalty_kernels import steps

    sums = np.empty(v.shape[:2])
    launch(steps, *_arrays(kernel, v, h), sums)
    return torch.from_numpy(sums).sum()


@torch.library.impl(_OF_STEPS, "CPU")
def _sum_of_steps_backward(grad, *tensors):
    from carlib.ops.compiled import launch
    from carlib.ops.penalty_kernels import steps_backward

    arrays = _arrays(*tensors)
    found = [np.empty_like(a) for a in arrays]
    launch(steps_backward, *arrays, arrays[0].dtype.type(grad.item()), *found)
    return _tensors(found, tensors)


def _arrays(*tensors):
    from carlib.ops.compiled import as_array

    dtype = working_dtype(*tensors)
    return [as_array(tensor, dtype) for tensor in tensors]


def _tensors(arrays, like):
    return tuple(torch.from_numpy(array).to(tensor.dtype) for array, tensor in zip(arrays, like, strict=True))


@torch.library.register_fake(_LENGTHS)
@torch.library.register_fake(_STEPS)
def _scalar(*tensors):
    return tensors[0].new_empty((), dtype=torch.float64)


@torch.library.register_fake(_OF_LENGTHS)
def _(grad, v, h, weight):
    return v.new_empty(v.shape), h.new_empty(h.shape)


@torch.library.register_fake(_OF_STEPS)
def _(grad, *tensors):
    return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


torch.library.register_autograd(
    _LENGTHS,
    lambda ctx, grad: (*torch.ops.carlib.sum_of_lengths_backward(grad, *ctx.saved_tensors), None),
    setup_context=_keep,
)
torch.library.register_autograd(
    _STEPS,
    lambda ctx, grad: torch.ops.carlib.sum_of_steps_backward(grad, *ctx.saved_tensors),
    setup_context=_keep,
)
for _name in (_OF_LENGTHS, _OF_STEPS):
    refuse_second_derivative(_name, "the penalties on offsets have no second derivatives on a CPU")
