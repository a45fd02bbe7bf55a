"""DRRN (Tai et al., CVPR 2017): one residual unit, applied twenty-five times."""

from torch import nn

from carlib.models.blocks import begin_near_bicubic, check_counts, conv
from carlib.models.luma import LumaNetwork


class DRRN(LumaNetwork):
    """B1U25 on the luma of the bicubic enlargement: every unit adds the first convolution's output, not its own input.

    The paper and the Caffe release precede each convolution by batch normalisation, which is not shared between the
    units. The public PyTorch weights (jt827859032, keys input, conv1, conv2, output) have none, and neither has the
    count of 297,216 that the field quotes: so it is an option here. In that port ReLU works in place, which
    rectifies the skip as well; its weights need that (without it 27.73 instead of 34.75 dB on butterfly x2), and so
    does this network without norm. A .caffemodel's BatchNorm and Scale pairs are one BatchNorm2d here, with norm.

    Args:
        units:    residual units in the one recursive block; 25.
        channels: features; 128.
        norm:     batch normalisation before each ReLU, as in the paper; the skip is then not rectified.
        colours:  1 (luma, as published) or 3 (RGB).
    """

    def __init__(self, scale, units=25, channels=128, norm=False, colours=1):
        super().__init__(scale, colours)
        check_counts("DRRN", units=units, channels=channels)
        self.input = conv(colours, channels, bias=False)
        self.conv1 = conv(channels, channels, bias=False)
        self.conv2 = conv(channels, channels, bias=False)
        self.output = conv(channels, colours, bias=False)
        self.units = units
        begin_near_bicubic(self, self.output)
        widths = [colours, *[channels] * (2 * units + 1)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in widths) if norm else None

    def restore(self, lr, enlarged):
        skip = self.input(self._activated(enlarged.to(self.input.weight.dtype), 0))
        if self.norms is None:
            skip = skip.relu()
        features = skip
        for unit in range(self.units):
            inner = self.conv1(self._activated(features, 2 * unit + 1))
            features = skip + self.conv2(self._activated(inner, 2 * unit + 2))
        return enlarged + self.output(self._activated(features, 2 * self.units + 1))

    def _activated(self, features, place):
        return (features if self.norms is None else self.norms[place](features)).relu()
