"""Rate and distortion: fidelity over bits, LR images restored beside HR images coded directly."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from carlib.figures.style import BLUE, CAPTION, GREY, LABEL, RED, TITLE, WIDTH, styled

_NAMES = {"jpeg": "JPEG", "webp": "WebP", "jpegxl": "JPEG XL"}
_METRICS = {"psnr": "PSNR (dB, Y)", "ssim": "SSIM (Y)"}
_COLOURS = {"car": ("CAR", RED), "bicubic": ("bicubic", BLUE)}
_DASHES = {2: "-", 4: (0, (4, 1.6))}  # told apart without colour, as the markers are
_MARKERS = {2: "o", 4: "s"}
_STARS = {2: "*", 4: "P"}  # of LR images stored lossless


@styled
def rate_curves(curves, codecs):
    """Fidelity over bits per HR pixel: a row per metric, a column per codec.

    Args:
        curves: (downscaler, scale, codec, mode) -> DataFrame bpp, psnr, ssim, by rising quality; downscaler "car",
                "bicubic" or "none" (the HR image is coded, scale 1), mode "lossy" or "lossless".
        codecs: the columns, names of lossy codecs of LR and HR images. AVIF of HR images, if there, is in each.
    Returns:
        Figure; bits on a logarithmic axis. Lossless LR images, the smallest of a downscaler and scale, are stars
        (×2) and crosses (×4). The axes end where restored images do.
    Raises:
        ValueError: no curve for a codec.
    """
    if missing := [codec for codec in codecs if ("none", 1, codec, "lossy") not in curves]:
        raise ValueError(f"rate_curves: no curve of the HR image coded by {', '.join(missing)}")
    figure = Figure(figsize=(WIDTH, 3.0 * len(_METRICS) + 0.7), layout="constrained")
    grid = figure.subplots(len(_METRICS), len(codecs), squeeze=False, sharex=True, sharey="row")
    stars = _smallest(curves)
    for line, (metric, label) in zip(grid, _METRICS.items(), strict=True):
        for axes, codec in zip(line, codecs, strict=True):
            for (downscaler, scale, name, mode), curve in curves.items():
                if mode == "lossy" and (name == codec or (name == "avif" and downscaler == "none")):
                    axes.plot(curve.bpp, curve[metric], **_style(downscaler, scale, name))
            for (downscaler, scale), curve in stars.items():
                axes.plot(curve.bpp, curve[metric], color=_COLOURS[downscaler][1], **_star(scale))
            axes.set_xscale("log")
            axes.grid(True, which="major")
            axes.tick_params(which="both", labelsize=CAPTION)
        line[0].set_ylabel(label, fontsize=LABEL)
        restored = [curve[metric] for (downscaler, *_), curve in curves.items() if downscaler != "none"]
        low, high = min(map(min, restored), default=0), max(map(max, restored), default=0)
        if high > low:
            line[0].set_ylim(low - 0.06 * (high - low), high + 0.12 * (high - low))  # HR images' curves go on above
    for axes, codec in zip(grid[0], codecs, strict=True):
        axes.set_title(_NAMES[codec], loc="left", fontsize=TITLE, fontweight="bold")
    for axes in grid[-1]:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("bits per HR pixel", fontsize=LABEL)
    figure.legend(handles=_legend(curves, stars), loc="outside lower center", ncols=4, fontsize=CAPTION)
    return figure


def _style(downscaler, scale, codec) -> dict:
    if downscaler == "none":
        colour, width = ("#A0A0A0", 1.2) if codec == "avif" else ("black", 1.6)
        dash = (0, (1, 1.2)) if codec == "avif" else "-"
        return {"color": colour, "linewidth": width, "linestyle": dash}
    # The two can lie on each other: bicubic's is broad and below.
    broad = downscaler == "bicubic"
    return {
        "color": _COLOURS[downscaler][1],
        "linewidth": 2.6 if broad else 1.2,
        "alpha": 0.55 if broad else 1,
        "linestyle": _DASHES[scale],
        "marker": _MARKERS[scale],
        "markersize": 5.5 if broad else 3,
        "zorder": 2 if broad else 3,
    }


def _star(scale) -> dict:
    return {"marker": _STARS[scale], "linestyle": "none", "markersize": 9, "markeredgecolor": "white", "zorder": 4}


def _smallest(curves) -> dict:
    """(downscaler, scale) -> the one point of the lossless LR images that takes the fewest bits."""
    found = {}
    for (downscaler, scale, _, mode), curve in curves.items():
        key = downscaler, scale
        if mode == "lossless" and (key not in found or curve.bpp.iloc[0] < found[key].bpp.iloc[0]):
            found[key] = curve
    return found


def _legend(curves, stars):
    handles = [Line2D([], [], label="HR image coded by the column's codec", **_style("none", 1, ""))]
    if ("none", 1, "avif", "lossy") in curves:
        handles.append(Line2D([], [], label="HR image coded by AVIF", **_style("none", 1, "avif")))
    for downscaler, scale in dict.fromkeys(key[:2] for key in curves if key[0] != "none"):
        label = f"{_COLOURS[downscaler][0]} LR ×{scale}, coded and restored"
        handles.append(Line2D([], [], label=label, **_style(downscaler, scale, "")))
    if stars:
        for scale in sorted({scale for _, scale in stars}):
            told = f"LR ×{scale} lossless"
            handles.append(Line2D([], [], label=told, color=GREY, **_star(scale)))
    return handles
