"""Effective kernels: the taps of single LR pixels at the places they sample."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from carlib.figures.style import CAPTION, GREY, LABEL, TITLE, WEIGHTS, WIDTH, styled
from carlib.figures.tap_maps import taps_along


@styled
def effective_kernel(examples, pixels, scale=None):
    """Taps of single LR pixels at the places they really sample, offsets added.

    Args:
        examples: as kernels_offsets; every number of taps is allowed.
        pixels:   list of (label, row, column) of LR pixels.
        scale:    if given, the area of one LR pixel is outlined.
    Returns:
        Figure, one axes a pixel (down) and example (across): in HR pixels relative to the LR pixel's centre, down is
        positive; the area of a marker is |weight|, its colour the weight. One colour bar for all.
    Raises:
        ValueError: nothing to draw, or a pixel outside the LR grid.
    """
    if not examples or not pixels:
        raise ValueError("effective_kernel: needs at least one example and one pixel")
    clouds = [[_cloud(example, pixel) for example in examples] for pixel in pixels]
    everything = np.concatenate([cloud for line in clouds for cloud in line])
    limit = float(np.abs(everything[:, 2]).max()) or 1.0
    reach = float(np.abs(everything[:, :2]).max()) + 0.7
    panel = min((WIDTH - 1.2) / len(examples), 2.8)
    figure = Figure(figsize=(panel * len(examples) + 1.2, panel * len(pixels) + 0.5), layout="constrained")
    grid = figure.subplots(len(pixels), len(examples), squeeze=False, sharex=True, sharey=True)
    largest = (0.62 * panel * 72 / (2 * reach) * 1.6) ** 2  # points^2: the heaviest tap is about an HR pixel wide
    for line, cloud_line, (label, _, _) in zip(grid, clouds, pixels, strict=True):
        for axes, cloud in zip(line, cloud_line, strict=True):
            axes.grid(True)
            if scale:
                square = Rectangle((-scale / 2, -scale / 2), scale, scale, fill=False, edgecolor=GREY, linestyle="--")
                axes.add_patch(square)
            heavy_last = cloud[np.argsort(np.abs(cloud[:, 2]))]
            y, x, weight = heavy_last.T
            size = largest * np.abs(weight) / limit
            style = {"cmap": WEIGHTS, "vmin": -limit, "vmax": limit, "edgecolors": "#444444", "linewidths": 0.4}
            points = axes.scatter(x, y, s=size, c=weight, **style)
            axes.plot(0, 0, "+", color="black", markersize=7, markeredgewidth=1)
            axes.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.tick_params(labelsize=7.5, length=2.5)
        line[0].set_ylabel(label, fontsize=LABEL, fontweight="bold")
    for axes, (title, *_) in zip(grid[0], examples, strict=True):
        axes.set_title(title, fontsize=TITLE, fontweight="bold")
    figure.supxlabel("horizontal distance from the LR pixel's centre (HR px)", fontsize=LABEL)
    figure.supylabel("vertical distance (HR px)", fontsize=LABEL)
    bar = figure.colorbar(points, ax=grid, fraction=0.03, pad=0.01, aspect=30)
    bar.ax.tick_params(labelsize=7.5, length=2.5)
    bar.set_label("tap weight (area of a marker: its size)", fontsize=CAPTION)
    return figure


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
