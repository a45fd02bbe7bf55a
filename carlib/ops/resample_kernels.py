"""The loops of `resample_numba`, compiled for the CPU.

A job is a block of LR pixels that lie beside each other in memory, whatever their rows: a tap's kernel and offsets are
then read, and their gradients written, by the kilobyte. For each tap one pass over the block computes positions
(`_locate`, shared by all), which the compiler turns into vectors, and a second one moves pixels: a vector load or store
for the two pixels beside each other. Tensors of taps and lr are (N, taps or channels, h * w); `rest_v` and `rest_h` are
where tap 0 of each LR pixel lies without offset, in padded pixels.
"""

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from carlib.ops.compiled import compiled

LANES = 4  # channels of a pixel, laid side by side
BLOCK = 256  # LR pixels at most: what one is worked on with stays in the first-level cache
# Contraction into fused multiply-adds and reordering of sums of four; not `nnan`: a NaN must stay one.
_FAST = {"contract", "reassoc", "nsz"}
_FLAGS = tuple(sorted(_FAST))


# numba has no vector type and leaves four-lane code scalar; these write the vector instructions themselves.
def _load(context, builder, array_type, array, index, lanes=LANES):
    """The numbers of pixel `index` in a C-contiguous (pixels, LANES) array; 2 * LANES: those of the next pixel too."""
    data = context.make_array(array_type)(context, builder, array).data
    number = context.get_value_type(array_type.dtype)
    first = builder.gep(data, [builder.mul(index, ir.Constant(index.type, LANES))])
    pointer = builder.bitcast(first, ir.VectorType(number, lanes).as_pointer())
    align = array_type.dtype.bitwidth // 8
    return builder.load(pointer, align=align), pointer, align


def _shuffle(builder, one, other, lanes):
    """The numbers `lanes` of the two vectors laid end to end."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _splat(builder, scalar, lanes):
    vector = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    vector = builder.insert_element(vector, scalar, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, vector, vector, [0] * lanes)


def _sum_of_halves(builder, one, other):
    """[one0 + one1, one2 + one3, other0 + other1, other2 + other3], the same again for each further four."""
    lanes = one.type.count
    fours = [range(at, at + LANES, 2) for at in range(0, lanes, LANES)]
    even = [lane + vector * lanes for four in fours for vector in (0, 1) for lane in four]
    odd = [lane + 1 for lane in even]
    return builder.fadd(_shuffle(builder, one, other, even), _shuffle(builder, one, other, odd), flags=_FLAGS)


@intrinsic
def _add_blend(typing, total, j, image, at, below, upper, lower, fraction):
    """total[j] += bilinear sample of `image` right of `at` by `fraction`, its rows weighted by upper and lower."""

    def codegen(context, builder, signature, args):
        total, pointer, align = _load(context, builder, signature.args[0], *args[:2])
        image, at, below, upper, lower, fraction = args[2:]
        weighted = []
        for index, weight in ((at, upper), (builder.add(at, below), lower)):
            pair = _load(context, builder, signature.args[2], image, index, 2 * LANES)[0]
            weighted.append(builder.fmul(pair, _splat(builder, weight, 2 * LANES), flags=_FLAGS))
        both = builder.fadd(*weighted, flags=_FLAGS)
        left, right = (_shuffle(builder, both, both, list(range(i, i + LANES))) for i in (0, LANES))
        across = builder.fmul(builder.fsub(right, left, flags=_FLAGS), _splat(builder, fraction, LANES), flags=_FLAGS)
        total = builder.fadd(total, builder.fadd(left, across, flags=_FLAGS), flags=_FLAGS)
        builder.store(total, pointer, align=align)
        return context.get_dummy_value()

    return types.void(total, types.int64, image, types.int64, types.int64, *[image.dtype] * 3), codegen


@intrinsic
def _add_projection(typing, corners, j, upstream, image, at, below):
    """corners[j] += the products of upstream[j] with the pixels image[at], [at + below], [at + 1], [at + below + 1]."""

    def codegen(context, builder, signature, args):
        corners, pointer, align = _load(context, builder, signature.args[0], *args[:2])
        upstream = _load(context, builder, signature.args[2], args[2], args[1])[0]
        upstream = _shuffle(builder, upstream, upstream, [*range(LANES)] * 2)
        image, at, below = args[3:]
        products = [
            builder.fmul(_load(context, builder, signature.args[3], image, index, 2 * LANES)[0], upstream, flags=_FLAGS)
            for index in (at, builder.add(at, below))
        ]
        pairs = _sum_of_halves(builder, *products)
        left, right = (_shuffle(builder, pairs, pairs, list(range(i, i + LANES))) for i in (0, LANES))
        corners = builder.fadd(corners, _sum_of_halves(builder, left, right), flags=_FLAGS)
        builder.store(corners, pointer, align=align)
        return context.get_dummy_value()

    return types.void(corners, types.int64, upstream, image, types.int64, types.int64), codegen


@intrinsic
def _add_spread(typing, image, at, upstream, j, weight, fraction):
    """Adds weight * upstream[j], shared out by `fraction`, to the pixels image[at] and, to its right, [at + 1]."""

    def codegen(context, builder, signature, args):
        image, at, upstream, j, weight, fraction = args
        pair, pointer, align = _load(context, builder, signature.args[0], image, at, 2 * LANES)
        upstream = _load(context, builder, signature.args[2], upstream, j)[0]
        to_right = builder.fmul(_splat(builder, weight, LANES), _splat(builder, fraction, LANES), flags=_FLAGS)
        to_left = builder.fsub(_splat(builder, weight, LANES), to_right, flags=_FLAGS)
        shares = _shuffle(builder, to_left, to_right, [*range(2 * LANES)])
        both = _shuffle(builder, upstream, upstream, [*range(LANES)] * 2)
        pair = builder.fadd(pair, builder.fmul(shares, both, flags=_FLAGS), flags=_FLAGS)
        builder.store(pair, pointer, align=align)
        return context.get_dummy_value()

    return types.void(image, types.int64, upstream, types.int64, upstream.dtype, upstream.dtype), codegen


@compiled(parallel=True)
def copy_padded(hr, rows, columns, padded):
    groups, height = padded.shape[1], padded.shape[2]
    for job in prange(hr.shape[0] * groups * height):
        n, group, row = job // (groups * height), job // height % groups, job % height
        target = padded[n, group, row]
        for lane in range(LANES):
            c = group * LANES + lane
            if c < hr.shape[1]:
                source = hr[n, c, rows[row]]
                for column in range(target.shape[0]):
                    target[column, lane] = source[columns[column]]
            else:
                target[:, lane] = 0


@compiled(inline="always")
def _clamp(position, zero, last):
    """`position` within 0..last; what is not a number becomes 0, so that an index made of it is always valid."""
    position = position if position >= zero else zero
    return position if position <= last else last


@compiled(inline="always", fastmath=_FAST)
def _locate(base, step, shift, zero, last, release_border):
    """Padded index before position base + step + shift (padded pixels), the fraction beyond it, and whether it moves.

    A position outside 0..last is clamped: it does not move with its offset. Under the released rule only the index is.
    """
    position = base + step + shift
    clamped = _clamp(position, zero, last)
    index = np.int32(clamped)
    beyond = (position - np.floor(position)) if release_border else (clamped - np.float32(index))
    return index, beyond + position * zero, release_border or clamped == position  # not finite: not a number


@compiled(inline="always")
def _block(job, blocks, area):
    """Image, first LR pixel and end of a job's block; how an image is cut does not depend on the threads."""
    n, block = job // blocks, job % blocks
    return n, block * area // blocks, (block + 1) * area // blocks


@compiled(inline="always", fastmath=_FAST)
def _weigh(at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, release_border, start, weight):
    """One tap of a block: `start`, the pixel above and left of it; `weight`, of its upper and lower row, and across."""
    upper, lower, across = weight[0], weight[1], weight[2]
    zero = taps.dtype.type(0)
    for j in range(taps.shape[0]):
        y, fraction_v, _ = _locate(at_v[j], row, shift_v[j], zero, last_v, release_border)
        x, fraction_h, _ = _locate(at_h[j], column, shift_h[j], zero, last_h, release_border)
        start[j] = y * np.int32(width) + x
        lower[j] = taps[j] * fraction_v
        upper[j] = taps[j] - taps[j] * fraction_v
        across[j] = fraction_h


@compiled(inline="always")
def _gather(grad_lr, upstream):
    """Lays a block's channels (channels, count) side by side: (groups, count, LANES)."""
    for c in range(grad_lr.shape[0]):
        for j in range(grad_lr.shape[1]):
            upstream[c // LANES, j, c % LANES] = grad_lr[c, j]


@compiled(parallel=True, fastmath=_FAST)
def forward(padded, kernel, offset_v, offset_h, rest_v, rest_h, size, release_border, lr):
    """Eq. 2: one block of LR pixels a job."""
    channels, area = lr.shape[1:]
    groups, height, width = padded.shape[1:4]
    real = padded.dtype.type
    last_v, last_h = real(height - 2), real(width - 2)
    pixels = padded.reshape((-1, LANES))
    blocks = -(-area // BLOCK)
    for job in prange(lr.shape[0] * blocks):
        n, first, end = _block(job, blocks, area)
        at_v, at_h = rest_v[first:end], rest_h[first:end]
        count = end - first
        sums = np.zeros((groups, count, LANES), padded.dtype)
        start = np.empty(count, np.int32)
        weight = np.empty((3, count), padded.dtype)
        upper, lower, across = weight[0], weight[1], weight[2]
        for tap in range(size * size):
            row, column = real(tap // size), real(tap % size)
            taps, shift_v, shift_h = (
                kernel[n, tap, first:end], offset_v[n, tap, first:end], offset_h[n, tap, first:end]
            )  # fmt: skip
            _weigh(
                at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, release_border, start, weight
            )
            for group in range(groups):
                origin = (n * groups + group) * height * width
                for j in range(count):
                    _add_blend(sums[group], j, pixels, origin + start[j], width, upper[j], lower[j], across[j])
        for c in range(channels):
            for j in range(count):
                lr[n, c, first + j] = sums[c // LANES, j, c % LANES]


@compiled(parallel=True, fastmath=_FAST)
def backward_taps(
    padded, kernel, offset_v, offset_h, rest_v, rest_h, size, release_border, grad_lr, grad_kernel, grad_v, grad_h
):
    """Eq. 4-6, summed over channels: each corner is projected on the upstream gradient, then they are interpolated."""
    area = grad_lr.shape[2]
    groups, height, width = padded.shape[1:4]
    real = padded.dtype.type
    zero, last_v, last_h = real(0), real(height - 2), real(width - 2)
    pixels = padded.reshape((-1, LANES))
    blocks = -(-area // BLOCK)
    for job in prange(grad_lr.shape[0] * blocks):
        n, first, end = _block(job, blocks, area)
        at_v, at_h = rest_v[first:end], rest_h[first:end]
        count = end - first
        upstream = np.zeros((groups, count, LANES), padded.dtype)
        _gather(grad_lr[n, :, first:end], upstream)
        start = np.empty(count, np.int32)
        corners = np.empty((count, LANES), padded.dtype)
        for tap in range(size * size):
            row, column = real(tap // size), real(tap % size)
            taps, shift_v, shift_h = (
                kernel[n, tap, first:end], offset_v[n, tap, first:end], offset_h[n, tap, first:end]
            )  # fmt: skip
            for j in range(count):
                y, _, _ = _locate(at_v[j], row, shift_v[j], zero, last_v, release_border)
                x, _, _ = _locate(at_h[j], column, shift_h[j], zero, last_h, release_border)
                start[j] = y * np.int32(width) + x
            corners[:] = 0
            for group in range(groups):
                origin = (n * groups + group) * height * width
                for j in range(count):
                    _add_projection(corners, j, upstream[group], pixels, origin + start[j], width)
            to_kernel, to_v, to_h = (
                grad_kernel[n, tap, first:end], grad_v[n, tap, first:end], grad_h[n, tap, first:end]
            )  # fmt: skip
            for j in range(count):
                _, fraction_v, moves_v = _locate(at_v[j], row, shift_v[j], zero, last_v, release_border)
                _, fraction_h, moves_h = _locate(at_h[j], column, shift_h[j], zero, last_h, release_border)
                upper, lower = corners[j, 0], corners[j, 1]
                step_upper, step_lower = corners[j, 2] - upper, corners[j, 3] - lower
                upper, lower = upper + fraction_h * step_upper, lower + fraction_h * step_lower
                to_kernel[j] = upper + fraction_v * (lower - upper)
                to_v[j] = taps[j] * (lower - upper) if moves_v else zero
                to_h[j] = taps[j] * (step_upper + fraction_v * (step_lower - step_upper)) if moves_h else zero


@compiled(parallel=True, fastmath=_FAST)
def reach(offset_v, rest_v, size, height, spans):
    """spans[n, block] = first and last padded row above a tap: the smallest and largest of `_locate`."""
    taps, area = offset_v.shape[1:]
    real = offset_v.dtype.type
    zero, last_v = real(0), real(height - 2)
    blocks = spans.shape[1]
    for job in prange(offset_v.shape[0] * blocks):
        n, first, end = _block(job, blocks, area)
        lowest, highest = np.int32(height), np.int32(0)
        for tap in range(taps):
            row = real(tap // size)
            for p in range(first, end):
                y = np.int32(_clamp(rest_v[p] + row + offset_v[n, tap, p], zero, last_v))
                lowest, highest = min(lowest, y), max(highest, y)
        spans[n, job % blocks, 0], spans[n, job % blocks, 1] = lowest, highest


@compiled(parallel=True, fastmath=_FAST)
def backward_image(
    kernel, offset_v, offset_h, rest_v, rest_h, size, release_border, grad_lr, spans, bands, grad_padded
):
    """The transpose of Eq. 2 with respect to the padded image: each job owns a band of rows of one image.

    It goes through all blocks of LR pixels that reach its band and adds what falls into it, always in the same order.
    """
    area = grad_lr.shape[2]
    groups, height, width = grad_padded.shape[1:4]
    real = grad_padded.dtype.type
    zero, last_v, last_h = real(0), real(height - 2), real(width - 2)
    pixels = grad_padded.reshape((-1, LANES))
    blocks = spans.shape[1]
    for job in prange(grad_lr.shape[0] * bands):
        n, band = job // bands, job % bands
        first_row, end_row = band * height // bands, (band + 1) * height // bands
        mine, beyond = np.int32(first_row * width), np.int32(end_row * width)
        grad_padded[n, :, first_row:end_row] = zero
        upstream = np.zeros((groups, BLOCK, LANES), kernel.dtype)
        start = np.empty(BLOCK, np.int32)
        weight = np.empty((3, BLOCK), kernel.dtype)
        upper, lower, across = weight[0], weight[1], weight[2]
        for block in range(blocks):
            if spans[n, block, 0] >= end_row or spans[n, block, 1] + 1 < first_row:
                continue
            _, first, end = _block(block, blocks, area)
            at_v, at_h = rest_v[first:end], rest_h[first:end]
            count = end - first
            _gather(grad_lr[n, :, first:end], upstream)
            for tap in range(size * size):
                row, column = real(tap // size), real(tap % size)
                taps, shift_v, shift_h = (
                    kernel[n, tap, first:end], offset_v[n, tap, first:end], offset_h[n, tap, first:end]
                )  # fmt: skip
                _weigh(
                    at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, release_border,
                    start, weight,
                )  # fmt: skip
                for group in range(groups):
                    origin = (n * groups + group) * height * width
                    for j in range(count):
                        at = start[j]
                        if mine <= at < beyond:
                            _add_spread(pixels, origin + at, upstream[group], j, upper[j], across[j])
                        if mine <= at + width < beyond:
                            _add_spread(pixels, origin + at + width, upstream[group], j, lower[j], across[j])


@compiled(parallel=True)
def fold(grad_padded, row_order, row_first, columns, grad_hr):
    """The transpose of `copy_padded`: every HR row is the sum of its padded copies, from the top down."""
    channels, height = grad_hr.shape[1:3]
    for job in prange(grad_hr.shape[0] * height):
        n, row = job // height, job % height
        grad_hr[n, :, row] = 0
        for entry in range(row_first[row], row_first[row + 1]):
            for c in range(channels):
                source, target = grad_padded[n, c // LANES, row_order[entry]], grad_hr[n, c, row]
                for column in range(columns.shape[0]):
                    target[columns[column]] += source[column, c % LANES]
