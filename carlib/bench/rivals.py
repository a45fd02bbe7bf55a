"""The rivals in benchmarks: the compositions of PyTorch's own operators that one would write without us."""

import contextlib
from math import isqrt
from unittest import mock

import torch
from torch.nn import functional

from carlib import losses
from carlib.models import guided
from carlib.ops import penalties


def grid_sample_resample(hr, kernel, offset_v, offset_h, *, scale):
    """The rival: `carlib.resample` composed from PyTorch's own operators; arguments and result as there.

    All taps of all LR pixels are sampled at once, on a grid of N x (K*K*h) x w positions, and then summed.
    """
    n, taps, h, w = kernel.shape
    size = isqrt(taps)
    padded = functional.pad(hr, (size // 2,) * 4, mode="reflect")
    tap = torch.arange(taps, device=hr.device)

    def positions(length, place, limit):  # (K*K, length): padded pixels, scaled to grid_sample's -1..1
        centre = (torch.arange(length, device=hr.device, dtype=hr.dtype) + 0.5) * scale - 0.5
        at = centre + (place - (size - 1) / 2 + size // 2)[:, None]
        return at * (2 / (limit - 1)) - 1

    height, width = padded.shape[-2:]
    v = positions(h, tap // size, height)[None, :, :, None] + offset_v * (2 / (height - 1))
    u = positions(w, tap % size, width)[None, :, None, :] + offset_h * (2 / (width - 1))
    grid = torch.stack([u, v], -1).view(n, taps * h, w, 2)
    sampled = functional.grid_sample(padded, grid, padding_mode="border", align_corners=True)
    return (kernel[:, None] * sampled.view(n, -1, taps, h, w)).sum(2)


@contextlib.contextmanager
def composed():
    """Within it guided weights and penalties are composed of PyTorch's operators, as on devices without our loops."""
    with (
        mock.patch.object(guided, "_has_loops", lambda hr: False),
        mock.patch.object(losses, "sum_of_lengths", penalties._lengths),
        mock.patch.object(losses, "sum_of_steps", penalties._steps),
    ):
        yield
