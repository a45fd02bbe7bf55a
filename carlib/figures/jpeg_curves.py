"""Fidelity over bits of LR images that were stored as JPEG and restored, by what their networks were trained on."""

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from carlib.figures.style import BLUE, CAPTION, GREEN, GREY, LABEL, RED, TITLE, WIDTH, styled

_COLOURS = {"car": ("CAR", RED), "bicubic": ("bicubic", BLUE)}
_OWN = {"priced": GREEN, "one kernel": GREY}  # trainings with a colour of their own
_RATES = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
# On which LR images networks were trained -> its words, line and marker.
_TRAINED = {
    "lossless": ("lossless LR", (0, (4, 1.6)), "s"),
    "jpeg": ("JPEG", "-", "o"),
    "priced": ("JPEG, bits priced", "-", "D"),
    "one kernel": ("JPEG, bits priced, one kernel", "-", "v"),
}


@styled
def jpeg_curves(curves):
    """PSNR over bits per HR pixel, an axes per scale.

    Args:
        curves: (downscaler, scale, trained) -> DataFrame bpp, psnr, by rising quality; downscaler "car", "bicubic" or
                "none" (the HR image is coded, scale 1), trained "lossless", "jpeg", "priced", "one kernel",
                or "" of the HR image.
    Returns:
        Figure; bits on a logarithmic axis.
    Raises:
        ValueError: no curve of an LR image.
    """
    scales = sorted({scale for downscaler, scale, _ in curves if downscaler != "none"})
    if not scales:
        raise ValueError("jpeg_curves: no curve of an LR image")
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    grid = figure.subplots(1, len(scales), squeeze=False)[0]
    for axes, scale in zip(grid, scales, strict=True):
        for (downscaler, of, trained), curve in curves.items():
            if downscaler == "none":
                axes.plot(curve.bpp, curve.psnr, color="black", linewidth=1.6, label="HR image as JPEG")
            elif of == scale:
                (name, colour), (on, line, marker) = _COLOURS[downscaler], _TRAINED[trained]
                style = {"color": _OWN.get(trained, colour), "linestyle": line, "marker": marker}
                axes.plot(curve.bpp, curve.psnr, **style, linewidth=1.4, markersize=3, label=f"{name}, trained on {on}")
        axes.set_title(f"x{scale}", loc="left", fontsize=TITLE, fontweight="bold")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("bits per HR pixel", fontsize=LABEL)
        axes.grid(True, which="major")
        axes.tick_params(which="both", labelsize=CAPTION)
        _frame(axes, [curve for (_, of, _), curve in curves.items() if of == scale])
    grid[0].set_ylabel("PSNR (dB, Y)", fontsize=LABEL)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=CAPTION)
    return figure


def _frame(axes, shown):
    """Show the fidelity that LR images reach; the HR image's goes on where no restored image follows."""
    low, high = min(curve.psnr.min() for curve in shown), max(curve.psnr.max() for curve in shown)
    least, most = min(curve.bpp.min() for curve in shown), max(curve.bpp.max() for curve in shown)
    axes.set_ylim(low - 0.5, high + 1.5)
    axes.set_xlim(least / 1.2, most * 1.2)
    axes.set_xticks([rate for rate in _RATES if least / 1.2 <= rate <= most * 1.2])
