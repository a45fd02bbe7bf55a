"""Images as networks take them, and back: uint8 (H, W[, 3]) and float (1, 3, H, W) in [0, 1]."""

import numpy as np


def to_tensor(image, device="cpu"):
    """uint8 (H, W[, 3]) -> float32 (1, 3, H, W) in [0, 1]."""
    import torch

    from carlib.data import to_colour

    return torch.from_numpy(np.array(to_colour(image), order="C")).to(device).permute(2, 0, 1)[None].float() / 255


def to_8_bits(image):
    """float in [0, 1] -> uint8, rounded; a uint8 image is returned as it is."""
    return image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)


def to_image(tensor, grey=False):
    """float (1, 3, H, W) in [0, 1], rounded as `carlib.quantize` does -> uint8 (H, W, 3); grey: (H, W), one channel."""
    import torch

    from carlib.ops.quantize import quantize

    image = (quantize(tensor[0]) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(image[..., 0] if grey else image)
