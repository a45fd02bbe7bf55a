"""The resampling operator as CUDA kernels, written in Python and compiled by numba: import it only where it is to run.

A warp works on 32 LR pixels that lie beside each other in memory, so that kernel and offsets are read, and their
gradients written, without gaps; the taps of a pixel are shared by 8 threads, whose sums are added in a fixed order.
The image is first laid out as in resample_numba.py, four channels a pixel; `_pixel_reader` loads them at once.

Lr and the gradients of kernel and offsets are written once, by one thread. The gradient of hr is scattered, and many
taps meet in one pixel: it is added up by atomics, but in 64-bit fixed point, where the order of additions changes
nothing. So all results have the same bits on every run. The unit is 2^-60 of an upper bound of the sum of all that an
image can receive: finer than float32 by far, and about 1e-12 of the largest gradient in float64. It costs 8 bytes
instead of 4 for an addition, one more reading of `kernel` for the bound, and 9 bytes a pixel and channel of memory;
sorting taps by target, the other deterministic way, would move each of them several times. A pixel that receives
something infinite has the gradient NaN.

float16 and bfloat16 (which numba cannot name) become float32 first, and gradients are converted back: everything is
computed in float32, or in float64 where a tensor is. float32 tensors without gaps are read and written in place.
"""

import math
import warnings
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from numba import config, cuda, float32, float64, int32

from carlib.ops.resample import working_dtype

SIMULATED = bool(config.ENABLE_CUDASIM)
LANES = 4  # channels of a pixel, laid side by side
ACROSS, PARTS = (4, 3) if SIMULATED else (32, 8)  # LR pixels and threads for each; the simulator's threads are slow
_FINEST = 2.0**60  # units in the largest sum; what is rounded comes on top, and int64 ends at 2^63
_NO_FRACTION = 2.0**52  # from here on numbers are whole
# A small image cannot fill a GPU. By its words: numba and numba-cuda have a class each for it, of one name.
warnings.filterwarnings("ignore", r"Grid size \d+ will likely result in GPU under-utilization")


def why_not(tensor) -> str:
    """What keeps the kernels from running on a tensor, with the remedy; nothing if they can."""
    if SIMULATED:
        return "" if tensor.device.type == "cpu" else "numba simulates CUDA, which takes CPU tensors"
    if tensor.device.type != "cuda":
        return f"hr is on {tensor.device}, not on a CUDA device"
    return _why_no_compiler()


@cache
def _why_no_compiler() -> str:
    remedy = "install numba's compiler for it: pip install 'carlib[cuda]'"
    if not cuda.is_available():
        return f"numba finds no CUDA driver or device; {remedy}"
    try:
        cuda.jit("void(float32[:])")(lambda array: None)
    except Exception as error:  # of many kinds: no NVVM, one that does not fit the driver, no linker
        return f"numba cannot compile for CUDA ({str(error).strip().splitlines()[0]}); {remedy}"
    return ""


def forward(hr, kernel, offset_v, offset_h, geometry):
    """lr of `carlib.resample`; the arguments have been checked there."""
    work = working_dtype(hr, kernel, offset_v, offset_h)
    lr = torch.empty((*hr.shape[:2], *kernel.shape[2:]), dtype=work, device=hr.device)
    image, *taps = (_ready(t, work) for t in (hr, kernel, offset_v, offset_h))
    pixels, numbers = _lay_out(image, geometry)
    _launch_per_lr_pixel("forward", taps, pixels, *map(_planes, taps), *numbers, _planes(lr))
    return lr.to(hr.dtype)


def backward(grad_lr, hr, kernel, offset_v, offset_h, geometry, needed):
    """Gradients of hr, kernel, offset_v and offset_h, None where not `needed`."""
    work = working_dtype(hr, kernel, offset_v, offset_h)
    upstream, image, *taps = (_ready(t, work) for t in (grad_lr, hr, kernel, offset_v, offset_h))
    found = [None] * 4
    if any(needed[1:]):
        found[1:] = [torch.empty_like(t) for t in taps]
        pixels, numbers = _lay_out(image, geometry)
        arguments = *map(_planes, taps), *numbers, _planes(upstream)
        _launch_per_lr_pixel("backward_taps", taps, pixels, *arguments, *map(_planes, found[1:]))
    if needed[0]:
        found[0] = _backward_image(image.shape, taps, geometry, upstream)
    inputs = (hr, kernel, offset_v, offset_h)
    return [g.to(t.dtype) if need else None for g, t, need in zip(found, inputs, needed, strict=True)]


def _backward_image(shape, taps, geometry, upstream):
    bound = taps[0].new_empty((shape[0], taps[0][0, 0].numel()), dtype=torch.float64)
    _launch_per_lr_pixel("bound", taps, _planes(taps[0]), _planes(upstream), bound)
    units = _FINEST / bound.sum(1).clamp_min(1e-200)
    total = torch.zeros(shape, dtype=torch.int64, device=upstream.device)
    bad = torch.zeros(shape, dtype=torch.uint8, device=upstream.device)
    sums = units, geometry.pad, total, bad
    _launch_per_lr_pixel("scatter", taps, *map(_planes, taps), *_numbers(geometry, shape), _planes(upstream), *sums)
    gradient = total.to(torch.float64).div_(units[:, None, None, None])
    return gradient.to(upstream.dtype).masked_fill_(bad.bool(), math.nan)


def _ready(tensor, dtype):
    return tensor.detach().to(dtype).contiguous()


def _planes(tensor):
    return tensor.flatten(2)  # (N, channels or taps, h * w)


def _numbers(geometry, shape):
    """What kernels know of geometry: LR width, padded height and width, scale, K, `first` and the border's rule.

    The padded image has its last row and column twice, so that each pixel within has neighbours below and to the right.
    first: twice the position of tap 0 of the first LR pixel, in padded pixels (Eq. 1); a whole number.
    """
    height, width = (n + 2 * geometry.pad + 1 for n in shape[-2:])
    first = geometry.scale - 1 + round(2 * (geometry.pad - geometry.centre))
    return shape[-1] // geometry.scale, height, width, geometry.scale, geometry.size, first, geometry.release_border


def _lay_out(image, geometry):
    """The padded image, a pixel a row: (N * groups * height * width, LANES); and `_numbers`."""
    numbers = _numbers(geometry, image.shape)
    height, width = numbers[1:3]
    groups = math.ceil(image.shape[1] / LANES)
    pixels = image.new_empty((image.shape[0] * groups * height * width, LANES))
    _launch("lay_out", len(pixels), image, height, width, geometry.pad, groups, pixels)
    return pixels, numbers


def _launch(name, count, *arguments, block=(ACROSS * PARTS,)):
    """Runs a kernel with at least `count` threads along the first axis, on PyTorch's current stream.

    The first argument is a tensor, which tells the device and the type of numbers.
    """
    first = arguments[0]
    kernel = getattr(_kernels(float64 if first.dtype == torch.float64 else float32), name)
    blocks = math.ceil(count / block[0])
    if SIMULATED:
        kernel[blocks, block](*(a.numpy() if isinstance(a, torch.Tensor) else a for a in arguments))
        return
    with torch.cuda.device(first.device):  # makes its context current, which numba then takes
        pointer = torch.cuda.current_stream().cuda_stream
        stream = cuda.external_stream(pointer) if pointer else 0
        arrays = (cuda.as_cuda_array(a) if isinstance(a, torch.Tensor) else a for a in arguments)
        kernel[blocks, block, stream](*arrays)


def _launch_per_lr_pixel(name, taps, *arguments):
    """Runs a kernel with PARTS threads for each LR pixel of (N, K*K, h, w) tensors."""
    count = taps[0][:, 0].numel()
    _launch(name, count, *arguments, block=(ACROSS, PARTS))


def _pixel_reader():
    """A function of (pixels, at) that returns the four numbers of pixels[at], for kernels.

    numba loads them one by one. This is one load of a vector, marked as of memory that nobody writes to (what it makes
    of plain loads goes through the same first-level cache, but may not be moved across a store).
    """
    if SIMULATED:
        return lambda pixels, at: tuple(pixels[at])
    from llvmlite import ir
    from numba.core import types
    from numba.cuda.extending import intrinsic

    @intrinsic
    def pixel(typing, pixels, at):
        def codegen(context, builder, signature, args):
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            first = builder.gep(data, [builder.mul(args[1], ir.Constant(args[1].type, LANES))])
            vector = ir.VectorType(context.get_value_type(pixels.dtype), LANES)
            loaded = builder.load(builder.bitcast(first, vector.as_pointer()), align=LANES * pixels.dtype.bitwidth // 8)
            loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
            lanes = [builder.extract_element(loaded, ir.Constant(ir.IntType(32), lane)) for lane in range(LANES)]
            return context.make_tuple(builder, signature.return_type, lanes)

        return types.UniTuple(pixels.dtype, LANES)(pixels, types.int64), codegen

    return pixel


@cache
def _kernels(real):
    """The kernels for one type of floating point numbers, as numba names it."""
    zero, half, far = real(0), real(0.5), real(_NO_FRACTION)
    pixel = _pixel_reader()

    @cuda.jit(device=True)
    def clamp(position, low, high):
        """`position` within low..high; what is not a number becomes low, so that an index made of it is valid."""
        position = position if position >= low else low
        return position if position <= high else high

    @cuda.jit(device=True)
    def locate(base, shift, last, release_border):
        """Padded index before position base + shift, the fraction beyond it, and whether it moves with its offset.

        A position outside 0..last is clamped and does not move. Under the released rule only the index is clamped.
        """
        position = base + shift
        clamped = clamp(position, zero, last)
        index = int32(clamped)
        beyond = clamped - real(index)
        if release_border:
            near = clamp(position, -far, far)
            beyond = near - real(math.floor(near))
        return index, beyond + position * zero, release_border or clamped == position  # not finite: not a number

    @cuda.jit(device=True)
    def locate_tap(tap, size, base_v, base_h, offset_v, offset_h, n, at, height, width, release_border):
        """`locate` down and right for one tap of one LR pixel, whose tap 0 rests at the base."""
        row = int32((real(tap) + half) * (real(1) / real(size)))  # tap // size, exact below 2^22, and faster
        column = int32(tap) - row * int32(size)
        y, beta, moves_v = locate(base_v + real(row), offset_v[n, tap, at], real(height - 2), release_border)
        x, alpha, moves_h = locate(base_h + real(column), offset_h[n, tap, at], real(width - 2), release_border)
        return y, beta, moves_v, x, alpha, moves_h

    @cuda.jit(device=True)
    def lr_pixel(planes, w):
        """Whether this thread has a LR pixel, which image it is in, its place there, its row and its column."""
        place = cuda.blockIdx.x * ACROSS + cuda.threadIdx.x
        area = planes.shape[2]
        n, at = place // area, place % area
        return n < planes.shape[0], n, at, at // w, at % w

    @cuda.jit(device=True)
    def at_rest(index, scale, first):
        """Position of tap 0 in padded pixels, from whole numbers of halves: float64 is slow on many GPUs."""
        return real(int32(2 * scale * index + first)) * half

    @cuda.jit(device=True)
    def source(padded, pad, length):
        """The row (or column) of hr behind a padded one: `reflect_indices`, computed for the few beyond its rim."""
        position = min(padded, length - 1 + 2 * pad) - pad
        if position < 0 or position >= length:
            period = max(2 * (length - 1), 1)
            position %= period
            position = min(position, period - position)
        return position

    @cuda.jit
    def lay_out(image, height, width, pad, groups, pixels):
        place = cuda.grid(1)
        if place < pixels.shape[0]:
            row = source(place // width % height, pad, image.shape[2])
            column = source(place % width, pad, image.shape[3])
            image_and_group = place // (width * height)
            n, group = image_and_group // groups, image_and_group % groups
            for lane in range(LANES):
                c = group * LANES + lane
                pixels[place, lane] = image[n, c, row, column] if c < image.shape[1] else zero

    @cuda.jit
    def forward(pixels, kernel, offset_v, offset_h, w, height, width, scale, size, first, release_border, lr):  # Eq. 2
        shares = cuda.shared.array((PARTS, LANES, ACROSS), real)
        there, n, at, i, j = lr_pixel(kernel, w)
        part, beside = cuda.threadIdx.y, cuda.threadIdx.x
        base_v, base_h = at_rest(i, scale, first), at_rest(j, scale, first)
        groups = (lr.shape[1] + LANES - 1) // LANES
        for group in range(groups):
            sum_0, sum_1, sum_2, sum_3 = zero, zero, zero, zero
            origin = (n * groups + group) * height * width
            for tap in range(part, size * size if there else 0, PARTS):
                y, beta, _, x, alpha, _ = locate_tap(
                    tap, size, base_v, base_h, offset_v, offset_h, n, at, height, width, release_border
                )
                lower = kernel[n, tap, at] * beta
                upper = kernel[n, tap, at] - lower
                start = origin + y * width + x
                p_0, p_1, p_2, p_3 = pixel(pixels, start)
                q_0, q_1, q_2, q_3 = pixel(pixels, start + 1)
                r_0, r_1, r_2, r_3 = pixel(pixels, start + width)
                s_0, s_1, s_2, s_3 = pixel(pixels, start + width + 1)
                sum_0 += upper * (p_0 + alpha * (q_0 - p_0)) + lower * (r_0 + alpha * (s_0 - r_0))
                sum_1 += upper * (p_1 + alpha * (q_1 - p_1)) + lower * (r_1 + alpha * (s_1 - r_1))
                sum_2 += upper * (p_2 + alpha * (q_2 - p_2)) + lower * (r_2 + alpha * (s_2 - r_2))
                sum_3 += upper * (p_3 + alpha * (q_3 - p_3)) + lower * (r_3 + alpha * (s_3 - r_3))
            shares[part, 0, beside], shares[part, 1, beside] = sum_0, sum_1
            shares[part, 2, beside], shares[part, 3, beside] = sum_2, sum_3
            cuda.syncthreads()
            for lane in range(part, LANES, PARTS):
                c = group * LANES + lane
                if there and c < lr.shape[1]:
                    total = zero
                    for other in range(PARTS):
                        total += shares[other, lane, beside]
                    lr[n, c, at] = total
            cuda.syncthreads()

    @cuda.jit
    def backward_taps(
        pixels, kernel, offset_v, offset_h, w, height, width, scale, size, first, release_border, grad_lr,
        grad_kernel, grad_v, grad_h,
    ):  # fmt: skip
        # Eq. 4-6: each corner is projected on the upstream gradient, then they are interpolated
        there, n, at, i, j = lr_pixel(kernel, w)
        base_v, base_h = at_rest(i, scale, first), at_rest(j, scale, first)
        groups = (grad_lr.shape[1] + LANES - 1) // LANES
        for group in range(groups if there else 0):
            origin = (n * groups + group) * height * width
            g_0, g_1, g_2, g_3 = upstream(grad_lr, n, group, at)
            for tap in range(cuda.threadIdx.y, size * size, PARTS):
                y, beta, moves_v, x, alpha, moves_h = locate_tap(
                    tap, size, base_v, base_h, offset_v, offset_h, n, at, height, width, release_border
                )
                start = origin + y * width + x
                p_0, p_1, p_2, p_3 = pixel(pixels, start)
                q_0, q_1, q_2, q_3 = pixel(pixels, start + 1)
                r_0, r_1, r_2, r_3 = pixel(pixels, start + width)
                s_0, s_1, s_2, s_3 = pixel(pixels, start + width + 1)
                upper = p_0 * g_0 + p_1 * g_1 + p_2 * g_2 + p_3 * g_3
                lower = r_0 * g_0 + r_1 * g_1 + r_2 * g_2 + r_3 * g_3
                step_upper = q_0 * g_0 + q_1 * g_1 + q_2 * g_2 + q_3 * g_3 - upper
                step_lower = s_0 * g_0 + s_1 * g_1 + s_2 * g_2 + s_3 * g_3 - lower
                upper, lower = upper + alpha * step_upper, lower + alpha * step_lower
                to_kernel = upper + beta * (lower - upper)
                to_v = kernel[n, tap, at] * (lower - upper) if moves_v else zero
                to_h = kernel[n, tap, at] * (step_upper + beta * (step_lower - step_upper)) if moves_h else zero
                if group > 0:  # the same thread wrote the sum so far
                    to_kernel += grad_kernel[n, tap, at]
                    to_v += grad_v[n, tap, at]
                    to_h += grad_h[n, tap, at]
                grad_kernel[n, tap, at], grad_v[n, tap, at], grad_h[n, tap, at] = to_kernel, to_v, to_h

    @cuda.jit(device=True)
    def upstream(grad_lr, n, group, at):
        """The gradients of the four channels of a group, zero for those that are not there."""
        first, channels = group * LANES, grad_lr.shape[1]
        return (
            grad_lr[n, first, at],
            grad_lr[n, first + 1, at] if first + 1 < channels else zero,
            grad_lr[n, first + 2, at] if first + 2 < channels else zero,
            grad_lr[n, first + 3, at] if first + 3 < channels else zero,
        )

    @cuda.jit
    def bound(kernel, grad_lr, bounds):
        """What one LR pixel can at most give to a channel of hr, taps and gradients that are not finite left out."""
        shares = cuda.shared.array((PARTS, ACROSS), float64)
        there, n, at, _, _ = lr_pixel(kernel, 1)
        weights = 0.0
        for tap in range(cuda.threadIdx.y, kernel.shape[1] if there else 0, PARTS):
            weight = abs(float64(kernel[n, tap, at]))
            weights += weight if math.isfinite(weight) else 0.0
        shares[cuda.threadIdx.y, cuda.threadIdx.x] = weights
        cuda.syncthreads()
        if there and cuda.threadIdx.y == 0:
            weights, largest = 0.0, 0.0
            for other in range(PARTS):
                weights += shares[other, cuda.threadIdx.x]
            for c in range(grad_lr.shape[1]):
                gradient = abs(float64(grad_lr[n, c, at]))
                largest = gradient if math.isfinite(gradient) and gradient > largest else largest
            bounds[n, at] = weights * largest

    @cuda.jit
    def scatter(
        kernel, offset_v, offset_h, w, height, width, scale, size, first, release_border, grad_lr,
        units, pad, total, bad,
    ):  # fmt: skip
        # the transpose of Eq. 2-3 with respect to hr, in units of fixed point
        there, n, at, i, j = lr_pixel(kernel, w)
        base_v, base_h = at_rest(i, scale, first), at_rest(j, scale, first)
        for tap in range(cuda.threadIdx.y, size * size if there else 0, PARTS):
            y, beta, _, x, alpha, _ = locate_tap(
                tap, size, base_v, base_h, offset_v, offset_h, n, at, height, width, release_border
            )
            above, below = source(y, pad, total.shape[2]), source(y + 1, pad, total.shape[2])
            left, right = source(x, pad, total.shape[3]), source(x + 1, pad, total.shape[3])
            for c in range(grad_lr.shape[1]):
                whole = kernel[n, tap, at] * grad_lr[n, c, at]
                lower = whole * beta
                upper = whole - lower
                for corner in range(4):
                    share = upper if corner < 2 else lower
                    to_right = share * alpha
                    share = share - to_right if corner % 2 == 0 else to_right
                    row, column = above if corner < 2 else below, left if corner % 2 == 0 else right
                    if math.isfinite(share):
                        cuda.atomic.add(total, (n, c, row, column), np.int64(float64(share) * units[n]))
                    else:
                        bad[n, c, row, column] = 1

    return SimpleNamespace(lay_out=lay_out, forward=forward, backward_taps=backward_taps, bound=bound, scatter=scatter)
