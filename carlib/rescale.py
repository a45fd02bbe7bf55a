"""The two doors for a user's own image: downscale it, and upscale it again.

"car" needs both sides to agree: an LR image made by one CAR model is restored by the upscaler trained with that model
(sunwj/CAR issue 23: CAR's upscaler on bicubic LR is 10 dB worse). The shipped pairs are data/weights/car-edsr-x2|x4.
"""

from functools import lru_cache
from numbers import Integral
from pathlib import Path

import numpy as np

from carlib import results
from carlib.ops.imresize import imresize

_FILTERS = {"bicubic": "cubic", "lanczos": "lanczos3", "box": "box"}
DOWNSCALERS = (*_FILTERS, "car")
UPSCALERS = ("bicubic", "lanczos", "edsr", "car")


def downscale(image, scale, method="car", *, pad=False, weights=None):
    """Downscale an 8-bit image by a whole factor.

    Args:
        image:   uint8 (H, W) or (H, W, 3) RGB.
        scale:   whole number >= 2; "car" has the scales of its weights (shipped: 2 and 4).
        method:  "car", "bicubic" (MATLAB's imresize), "lanczos" (lobes 3) or "box".
        pad:     continue an image whose sides are not multiples of `scale` by reflection, instead of refusing it; the
                 LR image is then ceil(H/scale) x ceil(W/scale) and `upscale(..., size=(H, W))` gives the size back.
        weights: "car": a weights file of a trained run, default the shipped CAR + EDSR of this scale.
    Returns:
        uint8 (H/scale, W/scale[, 3]).
    Raises:
        ValueError: image, scale or method do not fit; a side is no multiple of `scale` and pad is False.
    """
    _check_image(image)
    scale = _check_scale(scale)
    if method not in DOWNSCALERS:
        raise ValueError(f"downscaling method {method!r} is unknown: use one of {', '.join(DOWNSCALERS)}")
    if weights is not None and method != "car":
        raise ValueError(f"method {method!r} has no weights: leave weights out, or use method car")
    image = _to_multiple(image, scale, pad)
    if method in _FILTERS:
        return imresize(image, 1 / scale, kernel=_FILTERS[method])
    networks = _networks(weights or _shipped(f"car-edsr-x{scale}"), scale)
    if "resampler" not in networks:
        raise ValueError(f"{weights} holds no resampler: it belongs to an upscaler trained on bicubic LR")
    return car_downscale(networks["resampler"], image)


def upscale(image, scale, method="car", size=None, *, weights=None):
    """Enlarge an 8-bit image by a whole factor.

    Args:
        image:   uint8 (h, w) or (h, w, 3) RGB; for "car" an LR image made by `downscale` with the same weights.
        scale:   whole number >= 2; "car" and "edsr" have the scales of their weights (shipped: 2 and 4).
        method:  "car": the SR network trained jointly with CAR; "edsr": the same network trained on bicubic LR;
                 "bicubic" or "lanczos" (MATLAB's imresize).
        size:    (H, W) of the original image: what was padded is cut off. None keeps h*scale x w*scale.
        weights: "car", "edsr": a weights file of a trained run, default the shipped one.
    Returns:
        uint8 (h*scale, w*scale[, 3]) or of `size`.
    Raises:
        ValueError: image, scale or method do not fit, or `size` does not belong to this LR image.
    """
    _check_image(image)
    scale = _check_scale(scale)
    if method not in UPSCALERS:
        raise ValueError(f"upscaling method {method!r} is unknown: use one of {', '.join(UPSCALERS)}")
    if weights is not None and method in _FILTERS:
        raise ValueError(f"method {method!r} has no weights: leave weights out, or use method car or edsr")
    height, width = _check_size(image, scale, size)
    if method in _FILTERS:
        return imresize(image, scale, kernel=_FILTERS[method])[:height, :width]
    run = f"{'car' if method == 'car' else 'bicubic'}-edsr-x{scale}"
    upscaler = _networks(weights or _shipped(run), scale)["upscaler"]
    sr = restore(upscaler, image)[:height, :width]
    return np.rint(sr * 255).astype(np.uint8)


def car_downscale(resampler, hr):
    """uint8 (H, W[, 3]) -> uint8 (H/scale, W/scale[, 3]) through a ResamplerNet; grey stays grey, exactly."""
    import torch

    from carlib.ops.quantize import quantize

    with torch.inference_mode():
        lr = quantize(_finite(resampler.downscale(to_tensor(hr, _device(resampler)))[0], "resampler"))
    image = (lr[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(image[..., 0] if hr.ndim == 2 else image)


def restore(upscaler, lr):
    """uint8 (h, w[, 3]) -> float32 in [0, 1], (h*scale, w*scale[, 3]); of a grey image the result's luma."""
    import torch

    with torch.inference_mode():
        sr = _finite(upscaler(to_tensor(lr, _device(upscaler))), "upscaler")
    sr = sr[0].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return sr @ np.array([0.299, 0.587, 0.114], np.float32) if lr.ndim == 2 else sr


def _finite(image, network):
    """`image` itself; what is not a number would become black without a word."""
    if not image.isfinite().all():
        raise ValueError(f"the {network} made values that are not finite: its weights are damaged or have diverged")
    return image


def to_tensor(image, device="cpu"):
    """uint8 (H, W[, 3]) -> float32 (1, 3, H, W) in [0, 1]."""
    import torch

    from carlib.data import to_colour

    return torch.tensor(np.ascontiguousarray(to_colour(image)), device=device).permute(2, 0, 1)[None].float() / 255


def _device(network):
    tensor = next(network.parameters(), None)
    return "cpu" if tensor is None else tensor.device


def _networks(path, scale):
    path = Path(path)
    stamp = path.stat().st_mtime_ns if path.is_file() else None
    networks, found = _load(path, stamp)
    if found != scale:
        raise ValueError(f"{path} is for scale {found}, not {scale}: choose other weights or another scale")
    return networks


@lru_cache(maxsize=4)
def _load(path, stamp):
    from carlib import weights

    networks, metadata = weights.load_run(path)
    if "upscaler" not in networks:
        raise ValueError(f"{path} holds no upscaler: it is not the weights file of a run")
    return networks, metadata["networks"]["upscaler"]["scale"]


def _shipped(run) -> Path:
    folder = results.root() / "data" / "weights"
    path = folder / f"{run}.safetensors"
    if not path.is_file():
        here = ", ".join(sorted(p.stem for p in folder.glob("*.safetensors"))) or "none"
        raise ValueError(f"no shipped weights {run} (there are: {here}): use another scale or pass weights=")
    return path


def _check_image(image):
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"the image is a {type(image).__name__}, not a NumPy array: read it with carlib.data.read_image"
        )
    if image.dtype != np.uint8:
        nan = " and holds NaN" if image.dtype.kind == "f" and np.isnan(image).any() else ""
        raise ValueError(f"the image is {image.dtype}{nan}, not uint8: round it to 0..255 first")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise ValueError(f"the image has shape {image.shape}, expected (H, W) or (H, W, 3)")


def _check_scale(scale) -> int:
    if isinstance(scale, bool) or not isinstance(scale, Integral) or scale < 2:
        raise ValueError(f"scale={scale!r} is not a whole number >= 2")
    return int(scale)  # NumPy's narrow integers overflow


def _to_multiple(image, scale, pad):
    height, width = image.shape[:2]
    extra = [-n % scale for n in (height, width)]
    if not any(extra):
        return image
    if not pad:
        raise ValueError(
            f"the image is {width}x{height} (width x height), not a multiple of scale={scale}: crop it, or pad it to "
            f"{width + extra[1]}x{height + extra[0]} with pad (--pad)"
        )
    return np.pad(image, [(0, extra[0]), (0, extra[1]), (0, 0)][: image.ndim], mode="symmetric")


def _check_size(image, scale, size):
    whole = tuple(n * scale for n in image.shape[:2])
    if size is None:
        return whole
    if not isinstance(size, tuple | list) or not all(isinstance(n, Integral) for n in size):
        raise ValueError(f"size={size!r} is not (height, width) in whole pixels")
    if len(size) != 2 or any(not full - scale < n <= full for n, full in zip(size, whole, strict=True)):
        raise ValueError(
            f"size={tuple(size)} (height, width) does not belong to an LR image of {image.shape[0]}x{image.shape[1]} "
            f"at scale={scale}: it must be {whole[0] - scale + 1}..{whole[0]} x {whole[1] - scale + 1}..{whole[1]}"
        )
    return tuple(size)
