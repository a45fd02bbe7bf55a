"""The reconstruction prior of `l0`: HR pixels as weighted sums of the LR pixels around them, with learned kernels.

HR pixel a, b < scale of block i, j of U S is the sum of k[a, b, m, n] S(i + m - 1, j + n - 1) over m, n = 0..2.
Beyond the border S continues as its mirror image. The kernels of places that a flip exchanges are each other's flips.
"""

import numpy as np
from numba import prange

from carlib.ops.compiled import compiled, launch

# Towards the kernels at the start, per LR pixel: as much as a contrast of one hundredth; more until they are sound.
_PULLS = tuple(1e-4 * 10**power for power in range(9))
_WEAKEST = 0.5  # share that sound kernels keep of the weakest frequency's energy; a photograph's keep 0.7 and more


def smoothed_bilinear(scale):
    """k at the start, (scale, scale, 3, 3): bilinear interpolation, blurred by [1 2 1] / 4 in HR pixels."""

    def bilinear(place):
        offset = (place + 0.5) / scale - 0.5
        return np.maximum(1 - np.abs(np.arange(-1, 2) - offset), 0)

    line = np.array([(bilinear(a - 1) + 2 * bilinear(a) + bilinear(a + 1)) / 4 for a in range(scale)])
    return np.einsum("am,bn->abmn", line, line)


def _both_ways(table):
    """Mean of a table over what a flip of the image exchanges: axes 0 and 2, axes 1 and 3."""
    table = (table + table[::-1, :, ::-1]) / 2
    return (table + table[:, ::-1, :, ::-1]) / 2


def autocorrelation(kernels):
    """(5, 5): U^T U / scale^2 as a convolution of LR images."""
    found = np.zeros((5, 5))
    for m in range(3):
        for n in range(3):
            found[2 - m : 5 - m, 2 - n : 5 - n] += np.einsum("ab,abij->ij", kernels[:, :, m, n], kernels)
    return found / len(kernels) ** 2


def explained(padded, kernels, shape):
    """U^T H / scale^2, float32: each LR pixel from the 3 scale x 3 scale HR pixels around it."""
    scale = len(kernels)
    # a pixel of the block above has this LR pixel as its neighbour below: the blocks' order is that of k reversed
    weights = kernels[:, :, ::-1, ::-1].transpose(2, 0, 3, 1).reshape(3 * scale, 3 * scale) / (255 * scale**2)
    weights = np.repeat(weights.astype(np.float32), shape[2], axis=1)
    lr = np.empty(shape, np.float32)
    launch(_weighted_sums, padded.reshape(len(padded), -1), weights, scale, lr)
    return lr


@compiled(parallel=True)
def _weighted_sums(lines, weights, step, lr):
    """`lines` and `weights` are (rows, columns * channels): neighbours in memory, as vector instructions want them."""
    for i in prange(lr.shape[0]):
        first = np.int64(i) * step
        _weighted_row(lines[first : first + weights.shape[0]], weights, step * lr.shape[2], lr[i])


@compiled()
def _weighted_row(lines, weights, step, lr):
    sums = np.empty(weights.shape[1], np.float32)
    for j in range(lr.shape[0]):
        sums[:] = 0
        for y in range(weights.shape[0]):
            window, line = lines[y, j * step : j * step + sums.shape[0]], weights[y]
            for x in range(sums.shape[0]):
                sums[x] += line[x] * np.float32(window[x])
        lr[j] = 0
        for x in range(sums.shape[0]):
            lr[j, x % lr.shape[1]] += sums[x]


def fitted(lr, image, scale, at_start):
    """The kernels, each of sum 1, that make the HR image from `lr` with the least squared error.

    The unknowns are those of the neighbours' differences from the pixel itself: so a constant stays one. An image with
    few edges, all in one place of their blocks, would be fitted best by kernels that hardly pass some frequency, and
    an S of theirs rings from border to border. They are pulled back to those at the start as far as it takes.
    """
    padded = np.pad(lr, [(1, 1), (1, 1), (0, 0)], mode="symmetric")
    squares, products = np.zeros((lr.shape[0], 9, 9)), np.zeros((lr.shape[0], scale, scale, 9))
    launch(_correlate, padded, image, scale, squares, products)
    squares = _both_ways(squares.sum(0).reshape(3, 3, 3, 3)).reshape(9, 9)
    products = _both_ways(products.sum(0).reshape(scale, scale, 3, 3)).reshape(-1, 9)
    start = at_start.reshape(-1, 9)
    for pull in _PULLS:
        found = start + np.linalg.solve(squares + pull * lr.size * np.eye(9), (products - start @ squares).T).T
        found[:, 4] += 1 - found.sum(1)  # the pixel itself, whose difference is 0
        found = _both_ways(found.reshape(at_start.shape))
        if _weakest(found) >= _WEAKEST * _weakest(at_start):
            return found
    return at_start


def _weakest(kernels) -> float:
    """Least energy that U gives an LR wave of amplitude 1, over a grid of 17 x 17 frequencies up to Nyquist's."""
    waves = np.cos(np.pi * np.outer(np.linspace(0, 1, 17), np.arange(-2, 3)))
    return (waves @ autocorrelation(kernels) @ waves.T).min()


@compiled(parallel=True)
def _correlate(padded, image, scale, squares, products):
    for i in prange(squares.shape[0]):
        first = np.int64(i) * scale
        _correlate_row(padded[i : i + 3], image[first : first + scale], scale, squares[i], products[i])


@compiled()
def _correlate_row(lines, block_row, scale, squares, products):
    differences = np.empty(9)
    for j in range(lines.shape[1] - 2):
        for c in range(lines.shape[2]):
            middle = lines[1, j + 1, c]
            for m in range(9):
                differences[m] = lines[m // 3, j + m % 3, c] - middle
            for m in range(9):
                for n in range(9):
                    squares[m, n] += differences[m] * differences[n]
            for a in range(scale):
                for b in range(scale):
                    off = block_row[a, j * scale + b, c] / 255 - middle
                    for m in range(9):
                        products[a, b, m] += differences[m] * off
