"""The content adaptive resampling operator (CAR, TIP 2020, Eq. 1-6): one kernel and one set of offsets per LR pixel.

    v = (i + 1/2) * scale - 1/2,  u = (j + 1/2) * scale - 1/2                                              (Eq. 1)
    lr[i, j] = sum over taps (a, b) of  kernel[a*K + b, i, j]
               * hr(v + a - c + offset_v[a*K + b, i, j],  u + b - c + offset_h[a*K + b, i, j])             (Eq. 2)
    hr(y, x) between pixels is bilinear                                                                    (Eq. 3)

The half tap c is (K - 1)/2 with taps="symmetric" (for odd K the released code's floor(K/2)), K/2 with taps="paper" (as
printed, which is off centre by half a pixel). Outside the image hr is continued by reflection (without repeating the
edge pixel) for `pad` pixels, by default floor(K/2); positions beyond that take the value at the pad's rim. With
border="release" they do so as the released code does: the fraction is taken before the position is clamped, so beyond
the top and left rim two pixels are mixed. The paper prints the row and column weights of Eq. 3 and 6 swapped; here the
vertical fraction weighs rows.

Four ways to compute the same thing: "reference" is the formula, a tap at a time, under autograd, for any number of
derivatives; "torch" (ops/resample_torch.py) is for any device; "numba" (ops/resample_numba.py) is compiled for the CPU,
"cuda" (ops/resample_cuda.py) for Nvidia's GPUs, also by numba. The last three keep nothing for the backward pass but
their arguments and are one operator of PyTorch's (ops/resample_op.py), which torch.compile and torch.export accept.
tests/test_resample.py and tests/test_resample_cuda.py hold each against the one before.
"""

import numbers

import torch

from carlib.ops.precision import working_dtype
from carlib.ops.resample_op import Geometry, resample_op

_MOST_PIXELS = 2**31  # of a padded image: they are counted in 32 bits
_LONGEST_SIDE = 2**24  # positions in float32 tell pixels apart up to here
IMPLEMENTATIONS = ("auto", "reference", "torch", "numba", "cuda")


def resample(hr, kernel, offset_v, offset_h, *, scale, impl="auto", pad=None, taps="symmetric", border="replicate"):
    """Downscale `hr` by `scale` with one kernel and one set of offsets per LR pixel (Eq. 1-3).

    Args:
        hr:       (N, C, H, W) float; any range, usually [0, 1].
        kernel:   (N, K*K, H/scale, W/scale) tap weights, row-major over the K x K taps; used as given, not normalised.
        offset_v: same shape; vertical (downward) shift of each tap in HR pixels.
        offset_h: same shape; horizontal (rightward) shift of each tap in HR pixels.
        scale:    integer >= 1.
        impl:     "auto" (numba on a CPU, cuda on an Nvidia GPU where numba's compiler for it is installed, else torch),
                  "reference", "torch", "numba" or "cuda".
        pad:      width of the reflected border in HR pixels, default floor(K/2); may exceed the image.
        taps:     "symmetric" (centred for every K; the released code for odd K) or "paper" (i - K/2, as printed).
        border:   beyond the pad: "replicate", or "release" for the released code's rule (see the module).
    Returns:
        lr, (N, C, H/scale, W/scale), the dtype of hr; not clamped, not quantised. Differentiable in all four tensors;
        twice, forward (torch.func.jvp) and under torch.func's transforms only by impl="reference".
        Offsets must be finite; to look at all of them in every call would be too dear. A tap whose offset is NaN makes
        its LR pixel NaN, an infinite one makes it NaN or takes the rim's value (implementations differ); no other pixel
        is touched. `carlib.downscale` and training refuse what is not finite.
    Raises:
        ValueError: a shape, dtype, device or option does not fit, or `impl` cannot run here.
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl={impl!r} is unknown: use one of {', '.join(IMPLEMENTATIONS)}")
    for name, tensor in {"hr": hr, "kernel": kernel, "offset_v": offset_v, "offset_h": offset_h}.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} is a {type(tensor).__name__}, not a torch.Tensor: convert it first")
    if not _is_whole(scale) or scale < 1:
        raise ValueError(f"scale={scale!r} is not a whole number >= 1")
    scale = int(scale)
    size = _check(hr, kernel, offset_v, offset_h, scale)
    if taps not in ("symmetric", "paper"):
        raise ValueError(f'taps={taps!r} is unknown: use "symmetric" or "paper"')
    if border not in ("replicate", "release"):
        raise ValueError(f'border={border!r} is unknown: use "replicate" or "release"')
    if pad is not None and (not _is_whole(pad) or pad < 0):
        raise ValueError(f"pad={pad!r} is not a whole number of pixels >= 0")
    pad = size // 2 if pad is None else int(pad)
    height, width = (n + 2 * pad for n in hr.shape[-2:])
    if (height + 1) * (width + 1) >= _MOST_PIXELS or max(height, width) >= _LONGEST_SIDE:
        raise ValueError(f"with pad={pad} the image is {height}x{width}, too large: use a smaller pad, or tiles")
    geometry = Geometry(
        scale=scale,
        size=size,
        pad=pad,
        centre=(size - 1) / 2 if taps == "symmetric" else size / 2,
        release_border=border == "release",
    )
    if impl == "reference":
        return _reference(hr, kernel, offset_v, offset_h, geometry)
    return resample_op(hr, kernel, offset_v, offset_h, geometry, impl)


def _is_whole(number) -> bool:
    """Whether it is an integer or a float without fraction; a bool, nan, an infinity or a tensor is not."""
    if isinstance(number, numbers.Integral):
        return not isinstance(number, bool)
    return isinstance(number, float) and number.is_integer()


def _check(hr, kernel, offset_v, offset_h, scale) -> int:
    """K, once every shape fits."""
    if hr.ndim != 4 or kernel.ndim != 4:
        raise ValueError(
            f"hr {tuple(hr.shape)} and kernel {tuple(kernel.shape)} must be (N, C, H, W) and (N, K*K, H/scale, W/scale)"
        )
    n, channels, height, width = hr.shape
    if n == 0 or channels == 0:
        raise ValueError(f"hr {tuple(hr.shape)} holds no image")
    if height % scale or width % scale or 0 in hr.shape:
        raise ValueError(f"hr is {height}x{width}, not a positive multiple of scale={scale}: crop or pad it first")
    size = round(kernel.shape[1] ** 0.5)
    if size * size != kernel.shape[1] or size == 0:
        raise ValueError(f"kernel has {kernel.shape[1]} channels, not K*K for a whole K")
    expected = (n, size * size, height // scale, width // scale)
    for name, tensor in {"kernel": kernel, "offset_v": offset_v, "offset_h": offset_h}.items():
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, expected {expected} for hr {tuple(hr.shape)}, scale={scale}"
            )
        if tensor.device != hr.device:
            raise ValueError(f"{name} is on {tensor.device}, hr on {hr.device}: move them to one device")
    for name, tensor in {"hr": hr, "kernel": kernel, "offset_v": offset_v, "offset_h": offset_h}.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, not floating point: convert it (images to [0, 1]) first")
    return size


def reflect_indices(first: int, last: int, n: int, device=None) -> torch.Tensor:
    """Source index in 0..n-1 of every position first..last, by reflection without repeating the edge, of any width."""
    period = max(2 * (n - 1), 1)
    position = torch.arange(first, last + 1, device=device) % period
    return torch.minimum(position, period - position) if n > 1 else torch.zeros_like(position)


def reflect_pad(hr, pad):
    """(N, C, H + 2 pad, W + 2 pad): the image continued by reflection, of any width."""
    rows, columns = (reflect_indices(-pad, n - 1 + pad, n, hr.device) for n in hr.shape[-2:])
    return hr.index_select(2, rows).index_select(3, columns)


def _reference(hr, kernel, offset_v, offset_h, geometry):
    """Eq. 2 as printed, one tap after the other, differentiated by autograd."""
    return sum_of_taps(hr, kernel, offset_v, offset_h, geometry, together=1)


def sum_of_taps(hr, kernel, offset_v, offset_h, geometry, together):
    """Eq. 2, `together` taps at a time."""
    work = working_dtype(hr, kernel, offset_v, offset_h)
    padded = reflect_pad(hr.to(work), geometry.pad)
    lr = 0
    for first in range(0, geometry.size**2, together):
        taps = slice(first, first + together)
        v, u = positions(offset_v[:, taps].to(work), offset_h[:, taps].to(work), first, geometry)
        lr = lr + (kernel[:, None, taps].to(work) * _bilinear(padded, v, u, geometry)).sum(2)
    return lr.to(hr.dtype)


def positions(offset_v, offset_h, first, geometry):
    """Rows and columns of the T taps from number `first` on, in padded pixels: all four (N, T, h, w)."""
    tap = torch.arange(first, first + offset_v.shape[1], device=offset_v.device)

    def at_rest(n, place):  # (T, n): Eq. 1 and the tap's place in the kernel
        centre = (torch.arange(n, device=offset_v.device, dtype=offset_v.dtype) + 0.5) * geometry.scale - 0.5
        return centre + (place.to(offset_v.dtype) - geometry.centre + geometry.pad)[:, None]

    v = at_rest(offset_v.shape[2], tap // geometry.size)[None, :, :, None] + offset_v
    u = at_rest(offset_v.shape[3], tap % geometry.size)[None, :, None, :] + offset_h
    return v, u


def _bilinear(padded, v, u, geometry):
    """Eq. 3 at rows v and columns u, each (N, T, h, w), in padded pixels: (N, C, T, h, w)."""
    top, bottom, fraction_v = neighbours(v, padded.shape[2], geometry)
    left, right, fraction_h = neighbours(u, padded.shape[3], geometry)

    def pixels(row, column):
        flat = (row * padded.shape[3] + column).flatten(1)[:, None].expand(-1, padded.shape[1], -1)
        return padded.flatten(2).gather(2, flat).unflatten(2, v.shape[1:])

    fraction_v, fraction_h = fraction_v[:, None], fraction_h[:, None]
    upper = (1 - fraction_h) * pixels(top, left) + fraction_h * pixels(top, right)
    lower = (1 - fraction_h) * pixels(bottom, left) + fraction_h * pixels(bottom, right)
    return (1 - fraction_v) * upper + fraction_v * lower


def neighbours(position, padded_length, geometry):
    """The two padded indices beside each position and the fraction between them."""
    if not geometry.release_border:
        position = position.clamp(0, padded_length - 1)
    floor = position.detach().floor()
    before = floor.long().clamp(0, padded_length - 1)
    return before, (before + 1).clamp(max=padded_length - 1), position - floor
