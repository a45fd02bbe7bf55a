"""The two doors for a user's own image: downscale it, and upscale it again.

"car" needs both sides to agree: an LR image made by one CAR model is restored by the upscaler trained with that model
(sunwj/CAR issue 23: CAR's upscaler on bicubic LR is 10 dB worse). So do all learned downscalers; the shipped weights of
each are those of method_networks.PAIRS.
"""

from functools import partial
from numbers import Integral

import numpy as np

from carlib import memory, method_networks, pixels, tiles
from carlib.ops.imresize import imresize

_FILTERS = {"bicubic": "cubic", "lanczos": "lanczos3", "box": "box"}
DOWNSCALERS = (*_FILTERS, "perceptual", "dpid", "l0", *method_networks.PAIRS)
UPSCALERS = ("bicubic", "lanczos", *method_networks.EDSR, "zssr", *method_networks.PAIRS)
_OPTIONS = {
    "perceptual": ("variant",),
    "dpid": ("lambda", "rounding"),
    "l0": ("variant", "lambda"),
    **dict.fromkeys((*method_networks.PAIRS, *method_networks.EDSR), ("weights", "tile", "device", "precision")),
    "zssr": ("steps", "seconds", "seed", "progress", "device"),
}
_SIZED = (*_FILTERS, "dpid")
_MOST_PIXELS = 1 << 28  # of a padded image: 16384 x 16384, 0.8 GB

# The classical downscalers by the names that runs and tables use: what each means to `downscale`.
CLASSICAL = {
    "bicubic": {"method": "bicubic"},
    "lanczos": {"method": "lanczos"},
    "box": {"method": "box"},
    "perceptual": {"method": "perceptual"},
    "perceptual-as-published": {"method": "perceptual", "variant": "as-published"},
    "dpid": {"method": "dpid"},
    "dpid-0.5": {"method": "dpid", "lambda_": 0.5},
    "l0": {"method": "l0"},
    "l0-surrogate": {"method": "l0", "variant": "surrogate"},
}


def classical(name):
    """A classical downscaler as a function: uint8 (H, W[, 3]), scale -> uint8 (H/scale, W/scale[, 3]).

    Raises:
        ValueError: `name` is none of CLASSICAL.
    """
    if name not in CLASSICAL:
        raise ValueError(f"downscaler {name!r} is unknown: use one of {', '.join(CLASSICAL)}")
    return partial(downscale, **CLASSICAL[name])


def file_of(name) -> str:
    """The file of the package that holds a classical downscaler."""
    method = CLASSICAL[name]["method"]
    return "ops/imresize.py" if method in _FILTERS else f"downscalers/{method}.py"


def downscale(
    image, scale=None, method="car", *, size=None, pad=False, weights=None, tile=None, device=None, variant=None,
    lambda_=None, rounding=None,
):  # fmt: skip
    """Downscale an 8-bit image by a whole factor, or to any smaller size.

    Args:
        image:    uint8 (H, W) or (H, W, 3) RGB.
        scale:    whole number >= 2; learned methods have the scales of their weights (shipped: 2 and 4, of "car",
                  "car-lean" and "car-jpeg" 3 and 8, too).
        method:   "car", "bicubic" (MATLAB's imresize), "lanczos" (lobes 3), "box", "perceptual", "dpid" or "l0"
                  (carlib.downscalers); learned as "car" is: "cnn-cr", "tad", "irn" (carlib.models), "car-lean", CAR
                  whose LR images are on average smaller PNGs than bicubic ones, and "car-jpeg" for LR images that are
                  to be stored as JPEG (trained on qualities of 10 to 95; one kernel for all pixels).
        size:     (h, w) in place of `scale`: "bicubic", "lanczos", "box" and "dpid" take any up to (H, W).
        pad:      continue an image whose sides are not multiples of `scale` by its mirror image, not refuse it; the
                  LR image is then ceil(H/scale) x ceil(W/scale) and `upscale(..., size=(H, W))` gives the size back.
        weights:  of the learned methods: a weights file of a trained run, default the shipped one of this scale
                  (of CAR that with EDSR).
        tile:     of the same methods: an image of more than tile x tile pixels is computed in parts about so wide, each
                  with a margin as wide as the network sees, so that no seam is left (carlib/tiles.py). Default 1024; 0:
                  always whole.
        device:   of the same methods: "cpu", "cuda", ...; "auto", the default, takes a GPU where there is one.
        variant:  "perceptual": "paper" (default) or "as-published"; "l0": "reconstruction" (default) or "surrogate".
        lambda_:  "dpid": 0 to 100, default 1.0, the CAR paper 0.5; "l0": price of an edge, default 2e-4.
        rounding: "dpid": "nearest" (default) or "truncate".
    Returns:
        uint8 (H/scale, W/scale[, 3]) or (h, w[, 3]).
    Raises:
        ValueError: image, scale, size or method do not fit; the method has no such option; a side is no multiple of
            `scale` and pad is False; the device cannot be used; `tile` is given and the network sees too far for parts.
        MemoryError: the image, or a part, is too large for the machine.
    """
    from carlib.data import check_image

    check_image(image)
    if method not in DOWNSCALERS:
        best = "that is carlib.choice.best" if method == "best" else f"use best or one of {', '.join(DOWNSCALERS)}"
        raise ValueError(f"downscaling method {method!r} is unknown: {best}")
    options = {
        "weights": weights, "tile": tile, "device": device, "variant": variant, "lambda": lambda_, "rounding": rounding,
    }  # fmt: skip
    options = _given(method, options, DOWNSCALERS)
    if size is not None:
        size = _check_smaller(image, size, method, scale, pad)
        return _fit(image, size, method, options)
    scale = _check_scale(scale)
    # Before the image's size: where a scale has no weights, none would help.
    networks = None
    if method in method_networks.PAIRS:
        networks = method_networks.of_method(method, scale, weights=weights, device=device)
    image = _to_multiple(image, scale, pad)
    if method in _SIZED:
        return _fit(image, tuple(n // scale for n in image.shape[:2]), method, options)
    if method == "perceptual":
        from carlib.downscalers.perceptual import perceptual

        return perceptual(image, scale, **options)
    if method == "l0":
        from carlib.downscalers.l0 import l0

        return np.ascontiguousarray(l0(image, scale, **options))
    network = method_networks.downscaler_of(networks)
    if network is None:
        raise ValueError(f"{weights} holds no resampler: it belongs to an upscaler trained on bicubic LR")
    return learned_downscale(network, image, tile)


def _given(method, options, methods) -> dict:
    """The options that are not None, as arguments; refused where the method has none of that name (others may)."""
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := [name for name in given if name not in _OPTIONS.get(method, ())]:
        name = unknown[0]
        those = " or ".join(other for other in methods if name in _OPTIONS.get(other, ()))
        raise ValueError(f"method {method!r} has no {name}: leave {name} out, or use method {those}")
    if given.get("variant") == "surrogate" and "lambda" in given:
        raise ValueError("variant 'surrogate' of l0 has no lambda: leave lambda out, or use variant reconstruction")
    return {"lambda_" if name == "lambda" else name: value for name, value in given.items()}


def _fit(image, size, method, options):
    """The methods that take any size."""
    if method in _FILTERS:
        return imresize(image, size=size, kernel=_FILTERS[method])
    from carlib.downscalers.dpid import dpid

    return dpid(image, size, **options)


def upscale(
    image, scale, method="car", size=None, *, weights=None, tile=None, device=None, precision=None, steps=None,
    seconds=None, seed=None, progress=None,
):  # fmt: skip
    """Enlarge an 8-bit image by a whole factor.

    Args:
        image:   uint8 (h, w) or (h, w, 3) RGB; for learned methods an LR image made by `downscale` with the same
                 method and weights.
        scale:   whole number >= 2; networks have the scales of their weights (shipped: 2 and 4, of "car", "car-lean",
                 "car-jpeg", "edsr" and "edsr-jpeg" 3 and 8, too).
        method:  "car", "car-lean", "car-jpeg": the SR network trained jointly with that CAR; "edsr": the same network
                 trained on bicubic LR, "edsr-jpeg" on bicubic LR stored as JPEG; "bicubic" or "lanczos" (MATLAB's
                 imresize); "cnn-cr", "tad": the upscaler trained with it; "irn"; "zssr": a network trained on this very
                 image, which takes minutes (`carlib.zssr.restore`).
        size:    (H, W) of the original image: what was padded is cut off. None keeps h*scale x w*scale.
        weights: of all but "bicubic", "lanczos" and "zssr": a weights file of a trained run, default the shipped one.
        tile:    of the same methods: the result is computed in parts about so wide if it has more than tile x tile
                 pixels, as by `downscale`. Default 1024; 0: always whole.
        device:  of all but "bicubic" and "lanczos", as of `downscale`.
        precision: of the methods with weights: "float32" (default), or "bfloat16", in which networks compute faster on
                 GPUs and on processors that have it (on others far slower). A fifth of the 8-bit numbers is then
                 another by 1 or 2, and Set5's PSNR, 36 to 43 dB at x2, by up to 0.05.
        steps, seconds, seed, progress: of "zssr", as in `carlib.zssr.restore`; None: its defaults.
    Returns:
        uint8 (h*scale, w*scale[, 3]) or of `size`.
    Raises:
        ValueError: image, scale or method do not fit, the method has no such option, or `size` does not belong to
            this LR image; the device cannot be used; `tile` is given and the network sees too far for parts.
        MemoryError: the image, or a part, is too large for the machine.
    """
    from carlib.data import check_image

    check_image(image)
    scale = _check_scale(scale)
    if method not in UPSCALERS:
        raise ValueError(f"upscaling method {method!r} is unknown: use one of {', '.join(UPSCALERS)}")
    options = {
        "weights": weights, "tile": tile, "device": device, "precision": precision, "steps": steps, "seconds": seconds,
        "seed": seed, "progress": progress,
    }  # fmt: skip
    options = _given(method, options, UPSCALERS)
    height, width = _check_size(image, scale, size)
    whole = _by_method(image, scale, method, **options)
    return np.ascontiguousarray(whole[:height, :width])


def _by_method(image, scale, method, *, weights=None, tile=None, device="auto", precision=None, **of_zssr):
    """uint8, scale times as large; arguments as of `upscale`, checked there."""
    if method in _FILTERS:
        return imresize(image, scale, kernel=_FILTERS[method])
    if precision not in (None, "float32", "bfloat16"):
        raise ValueError(f"precision={precision!r} is unknown: use float32 or bfloat16")
    if method == "zssr":
        from carlib import zssr

        return zssr.restore(image, scale, device=device, **of_zssr)
    upscaler = method_networks.of_method(method, scale, weights=weights, device=device)["upscaler"]

    def rounded(part):  # part by part, for the whole in float32 would take four times the memory
        return pixels.to_8_bits(_enlarged(upscaler, part, precision))

    return tiles.in_parts(rounded, image, upscaler, tile)


def learned_downscale(network, hr, tile=None):
    """uint8 (H, W[, 3]) -> uint8 (H/scale, W/scale[, 3]) through a ResamplerNet or another learned downscaler.

    Grey stays grey: through a ResamplerNet all channels do, exactly; of others, which may colour it, the luma is kept.
    tile: as of `downscale`.
    """
    return tiles.in_parts(partial(_reduced, network), hr, network, tile, reduces=True)


def restore(upscaler, lr, tile=None):
    """uint8 (h, w[, 3]) -> float32 in [0, 1], (h*scale, w*scale[, 3]); of a grey image the result's luma.

    tile: as of `upscale`.
    """
    return tiles.in_parts(partial(_enlarged, upscaler), lr, upscaler, tile)


def _reduced(network, hr):
    import torch

    from carlib.data import LUMA

    image = pixels.to_tensor(hr, _device(network))
    # The caller's autocast, if there is one, would give other pixels.
    with memory.shortage_told(), torch.inference_mode(), torch.autocast(image.device.type, enabled=False):
        lr, _ = network.downscale(image)
        if hr.ndim == 2:
            first = lr[:, :1]
            lr = first + torch.einsum("nchw,c->nhw", lr - first, lr.new_tensor(LUMA))[:, None]  # first where all agree
    return pixels.to_image(_finite(lr, "downscaler"), grey=hr.ndim == 2)


def _enlarged(upscaler, lr, precision=None):
    import torch

    from carlib.data import LUMA

    image = pixels.to_tensor(lr, _device(upscaler))
    half = torch.autocast(image.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with memory.shortage_told(), torch.inference_mode(), half:
        sr = _finite(upscaler(image), "upscaler")
    sr = sr[0].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return sr @ LUMA.astype(np.float32) if lr.ndim == 2 else sr


def _finite(image, network):
    """`image` itself; what is not a number would become black without a word."""
    if not image.isfinite().all():
        raise ValueError(f"the {network} made values that are not finite: its weights are damaged or have diverged")
    return image


def _device(network):
    tensor = next(network.parameters(), None)
    return "cpu" if tensor is None else tensor.device


def _check_scale(scale) -> int:
    if isinstance(scale, bool) or not isinstance(scale, Integral) or scale < 2:
        raise ValueError(f"scale={scale!r} is not a whole number >= 2")
    return int(scale)  # NumPy's narrow integers overflow


def _check_smaller(image, size, method, scale, pad):
    """`size` as (h, w), no larger than the image."""
    if scale is not None:
        raise ValueError(f"give either scale or size, got scale={scale!r} and size={size!r}")
    if method not in _SIZED:
        raise ValueError(f"method {method!r} takes no size: give scale, or use method {', '.join(_SIZED)}")
    if pad:
        raise ValueError("pad belongs to scale: leave it out, any size fits without")
    if not _is_size(size) or min(size) < 1:
        raise ValueError(f"size={size!r} is not (height, width) in whole pixels >= 1")
    if any(n > full for n, full in zip(size, image.shape, strict=False)):
        raise ValueError(
            f"size {_shown(size)} is larger than the image of {_shown(image.shape)} (width x height): use upscale"
        )
    return tuple(int(n) for n in size)


def _shown(size) -> str:
    """(height, width, ...) as people write it, width first."""
    return f"{size[1]}x{size[0]}"


def _is_size(size) -> bool:
    """Whether `size` is two whole numbers."""
    if not isinstance(size, tuple | list) or len(size) != 2:
        return False
    return all(isinstance(n, Integral) and not isinstance(n, bool) for n in size)


def _to_multiple(image, scale, pad):
    extra = [-n % scale for n in image.shape[:2]]
    if not any(extra):
        return image
    padded = [n + more for n, more in zip(image.shape, extra, strict=False)]
    told = f"the image is {_shown(image.shape)} (width x height), not a multiple of scale={scale}"
    if padded[0] * padded[1] > _MOST_PIXELS:
        raise ValueError(f"{told}, and padded to {_shown(padded)} it would take too much memory: use a smaller scale")
    if not pad:
        raise ValueError(f"{told}: crop it, or pad it to {_shown(padded)} with pad (--pad)")
    return np.pad(image, [(0, extra[0]), (0, extra[1]), (0, 0)][: image.ndim], mode="symmetric")


def _check_size(image, scale, size):
    whole = tuple(n * scale for n in image.shape[:2])
    if size is None:
        return whole
    if not isinstance(size, tuple | list) or not all(isinstance(n, Integral) for n in size):
        raise ValueError(f"size={size!r} is not (height, width) in whole pixels")
    if len(size) != 2 or any(not full - scale < n <= full for n, full in zip(size, whole, strict=True)):
        shown = _shown(size) if len(size) == 2 else repr(tuple(size))
        raise ValueError(
            f"size {shown} does not belong to an LR image of {_shown(image.shape)} at scale={scale}: it must be "
            f"{whole[1] - scale + 1}..{whole[1]} x {whole[0] - scale + 1}..{whole[0]} (width x height)"
        )
    return tuple(size)
