"""CNN-CR (Li et al., TIP 28(3), 2019), the downscaler ("compact resolution") that is trained with CNN-SR."""

from torch import nn

from carlib.models.bicubic import BicubicReduction
from carlib.models.blocks import begin_near_bicubic, check_counts, check_hr, factors, stack
from carlib.models.layers import at_least_float32


class CNNCR(nn.Module):
    """bicubic(hr) + CNN(hr); it begins as bicubic downscaling, for its last layer begins as zero.

    There is no official code. The layers are those that a third-party build reads out of the paper: a strided
    convolution to 64 features, ten more, one back to RGB, and the bicubic image added. Our choices: ReLU after the
    strided convolution too; at x4, of which the paper prints nothing, two of stride 2, for a 3x3 kernel of stride 4
    would not see seven pixels of sixteen; RGB. No parameter count is published.

    Args:
        scale:    3 or a power of 2.
        depth:    convolutions between the strided one and the last; 10.
        channels: features; 64.
    """

    def __init__(self, scale, depth=10, channels=64):
        super().__init__()
        check_counts("CNN-CR", depth=depth, channels=channels)
        steps = factors("CNN-CR", scale)
        self.scale, self.bicubic = scale, BicubicReduction(scale)
        self.model = stack(len(steps) + depth + 1, 3, channels)
        for layer, step in zip(self.model[::2], steps, strict=False):
            layer.stride = (step, step)
        begin_near_bicubic(self, self.model[-1])
        nn.init.zeros_(self.model[-1].weight)

    def forward(self, hr):
        """hr (N, 3, H, W), RGB in [0, 1] -> lr (N, 3, H/scale, W/scale), neither clamped nor rounded."""
        check_hr(hr, self.scale)
        return self.bicubic(hr) + at_least_float32(self.model(hr))

    def downscale(self, hr):
        """lr, and what `losses.guided` takes of it: (lr,)."""
        lr = self(hr)
        return lr, (lr,)
