"""The sums behind the penalties on offsets (Eq. 9 and 10; carlib/losses.py says what they mean).

On a CPU they are compiled loops, forward and backward, which go through kernels and offsets once each: autograd would
go through them ten times. Elsewhere they are composed of PyTorch's operators, which also have second derivatives.
"""

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from carlib.ops.resample import working_dtype


def sum_of_lengths(offset_v, offset_h, weight):
    """Scalar: the sum of weight * |offset|, with gradient 0 at the origin, where offsets start.

    Args:
        offset_v, offset_h: (N, K*K, h, w).
        weight: (K*K,), a constant.
    """
    if offset_v.device.type == "cpu":
        return _Lengths.apply(offset_v, offset_h, weight)
    return _lengths(offset_v, offset_h, weight)


def sum_of_steps(kernel, offset_v, offset_h):
    """Scalar: the sum of |kernel| * |step of offset_v to the right|, and the same of offset_h downward; (N, K*K, h, w).

    The kernel is taken at the first pixel of each pair.
    """
    if kernel.device.type == "cpu":
        return _Steps.apply(kernel, offset_v, offset_h)
    return _steps(kernel, offset_v, offset_h)


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


class _Lengths(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, h, weight):
        from carlib.ops import penalty_kernels
        from carlib.ops.compiled import launch

        ctx.save_for_backward(v, h, weight)
        sums = np.empty(v.shape[:2])
        launch(penalty_kernels.lengths, *_arrays(v, h), sums)
        return torch.tensor(sums.sum(0) @ weight.double().numpy(), dtype=v.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        from carlib.ops import penalty_kernels
        from carlib.ops.compiled import launch

        v, h, weight = ctx.saved_tensors
        arrays = _arrays(v, h)
        found = [np.empty_like(a) for a in arrays]
        each = (grad * weight).double().numpy().astype(arrays[0].dtype)
        launch(penalty_kernels.lengths_backward, *arrays, each, *found)
        return *_tensors(found, (v, h)), None


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *tensors):
        from carlib.ops import penalty_kernels
        from carlib.ops.compiled import launch

        ctx.save_for_backward(*tensors)
        sums = np.empty(tensors[0].shape[:2])
        launch(penalty_kernels.steps, *_arrays(*tensors), sums)
        return torch.tensor(sums.sum(), dtype=tensors[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        from carlib.ops import penalty_kernels
        from carlib.ops.compiled import launch

        arrays = _arrays(*ctx.saved_tensors)
        found = [np.empty_like(a) for a in arrays]
        launch(penalty_kernels.steps_backward, *arrays, arrays[0].dtype.type(grad.item()), *found)
        return tuple(_tensors(found, ctx.saved_tensors))


def _arrays(*tensors):
    dtype = working_dtype(*tensors)
    return [tensor.detach().to(dtype).contiguous().numpy() for tensor in tensors]


def _tensors(arrays, like):
    return [torch.from_numpy(array).to(tensor.dtype) for array, tensor in zip(arrays, like, strict=True)]
