"""Which downscaler suits an image? Each makes its LR image, which is restored, and the nearest to the image wins.

CAR gains on most photographs and loses on others, on drawings say (notebook 08). Whoever downscales an image still has
it, and so can look before the LR image is all that is left. Of JPEGs the size of the file weighs, too: CAR has to beat
a bicubic LR image whose file is at least as large.
"""

from bisect import bisect_left
from typing import NamedTuple

from carlib import codecs, metrics, origin, rescale

BEST = "best"
LOSSLESS, JPEG = ("car", "bicubic"), ("car-jpeg", "bicubic")  # how the LR image is to be stored -> who competes


class Choice(NamedTuple):
    """An LR image, who made it, and what each method reached."""

    lr: object  # uint8 (H/scale, W/scale[, 3])
    method: str
    psnr: dict  # method -> dB, all channels, of the restored image; of JPEGs with files of one size, see `best`


def best(image, scale, *, quality=None, pad=False, tile=None, device=None) -> Choice:
    """`carlib.downscale` by CAR or bicubic, whichever the upscaler that belongs to it restores better.

    Args:
        image, scale, pad, tile, device: as of `carlib.downscale`.
        quality: of the JPEG that the LR image is to be stored as; None: lossless. Only to be compared, bicubic's
                 is stored at the lowest quality that makes its file as large as CAR's.
    Raises:
        ValueError: as `carlib.downscale` and `carlib.upscale`.
    """
    car, bicubic = LOSSLESS if quality is None else JPEG
    network = {"tile": tile, "device": device}
    made = {
        car: rescale.downscale(image, scale, car, pad=pad, **network),
        bicubic: rescale.downscale(image, scale, bicubic, pad=pad),
    }
    qualities = {car: quality, bicubic: quality and _as_large(made[bicubic], len(_coded(made[car], quality)))}

    def restored(method):
        own = qualities[method]
        lr = made[method] if own is None else codecs.decode(_coded(made[method], own), "jpeg")
        upscaler = origin.upscaler_for(origin.Origin(method, scale, quality=own))
        return metrics.psnr(image, rescale.upscale(lr, scale, upscaler, image.shape[:2], **network), 0, "rgb")

    psnr = {method: restored(method) for method in made}
    winner = max(psnr, key=psnr.get)
    return Choice(made[winner], winner, psnr)


def _coded(lr, quality) -> bytes:
    return codecs.encode(lr, "jpeg", quality=quality)


def _as_large(lr, size) -> int:
    """The lowest quality at which the JPEG takes no fewer bytes than `size`; 100 where none does."""
    return min(100, 1 + bisect_left(range(1, 101), size, key=lambda quality: len(_coded(lr, quality))))


def check_options(**options):
    """Refuse options that belong to one method alone.

    Raises:
        ValueError: one of them is not None.
    """
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"method {BEST!r} has no {given[0]}: leave {given[0]} out, or name the method you want")
