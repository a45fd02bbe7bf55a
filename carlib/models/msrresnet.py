"""MSRResNet, the SRResNet of BasicSR and its descendants: no normalisation, a bilinear skip."""

from torch import nn
from torch.nn.functional import interpolate, leaky_relu

from carlib.models.blocks import check_counts, check_rgb, conv, factors
from carlib.models.layers import at_least_float32


class MSRResNet(nn.Module):
    """bilinear(lr) + CNN(lr), LeakyReLU 0.1; what most public "SRResNet" weights are.

    The state dict has the keys of BasicSR (conv_first, body.i.conv{1,2}, upconv{1,2}, conv_hr, conv_last).

    Args:
        scale:    2, 3 or 4.
        blocks:   residual blocks; 16.
        channels: features; 64.
    """

    def __init__(self, scale, blocks=16, channels=64):
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"MSRResNet has no scale {scale!r}: use 2, 3 or 4")
        check_counts("MSRResNet", blocks=blocks, channels=channels)
        self.scale, self.factors = scale, factors("MSRResNet", scale)
        self.conv_first = conv(3, channels)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        for number, r in enumerate(self.factors, 1):
            self.add_module(f"upconv{number}", conv(channels, r * r * channels))
        self.conv_hr = conv(channels, channels)
        self.conv_last = conv(channels, 3)

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        features = self.body(leaky_relu(self.conv_first(lr), 0.1))
        for number, r in enumerate(self.factors, 1):
            enlarged = nn.functional.pixel_shuffle(self.get_submodule(f"upconv{number}")(features), r)
            features = leaky_relu(enlarged, 0.1)
        residual = at_least_float32(self.conv_last(leaky_relu(self.conv_hr(features), 0.1)))
        return residual + interpolate(at_least_float32(lr), scale_factor=self.scale, mode="bilinear")


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = conv(channels, channels), conv(channels, channels)

    def forward(self, x):
        return x + self.conv2(self.conv1(x).relu())
