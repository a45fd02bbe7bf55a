"""VDSR (Kim et al., CVPR 2016): twenty convolutions predict what bicubic lacks."""

import re

from carlib.models.blocks import with_zero_biases
from carlib.models.luma import StackNetwork


class VDSR(StackNetwork):
    """Y + CNN(Y) of the bicubic enlargement; the same weights serve every scale.

    The published weights have biases, twtygqyy's port has none: its checkpoints load with biases of 0, the same
    function. The authors' .mat holds MatConvNet kernels (H, W, in, out): `permute(3, 2, 0, 1)` of them and the biases
    make conv1..conv20.

    Args:
        depth:    convolutions; 20 as published.
        channels: features; 64.
        colours:  1 (luma, as published) or 3 (RGB).
    """

    def __init__(self, scale, depth=20, channels=64, colours=1):
        super().__init__(scale, depth, channels, colours)

    def from_public(self, state):
        """conv1..conv20 (huangzehao's port of the authors' weights), or input, residual_layer.i.conv, output."""
        last = len(self.model) - 1
        names = {"input": 0, "output": last} | {f"conv{i // 2 + 1}": i for i in range(0, last + 1, 2)}

        def renamed(key):
            layer, _, kind = key.rpartition(".")
            if inner := re.fullmatch(r"residual_layer\.(\d+)\.conv", layer):
                return f"model.{2 * int(inner[1]) + 2}.{kind}"
            return f"model.{names[layer]}.{kind}" if layer in names else key

        without_biases = "input.weight" in state and not any(key.endswith("bias") for key in state)
        state = {renamed(key): value for key, value in state.items()}
        return with_zero_biases(self, state) if without_biases else state
