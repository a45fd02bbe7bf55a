"""EDSR (Lim et al., CVPRW 2017), the upscaler that CAR is trained with."""

from torch import nn

from carlib.models.blocks import check_counts, check_rgb, conv, factors
from carlib.models.layers import MeanShift, PixelShuffle, at_least_float32


class EDSR(nn.Module):
    """Enhanced deep residual network for super-resolution, single scale, without batch normalisation.

    The state dict has the keys of EDSR-PyTorch (head.0, body.i.body.{0,2}, body.B, tail.0.{0[,2]}, tail.1). That code
    runs at range 255: `carlib.weights.load` divides the biases of its checkpoints by 255, which for a network of
    convolutions and ReLU is the same function at range 1. Files in these keys without mean shifts are of
    krasserm/super-resolution, which shifts images and divides them by 127.5: white is 2.

    Args:
        scale:     1, 3 or a power of 2.
        blocks:    residual blocks; 32 in CAR and in EDSR's largest model, 16 in its baseline.
        channels:  features; 256, and 64 in the baseline.
        res_scale: factor on each residual branch; 0.1, and 1 in the baseline.
    """

    public_range = 2

    def __init__(self, scale, blocks=32, channels=256, res_scale=0.1):
        super().__init__()
        if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 0:
            raise ValueError(f"EDSR cannot have blocks={blocks!r}: it is a whole number >= 0")
        check_counts("EDSR", channels=channels)
        self.sub_mean, self.add_mean = MeanShift(-1), MeanShift(+1)
        self.head = nn.Sequential(conv(3, channels))
        self.body = nn.Sequential(
            *(ResidualBlock(channels, res_scale) for _ in range(blocks)), conv(channels, channels)
        )
        self.tail = nn.Sequential(_upsampler(scale, channels), conv(channels, 3))

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        features = self.head(self.sub_mean(lr))
        features = features + self.body(features)
        return self.add_mean(at_least_float32(self.tail(features)))


class ResidualBlock(nn.Module):
    """x + res_scale * conv(relu(conv(x)))."""

    def __init__(self, channels, res_scale):
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))
        self.res_scale = res_scale

    def forward(self, x):
        return x + self.res_scale * self.body(x)


def _upsampler(scale, channels):
    """Sub-pixel convolutions: one for a factor 3, one per factor 2 otherwise."""
    steps = factors("EDSR", scale)
    return nn.Sequential(*(layer for r in steps for layer in (conv(channels, r * r * channels), PixelShuffle(r))))
