"""Figure 6: Fourier spectra of an image and of what downscalers make of it."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from carlib.figures.style import (
    BLUE,
    CAPTION,
    GAP,
    GREY,
    LABEL,
    LINE,
    RED,
    WIDTH,
    axes_at,
    enlarged,
    fractions,
    new_figure,
    styled,
    text_below,
    title_above,
)

NYQUIST = 0.5  # cycles per LR pixel
_POWERS = "magma"
_COLUMNS = 4
_BAR, _LINES = 0.75, 2.3  # inches: the colour bar with its numbers; the height of the line plots
_COLOURS = (BLUE, "#009E73", "#56B4E9", "#E69F00", "#CC79A7", RED)  # Okabe & Ito


@styled
def spectra(panels):
    """Centred spectra as pictures on one colour scale, and their radial averages (the paper's Fig. 6).

    The colour scale goes from the 1st to the 99.9th percentile of the LR images' levels.

    Args:
        panels: list of dicts, the reference images first
            name:      str, printed above the picture.
            note:      str, printed below it.
            levels:    (H, W) dB, frequency 0 at [H//2, W//2].
            reach:     the picture ends at +-reach cycles per LR pixel; 0.5 for an LR image, in others the Nyquist
                       square is marked.
            average:   (frequency, dB), radial average.
            aliasing:  (frequency, dB) of the aliasing alone; None for a reference image, which is drawn in black.
    Returns:
        Figure: an axes per picture, the colour bar, the radial averages, and those of the aliasing.
    Raises:
        ValueError: no panels, or none of an LR image.
    """
    if all(panel["reach"] > NYQUIST for panel in panels):
        raise ValueError("spectra: no rows to draw")
    side = (WIDTH - _BAR - (_COLUMNS - 1) * GAP) / _COLUMNS
    line = 0.24 + side + LINE + 2 * GAP  # title, picture, note
    count = -(-len(panels) // _COLUMNS)
    figure = new_figure(WIDTH, count * line + 0.3 + _LINES + 0.42)
    shown = np.concatenate([panel["levels"].ravel() for panel in panels if panel["reach"] <= NYQUIST])
    colours = Normalize(*np.percentile(shown, [1, 99.9]))
    for number, panel in enumerate(panels):
        x, y = (number % _COLUMNS) * (side + GAP), (number // _COLUMNS) * line + 0.24
        axes = axes_at(figure, x, y, side, side)
        reach = panel["reach"]
        axes.imshow(enlarged(panel["levels"]), cmap=_POWERS, norm=colours, extent=[-reach, reach] * 2, aspect="auto")
        if reach > NYQUIST:
            _mark_square(axes)
        title_above(axes, f"({chr(ord('a') + number)}) {panel['name']}")
        text_below(axes, [panel["note"]], 0, side, fontsize=CAPTION)
    _power_bar(figure, _COLUMNS * (side + GAP) - GAP + 0.08, 0.24, (count - 1) * line + side, colours)
    _line_plots(figure, panels, count * line + 0.3)
    return figure


def _mark_square(axes):
    """The LR grid's Nyquist square: what lies outside can only fold into it."""
    square = {"xy": (-NYQUIST, -NYQUIST), "width": 2 * NYQUIST, "height": 2 * NYQUIST, "fill": False}
    axes.add_patch(Rectangle(**square, edgecolor="black", linewidth=2.4))
    axes.add_patch(Rectangle(**square, edgecolor="white", linewidth=1.2))


def _power_bar(figure, x, y, height, colours):
    axes = figure.add_axes(fractions(figure, x, y, 0.13, height))
    bar = figure.colorbar(ScalarMappable(colours, _POWERS), cax=axes, extend="both", extendfrac=0.02)
    bar.locator = MaxNLocator(8)
    bar.ax.tick_params(labelsize=7.5, length=2.5)
    bar.set_label("power (dB re 1 grey level² per (cycle/LR px)²)", fontsize=CAPTION)
    bar.outline.set_linewidth(0.5)


def _line_plots(figure, panels, y):
    """Radial averages of all panels, and of the aliasing alone, side by side on the same axis."""
    margin, apart = 0.5, 0.35
    width = (WIDTH - 1.95 - margin - apart) / 2  # on the right the legend
    place = fractions(figure, margin, y, width, _LINES)
    left = figure.add_axes(place)
    right = figure.add_axes(fractions(figure, margin + width + apart, y, width, _LINES), sharex=left, sharey=left)
    colours = iter(_COLOURS * len(panels))
    dashes = iter(((4, 2), (None, None), (1, 1)) * len(panels))
    for panel in panels:
        if panel["aliasing"] is None:
            left.plot(*panel["average"], color="black", dashes=next(dashes), linewidth=1.2, label=panel["name"])
            continue
        last = panel is panels[-1]
        style = {"color": next(colours), "linewidth": 2.2 if last else 1.3, "zorder": 3 if last else 2}
        left.plot(*panel["average"], label=panel["name"], **style)
        right.plot(*panel["aliasing"], **style)
    for axes, title in ((left, "radial average of the spectra"), (right, "radial average of the aliasing alone")):
        axes.axvline(NYQUIST, color=GREY, linewidth=1, dashes=(3, 2), zorder=1)
        axes.annotate("Nyquist ", (NYQUIST, 0.99), xycoords=("data", "axes fraction"), rotation=90, ha="right",
                      va="top", fontsize=CAPTION, color=GREY)  # fmt: skip
        axes.set_title(title, loc="left", fontsize=LABEL, fontweight="bold", pad=4)
        axes.set_xlabel("cycles per LR pixel", fontsize=CAPTION)
        axes.tick_params(labelsize=7.5, length=2.5)
        axes.grid(True)
    left.set_xlim(0, NYQUIST * 2**0.5)  # the corner of the square
    left.set_ylabel("power (dB)", fontsize=CAPTION)
    right.tick_params(labelleft=False)
    figure.legend(*left.get_legend_handles_labels(), loc="upper left", fontsize=CAPTION, handlelength=1.8,
                  bbox_to_anchor=(fractions(figure, WIDTH - 1.9, y, 0, 0)[0], place[1] + place[3]),
                  borderaxespad=0)  # fmt: skip
