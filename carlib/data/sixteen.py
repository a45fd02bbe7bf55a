"""Files with 16 bits a channel, rounded to 8.

Pillow keeps all 16 bits of a grey file, but of a colour file it keeps the high byte alone, without a word. Truncating
is not rounding (0x00FF is 1, not 0), so the low byte is fetched too: the file is decoded a second time with the other
byte order, which hands out the other half of every sample.
"""

import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

MODES = ("I", "I;16", "I;16B", "I;16L")


def is_sixteen_bit(image) -> bool:
    """True if an opened, not yet loaded image has samples of more than 8 bits that reading as 8-bit would shorten."""
    if image.mode.startswith("I;16"):
        return True
    return _netpbm_maximum(image) > 255 or any(";16" in _rawmode(tile) for tile in image.tile)


def read_rounded(image, path) -> np.ndarray:
    """Round v * 255 / maximum, that is v / 257, to the nearest integer.

    Args:
        image: opened by Pillow, not yet loaded.
        path:  the same file.
    Returns:
        uint8, (H, W) for grey, (H, W, 3) for RGB, (H, W, 4) for RGBA.
    Raises:
        ValueError: the layout is not supported (grey with alpha, associated alpha, a transparent colour).
    """
    if "transparency" in image.info:
        raise ValueError("16 bits with a transparent colour is not supported; convert it to 8 bits first")
    maximum = _netpbm_maximum(image)
    if maximum > 255:
        samples = _netpbm_samples(image, path, maximum)
    elif image.mode in MODES:
        image.load()
        samples, maximum = np.asarray(image), 65535
    else:
        samples, maximum = _both_bytes(image, path), 65535
    return ((2 * 255 * samples.astype(np.int64) + maximum) // (2 * maximum)).astype(np.uint8)


def _both_bytes(image, path):
    rawmodes = {_rawmode(tile) for tile in image.tile}
    if not rawmodes <= {f"{mode};16{order}" for mode in ("RGB", "RGBA", "RGBX") for order in "BLN"}:
        raise ValueError(f"16-bit layout {', '.join(sorted(rawmodes))} is not supported; convert it to 8 bits first")
    with Image.open(path, formats=[image.format]) as second:
        second.tile = [_swapped(tile) for tile in second.tile]
        image.load()
        second.load()
        high, low = (np.asarray(each, dtype=np.uint16) for each in (image, second))
    return high * 256 + low


def _rawmode(tile) -> str:
    args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    return str(args[0]) if args else ""


def _swapped(tile):
    """The tile with the opposite byte order; N is the machine's own."""
    native = {"little": "B", "big": "L"}[sys.byteorder]
    rawmode = _rawmode(tile)
    other = rawmode[:-1] + {"B": "L", "L": "B", "N": native}[rawmode[-1]]
    return tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)


def _netpbm_maximum(image) -> int:
    """The largest sample value that the header of a PPM or PGM file names; 0 for another format."""
    if image.format != "PPM" or not image.tile:
        return 0
    args = image.tile[0].args
    if isinstance(args, tuple) and len(args) == 2:
        return args[1]
    return 65535 if _rawmode(image.tile[0]) == "I;16B" else 255


def _netpbm_samples(image, path, maximum):
    width, height = image.size
    shape = (height, width, 3) if image.mode == "RGB" else (height, width)
    count = int(np.prod(shape))
    with Path(path).open("rb") as file:
        plain = file.read(2) in (b"P2", b"P3")
        file.seek(image.tile[0].offset)
        body = file.read() if plain else file.read(2 * count)
    if plain:
        samples = np.array(re.sub(rb"#[^\r\n]*", b"", body).split()[:count], dtype=np.int64)
    else:
        samples = np.frombuffer(body[: len(body) // 2 * 2], dtype=">u2")
    if samples.size != count:
        raise ValueError(f"image file is truncated: {samples.size} of {count} samples")
    if samples.size and (samples.max() > maximum or samples.min() < 0):
        raise ValueError(f"a sample lies outside 0 to {maximum}")
    return samples.reshape(shape)
