"""TAD (Kim et al., ECCV 2018), the task-aware downscaler that is trained with TAU."""

from torch import nn

from carlib.models.blocks import check_counts, check_hr, conv, doublings
from carlib.models.edsr import ResidualBlock
from carlib.models.layers import PixelUnshuffle, at_least_float32


class TAD(nn.Module):
    """TAU the other way round: convolution and pixel unshuffle per factor, three residual blocks, back to RGB.

    There is no official code; the numbers are those of the third-party build simon-schaefer/tar (261,619 parameters at
    x2): two convolutions to a quarter of the features without an activation, pixel unshuffle. At x4, which that build
    reaches by two networks of x2 or in one, this one has a second convolution and unshuffle, as TAU has two steps.
    Nothing ties the LR image to the HR image but the guidance loss.

    Args:
        scale:    a power of 2 from 2 on.
        blocks:   residual blocks; 3.
        channels: features, a multiple of 8; 64.
    """

    def __init__(self, scale, blocks=3, channels=64):
        super().__init__()
        check_counts("TAD", blocks=blocks, channels=channels)
        if channels % 8:
            raise ValueError(f"TAD cannot have channels={channels!r}: it is a multiple of 8")
        self.scale, halvings = scale, doublings("TAD", scale)
        if not halvings:
            raise ValueError(f"TAD has no scale {scale!r}: use a power of 2 from 2 on")
        layers = [conv(3, channels // 8)]
        for n_in in [channels // 8] + [channels] * (halvings - 1):
            layers += [conv(n_in, channels // 4), PixelUnshuffle(2)]
        self.head = nn.Sequential(*layers)
        blocks = (ResidualBlock(channels, res_scale=1.0) for _ in range(blocks))
        self.body = nn.Sequential(*blocks, conv(channels, channels))
        self.tail = conv(channels, 3)

    def forward(self, hr):
        """hr (N, 3, H, W), RGB in [0, 1] -> lr (N, 3, H/scale, W/scale), neither clamped nor rounded."""
        check_hr(hr, self.scale)
        features = self.head(hr)
        return at_least_float32(self.tail(features + self.body(features)))

    def downscale(self, hr):
        """lr, and what `losses.guided` takes of it: (lr,)."""
        lr = self(hr)
        return lr, (lr,)
