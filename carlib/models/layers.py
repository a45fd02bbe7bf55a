"""Layers of more than one network: the frozen shift by the mean colour of DIV2K, reflection."""

import torch
from torch import nn

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
