"""D-DBPN (Haris et al., CVPR 2018): up- and down-projections in turns, each correcting the one before."""

from collections import OrderedDict

import torch
from torch import nn

from carlib.models.blocks import check_counts, check_rgb
from carlib.models.layers import at_least_float32

_KERNELS = {2: 6, 4: 8, 8: 12}  # taps of a projection; its stride is the scale, its padding 2


class DDBPN(nn.Module):
    """Dense deep back-projection network: T up-projections, T - 1 down-projections, all HR maps joined at the end.

    The state dict has the keys of DBPN-Pytorch (feat0.conv, up1.up_conv1.deconv, up3.conv.conv, ..., output_conv.conv).
    Its larger DBPN-LL is stages=10; models trained with --residual add the bicubic image outside the network.

    Args:
        scale:    2, 4 or 8.
        stages:   T = 7.
        channels: filters of a projection; 64.
        features: of the first convolution; 256.
    """

    def __init__(self, scale, stages=7, channels=64, features=256):
        super().__init__()
        if scale not in _KERNELS:
            raise ValueError(f"D-DBPN has no scale {scale!r}: use 2, 4 or 8")
        check_counts("D-DBPN", stages=stages, channels=channels, features=features)
        self.stages = stages
        self.feat0 = _activated(conv=nn.Conv2d(3, features, 3, padding=1))
        self.feat1 = _activated(conv=nn.Conv2d(features, channels, 1))
        for t in range(1, stages + 1):  # the second up-projection still sees one map, the later ones t - 1
            self.add_module(f"up{t}", Projection("up", scale, channels, max(1, t - 1)))
        for t in range(1, stages):
            self.add_module(f"down{t}", Projection("down", scale, channels, t))
        self.output_conv = nn.Sequential(OrderedDict(conv=nn.Conv2d(stages * channels, 3, 3, padding=1)))

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        low, lows, highs = self.feat1(self.feat0(lr)), [], []  # the newest map first
        for t in range(1, self.stages + 1):
            highs.insert(0, self.get_submodule(f"up{t}")(torch.cat(lows, 1) if lows else low))
            if t < self.stages:
                lows.insert(0, self.get_submodule(f"down{t}")(torch.cat(highs, 1)))
        return at_least_float32(self.output_conv(torch.cat(highs, 1)))


class Projection(nn.Module):
    """There, back, and there again with what the way back has lost.

    Args:
        direction: "up" (LR maps to HR maps) or "down".
        inputs:    maps that come in; from two on, a 1x1 convolution joins them first.
    """

    def __init__(self, direction, scale, channels, inputs):
        super().__init__()
        if inputs > 1:
            self.conv = _activated(conv=nn.Conv2d(inputs * channels, channels, 1))
        numbers = {"kernel_size": _KERNELS[scale], "stride": scale, "padding": 2}
        self.names = [f"{direction}_conv{i}" for i in (1, 2, 3)]
        for i, name in enumerate(self.names):
            up = (direction == "up") == (i != 1)
            layer = (nn.ConvTranspose2d if up else nn.Conv2d)(channels, channels, **numbers)
            self.add_module(name, _activated(**{"deconv" if up else "conv": layer}))
        self.joins = inputs > 1

    def forward(self, x):
        there, back, again = (self.get_submodule(name) for name in self.names)
        x = self.conv(x) if self.joins else x
        first = there(x)
        return first + again(back(first) - x)


def _activated(**layer):
    return nn.Sequential(OrderedDict(**layer, act=nn.PReLU()))
