"""What the early networks share: they restore the luma alone, from the LR image or from its bicubic enlargement."""

from torch import nn

from carlib.models.bicubic import Bicubic
from carlib.models.blocks import begin_near_bicubic, check_counts, check_rgb, stack
from carlib.models.layers import at_least_float32
from carlib.models.precision import in_own_precision

_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # BT.601, studio swing, as MATLAB's rgb2ycbcr
_BLACK = 16 / 255
_SWING = 219 / 255  # the sum of _LUMA


class LumaNetwork(nn.Module):
    """lr RGB -> sr RGB through a network of the luma; the chroma is MATLAB's bicubic.

    Subclasses define `restore`. Back in RGB, a change of the luma is the same change of R, G and B, so the result is
    bicubic(lr) + (restored luma - bicubic luma) * 255/219, without ever making Cb and Cr.

    Args:
        scale:   a whole number >= 1.
        colours: 1 for a network of the luma; 3 for the same network of RGB, which then decides all of the result.
    """

    def __init__(self, scale, colours=1):
        super().__init__()
        if colours not in (1, 3):
            raise ValueError(f"{type(self).__name__} cannot have colours={colours!r}: use 1 (luma) or 3 (RGB)")
        self.colours = colours
        self.bicubic = Bicubic(scale)

    def forward(self, lr):
        """lr (N, 3, h, w), RGB in [0, 1] -> sr (N, 3, h*scale, w*scale), not clamped."""
        check_rgb(lr)
        enlarged = self.bicubic(lr)
        with in_own_precision(self, lr.device):
            if self.colours == 3:
                return at_least_float32(self.restore(lr, enlarged))
            y = luma(enlarged)
            restored = at_least_float32(self.restore(luma(lr), y))
        return enlarged + (restored - y) / _SWING

    def restore(self, lr, enlarged):
        """lr (N, colours, h, w) and its bicubic enlargement, in [0, 1] -> sr (N, colours, h*scale, w*scale)."""
        raise NotImplementedError


class StackNetwork(LumaNetwork):
    """y + CNN(y) of the bicubic enlargement y, the CNN `depth` convolutions with ReLU between them."""

    def __init__(self, scale, depth, channels, colours, bias=True):
        super().__init__(scale, colours)
        check_counts(type(self).__name__, depth=depth, channels=channels)
        self.model = stack(depth, colours, channels, bias)
        begin_near_bicubic(self, self.model[-1])

    def restore(self, lr, enlarged):
        return enlarged + self.model(enlarged)


def luma(rgb):
    """(N, 3, H, W) RGB in [0, 1] -> (N, 1, H, W) studio luma in [16/255, 235/255]."""
    # Sums, not a 1x1 convolution: autocast would round that to bfloat16.
    return sum(weight * colour for weight, colour in zip(_LUMA, rgb.split(1, 1), strict=True)) + _BLACK
