"""The resampling operator compiled for the CPU: parallel over LR rows, nothing larger than its inputs and gradients.

The image is first laid out as (N, groups, rows, columns, 4 channels), reflected border included and one pixel wider at
the far rims, so that the right and lower neighbours of a position exist and a pixel is one vector load. Then, for each
row of LR pixels and each tap, one pass computes positions (`_locate`, shared by all kernels), one reads pixels.
Every result is written by one thread in a fixed order: the same bits on every run, whatever the number of threads,
except that grad_hr is summed image by image.
"""

import math

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from carlib.ops.compiled import compiled
from carlib.ops.resample import reflect_indices

LANES = 4
# Contraction into fused multiply-adds and reordering of sums of four; not `nnan`: a NaN must stay one.
_FAST = {"contract", "reassoc", "nsz"}
_FLAGS = tuple(sorted(_FAST))


def resample_numba(hr, kernel, offset_v, offset_h, geometry):
    """`carlib.resample` on CPU tensors; the arguments have been checked there."""
    return _Resample.apply(hr, kernel, offset_v, offset_h, geometry)


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hr, kernel, offset_v, offset_h, geometry):
        ctx.save_for_backward(hr, kernel, offset_v, offset_h)
        ctx.geometry = geometry
        dtype = _working_dtype(hr, kernel)
        _use_torch_threads()
        with torch.no_grad():
            n, c, height, width = hr.shape
            lr = torch.empty((n, c, height // geometry.scale, width // geometry.scale), dtype=dtype)
            padded = _lay_out(_array(hr, dtype), geometry)
            taps = [_array(t, dtype) for t in (kernel, offset_v, offset_h)]
            _forward(padded, *taps, *_numbers(geometry), lr.numpy())
        return lr.to(hr.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_lr):
        hr, kernel, offset_v, offset_h = ctx.saved_tensors
        geometry, needed = ctx.geometry, ctx.needs_input_grad
        dtype = _working_dtype(hr, kernel)
        _use_torch_threads()
        taps = [_array(t, dtype) for t in (kernel, offset_v, offset_h)]
        upstream = _array(grad_lr, dtype)
        gradients = [None] * 4
        if any(needed[1:4]):
            padded = _lay_out(_array(hr, dtype), geometry)
            written = [torch.empty(kernel.shape, dtype=dtype) for _ in range(3)]
            _backward_taps(padded, *taps, *_numbers(geometry), upstream, *(t.numpy() for t in written))
            gradients[1:] = [
                g.to(t.dtype) if need else None
                for g, t, need in zip(written, (kernel, offset_v, offset_h), needed[1:4], strict=True)
            ]
        if needed[0]:
            rows, columns = _sources(hr.shape, geometry)
            grad_hr = torch.zeros(hr.shape, dtype=dtype)
            _backward_image(*taps, *_numbers(geometry), upstream, rows, columns, grad_hr.numpy())
            gradients[0] = grad_hr.to(hr.dtype)
        return (*gradients, None)


def _working_dtype(hr, kernel):
    return torch.float64 if torch.float64 in (hr.dtype, kernel.dtype) else torch.float32


def _array(tensor, dtype):
    return tensor.detach().to(dtype).contiguous().numpy()


def _use_torch_threads():
    """torch.set_num_threads governs this operator too."""
    threads = torch.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    if torch.get_num_threads() != threads:  # numba's first launch sets OpenMP's number, which is torch's as well
        torch.set_num_threads(threads)


def _numbers(geometry):
    return geometry.scale, geometry.size, geometry.pad, geometry.centre, geometry.release_border


def _sources(shape, geometry):
    """HR row and column behind each padded row and column; the last one twice, so that a right neighbour exists."""
    ranges = [reflect_indices(-geometry.pad, n - 1 + geometry.pad, n).numpy() for n in shape[-2:]]
    return [np.append(r, r[-1]) for r in ranges]


def _lay_out(hr, geometry):
    rows, columns = _sources(hr.shape, geometry)
    groups = math.ceil(hr.shape[1] / LANES)
    padded = np.empty((hr.shape[0], groups, len(rows), len(columns), LANES), hr.dtype)
    _copy_padded(hr, rows, columns, padded)
    return padded


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


@compiled(parallel=True)
def _copy_padded(hr, rows, columns, padded):
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


@compiled(parallel=True, fastmath=_FAST)
def _forward(padded, kernel, offset_v, offset_h, scale, size, pad, centre, release_border, lr):
    """Eq. 2: one row of LR pixels a job."""
    channels, h, w = lr.shape[1:]
    groups, height, width = padded.shape[1:4]
    real = padded.dtype.type
    zero, last_v, last_h = real(0), real(height - 2), real(width - 2)
    pixels = padded.reshape((-1, LANES))
    for job in prange(lr.shape[0] * h):
        n, i = job // h, job % h
        sums = np.zeros((groups, w, LANES), padded.dtype)
        start = np.empty(w, np.int32)
        weight = np.empty((3, w), padded.dtype)
        upper, lower, across = weight[0], weight[1], weight[2]
        for tap in range(size * size):
            base_v = real((i + 0.5) * scale - 0.5 + (tap // size) - centre + pad)
            base_h = real(0.5 * scale - 0.5 + (tap % size) - centre + pad)
            taps, shift_v, shift_h = kernel[n, tap, i], offset_v[n, tap, i], offset_h[n, tap, i]
            for j in range(w):
                y, fraction_v, _ = _locate(base_v, zero, shift_v[j], zero, last_v, release_border)
                x, fraction_h, _ = _locate(base_h, real(np.int32(j * scale)), shift_h[j], zero, last_h, release_border)
                start[j] = y * np.int32(width) + x
                lower[j] = taps[j] * fraction_v
                upper[j] = taps[j] - taps[j] * fraction_v
                across[j] = fraction_h
            for group in range(groups):
                first = (n * groups + group) * height * width
                for j in range(w):
                    _add_blend(sums[group], j, pixels, first + start[j], width, upper[j], lower[j], across[j])
        for c in range(channels):
            for j in range(w):
                lr[n, c, i, j] = sums[c // LANES, j, c % LANES]


@compiled(parallel=True, fastmath=_FAST)
def _backward_taps(
    padded, kernel, offset_v, offset_h, scale, size, pad, centre, release_border, grad_lr, grad_kernel, grad_v, grad_h
):
    """Eq. 4-6, summed over channels: each corner is projected on the upstream gradient, then they are interpolated."""
    channels, h, w = grad_lr.shape[1:]
    groups, height, width = padded.shape[1:4]
    real = padded.dtype.type
    zero, last_v, last_h = real(0), real(height - 2), real(width - 2)
    pixels = padded.reshape((-1, LANES))
    for job in prange(grad_lr.shape[0] * h):
        n, i = job // h, job % h
        upstream = np.zeros((groups, w, LANES), padded.dtype)
        for c in range(channels):
            for j in range(w):
                upstream[c // LANES, j, c % LANES] = grad_lr[n, c, i, j]
        start = np.empty(w, np.int32)
        corners = np.empty((w, LANES), padded.dtype)
        for tap in range(size * size):
            base_v = real((i + 0.5) * scale - 0.5 + (tap // size) - centre + pad)
            base_h = real(0.5 * scale - 0.5 + (tap % size) - centre + pad)
            taps, shift_v, shift_h = kernel[n, tap, i], offset_v[n, tap, i], offset_h[n, tap, i]
            for j in range(w):
                y, _, _ = _locate(base_v, zero, shift_v[j], zero, last_v, release_border)
                x, _, _ = _locate(base_h, real(np.int32(j * scale)), shift_h[j], zero, last_h, release_border)
                start[j] = y * np.int32(width) + x
            corners[:] = 0
            for group in range(groups):
                first = (n * groups + group) * height * width
                for j in range(w):
                    _add_projection(corners, j, upstream[group], pixels, first + start[j], width)
            to_kernel, to_v, to_h = grad_kernel[n, tap, i], grad_v[n, tap, i], grad_h[n, tap, i]
            for j in range(w):
                _, fraction_v, moves_v = _locate(base_v, zero, shift_v[j], zero, last_v, release_border)
                _, fraction_h, moves_h = _locate(
                    base_h, real(np.int32(j * scale)), shift_h[j], zero, last_h, release_border
                )
                upper, lower = corners[j, 0], corners[j, 1]
                step_upper, step_lower = corners[j, 2] - upper, corners[j, 3] - lower
                upper, lower = upper + fraction_h * step_upper, lower + fraction_h * step_lower
                to_kernel[j] = upper + fraction_v * (lower - upper)
                to_v[j] = taps[j] * (lower - upper) if moves_v else zero
                to_h[j] = taps[j] * (step_upper + fraction_v * (step_lower - step_upper)) if moves_h else zero


@compiled(parallel=True, fastmath=_FAST)
def _backward_image(
    kernel, offset_v, offset_h, scale, size, pad, centre, release_border, grad_lr, rows, columns, grad_hr
):
    """The transpose of Eq. 2-3 with respect to hr: each job scatters into one channel of one image."""
    channels, h, w = grad_lr.shape[1:]
    real = grad_hr.dtype.type
    zero, last_v, last_h = real(0), real(len(rows) - 2), real(len(columns) - 2)
    for job in prange(grad_lr.shape[0] * channels):
        n, c = job // channels, job % channels
        target = grad_hr[n, c]
        for tap in range(size * size):
            base_h = real(0.5 * scale - 0.5 + (tap % size) - centre + pad)
            for i in range(h):
                base_v = real((i + 0.5) * scale - 0.5 + (tap // size) - centre + pad)
                for j in range(w):
                    y, fraction_v, _ = _locate(base_v, zero, offset_v[n, tap, i, j], zero, last_v, release_border)
                    x, fraction_h, _ = _locate(
                        base_h, real(j * scale), offset_h[n, tap, i, j], zero, last_h, release_border
                    )
                    whole = kernel[n, tap, i, j] * grad_lr[n, c, i, j]
                    lower = whole * fraction_v
                    upper = whole - lower
                    target[rows[y], columns[x]] += upper - upper * fraction_h
                    target[rows[y], columns[x + 1]] += upper * fraction_h
                    target[rows[y + 1], columns[x]] += lower - lower * fraction_h
                    target[rows[y + 1], columns[x + 1]] += lower * fraction_h
