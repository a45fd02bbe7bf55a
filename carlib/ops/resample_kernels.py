"""The loops of `resample_numba`, compiled for the CPU.

A job is a block of LR pixels that lie beside each other in memory, whatever their rows. (For the image's gradient a job
is a band of its rows, which goes through the blocks of all LR pixels.) For each tap one pass over a block computes
positions (`_locate`, shared by all), which the compiler turns into vectors, and a second one moves pixels: a vector
load or store for the two pixels beside each other. Meanwhile (but for the image's gradient, which gains nothing by it)
the next tap's kernel and offsets are fetched: they lie in other pages, where processors seldom look ahead. Tensors of
taps and lr are (N, taps or channels, h * w); `rest_v` and `rest_h` are where tap 0 of each LR pixel lies without
offset, in padded pixels.
"""

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from carlib.ops.compiled import compiled

LANES = 4  # channels of a pixel, laid side by side
BLOCK = 256  # LR pixels at most: what one is worked on with stays in the first-level cache
LINE = 64  # bytes that memory gives at once
IN_LINE = LINE // 4  # numbers of float32 in them; blocks are whole lines but for the last of an image
STREAMED = 16  # bytes that one store past the caches writes, at an address divisible by it
# Contraction into fused multiply-adds and reordering of sums of four; not `nnan`: a NaN must stay one.
_FAST = {"contract", "reassoc", "nsz"}
_FLAGS = tuple(sorted(_FAST))


# numba has no vector type and leaves four-lane code scalar; these write the vector instructions themselves. They stay
# in the file of the loops: whether a compiled loop that was kept is stale, numba tells by that file's date alone.
def _pointer(context, builder, array_type, array, index, lanes):
    """To `lanes` numbers of a C-contiguous array, from its number `index` on."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(context.get_value_type(array_type.dtype), lanes)
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _load(context, builder, array_type, array, index, lanes=LANES):
    """The numbers of pixel `index` in a C-contiguous (pixels, LANES) array; 2 * LANES: those of the next pixel too."""
    first = builder.mul(index, ir.Constant(index.type, LANES))
    pointer = _pointer(context, builder, array_type, array, first, lanes)
    align = array_type.dtype.bitwidth // 8
    return builder.load(pointer, align=align), pointer, align


def _shuffle(builder, one, other, lanes):
    """The numbers `lanes` of the two vectors laid end to end."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _splat(builder, scalar, lanes):
    vector = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    vector = builder.insert_element(vector, scalar, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, vector, vector, [0] * lanes)


def _sums(builder, four):
    """Of four vectors of two pixels: the sums of their first pixels, then those of their second.

    Without a horizontal addition, which a processor splits into many: interleaved, two additions sum four pixels.
    """

    def added(one, other, low, high):
        return builder.fadd(_shuffle(builder, one, other, low), _shuffle(builder, one, other, high), flags=_FLAGS)

    halves = [
        added(one, other, [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15])
        for one, other in (four[:2], four[2:])
    ]
    return added(*halves, [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])


@intrinsic
def _add_blend(typing, total, j, image, below, at, upper, lower, fraction):
    """total[j] += bilinear sample right of `at` by `fraction`; `below`: `image` from its second row on."""

    def codegen(context, builder, signature, args):
        total, pointer, align = _load(context, builder, signature.args[0], *args[:2])
        image, below, at, upper, lower, fraction = args[2:]
        weighted = []
        for row, weight in ((image, upper), (below, lower)):
            pair = _load(context, builder, signature.args[2], row, at, 2 * LANES)[0]
            weighted.append(builder.fmul(pair, _splat(builder, weight, 2 * LANES), flags=_FLAGS))
        both = builder.fadd(*weighted, flags=_FLAGS)
        left, right = (_shuffle(builder, both, both, list(range(i, i + LANES))) for i in (0, LANES))
        across = builder.fmul(builder.fsub(right, left, flags=_FLAGS), _splat(builder, fraction, LANES), flags=_FLAGS)
        total = builder.fadd(total, builder.fadd(left, across, flags=_FLAGS), flags=_FLAGS)
        builder.store(total, pointer, align=align)
        return context.get_dummy_value()

    return types.void(total, types.int64, image, image, types.int64, *[image.dtype] * 3), codegen


def _projection(added):
    """An intrinsic that sets, or adds to, four columns of (4, plane) `corners`, from column j on.

    Row by row: the products of upstream[j] with the pixels image[at], below[at], image[at + 1] and below[at + 1], of
    upstream[j + 1] with those at the second `at`, and so on. `below`: `image` from its second row on.
    """

    @intrinsic
    def project(typing, corners, plane, j, upstream, image, below, at, second, third, fourth):
        def codegen(context, builder, signature, args):
            corners, plane, j, upstream, image, below, *starts = args
            align = signature.args[0].dtype.bitwidth // 8
            grads = []
            for number in range(len(starts)):
                at = builder.add(j, ir.Constant(j.type, number))
                grad = _load(context, builder, signature.args[3], upstream, at)[0]
                grads.append(_shuffle(builder, grad, grad, [*range(LANES)] * 2))
            for row, pixels in enumerate((image, below)):
                products = []
                for start, grad in zip(starts, grads, strict=True):
                    pair = _load(context, builder, signature.args[4], pixels, start, 2 * LANES)[0]
                    products.append(builder.fmul(pair, grad, flags=_FLAGS))
                sums = _sums(builder, products)
                for side in (0, 1):
                    four = _shuffle(builder, sums, sums, list(range(side * 4, side * 4 + 4)))
                    place = builder.add(builder.mul(plane, ir.Constant(plane.type, row + 2 * side)), j)
                    pointer = _pointer(context, builder, signature.args[0], corners, place, 4)
                    if added:
                        four = builder.fadd(builder.load(pointer, align=align), four, flags=_FLAGS)
                    builder.store(four, pointer, align=align)
            return context.get_dummy_value()

        return types.void(corners, *[types.int64] * 2, upstream, image, image, *[types.int64] * 4), codegen

    return project


_project, _add_projection = _projection(added=False), _projection(added=True)


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


@intrinsic
def _stream(typing, target, source, j):
    """Four numbers of `target` from j on = those of `source`, past the caches: memory is not read to be replaced."""

    def codegen(context, builder, signature, args):
        target, source, j = args
        bits = signature.args[0].dtype.bitwidth
        at_once = STREAMED * 8 // bits
        mark = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        for number in range(0, 4, at_once):
            place = builder.add(j, ir.Constant(j.type, number))
            of, to = (
                _pointer(context, builder, kind, array, place, at_once)
                for kind, array in ((signature.args[1], source), (signature.args[0], target))
            )
            store = builder.store(builder.load(of, align=bits // 8), to, align=STREAMED)
            store.set_metadata("nontemporal", mark)
        return context.get_dummy_value()

    return types.void(target, source, types.int64), codegen


@intrinsic
def _fence(typing):
    """What `_stream` wrote is there before what this thread writes from here on, for all who are told of its end."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _prefetch(typing, kernel, offset_v, offset_h, index):
    """Brings IN_LINE numbers of each array near, from number `index` of all on; beyond its end nothing happens."""

    def codegen(context, builder, signature, args):
        number, text = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [text, *[number] * 3])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [text], kind)
        for array, array_type in zip(args[:3], signature.args[:3], strict=True):
            first = builder.bitcast(_pointer(context, builder, array_type, array, args[3], 1), text)
            for line in range(0, IN_LINE * array_type.dtype.bitwidth // 8, LINE):
                place = builder.gep(first, [number(line)])
                builder.call(prefetch, [place, number(0), number(2), number(1)])  # to read, second-level cache, data
        return context.get_dummy_value()

    return types.void(kernel, offset_v, offset_h, types.int64), codegen


@intrinsic
def _interleave(typing, pixels, at, first, second, third, fourth, x):
    """pixels[at] to pixels[at + 3] = the numbers x to x + 3 of four rows, one row a channel."""

    def codegen(context, builder, signature, args):
        pixels, at, *rows, x = args
        align = signature.args[0].dtype.bitwidth // 8
        rows = [
            builder.load(_pointer(context, builder, kind, row, x, 4), align=align)
            for kind, row in zip(signature.args[2:6], rows, strict=True)
        ]
        for half in (0, 2):  # two pixels of two channels each, then of all four
            above, below = (
                _shuffle(builder, *rows[i : i + 2], [half, half + 4, half + 1, half + 5]) for i in (0, 2)
            )  # fmt: skip
            for pixel in (0, 1):
                place = builder.add(at, ir.Constant(at.type, half + pixel))
                lanes = [2 * pixel, 2 * pixel + 1, 2 * pixel + 4, 2 * pixel + 5]
                first = builder.mul(place, ir.Constant(place.type, LANES))
                target = _pointer(context, builder, signature.args[0], pixels, first, 4)
                builder.store(_shuffle(builder, above, below, lanes), target, align=align)
        return context.get_dummy_value()

    return types.void(pixels, types.int64, first, second, third, fourth, types.int64), codegen


@compiled(parallel=True)
def copy_padded(hr, rows, columns, pad, nothing, padded):
    """Lays images out: row i is rows[i] of hr, column j columns[j], which from `pad` on are 0, 1, ... to hr's last.

    `nothing` stands for channels that hr has not.
    """
    groups, height = padded.shape[1:3]
    channels, width = hr.shape[1], hr.shape[3]
    for job in prange(hr.shape[0] * groups * height):
        n, group, row = job // (groups * height), job // height % groups, job % height
        c, target = group * LANES, padded[n, group, row]
        first = hr[n, c, rows[row]]
        second = hr[n, c + 1, rows[row]] if c + 1 < channels else nothing
        third = hr[n, c + 2, rows[row]] if c + 2 < channels else nothing
        fourth = hr[n, c + 3, rows[row]] if c + 3 < channels else nothing
        for x in range(0, width - 3, 4):
            _interleave(target, pad + x, first, second, third, fourth, x)
        for x in range(width // 4 * 4, width):
            target[pad + x, 0], target[pad + x, 1] = first[x], second[x]
            target[pad + x, 2], target[pad + x, 3] = third[x], fourth[x]
        for column in range(target.shape[0] - width):
            at = column if column < pad else width + column  # what lies left of the image, then right of it
            for lane in range(LANES):
                target[at, lane] = target[pad + columns[at], lane]


@compiled(inline="always")
def _clamp(position, zero, last):
    """`position` within 0..last; what is not a number becomes 0, so that an index made of it is always valid.

    By > and <, which are a processor's max and min; >= and <= are not.
    """
    position = position if position > zero else zero
    return position if position < last else last


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
def blocks_of(area):
    """Jobs of so many LR pixels."""
    return (area + BLOCK - 1) // BLOCK


@compiled(inline="always")
def _part(job, parts, area):
    """Image, first LR pixel and end of a job's part; cuts lie between lines of pixels.

    The last pixels before a cut are computed by other instructions than the rest, which shows in the last bits of lr:
    so cuts must not depend on threads or on other images.
    """
    n, part, lines = job // parts, job % parts, (area + IN_LINE - 1) // IN_LINE
    return n, part * lines // parts * IN_LINE, min((part + 1) * lines // parts * IN_LINE, area)


def _by_rule(loop):
    """`loop`, one for each rule of the border: asked at every tap, the rule costs a third of the time."""

    @compiled(inline="always", fastmath=_FAST)
    def either(at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, release_border, start, made):
        if release_border:
            loop(at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, True, start, made)
        else:
            loop(at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, False, start, made)

    return either


@_by_rule
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


@_by_rule
@compiled(inline="always", fastmath=_FAST)
def _place(at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, release_border, start, place):
    """One tap of a block: `start` as in `_weigh`; `place`: how far below and right of it, and the tap if it moves."""
    below, across, moves_v, moves_h = place[0], place[1], place[2], place[3]
    zero = taps.dtype.type(0)
    for j in range(taps.shape[0]):
        y, below[j], moves = _locate(at_v[j], row, shift_v[j], zero, last_v, release_border)
        moves_v[j] = taps[j] if moves else zero
        x, across[j], moves = _locate(at_h[j], column, shift_h[j], zero, last_h, release_border)
        moves_h[j] = taps[j] if moves else zero
        start[j] = y * np.int32(width) + x


@compiled(inline="always")
def _taps(kernel, offset_v, offset_h, n, tap, first, end):
    """Kernel and offsets of one tap of a block."""
    return kernel[n, tap, first:end], offset_v[n, tap, first:end], offset_h[n, tap, first:end]


@compiled(inline="always")
def _gather(grad_lr, upstream):
    """Lays a block's channels (channels, count) side by side: (groups, count, LANES)."""
    for c in range(grad_lr.shape[0]):
        for j in range(grad_lr.shape[1]):
            upstream[c // LANES, j, c % LANES] = grad_lr[c, j]


@compiled(parallel=True, fastmath=_FAST)
def forward(padded, kernel, offset_v, offset_h, rest_v, rest_h, size, release_border, lr):
    """Eq. 2, a block of LR pixels a job."""
    channels, area = lr.shape[1:]
    groups, height, width = padded.shape[1:4]
    real = padded.dtype.type
    last_v, last_h = real(height - 2), real(width - 2)
    pixels = padded.reshape((-1, height * width, LANES))
    blocks = blocks_of(area)
    for job in prange(lr.shape[0] * blocks):
        n, first, end = _part(job, blocks, area)
        at_v, at_h = rest_v[first:end], rest_h[first:end]
        sums = np.zeros((groups, BLOCK, LANES), padded.dtype)
        start = np.zeros(BLOCK, np.int32)
        weight = np.zeros((3, BLOCK), padded.dtype)
        upper, lower, across = weight[0], weight[1], weight[2]
        for tap in range(size * size):
            row, column = real(tap // size), real(tap % size)
            taps, shift_v, shift_h = _taps(kernel, offset_v, offset_h, n, tap, first, end)
            _weigh(
                at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, release_border,
                start, weight,
            )  # fmt: skip
            ahead = (n * size * size + tap + 1) * area + first
            for group in range(groups):
                image = pixels[n * groups + group]
                below = image[width:]
                total = sums[group]
                for line in range(0, end - first, IN_LINE):  # the last one whole: what is beyond the block is left
                    _prefetch(kernel, offset_v, offset_h, ahead + line)
                    for within in range(IN_LINE):
                        j = line + within
                        _add_blend(total, j, image, below, start[j], upper[j], lower[j], across[j])
        for c in range(channels):
            for j in range(end - first):
                lr[n, c, first + j] = sums[c // LANES, j, c % LANES]


@compiled(inline="always")
def _hand_over(found, target, streams):
    """target = the first of `found`; `streams`: by stores past the caches, which want whole fours and aligned ones."""
    if streams:
        for j in range(0, target.shape[0], 4):
            _stream(target, found, j)
    else:
        for j in range(target.shape[0]):
            target[j] = found[j]


@compiled(parallel=True, fastmath=_FAST)
def backward_taps(
    padded, kernel, offset_v, offset_h, rest_v, rest_h, size, release_border, grad_lr, streams,
    grad_kernel, grad_v, grad_h,
):  # fmt: skip
    """Eq. 4-6, summed over channels: each corner is projected on the upstream gradient, then they are interpolated."""
    area = grad_lr.shape[2]
    groups, height, width = padded.shape[1:4]
    real = padded.dtype.type
    last_v, last_h = real(height - 2), real(width - 2)
    pixels = padded.reshape((-1, height * width, LANES))
    blocks = blocks_of(area)
    for job in prange(grad_lr.shape[0] * blocks):
        n, first, end = _part(job, blocks, area)
        at_v, at_h = rest_v[first:end], rest_h[first:end]
        upstream = np.zeros((groups, BLOCK, LANES), padded.dtype)
        _gather(grad_lr[n, :, first:end], upstream)
        start = np.zeros(BLOCK, np.int32)
        place = np.empty((4, BLOCK), padded.dtype)
        below, across, moves_v, moves_h = place[0], place[1], place[2], place[3]
        corners = np.empty((4, BLOCK), padded.dtype)
        for tap in range(size * size):
            row, column = real(tap // size), real(tap % size)
            taps, shift_v, shift_h = _taps(kernel, offset_v, offset_h, n, tap, first, end)
            _place(
                at_v, at_h, row, column, taps, shift_v, shift_h, last_v, last_h, width, release_border,
                start, place,
            )  # fmt: skip
            ahead = (n * size * size + tap + 1) * area + first
            for group in range(groups):
                image = pixels[n * groups + group]
                under = image[width:]
                grad = upstream[group]
                for line in range(0, end - first, IN_LINE):  # as in `forward`
                    _prefetch(kernel, offset_v, offset_h, ahead + line)
                    for within in range(0, IN_LINE, 4):
                        j = line + within
                        at, second, third, fourth = start[j], start[j + 1], start[j + 2], start[j + 3]
                        if group == 0:
                            _project(corners, BLOCK, j, grad, image, under, at, second, third, fourth)
                        else:
                            _add_projection(corners, BLOCK, j, grad, image, under, at, second, third, fourth)
            for j in range(end - first):
                upper, lower = corners[0, j], corners[1, j]
                step_upper, step_lower = corners[2, j] - upper, corners[3, j] - lower
                upper, lower = upper + across[j] * step_upper, lower + across[j] * step_lower
                corners[0, j] = upper + below[j] * (lower - upper)
                corners[1, j] = moves_v[j] * (lower - upper)
                corners[2, j] = moves_h[j] * (step_upper + below[j] * (step_lower - step_upper))
            _hand_over(corners[0], grad_kernel[n, tap, first:end], streams)
            _hand_over(corners[1], grad_v[n, tap, first:end], streams)
            _hand_over(corners[2], grad_h[n, tap, first:end], streams)
        if streams:
            _fence()


@compiled(parallel=True, fastmath=_FAST)
def reach(offset_v, rest_v, size, height, spans):
    """spans[n, block] = first and last padded row above a tap: the smallest and largest of `_locate`."""
    taps, area = offset_v.shape[1:]
    real = offset_v.dtype.type
    zero, last_v = real(0), real(height - 2)
    blocks = spans.shape[1]
    for job in prange(offset_v.shape[0] * blocks):
        n, first, end = _part(job, blocks, area)
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
            _, first, end = _part(block, blocks, area)
            at_v, at_h = rest_v[first:end], rest_h[first:end]
            count = end - first
            _gather(grad_lr[n, :, first:end], upstream)
            for tap in range(size * size):
                row, column = real(tap // size), real(tap % size)
                taps, shift_v, shift_h = _taps(kernel, offset_v, offset_h, n, tap, first, end)
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
