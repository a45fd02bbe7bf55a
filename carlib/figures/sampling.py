"""Figure 2: how one LR pixel samples the HR image, drawn over the pixel grid with the equations beside it."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from carlib.figures.style import BLUE, CAPTION, GREY, LABEL, RED, TITLE, styled

_AREA = "#0072B2"  # of the LR pixel, drawn faint
_BESIDE = 1.7  # HR pixels shown around the kernel
_HALF = {"paper": "K/2", "symmetric": "(K-1)/2"}


@styled
def sampling(kernels, tap):
    """Places of the taps of one LR pixel, and what one of them reads (the paper's Fig. 2, with Eq. 1 to 3).

    Args:
        kernels: list of (title, carlib.studies.sampling.Sampling): a panel each; of the last, one tap is shown closely,
                 too.
        tap:     its (row, column) in that kernel.
    Returns:
        Figure, two panels a line; all axes in HR pixels, rows downward.
    Raises:
        ValueError: no kernels, or the tap is outside the last one.
    """
    if not kernels:
        raise ValueError("sampling: no kernels to draw")
    last = kernels[-1][1]
    if not all(0 <= number < last.size for number in tap):
        raise ValueError(f"sampling: tap {tap} is outside {last.size}x{last.size}")
    number = tap[0] * last.size + tap[1]
    lines = -(-(len(kernels) + 1) // 2)
    figure = Figure(figsize=(9.2, 5.1 * lines + 0.55), layout="constrained")
    # The layout of square axes leaves too little room for titles.
    figure.get_layout_engine().set(rect=(0.01, 0.01, 0.98, 0.975), h_pad=0.12, hspace=0.04)
    grid = figure.subplots(lines, 2, squeeze=False).ravel()
    for axes in grid[len(kernels) + 1 :]:
        axes.set_axis_off()
    for axes, letter, (title, found) in zip(grid, "abcdefgh", kernels, strict=False):
        chosen = number if found is last else None
        _draw_kernel(axes, found, chosen)
        axes.set_title(f"({letter}) {title}", loc="left", fontsize=TITLE, fontweight="bold")
    letter = "abcdefgh"[len(kernels)]
    _draw_tap(grid[len(kernels)], last, number)
    title = f"({letter}) Eq. 3: what tap ({tap[0]}, {tap[1]}) of ({'abcdefgh'[len(kernels) - 1]}) reads"
    grid[len(kernels)].set_title(title, loc="left", fontsize=TITLE, fontweight="bold")
    handles = grid[len(kernels) - 1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=CAPTION)
    return figure


def _draw_kernel(axes, found, chosen):
    """HR grid, the LR pixel's area and centre, the taps, arrows where they have offsets."""
    everything = np.concatenate([found.rest, found.places])
    low, high = everything.min(0) - _BESIDE, everything.max(0) + _BESIDE
    _pixel_grid(axes, low, high, found.scale)
    corner = found.pixel * found.scale - 0.5
    area = {"facecolor": _AREA, "alpha": 0.16, "zorder": 1, "label": "the LR pixel's area, s × s HR pixels"}
    axes.add_patch(Rectangle((corner, corner), found.scale, found.scale, **area))
    first, extent = found.rest.min(0) - 0.5, np.ptp(found.rest, axis=0) + 1
    outline = {"fill": False, "edgecolor": RED, "linewidth": 1.1, "linestyle": (0, (5, 3)), "zorder": 2}
    axes.add_patch(Rectangle(first[::-1], *extent[::-1], label="the kernel, K × K taps", **outline))
    moved = np.abs(found.places - found.rest).max() > 0
    arrow = {"arrowstyle": "->", "color": BLUE, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 2.5}
    for (v, u), (to_v, to_u) in zip(found.rest, found.places, strict=True):
        if np.hypot(to_v - v, to_u - u) > 0.05:
            axes.annotate("", (to_u, to_v), (u, v), arrowprops=arrow, zorder=4)
    if moved:
        rest = {"color": RED, "markersize": 2.5, "linestyle": "none", "alpha": 0.5, "zorder": 3}
        axes.plot(found.rest[:, 1], found.rest[:, 0], "o", label="where the tap is without its offset", **rest)
        axes.plot([], [], "-", color=BLUE, linewidth=1, label="offset (Δv, Δu)")
    style = {"color": RED, "markersize": 7, "markeredgewidth": 1.6, "linestyle": "none", "zorder": 5}
    axes.plot(found.places[:, 1], found.places[:, 0], "+", label="tap: where the HR image is sampled", **style)
    centre = {"color": "black", "markersize": 5.5, "markerfacecolor": "white", "linestyle": "none", "zorder": 6}
    axes.plot(found.centre[1], found.centre[0], "D", label="the LR pixel's centre (Eq. 1)", **centre)
    if chosen is not None:
        v, u = found.places[chosen]
        axes.plot(u, v, "o", markersize=13, markerfacecolor="none", color="black", markeredgewidth=1.3, zorder=6)
    _finish(axes, low, high)
    axes.set_xlabel(f"HR column (px)\n{_equation(found, moved)}", fontsize=LABEL, linespacing=1.7)


def _equation(found, moved):
    """The equation that a panel shows, with its numbers."""
    i, s, (v, _) = found.pixel, found.scale, found.centre
    if moved:
        return (
            r"Eq. 2:  $lr_{i,j} = \sum_{a,b} k_{a,b}\; hr(v + a - c + \Delta v_{a,b},\; u + b - c + \Delta u_{a,b})$"
            + "\n"
            + r"$c = (K - 1)/2$"
        )
    eq1 = rf"Eq. 1:  $v = (i + \frac{{1}}{{2}})\,s - \frac{{1}}{{2}} = ({i} + 0.5)\cdot{s} - 0.5 = {v:g}$"
    rows = found.rest[:: found.size, 0]
    return f"{eq1}\ntap a, from 0, in row $v + a - {_HALF[found.taps]}$ = {rows[0]:g}, {rows[1]:g}, … {rows[-1]:g}"


def _draw_tap(axes, found, number):
    """The four HR pixels around one tap, and the weight of each, as the areas that the tap cuts its square into."""
    v, u = found.places[number]
    row, column = int(np.floor(v)), int(np.floor(u))
    low, high = np.array([row - 0.75, column - 0.75]), np.array([row + 1.75, column + 1.75])
    _pixel_grid(axes, low, high, found.scale, marker=9)
    square = {"fill": False, "edgecolor": "#444444", "linewidth": 1.0, "linestyle": ":"}
    axes.add_patch(Rectangle((column, row), 1, 1, **square))
    for down in (0, 1):
        for right in (0, 1):
            weight = found.weights[number, row + down, column + right]
            # the area opposite a pixel is its weight
            corner = (u if right == 0 else column, v if down == 0 else row)
            size = (column + 1 - u if right == 0 else u - column, row + 1 - v if down == 0 else v - row)
            axes.add_patch(Rectangle(corner, *size, facecolor=_AREA, alpha=0.05 + 0.6 * weight, zorder=1))
            name = rf"${'α' if down else '(1-α)'}\,{'β' if right else '(1-β)'}$".replace("α", r"\alpha")
            text = f"{name.replace('β', chr(92) + 'beta')} = {weight:.2f}"
            place = (column + right + (-0.06 if right == 0 else 0.06), row + down + (-0.3 if down == 0 else 0.3))
            axes.annotate(text, place, ha="center", va="center", fontsize=LABEL)
            axes.plot([u, column + right], [v, row + down], color=GREY, linewidth=0.7, linestyle="--", zorder=2)
    style = {"arrowstyle": "<->", "color": BLUE, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (u, v), (u, row), arrowprops=style)
    axes.annotate("", (u, v), (column, v), arrowprops=style)
    note = {"fontsize": LABEL, "color": BLUE, "textcoords": "offset points"}
    axes.annotate(rf"$\alpha$ = {v - row:.2f}", (u, (v + row) / 2), xytext=(5, 0), va="center", **note)
    axes.annotate(rf"$\beta$ = {u - column:.2f}", ((u + column) / 2, v), xytext=(0, -6), ha="center", va="top", **note)
    axes.plot(u, v, "+", color=RED, markersize=14, markeredgewidth=2.2, zorder=6)
    _finish(axes, low, high)
    rule = r"Eq. 3:  $hr(y, x)$ = sum of the four HR pixels' values by their weights;"
    where = rf"$\alpha$, $\beta$: fractions of row y = {v:.2f} and column x = {u:.2f}"
    axes.set_xlabel(f"HR column (px)\n{rule}\n{where}", fontsize=LABEL, linespacing=1.7)


def _pixel_grid(axes, low, high, scale, marker=3.5):
    """Borders of HR pixels, heavier those of LR pixels, and a small + at every HR pixel's centre."""
    lines = [np.arange(np.floor(a), np.ceil(b) + 1) for a, b in zip(low, high, strict=True)]
    for along, draw in zip(lines, (axes.axhline, axes.axvline), strict=True):
        for place in along - 0.5:
            whole = (place + 0.5) % scale == 0
            draw(place, color="#9a9a9a" if whole else "#dcdcdc", linewidth=1.2 if whole else 0.7, zorder=0)
    rows, columns = (part.ravel() for part in np.meshgrid(*lines, indexing="ij"))
    style = {"color": "black", "markersize": marker, "markeredgewidth": 0.7, "linestyle": "none", "zorder": 2}
    axes.plot(columns, rows, "+", label="centre of an HR pixel", **style)


def _finish(axes, low, high):
    axes.set(xlim=(low[1], high[1]), ylim=(high[0], low[0]), aspect="equal")
    axes.set_xticks(np.arange(np.ceil(low[1]), high[1]))
    axes.set_yticks(np.arange(np.ceil(low[0]), high[0]))
    axes.tick_params(labelsize=7.5, length=2.5)
    axes.set_ylabel("HR row (px)", fontsize=LABEL)
    for spine in axes.spines.values():
        spine.set_visible(False)
