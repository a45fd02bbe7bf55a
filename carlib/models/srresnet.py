"""SRResNet (Ledig et al., CVPR 2017): the residual network of SRGAN, trained for the squared error."""

from torch import nn

from carlib.models.blocks import check_counts, check_rgb, conv, factors
from carlib.models.layers import PixelShuffle, at_least_float32


class SRResNet(nn.Module):
    """Sixteen residual blocks with normalisation, between 9x9 convolutions.

    As published it normalises by batch, has PReLU and biases, and is trained to give images in [-1, 1]; here the
    result is brought back to [0, 1]. twtygqyy's port normalises by instance, has LeakyReLU 0.2 and no biases, and works
    in [0, 1]: norm="instance", whose checkpoints load. BasicSR's MSRResNet is a network of its own ("msrresnet").

    Args:
        scale:    1, 3 or a power of 2.
        blocks:   residual blocks; 16.
        channels: features; 64.
        norm:     "batch" (published) or "instance" (twtygqyy's port).
    """

    def __init__(self, scale, blocks=16, channels=64, norm="batch"):
        super().__init__()
        if norm not in _NORMS:
            raise ValueError(f"SRResNet cannot have norm={norm!r}: use one of {', '.join(_NORMS)}")
        check_counts("SRResNet", blocks=blocks, channels=channels)
        self.signed, bias = norm == "batch", norm == "batch"
        self.conv_input = conv(3, channels, 9, bias=bias)
        self.activation = _activation(norm)
        self.residual = nn.Sequential(*(ResidualBlock(channels, norm) for _ in range(blocks)))
        self.conv_mid = conv(channels, channels, bias=bias)
        self.norm_mid = _NORMS[norm](channels)
        steps = factors("SRResNet", scale)
        shuffles = [(conv(channels, r * r * channels, bias=bias), PixelShuffle(r), _activation(norm)) for r in steps]
        self.upscale = nn.Sequential(*(layer for step in shuffles for layer in step))
        self.conv_output = conv(channels, 3, 9, bias=bias)

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        skip = self.activation(self.conv_input(lr))
        features = skip + self.norm_mid(self.conv_mid(self.residual(skip)))
        sr = at_least_float32(self.conv_output(self.upscale(features)))
        return (sr + 1) / 2 if self.signed else sr

    def from_public(self, state):
        """twtygqyy's conv_input, residual.i.{conv1,in1,conv2,in2}, conv_mid, bn_mid, upscale4x.{0,3}, conv_output."""
        if "upscale4x.0.weight" not in state:
            return state
        # PyTorch 0.3 also stored running statistics, which its instance normalisation did not use.
        state = {key: value for key, value in state.items() if ".running_" not in key}
        names = {".in1.": ".norm1.", ".in2.": ".norm2.", "bn_mid.": "norm_mid.", "upscale4x.": "upscale."}
        for old, new in names.items():
            state = {key.replace(old, new): value for key, value in state.items()}
        return state


class ResidualBlock(nn.Module):
    """x + norm(conv(activation(norm(conv(x)))))."""

    def __init__(self, channels, norm):
        super().__init__()
        bias = norm == "batch"
        self.conv1, self.norm1 = conv(channels, channels, bias=bias), _NORMS[norm](channels)
        self.activation = _activation(norm)
        self.conv2, self.norm2 = conv(channels, channels, bias=bias), _NORMS[norm](channels)

    def forward(self, x):
        return x + self.norm2(self.conv2(self.activation(self.norm1(self.conv1(x)))))


_NORMS = {"batch": nn.BatchNorm2d, "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True)}


def _activation(norm):
    return nn.PReLU() if norm == "batch" else nn.LeakyReLU(0.2)
