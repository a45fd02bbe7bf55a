"""What an LR image says of its making, so that `carlib upscale` need not be told: a line of JSON in the PNG or JPEG.

Other formats do not keep it, and programs that rewrite a file may drop it: nothing is known then, and nothing refused.
"""

import json
import re
from typing import NamedTuple

from carlib import data, method_networks, rescale

LIKE_LOSSLESS = 85  # quality above which the EDSR of lossless images restores a JPEG better (notebook 05c: 80 and 90)


class Origin(NamedTuple):
    """How an LR image was made; None is not known."""

    method: str | None = None  # one of rescale.DOWNSCALERS
    scale: int | None = None
    size: tuple[int, int] | None = None  # (H, W) of the HR image; without a scale it was made to another size
    weights: str | None = None  # name of the weights file, where it was not the shipped one
    quality: int | None = None  # of the JPEG that it is stored as
    trained: str | None = None  # of networks: the beginning of the SHA-256 of their weights file


def written(origin) -> str:
    """The line that `read` understands."""
    return json.dumps({name: value for name, value in origin._asdict().items() if value is not None})


def read(path) -> Origin:
    """What an image file says; of a line that is not such a one, nothing, but for a JPEG's quality.

    Raises:
        ValueError: no such file, or not an image.
    """
    note, quality = data.note(path), data.jpeg_quality(path)
    nothing = Origin(quality=quality)
    try:
        origin = Origin(**json.loads(note or "{}"))
    except (ValueError, TypeError, RecursionError):
        return nothing
    if quality is not None:  # what the file shows, not its note, which stays when others store it again
        origin = origin._replace(quality=quality)
    if isinstance(origin.size, list):
        origin = origin._replace(size=tuple(origin.size))
    return origin if _is_possible(origin) else nothing


def upscaler_for(origin) -> str:
    """The method that enlarges such an image best: of those of a classical method an EDSR.

    Unknown ones are taken for a classical method's: CAR's PNGs and JPEGs say that they are.
    """
    if origin.method in method_networks.PAIRS:
        return origin.method
    return "edsr" if origin.quality is None or origin.quality > LIKE_LOSSLESS else "edsr-jpeg"


def scale_for(origin, shape):
    """The whole factor by which an LR image of this shape was made, None where it is not known.

    Raises:
        ValueError: there was none.
    """
    if origin.scale is not None or origin.size is None:
        return origin.scale
    factor = max(-(-n // m) for n, m in zip(origin.size, shape, strict=False))  # no smaller one is enough
    if factor >= 2 and all(-(-n // factor) == m for n, m in zip(origin.size, shape, strict=False)):
        return factor
    made_of = f"{origin.size[1]}x{origin.size[0]}"
    raise ValueError(
        f"it was made from {made_of} by a factor that is not whole, and only whole ones can be enlarged: choose one"
    )


def size_for(origin, scale, shape):
    """(H, W) of the HR image, where it is known and fits an LR image of this shape at this scale; else None."""
    if origin.size is None or origin.scale not in (None, scale):
        return None
    fits = all(-(-n // scale) == m for n, m in zip(origin.size, shape, strict=False))
    return origin.size if fits else None


def by_shipped(origin, scale) -> bool:
    """Whether the weights that made an image are those that `carlib upscale` takes by itself."""
    if origin.trained is None:
        return False
    try:
        return method_networks.digest(origin.method, scale) == origin.trained
    except ValueError:  # none are shipped
        return False


def doubt(origin, method, scale, weights=None, shape=None) -> str:
    """What speaks against enlarging such an image like this, in a line; nothing if nothing does.

    weights: the beginning of the SHA-256 of the networks' file (`method_networks.digest`), None of other methods.
    shape:   of the LR image, None is not known.
    """
    if origin.method is not None and method in method_networks.PAIRS and method != origin.method:
        return f"it was made by {origin.method}, and {method} restores its own images only: use {upscaler_for(origin)}"
    if origin.method in method_networks.PAIRS and method in method_networks.EDSR:
        better = upscaler_for(origin)
        return f"it was made by {origin.method}, whose own network restores it better than {method}: use {better}"
    if origin.scale is not None and scale != origin.scale:
        return f"it was made at x{origin.scale} and is enlarged x{scale}"
    if origin.trained and weights is not None and method == origin.method and weights != origin.trained:
        return f"it was made by other weights of {method} ({origin.trained}, not {weights}), which restore it better"
    if shape is not None and origin.scale and origin.size and size_for(origin, scale, shape) is None:
        was = f"{origin.size[1]}x{origin.size[0]}"
        return f"it was made from {was} at x{origin.scale} and no longer has that size: it was cut or resized since"
    return ""


def _is_possible(origin) -> bool:
    """Whether types and values are those that `carlib downscale` writes."""
    scale, size = origin.scale, origin.size
    return (
        origin.method in (None, *rescale.DOWNSCALERS)
        and (scale is None or (type(scale) is int and scale >= 2))
        and (size is None or (type(size) is tuple and len(size) == 2 and all(type(n) is int and n > 0 for n in size)))
        and (origin.weights is None or (isinstance(origin.weights, str) and origin.weights.isprintable()))
        and (origin.trained is None or re.fullmatch("[0-9a-f]{8}", str(origin.trained)) is not None)
        and (origin.quality is None or (type(origin.quality) is int and 1 <= origin.quality <= 100))
    )
