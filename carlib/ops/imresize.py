"""Image resizing as MATLAB's `imresize` does it (the paper: "MATLAB's imresize function with default settings").

Output pixel i of an axis with factor r = n_out / n_in has its centre at u = (i + 0.5) / r - 0.5 in the input, and

    out[i] = sum_j w[i, j] in[j],    w[i, j] = k(q (u - j)) / sum_j k(q (u - j)),    q = min(r, 1)

and q = 1 without antialiasing. Beyond the border the image continues as its mirror image with the edge repeated. The
axis with the smaller factor goes first, rows on a tie. uint8 is rounded and saturated after each axis: that is what
MATLAB does, and it moves some pixels by a level. Evidence: tests/test_imresize.py, against files that MATLAB wrote.
"""

import math
import numbers

import numpy as np

_MOST_PIXELS = 1 << 31  # of a result: 46341 x 46341
_LARGEST = 1 << 27  # entries of the table of weights of one axis: 1 GB; a sane request needs about 10 a pixel
_TIE = 1e-9  # levels: a tie is one whatever the order of the sum, so flipped images give flipped results
_BLOCK = 1 << 17  # input values turned into float64 at a time: 1 MB, stays in the cache of a core


def _cubic(x):
    """Keys' cubic with a = -0.5."""
    t = np.abs(x)
    inner = (1.5 * t - 2.5) * t**2 + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, inner, np.where(t <= 2, outer, 0.0))


def _linear(x):
    return np.maximum(1 - np.abs(x), 0.0)


def _box(x):
    return np.where((x >= -0.5) & (x < 0.5), 1.0, 0.0)


def _lanczos2(x):
    return np.where(np.abs(x) < 2, np.sinc(x) * np.sinc(x / 2), 0.0)


def _lanczos3(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


# name -> (function, width of its support)
_KERNELS = {"cubic": (_cubic, 4), "linear": (_linear, 2), "box": (_box, 1), "lanczos2": (_lanczos2, 4),
            "lanczos3": (_lanczos3, 6)}  # fmt: skip


def imresize(image, scale=None, size=None, kernel="cubic", *, antialias=True):
    """Resize `image` as MATLAB's `imresize(image, scale or size, kernel)` does, bit for bit on uint8.

    Args:
        image:     (H, W) or (H, W, C) array: uint8, or float of any range (gamma-coded values are resized as they are).
        scale:     output / input size, e.g. 0.25 to downscale by four, 4 to enlarge; the output has ceil(n * scale)
                   pixels an axis. Give either `scale` or `size`.
        size:      (H_out, W_out); the two axes then may have different factors, out / in.
        kernel:    "cubic" (a = -0.5), "linear" (triangle), "box", "lanczos2" or "lanczos3".
        antialias: widen the kernel when an axis shrinks.
    Returns:
        (H_out, W_out) or (H_out, W_out, C) of the dtype of `image`. uint8 is rounded (half away from zero) and
        saturated after each axis; floats are summed in float64 and neither rounded nor clipped.
    Raises:
        ValueError: an empty or non-finite image, a dtype other than these, both or none of `scale` and `size`, a factor
            or size that is not positive or is out of all proportion, an unknown kernel.
    """
    image = _checked(image)
    factors, sizes = _geometry(image.shape[:2], scale, size)
    for axis in sorted((0, 1), key=lambda a: factors[a]):  # stable: rows first on a tie
        weights, indices = contributions(image.shape[axis], sizes[axis], factors[axis], kernel, antialias)
        image = _resize_axis(image, weights, indices, axis)
    return image


def contributions(n_in, n_out, scale, kernel="cubic", antialias=True):
    """Which input pixels of one axis make each output pixel, and with what weight.

    Args:
        n_in, n_out: number of pixels of the axis in the input and in the output, at least 1.
        scale:       factor of the axis, usually n_out / n_in (not where n_out was rounded up from n_in * scale).
        kernel, antialias: as in `imresize`.
    Returns:
        weights: (n_out, taps) float64, every row sums to 1; taps that no row uses are dropped.
        indices: (n_out, taps) int64 in [0, n_in), mirrored at the border; an index may occur twice in a row.
    Raises:
        ValueError: an unknown kernel, a size or a factor that is not positive.
    """
    if kernel not in _KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; use one of {', '.join(_KERNELS)}")
    n_in, n_out, scale = _positive_int(n_in, "n_in"), _positive_int(n_out, "n_out"), _positive(scale)
    function, width = _KERNELS[kernel]
    squeeze = scale if antialias and scale < 1 else 1.0
    width = width / squeeze
    if n_out * width > _LARGEST:
        raise ValueError(f"scale {scale:g} from {n_in} to {n_out} pixels needs too much memory; use a milder scale")
    centre = np.arange(1, n_out + 1) / scale + 0.5 * (1 - 1 / scale) - 1
    first = np.floor(centre - width / 2 + 1) - 1
    taps = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = function(squeeze * (centre[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    used = (weights != 0).any(axis=0)
    mirrored = taps[:, used].astype(np.int64) % (2 * n_in)
    return weights[:, used], np.minimum(mirrored, 2 * n_in - 1 - mirrored)


def _resize_axis(image, weights, indices, axis):
    """Weighted sums along `axis` (0 or 1), rounded to uint8 where the image is uint8."""
    from scipy.sparse import csr_array

    n_out, taps = weights.shape
    # CSR keeps the order of the taps and double entries, so the sums are those of the formula, left to right
    matrix = csr_array((weights.ravel(), indices.ravel(), np.arange(n_out + 1) * taps),
                       shape=(n_out, image.shape[axis]))  # fmt: skip
    source = np.moveaxis(image, axis, 0)
    out = np.empty((*image.shape[:axis], n_out, *image.shape[axis + 1 :]), image.dtype)
    target = np.moveaxis(out, axis, 0)
    step = max(1, _BLOCK * source.shape[1] // source.size)
    for start in range(0, source.shape[1], step):
        block = source[:, start : start + step].astype(np.float64, order="C")
        sums = (matrix @ block.reshape(len(block), -1)).reshape(n_out, *block.shape[1:])
        if image.dtype == np.uint8:
            np.clip(sums, 0, 255, out=sums)
            # half away from zero: negative sums are 0 by now, and storing as uint8 cuts the fraction off
            sums += 0.5 + _TIE
        target[:, start : start + step] = sums
    return out


def _geometry(shape, scale, size):
    """((r_vertical, r_horizontal), (H_out, W_out)) from either argument."""
    if (scale is None) == (size is None):
        raise ValueError(f"give either scale or size, got scale={scale!r} and size={size!r}")
    if size is not None:
        try:
            height, width = size
        except (TypeError, ValueError):
            raise ValueError(f"size is (H_out, W_out), got {size!r}") from None
        sizes = _positive_int(height, "H_out"), _positive_int(width, "W_out")
        factors = sizes[0] / shape[0], sizes[1] / shape[1]
    else:
        factors = (_positive(scale),) * 2
        sizes = tuple(math.ceil(n * r) for n, r in zip(shape, factors, strict=True))
    if math.prod(sizes) > _MOST_PIXELS:
        raise ValueError(f"the result would have {sizes[0]}x{sizes[1]} pixels, too much memory; choose a smaller one")
    return factors, sizes


def _positive(scale):
    """`scale` as a float."""
    if isinstance(scale, bool | np.bool_) or not isinstance(scale, numbers.Real) or not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale!r}, not a positive number; use e.g. 0.25 to downscale by 4, or 4 to enlarge")
    return float(scale)


def _positive_int(value, name):
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}, not a whole number of at least 1 pixel")
    return int(value)


def _checked(image):
    """`image` as an array that the door accepts."""
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"image has shape {image.shape}; give a non-empty (H, W) or (H, W, C) array")
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise ValueError(f"image has dtype {image.dtype}; convert it to uint8 or to a float type first")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError("image holds NaN or infinite values; replace them first")
    return image
