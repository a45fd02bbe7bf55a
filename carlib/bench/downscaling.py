"""`carlib bench downscale`: the classical downscalers and their rivals on one image, at x4 (memory at x2 too).

Pillow's bicubic is the same filter as ours with fixed-point weights and other borders; OpenCV's INTER_AREA is the block
mean; pepedpid is DPID in Rust, timed where it is installed, on the float32 image it wants. All are given arrays.
"""

from functools import partial
from importlib.util import find_spec
from math import nan

import numpy as np
from PIL import Image

from carlib import rescale, timing

_SCALE = 4
_SHAPE = (1536, 2048, 3)
_ALONE = "other downscalers"  # no rivals of each other
_CASES = {
    "bicubic": ("carlib, bicubic", "Pillow, bicubic", "OpenCV, INTER_AREA"),
    "DPID": ("carlib, dpid", "pepedpid"),
    _ALONE: tuple(f"carlib, {name}" for name in rescale.CLASSICAL if name not in ("bicubic", "dpid")),
}


def rows(repeats, shape=_SHAPE):
    """Rows of `bench.COLUMNS` without the machine: seconds per HR megapixel (the fastest round), memory per image.

    The note also has the memory at x2, where an LR image is four times as large.

    Yields:
        a list for every case; all are measured together.
    """
    image = _image(shape)
    calls = {name: partial(call, image) for name, call in _calls(image, _SCALE).items()}
    megapixels = shape[0] * shape[1] / 1e6
    seconds = timing.in_turns(calls, repeats, f"downscale {shape[1]}x{shape[0]}", statistic=min)
    memory, at_2 = ({name: _memory_in_a_child(name, shape, scale) for name in calls} for scale in (_SCALE, 2))
    for job, names in _CASES.items():
        own = {name: seconds[name] / megapixels for name in names if name in seconds}
        timed = f"fastest of {repeats}, seconds per megapixel of {megapixels:.1f}"
        notes = {name: f"{timed}; memory at x2 {at_2[name]:.2f}" for name in own}
        lines = timing.rows(f"{job} x{_SCALE}", own, notes, memory)
        yield lines if job != _ALONE else [{**line, "ratio": nan} for line in lines]


def _image(shape):
    """Smooth and rough parts, as a photograph has."""
    draw = np.random.default_rng(0)
    walk = np.cumsum(draw.normal(0, 3, shape), axis=1)
    return np.clip(walk - walk.mean() + 128, 0, 255).astype(np.uint8)


def _calls(image, scale):
    """name -> function of the uint8 image."""
    h, w = (n // scale for n in image.shape[:2])
    calls = {f"carlib, {name}": partial(rescale.classical(name), scale=scale) for name in rescale.CLASSICAL}
    calls["Pillow, bicubic"] = lambda image: np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))
    if find_spec("cv2"):
        import cv2

        calls["OpenCV, INTER_AREA"] = lambda image: cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    if find_spec("pepedpid"):
        import pepedpid

        floats = image.astype(np.float32) / 255
        calls["pepedpid"] = lambda image: pepedpid.dpid_resize(floats, h, w, 1.0)
    return calls


def _memory_in_a_child(name, shape, scale) -> float:
    code = f"from carlib.bench import downscaling as b; print(b._extra_memory({name!r}, {tuple(shape)!r}, {scale}))"
    return timing.number_from_a_child(code)


def _extra_memory(name, shape, scale) -> float:
    """Peak growth of this process over the bytes of the image."""
    small = _image((8 * scale, 8 * scale, 3))
    _calls(small, scale)[name](small)  # compiles, starts threads
    image = _image(shape)
    call = _calls(image, scale)[name]
    growth, _ = timing.peak_growth(partial(call, image))
    return growth / image.nbytes
