"""CNN-SR (Li et al., TIP 28(3), 2019), the upscaler that is trained with CNN-CR."""

from torch import nn

from carlib.models.blocks import begin_near_bicubic, check_counts, stack
from carlib.models.luma import LumaNetwork


class CNNSR(LumaNetwork):
    """bicubic(lr) + CNN(lr): a transposed convolution first, then VDSR's layers.

    There is no official code. That the network is VDSR's with a transposed convolution in front and a residual to the
    interpolation is remembered from the paper; a kernel of 2*scale taps and RGB (as a third-party CNN-CR has) are our
    choice. No parameter count is published.

    Args:
        scale:    an even number.
        depth:    layers, the transposed convolution included; 20.
        channels: features; 64.
        colours:  3 (RGB) or 1 (luma).
    """

    def __init__(self, scale, depth=20, channels=64, colours=3):
        if scale < 2 or scale % 2:
            raise ValueError(f"CNN-SR has no scale {scale!r}: use an even number")
        super().__init__(scale, colours)
        check_counts("CNN-SR", depth=depth, channels=channels)
        if depth < 3:
            raise ValueError(f"CNN-SR cannot have depth={depth!r}: it is a whole number >= 3")
        self.up = nn.ConvTranspose2d(colours, channels, 2 * scale, stride=scale, padding=scale // 2)
        self.model = nn.Sequential(*stack(depth, colours, channels)[2:])  # `up` is the first layer
        begin_near_bicubic(self, self.model[-1])
        nn.init.normal_(self.up.weight, std=(2 / (4 * colours)) ** 0.5)  # He: a pixel sees 2x2 LR pixels of each colour

    def restore(self, lr, enlarged):
        return enlarged + self.model(self.up(lr).relu())
