"""Which downscaler suits an image? Each makes its LR image, which is restored, and the nearest to the image wins.

CAR gains on most photographs and loses on others, on drawings say (notebook 08). Whoever downscales an image still has
it, and so can look before the LR image is all that is left. Fidelity alone decides: LR images as JPEG have one quality,
and not one size.
"""

from typing import NamedTuple

from carlib import codecs, method_networks, metrics, origin, rescale

BEST = "best"
LOSSLESS, JPEG = ("car", "bicubic"), ("car-jpeg", "bicubic")  # how the LR image is to be stored -> who competes


class Choice(NamedTuple):
    """An LR image, who made it, and what each method reached."""

    lr: object  # uint8 (H/scale, W/scale[, 3])
    method: str
    psnr: dict  # method -> dB, all channels, of the restored image


def best(image, scale, *, quality=None, pad=False, tile=None, device=None) -> Choice:
    """`carlib.downscale` by CAR or bicubic, whichever the upscaler that belongs to it restores better.

    Args:
        image, scale, pad, tile, device: as of `carlib.downscale`.
        quality: of the JPEG that the LR image is to be stored as; None: lossless.
    Raises:
        ValueError: as `carlib.downscale` and `carlib.upscale`.
    """
    made, psnr = {}, {}
    for method in LOSSLESS if quality is None else JPEG:
        network = {"tile": tile, "device": device}
        made[method] = rescale.downscale(
            image, scale, method, pad=pad, **(network if method in method_networks.PAIRS else {})
        )
        upscaler = origin.upscaler_for(origin.Origin(method, scale, quality=quality))
        sr = rescale.upscale(_stored(made[method], quality), scale, upscaler, image.shape[:2], **network)
        psnr[method] = metrics.psnr(image, sr, 0, "rgb")
    winner = max(psnr, key=psnr.get)
    return Choice(made[winner], winner, psnr)


def _stored(lr, quality):
    return lr if quality is None else codecs.decode(codecs.encode(lr, "jpeg", quality=quality), "jpeg")


def check_options(**options):
    """Refuse options that belong to one method alone.

    Raises:
        ValueError: one of them is not None.
    """
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"method {BEST!r} has no {given[0]}: leave {given[0]} out, or name the method you want")
