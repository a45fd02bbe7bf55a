"""Effective kernels: the taps of single LR pixels at the places they sample, over the image that they read."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from carlib.figures.style import CAPTION, LABEL, TITLE, WEIGHTS, WIDTH, enlarged, styled
from carlib.figures.tap_maps import taps_along

_FADED = 0.6  # share of white over the image behind the taps


@styled
def effective_kernels(hr, examples, pixels, scale):
    """Taps of single LR pixels at the places they really sample, offsets added, over the HR pixels there.

    Args:
        hr:       (H, W, 3) uint8, the crop that the examples' maps cover.
        examples: as kernels_offsets; every number of taps is allowed.
        pixels:   list of (label, row, column) of LR pixels.
        scale:    HR pixels per LR pixel.
    Returns:
        Figure, a line a pixel: the crop with the pixel marked, then an axes an example, in HR pixels relative to the LR
        pixel's centre, down is positive; a marker's area is |weight|, its colour the weight, by a scale for each line.
    Raises:
        ValueError: nothing to draw, or a pixel outside the LR grid.
    """
    if not examples or not pixels:
        raise ValueError("effective_kernels: needs at least one example and one pixel")
    clouds = [[_cloud(example, pixel) for example in examples] for pixel in pixels]
    reach = max(float(np.abs(cloud[:, :2]).max()) for line in clouds for cloud in line) + 0.7
    panel = min((WIDTH - 1.2) / (1 + len(examples)), 2.8)
    figure = Figure(figsize=(panel * (1 + len(examples)) + 1.2, panel * len(pixels) + 0.5), layout="constrained")
    grid = figure.subplots(len(pixels), 1 + len(examples), squeeze=False)
    largest = (0.62 * panel * 72 / (2 * reach) * 1.6) ** 2  # points^2: the heaviest tap is about an HR pixel wide
    for (whole, *line), cloud_line, (label, row, column) in zip(grid, clouds, pixels, strict=True):
        centre = (row + 0.5) * scale, (column + 0.5) * scale
        _mark(whole, hr, centre, reach)
        whole.set_title(f"{label}, LR row {row}, column {column}", fontsize=LABEL, fontweight="bold", loc="left")
        behind, extent = _around(hr, centre, reach)
        limit = max(float(np.abs(cloud[:, 2]).max()) for cloud in cloud_line) or 1.0
        for axes, cloud in zip(line, cloud_line, strict=True):
            axes.imshow(behind, extent=extent)
            _frame(axes, reach, scale)
            points = _scatter(axes, cloud, limit, largest)
        bar = figure.colorbar(points, ax=line, fraction=0.03, pad=0.01, aspect=15)
        bar.ax.tick_params(labelsize=7.5, length=2.5)
        bar.set_label("tap weight", fontsize=CAPTION)
    for axes, (title, *_) in zip(grid[0, 1:], examples, strict=True):
        axes.set_title(title, fontsize=TITLE, fontweight="bold")
    figure.supxlabel("HR pixels from the LR pixel's centre", fontsize=LABEL)
    return figure


def _scatter(axes, cloud, limit, largest):
    """The taps, the heaviest last; `largest` is the area of one that weighs `limit`."""
    y, x, weight = cloud[np.argsort(np.abs(cloud[:, 2]))].T
    style = {"cmap": WEIGHTS, "vmin": -limit, "vmax": limit, "edgecolors": "#333333", "linewidths": 0.5}
    return axes.scatter(x, y, s=largest * np.abs(weight) / limit, c=weight, **style)


def _mark(axes, hr, centre, reach):
    """The crop, and in it what the line shows."""
    axes.imshow(enlarged(hr), extent=(0, hr.shape[1], hr.shape[0], 0))
    corner = centre[1] - reach, centre[0] - reach
    axes.add_patch(Rectangle(corner, 2 * reach, 2 * reach, fill=False, edgecolor="black", linewidth=2.6))
    axes.add_patch(Rectangle(corner, 2 * reach, 2 * reach, fill=False, edgecolor="#FFE100", linewidth=1.2))
    axes.set(xlim=(0, hr.shape[1]), ylim=(hr.shape[0], 0), xticks=[], yticks=[])


def _around(hr, centre, reach):
    """HR pixels around an LR pixel, faded, and where they lie, from its centre."""
    (top, bottom), (left, right) = (
        (max(math.floor(middle - reach), 0), min(math.ceil(middle + reach), length))
        for middle, length in zip(centre, hr.shape, strict=False)
    )
    faded = (_FADED * 255 + (1 - _FADED) * hr[top:bottom, left:right].astype(float)).astype(np.uint8)
    return enlarged(faded), (left - centre[1], right - centre[1], bottom - centre[0], top - centre[0])


def _frame(axes, reach, scale):
    """The area of an LR pixel, and what is shown around it."""
    square = Rectangle((-scale / 2, -scale / 2), scale, scale, fill=False, edgecolor="black", linestyle="--")
    axes.add_patch(square)
    axes.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=7.5, length=2.5)


def _cloud(example, pixel):
    """(K*K, 3) of one LR pixel: vertical and horizontal place in HR pixels from its centre, weight."""
    title, kernel, offset_v, offset_h = example
    label, row, column = pixel
    size = taps_along(kernel, title)
    if not (0 <= row < kernel.shape[1] and 0 <= column < kernel.shape[2]):
        raise ValueError(f"{label}: LR pixel ({row}, {column}) is outside {kernel.shape[1]}x{kernel.shape[2]}")
    places = np.arange(size) - (size - 1) / 2
    down, right = (axis.ravel() for axis in np.meshgrid(places, places, indexing="ij"))
    if offset_v is not None:
        down, right = down + np.asarray(offset_v)[:, row, column], right + np.asarray(offset_h)[:, row, column]
    return np.stack([down, right, np.asarray(kernel, float)[:, row, column]], axis=1)
