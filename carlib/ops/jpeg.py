"""An image stored as JPEG and read again, with a gradient: what a file at some quality leaves of an LR image.

Baseline JPEG as libjpeg writes and reads it (ITU-T T.81, JFIF 1.02): YCbCr, chroma halved both ways (4:2:0), 8x8 DCT,
the standard's tables (Annex K) scaled by quality. Rounding to whole pixels passes the gradient straight through, that
of coefficients has the gradient of CAR's soft round (Eq. 7): a coefficient that becomes 0 gives back next to none.
"""

import math

import torch
from torch.nn import functional

_LUMA = """
16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99"""
_CHROMA = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99"""
_BITS = 2.4  # fitted to the files of 25 photographs' LR images at qualities 10 to 95
_RED, _BLUE = 0.299, 0.114  # of BT.601's luma


def jpeg(image, quality, alpha=1.0):
    """What JPEG at a quality leaves of an image; as `stored`, without the bits."""
    return stored(image, quality, alpha)[0]


def stored(image, quality, alpha=1.0):
    """What JPEG at a quality leaves of an image, and about how many bits it takes.

    Args:
        image:   (N, 3, H, W) float, RGB in [0, 1]; any size.
        quality: libjpeg's, 1 to 100: a number, or an integer tensor (N,), one for each image.
        alpha:   of the soft round's gradient, as of `carlib.quantize`.
    Returns:
        (N, 3, H, W), values k/255. libjpeg's own arithmetic is of whole numbers: of what it writes and reads at 30 and
        above a quarter of the numbers is another, one in seven by more than 1, together 2 to 22 % of what JPEG changes.
        In half precision the nearest to k/255.
        bits (N,) float32: an estimate of a file's without its headers, smooth: _BITS times the sum of log2(1 + |c|), c
        the coefficients in steps of quantisation, not rounded, of an average the difference from the block on its left.
        Of photographs' LR images within 20 percent of libjpeg's (qualities 20 to 95).
    Raises:
        ValueError: shape, type or a quality is none of these.
    """
    check_rgb(image)
    quality = torch.as_tensor(quality)
    if quality.is_floating_point() or quality.dtype == torch.bool or quality.shape not in ((), (len(image),)):
        raise ValueError(f"quality={quality.tolist()} is no whole number, nor one for each of {len(image)} images")
    quality = quality.long().expand(len(image))
    if not ((quality >= 1) & (quality <= 100)).all():  # before it is on a GPU, for which this would wait
        raise ValueError(f"quality={quality.tolist()} is not 1 to 100")
    quality = quality.to(image.device)
    with torch.autocast(image.device.type, enabled=False):  # half precision does not tell 256 levels apart
        y, cb, cr = _whole(_to_ycbcr(image.float() * 255)).split(1, dim=1)
        # Of the last column libjpeg makes whole blocks before it halves, of the last row only a pair.
        chroma = _halved(_extended(torch.cat([cb, cr], 1), 2, 16))
        y, bits = _coded(y, _table(_LUMA, quality), alpha)
        chroma, more = _coded(chroma, _table(_CHROMA, quality), alpha)
        chroma = chroma[..., : (image.shape[3] + 1) // 2]
        cb, cr = _doubled(chroma, image.shape[2:]).split(1, dim=1)
        return (_whole(_to_rgb(y, cb, cr)).clamp(0, 255) / 255).to(image.dtype), bits + more


def check_rgb(image):
    """Refuse what is no batch of colour images in [0, 1].

    Raises:
        ValueError: it is not (N, 3, H, W), is empty, or has whole numbers.
    """
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"an image of shape {tuple(image.shape)} is not (N, 3, H, W)")
    if not image.is_floating_point():
        raise ValueError(f"an image of {image.dtype} is no float in [0, 1]: divide 8 bits by 255")


def price(quality):
    """What a bit is worth at a quality, over that at 50: JPEG's steps of quantisation over those at 50.

    For a bit more of an LR image's file the error of what is restored falls about in proportion to them
    (`carlib.studies.jpeg_lr.worth` measures by how much).

    Args:
        quality: 1 to 100, a number or an integer tensor.
    Returns:
        float tensor of the same shape: 5 at 10, 1 at 50, 0.1 at 95; 0.02 at 99 and 100.
    """
    return _percent(torch.as_tensor(quality)).clamp(min=2) / 100


def _to_ycbcr(image):
    red, green, blue = image.split(1, dim=1)
    y = _RED * red + (1 - _RED - _BLUE) * green + _BLUE * blue
    return torch.cat([y, (blue - y) / (2 - 2 * _BLUE) + 128, (red - y) / (2 - 2 * _RED) + 128], 1)


def _to_rgb(y, cb, cr):
    red, blue = y + (2 - 2 * _RED) * (cr - 128), y + (2 - 2 * _BLUE) * (cb - 128)
    return torch.cat([red, (y - _RED * red - _BLUE * blue) / (1 - _RED - _BLUE), blue], 1)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, numbers, alpha):
        ctx.save_for_backward(*([numbers] if alpha else []))
        ctx.alpha = alpha
        return numbers.round()

    @staticmethod
    def backward(ctx, gradient):
        for numbers in ctx.saved_tensors:
            gradient = gradient * (1 - ctx.alpha * torch.cos(2 * math.pi * numbers))
        return gradient, None


def _whole(levels):
    return _Round.apply(levels, 0.0)


def _extended(image, *multiples):
    """Continued by its last row and column until height and width are multiples of these, as encoders do.

    Not by `functional.pad`, whose gradient on a GPU has other bits each time.
    """
    for dim, multiple in zip((2, 3), multiples, strict=True):
        if more := -image.shape[dim] % multiple:
            last = image.narrow(dim, image.shape[dim] - 1, 1)
            image = torch.cat([image, *[last] * more], dim)
    return image


def _table(numbers, quality):
    """(N, 64): the standard's table at a quality, by libjpeg's rule."""
    base = torch.tensor([int(number) for number in numbers.split()], device=quality.device)
    return ((base * _percent(quality)[:, None] + 50) // 100).clamp(1, 255)


def _percent(quality):
    return torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)


def _coded(planes, table, alpha):
    """(N, C, H, W) through DCT, quantisation by the table (N, 64) and back, as whole numbers; bits (N,)."""
    height, width = planes.shape[2:]
    blocks = functional.pixel_unshuffle(_extended(planes, 8, 8).transpose(0, 1).flatten(0, 1)[:, None] - 128, 8)
    step = table.repeat(planes.shape[1], 1)[:, :, None, None].float()
    basis = _basis(planes)
    coefficients = torch.einsum("kp,nphw->nkhw", basis, blocks) / step
    bits = _bits(coefficients).unflatten(0, (planes.shape[1], -1)).sum(0)
    pixels = torch.einsum("kp,nkhw->nphw", basis, _Round.apply(coefficients, alpha) * step)
    pixels = functional.pixel_shuffle(pixels, 8)
    pixels = pixels.unflatten(0, (planes.shape[1], -1))[:, :, 0].transpose(0, 1)
    return _whole(pixels[..., :height, :width] + 128).clamp(0, 255), bits


def _bits(coefficients):
    """(N, 64, h, w), not rounded -> (N,)."""
    average, other = coefficients.split([1, 63], dim=1)
    change = average[..., 1:] - average[..., :-1]
    return _BITS * sum(torch.log2(1 + part.abs()).sum((1, 2, 3)) for part in (change, other))


def _basis(like):
    """(64, 64): coefficient, pixel of a block, both row by row; orthonormal."""
    place = torch.arange(8, dtype=torch.float64)
    rows = torch.cos(math.pi / 8 * (place + 0.5) * place[:, None]) / 2
    rows[0] /= math.sqrt(2)
    return torch.kron(rows, rows).to(like)


def _halved(chroma):
    """Means of 2x2 pixels; those that end in a half are rounded down and up in turn along a row, as libjpeg does."""
    mean = functional.avg_pool2d(chroma, 2)
    up = torch.arange(mean.shape[3], device=mean.device) % 2
    return _whole(mean + (up - 0.5) / 4)


def _doubled(chroma, size):
    """To (H, W) as libjpeg does unless told otherwise: three quarters of the nearer pixel, a quarter of the next."""
    for dim, length in zip((2, 3), size, strict=True):
        first, last = chroma.narrow(dim, 0, 1), chroma.narrow(dim, chroma.shape[dim] - 1, 1)
        before = torch.cat([first, chroma.narrow(dim, 0, chroma.shape[dim] - 1)], dim)
        after = torch.cat([chroma.narrow(dim, 1, chroma.shape[dim] - 1), last], dim)
        pair = torch.stack([0.75 * chroma + 0.25 * before, 0.75 * chroma + 0.25 * after], dim + 1)
        chroma = pair.flatten(dim, dim + 1).narrow(dim, 0, length)
    up = 1 - torch.arange(size[1], device=chroma.device) % 2
    return _whole(chroma + (up - 0.5) / 16)
