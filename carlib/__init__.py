"""Learned image downscaling with a content adaptive resampler (CAR): operators, networks, training, evaluation.

The names below are the library's doors; each is imported when it is first used, so that `import carlib` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

_DOORS = {
    "resample": "carlib.ops.resample",
    "quantize": "carlib.ops.quantize",
    "imresize": "carlib.ops.imresize",
    "downscale": "carlib.rescale",
    "upscale": "carlib.rescale",
}
_ROOMS = (
    "choice", "codecs", "data", "evaluate", "figures", "losses", "metrics", "models", "ops", "results", "train",
    "weights", "zssr",
)  # fmt: skip

__all__ = [*_DOORS, *_ROOMS]


def __getattr__(name):
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    if name in _ROOMS:
        return import_module(f"carlib.{name}")
    raise AttributeError(f"module 'carlib' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
