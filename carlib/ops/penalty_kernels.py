"""The loops of the penalties (carlib/losses.py, Eq. 9 and 10), compiled for the CPU.

A job is one tap of one image; tensors are (N, K*K, h, w). Each tap is summed by itself, in float64: the same bits on
every run, whatever the number of threads.
"""

import numpy as np
from numba import prange

from carlib.ops.compiled import compiled

_FAST = {"contract", "reassoc", "nsz", "arcp"}


@compiled(parallel=True, fastmath=_FAST)
def lengths(v, h, sums):
    """sums (N, K*K): of the lengths of a tap's offsets."""
    n, taps, height, width = v.shape
    for job in prange(n * taps):
        image, tap = job // taps, job % taps
        one, other = v[image, tap].reshape(height * width), h[image, tap].reshape(height * width)
        total = 0.0
        for p in range(height * width):
            total += np.float64(np.sqrt(one[p] * one[p] + other[p] * other[p]))
        sums[image, tap] = total


@compiled(parallel=True, fastmath=_FAST - {"reassoc", "arcp"})  # with them subnormal squares would divide as 0
def lengths_backward(v, h, weight, grad_v, grad_h):
    """Gradients of the sum of weight (K*K) * length: 0 at the origin, where offsets start."""
    n, taps, height, width = v.shape
    for job in prange(n * taps):
        image, tap = job // taps, job % taps
        one, other = v[image, tap].reshape(height * width), h[image, tap].reshape(height * width)
        of_one, of_other = grad_v[image, tap].reshape(height * width), grad_h[image, tap].reshape(height * width)
        zero = v.dtype.type(0)
        for p in range(height * width):
            square = one[p] * one[p] + other[p] * other[p]
            each = zero if square == zero else weight[tap] / np.sqrt(square)
            of_one[p], of_other[p] = each * one[p], each * other[p]


@compiled()
def _differences(v, h, width, right, down):
    """Steps of v to the right and of h downward, 0 at the rims; all of one tap, pixel after pixel."""
    area = len(v)
    for p in range(area - 1):
        right[p] = v[p + 1] - v[p]
    for p in range(width - 1, area, width):
        right[p] = 0
    for p in range(area - width):
        down[p] = h[p + width] - h[p]
    for p in range(area - width, area):
        down[p] = 0


@compiled(parallel=True, fastmath=_FAST)
def steps(kernel, v, h, sums):
    """sums (N, K*K): of |step of v to the right| and |step of h downward|, times |kernel| at the first of the two."""
    n, taps, height, width = v.shape
    area = height * width
    for job in prange(n * taps):
        image, tap = job // taps, job % taps
        weight, right, down = kernel[image, tap].reshape(area), np.empty(area, v.dtype), np.empty(area, v.dtype)
        _differences(v[image, tap].reshape(area), h[image, tap].reshape(area), width, right, down)
        total = 0.0
        for p in range(area):
            total += np.float64((abs(right[p]) + abs(down[p])) * abs(weight[p]))
        sums[image, tap] = total


@compiled()
def _signed(sign, size):
    zero = size * 0
    return abs(size) if sign > zero else (-abs(size) if sign < zero else zero)


@compiled(parallel=True, fastmath=_FAST)
def steps_backward(kernel, v, h, factor, grad_kernel, grad_v, grad_h):
    """Gradients of factor * the sum of `steps`; `factor` has the dtype of the tensors."""
    n, taps, height, width = v.shape
    area = height * width
    for job in prange(n * taps):
        image, tap = job // taps, job % taps
        weight, of_weight = kernel[image, tap].reshape(area), grad_kernel[image, tap].reshape(area)
        of_v, of_h = grad_v[image, tap].reshape(area), grad_h[image, tap].reshape(area)
        right, down = np.empty(area, v.dtype), np.empty(area, v.dtype)
        _differences(v[image, tap].reshape(area), h[image, tap].reshape(area), width, right, down)
        for p in range(area):
            of_weight[p] = factor * _signed(weight[p], abs(right[p]) + abs(down[p]))
        for p in range(area):
            right[p] = factor * _signed(right[p], weight[p])
            down[p] = factor * _signed(down[p], weight[p])
        of_v[0] = -right[0]
        for p in range(1, area):
            of_v[p] = right[p - 1] - right[p]
        for p in range(width):
            of_h[p] = -down[p]
        for p in range(width, area):
            of_h[p] = down[p - width] - down[p]
