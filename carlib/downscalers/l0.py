"""L0-regularised image downscaling, after Liu, He and Lau, IEEE TIP 27(3), 2018 (doi 10.1109/TIP.2017.2772838).

This is NOT the authors' code and no port of it: no readable solver is public. It is our own reading of what is said of
the method (two priors, solved alternately: "gradient-ratio" with an L0 norm, and "reconstruction" with a learned kernel
over neighbouring pixels; lambda = 2e-4 and kappa = 2 in the released driver). For the LR image S and the HR image H,
both in [0, 1], and the kernels k:

    min  |U S - H|^2 / scale^2 + lambda |grad S|_0

Reconstruction: U makes each HR pixel of the LR pixel of its block and the eight around that one, with a 3x3 kernel for
each place in a block. It begins as bilinear interpolation blurred by [1 2 1] / 4 in HR pixels; then it is fitted.
Gradient ratio: as many differences of neighbours are kept as are above sqrt(lambda) in H, in proportion, so that the
number of edges falls with the square of the scale; of the others those are set to 0 that cost more than they explain.
Half-quadratic splitting (Xu et al. 2011), beta growing by kappa: differences g, |g|^2 < lambda / beta, become 0, then

    S = argmin |U S - H|^2 / scale^2 + beta |grad S - g|^2

by a cosine transform: images continue as their mirror images, and there both terms are convolutions.
"""

from numbers import Real

import numpy as np

from carlib.downscalers.l0_reconstruction import autocorrelation, explained, fitted, smoothed_bilinear
from carlib.ops.blocks import block_sums, parts
from carlib.ops.compiled import compiled, threads

VARIANTS = ("reconstruction", "surrogate")
_ROUNDS = 2  # the kernel at the start, and once fitted
_HALF_LEVEL = (0.5 / 255) ** 2  # a squared difference that 8 bits do not show
_LEAST_KAPPA = 1.01  # 1200 steps a round; at 1 there is no end
_NOISE = 1e-3  # of the surrogate's inverse filter


def l0(image, scale, variant="reconstruction", lambda_=2e-4, kappa=2.0):
    """Downscale by our reconstruction of the L0-regularised method, or by a linear filter as sharp as its results.

    Neither is the authors' method. Bits per pixel as in Table 5 of the CAR paper (lossless JPEG 2000), x2 and x4:

                       Set5           Set14          B100
        printed        16.10  17.41   15.07  15.19   15.31  15.59
        reconstruction 16.24  17.63   15.40  15.24   14.99  15.51
        surrogate      16.13  17.44   15.15  15.12   15.31  15.61
        bicubic        11.99  14.78   11.23  12.61   11.00  12.83

    The blur at the start and the form of the gradient ratio were chosen among 20 settings with the printed values of
    Set5 and Set14 in view, so that agreement there shows little; B100 was measured once, afterwards. Sizes tell how
    much detail there is, not whether it is the same.

    At x2 both ring visibly beside edges, and that is the price of such sizes. S undoes what U smooths, and the blurred
    U leaves of an LR wave at Nyquist's frequency a quarter of its amplitude an axis: S has 2.8 times as much of it as
    H, at x4 1.5 times. A step from 64 to 192 between two LR pixels becomes 63 78 13 243 178 193 (x4: 65 65 44 212 191
    192; surrogate, x2: 61 76 17 239 180 195; bicubic: 64 63 73 184 194 192), and 8 % of Set5's values 0 or 255
    (surrogate 5 %, bicubic 0.3 %). With a U that is not blurred it is 65 65 43 213 191 191 and 3 %, but Set5 takes
    14.48 bits, 1.6 fewer than printed. Whether the authors' images ring as much cannot be told from sizes.

    Args:
        image:   uint8 (H, W) or (H, W, C), sides multiples of `scale`.
        scale:   whole number >= 2.
        variant: "reconstruction", the module's; "surrogate": block means B, sharpened by K / (K^2 + 0.001) where K is
                 a Gaussian of sigma LR pixels, sigma^2 = 0.2475 + 0.4552 / scale^2: fitted to the sizes of Set5 at x2
                 (0.601) and x4 (0.525) alone, a line through two points elsewhere. lambda_ and kappa play no part.
        lambda_: price of a difference, 0 to 1; the authors' program offers 2e-4 to 2e-2.
        kappa:   growth of beta, >= 1.01; the authors' program offers 2 to 8.
    Returns:
        uint8 (H/scale, W/scale[, C]); a grey image gives what it would give as RGB, within one level. Flipped images
        give flipped results, exactly, because all four are computed the same way up.
    Raises:
        ValueError: an unknown variant, lambda_ or kappa out of range.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r} of l0 is unknown: use one of {', '.join(VARIANTS)}")
    if not _is_number(lambda_) or not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda={lambda_!r} of l0 is not a number from 0 to 1")
    if not _is_number(kappa) or not _LEAST_KAPPA <= kappa < np.inf:
        raise ValueError(f"kappa={kappa!r} of l0 is not a finite number of at least {_LEAST_KAPPA}, such as 2")
    planes = image if image.ndim == 3 else image[..., None]
    if variant == "surrogate":
        lr = _same_way_up(planes, lambda image: _sharpen(image, scale))
    else:
        lr = _same_way_up(planes, lambda image: _solve(image, scale, float(lambda_), float(kappa)))
    return lr.reshape(lr.shape[: image.ndim])


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _same_way_up(image, method):
    """`method`, a float image in [0, 1], rounded to 8 bits, made to commute with flips.

    Fourier transforms add in an order that no flip keeps. So of the four flipped images the same one is always taken,
    and what is symmetric is made exactly so.
    """
    flips = [(slice(None, None, v), slice(None, None, h)) for v in (1, -1) for h in (1, -1)]
    chosen = min(flips, key=lambda flip: image[flip].tobytes())
    upright = np.ascontiguousarray(image[chosen])
    lr = method(upright)
    for flip in flips[1:]:
        if np.array_equal(upright[flip], upright):
            lr = (lr + lr[flip]) / 2
    return (np.clip(lr * 255, 0, 255) + 0.5).astype(np.uint8)[chosen]


def _block_means(image, scale):
    rows, columns = (parts(n, n // scale) for n in image.shape[:2])
    return (block_sums(image, rows, columns) / (255 * scale**2)).astype(np.float32)


def _sharpen(image, scale):
    from scipy.fft import dctn, idctn

    means = _block_means(image, scale)
    taps = np.arange(-4, 5)
    gauss = np.exp(-(taps**2) / (2 * (0.2475 + 0.4552 / scale**2)))
    blur = _spectrum(np.outer(gauss, gauss) / gauss.sum() ** 2, means.shape)
    gain = (1 + _NOISE) * blur / (blur**2 + _NOISE)  # 1 for a constant
    return idctn(dctn(means, axes=(0, 1)) * gain[..., None], axes=(0, 1))


def _spectrum(kernel, shape):
    """float32 (h, w): factors of the cosine transform of an image under convolution with a symmetric kernel."""
    reach = len(kernel) // 2
    cosines = [np.cos(np.pi / n * np.outer(np.arange(n), np.arange(-reach, reach + 1))) for n in shape[:2]]
    return (cosines[0] @ kernel @ cosines[1].T).astype(np.float32)


def _solve(image, scale, price, kappa):
    """S, float32."""
    from scipy.fft import dctn, idctn

    transform = {"axes": (0, 1), "workers": threads(), "overwrite_x": True}
    at_start = kernels = smoothed_bilinear(scale)
    padded = np.pad(image, [(scale, scale), (scale, scale), (0, 0)], mode="symmetric")
    shape = (image.shape[0] // scale, image.shape[1] // scale, image.shape[2])
    slope = _spectrum(np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]), shape)
    edges = _share_of_edges(image, price)
    lr = None
    for _ in range(_ROUNDS):
        if lr is not None:
            kernels = fitted(lr, image, scale, at_start)
        energy = _spectrum(autocorrelation(kernels), shape)
        data = dctn(explained(padded, kernels, shape), **transform)
        if lr is None or price == 0:  # without a price beta has nowhere to grow, and S fits these kernels at once
            lr = idctn(data / energy[..., None], **transform)
        beta = 2 * price
        while beta * _HALF_LEVEL < price:  # beyond, only differences would go that 8 bits do not show
            threshold = _threshold(lr, price / beta, edges)
            kept = dctn(_bend_of_kept(lr, threshold), **transform)
            kept *= beta
            kept += data
            kept /= (energy + np.float32(beta) * slope)[..., None]
            lr = idctn(kept, **transform)
            beta *= kappa
    return lr


def _share_of_edges(image, price):
    """Share of the neighbours in an HR image that differ by at least sqrt(price)."""
    height, width, channels = image.shape
    count = _count_edges(image, price * 255**2 * channels / 3)
    return count / max(height * (width - 1) + (height - 1) * width, 1)


@compiled()
def _count_edges(image, least):
    count = 0
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            count += i > 0 and _squared(image[i, j], image[i - 1, j]) >= least
            count += j > 0 and _squared(image[i, j], image[i, j - 1]) >= least
    return count


def _threshold(lr, threshold, edges):
    """`threshold`, lowered until the share `edges` of all differences reaches it."""
    squared = _squared_differences(lr)
    kept = int(edges * squared.size)
    if kept and np.count_nonzero(squared >= threshold) < kept:
        threshold = np.partition(squared, squared.size - kept)[squared.size - kept]
    return threshold


def _squared_differences(lr):
    """|g|^2 of all neighbours, beside and below; a grey image counts as three channels."""
    height, width, channels = lr.shape
    squared = np.empty(height * (width - 1) + (height - 1) * width, np.float32)
    beside, below = squared[: height * (width - 1)], squared[height * (width - 1) :]
    _write_differences(lr, np.float32(3 / channels), beside.reshape(height, -1), below.reshape(-1, width))
    return squared


@compiled()
def _write_differences(lr, factor, beside, below):
    for i in range(lr.shape[0]):
        for j in range(lr.shape[1]):
            if j > 0:
                beside[i, j - 1] = factor * _squared(lr[i, j], lr[i, j - 1])
            if i > 0:
                below[i - 1, j] = factor * _squared(lr[i, j], lr[i - 1, j])


@compiled()
def _squared(one, other):
    """Squared distance over the channels; float32 holds that of 8-bit levels exactly."""
    total = np.float32(0)
    for c in range(one.shape[0]):
        difference = np.float32(one[c]) - np.float32(other[c])
        total += difference * difference
    return total


def _bend_of_kept(lr, threshold):
    """grad^T g: of each pixel, the sum of its differences from those neighbours where |g|^2 >= threshold."""
    bend = np.zeros_like(lr)
    _add_kept(lr, np.float32(3 / lr.shape[2]), np.float32(threshold), bend)
    return bend


@compiled()
def _add_kept(lr, factor, threshold, bend):
    for i in range(lr.shape[0]):
        for j in range(lr.shape[1]):
            for y, x in ((i - 1, j), (i, j - 1)):
                if y >= 0 and x >= 0 and factor * _squared(lr[i, j], lr[y, x]) >= threshold:
                    for c in range(lr.shape[2]):
                        difference = lr[i, j, c] - lr[y, x, c]
                        bend[i, j, c] += difference
                        bend[y, x, c] -= difference
