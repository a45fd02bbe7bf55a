"""PSNR and SSIM of super-resolved images, under three protocols whose numbers must not be mixed.

standard     what nearly every paper prints. Float images are clipped and rounded to 8 bit; a border of `scale` pixels
             is shaved; colour is compared on the luma Y of BT.601 studio swing,
                 Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255,    R, G, B in 0..255,    not rounded.
             Grey images are compared as they are, full range. MATLAB's rgb2ycbcr gives the same for colour, but a grey
             image stored as RGB would be compressed to 219 of 255 levels and read 20 log10(255/219) = 1.32 dB higher:
             Set14 has one grey image (bridge), so its average is 1.32 / 14 = 0.09 dB lower here, as in the paper.
             SSIM: Wang et al. 2004 as in MATLAB's ssim_index: Gaussian window 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03,
             data range 255, mean over the valid region, on Y after the shave.
car-release  what the released code of CAR measures (sunwj/CAR at 05b2277, utils.py and run.py; facts read there, code
             not copied). Float images are clipped and TRUNCATED to 8 bit. The difference is weighted with
             (65.738, 129.057, 25.064) / 255 where these numbers belong over 256, so its gain is 219.859 / 255 = 0.86219
             instead of 219 / 255 = 0.85882: PSNR reads 0.034 dB low, and truncation costs another 0.03 dB at 34 dB,
             0.1 dB at 39 dB. SSIM on Y as skimage's rgb2ycbcr gives it (the Y above), same window, but over the whole
             shaved image with a symmetric border. The code reads RGB only, so a grey image counts as R = G = B.
rgb          rounded as in "standard", shaved, over the three channels at once; SSIM is the mean over the channels.

The PSNR of a set is the mean of its images' PSNR.
"""

import numbers

import numpy as np

PROTOCOLS = ("standard", "car-release", "rgb")

_Y_STANDARD = np.array([65.481, 128.553, 24.966]) / 255
_Y_RELEASE = np.array([65.738, 129.057, 25.064]) / 255  # the numbers belong over 256: the release's slip, kept
_WINDOW = 11


def psnr(reference, image, scale, protocol="standard"):
    """Peak signal-to-noise ratio 10 log10(255^2 / MSE) of `image` against `reference`.

    Args:
        reference: (H, W) or (H, W, 3) uint8, the HR image.
        image:     same shape; uint8, or float in [0, 1] (values beyond are clipped).
        scale:     the downscaling factor: that many pixels are shaved off each side; 0 shaves nothing.
        protocol:  one of PROTOCOLS, see the module's docstring.
    Returns:
        dB as a float; inf for identical images.
    Raises:
        ValueError: shapes or dtypes that do not fit, NaN, an image that the shave uses up, an unknown protocol.
    """
    reference, image = _pair(reference, image, scale, protocol)
    if protocol == "car-release":
        difference = (_rgb(reference) - _rgb(image)) @ _Y_RELEASE
    elif protocol == "rgb":
        difference = reference.astype(np.float64) - image
    else:
        difference = luma(reference) - luma(image)
    mse = np.mean(difference**2)
    return float(10 * np.log10(255**2 / mse)) if mse > 0 else float("inf")


def ssim(reference, image, scale, protocol="standard"):
    """Structural similarity (Wang et al. 2004) of `image` and `reference`; arguments and errors as in `psnr`.

    Returns:
        the mean of the SSIM map as a float, 1.0 for identical images.
    Raises:
        ValueError: as `psnr`, or less than 11 x 11 pixels are left after the shave.
    """
    reference, image = _pair(reference, image, scale, protocol)
    height, width = reference.shape[:2]
    if min(height, width) < _WINDOW:
        raise ValueError(f"{height}x{width} pixels are left after the shave, SSIM needs 11x11; use a larger image")
    if protocol == "rgb" and reference.ndim == 3:
        return float(np.mean([_ssim_map(reference[..., c], image[..., c])[5:-5, 5:-5].mean() for c in range(3)]))
    if protocol == "car-release":
        return float(_ssim_map(luma(_rgb(reference)), luma(_rgb(image))).mean())
    return float(_ssim_map(luma(reference), luma(image))[5:-5, 5:-5].mean())


def luma(image):
    """Luma Y of BT.601 studio swing, as MATLAB's and skimage's rgb2ycbcr, in float64 and not rounded.

    Args:
        image: (H, W, 3) on the scale 0..255 (uint8, or float of that range), or (H, W) grey.
    Returns:
        (H, W) float64 in [16, 235] for colour; a grey image comes back as it is, full range.
    Raises:
        ValueError: another shape.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        return image.astype(np.float64)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image has shape {image.shape}; give (H, W) or (H, W, 3)")
    return 16 + image.astype(np.float64) @ _Y_STANDARD


def _ssim_map(x, y):
    """(H, W) map of SSIM with a symmetric border; [5:-5, 5:-5] of it is the valid region."""
    from skimage.metrics import structural_similarity

    # with sigma 1.5 skimage's Gaussian is 11 x 11; MATLAB's ssim_index takes the biased covariance
    return structural_similarity(x.astype(np.float64), y.astype(np.float64), data_range=255, gaussian_weights=True,
                                 sigma=1.5, use_sample_covariance=False, K1=0.01, K2=0.03, full=True)[1]  # fmt: skip


def check_protocol(protocol):
    """Refuse what is none of PROTOCOLS."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; use one of {', '.join(PROTOCOLS)}")


def _pair(reference, image, scale, protocol):
    """Both images checked, in 8 bit and shaved."""
    check_protocol(protocol)
    if isinstance(scale, bool) or not isinstance(scale, numbers.Integral) or scale < 0:
        raise ValueError(f"scale is {scale!r}, not a whole number of at least 0")
    scale = int(scale)  # an unsigned NumPy integer has no negative
    reference, image = np.asarray(reference), np.asarray(image)
    if reference.dtype != np.uint8:
        raise ValueError(f"reference has dtype {reference.dtype}; give the HR image as uint8")
    if reference.ndim not in (2, 3) or (reference.ndim == 3 and reference.shape[2] != 3):
        raise ValueError(f"reference has shape {reference.shape}; give (H, W) or (H, W, 3)")
    if image.shape != reference.shape:
        raise ValueError(f"image is {image.shape} and reference {reference.shape}; crop them to the same shape")
    if min(reference.shape[:2]) <= 2 * scale:
        raise ValueError(f"image is {image.shape[0]}x{image.shape[1]}, a border of {scale} pixels leaves nothing; "
                         "use a larger image")  # fmt: skip
    image = _to_uint8(image, truncate=protocol == "car-release")
    inside = slice(scale, -scale or None)
    return reference[inside, inside], image[inside, inside]


def _to_uint8(image, truncate):
    """uint8 as it is; float in [0, 1] clipped, times 255, rounded or truncated."""
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise ValueError(f"image has dtype {image.dtype}; give uint8, or float in [0, 1]")
    if not np.isfinite(image).all():
        raise ValueError("image holds NaN or infinite values; the upscaler has diverged or the file is damaged")
    if image.mean() > 2:
        raise ValueError(f"image has a mean of {image.mean():g}, a float image is in [0, 1]; divide it by 255")
    levels = np.clip(image, 0, 1).astype(np.promote_types(image.dtype, np.float32)) * 255
    return (levels if truncate else np.rint(levels)).astype(np.uint8)


def _rgb(image):
    """(H, W, 3) float64; grey as R = G = B."""
    image = image.astype(np.float64)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
