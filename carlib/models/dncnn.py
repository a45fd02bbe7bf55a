"""DnCNN-3 (Zhang et al., TIP 2017): VDSR's layers, trained blind for noise, SR and JPEG at once."""

from carlib.models.blocks import begin_near_bicubic, check_counts, stack
from carlib.models.luma import LumaNetwork


class DnCNN(LumaNetwork):
    """Y - CNN(Y) of the bicubic enlargement; the network predicts the error, not what is missing.

    The state dict has the keys of KAIR's dncnn3.pth (model.{0,2,...,38}), in which the release's batch
    normalisation is merged into the convolutions.

    Args:
        depth:    convolutions; 20 as published.
        channels: features; 64.
        colours:  1 (luma, as published) or 3 (RGB).
    """

    def __init__(self, scale, depth=20, channels=64, colours=1):
        super().__init__(scale, colours)
        check_counts("DnCNN", depth=depth, channels=channels)
        self.model = stack(depth, colours, channels)
        begin_near_bicubic(self, self.model[-1])

    def restore(self, lr, enlarged):
        return enlarged - self.model(enlarged)
