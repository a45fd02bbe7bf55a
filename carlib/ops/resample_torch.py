"""The resampling operator in PyTorch's vector operations, for any device: a row of K taps at a time.

Nothing is kept for the backward pass, which computes positions again and applies Eq. 4-6. Memory beside inputs and
results: some tensors of one row of taps, (N, K, h, w), in the forward pass of all channels. The gradient of hr is
added up by `scatter_add_` and `index_add_`, whose order PyTorch fixes on a GPU under use_deterministic_algorithms only.
"""

import torch

from carlib.ops.precision import working_dtype
from carlib.ops.resample import neighbours, positions, reflect_indices, reflect_pad, sum_of_taps


def forward(hr, kernel, offset_v, offset_h, geometry):
    """lr of `carlib.resample`; the arguments have been checked there."""
    return sum_of_taps(hr, kernel, offset_v, offset_h, geometry, together=geometry.size)


def backward(grad_lr, hr, kernel, offset_v, offset_h, geometry, needed):
    """Gradients of hr, kernel, offset_v and offset_h, None where not `needed`."""
    work = working_dtype(hr, kernel, offset_v, offset_h)
    grad_lr, padded = grad_lr.to(work), reflect_pad(hr.to(work), geometry.pad)
    inputs = (hr, kernel, offset_v, offset_h)
    of_padded = torch.zeros_like(padded) if needed[0] else None
    of_taps = [t.new_empty(t.shape) if need else None for t, need in zip(inputs[1:], needed[1:], strict=True)]
    for first in range(0, geometry.size**2, geometry.size):
        taps = slice(first, first + geometry.size)
        weight, *offsets = (t[:, taps].to(work) for t in inputs[1:])
        corners, fractions, moving = _corners(offsets, first, padded.shape, geometry)
        if any(needed[1:]):
            found = _of_taps(grad_lr, padded, weight, corners, fractions, moving)
            for gradient, part in zip(of_taps, found, strict=True):
                if gradient is not None:
                    gradient[:, taps] = part
        if needed[0]:
            _add_to_image(of_padded, grad_lr, weight, corners, fractions)
    return [_fold(of_padded, hr.shape, geometry.pad).to(hr.dtype) if needed[0] else None, *of_taps]


def _corners(offsets, first, padded_shape, geometry):
    """Of each tap: four indices into the flat padded image, two fractions, and per axis whether its offset moves it."""
    at = positions(*offsets, first, geometry)
    (top, bottom, fraction_v), (left, right, fraction_h) = (
        neighbours(position, length, geometry) for position, length in zip(at, padded_shape[2:], strict=True)
    )
    corners = [(row * padded_shape[3] + column).flatten(1) for row in (top, bottom) for column in (left, right)]
    moving = [
        (position >= 0) & (position <= length - 1) | geometry.release_border
        for position, length in zip(at, padded_shape[2:], strict=True)
    ]
    return corners, (fraction_v, fraction_h), moving


def _of_taps(grad_lr, padded, weight, corners, fractions, moving):
    """Eq. 4-6, summed over channels: each corner is projected on the upstream gradient, then they are interpolated."""
    pixels = padded.flatten(2)

    def projection(corner):
        return sum(grad_lr[:, c, None] * pixels[:, c].gather(1, corner).view_as(weight) for c in range(padded.shape[1]))

    upper, upper_right, lower, lower_right = map(projection, corners)
    fraction_v, fraction_h = fractions
    step_upper, step_lower = upper_right - upper, lower_right - lower
    upper, lower = upper + fraction_h * step_upper, lower + fraction_h * step_lower
    down, right = lower - upper, step_upper + fraction_v * (step_lower - step_upper)
    to_offsets = (torch.where(moves, weight * step, 0) for moves, step in zip(moving, (down, right), strict=True))
    return upper + fraction_v * down, *to_offsets


def _add_to_image(of_padded, grad_lr, weight, corners, fractions):
    """The transpose of Eq. 2 with respect to the padded image."""
    fraction_v, fraction_h = fractions
    lower = weight * fraction_v
    upper = weight - lower
    shares = upper * (1 - fraction_h), upper * fraction_h, lower * (1 - fraction_h), lower * fraction_h
    pixels = of_padded.flatten(2)
    for corner, share in zip(corners, shares, strict=True):
        for c in range(pixels.shape[1]):
            pixels[:, c].scatter_add_(1, corner, (share * grad_lr[:, c, None]).flatten(1))


def _fold(of_padded, shape, pad):
    """The transpose of `reflect_pad`."""
    rows, columns = (reflect_indices(-pad, n - 1 + pad, n, of_padded.device) for n in shape[-2:])
    of_rows = of_padded.new_zeros((*shape[:3], of_padded.shape[3])).index_add_(2, rows, of_padded)
    return of_padded.new_zeros(shape).index_add_(3, columns, of_rows)
