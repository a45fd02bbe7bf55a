"""The loops of guided weights (models/guided.py), compiled for the CPU.

LR pixels that lie side by side have taps `scale` HR pixels apart: so the image is taken apart into scale x scale
planes, and one tap of all LR pixels is one stretch of a plane. Planes are a little wider than the LR image; so that a
stretch may go over the ends of rows, pixels of planes are counted, and those beyond the LR image thrown away. A job is
a block of them: always BLOCK, whatever is left, so that each is computed by the same instructions.
"""

import numpy as np
from numba import prange

from carlib.ops.compiled import compiled

BLOCK = 256  # LR pixels: what one is worked on with stays in the first-level cache
_FAST = {"contract", "nsz"}


@compiled(parallel=True)
def lay_out(hr, rows, columns, mean, planes):
    """planes (N, 3, scale, scale, length): row i of plane (y, x) is the HR rows rows[i * scale + y], likewise columns.

    `mean`: a position lies between pixels and takes the mean of 2x2, of the next entries of rows and columns, too.
    """
    scale = planes.shape[2]
    height, width = (len(rows) - 1) // scale, (len(columns) - 1) // scale
    for job in prange(hr.shape[0] * 3 * scale * scale):
        n, c, y, x = job // (3 * scale * scale), job // (scale * scale) % 3, job // scale % scale, job % scale
        plane = planes[n, c, y, x]
        plane[height * width :] = 0
        for i in range(height):
            row, under = hr[n, c, rows[i * scale + y]], hr[n, c, rows[i * scale + y + 1]]
            for j in range(width):
                left, right = columns[j * scale + x], columns[j * scale + x + 1]
                if mean:
                    plane[i * width + j] = (row[left] + row[right] + under[left] + under[right]) * row.dtype.type(0.25)
                else:
                    plane[i * width + j] = row[left]


@compiled(inline="always")
def _stretch(planes, c, tap, size, pitch, first):
    """The colours of a block under a tap; planes: of one image."""
    scale = planes.shape[1]
    y, x = tap // size, tap % size
    start = first + y // scale * pitch + x // scale
    return planes[c, y % scale, x % scale, start : start + BLOCK]


@compiled(fastmath=_FAST)
def _less(planes, tap, size, pitch, first, middle, mean, colours):
    """colours = those under a tap, less the middle tap's and then a mean: of a constant image exact zeros."""
    for c in range(3):
        colour = _stretch(planes, c, tap, size, pitch, first)
        for j in range(BLOCK):
            colours[c, j] = colour[j] - middle[c, j] - mean[c, j]


@compiled(fastmath=_FAST)
def _add_products(total, weight, colours):
    """Of each two channels, as `_invert` wants them."""
    entry = 0
    for one in range(3):
        for other in range(one, 3):
            for j in range(BLOCK):
                total[entry, j] += weight * colours[one, j] * colours[other, j]
            entry += 1


@compiled()
def _take(source, target, places):
    """target = source at the LR pixels of a block, 0 beyond the LR image."""
    for j in range(BLOCK):
        target[j] = source[places[j]] if places[j] >= 0 else 0


@compiled()
def _give(source, target, places):
    for j in range(BLOCK):
        if places[j] >= 0:
            target[places[j]] = source[j]


@compiled(error_model="numpy")  # a determinant of 0 gives infinities, as elsewhere
def _invert(covariance, eps, inverse):
    """inverse = (covariance + eps I)^-1; both are rr, rg, rb, gg, gb, bb. In float64: the least eigenvalue counts."""
    for j in range(BLOCK):
        rr, rg, rb = covariance[0, j] + eps, np.float64(covariance[1, j]), np.float64(covariance[2, j])
        gg, gb, bb = covariance[3, j] + eps, np.float64(covariance[4, j]), covariance[5, j] + eps
        one, two, three = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
        scaled = 1 / (rr * one + rg * two + rb * three)
        inverse[0, j], inverse[1, j], inverse[2, j] = one * scaled, two * scaled, three * scaled
        inverse[3, j], inverse[4, j] = (rr * bb - rb * rb) * scaled, (rg * rb - rr * gb) * scaled
        inverse[5, j] = (rr * gg - rg * rg) * scaled


@compiled()
def _multiply(inverse, vector, found):
    """found = inverse vector."""
    for j in range(BLOCK):
        r, g, b = vector[0, j], vector[1, j], vector[2, j]
        found[0, j] = inverse[0, j] * r + inverse[1, j] * g + inverse[2, j] * b
        found[1, j] = inverse[1, j] * r + inverse[3, j] * g + inverse[4, j] * b
        found[2, j] = inverse[2, j] * r + inverse[4, j] * g + inverse[5, j] * b


@compiled(parallel=True)
def forward(step, planes, window, size, pitch, places, eps, residual, inverses, means):
    """residual (N, K*K, pixels) and, for the backward pass, the inverses (N, 6, pixels) and means (N, 3, pixels).

    places: LR pixel behind each of a plane's, -1 where there is none.
    """
    blocks = len(places) // BLOCK
    for job in prange(step.shape[0] * blocks):
        n, first = job // blocks, job % blocks * BLOCK
        _forward(n, first, step, planes, window, size, pitch, places, eps, residual, inverses, means)


@compiled(fastmath=_FAST)
def _forward(n, first, step, planes, window, size, pitch, places, eps, residual, inverses, means):
    """A block of one image."""
    step, planes, places = step[n], planes[n], places[first : first + BLOCK]
    residual, inverses, means = residual[n], inverses[n], means[n]
    middle = np.empty((3, BLOCK), planes.dtype)
    mean = np.zeros((3, BLOCK), planes.dtype)
    nothing = np.zeros((3, BLOCK), planes.dtype)
    colours = np.empty((3, BLOCK), planes.dtype)
    _less(planes, size * size // 2, size, pitch, first, nothing, nothing, middle)
    for tap in range(size * size):
        weight = window[tap]
        _less(planes, tap, size, pitch, first, middle, nothing, colours)
        for c in range(3):
            for j in range(BLOCK):
                mean[c, j] += weight * colours[c, j]
    covariance = np.zeros((6, BLOCK), planes.dtype)
    for tap in range(size * size):
        _less(planes, tap, size, pitch, first, middle, mean, colours)
        _add_products(covariance, window[tap], colours)
    inverse = np.empty((6, BLOCK), np.float64)
    _invert(covariance, eps, inverse)
    wanted = np.empty((3, BLOCK), planes.dtype)
    multiplier = np.empty((3, BLOCK), planes.dtype)
    for c in range(3):
        _take(step[c], wanted[c], places)
        _give(mean[c], means[c], places)
    for entry in range(6):
        _give(inverse[entry], inverses[entry], places)
    _multiply(inverse, wanted, multiplier)
    found = np.empty(BLOCK, planes.dtype)
    for tap in range(size * size):
        weight = window[tap]
        _less(planes, tap, size, pitch, first, middle, mean, colours)
        for j in range(BLOCK):
            along = (
                multiplier[0, j] * colours[0, j] + multiplier[1, j] * colours[1, j] + multiplier[2, j] * colours[2, j]
            )
            found[j] = weight * along
        _give(found, residual[tap], places)


@compiled(parallel=True)
def backward(grad, planes, window, size, pitch, places, inverses, means, grad_step):
    """grad_step (N, 3, pixels) of grad (N, K*K, pixels): the residual is linear in the step."""
    blocks = len(places) // BLOCK
    for job in prange(grad.shape[0] * blocks):
        n, first = job // blocks, job % blocks * BLOCK
        _backward(n, first, grad, planes, window, size, pitch, places, inverses, means, grad_step)


@compiled(fastmath=_FAST)
def _backward(n, first, grad, planes, window, size, pitch, places, inverses, means, grad_step):
    """A block of one image."""
    grad, planes, places = grad[n], planes[n], places[first : first + BLOCK]
    inverses, means, grad_step = inverses[n], means[n], grad_step[n]
    middle = np.empty((3, BLOCK), planes.dtype)
    mean = np.zeros((3, BLOCK), planes.dtype)
    colours = np.empty((3, BLOCK), planes.dtype)
    inverse = np.empty((6, BLOCK), np.float64)
    _less(planes, size * size // 2, size, pitch, first, mean, mean, middle)
    for c in range(3):
        _take(means[c], mean[c], places)
    for entry in range(6):
        _take(inverses[entry], inverse[entry], places)
    upstream = np.empty(BLOCK, planes.dtype)
    total = np.zeros((3, BLOCK), planes.dtype)
    for tap in range(size * size):
        weight = window[tap]
        _take(grad[tap], upstream, places)
        _less(planes, tap, size, pitch, first, middle, mean, colours)
        for c in range(3):
            for j in range(BLOCK):
                total[c, j] += weight * upstream[j] * colours[c, j]
    found = np.empty((3, BLOCK), planes.dtype)
    _multiply(inverse, total, found)
    for c in range(3):
        _give(found[c], grad_step[c], places)
