"""Layers of more than one network: the frozen shift by the mean colour of DIV2K, pixel shuffles, reflection."""

import torch
from torch import nn

from carlib.ops.pixel_shuffle import enlarged

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB in [0, 1], the value every EDSR descendant uses


def at_least_float32(x):
    """Half precision to float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class MeanShift(nn.Conv2d):
    """x + sign * mean, as the frozen 1x1 convolution that public checkpoints hold (keys weight, bias)."""

    def __init__(self, sign: int):
        super().__init__(3, 3, kernel_size=1)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.bias.data = sign * torch.tensor(DIV2K_MEAN)
        self.requires_grad_(False)

    def forward(self, x):
        # An addition, in the precision of the image: autocast would round a 1x1 convolution of it to bfloat16.
        return x + self.bias.to(x.dtype).view(1, 3, 1, 1)


class PixelShuffle(nn.PixelShuffle):
    """Channels that come last in memory stay last. PyTorch's is slow backward on a CPU, and on a GPU writes them first,
    after which convolutions turn them back.
    """

    def forward(self, x):
        if _comes_last(x, "cpu"):
            return enlarged(x, self.upscale_factor)
        return shuffled(x, self.upscale_factor) if _comes_last(x, "cuda") else super().forward(x)


class PixelUnshuffle(nn.PixelUnshuffle):
    """Likewise on a GPU."""

    def forward(self, x):
        return unshuffled(x, self.downscale_factor) if _comes_last(x, "cuda") else super().forward(x)


def _comes_last(x, device) -> bool:
    """Whether channels come last in memory, on a device of this type."""
    return x.device.type == device and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def shuffled(x, r):
    """Pixel shuffle by `r` of a tensor whose channels come last in memory; those of the result do, too. For GPUs."""
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n, h, w, c // r**2, r, r).permute(0, 1, 4, 2, 5, 3)
    return pixels.reshape(n, h * r, w * r, c // r**2).permute(0, 3, 1, 2)


def unshuffled(x, r):
    """The inverse."""
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n, h // r, r, w // r, r, c).permute(0, 1, 3, 5, 2, 4)
    return pixels.reshape(n, h // r, w // r, c * r**2).permute(0, 3, 1, 2)


class ReflectionPad(nn.ReflectionPad2d):
    """Its gradient on a GPU adds in any order; where PyTorch is told to be deterministic, copies replace it."""

    def forward(self, x):
        if not torch.are_deterministic_algorithms_enabled():
            return super().forward(x)
        left, right, top, bottom = self.padding
        return _reflected(_reflected(x, 3, left, right), 2, top, bottom)


def _reflected(x, axis, before, after):
    ends = x.narrow(axis, 1, before), x.narrow(axis, x.shape[axis] - 1 - after, after)
    return torch.cat([ends[0].flip(axis), x, ends[1].flip(axis)], axis)
