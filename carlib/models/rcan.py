"""RCAN (Zhang et al., ECCV 2018): EDSR's head and tail around groups of blocks that weigh their channels."""

import torch
from torch import nn

from carlib.models.blocks import check_counts, conv, factors
from carlib.models.edsr import EDSR
from carlib.models.layers import DIV2K_MEAN, at_least_float32


class RCAN(EDSR):
    """Residual groups of residual channel attention blocks.

    The state dict has the keys of the release (body.g.body.b.body.{0,2}, body.g.body.b.body.3.conv_du.{0,2},
    body.g.body.B, body.G, head, tail and mean shifts as EDSR). The release means to freeze its mean shifts but trains
    them; so they are parameters here, and its checkpoints' own are loaded.

    Args:
        scale:     1, 3 or a power of 2.
        groups:    residual groups; 10.
        blocks:    blocks in each; 20.
        channels:  features; 64.
        reduction: of channels inside the attention; 16.
    """

    def __init__(self, scale, groups=10, blocks=20, channels=64, reduction=16):
        factors("RCAN", scale)
        check_counts("RCAN", groups=groups, blocks=blocks, channels=channels, reduction=reduction)
        if reduction > channels:
            raise ValueError(f"RCAN cannot have reduction={reduction!r} of {channels} channels: use fewer")
        super().__init__(scale, blocks=0, channels=channels)
        self.sub_mean, self.add_mean = TrainedShift(-1), TrainedShift(+1)
        inner = (ResidualGroup(blocks, channels, reduction) for _ in range(groups))
        self.body = nn.Sequential(*inner, conv(channels, channels))

    def to_range_1(self, state, white):
        """A checkpoint trained on images in 0..white as the same function of images in 0..1.

        Features are divided by `white`, and so biases; the attention's argument must stay what it was.
        """

        def converted(key, value):
            if key.endswith(".conv_du.0.weight"):
                return value * white
            return value / white if key.endswith(".bias") and ".conv_du." not in key else value

        return {key: converted(key, value) for key, value in state.items()}


class ResidualGroup(nn.Module):
    """x + conv(blocks(x))."""

    def __init__(self, blocks, channels, reduction):
        super().__init__()
        inner = (ResidualBlock(channels, reduction) for _ in range(blocks))
        self.body = nn.Sequential(*inner, conv(channels, channels))

    def forward(self, x):
        return x + self.body(x)


class ResidualBlock(nn.Module):
    """x + attention(conv(relu(conv(x))))."""

    def __init__(self, channels, reduction):
        super().__init__()
        layers = conv(channels, channels), nn.ReLU(), conv(channels, channels)
        self.body = nn.Sequential(*layers, ChannelAttention(channels, reduction))

    def forward(self, x):
        return x + self.body(x)


class ChannelAttention(nn.Module):
    """Each channel times a number in 0..1 that depends on all channels' means."""

    def __init__(self, channels, reduction):
        super().__init__()
        few = channels // reduction
        self.conv_du = nn.Sequential(conv(channels, few, 1), nn.ReLU(), conv(few, channels, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.conv_du(x.mean((2, 3), keepdim=True))


class TrainedShift(nn.Conv2d):
    """A 1x1 convolution that begins as the shift by the mean colour of DIV2K."""

    def __init__(self, sign):
        super().__init__(3, 3, kernel_size=1)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.bias.data = sign * torch.tensor(DIV2K_MEAN)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):  # images are not rounded to bfloat16
            wide = at_least_float32(x)
            return self._conv_forward(wide, self.weight.to(wide.dtype), self.bias.to(wide.dtype)).to(x.dtype)
