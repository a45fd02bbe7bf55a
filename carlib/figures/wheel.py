"""Offsets as colours: the wheel of optical flow and its legend."""

import numpy as np


def offset_colours(offset_v, offset_h, max_magnitude):
    """Offsets as colours of the wheel of Baker et al. ("A Database and Evaluation Methodology for Optical Flow", 2011).

    Hue is the direction: right is red, down is yellow, left is cyan, up is violet. Saturation is the length: white at
    zero, full at `max_magnitude`, darkened to 3/4 beyond it. This is the orientation of the Middlebury code, in which
    a flow's u points right and v points down.

    Args:
        offset_v: (...) vertical offsets, positive is down; HR pixels.
        offset_h: (...) horizontal offsets, positive is right; HR pixels.
        max_magnitude: > 0, the length drawn with a full colour.
    Returns:
        (..., 3) float RGB in [0, 1].
    Raises:
        ValueError: max_magnitude is not positive.
    """
    if not max_magnitude > 0:
        raise ValueError(f"max_magnitude={max_magnitude!r} is not positive")
    offset_v, offset_h = np.asarray(offset_v, float), np.asarray(offset_h, float)
    wheel = _wheel()
    # + 0.0 turns -0 into 0: arctan2 would send an offset to the right to the other end of the wheel
    angle = np.arctan2(-offset_v + 0.0, -offset_h) / np.pi  # (-1, 1]: right is +-1, down -1/2, left 0, up 1/2
    angle = np.where(angle == 1, -1, angle)
    position = (angle + 1) / 2 * (len(wheel) - 1)
    lower = np.floor(position).astype(int)
    share = (position - lower)[..., None]
    colour = (1 - share) * wheel[lower] + share * wheel[(lower + 1) % len(wheel)]
    length = (np.hypot(offset_v, offset_h) / max_magnitude)[..., None]
    return np.where(length <= 1 + 1e-9, 1 - np.minimum(length, 1) * (1 - colour), 0.75 * colour)


def colour_wheel(size=129):
    """The legend of offset_colours: a disc whose rim is `max_magnitude`; right of its centre is an offset to the right.

    Args:
        size: pixels along a side; odd puts a pixel on the centre.
    Returns:
        (size, size, 3) uint8, white outside the disc.
    """
    axis = np.linspace(-1, 1, size)
    down, right = np.meshgrid(axis, axis, indexing="ij")
    colours = offset_colours(down, right, 1.0)
    colours[np.hypot(down, right) > 1 + 1e-9] = 1
    return np.round(255 * colours).astype(np.uint8)


def _wheel():
    """(55, 3) the hues, in steps that are about equally easy to tell apart: 15 red to yellow, 6 to green, and so on."""
    stops = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], float)
    counts = (15, 6, 4, 11, 13, 6)  # RY YG GC CB BM MR
    parts = [a + (b - a) * np.arange(n)[:, None] / n for a, b, n in zip(stops, stops[1:], counts, strict=False)]
    return np.concatenate(parts)
