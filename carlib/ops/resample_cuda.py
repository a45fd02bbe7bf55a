"""The resampling operator as CUDA kernels, written in Python and compiled by numba: import it only where it is to run.

A warp works on 32 LR pixels that lie beside each other in memory, so that kernel and offsets are read, and their
gradients written, without gaps; the rows of taps of a pixel are shared by up to 8 threads, whose sums are added in a
fixed order. The image is first laid out as in resample_numba.py, four channels a pixel.

Where the time goes, by the counters of an H200 (x4, 16 patches of 192 px): the first-level cache is busy for 80 % of it
with the four pixels of 16 bytes that each tap reads, 67 cycles for the taps of 32 LR pixels, wherever they lie; 28 % of
the memory's bandwidth is used. To give two neighbours the two columns of their taps in turns (one load of 32 bytes),
to use fewer registers, or more or fewer threads, changed nothing; a tap ahead, and kernel and offsets past that cache,
gained 5 % forward and a third backward.

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

import torch
from numba import config, cuda, float32, float64, int32, int64, uint8, uint32, uint64

from carlib.ops import cuda_memory
from carlib.ops.cuda_memory import LANES
from carlib.ops.precision import working_dtype

SIMULATED = bool(config.ENABLE_CUDASIM)
ACROSS, PARTS = (4, 3) if SIMULATED else (32, 8)  # LR pixels and threads for each; the simulator's threads are slow
_LINE = 4 if SIMULATED else 256  # threads that lay out a line of the image
_FINEST = 2.0**60  # units in the largest sum; what is rounded comes on top, and int64 ends at 2^63
_NO_FRACTION = 2.0**52  # from here on numbers are whole
# A small image cannot fill a GPU, and need not. By its words, which numba-cuda may colour: numba and numba-cuda have a
# class each for it, of one name.
warnings.filterwarnings("ignore", r".*Grid size \d+ will likely result in GPU under-utilization")


def why_not(tensor) -> str:
    """What keeps the kernels from running on a tensor, with the remedy; nothing if they can."""
    if SIMULATED:
        return "" if tensor.device.type == "cpu" else "numba simulates CUDA, which takes CPU tensors"
    if tensor.device.type != "cuda":
        return f"hr is on {tensor.device}, not on a CUDA device"
    return _why_no_compiler() or _why_too_old(tensor.device)


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
    _PerLrPixel(taps, image.shape, geometry)("forward", _lay_out(image, geometry), lr)
    return lr.to(hr.dtype)


def backward(grad_lr, hr, kernel, offset_v, offset_h, geometry, needed):
    """Gradients of hr, kernel, offset_v and offset_h, None where not `needed`."""
    work = working_dtype(hr, kernel, offset_v, offset_h)
    upstream, image, *taps = (_ready(t, work) for t in (grad_lr, hr, kernel, offset_v, offset_h))
    launch = _PerLrPixel(taps, image.shape, geometry)
    found = [None] * 4
    if any(needed[1:]):
        found[1:] = [torch.empty_like(t) for t in taps]
        launch("backward_taps", _lay_out(image, geometry), upstream, *found[1:])
    if needed[0]:
        found[0] = _backward_image(launch, image.shape, geometry.pad, upstream)
    inputs = (hr, kernel, offset_v, offset_h)
    return [g.to(t.dtype) if need else None for g, t, need in zip(found, inputs, needed, strict=True)]


def _backward_image(launch, shape, pad, upstream):
    bound = upstream.new_empty((shape[0], upstream[0, 0].numel()), dtype=torch.float64)
    launch("bound", upstream, bound)
    units = _FINEST / bound.sum(1).clamp_min(1e-200)
    total = torch.zeros(shape, dtype=torch.int64, device=upstream.device)
    bad = torch.zeros(shape, dtype=torch.uint8, device=upstream.device)
    launch("scatter", upstream, units, *shape[2:], pad, total, bad)
    gradient = total.to(torch.float64).div_(units[:, None, None, None])
    return gradient.to(upstream.dtype).masked_fill_(bad.bool(), math.nan)


def _ready(tensor, dtype):
    return tensor.detach().to(dtype).contiguous()


def _padded(length, pad):
    """The padded image has its last row and column twice, so that each pixel within has neighbours below and right."""
    return length + 2 * pad + 1


def _lay_out(image, geometry):
    """The padded image, a pixel a row: (N * groups * height * width, LANES)."""
    n, channels, *sides = image.shape
    height, width = (_padded(side, geometry.pad) for side in sides)
    lines = n * math.ceil(channels / LANES) * height
    pixels = image.new_empty((lines * width, LANES))
    blocks = lines * math.ceil(width / _LINE)
    _launch("lay_out", blocks, (_LINE,), geometry, image, channels, *sides, height, width, geometry.pad, pixels)
    return pixels


class _PerLrPixel:
    """Runs kernels whose blocks have ACROSS LR pixels of one image, and threads of each that share the rows of taps."""

    def __init__(self, taps, shape, geometry):
        n, _, height, width = taps[0].shape
        area = height * width
        padded = (_padded(side, geometry.pad) for side in shape[2:])
        # twice the position of tap 0 of the first LR pixel, in padded pixels (Eq. 1); a whole number
        first = geometry.scale - 1 + round(2 * (geometry.pad - geometry.centre))
        self.geometry = geometry
        self.taps_and_numbers = *taps, area, width, *padded, geometry.scale, geometry.size, first, shape[1]
        self.blocks = n * math.ceil(area / ACROSS)
        rows = max(2, math.ceil(geometry.size / PARTS))  # of taps, for each thread
        self.parts = math.ceil(geometry.size / rows)

    def __call__(self, name, *arguments):
        _launch(name, self.blocks, (ACROSS, self.parts), self.geometry, *self.taps_and_numbers, *arguments)


def _launch(name, blocks, block, geometry, *arguments):
    """Runs a kernel on PyTorch's current stream; the first argument is a tensor, which tells device and dtype.

    Kernels get tensors as addresses: to wrap each for numba takes ten times as long as to launch.
    """
    first = arguments[0]
    kernels = _kernels(float64 if first.dtype == torch.float64 else float32, geometry.release_border)
    kernel = getattr(kernels, name)
    if SIMULATED:
        kernel[blocks, block](*(a.view(-1).numpy() if isinstance(a, torch.Tensor) else a for a in arguments))
        return
    with torch.cuda.device(first.device):  # makes its context current, which numba then takes
        stream = _stream(first.device, torch.cuda.current_stream().cuda_stream)
        kernel[blocks, block, stream](*(a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments))


@cache
def _why_too_old(device) -> str:
    """The kernels' loads past the first-level cache need Volta or later."""
    major, minor = torch.cuda.get_device_capability(device)
    return "" if major >= 7 else f"{device} has compute capability {major}.{minor}, the kernels need 7.0"


@cache
def _stream(device, pointer):
    """A stream as numba knows it, the same object at every launch: numba keeps the launch's other numbers with it."""
    return cuda.external_stream(pointer) if pointer else 0


@cache
def _kernels(real, release_border):
    """The kernels for one type of floating point numbers, as numba names it, and one rule at the border."""
    zero, half, one, far = real(0), real(0.5), real(1), real(_NO_FRACTION)
    memory = cuda_memory.simulated() if SIMULATED else cuda_memory.compiled(real)
    constant, read, write, add, two_pixels, write_pixel, shifted = memory
    constant_64 = memory[0] if SIMULATED else cuda_memory.compiled(float64)[0]

    @cuda.jit(device=True)
    def clamp(position, low, high):
        """`position` within low..high; what is not a number becomes low, so that an index made of it is valid."""
        return min(max(low, position), high)

    @cuda.jit(device=True)
    def locate(position, last):
        """Padded index before a position, the fraction beyond it, and whether it moves with its offset.

        A position outside 0..last is clamped and does not move. Under the released rule only the index is clamped.
        """
        clamped = clamp(position, zero, last)
        index = int32(clamped)
        beyond = clamped - real(index)
        if release_border:
            near = clamp(position, -far, far)
            beyond = near - real(math.floor(near))
        return index, beyond + position * zero, release_border or clamped == position  # not finite: not a number

    @cuda.jit(device=True)
    def lr_pixel(area, w):
        """Whether this thread has a LR pixel, which image it is in, its place there, its row and its column."""
        area, w = uint32(area), uint32(w)
        blocks = uint32((area + ACROSS - 1) // ACROSS)  # of one image
        n = uint32(uint32(cuda.blockIdx.x) // blocks)
        at = uint32((uint32(cuda.blockIdx.x) - n * blocks) * ACROSS + uint32(cuda.threadIdx.x))
        i = uint32(at // w)
        return at < area, int64(n), int64(at), int32(i), int32(at - i * w)

    @cuda.jit(device=True)
    def at_rest(index, scale, first):
        """Position of tap 0 in padded pixels, from whole numbers of halves: float64 is slow on many GPUs."""
        return real(int32(2 * scale * index + first)) * half

    @cuda.jit(device=True)
    def last_before(length):
        """The last padded index with a neighbour after it."""
        return real(int32(length - 2))

    @cuda.jit(device=True)
    def source(padded, pad, length):
        """The row (or column) of hr behind a padded one: `reflect_indices`, computed for the few beyond its rim."""
        position = int32(min(padded, int32(length - 1 + 2 * pad)) - pad)
        if position < 0 or position >= length:
            period = int32(max(2 * (length - 1), 1))
            position = int32(uint32(abs(position)) % uint32(period))  # it is even
            position = min(position, int32(period - position))
        return position

    @cuda.jit(device=True)
    def four_channels(array, at, area, there):
        """The numbers at a place of planes of `area` and of the three after it, zero for channels beyond `there`."""
        return (
            read(array, at),
            read(array, at + area) if there > 1 else zero,
            read(array, at + area + area) if there > 2 else zero,
            read(array, at + area + area + area) if there > 3 else zero,
        )

    @cuda.jit(device=True)
    def tap_at(kernel, offset_v, offset_h, place):
        """Its weight and how far down and aside it lies from its place at rest."""
        return constant(kernel, place), constant(offset_v, place), constant(offset_h, place)

    @cuda.jit(device=True)
    def four_pixels(image, y, x, across):
        """The pixels beside a position, row by row: 2 * LANES numbers each."""
        start = int32(y * across + x)
        return two_pixels(image, start), two_pixels(image, int32(start + across))

    @cuda.jit
    def lay_out(image, channels, rows, columns, height, width, pad, pixels):
        per_line = uint32((width + _LINE - 1) // _LINE)
        line = uint32(uint32(cuda.blockIdx.x) // per_line)
        x = int32((uint32(cuda.blockIdx.x) - line * per_line) * _LINE + uint32(cuda.threadIdx.x))
        image_and_group = uint32(line // uint32(height))
        y = int32(line - image_and_group * uint32(height))
        if x < width:
            groups = uint32((channels + LANES - 1) // LANES)
            n = uint32(image_and_group // groups)
            first = int32(image_and_group - n * groups) * LANES
            area = uint64(rows) * uint64(columns)
            row, column = source(y, int32(pad), int32(rows)), source(x, int32(pad), int32(columns))
            at = (uint64(n) * uint64(channels) + uint64(first)) * area + uint64(row) * uint64(columns) + uint64(column)
            lanes = four_channels(image, at, area, channels - first)
            write_pixel(pixels, uint64(line) * uint64(width) + uint64(x), lanes)

    @cuda.jit
    def forward(kernel, offset_v, offset_h, area, w, height, width, scale, size, first, channels, pixels, lr):  # Eq. 2
        shares = cuda.shared.array((PARTS, LANES, ACROSS), real)
        there, n, at, i, j = lr_pixel(area, w)
        part, beside = cuda.threadIdx.y, cuda.threadIdx.x
        base_v, base_h = at_rest(i, scale, first), at_rest(j, scale, first)
        last_v, last_h = last_before(height), last_before(width)
        groups = (channels + LANES - 1) // LANES
        step, across = uint64(area), int32(width)
        for group in range(groups):
            image = shifted(pixels, (n * groups + group) * height * width * LANES)
            sum_0, sum_1, sum_2, sum_3 = zero, zero, zero, zero
            row = part if there else size
            while row < size:  # a range with a step would divide
                place = uint64((n * size + row) * size * area + at)
                v, u = base_v + real(int32(row)), base_h
                weight, down, aside = tap_at(kernel, offset_v, offset_h, place)
                left = int32(size)
                while left > 0:
                    left = int32(left - 1)
                    place += step if left > 0 else uint64(0)
                    next_weight, next_down, next_aside = tap_at(kernel, offset_v, offset_h, place)
                    y, beta, _ = locate(v + down, last_v)
                    x, alpha, _ = locate(u + aside, last_h)
                    above, below = four_pixels(image, y, x, across)
                    p_0, p_1, p_2, p_3, q_0, q_1, q_2, q_3 = above
                    r_0, r_1, r_2, r_3, s_0, s_1, s_2, s_3 = below
                    lower = weight * beta
                    upper = weight - lower
                    of_q, of_s = upper * alpha, lower * alpha
                    of_p, of_r = upper - of_q, lower - of_s
                    sum_0 = sum_0 + of_p * p_0 + of_q * q_0 + of_r * r_0 + of_s * s_0
                    sum_1 = sum_1 + of_p * p_1 + of_q * q_1 + of_r * r_1 + of_s * s_1
                    sum_2 = sum_2 + of_p * p_2 + of_q * q_2 + of_r * r_2 + of_s * s_2
                    sum_3 = sum_3 + of_p * p_3 + of_q * q_3 + of_r * r_3 + of_s * s_3
                    u += one
                    weight, down, aside = next_weight, next_down, next_aside
                row += cuda.blockDim.y
            shares[part, 0, beside], shares[part, 1, beside] = sum_0, sum_1
            shares[part, 2, beside], shares[part, 3, beside] = sum_2, sum_3
            cuda.syncthreads()
            lane = part
            while lane < LANES and group * LANES + lane < channels:
                total = zero
                for other in range(cuda.blockDim.y):
                    total += shares[other, lane, beside]
                if there:
                    write(lr, uint64((n * channels + group * LANES + lane) * area + at), total)
                lane += cuda.blockDim.y
            cuda.syncthreads()

    @cuda.jit
    def backward_taps(
        kernel, offset_v, offset_h, area, w, height, width, scale, size, first, channels, pixels, grad_lr,
        grad_kernel, grad_v, grad_h,
    ):  # fmt: skip
        # Eq. 4-6: each corner is projected on the upstream gradient, then they are interpolated
        there, n, at, i, j = lr_pixel(area, w)
        base_v, base_h = at_rest(i, scale, first), at_rest(j, scale, first)
        last_v, last_h = last_before(height), last_before(width)
        groups = (channels + LANES - 1) // LANES
        step, across = uint64(area), int32(width)
        for group in range(groups if there else 0):
            image = shifted(pixels, (n * groups + group) * height * width * LANES)
            first_plane = uint64((n * channels + group * LANES) * area + at)
            g_0, g_1, g_2, g_3 = four_channels(grad_lr, first_plane, step, channels - group * LANES)
            row = cuda.threadIdx.y
            while row < size:
                place = uint64((n * size + row) * size * area + at)
                v, u = base_v + real(int32(row)), base_h
                weight, down, aside = tap_at(kernel, offset_v, offset_h, place)
                left = int32(size)
                while left > 0:
                    left = int32(left - 1)
                    ahead = place + (step if left > 0 else uint64(0))
                    next_weight, next_down, next_aside = tap_at(kernel, offset_v, offset_h, ahead)
                    y, beta, moves_v = locate(v + down, last_v)
                    x, alpha, moves_h = locate(u + aside, last_h)
                    above, below = four_pixels(image, y, x, across)
                    p_0, p_1, p_2, p_3, q_0, q_1, q_2, q_3 = above
                    r_0, r_1, r_2, r_3, s_0, s_1, s_2, s_3 = below
                    upper = p_0 * g_0 + p_1 * g_1 + p_2 * g_2 + p_3 * g_3
                    lower = r_0 * g_0 + r_1 * g_1 + r_2 * g_2 + r_3 * g_3
                    step_upper = q_0 * g_0 + q_1 * g_1 + q_2 * g_2 + q_3 * g_3 - upper
                    step_lower = s_0 * g_0 + s_1 * g_1 + s_2 * g_2 + s_3 * g_3 - lower
                    upper, lower = upper + alpha * step_upper, lower + alpha * step_lower
                    to_kernel = upper + beta * (lower - upper)
                    to_v = weight * (lower - upper) if moves_v else zero
                    to_h = weight * (step_upper + beta * (step_lower - step_upper)) if moves_h else zero
                    if group > 0:  # the same thread wrote the sum so far
                        to_kernel += read(grad_kernel, place)
                        to_v += read(grad_v, place)
                        to_h += read(grad_h, place)
                    write(grad_kernel, place, to_kernel)
                    write(grad_v, place, to_v)
                    write(grad_h, place, to_h)
                    u += one
                    place, weight, down, aside = ahead, next_weight, next_down, next_aside
                row += cuda.blockDim.y

    @cuda.jit
    def bound(kernel, offset_v, offset_h, area, w, height, width, scale, size, first, channels, grad_lr, bounds):
        """What one LR pixel can at most give to a channel of hr, taps and gradients that are not finite left out."""
        shares = cuda.shared.array((PARTS, ACROSS), float64)
        there, n, at, _, _ = lr_pixel(area, w)
        weights = 0.0
        for tap in range(cuda.threadIdx.y, size * size if there else 0, cuda.blockDim.y):
            weight = abs(float64(constant(kernel, uint64((n * size * size + tap) * area + at))))
            weights += weight if math.isfinite(weight) else 0.0
        shares[cuda.threadIdx.y, cuda.threadIdx.x] = weights
        cuda.syncthreads()
        if there and cuda.threadIdx.y == 0:
            weights, largest = 0.0, 0.0
            for other in range(cuda.blockDim.y):
                weights += shares[other, cuda.threadIdx.x]
            for c in range(channels):
                gradient = abs(float64(read(grad_lr, uint64((n * channels + c) * area + at))))
                largest = gradient if math.isfinite(gradient) and gradient > largest else largest
            write(bounds, uint64(n * area + at), weights * largest)

    @cuda.jit
    def scatter(
        kernel, offset_v, offset_h, area, w, height, width, scale, size, first, channels, grad_lr, units,
        rows, columns, pad, total, bad,
    ):  # fmt: skip
        # the transpose of Eq. 2-3 with respect to hr, in units of fixed point
        there, n, at, i, j = lr_pixel(area, w)
        base_v, base_h = at_rest(i, scale, first), at_rest(j, scale, first)
        last_v, last_h = last_before(height), last_before(width)
        pad, row_count, column_count = int32(pad), int32(rows), int32(columns)
        unit = constant_64(units, uint64(n))
        for row in range(cuda.threadIdx.y, size if there else 0, cuda.blockDim.y):
            place = uint64((n * size + row) * size * area + at)
            v, u = base_v + real(int32(row)), base_h
            for _ in range(size):
                y, beta, _ = locate(v + constant(offset_v, place), last_v)
                x, alpha, _ = locate(u + constant(offset_h, place), last_h)
                above, below = source(y, pad, row_count), source(int32(y + 1), pad, row_count)
                left, right = source(x, pad, column_count), source(int32(x + 1), pad, column_count)
                weight = constant(kernel, place)
                for c in range(channels):
                    whole = weight * read(grad_lr, uint64((n * channels + c) * area + at))
                    lower = whole * beta
                    upper = whole - lower
                    for corner in range(4):
                        share = upper if corner < 2 else lower
                        to_right = share * alpha
                        share = share - to_right if corner % 2 == 0 else to_right
                        y_of, x_of = above if corner < 2 else below, left if corner % 2 == 0 else right
                        target = uint64(((n * channels + c) * rows + y_of) * columns + x_of)
                        if math.isfinite(share):
                            add(total, target, int64(float64(share) * unit))
                        else:
                            write(bad, target, uint8(1))
                u += one
                place += uint64(area)

    return SimpleNamespace(lay_out=lay_out, forward=forward, backward_taps=backward_taps, bound=bound, scatter=scatter)
