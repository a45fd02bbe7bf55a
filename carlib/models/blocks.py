"""Parts of several networks: the convolution, stacks of it, the steps of an enlargement, checks at the door."""

import math
from itertools import pairwise

import torch
from torch import nn


def conv(n_in, n_out, size=3, **options):
    """A convolution that keeps the image's size."""
    return nn.Conv2d(n_in, n_out, size, padding=size // 2, **options)


def stack(depth, colours, channels, bias=True):
    """`depth` 3x3 convolutions with ReLU between them: colours -> channels -> ... -> colours."""
    widths = [colours, *[channels] * (depth - 1), colours]
    layers = [layer for pair in pairwise(widths) for layer in (conv(*pair, bias=bias), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def begin_near_bicubic(network, last):
    """He's initialisation, without which these depths hardly begin to learn; a tenth of it in the `last` layer."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    with torch.no_grad():
        last.weight.mul_(0.1)


def factors(network, scale):
    """The steps in which `network` enlarges: 2 -> [2], 4 -> [2, 2], 3 -> [3], 1 -> []."""
    if scale != 3 and (scale < 1 or not math.log2(scale).is_integer()):
        raise ValueError(f"{network} has no scale {scale!r}: use 1, 3 or a power of 2")
    return [3] if scale == 3 else [2] * doublings(network, scale)


def doublings(network, scale):
    """How often `network`, which knows factors of 2 alone, enlarges by it: 1 for scale 2, 2 for 4."""
    if scale < 1 or not math.log2(scale).is_integer():
        raise ValueError(f"{network} has no scale {scale!r}: use a power of 2")
    return int(math.log2(scale))


def check_counts(network, **numbers):
    """Refuse a number of layers or features that is no whole number >= 1."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{network} cannot have {name}={value!r}: it is a whole number >= 1")


def check_rgb(lr):
    """Refuse an image that is not (N, 3, h, w)."""
    if lr.ndim != 4 or lr.shape[1] != 3 or 0 in lr.shape:
        raise ValueError(f"lr is {tuple(lr.shape)}, expected (N, 3, h, w)")


def check_hr(hr, scale):
    """Refuse an image that is not (N, 3, H, W) with sides that are multiples of `scale`."""
    if hr.ndim != 4 or hr.shape[1] != 3 or 0 in hr.shape:
        raise ValueError(f"hr is {tuple(hr.shape)}, expected (N, 3, H, W)")
    height, width = hr.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"hr is {height}x{width}, not a multiple of scale={scale}: crop or pad it first")


def with_zero_biases(network, state):
    """`state` and a zero for every bias that the network has: what a layout without biases means."""
    own = network.state_dict().items()
    return {key: torch.zeros_like(value, device="cpu") for key, value in own if key.endswith(".bias")} | state
