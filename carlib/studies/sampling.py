"""Fig. 2: where the operator samples, asked of the operator itself, so that the picture cannot differ from it.

An image whose values are its own coordinates, resampled with a kernel that has one tap, gives that tap's place, because
bilinear interpolation of a linear function is exact. The derivative by the pixels is the weight that each pixel has.
"""

from dataclasses import dataclass

import numpy as np

_PULL = 0.45  # of the way to the line that the taps of Fig. 2 (c) are drawn to
_MARGIN = 2  # LR pixels beyond the kernel, so that offsets do not reach the image's rim


@dataclass(frozen=True)
class Sampling:
    """What one LR pixel reads. All places are (vertical, horizontal) in HR pixels, whole numbers at pixel centres.

    scale, size: s and K.  pixel: index of the LR pixel, on both axes.  taps: as in `resample`.
    centre: (2,), Eq. 1.  rest: (K*K, 2), taps without offsets.  places: (K*K, 2), with them (Eq. 2).
    weights: (K*K, H, W), of every HR pixel in a tap's value (Eq. 3).
    """

    scale: int
    size: int
    pixel: int
    taps: str
    centre: np.ndarray
    rest: np.ndarray
    places: np.ndarray
    weights: np.ndarray


def sample(scale, size, taps="symmetric", offset_v=0.0, offset_h=0.0) -> Sampling:
    """The sampling of one LR pixel in the middle of an image that its kernel does not leave.

    Args:
        scale, size, taps: as in `resample`; size is K.
        offset_v, offset_h: (K*K,) in HR pixels, or one number for all taps; at most 1.5 scale.
    Raises:
        ValueError: an offset is too long; else as `resample`.
    """
    offsets = [np.broadcast_to(np.asarray(offset, float), size * size) for offset in (offset_v, offset_h)]
    if np.abs(offsets).max() > 1.5 * scale:
        raise ValueError(f"an offset of {np.abs(offsets).max():g} HR pixels is longer than 1.5 * scale={1.5 * scale:g}")
    pixel = -(-size // (2 * scale)) + _MARGIN
    length = (2 * pixel + 1) * scale
    still = np.zeros(size * size)
    places, weights = _probe(scale, size, taps, *offsets, pixel, length)
    rest, _ = _probe(scale, size, taps, still, still, pixel, length)
    centre, _ = _probe(scale, 1, "symmetric", still[:1], still[:1], pixel, length)
    return Sampling(scale, size, pixel, taps, centre[0], rest, places, weights)


def toward_a_line(size):
    """Offsets (K*K,), vertical and horizontal, that draw every tap towards one slanting line through the centre."""
    places = np.arange(size) - (size - 1) / 2
    down, right = (axis.ravel() for axis in np.meshgrid(places, places, indexing="ij"))
    distance = 0.6 * down + 0.8 * right
    return -0.6 * _PULL * distance, -0.8 * _PULL * distance


def draw(profile, scale=2):
    """Fig. 2: the paper's kernel as printed, the released code's, that one with offsets, and what one tap reads.

    Returns:
        matplotlib Figure; written as figures/fig2.
    Raises:
        ParameterError (a ValueError): the scale is not 2, 3 or 4 (more taps cannot be told apart).
    """
    from carlib import artefacts, experiments, figures, results
    from carlib.notebook import ParameterError

    if scale not in (2, 3, 4):
        raise ParameterError(f"scale={scale!r} cannot be drawn: use 2, 3 or 4")
    printed, released = 3 * scale, 3 * scale + 1
    kernels = [
        (f"K = {printed} = 3s, as printed", sample(scale, printed, "paper")),
        (f"K = {released} = 3s + 1, as released", sample(scale, released)),
        (f"K = {released} with offsets", sample(scale, released, "symmetric", *toward_a_line(released))),
    ]
    figure = figures.sampling(kernels, tap=(1, released - 2))
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", "fig2"),
        title=f"Fig. 2: non-uniform resampling, x{scale}",
        alt=f"The taps of one LR pixel over the grid of HR pixels: {printed} x {printed} as printed, {released} x "
        f"{released} as released, the latter moved by offsets, and the four HR pixels that one moved tap reads",
        caption="Places and weights are those that the operator itself computes; v counts rows and u columns, "
        "downward and to the right (the paper's u and v). (a) The kernel as printed, i - m/2 with even m, lies half a "
        "pixel up and left of its LR pixel. (b) The released code's is centred. At an even scale the taps of both lie "
        "at the corners of four HR pixels: without offsets each reads the mean of 2 x 2. (c) The offsets are made up "
        f"for the picture: each draws its tap {100 * _PULL:.0f} % of the way to a line, as one would for an edge. "
        "(d) The ring of (c): a pixel's weight is the area across from it.",
        command=experiments.papermill_command("06_kernels_offsets", profile),
    )
    return figure


def _probe(scale, size, taps, offset_v, offset_h, pixel, length):
    """(K*K, 2) places and (K*K, length, length) weights of LR pixel (pixel, pixel), one tap at a time."""
    import torch

    from carlib.ops.resample import resample

    lines = torch.arange(length, dtype=torch.float64)
    coordinates = torch.stack(torch.meshgrid(lines, lines, indexing="ij"))
    hr = coordinates.repeat(size * size, 1, 1, 1).requires_grad_()  # an image a tap
    grid = (size * size, size * size, length // scale, length // scale)

    def maps(values):  # the same for every image and LR pixel
        return torch.as_tensor(np.array(values))[None, :, None, None].expand(grid).contiguous()

    one_tap = torch.eye(size * size, dtype=torch.float64)[:, :, None, None].expand(grid).contiguous()
    lr = resample(hr, one_tap, maps(offset_v), maps(offset_h), scale=scale, taps=taps, impl="reference")
    places = lr[:, :, pixel, pixel]
    (weights,) = torch.autograd.grad(places[:, 0].sum(), hr)
    return places.detach().numpy(), weights[:, 0].numpy()
