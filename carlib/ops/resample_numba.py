"""The resampling operator on the CPU: compiled loops (resample_kernels.py), nothing larger than inputs and gradients.

The image is laid out as (n, groups, rows, columns, 4 channels), reflected border included and one pixel wider at the
far rims, so that the right and lower neighbours of a position exist and two pixels of a row are one vector of eight.
A few images are laid out at a time: the layout is all that is needed beside inputs and results.

Every number is written, or added up in a fixed order, by one thread: the same bits on every run, whatever the number
of threads. For the gradient of hr a thread owns a band of rows and looks through all LR pixels that reach into it; with
as many images as threads, or a multiple, a band is a whole image and nothing is looked at twice.

The floor is set by kernel and offsets, 12 bytes a tap and LR pixel in float32 (75 MB at x4 for 16 patches of 192 px and
13x13 taps): forward reads them, the gradients of the taps read and write them, hr's gradient reads them again: 48 bytes
a tap. The image is small beside them. So memory decides as much as work does (per tap two loads of 32 bytes forward,
two in the gradients of the taps, two loads and stores for hr): kernel and offsets are fetched a tap ahead, and a
gradient written the usual way would be fetched first, so that 16 MiB or more of them are written past the caches. Two
threads of an EPYC that read 11.5 GB/s could be done in 20 ms (x2, 16 patches of 96 px and 7x7 taps: 5.6) without hr's
gradient; they take 40 (12). On one thread it is work: forward at x2 takes 7.5 cycles a tap and LR pixel, 6.1 with all
in its own caches.
`carlib bench operator` tells how far from the rival that is, with and without hr's gradient.
"""

import math
from functools import lru_cache

import numba
import numpy as np
import torch

from carlib.ops.compiled import as_array, use_torch_threads
from carlib.ops.precision import working_dtype
from carlib.ops.resample import reflect_indices
from carlib.ops.resample_kernels import (
    LANES,
    STREAMED,
    backward_image,
    backward_taps,
    blocks_of,
    copy_padded,
    fold,
    reach,
)
from carlib.ops.resample_kernels import forward as forward_taps

_AT_ONCE = 2**20  # bytes of images laid out at a time, more where the threads would have no image each
_PAST_CACHES = 2**24  # bytes of gradients of taps; fewer may still lie in a cache for whom they are made


def forward(hr, kernel, offset_v, offset_h, geometry):
    """lr of `carlib.resample` for CPU tensors; the arguments have been checked there."""
    dtype = working_dtype(hr, kernel, offset_v, offset_h)
    use_torch_threads()
    image, taps = as_array(hr, dtype), [_planes(t, dtype) for t in (kernel, offset_v, offset_h)]
    lr = np.empty((*image.shape[:2], taps[0].shape[2]), image.dtype)
    numbers = _numbers(geometry, kernel.shape[2:], image.dtype)
    for some in _portions(image.shape, geometry, dtype):
        padded = _lay_out(image[some], geometry)
        forward_taps(padded, *(t[some] for t in taps), *numbers, lr[some])
    return torch.from_numpy(lr).view(*hr.shape[:2], *kernel.shape[2:]).to(hr.dtype)


def backward(grad_lr, hr, kernel, offset_v, offset_h, geometry, needed):
    """Gradients of hr, kernel, offset_v and offset_h, None where not `needed`."""
    dtype = working_dtype(hr, kernel, offset_v, offset_h)
    use_torch_threads()
    image, (upstream, *taps) = as_array(hr, dtype), [_planes(t, dtype) for t in (grad_lr, kernel, offset_v, offset_h)]
    numbers = _numbers(geometry, kernel.shape[2:], image.dtype)
    of_image = np.empty_like(image) if needed[0] else None
    of_taps = [np.empty_like(t) for t in taps] if any(needed[1:]) else [None] * 3
    streams = any(needed[1:]) and _streams(of_taps)
    for some in _portions(image.shape, geometry, dtype):
        arguments = *(t[some] for t in taps), *numbers, upstream[some]
        if any(needed[1:]):
            padded = _lay_out(image[some], geometry)
            backward_taps(padded, *arguments, streams, *(t[some] for t in of_taps))
            del padded  # before the gradient of the image is laid out
        if needed[0]:
            _backward_image(arguments, geometry, of_image[some])
    found = zip((of_image, *of_taps), (hr, kernel, offset_v, offset_h), needed, strict=True)
    return [torch.from_numpy(a).view(t.shape).to(t.dtype) if need else None for a, t, need in found]


def _planes(tensor, dtype):
    return as_array(tensor, dtype).reshape(*tensor.shape[:2], -1)


def _streams(arrays) -> bool:
    """Whether gradients are written past the caches: together they are _PAST_CACHES bytes or more, and the address of
    every fourth LR pixel is divisible by STREAMED.
    """
    aligned = not any(array.ctypes.data % STREAMED for array in arrays)
    return aligned and arrays[0].shape[2] % 4 == 0 and sum(a.nbytes for a in arrays) >= _PAST_CACHES


@lru_cache(maxsize=4)  # asked for twice in every update of a training
def _numbers(geometry, sides, dtype):
    """Where tap 0 of each LR pixel lies without offset, in padded pixels, down and right; K; the rule of the border."""
    rows, columns = ((np.arange(n) + 0.5) * geometry.scale - 0.5 - geometry.centre + geometry.pad for n in sides)
    rest = np.repeat(rows, len(columns)).astype(dtype), np.tile(columns, len(rows)).astype(dtype)
    return *rest, geometry.size, geometry.release_border


def _portions(shape, geometry, dtype):
    """Slices of the images laid out at a time: the same number for each thread, as many as fit into _AT_ONCE."""
    threads = numba.get_num_threads()
    bytes_of_one = math.prod(_padded_shape(shape, *_sources(shape[-2:], geometry.pad))[1:]) * dtype.itemsize
    step = threads * max(1, _AT_ONCE // (threads * bytes_of_one))
    return [slice(first, first + step) for first in range(0, shape[0], step)]


@lru_cache(maxsize=4)  # of a tiny image, a third of the time
def _sources(sides, pad):
    """HR row and column behind each padded row and column; the last one twice, so that a right neighbour exists."""
    ranges = [reflect_indices(-pad, n - 1 + pad, n).numpy() for n in sides]
    return tuple(np.append(r, r[-1]) for r in ranges)


def _padded_shape(shape, rows, columns):
    return shape[0], math.ceil(shape[1] / LANES), len(rows), len(columns), LANES


def _lay_out(image, geometry):
    rows, columns = _sources(image.shape[-2:], geometry.pad)
    padded = np.empty(_padded_shape(image.shape, rows, columns), image.dtype)
    copy_padded(image, rows, columns, geometry.pad, np.zeros(image.shape[3], image.dtype), padded)
    return padded


def _backward_image(arguments, geometry, grad_hr):
    rows, columns = _sources(grad_hr.shape[-2:], geometry.pad)
    grad_padded = np.empty(_padded_shape(grad_hr.shape, rows, columns), grad_hr.dtype)
    n, _, height = grad_padded.shape[:3]
    threads = numba.get_num_threads()
    bands = threads // math.gcd(n, threads)  # of each image: as many for each thread
    _, offset_v, _, rest_v, _, size, *_ = arguments
    spans = np.zeros((n, blocks_of(offset_v.shape[2]), 2), np.int32)
    if bands == 1:
        spans[..., 1] = height
    else:
        reach(offset_v, rest_v, size, height, spans)
    backward_image(*arguments, spans, bands, grad_padded)
    order = np.argsort(rows, kind="stable")
    first = np.searchsorted(rows[order], np.arange(grad_hr.shape[2] + 1))
    fold(grad_padded, order, first, columns, grad_hr)
