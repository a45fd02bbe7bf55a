"""MATLAB's bicubic enlargement (Table 1, "Upscaling: Bicubic") and reduction as fixed, differentiable networks."""

import numpy as np
import torch
from torch import nn

from carlib.models.blocks import check_counts
from carlib.models.layers import at_least_float32
from carlib.ops.imresize import contributions


class Bicubic(nn.Module):
    """`carlib.imresize(lr, scale)` for tensors, without rounding; it has no parameters.

    The same scale*scale phases of taps serve every pixel, so it is one convolution followed by a pixel shuffle; the
    border is continued symmetrically (the edge pixel repeated), as imresize does.
    """

    def __init__(self, scale):
        super().__init__()
        check_counts(type(self).__name__, scale=scale)
        self.scale = scale
        phases, self.reach = _phases(self.scale)
        filters = torch.einsum("ay,bx->abyx", phases, phases).flatten(0, 1)[:, None]
        self.register_buffer("filters", filters.float(), persistent=False)  # (scale^2, 1, taps, taps)

    def forward(self, lr):
        """lr (N, C, h, w) -> sr (N, C, h*scale, w*scale), neither clamped nor rounded."""
        if lr.ndim != 4 or 0 in lr.shape:
            raise ValueError(f"lr is {tuple(lr.shape)}, expected (N, C, h, w)")
        n, c = lr.shape[:2]
        rows, columns = (_symmetric(self.reach, length, lr.device) for length in lr.shape[-2:])
        padded = lr.index_select(2, rows).index_select(3, columns).flatten(0, 1)[:, None]
        with torch.autocast(lr.device.type, enabled=False):
            padded = at_least_float32(padded)
            phases = nn.functional.conv2d(padded, self.filters.to(padded.dtype))
        return nn.functional.pixel_shuffle(phases, self.scale).unflatten(0, (n, c)).squeeze(2)


class BicubicReduction(nn.Module):
    """`carlib.imresize(hr, 1 / scale)` for tensors, without rounding; it has no parameters.

    Sides are multiples of the scale, so the same antialiased taps serve every LR pixel: a strided convolution an axis.
    """

    def __init__(self, scale):
        super().__init__()
        check_counts(type(self).__name__, scale=scale)
        self.scale = scale
        middle = 8  # an LR pixel whose taps do not meet the border
        weights, indices = contributions(2 * middle * self.scale, 2 * middle, 1 / self.scale)
        dense = np.zeros(2 * middle * self.scale)
        dense[indices[middle]] = weights[middle]  # with the zeros between the taps
        first, last = np.flatnonzero(dense)[[0, -1]]
        self.reach = middle * self.scale - int(first)  # HR pixels before the LR pixel's own
        self.register_buffer("line", torch.from_numpy(dense[first : last + 1]).float(), persistent=False)

    def forward(self, hr):
        """hr (N, C, H, W), sides multiples of scale -> lr (N, C, H/scale, W/scale), neither clamped nor rounded."""
        n, c = hr.shape[:2]
        rows, columns = (_symmetric(self.reach, length, hr.device) for length in hr.shape[-2:])
        padded = hr.index_select(2, rows).index_select(3, columns).flatten(0, 1)[:, None]
        with torch.autocast(hr.device.type, enabled=False):
            padded = at_least_float32(padded)
            line = self.line.to(padded.dtype)
            narrow = nn.functional.conv2d(padded, line.view(1, 1, -1, 1), stride=(self.scale, 1))
            lr = nn.functional.conv2d(narrow, line.view(1, 1, 1, -1), stride=(1, self.scale))
        return lr.unflatten(0, (n, c)).squeeze(2)


def _phases(scale):
    """Filter taps of each output phase, (scale, 2*reach + 1), and their reach in LR pixels."""
    length = 16  # long enough for one interior LR pixel whose taps do not meet the border
    weights, indices = contributions(length, length * scale, scale)
    dense = np.zeros((length * scale, length))
    np.add.at(dense, (np.arange(len(dense))[:, None], indices), weights)
    middle, reach = length // 2, 2
    own = dense[middle * scale : (middle + 1) * scale]
    assert np.count_nonzero(own) == np.count_nonzero(own[:, middle - reach : middle + reach + 1])
    return torch.from_numpy(own[:, middle - reach : middle + reach + 1]), reach


def _symmetric(reach, n, device):
    position = torch.arange(-reach, n + reach, device=device) % (2 * n)
    return torch.minimum(position, 2 * n - 1 - position)
