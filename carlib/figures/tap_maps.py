"""Figure 4: the central taps of resampling kernels and their offsets, as maps over the LR grid."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from carlib.figures.style import (
    CAPTION,
    GAP,
    LABEL,
    LINE,
    WEIGHTS,
    WIDTH,
    axes_at,
    enlarged,
    fractions,
    new_figure,
    note_at,
    styled,
    title_above,
    wrapped,
)
from carlib.figures.wheel import colour_wheel, offset_colours

_LEAST = 0.25  # HR pixels: the smallest radius of the wheel, or offsets that do nothing would look like those that do


@styled
def kernels_offsets(hr, examples, scale):
    """The central 3x3 taps of resampling kernels and their offsets, as maps over the LR grid (the paper's Fig. 4).

    A panel is 3x3 maps, one a tap, laid out as the taps lie around the LR pixel; a map has one pixel an LR pixel.
    Of an even number of taps K/2 - 2 ... K/2 (from 0) are shown: two before the middle, one after it.
    Both colour scales end at the 99.5th percentile of what is shown, so that a few outliers do not wash out the rest;
    the wheel's at a quarter of an HR pixel at least.

    Args:
        hr:       (H, W, 3) uint8.
        examples: list of (title, kernel, offset_v, offset_h); arrays (K*K, H/scale, W/scale), taps row-major, offsets
                  in HR pixels (positive: down, right); both offsets None for a kernel without (bicubic).
        scale:    HR pixels per LR pixel.
    Returns:
        Figure: the HR image, a kernel panel an example, its colour bar, and below them the offset panels with the
        wheel, if any example has offsets.
    Raises:
        ValueError: no examples, or a shape does not fit.
    """
    if not examples:
        raise ValueError("kernels_offsets: no examples to draw")
    hr = np.asarray(hr)
    taps = [_central_taps(example, hr, scale) for example in examples]
    limit = _display_limit([kernel for _, kernel, _, _ in taps]) or 1.0
    moved = [np.hypot(v, h) for _, _, v, h in taps if v is not None]
    radius = max(_display_limit(moved), _LEAST) if moved else None

    columns = 1 + len(taps)
    bar = 0.75  # inches for the colour bar and its numbers
    panel = min((WIDTH - bar - columns * GAP) / columns, 2.8)
    height = panel * hr.shape[0] / hr.shape[1]
    titles = [wrapped(f"(m) {title}: weights", panel, LABEL) for title, _, _, _ in taps]
    head = LINE * max(map(len, titles)) + 0.08
    lines = 2 if moved else 1
    lower = max(height + LINE, 1.55) if moved else 0  # the wheel and its labels need this much
    figure = new_figure(columns * (panel + GAP) + bar, lines * head + height + lower + (lines - 1) * GAP)

    letters = iter("abcdefghijklmnopqrstuvwxyz")
    axes = axes_at(figure, 0, head, panel, height)
    axes.imshow(enlarged(hr))
    title_above(axes, f"({next(letters)}) HR image")
    for column, (title, kernel, offset_v, offset_h) in enumerate(taps, start=1):
        x = column * (panel + GAP)
        image = _mosaic(kernel)
        axes = axes_at(figure, x, head, panel, height)
        axes.imshow(enlarged(image), cmap=WEIGHTS, vmin=-limit, vmax=limit)
        _tap_lines(axes)
        title_above(axes, f"({next(letters)}) {title}: weights", panel)
        if offset_v is not None:
            axes = axes_at(figure, x, 2 * head + height + GAP, panel, height)
            axes.imshow(enlarged(_mosaic(offset_colours(offset_v, offset_h, radius))))
            _tap_lines(axes)
            title_above(axes, f"({next(letters)}) {title}: offsets", panel)
            length = float(np.hypot(offset_v, offset_h).mean())  # a panel that is all but white needs a number
            below = 2 * head + 2 * height + GAP + LINE / 2
            note_at(figure, x + panel / 2, below, f"mean {length:.{_digits(length)}f} HR px")
        elif moved:
            note = "each of the 3×3 maps is one tap, each pixel of a map one LR pixel"
            note = [part for text in ("fixed kernel: no offsets", note) for part in wrapped(text, panel, CAPTION)]
            note_at(figure, x + panel / 2, 2 * head + height + GAP + lower / 2, "\n".join(note))
    _weight_bar(figure, columns * (panel + GAP) + 0.02, head, height, limit, taps)
    if moved:
        _wheel_legend(figure, 2 * head + height + GAP, panel, lower, radius)
    return figure


def _central_taps(example, hr, scale):
    """(title, kernel, offset_v, offset_h) with arrays (3, 3, h, w), or None for both offsets."""
    title, kernel, offset_v, offset_h = example
    if (offset_v is None) != (offset_h is None):
        raise ValueError(f"{title}: give both offsets or neither")
    size = taps_along(kernel, title)
    if size < 3:
        raise ValueError(f"{title}: {size}x{size} taps have no central 3x3")
    expected = (size * size, hr.shape[0] // scale, hr.shape[1] // scale)
    first = (size - 3) // 2
    central = []
    for array in (kernel, offset_v, offset_h):
        if array is None:
            central.append(None)
            continue
        array = np.asarray(array, float)
        if array.shape != expected or (hr.shape[0] % scale, hr.shape[1] % scale) != (0, 0):
            raise ValueError(f"{title}: shape {array.shape}, expected {expected} for hr {hr.shape} at scale={scale}")
        grid = array.reshape(size, size, *array.shape[1:])
        central.append(grid[first : first + 3, first : first + 3])
    return title, *central


def taps_along(kernel, title) -> int:
    """K of a (K*K, h, w) kernel."""
    size = round(np.shape(kernel)[0] ** 0.5)
    if np.ndim(kernel) != 3 or size * size != np.shape(kernel)[0]:
        raise ValueError(f"{title}: kernel is {np.shape(kernel)}, not (K*K, h, w)")
    return size


def _display_limit(arrays) -> float:
    """The 99.5th percentile of all |values|."""
    return float(np.percentile(np.concatenate([np.abs(array).ravel() for array in arrays]), 99.5))


def _mosaic(taps):
    """(3, 3, h, w[, 3]) to one image (3h, 3w[, 3])."""
    rows, columns, height, width = taps.shape[:4]
    return taps.swapaxes(1, 2).reshape(rows * height, columns * width, *taps.shape[4:])


def _tap_lines(axes):
    """Lines between the 3x3 maps: a dark core in a white rim, to be seen on dark and light maps."""
    for colour, width in (("white", 2.4), ("#444444", 0.7)):
        for third in (1 / 3, 2 / 3):
            style = {"transform": axes.transAxes, "color": colour, "linewidth": width, "scalex": False, "scaley": False}
            axes.plot([third, third], [0, 1], **style)
            axes.plot([0, 1], [third, third], **style)


def _weight_bar(figure, x, y, height, limit, taps):
    """The colour bar of all weight panels, at (x, y) inches; arrows where values lie beyond it."""
    low = any((kernel < -limit).any() for _, kernel, _, _ in taps)
    high = any((kernel > limit).any() for _, kernel, _, _ in taps)
    axes = figure.add_axes(fractions(figure, x, y, 0.13, height))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[low, high]
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), WEIGHTS), cax=axes, extend=extend)
    bar.locator = MaxNLocator(5, symmetric=True)
    bar.ax.tick_params(labelsize=7.5, length=2.5)
    bar.set_label("tap weight", fontsize=CAPTION)
    bar.outline.set_linewidth(0.5)


def _wheel_legend(figure, y, panel, height, radius):
    """The colour wheel in the first column, `y` inches below the top, with its radius in HR pixels."""
    side = max(min(panel - 1.0, height - 2 * LINE - 0.25, 1.3), 0.4)
    top = y + (height - side - 2 * LINE) / 2
    axes = axes_at(figure, (panel - side) / 2, top, side, side, frame=False)
    axes.imshow(colour_wheel(301))
    for name, x, up, across, along in (
        ("right", 1.04, 0.5, "left", "center"),
        ("left", -0.04, 0.5, "right", "center"),
        ("up", 0.5, 1.04, "center", "bottom"),
        ("down", 0.5, -0.04, "center", "top"),
    ):
        axes.text(x, up, name, transform=axes.transAxes, ha=across, va=along, fontsize=CAPTION, color="#444444")
    note_at(figure, panel / 2, top + side + 0.3, f"radius = {radius:.{_digits(radius)}f} HR px", colour="black")


def _digits(value) -> int:
    """Decimals that leave a number its two leading figures, at least one."""
    return max(1, 1 - int(np.floor(np.log10(value)))) if value > 0 else 1
