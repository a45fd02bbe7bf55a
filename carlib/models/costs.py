"""What every network costs: parameters, and multiply-adds per megapixel of the HR image."""

import torch

from carlib import models

COLUMNS = ["network", "size", "scale", "parameters", "gigamacs"]
_SIDE = 48  # LR pixels; the count per pixel hardly depends on it (RCAN's attention is once an image)


def summary(sizes=("mini", "base", "paper"), scales=(2, 4)):
    """Parameters and multiply-adds of every network, without allocating any of them.

    Args:
        sizes:  of "mini", "base", "paper".
        scales: factors; a network that does not know one is left out there.
    Returns:
        DataFrame with COLUMNS. parameters: trainable. gigamacs: 1e9 multiply-adds per HR megapixel of its convolutions
        (the bicubic part of a network included, activations not).
    Raises:
        ValueError: a size is unknown, or no network has such a scale.
    """
    import pandas as pd
    from tqdm import tqdm

    jobs = [(name, size, scale) for size in sizes for scale in scales for name in models.SIZES]
    for name, size, scale in jobs:
        models.specification(name, scale, size)  # refuses an unknown size, which `_row` would not tell
    rows = [_row(*job) for job in tqdm(jobs, desc="multiply-adds", unit="network", leave=False)]
    if not any(rows):
        raise ValueError(f"no network has a scale of {tuple(scales)}: use 2 or 4")
    return pd.DataFrame([row for row in rows if row], columns=COLUMNS)


def _row(name, size, scale):
    """Counted on tensors that have a shape and no content; not on the device "meta", which autocast does not know."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    side = _SIDE * scale if name in models.DOWNSCALERS else _SIDE
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        try:
            network = models.create(name, scale, size).eval()
        except ValueError:  # it has no such scale
            return None
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, side, side))
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    gigamacs = counter.get_total_flops() / 2 / 1e9 / ((_SIDE * scale) ** 2 / 1e6)
    return dict(zip(COLUMNS, (name, size, scale, parameters, gigamacs), strict=True))
