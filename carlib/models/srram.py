"""SRRAM (Kim et al., arXiv:1811.12043): EDSR with residual attention modules."""

from torch import nn

from carlib.models.blocks import check_counts, conv, factors
from carlib.models.edsr import EDSR


class SRRAM(EDSR):
    """EDSR's head and tail around modules whose attention joins channels and space.

    There is no official code. Third-party builds have 16 modules and attend to the second convolution's output; the
    published parameter count (about 942K at x2, 1,090K at x4) fits 10 modules to within 4K, so 10 it is here. The
    mean shift is EDSR's.

    Args:
        scale:     1, 3 or a power of 2.
        blocks:    residual attention modules; 10.
        channels:  features; 64.
        reduction: of channels inside the attention; 16.
    """

    def __init__(self, scale, blocks=10, channels=64, reduction=16):
        factors("SRRAM", scale)
        check_counts("SRRAM", blocks=blocks, channels=channels, reduction=reduction)
        if reduction > channels:
            raise ValueError(f"SRRAM cannot have reduction={reduction!r} of {channels} channels: use fewer")
        super().__init__(scale, blocks=0, channels=channels)
        modules = (ResidualAttention(channels, reduction) for _ in range(blocks))
        self.body = nn.Sequential(*modules, conv(channels, channels))


class ResidualAttention(nn.Module):
    """x + f * sigmoid(channel(variance of f) + space(f)), f = conv(relu(conv(x)))."""

    def __init__(self, channels, reduction):
        super().__init__()
        few = channels // reduction
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))
        self.channel = nn.Sequential(conv(channels, few, 1), nn.ReLU(), conv(few, channels, 1))
        self.space = conv(channels, channels, groups=channels)
        self.gate = nn.Sigmoid()

    def forward(self, x):
        features = self.body(x)
        spread = features.var((2, 3), correction=0, keepdim=True)  # of all pixels: one pixel has none, not NaN
        return x + features * self.gate(self.channel(spread) + self.space(features))
