"""Networks: each a class that takes its own numbers; `create` knows the sizes at which the project trains them."""

from carlib.models.bicubic import Bicubic
from carlib.models.edsr import EDSR
from carlib.models.layers import MeanShift
from carlib.models.resampler import ResamplerNet

# "paper": the published configuration. "base": the same architecture for one GPU. "mini": for two CPU cores.
SIZES = {
    "resampler": {"mini": {"width": 32, "blocks": 2}, "base": {"width": 128}, "paper": {}},
    "edsr": {
        "mini": {"blocks": 4, "channels": 32, "res_scale": 1.0},
        "base": {"blocks": 16, "channels": 64, "res_scale": 1.0},
        "paper": {"blocks": 32, "channels": 256, "res_scale": 0.1},
    },
    "bicubic": {"mini": {}, "base": {}, "paper": {}},
}
_CLASSES = {"resampler": ResamplerNet, "edsr": EDSR, "bicubic": Bicubic}

__all__ = ["EDSR", "SIZES", "Bicubic", "MeanShift", "ResamplerNet", "create", "file_of", "specification"]


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
        name:  "resampler" (ResamplerNet), "edsr" or "bicubic" (the fixed, differentiable upscaler).
        scale: 2 or 4 (EDSR and bicubic take other factors too).
        size:  "mini", "base" or "paper" (SIZES).
    Raises:
        ValueError: the name or the size is unknown, or the network has no such option.
    """
    arguments = specification(name, scale, size, **options)
    numbers = {key: value for key, value in arguments.items() if key not in ("name", "scale", "size")}
    try:
        return _CLASSES[name](scale, **numbers)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made with {options}: {error}") from error


def file_of(name) -> str:
    """Where the network `name` is defined, relative to the package: "models/edsr.py"."""
    return f"{_CLASSES[name].__module__.removeprefix('carlib.').replace('.', '/')}.py"
