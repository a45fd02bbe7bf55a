"""Fourier spectra of HR and LR images, and how much of an LR image is aliasing (the paper's Fig. 6).

An LR image of `scale` holds the frequencies below 1/2 cycle per LR pixel on each axis, its Nyquist square. Beyond the
border images continue as their mirror image, as in MATLAB's imresize, so the transform is the DCT-II, and with the
half-pixel alignment u = scale m + (scale - 1) / 2 of LR pixel m the ideal (sinc) downscale is that transform cut off:

    Y0[k] = X[k] / scale,    |k| inside the Nyquist square          cos(pi k (2u + 1) / 2N) = cos(pi k (2m + 1) / 2M)

A linear filter H followed by decimation gives Y = H Y0 + folded frequencies: only the second part is aliasing, the
first is a gain per frequency, be it blur, sharpening or a shift of the grid. Two measures keep them apart:

aliasing  needs the two images alone: the residual of the LR image after the best linear filter of the alias-free one.
folded    needs the downscaler D: D(hr) - D(band_limited(hr)), exact for a linear D whatever its filter is.
"""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from carlib.metrics import luma

REACH = 3  # of the fitted filter, LR pixels each way: 7 x 7 taps
_NOISE = 1e-9  # grey levels squared; 8-bit rounding alone makes 1/12
_FLOOR = 1e-3  # of decibels(): -30 dB, well below 8-bit rounding's -11 dB


@dataclass(frozen=True)
class Aliasing:
    """Parts of an LR image's energy, which is its variance in (grey levels)^2, so the mean does not count.

    share:    aliasing / energy of the LR image, 0..1.
    kept:     rest of the energy / energy of the alias-free downscale; below 1 blurred, above 1 sharpened.
    residual: (h - 2 REACH, w - 2 REACH) float64, the aliasing as an image, in grey levels.
    """

    share: float
    kept: float
    residual: np.ndarray


def aliasing(hr, lr, scale):
    """How much of the luma of `lr` no linear filter of the alias-free downscale of `hr` explains (least squares).

    The filter has 7 x 7 taps h on the LR grid: a gain per frequency, smooth and as complex as a small shift needs, that
    spends 49 numbers on all pixels. The border of REACH pixels is left out. What remains is,
    - for a linear filter followed by decimation, the energy of the folded frequencies, but for what 49 taps cannot
      follow of H near Nyquist, and for those parts of the folded image that look like the alias-free one;
    - for an adaptive downscaler (DPID, L0, CAR) everything that it does not do to all pixels alike: the frequencies
      that it folds, and what it changes from place to place.
    8-bit rounding adds about 1/12 (grey level)^2 to the residual.

    Args:
        hr: (H, W) or (H, W, 3), grey levels 0..255, uint8 or float; sides multiples of `scale`.
        lr: (H/scale, W/scale[, 3]), likewise; at least 16 x 16.
    Returns:
        Aliasing.
    Raises:
        ValueError: the shapes do not fit, `lr` is too small, `scale` is below 1, or a value is not finite.
    """
    wanted, seen = alias_free(hr, scale), _luma(lr)
    if seen.shape != wanted.shape:
        raise ValueError(f"lr is {seen.shape[0]}x{seen.shape[1]}, hr at scale={scale} makes {wanted.shape[0]}x"
                         f"{wanted.shape[1]}: give the LR image of this HR image")  # fmt: skip
    if min(seen.shape) < 16:
        raise ValueError(f"lr is {seen.shape[0]}x{seen.shape[1]}, aliasing needs 16x16: use a larger image")
    inside = slice(REACH, -REACH)
    seen = _centred(seen[inside, inside])
    energy, ideal_energy = np.mean(seen**2), np.var(wanted[inside, inside])
    residual = seen - _best_filter(_centred(wanted), seen)
    left = np.mean(residual**2)
    share = left / energy if energy > _NOISE else 0.0
    kept = (energy - left) / ideal_energy if ideal_energy > _NOISE else np.nan
    return Aliasing(float(share), float(kept), residual)


def alias_free(hr, scale):
    """Luma of the ideal downscale: all frequencies of the LR grid's Nyquist square as they are, no other.

    Args:
        hr: (H, W) or (H, W, 3), grey levels 0..255; sides multiples of `scale`.
    Returns:
        (H/scale, W/scale) float64 grey levels, neither rounded nor clipped (it rings).
    Raises:
        ValueError: `scale` is below 1 or no whole number, a side no multiple of it, or a value not finite.
    """
    from scipy.fft import dctn, idctn

    height, width = _lr_size(hr, scale)
    return idctn(dctn(_luma(hr), norm="ortho")[:height, :width], norm="ortho") / scale


def band_limited(hr, scale):
    """`hr` without the frequencies beyond the LR grid's Nyquist square: what an LR image can hold, at HR size.

    Args:
        hr: (H, W) or (H, W, 3) uint8; sides multiples of `scale`.
    Returns:
        same shape, uint8: rounded, and clipped where it rings beyond 0..255.
    Raises:
        ValueError: as `alias_free`.
    """
    from scipy.fft import dctn, idctn

    height, width = _lr_size(hr, scale)
    _check_finite(hr)
    transformed = dctn(hr.astype(np.float64), axes=(0, 1), norm="ortho")
    transformed[height:] = transformed[:, width:] = 0
    return np.clip(np.rint(idctn(transformed, axes=(0, 1), norm="ortho")), 0, 255).astype(np.uint8)


def folded(lr, lr_of_band_limited):
    """Energy share that frequencies beyond Nyquist leave in an LR image: |D(hr) - D(band_limited(hr))|^2 / |D(hr)|^2.

    Exact for a linear downscaler D up to rounding and clipping. For an adaptive one it is all that changes in the LR
    image when these frequencies are taken away: what they fold into, and what they make it do to the frequencies below
    Nyquist.

    Args:
        lr, lr_of_band_limited: (h, w) or (h, w, 3), grey levels; their luma is compared.
    Returns:
        0 for none; not bounded by 1.
    """
    seen, energy = _luma(lr), np.var(_luma(lr))
    return float(np.mean((seen - _luma(lr_of_band_limited)) ** 2) / energy) if energy > _NOISE else 0.0


def folded_colour(lr, lr_of_band_limited) -> float:
    """|D(hr) - D(band_limited(hr))|^2 summed over Y, Cb and Cr (BT.601), in (grey levels)^2: `folded`, colour included.

    Not a share of each channel's energy: Cb and Cr hold so little that any share of it is large.

    Args:
        lr, lr_of_band_limited: (h, w) or (h, w, 3), grey levels.
    """
    from skimage.color import rgb2ycbcr

    _check_finite(lr)
    if lr.ndim == 2:
        return float(np.mean((_luma(lr) - _luma(lr_of_band_limited)) ** 2))
    difference = rgb2ycbcr(lr) - rgb2ycbcr(lr_of_band_limited)
    return float((difference**2).sum(2).mean())


def power_spectrum(image, pixel=1.0):
    """Centred power spectrum of an image's luma, under a Hann window after its mean is removed.

    An image is not periodic: without the window the jump between opposite borders draws a bright cross over every
    spectrum. The mean is removed first, else the window spreads it over the frequencies beside 0.

    Args:
        image: (H, W) or (H, W, 3), grey levels 0..255.
        pixel: side of its pixels in LR pixels: 1/scale for an HR image, which makes its levels those of its LR images.
    Returns:
        (H, W) float64 in (grey levels)^2 per (cycle/LR pixel)^2, frequency 0 at [H//2, W//2]. Noise of variance v in
        each pixel has the mean level v pixel^2, whatever the size of the image.
    """
    seen = _luma(image)
    window = np.outer(*(np.hanning(side + 2)[1:-1] for side in seen.shape))
    transformed = np.fft.fft2((seen - np.average(seen, weights=window)) * window)
    return np.fft.fftshift(np.abs(transformed) ** 2) * pixel**2 / np.sum(window**2)


def decibels(power):
    """10 log10 of a power spectrum, not below -30 dB (8-bit rounding makes -11 dB)."""
    return 10 * np.log10(np.maximum(power, _FLOOR))


def radial_average(power, pixel=1.0, width=1 / 48):
    """Mean power in rings about frequency 0, which itself is left out.

    Args:
        power: (H, W) of `power_spectrum`.  pixel: as there.
        width: of a ring, cycles per LR pixel.
    Returns:
        frequency (n,) of the middle of each ring in cycles per LR pixel, and its mean power (n,). The Nyquist frequency
        is 0.5; from there to 0.71 rings hold the corners of an LR image's square only. Empty rings are left out.
    """
    vertical, horizontal = (np.fft.fftshift(np.fft.fftfreq(side, pixel)) for side in power.shape)
    radius = np.hypot(vertical[:, None], horizontal)
    ring = np.floor(radius / width).astype(int)[radius > 0]
    count, total = np.bincount(ring), np.bincount(ring, power[radius > 0])
    here = np.flatnonzero(count)
    return (here + 0.5) * width, total[here] / count[here]


def richest(hr, scale, side):
    """Where an image holds most energy that its LR image cannot: the square crop in which aliasing shows best.

    Args:
        hr:   (H, W) or (H, W, 3) uint8; sides multiples of `scale`.
        side: of the square in HR pixels, a multiple of `scale`; cut to the image.
    Returns:
        [top, left, height, width] in HR pixels, multiples of `scale`.
    """
    lost = (_luma(hr) - _luma(band_limited(hr, scale))) ** 2
    height, width = (min(side, length) for length in lost.shape)
    sums = np.pad(lost.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    sums = sums[::scale, ::scale]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return [int(top) * scale, int(left) * scale, height, width]


def _best_filter(image, target):
    """The linear filter of `image` nearest to `target`, which is REACH pixels smaller on each side; no constant."""
    size = 2 * REACH + 1
    views = np.lib.stride_tricks.sliding_window_view(image, target.shape)  # (size, size, *target.shape)
    taps = views.reshape(size * size, -1)  # a copy
    taps = taps - taps.mean(1, keepdims=True)
    # Where the image has no power any gain would do; noise of _NOISE in every tap makes it 0 there.
    gram = taps @ taps.T + taps.shape[1] * _NOISE * np.eye(len(taps))
    kernel = np.linalg.solve(gram, taps @ target.ravel())
    return (kernel @ taps).reshape(target.shape)


def _centred(image):
    return image - image.mean()


def _luma(image):
    _check_finite(image)
    return luma(image)


def _check_finite(image):
    if not np.isfinite(image).all():
        raise ValueError("an image holds NaN or infinite values: replace them first")


def _lr_size(hr, scale):
    if isinstance(scale, bool) or not isinstance(scale, Integral) or scale < 1:
        raise ValueError(f"scale={scale!r} is not a whole number >= 1")
    height, width = np.shape(hr)[:2]
    if height % scale or width % scale:
        raise ValueError(f"hr is {height}x{width}, not a multiple of scale={scale}; crop it first")
    return height // scale, width // scale
