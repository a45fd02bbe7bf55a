"""IRN (Xiao et al., "Invertible Image Rescaling", ECCV 2020): one network downscales and, inverted, upscales.

HR image <-> (LR image, z). A Haar transform halves the resolution and splits each colour into its mean and three
details; couplings then move into the mean what it can carry (the LR image) and out of the details what it tells. The
remaining details z are trained to be Gaussian, are thrown away, and are drawn anew, or set to 0, on the way back.
"""

import math

import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

from carlib.models.blocks import check_counts, check_hr, check_rgb, conv, doublings
from carlib.models.layers import at_least_float32
from carlib.models.precision import in_own_precision


class IRN(nn.Module):
    """`downscale` is f: hr -> (lr, z), `forward` its inverse with the same weights: (lr, z) -> sr.

    The state dict has the keys of the released code (operations.i.{haar_weights | F/G/H.conv{1..5}}).

    Args:
        scale:  a power of 2 from 2 on; each factor 2 is a Haar transform and its couplings.
        blocks: couplings per factor 2; 8.
        growth: features that a dense convolution adds; 32.
        clamp:  bound of the logarithm by which one coupling scales the details; 1.
        noise:  standard deviation of the z that is drawn in training mode; 1, as published. Details of photographs
                deviate by some 0.02: until the couplings have learned to magnify them fiftyfold, what is restored from
                a drawn z is mostly noise, and z = 0 means nothing. 0 trains for the z of eval mode.
    """

    def __init__(self, scale, blocks=8, growth=32, clamp=1.0, noise=1.0):
        super().__init__()
        check_counts("IRN", blocks=blocks, growth=growth)
        levels = doublings("IRN", scale)
        if not levels:
            raise ValueError(f"IRN has no scale {scale!r}: use a power of 2 from 2 on")
        if not 0 <= noise < math.inf:
            raise ValueError(f"IRN cannot draw z with noise={noise!r}: give a standard deviation, 0 or more")
        self.scale, self.noise, channels, operations = scale, noise, 3, []
        for _ in range(levels):
            operations.append(Haar(channels))
            channels *= 4
            operations += [Coupling(channels, growth, clamp) for _ in range(blocks)]
        self.operations = nn.ModuleList(operations)

    def downscale(self, hr):
        """hr (N, 3, H, W), RGB in [0, 1] -> lr, and what `losses.guided` takes: (lr, z).

        lr is (N, 3, H/scale, W/scale), neither clamped nor rounded; z (N, 3*scale^2 - 3, H/scale, W/scale).
        """
        check_hr(hr, self.scale)
        image = at_least_float32(hr)
        with in_own_precision(self, hr.device):
            for operation in self.operations:
                image = operation(image)
        lr, z = image.split([3, image.shape[1] - 3], 1)
        return lr, (lr, z)

    def forward(self, lr, z=None):
        """lr (N, 3, h, w), RGB in [0, 1], and z -> sr (N, 3, h*scale, w*scale), not clamped.

        Without z it is drawn from N(0, noise^2) in training mode, and is 0 in eval mode: its most likely value, which
        makes the result reproducible.
        """
        check_rgb(lr)
        image = at_least_float32(lr)
        if z is None:
            shape = (len(lr), 3 * self.scale**2 - 3, *lr.shape[2:])
            z = image.new_zeros(shape)
            if self.training and self.noise:
                z.normal_(std=self.noise)
        image = torch.cat([image, z], 1)
        with in_own_precision(self, lr.device):
            for operation in reversed(self.operations):
                image = operation.inverse(image)
        return image


class Haar(nn.Module):
    """(N, C, H, W) <-> (N, 4C, H/2, W/2): means of 2x2 pixels first, then three kinds of differences, over 4.

    The patterns of +-1 are mutually orthogonal, each of squared length 4, so their transpose inverts the transform.
    They are a buffer and not trained: public checkpoints hold them. Half precision would round the image: never in it.
    """

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        line = torch.tensor([[1.0, 1.0], [1.0, -1.0]])  # mean, difference
        patterns = torch.stack([torch.outer(line[v], line[h]) for v, h in ((0, 0), (0, 1), (1, 0), (1, 1))])
        self.register_buffer("haar_weights", patterns[:, None].repeat(channels, 1, 1, 1))

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            parts = conv2d(x, self.haar_weights.to(x.dtype), stride=2, groups=self.channels) / 4
        return parts.unflatten(1, (self.channels, 4)).transpose(1, 2).flatten(1, 2)

    def inverse(self, y):
        parts = y.unflatten(1, (4, self.channels)).transpose(1, 2).flatten(1, 2)
        with torch.autocast(y.device.type, enabled=False):
            return conv_transpose2d(parts, self.haar_weights.to(y.dtype), stride=2, groups=self.channels)


class Coupling(nn.Module):
    """low += F(high), then high = high * exp(s(low)) + G(low), s = clamp * (2 sigmoid(H(low)) - 1); the paper's block.

    It begins as the identity, since the last layers of F, G and H begin as zero.
    """

    def __init__(self, channels, growth, clamp):
        super().__init__()
        self.sizes, self.clamp = [3, channels - 3], clamp
        self.F = DenseBlock(channels - 3, 3, growth)
        self.G = DenseBlock(3, channels - 3, growth)
        self.H = DenseBlock(3, channels - 3, growth)

    def forward(self, x):
        low, high = x.split(self.sizes, 1)
        low = low + self.F(high)
        return torch.cat([low, high * self._log_scale(low).exp() + self.G(low)], 1)

    def inverse(self, y):
        low, high = y.split(self.sizes, 1)
        high = (high - self.G(low)) * (-self._log_scale(low)).exp()
        return torch.cat([low - self.F(high), high], 1)

    def _log_scale(self, low):
        return self.clamp * (2 * self.H(low).sigmoid() - 1)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees x and all outputs before it."""

    def __init__(self, n_in, n_out, growth):
        super().__init__()
        for i in range(1, 6):
            self.add_module(f"conv{i}", conv(n_in + (i - 1) * growth, n_out if i == 5 else growth))
        nn.init.zeros_(self.conv5.weight)
        nn.init.zeros_(self.conv5.bias)

    def forward(self, x):
        known = x
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            known = torch.cat([known, leaky_relu(layer(known), 0.2)], 1)
        return at_least_float32(self.conv5(known))
