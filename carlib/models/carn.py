"""CARN and CARN-M (Ahn et al., ECCV 2018): a cascade of cascades of residual blocks."""

import re
from collections import OrderedDict

import torch
from torch import nn

from carlib.models.blocks import check_counts, check_rgb, conv, factors
from carlib.models.layers import MeanShift, PixelShuffle, at_least_float32


class Cascade(nn.Module):
    """Three units; after each, a 1x1 convolution joins the input with all outputs so far.

    Args:
        units: the three modules, or the same one three times (its weights are then shared).
    """

    def __init__(self, channels, units):
        super().__init__()
        self.order = ["b1" if unit is units[0] else f"b{i}" for i, unit in enumerate(units, 1)]
        for name, unit in zip(self.order, units, strict=True):
            self.add_module(name, unit)
        for i in range(1, len(units) + 1):
            self.add_module(f"c{i}", _body(conv((i + 1) * channels, channels, 1), nn.ReLU()))

    def forward(self, x):
        known, out = [x], x
        for i, name in enumerate(self.order, 1):
            known.append(self.get_submodule(name)(out))
            out = self.get_submodule(f"c{i}")(torch.cat(known, 1))
        return out


class CARN(Cascade):
    """Three cascades of three residual blocks each, themselves cascading.

    The state dict has the keys of CARN-pytorch for one scale. Public checkpoints hold the tails of x2, x3 and x4 over
    one body (upsample.up2, up3, up4): the network takes the tail of its own scale.

    Args:
        scale:    1, 3 or a power of 2.
        channels: features; 64.
        groups:   of each 3x3 convolution; 1, and 4 in CARN-M.
        shared:   CARN-M: a cascade's three residual blocks share their weights, and end in a 1x1 convolution.
    """

    def __init__(self, scale, channels=64, groups=1, shared=False):
        check_counts("CARN", channels=channels, groups=groups)
        if channels % groups:
            raise ValueError(f"CARN cannot have channels={channels!r} in groups={groups!r}: use a multiple")

        def cascade():
            first = ResidualBlock(channels, groups, pointwise=shared)
            units = [first] * 3 if shared else [first, *(ResidualBlock(channels, groups, False) for _ in range(2))]
            return Cascade(channels, units)

        super().__init__(channels, [cascade() for _ in range(3)])
        self.scale = scale
        self.sub_mean, self.add_mean = MeanShift(-1), MeanShift(+1)
        self.entry, self.exit = conv(3, channels), conv(channels, 3)
        steps = [
            (conv(channels, r * r * channels, groups=groups), nn.ReLU(), PixelShuffle(r))
            for r in factors("CARN", scale)
        ]
        self.upsample = nn.Sequential(OrderedDict(up=_body(*(layer for step in steps for layer in step))))

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        features = super().forward(self.entry(self.sub_mean(lr)))
        return self.add_mean(at_least_float32(self.exit(self.upsample(features))))

    def from_public(self, state):
        """CARN-pytorch's: of several tails the one of this scale, and sub_mean.shifter for sub_mean."""
        kept = {}
        for key, value in state.items():
            tail = re.match(r"upsample\.up(\d)\.", key)
            if tail is None or int(tail[1]) == self.scale:
                key = re.sub(r"^upsample\.up\d\.", "upsample.up.", key)
                kept[re.sub(r"^(sub|add)_mean\.shifter\.", r"\1_mean.", key)] = value
        return kept


class ResidualBlock(nn.Module):
    """relu(x + body(x)): two 3x3 convolutions, in CARN-M followed by a 1x1 convolution."""

    def __init__(self, channels, groups, pointwise):
        super().__init__()
        layers = conv(channels, channels, groups=groups), nn.ReLU(), conv(channels, channels, groups=groups)
        self.body = nn.Sequential(*layers, *((nn.ReLU(), conv(channels, channels, 1)) if pointwise else ()))

    def forward(self, x):
        return (x + self.body(x)).relu()


def _body(*layers):
    return nn.Sequential(OrderedDict(body=nn.Sequential(*layers)))
