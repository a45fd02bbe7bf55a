"""Exact sums over the blocks of HR pixels that downscaling shares out to LR pixels, of whole or fractional size.

An axis of n_in pixels is cut into n_out equal parts. In units of 1 / n_out of a pixel, part i is [i n_in, (i+1) n_in)
and pixel k is [k n_out, (k+1) n_out): what they share is a whole number. So are sums over blocks: they are exact,
whatever the order of the additions, and a mirrored image has mirrored sums.
"""

from math import gcd
from typing import NamedTuple

import numpy as np
from numba import prange

from carlib.ops.compiled import compiled, launch


class Parts(NamedTuple):
    """The parts of one axis: part i consists of the entries first[i] .. first[i+1] - 1 of `pixel` and `share`."""

    first: np.ndarray  # (n_out + 1,) int64
    pixel: np.ndarray  # (entries,) int64 in [0, n_in); a pixel that two parts share occurs twice
    share: np.ndarray  # (entries,) int64 > 0; those of a part add up to `whole`
    whole: int  # n_in / gcd(n_in, n_out): the scale, where that is a whole number, and all shares are 1


def parts(n_in: int, n_out: int) -> Parts:
    """Cut an axis of `n_in` pixels into `n_out` <= n_in equal parts."""
    common = gcd(n_in, n_out)
    whole, unit = n_in // common, n_out // common  # the length of a part and of a pixel
    start = np.arange(n_out, dtype=np.int64) * whole
    begin, end = start // unit, -(-(start + whole) // unit)
    first = np.concatenate([[0], np.cumsum(end - begin)])
    owner = np.repeat(np.arange(n_out), end - begin)
    pixel = np.arange(first[-1]) - first[owner] + begin[owner]
    share = np.minimum((pixel + 1) * unit, start[owner] + whole) - np.maximum(pixel * unit, start[owner])
    return Parts(first, pixel, share, whole)


def block_sums(image, rows: Parts, columns: Parts, power: int = 1):
    """Sums of share * pixel**power over each block.

    Args:
        image: (H, W, C) uint8.
        rows, columns: parts of H and of W.
        power: 1 or 2.
    Returns:
        (h, w, C) int64, over rows.whole * columns.whole the mean.
    """
    sums = np.zeros((len(rows.first) - 1, len(columns.first) - 1, image.shape[2]), np.int64)
    launch(_add_up, np.ascontiguousarray(image), *rows[:3], *columns[:3], power, sums)
    return sums


@compiled(parallel=True)
def _add_up(image, row_first, row_pixel, row_share, column_first, column_pixel, column_share, power, sums):
    lines = image.reshape((image.shape[0], image.shape[1] * image.shape[2]))
    for i in prange(sums.shape[0]):
        rows = slice(row_first[i], row_first[i + 1])
        total = _add_rows(lines, row_pixel[rows], row_share[rows], power).reshape(image.shape[1:])
        _add_columns(total, column_first, column_pixel, column_share, sums[i])


@compiled()
def _add_rows(lines, pixel, share, power):
    total = np.zeros(lines.shape[1], np.int64)
    for row in range(pixel.shape[0]):
        line, times = lines[pixel[row]], share[row]
        for k in range(total.shape[0]):
            level = np.int64(line[k])
            total[k] += times * (level if power == 1 else level * level)
    return total


@compiled()
def _add_columns(total, first, pixel, share, sums):
    for j in range(sums.shape[0]):
        for entry in range(first[j], first[j + 1]):
            for c in range(sums.shape[1]):
                sums[j, c] += share[entry] * total[pixel[entry], c]
