"""Which downscaler suits an image? Each makes its LR image, which is restored, and the nearest to the image wins.

CAR gains on most photographs and loses on others, on drawings say (notebook 08). Whoever downscales an image still has
it, and so can look before the LR image is all that is left. JPEGs are compared at the same size: CAR's files are larger
than bicubic's of the same quality, so its LR image is stored at a lower one. With whole chroma the CAR of lossless LR
images competes, whose gain lies in their colour.
"""

from bisect import bisect_right
from functools import partial
from typing import NamedTuple

from carlib import codecs, metrics, origin, rescale
from carlib.data.images import check_quality

BEST = "best"
LOSSLESS, JPEG = ("car", "bicubic"), ("car-jpeg", "bicubic")  # how the LR image is to be stored -> who competes


class Choice(NamedTuple):
    """An LR image, who made it, and what each method reached."""

    lr: object  # uint8 (H/scale, W/scale[, 3])
    method: str
    quality: int | None  # of the JPEG that it was restored from, None: lossless
    psnr: dict  # method -> dB, all channels, of the restored image; without CAR where its file cannot be small enough


def best(image, scale, *, quality=None, chroma=None, pad=False, tile=None, device=None) -> Choice:
    """`carlib.downscale` by CAR or bicubic, whichever the upscaler that belongs to it restores better.

    Args:
        image, scale, pad, tile, device: as of `carlib.downscale`.
        quality: of the JPEG that bicubic's LR image would be stored as, whose size CAR's may not exceed: it has a lower
                 quality, and where no quality makes it so small, bicubic's is taken. None: both are lossless.
        chroma:  of these JPEGs, "halved" (4:2:0, also None) or "whole" (4:4:4).
    Raises:
        ValueError: as `carlib.downscale` and `carlib.upscale`; quality is no whole number from 1 to 100;
            chroma is unknown, or there is no quality.
    """
    quality = None if quality is None else check_quality(quality)
    if quality is None and chroma is not None:
        raise ValueError(f"chroma={chroma!r} is for JPEG: give a quality, or leave it out")
    coded = partial(codecs.encode, codec="jpeg", quality=quality, chroma=chroma or "halved")
    car, bicubic = LOSSLESS if quality is None or chroma == "whole" else JPEG
    network = {"tile": tile, "device": device}
    made = {
        car: rescale.downscale(image, scale, car, pad=pad, **network),
        bicubic: rescale.downscale(image, scale, bicubic, pad=pad),
    }
    qualities = {car: quality, bicubic: quality}
    if quality is not None:
        qualities[car] = _highest_quality_within(partial(coded, made[car]), len(coded(made[bicubic])))
        if not qualities[car]:
            del made[car]

    def restored(method):
        own = qualities[method]
        lr = made[method] if own is None else codecs.decode(coded(made[method], quality=own), "jpeg")
        upscaler = origin.upscaler_for(origin.Origin(method, scale, quality=own))
        return metrics.psnr(image, rescale.upscale(lr, scale, upscaler, image.shape[:2], **network), 0, "rgb")

    psnr = {method: restored(method) for method in made}
    winner = max(psnr, key=psnr.get)
    return Choice(made[winner], winner, qualities[winner], psnr)


def _highest_quality_within(coded, size) -> int:
    """A quality at which coded(quality=...) takes at most `size` bytes, and at the next more; 0: none is so small."""
    return bisect_right(range(1, 101), size, key=lambda quality: len(coded(quality=quality)))


def check_options(**options):
    """Refuse options that belong to one method alone.

    Raises:
        ValueError: one of them is not None.
    """
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"method {BEST!r} has no {given[0]}: leave {given[0]} out, or name the method you want")
