"""Large images in parts: the numbers that a network makes of the whole, in memory that does not grow with the image.

Each part is computed with a margin, as wide as the network can see, that is cut off again; at the image's own borders
there is none. So nothing of a seam is left, and nothing is blended. How far a network can see is found by asking it:
what it makes of an image whose one half is not a number is not a number as far as that half is seen.
"""

import copy
import math
from fractions import Fraction
from itertools import product
from numbers import Integral
from weakref import WeakKeyDictionary

import numpy as np

SIDE = 1024  # HR pixels of a part's side; images up to the square of it are computed whole
_MOST = 2048  # the widest margin that is looked for, HR pixels: RRDB of the paper's size sees 700 at x2, 1,400 at x4
_FIRST = 64  # pixels on each side of the first cut that a network is asked about: what leaps less far is noticed
_LOW = 3  # steps of the grid: sides of the images that networks are asked about, reflected borders need some
_LEAST = 64  # pixels of a part: narrower ones would be margins above all
_MOST_SCALE = 16  # an image that is small for a network of this scale need not be asked for the network's own
_margins = WeakKeyDictionary()  # network -> {scale: what `margin` found}; IRN makes images larger and smaller


def in_parts(function, image, network, tile, reduces=False):
    """`function` of an image, whose numbers `network` makes: of the whole, or where it is large in parts.

    Args:
        function: (H, W[, C]) -> array with sides as `network` makes them, an upscaler, or a downscaler if it `reduces`.
        tile:     as of `rescale.downscale` and `rescale.upscale`.
    Raises:
        ValueError: `tile` is no such number, or the network sees too far for the parts that it asks for.
    """
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, Integral) or 0 < tile < _LEAST or tile < 0):
        raise ValueError(f"tile={tile!r} is not 0 nor a whole number >= {_LEAST}")
    side, pixels = int(SIDE if tile is None else tile), image.shape[0] * image.shape[1]
    if not side or pixels * (1 if reduces else _MOST_SCALE**2) <= side**2:
        return function(image)
    if reduces:
        scale, grid, call = Fraction(1, network.scale), math.lcm(8, network.scale), _call_downscaler
    else:
        scale, grid, call = _scale_of(network), 1, _call_upscaler
        side = max(1, side // scale)
        if pixels <= side**2:
            return function(image)
    wide = margin(network, call, scale=scale, grid=grid)
    if wide is not None:
        side = side if tile else max(side, 8 * wide)
        return applied(function, image, side, wide, scale=scale, grid=grid)
    if tile:
        raise ValueError(f"{type(network).__name__} sees too far, perhaps the whole image: leave tile out, or use 0")
    return function(image)


def _call_downscaler(network, hr):
    return network.downscale(hr)[0]


def _call_upscaler(network, lr):
    return network(lr)


def _scale_of(upscaler) -> int:
    import torch

    device = next((weight.device for weight in upscaler.parameters()), "cpu")
    with torch.inference_mode():
        return upscaler(torch.zeros(1, 3, 8, 8, device=device)).shape[-1] // 8


def applied(function, image, side, margin, *, scale, grid=1):
    """`function` of an image, put together from parts.

    Args:
        function: of an array (h, w[, c]) makes one of `scale` times its sides (a Fraction where it becomes smaller).
        image:    (H, W[, C]).
        side:     of a part without its margins, pixels of the image, at most; parts are of one size, but the last.
        margin:   pixels of the image that a part's border spoils, see `margin`.
        grid:     parts and margins begin at its multiples.
    """
    from tqdm import tqdm

    whole = image.shape[:2]
    pieces = list(product(*(_pieces(length, side, margin, grid) for length in whole)))
    joined = None
    for piece in tqdm(pieces, desc="parts of the image", leave=False, disable=None):  # shown to people, not to files
        seen, kept, place = zip(*(_slices(*along, scale) for along in piece), strict=True)
        made = function(image[seen])
        if joined is None:
            joined = np.empty((*(int(length * scale) for length in whole), *made.shape[2:]), made.dtype)
        joined[place] = made[kept]
    return joined


def _pieces(length, side, margin, grid):
    """Along one axis: begin and end of each part, with its margins and without."""
    step = math.ceil(length / math.ceil(length / side) / grid) * grid
    margin = math.ceil(margin / grid) * grid
    inner = [(first, min(first + step, length)) for first in range(0, length, step)]
    return [((max(0, first - margin), min(length, last + margin)), (first, last)) for first, last in inner]


def _slices(outer, inner, scale):
    """Along one axis: what is looked at, what of its result is kept, and where that goes."""
    kept = (place - outer[0] for place in inner)
    return slice(*outer), slice(*(int(n * scale) for n in kept)), slice(*(int(n * scale) for n in inner))


def margin(network, call, *, scale, grid=1):
    """How many pixels of an image a cut through it spoils: as far as a pixel can have to do with another.

    Args:
        network: an nn.Module that is not training.
        call:    of it and (1, 3, H, W) makes (1, C, H * scale, W * scale).
        scale:   a Fraction where the result is smaller.
        grid:    where cuts are: at multiples of it.
    Returns:
        pixels of the image, of both axes and directions the most; None where it is more than _MOST: such a network is
        taken to see the whole image.
    """
    found = _margins.setdefault(network, {})
    if scale not in found:
        on_cpu = copy.deepcopy(network).cpu()  # elsewhere convolutions may spread what is not a number by Fourier's
        most = max(_FIRST, _MOST / max(1, scale))
        lengths = [n for n in (math.ceil(_FIRST / grid) * grid * 2**power for power in range(10)) if n <= most]
        tried = (_spoilt(on_cpu, call, length, scale, grid) for length in lengths)
        found[scale] = next((spoilt for spoilt in tried if spoilt is not None), None)
    return found[scale]


def _spoilt(network, call, length, scale, grid):
    """Pixels before a cut that are spoilt by what lies behind it, of the four directions the most; None: all are."""
    import torch

    image = torch.full((1, 3, _LOW * grid, 2 * length), 0.5)
    image[..., length:] = torch.nan
    found = []
    for turns in range(4):
        with torch.inference_mode():
            made = call(network, image.rot90(turns, (2, 3))).rot90(-turns, (2, 3))
        whole = made.isfinite().all(1).all(1)[0, : int(length * scale)].nonzero()
        if not len(whole):
            return None
        found.append(length - math.floor((int(whole[-1]) + 1) / Fraction(scale)))
    return max(found)
