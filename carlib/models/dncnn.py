"""DnCNN-3 (Zhang et al., TIP 2017): VDSR's layers, trained blind for noise, SR and JPEG at once."""

from carlib.models.luma import StackNetwork


class DnCNN(StackNetwork):
    """Y - CNN(Y) of the bicubic enlargement; the network predicts the error, not what is missing.

    The state dict has the keys of KAIR's dncnn3.pth (model.{0,2,...,38}), in which the release's batch
    normalisation is merged into the convolutions.

    Args:
        depth:    convolutions; 20 as published.
        channels: features; 64.
        colours:  1 (luma, as published) or 3 (RGB).
    """

    def __init__(self, scale, depth=20, channels=64, colours=1):
        super().__init__(scale, depth, channels, colours)

    def restore(self, lr, enlarged):
        return enlarged - self.model(enlarged)
