"""Networks: each a class that takes its own numbers; `create` knows the sizes at which the project trains them.

A network is one file, imported when it is first used. All but DOWNSCALERS are upscalers, with one contract:
forward(lr), lr (N, 3, h, w) RGB in [0, 1], gives sr (N, 3, h*scale, w*scale), not clamped, in single precision at
least, and passes gradients on to lr. So any of them follows any downscaler. Those have downscale(hr) -> lr, not rounded
yet, and what their loss takes besides; so has IRN, whose forward is the inverse of it.
"""

from importlib import import_module
from numbers import Integral

from carlib.models.sizes import SIZES

# Class -> the file that defines it.
_CLASSES = {
    "ResamplerNet": "resampler",
    "EDSR": "edsr",
    "Bicubic": "bicubic",
    "SRDenseNet": "srdensenet",
    "DDBPN": "ddbpn",
    "RDN": "rdn",
    "RCAN": "rcan",
    "SRCNN": "srcnn",
    "VDSR": "vdsr",
    "SRResNet": "srresnet",
    "MSRResNet": "msrresnet",
    "DRRN": "drrn",
    "MemNet": "memnet",
    "DnCNN": "dncnn",
    "LapSRN": "lapsrn",
    "ZSSR": "zssr",
    "CARN": "carn",
    "SRRAM": "srram",
    "RRDB": "rrdb",
    "CNNSR": "cnn_sr",
    "TAU": "tau",
    "CNNCR": "cnn_cr",
    "TAD": "tad",
    "IRN": "irn",
}
# Name for `create` -> class, where the name is not the file's.
_NAMES = {file: cls for cls, file in _CLASSES.items()} | {"carn-m": "CARN", "cnn-sr": "CNNSR", "cnn-cr": "CNNCR"}
_DOORS = _CLASSES | {"MeanShift": "layers", "summary": "costs"}
DOWNSCALERS = ("resampler", "cnn-cr", "tad")  # forward takes the HR image
UPSCALERS = tuple(name for name in SIZES if name not in DOWNSCALERS)

__all__ = ["DOWNSCALERS", "SIZES", "UPSCALERS", *_DOORS, "create", "file_of", "specification"]


def specification(name, scale, size="paper", **options):
    """All arguments of `create`, the size's numbers spelt out: what a weights file keeps, so that sizes may change.

    Raises:
        ValueError: the name or the size is unknown.
    """
    if name not in SIZES:
        raise ValueError(f"network {name!r} is unknown: use one of {', '.join(SIZES)}")
    if size not in SIZES[name]:
        raise ValueError(f"size {size!r} of {name} is unknown: use one of {', '.join(SIZES[name])}")
    return {"name": name, "scale": scale, "size": size, **SIZES[name][size], **options}


def create(name, scale, size="paper", **options):
    """A network by name and size, e.g. create("edsr", 4, "mini"); `options` override the size's numbers.

    Args:
        name:  of SIZES: "resampler" (ResamplerNet), "bicubic" (the fixed, differentiable upscaler), "edsr", "rcan", ...
        scale: 2 or 4 (most take other factors too).
        size:  "mini", "base" or "paper" (SIZES).
    Raises:
        ValueError: the name or the size is unknown, or the network has no such scale or option.
    """
    arguments = specification(name, scale, size, **options)
    if isinstance(scale, bool) or not isinstance(scale, Integral) or scale < 1:
        raise ValueError(f"scale={scale!r} is not a whole number >= 1")
    numbers = {key: value for key, value in arguments.items() if key not in ("name", "scale", "size")}
    make = __getattr__(_NAMES[name])
    try:
        return make(scale, **numbers)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made with {options}: {error}") from error


def file_of(name) -> str:
    """Where the network `name` is defined, relative to the package: "models/edsr.py"."""
    return f"models/{_CLASSES[_NAMES[name]]}.py"


def __getattr__(name):
    if name not in _DOORS:
        raise AttributeError(f"module 'carlib.models' has no attribute {name!r}")
    return getattr(import_module(f"carlib.models.{_DOORS[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])
