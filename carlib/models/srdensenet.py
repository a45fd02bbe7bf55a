"""SRDenseNet (Tong et al., ICCV 2017), SRDenseNet_All: every layer sees all features before it."""

import re

import torch
from torch import nn

from carlib.models.blocks import check_counts, conv, doublings
from carlib.models.luma import LumaNetwork


class SRDenseNet(LumaNetwork):
    """Dense blocks, a 1x1 bottleneck and transposed convolutions, on the luma of the LR image.

    There is no official code, and the paper's figure allows two readings: a layer sees all features so far, or only
    those of its own block (about 2.1 million parameters). This is the first, as wxywhu's port builds it (7,159,969
    parameters at x4), whose checkpoints load; those of its second version, which its training builds, have
    bottleneck=128. Print knows x4 alone; x2 has one transposed convolution less.

    Args:
        scale:      a power of 2.
        blocks:     dense blocks; 8.
        layers:     convolutions in each; 8.
        growth:     features that each adds; 16, as many as the first convolution makes.
        bottleneck: features after the 1x1 convolution; 256.
        colours:    1 (luma, as published) or 3 (RGB).
    """

    def __init__(self, scale, blocks=8, layers=8, growth=16, bottleneck=256, colours=1):
        steps = range(doublings("SRDenseNet", scale))
        super().__init__(scale, colours)
        check_counts("SRDenseNet", blocks=blocks, layers=layers, growth=growth, bottleneck=bottleneck)
        self.first = conv(colours, growth)
        count = blocks * layers
        self.dense = nn.ModuleList(conv((i + 1) * growth, growth) for i in range(count))
        self.bottleneck = conv((count + 1) * growth, bottleneck, 1)
        self.up = nn.Sequential(*(nn.ConvTranspose2d(bottleneck, bottleneck, 4, stride=2, padding=1) for _ in steps))
        self.last = conv(bottleneck, colours)
        self.layers = layers

    def restore(self, lr, enlarged):
        features = self.first(lr).relu()
        for layer in self.dense:
            features = torch.cat([features, layer(features).relu()], 1)
        return self.last(self.up(self.bottleneck(features)))

    def from_public(self, state):
        """wxywhu's conv1, dense{1..8}.{0..7}.conv, Bottleneck, convt1, convt2, conv2.

        In the second version the layers are denseblock.{0..7}.block.{0..7}.conv.
        """
        names = {"conv1": "first", "conv2": "last", "Bottleneck": "bottleneck", "convt1": "up.0", "convt2": "up.1"}

        def renamed(key):
            layer, _, kind = key.rpartition(".")
            if found := re.fullmatch(r"dense(\d+)\.(\d+)\.conv", layer):
                return f"dense.{(int(found[1]) - 1) * self.layers + int(found[2])}.{kind}"
            if found := re.fullmatch(r"denseblock\.(\d+)\.block\.(\d+)\.conv", layer):
                return f"dense.{int(found[1]) * self.layers + int(found[2])}.{kind}"
            return f"{names[layer]}.{kind}" if layer in names else key

        return {renamed(key): value for key, value in state.items()}
