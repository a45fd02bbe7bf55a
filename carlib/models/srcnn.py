"""SRCNN (Dong et al., TPAMI 2016): three convolutions on the bicubic enlargement."""

from torch import nn

from carlib.models.blocks import check_counts, conv
from carlib.models.luma import LumaNetwork


class SRCNN(LumaNetwork):
    """9-5-5 on the luma of the bicubic enlargement, no skip; every layer repeats the edge pixel as the test code does.

    The state dict has the keys of yjn870's port (conv1, conv2, conv3). The authors' .mat holds weights_conv1 (81, 64),
    weights_conv2 (64, 25, 32) and weights_conv3 (32, 25), each kernel column-major: `w1.T.reshape(64, 1, 9, 9)`,
    `w2.transpose(2, 0, 1).reshape(32, 64, 5, 5)` and `w3.reshape(1, 32, 5, 5)`, the last two axes then transposed.

    Args:
        channels: features of the first and second layer; (64, 32).
        sizes:    kernels; (9, 5, 5) are the printed figures, (9, 1, 5) the ECCV 2014 network.
        colours:  1 (luma, as published) or 3 (RGB).
    """

    def __init__(self, scale, channels=(64, 32), sizes=(9, 5, 5), colours=1):
        super().__init__(scale, colours)
        if len(channels) != 2:
            raise ValueError(f"SRCNN cannot have channels={channels!r}: two numbers, such as 64, 32")
        first, second = channels
        check_counts("SRCNN", first=first, second=second)
        if len(sizes) != 3 or not all(size > 0 and size % 2 for size in sizes):
            raise ValueError(f"SRCNN cannot have sizes={sizes!r}: three odd numbers, such as 9, 5, 5")
        widths = zip((colours, first, second), (first, second, colours), sizes, strict=True)
        self.conv1, self.conv2, self.conv3 = (conv(*numbers, padding_mode="replicate") for numbers in widths)

    def restore(self, lr, enlarged):
        features = nn.functional.relu(self.conv1(enlarged))
        return self.conv3(nn.functional.relu(self.conv2(features)))
