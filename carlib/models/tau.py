"""TAU (Kim et al., ECCV 2018), the upscaler that is trained with the task-aware downscaler TAD."""

from torch import nn

from carlib.models.blocks import check_counts, check_rgb, conv, factors
from carlib.models.edsr import ResidualBlock
from carlib.models.layers import PixelShuffle, at_least_float32


class TAU(nn.Module):
    """A small EDSR without mean shift: three residual blocks.

    There is no official code; the numbers are those of the third-party build simon-schaefer/tar (409,731 parameters at
    x2). At x4, which that build reaches by two networks of x2 or in one, this one has two sub-pixel steps.

    Args:
        scale:    1, 3 or a power of 2.
        blocks:   residual blocks; 3.
        channels: features; 64.
    """

    def __init__(self, scale, blocks=3, channels=64):
        super().__init__()
        check_counts("TAU", blocks=blocks, channels=channels)
        self.head = conv(3, channels)
        blocks = (ResidualBlock(channels, res_scale=1.0) for _ in range(blocks))
        self.body = nn.Sequential(*blocks, conv(channels, channels))
        steps = [(conv(channels, r * r * channels), PixelShuffle(r)) for r in factors("TAU", scale)]
        self.tail = nn.Sequential(*(layer for step in steps for layer in step), conv(channels, 3))

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        features = self.head(lr)
        return at_least_float32(self.tail(features + self.body(features)))
