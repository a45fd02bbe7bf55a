"""RRDB (Wang et al., ECCVW 2018): ESRGAN's generator, of which Table 4 prints the PSNR-oriented training."""

import re

import torch
from torch import nn
from torch.nn.functional import interpolate, leaky_relu

from carlib.models.blocks import check_counts, check_rgb, conv, doublings
from carlib.models.layers import at_least_float32

_RELEASE = {"trunk_conv": "conv_body", "upconv1": "conv_up1", "upconv2": "conv_up2", "HRconv": "conv_hr"}


class RRDB(nn.Module):
    """Residual-in-residual dense blocks, then nearest-neighbour enlargement and convolution per factor 2.

    The state dict has the keys of BasicSR (conv_first, body.i.rdb{1,2,3}.conv{1..5}, conv_body, conv_up{1,2}, conv_hr,
    conv_last); the ESRGAN release's and its oldest files' (model.0, model.1.sub.i....) load as well. Print knows x4
    alone; x2 has one enlargement less.

    Args:
        scale:    a power of 2.
        blocks:   residual-in-residual dense blocks; 23.
        channels: features; 64.
        growth:   features that a dense convolution adds; 32.
    """

    def __init__(self, scale, blocks=23, channels=64, growth=32):
        super().__init__()
        check_counts("RRDB", blocks=blocks, channels=channels, growth=growth)
        self.conv_first = conv(3, channels)
        self.body = nn.Sequential(*(ResidualInResidual(channels, growth) for _ in range(blocks)))
        self.conv_body = conv(channels, channels)
        self.enlargements = [f"conv_up{i + 1}" for i in range(doublings("RRDB", scale))]
        for name in self.enlargements:
            self.add_module(name, conv(channels, channels))
        self.conv_hr = conv(channels, channels)
        self.conv_last = conv(channels, 3)

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        features = self.conv_first(lr)
        features = features + self.conv_body(self.body(features))
        for name in self.enlargements:
            features = leaky_relu(self.get_submodule(name)(interpolate(features, scale_factor=2)), 0.2)
        return at_least_float32(self.conv_last(leaky_relu(self.conv_hr(features), 0.2)))

    def from_public(self, state):
        """The ESRGAN release (RRDB_trunk.i.RDB1.conv1, ...) and its oldest files (model.1.sub.i.RDB1.conv1.0, ...)."""
        ups = len(self.enlargements)  # the oldest files number one long nn.Sequential, activations included
        oldest = {"model.0": "conv_first", f"model.1.sub.{len(self.body)}": "conv_body"}
        oldest |= {f"model.{3 * (i + 1)}": name for i, name in enumerate(self.enlargements)}
        oldest |= {f"model.{3 * ups + 2}": "conv_hr", f"model.{3 * ups + 4}": "conv_last"}
        names = _RELEASE | oldest

        def renamed(key):
            layer, _, kind = key.rpartition(".")
            inner = re.fullmatch(r"(?:RRDB_trunk|model\.1\.sub)\.(\d+)\.RDB(\d)\.conv(\d)(?:\.0)?", layer)
            if inner:
                return f"body.{inner[1]}.rdb{inner[2]}.conv{inner[3]}.{kind}"
            return f"{names[layer]}.{kind}" if layer in names else key

        return {renamed(key): value for key, value in state.items()}


class ResidualInResidual(nn.Module):
    """x + 0.2 * three dense blocks."""

    def __init__(self, channels, growth):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(channels, growth) for _ in range(3))

    def forward(self, x):
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class DenseBlock(nn.Module):
    """x + 0.2 * five convolutions, each of which sees x and all outputs before it."""

    def __init__(self, channels, growth):
        super().__init__()
        for i in range(1, 6):
            self.add_module(f"conv{i}", conv(channels + (i - 1) * growth, channels if i == 5 else growth))

    def forward(self, x):
        known = x
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            known = torch.cat([known, leaky_relu(layer(known), 0.2)], 1)
        return x + 0.2 * self.conv5(known)
