"""DPID, rapid detail-preserving downscaling: Weber, Waechter, Amend, Guthe, Goesele, SIGGRAPH Asia 2016.

An LR pixel is a weighted mean of the HR pixels I of its block; those that differ from their surroundings count more:

    lr = sum c w I / sum c w,    w = |a - I|^lambda,

c the share of the HR pixel that the block covers, |.| the distance over all channels, and a the guidance: the block
means, smoothed by [1 2 1]^T [1 2 1] over those neighbours that exist. lr = a where all w are 0. Facts from the authors'
CUDA program (mergian/dpid, main.cu; code not copied); their dpid.m has a slip in c that shifts the image upwards.
"""

from numbers import Real

import numpy as np
from numba import prange

from carlib.ops.blocks import block_sums, parts
from carlib.ops.compiled import compiled, launch

ROUNDINGS = ("nearest", "truncate")
_LARGEST_LAMBDA = 100  # 442 (black to white) to a higher power would leave float64
_SLACK = 1e-9  # levels: what float64 may lose of a whole level must not cost the level


def dpid(image, size, lambda_=1.0, rounding="nearest"):
    """Downscale to any smaller size; differing pixels count more.

    Args:
        image:    uint8 (H, W) or (H, W, C).
        size:     (h, w) of the result, 1 <= h <= H and 1 <= w <= W.
        lambda_:  how much more, 0 to 100: 0 is the plain block mean, 1.0 the authors' default in dpid.m, 0.5 what the
                  tables of the CAR paper were made with.
        rounding: "nearest": a is not rounded, the result is (dpid.m). "truncate": the block means and the result are
                  cut to whole levels (CUDA), about half a level darker.
    Returns:
        uint8 (h, w[, C]). Flipped images give flipped results, exactly: block means come of whole numbers, and rows and
        columns that a flip exchanges are added to each other first.
    Raises:
        ValueError: lambda_ or rounding is out of range.
    """
    if isinstance(lambda_, bool) or not isinstance(lambda_, Real) or not 0 <= lambda_ <= _LARGEST_LAMBDA:
        raise ValueError(f"lambda={lambda_!r} of dpid is not a number from 0 to {_LARGEST_LAMBDA}")
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding={rounding!r} of dpid is unknown: use one of {', '.join(ROUNDINGS)}")
    planes = np.ascontiguousarray(image if image.ndim == 3 else image[..., None])
    rows, columns = (parts(n, m) for n, m in zip(image.shape[:2], size, strict=True))
    means = block_sums(planes, rows, columns)
    area = rows.whole * columns.whole
    if rounding == "truncate":
        means, area = means // area, 1
    lr = np.empty(means.shape, np.uint8)
    truncate = rounding == "truncate"
    launch(_weigh, planes, *rows[:3], *columns[:3], means, area, float(lambda_), truncate, lr)
    return lr.reshape(lr.shape[: image.ndim])


@compiled(parallel=True)
def _weigh(
    image, row_first, row_pixel, row_share, column_first, column_pixel, column_share, means, area, power, truncate, lr
):
    for i in prange(lr.shape[0]):
        guidance = _smooth(means, np.int64(i), area)
        rows = slice(row_first[i], row_first[i + 1])
        weights, sums = _add_rows(image, row_pixel[rows], row_share[rows], column_first, column_pixel, guidance, power)
        _add_columns(weights, sums, column_first, column_share, guidance, truncate, lr[i])


@compiled()
def _smooth(means, i, area):
    """a of one row of LR pixels, (C, w): quotients of whole numbers."""
    h, w, channels = means.shape
    guidance = np.empty((channels, w))
    for j in range(w):
        for c in range(channels):
            total, count = np.int64(0), np.int64(0)
            for y in range(max(i - 1, 0), min(i + 2, h)):
                for x in range(max(j - 1, 0), min(j + 2, w)):
                    share = (2 - abs(y - i)) * (2 - abs(x - j))
                    total += share * means[y, x, c]
                    count += share
            guidance[c, j] = total / (count * area)
    return guidance


@compiled()
def _add_rows(image, pixel, share, column_first, column_pixel, guidance, power):
    """Sums of w and w (I - a) down the HR columns of one row of LR pixels; columns of two blocks occur twice."""
    channels, entries = guidance.shape[0], column_pixel.shape[0]
    around = np.empty((channels, entries))
    for c in range(channels):
        for j in range(guidance.shape[1]):
            for k in range(column_first[j], column_first[j + 1]):
                around[c, k] = guidance[c, j]
    weights, sums = np.zeros(entries), np.zeros((channels, entries))
    apart, weight = np.zeros((2, channels, entries)), np.zeros((2, entries))
    last = pixel.shape[0] - 1
    for first in range((last + 2) // 2):  # the rows from both ends
        _differ(image[pixel[first]], column_pixel, around, share[first], power, apart[0], weight[0])
        if first < last:
            _differ(image[pixel[last]], column_pixel, around, share[last], power, apart[1], weight[1])
        else:
            weight[1, :] = 0.0
        for k in range(entries):
            weights[k] += weight[0, k] + weight[1, k]
        for c in range(channels):
            for k in range(entries):
                sums[c, k] += weight[0, k] * apart[0, c, k] + weight[1, k] * apart[1, c, k]
        last -= 1
    return weights, sums


@compiled()
def _differ(line, column_pixel, around, share, power, apart, weight):
    """I - a and share * w of one row of HR pixels."""
    weight[:] = 0.0
    for c in range(apart.shape[0]):
        for k in range(weight.shape[0]):
            apart[c, k] = line[column_pixel[k], c] - around[c, k]
            weight[k] += apart[c, k] * apart[c, k]
    if power == 1.0:  # square roots are ten times faster than powers
        for k in range(weight.shape[0]):
            weight[k] = share * np.sqrt(weight[k])
    elif power == 0.5:
        for k in range(weight.shape[0]):
            weight[k] = share * np.sqrt(np.sqrt(weight[k]))
    else:
        for k in range(weight.shape[0]):
            weight[k] = share * weight[k] ** (0.5 * power)


@compiled()
def _add_columns(weights, sums, first, share, guidance, truncate, lr):
    for j in range(lr.shape[0]):
        total = _from_both_ends(weights, share, first[j], first[j + 1] - 1)
        for c in range(lr.shape[1]):
            level = guidance[c, j]
            if total > 0:
                level += _from_both_ends(sums[c], share, first[j], first[j + 1] - 1) / total
            lr[j, c] = np.uint8(level + (_SLACK if truncate else 0.5))


@compiled()
def _from_both_ends(values, share, first, last):
    """Sum of share * value, the two ends first: the same for the mirrored line."""
    total = 0.0
    while first < last:
        total += share[first] * values[first] + share[last] * values[last]
        first, last = first + 1, last - 1
    return total + share[first] * values[first] if first == last else total
