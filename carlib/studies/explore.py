"""Single pixels of CAR's LR image: the taps that make them, drawn and, in a live notebook, chosen with sliders."""

import io

import numpy as np

from carlib import artefacts, experiments, notebook, results
from carlib.studies import illustrate

_MARGIN = 2  # LR pixels at the rim of a crop that are not told: their taps lie outside the picture
_DPI = 80


def taps(profile, image, scale, box):
    """Where the taps of a flat pixel, one at an edge and one in texture lie, and what they weigh: bicubic's and CAR's.

    Arguments as `illustrate.check_crop`.
    Returns:
        matplotlib Figure; written as figures/taps, of another image, scale or crop under a name that has them.
    Raises:
        ParameterError (a ValueError): as check_crop, or a side of the crop has no five LR pixels.
    """
    from carlib import figures

    hr, examples = _of_crop(profile, image, scale, box)
    figure = figures.effective_kernels(hr, examples, telling(hr, scale), scale)
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", illustrate.name_of("taps", 4, image, box, scale)),
        title=f"Taps of single pixels of {illustrate.shown(image)}, x{scale}, profile {profile}",
        alt="Three places of a photograph, flat, at an edge and in texture, each with the taps that make one small "
        "pixel of it, by bicubic downscaling and by CAR with and without the offset loss",
        caption="A circle is a tap, at the place it samples, offset added; its area is the size of its weight, its "
        "colour the weight, each line by a scale of its own. Behind them the original, faded; dashed the area of one "
        "small pixel. Flat and edge are the pixels of the crop around which least changes, and most in one direction "
        "alone; texture is that amid most change in all directions.",
        command=experiments.papermill_command("06_kernels_offsets", profile, image=image, scale=scale, box=box),
    )
    return figure


def taps_of_any_pixel(profile, image, scale, box):
    """`taps` of a pixel that two sliders choose.

    Arguments as `illustrate.check_crop`.
    Returns:
        a widget; a line of text where nobody could move it (papermill keeps pictures, not widgets that work).
    """
    if not notebook.is_live():
        return "Open this notebook in JupyterLab, and two sliders choose the pixel whose taps are drawn."
    import ipywidgets

    from carlib import figures

    hr, examples = _of_crop(profile, image, scale, box)
    (_, row, column), *_ = telling(hr, scale)[1:]
    picture = ipywidgets.Image(format="png")
    sliders = [
        ipywidgets.IntSlider(value=value, max=count - 1, description=name, continuous_update=False)
        for name, value, count in zip(("row", "column"), (row, column), examples[0][1].shape[1:], strict=True)
    ]

    def draw(_=None):
        drawn = io.BytesIO()
        pixel = ("chosen", *(slider.value for slider in sliders))
        figures.effective_kernels(hr, examples, [pixel], scale).savefig(drawn, format="png", dpi=_DPI)
        picture.value = drawn.getvalue()

    for slider in sliders:
        slider.observe(draw, "value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox(sliders), picture])


def telling(hr, scale):
    """Three LR pixels of an HR crop: the flattest, the one with most of an edge, and the one amid most texture.

    By the structure tensor of the luma (Bigun & Granlund 1987): how much changes around a pixel, and how much of that
    in one direction alone; around means within an LR pixel for flat and edge, within four for texture.

    Args:
        hr: uint8 (H, W, 3), sides multiples of `scale`, of more than 4 LR pixels each.
    Returns:
        list of (label, row, column); three places, unless there are fewer.
    """
    from scipy.ndimage import gaussian_filter

    from carlib.data import LUMA

    down, right = np.gradient(gaussian_filter(hr @ LUMA, 1))
    cut, found = slice(scale // 2 + _MARGIN * scale, -_MARGIN * scale, scale), {}
    for reach in (1, 4):
        a, b, c = (
            gaussian_filter(product, reach * scale)[cut, cut] for product in (down * down, right * right, down * right)
        )
        directed = np.hypot(a - b, 2 * c)
        wanted = {"flat": -(a + b), "edge": directed} if reach == 1 else {"texture": a + b - directed}
        for label, much in wanted.items():
            for row, column in found.values():
                much[row, column] = -np.inf
            found[label] = np.unravel_index(np.argmax(much), much.shape)
    return [(label, int(row) + _MARGIN, int(column) + _MARGIN) for label, (row, column) in found.items()]


def _of_crop(profile, image, scale, box):
    """HR pixels of the crop, and (title, kernel, offset_v, offset_h) of bicubic and of CAR as Fig. 4 shows them."""
    from carlib.data import to_colour

    hr = to_colour(illustrate.check_crop(image, scale, box, figure=4))
    top, left, height, width = box
    if min(height, width) <= 2 * _MARGIN * scale:
        raise notebook.ParameterError(f"box={box!r} is too small: give sides above {2 * _MARGIN * scale} HR pixels")
    hr = hr[top : top + height, left : left + width]
    return hr, illustrate.kernels(illustrate.tap_maps(profile, image, scale, box), scale)
