"""About how many bits an image takes as lossless JPEG 2000, the codec whose files Table 5 counts, with a gradient."""

import torch
from torch.nn import functional

from carlib.ops.jpeg import check_rgb

_LEVELS = 5
# Fitted to OpenJPEG's files of the LR images, bicubic and CAR's at x2 and x4, of sixteen photographs: the first four
# each of the embedded ones, Set5, Set14 and B100; of these 64 within 4 percent.
_BITS, _STEEP = 1.18, 4


def bits(image):
    """About how many bits an image takes as lossless JPEG 2000, without headers; smooth.

    The reversible transforms of ITU-T T.800, of colours (RCT) and of pixels (wavelet 5/3, five times), without their
    roundings; _BITS times the sum of log2(1 + _STEEP m), m the mean size of a coefficient and its eight neighbours, in
    levels of 8 bits: coders learn from the neighbours what size to expect.

    Args:
        image: (N, 3, H, W) float, RGB in [0, 1]; any size.
    Returns:
        (N,) float32; of photographs' LR images within a few percent of OpenJPEG's.
    Raises:
        ValueError: shape or type are not these.
    """
    check_rgb(image)
    with torch.autocast(image.device.type, enabled=False):
        red, green, blue = (image.float() * 255 - 128).split(1, dim=1)
        rest, found = torch.cat([(red + 2 * green + blue) / 4, blue - green, red - green], 1), 0
        for _ in range(_LEVELS):
            if min(rest.shape[2:]) < 2:
                break
            (rest, low_high), (high_low, high) = (_split(half, 2) for half in _split(rest, 3))
            found = found + sum(_bits(band) for band in (low_high, high_low, high))
        return found + _bits(rest)


def _split(image, dim):
    """Low and high half of the 5/3 wavelet along a dimension, which has two pixels at least; mirrored at its ends."""
    image = image.transpose(dim, -1)
    even, odd = image[..., 0::2], image[..., 1::2]
    after = torch.cat([even[..., 1:], even[..., -1:]], -1)[..., : odd.shape[-1]]
    high = odd - (even[..., : odd.shape[-1]] + after) / 2
    around = torch.cat([high[..., :1], high, high[..., -1:]], -1)[..., : even.shape[-1] + 1]
    low = even + (around[..., :-1] + around[..., 1:]) / 4
    return low.transpose(dim, -1), high.transpose(dim, -1)


def _bits(band):
    size = functional.avg_pool2d(band.abs(), 3, stride=1, padding=1, count_include_pad=False)
    return _BITS * torch.log2(1 + _STEEP * size).sum((1, 2, 3))
