"""MemNet (Tai et al., ICCV 2017): memory blocks whose gates see everything that came before."""

import torch
from torch import nn

from carlib.models.blocks import begin_near_bicubic, check_counts, conv
from carlib.models.luma import LumaNetwork


class MemNet(LumaNetwork):
    """M6R6 on the luma of the bicubic enlargement, as released: every convolution of a block has its own weights.

    The paper calls a block's units recursive (677K parameters), the released prototxt shares nothing within a block;
    this is the release. Each memory's output goes through a normalisation of its own and one shared convolution to a
    prediction, and six learned scalars sum the predictions. That makes 2,911,177 parameters; the 2,914,056 that are
    quoted count the shared convolution six times and leave the six scalars out. The authors also supervise each
    prediction by itself (recalled, not looked up); a run here is trained on their sum. The .caffemodel's BatchNorm and
    Scale pairs are one BatchNorm2d here (mean and variance divided by the stored factor).

    Args:
        memories: memory blocks; 6.
        units:    residual units in each; 6.
        channels: features; 64.
        colours:  1 (luma, as published) or 3 (RGB).
    """

    def __init__(self, scale, memories=6, units=6, channels=64, colours=1):
        super().__init__(scale, colours)
        check_counts("MemNet", memories=memories, units=units, channels=channels)
        self.first = _preactivated(colours, channels)
        self.memories = nn.ModuleList(Memory(units, channels, earlier) for earlier in range(1, memories + 1))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(memories))
        self.last = conv(channels, colours)
        begin_near_bicubic(self, self.last)
        self.shares = nn.Parameter(torch.full((memories,), 1 / memories))

    def restore(self, lr, enlarged):
        known, total = [self.first(enlarged.to(self.last.weight.dtype))], 0
        for memory, norm, share in zip(self.memories, self.norms, self.shares, strict=True):
            known.append(memory(known))
            total = total + share * (enlarged + self.last(norm(known[-1]).relu()))
        return total


class Memory(nn.Module):
    """Residual units, and a gate: a 1x1 convolution of all their outputs and all `earlier` memories."""

    def __init__(self, units, channels, earlier):
        super().__init__()
        self.units = nn.ModuleList(
            nn.Sequential(_preactivated(channels, channels), _preactivated(channels, channels)) for _ in range(units)
        )
        self.gate = _preactivated((earlier + units) * channels, channels, 1)

    def forward(self, known):
        features, short_term = known[-1], []
        for unit in self.units:
            features = features + unit(features)
            short_term.append(features)
        return self.gate(torch.cat([*known, *short_term], 1))


def _preactivated(n_in, n_out, size=3):
    return nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU(), conv(n_in, n_out, size))
