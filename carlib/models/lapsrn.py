"""LapSRN (Lai et al., CVPR 2017): an image pyramid, twice as large and sharper at each level."""

import re

import torch
from torch import nn

from carlib.models.blocks import begin_near_bicubic, check_counts, conv, doublings, with_zero_biases
from carlib.models.luma import LumaNetwork


class LapSRN(LumaNetwork):
    """Ten convolutions, a transposed one and a residual per factor 2, on the luma of the LR image.

    The release (MatConvNet) enlarges features by a 3x3 kernel and crops the last row and column, the paper and
    twtygqyy's port by a 4x4 kernel: `up_kernel`. The port has no biases; its checkpoints load with biases of 0. The
    published loss, Charbonnier's at every level, is not that of a run here, which is of the last image alone. In the
    .mat files transposed kernels are (H, W, out, in), and the first level of x4 is named level2.

    Args:
        scale:     2, 4 or 8.
        depth:     convolutions per level; 10.
        channels:  features; 64.
        up_kernel: 3 (release) or 4 (paper).
        colours:   1 (luma, as published) or 3 (RGB).
    """

    def __init__(self, scale, depth=10, channels=64, up_kernel=3, colours=1):
        if scale not in (2, 4, 8):
            raise ValueError(f"LapSRN has no scale {scale!r}: use 2, 4 or 8")
        if up_kernel not in (3, 4):
            raise ValueError(f"LapSRN cannot have up_kernel={up_kernel!r}: use 3 (release) or 4 (paper)")
        super().__init__(scale, colours)
        check_counts("LapSRN", depth=depth, channels=channels)
        self.first = conv(colours, channels)
        levels = range(doublings("LapSRN", scale))
        self.levels = nn.ModuleList(Level(depth, channels, up_kernel, colours) for _ in levels)
        for level in self.levels:
            begin_near_bicubic(level, level.residual)

    def restore(self, lr, enlarged):
        image, features = lr, nn.functional.leaky_relu(self.first(lr), 0.2)
        for level in self.levels:
            image, features = level(image, features)
        return image

    def from_public(self, state):
        """twtygqyy's conv_input, convt_I1, convt_R1, convt_F1.0.cov_block.{0,2,...,20}, and so for level 2."""
        if "conv_input.weight" not in state:
            return state
        parts = {"I": "image", "R": "residual", f"F.0.cov_block.{len(self.levels[0].features)}": "up"}

        def renamed(key):
            if key == "conv_input.weight":
                return "first.weight"
            found = re.fullmatch(r"convt_([IRF])(\d)(\.0\.cov_block\.\d+|)\.weight", key)
            if not found:
                return key
            layer = found[1] + found[3]
            part = parts.get(layer) or layer.replace("F.0.cov_block", "features")
            return f"levels.{int(found[2]) - 1}.{part}.weight"

        return with_zero_biases(self, {renamed(key): value for key, value in state.items()})


class Level(nn.Module):
    """(image, features) -> both twice as large."""

    def __init__(self, depth, channels, up_kernel, colours):
        super().__init__()
        layers = [layer for _ in range(depth) for layer in (conv(channels, channels), nn.LeakyReLU(0.2))]
        self.features = nn.Sequential(*layers)
        self.up = nn.ConvTranspose2d(channels, channels, up_kernel, stride=2, padding=up_kernel - 3)
        self.residual = conv(channels, colours)
        self.image = nn.ConvTranspose2d(colours, colours, 4, stride=2, padding=1, groups=colours, bias=False)
        line = torch.tensor([0.25, 0.75, 0.75, 0.25])  # bilinear
        self.image.weight.data = torch.outer(line, line).expand(colours, 1, 4, 4).clone()

    def forward(self, image, features):
        height, width = (2 * n for n in features.shape[-2:])
        features = self.up(self.features(features))[..., :height, :width]  # a 3x3 kernel makes one row and column more
        features = nn.functional.leaky_relu(features, 0.2)
        return self.image(image) + self.residual(features), features
