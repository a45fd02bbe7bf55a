"""Perceptually based downscaling: Oztireli and Gross, SIGGRAPH 2015 (doi 10.1145/2766891), Algorithm 1.

Of all LR images whose local mean and variance are those of the HR image, take the one of largest structural similarity
to it. In one window of 2x2 LR pixels that is

    d(p) = M + R (L(p) - M),    R = sqrt(Sh / Sl),    R = 0 where Sl < 1e-6,

L the block means of the HR image, M their mean in the window, Sl their variance, and Sh the variance of the HR pixels
below the window. An LR pixel lies in up to four windows and is the mean of what they say. Each channel by itself.
"""

import numpy as np
from numba import prange

from carlib.ops.blocks import block_sums, parts
from carlib.ops.compiled import compiled, launch

_WINDOW = 2  # LR pixels a side; the paper's n_p = 4
_FLAT = 1e-6 * 255**2  # variance below which a window counts as flat
VARIANTS = ("paper", "as-published")


def perceptual(image, scale, variant="paper"):
    """Downscale by Algorithm 1 of Oztireli and Gross, or as the tables of the CAR paper were made.

    An LR image of one row or column has windows of one pixel there.

    Args:
        image:   uint8 (H, W) or (H, W, C), sides multiples of `scale`.
        scale:   whole number >= 2.
        variant: "paper", or "as-published": what the public script nmndeep/Image-Downscaling perceptual.m computes
                 (facts read there), whose defects the CAR paper's "Perceptually" columns contain. Its averages are over
                 1x1 pixels, so that Sl = 0 and nothing is enhanced; what is left is a fixed low-pass filter of 13x13,
                 whatever the scale, every scale-th sample from the first on, and 0 wherever the filtered squares,
                 which saturate at 255, exceed the square of the filtered value (values below about 16).
    Returns:
        uint8 (H/scale, W/scale[, C]). "paper" maps flipped images to flipped images, exactly: all sums that decide a
        window are whole numbers, and the four windows are added crosswise.
    Raises:
        ValueError: an unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r} of perceptual is unknown: use one of {', '.join(VARIANTS)}")
    planes = image if image.ndim == 3 else image[..., None]
    lr = _algorithm1(planes, scale) if variant == "paper" else _as_published(planes, scale)
    return lr.reshape(lr.shape[: image.ndim])


def _algorithm1(image, scale):
    rows, columns = (parts(n, n // scale) for n in image.shape[:2])
    sums, squares = (block_sums(image, rows, columns, power) for power in (1, 2))
    window = tuple(min(_WINDOW, n) for n in sums.shape[:2])
    windows = (sums.shape[0] - window[0] + 1, sums.shape[1] - window[1] + 1, sums.shape[2])
    total, ratio = np.empty(windows, np.int64), np.empty(windows)
    launch(_judge, sums, squares, scale, *window, total, ratio)
    lr = np.empty(sums.shape, np.uint8)
    launch(_average, sums, scale, *window, total, ratio, lr)
    return lr


@compiled(parallel=True)
def _judge(sums, squares, scale, height, width, total, ratio):
    for i in prange(ratio.shape[0]):
        rows = slice(np.int64(i), np.int64(i) + height)
        _judge_row(sums[rows], squares[rows], scale, width, total[i], ratio[i])


@compiled()
def _judge_row(sums, squares, scale, width, total, ratio):
    """M and R of one row of windows. M is multiplied by n scale^2, n the pixels of a window, and so a whole number;
    Sl and Sh are multiplied by its square."""
    pixels, area = sums.shape[0] * width, scale * scale
    flat = _FLAT * (pixels * area) ** 2
    for j in range(ratio.shape[0]):
        for c in range(ratio.shape[1]):
            mean, low, high = np.int64(0), np.int64(0), np.int64(0)
            for y in range(sums.shape[0]):
                for x in range(j, j + width):
                    mean += sums[y, x, c]
                    low += sums[y, x, c] * sums[y, x, c]
                    high += squares[y, x, c]
            low = pixels * low - mean * mean
            high = pixels * area * high - mean * mean
            total[j, c] = mean
            ratio[j, c] = np.sqrt(high / low) if low >= flat else 0.0


@compiled(parallel=True)
def _average(sums, scale, height, width, total, ratio, lr):
    for i in prange(lr.shape[0]):
        top, bottom = max(np.int64(i) - height + 1, 0), min(np.int64(i), ratio.shape[0] - 1)
        _average_row(sums[i], scale, height, width, total[top], ratio[top], total[bottom], ratio[bottom], lr[i])


@compiled()
def _average_row(sums, scale, height, width, total, ratio, total_below, ratio_below, lr):
    """The mean over the windows of a pixel: four, which at a border are two of them twice or one four times.

    Those that both flips exchange are added first: a mirrored image has the same sums.
    """
    pixels = height * width
    for j in range(lr.shape[0]):
        left, right = max(j - width + 1, 0), min(j, ratio.shape[0] - 1)
        for c in range(lr.shape[1]):
            level = pixels * sums[j, c]
            down = _says(level, total[left, c], ratio[left, c])
            down += _says(level, total_below[right, c], ratio_below[right, c])
            up = _says(level, total_below[left, c], ratio_below[left, c])
            up += _says(level, total[right, c], ratio[right, c])
            mean = (down + up) / (4 * pixels * scale * scale)
            lr[j, c] = np.uint8(min(max(mean, 0.0), 255.0) + 0.5)


@compiled()
def _says(level, mean, ratio):
    """d(p) of one window."""
    return mean + ratio * (level - mean)


def _as_published(image, scale):
    squares = np.minimum(np.arange(256) ** 2, 255)
    down, across = (_low_pass(n, scale) for n in image.shape[:2])
    lr = np.empty((image.shape[0] // scale, image.shape[1] // scale, image.shape[2]), np.uint8)
    for c in range(image.shape[2]):
        low, low_squares = (
            (across @ (down @ plane.astype(np.float64)).T).T for plane in (image[..., c], squares[image[..., c]])
        )
        lr[..., c] = np.where(low**2 < low_squares, 0, np.clip(low, 0, 255) + 0.5)
    return lr


def _low_pass(n, scale):
    """Matrix (n / scale, n) of the filter along one axis, at every scale-th pixel; the border is mirrored."""
    from scipy.sparse import csr_array

    reach = np.arange(-6, 7)
    ideal = sum(np.cos(2 * np.pi * k * reach / 13) for k in range(-3, 4)) / 13  # passes 7 of 13 frequencies
    taps = ideal * (0.54 + 0.46 * np.cos(2 * np.pi * reach / 12))  # Hamming
    places = (np.arange(0, n, scale)[:, None] + reach) % (2 * n)
    places = np.minimum(places, 2 * n - 1 - places)
    starts = np.arange(len(places) + 1) * len(taps)
    return csr_array((np.tile(taps, len(places)), places.ravel(), starts), shape=(len(places), n))
