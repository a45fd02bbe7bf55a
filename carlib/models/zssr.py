"""ZSSR (Shocher et al., CVPR 2018): the small network that is trained on the test image itself (`carlib.zssr`)."""

from carlib.models.luma import StackNetwork


class ZSSR(StackNetwork):
    """x + CNN(x) of the bicubic enlargement, in RGB, eight convolutions without biases.

    As a network it can be trained on a data set like any other; what the paper does is `carlib.zssr.restore`.

    Args:
        depth:    convolutions; 8 as published.
        channels: features; 64.
        colours:  3 (RGB, as published) or 1 (luma).
    """

    def __init__(self, scale, depth=8, channels=64, colours=3):
        super().__init__(scale, depth, channels, colours, bias=False)
