"""RDN (Zhang et al., CVPR 2018): residual dense blocks, and a fusion of all their outputs."""

import torch
from torch import nn

from carlib.models.blocks import check_counts, check_rgb, conv, factors
from carlib.models.layers import PixelShuffle, at_least_float32


class RDN(nn.Module):
    """Residual dense network, configuration B (16 blocks, 8 convolutions, growth 64).

    The state dict has the keys of EDSR-PyTorch's port (SFENet1, SFENet2, RDBs.i.convs.j.conv.0, RDBs.i.LFF, GFF.{0,1},
    UPNet.{0,2[,4]}). Like the port, the network shifts no mean: the Torch7 release does so where it reads images.
    Checkpoints of the port are at range 255, which nothing in them tells: `carlib.weights.load` takes them for such.

    Args:
        scale:    1, 3 or a power of 2.
        blocks:   residual dense blocks; D = 16.
        layers:   convolutions in each; C = 8.
        growth:   features that each adds; G = 64.
        channels: features between blocks; G0 = 64.
    """

    public_range = 255

    def __init__(self, scale, blocks=16, layers=8, growth=64, channels=64):
        super().__init__()
        check_counts("RDN", blocks=blocks, layers=layers, growth=growth, channels=channels)
        self.SFENet1 = conv(3, channels)
        self.SFENet2 = conv(channels, channels)
        self.RDBs = nn.ModuleList(ResidualDenseBlock(layers, growth, channels) for _ in range(blocks))
        self.GFF = nn.Sequential(conv(blocks * channels, channels, 1), conv(channels, channels))
        up = [x for r in factors("RDN", scale) for x in (conv(channels, r * r * channels), PixelShuffle(r))]
        self.UPNet = nn.Sequential(*up, conv(channels, 3))

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        shallow = self.SFENet1(lr)
        features, outputs = self.SFENet2(shallow), []
        for block in self.RDBs:
            features = block(features)
            outputs.append(features)
        return at_least_float32(self.UPNet(shallow + self.GFF(torch.cat(outputs, 1))))


class ResidualDenseBlock(nn.Module):
    """x + a 1x1 convolution of x and of all that the block's convolutions made of it."""

    def __init__(self, layers, growth, channels):
        super().__init__()
        self.convs = nn.Sequential(*(DenseLayer(channels + i * growth, growth) for i in range(layers)))
        self.LFF = conv(channels + layers * growth, channels, 1)

    def forward(self, x):
        return x + self.LFF(self.convs(x))


class DenseLayer(nn.Module):
    """x beside relu(conv(x))."""

    def __init__(self, n_in, growth):
        super().__init__()
        self.conv = nn.Sequential(conv(n_in, growth), nn.ReLU())

    def forward(self, x):
        return torch.cat([x, self.conv(x)], 1)
