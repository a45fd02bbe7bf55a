"""Read and write 8-bit images without a silent change: what cannot be kept exactly is refused, with the remedy.

Arrays are uint8, (H, W) for grey and (H, W, 3) for RGB. Embedded colour profiles are not applied; who reads one may
hand it on.
"""

import contextlib
import struct
import threading
from numbers import Integral
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from carlib import results
from carlib.data import sixteen

LUMA = np.array([0.299, 0.587, 0.114])  # of R, G and B, BT.601 on the full range

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"))
MAX_PIXELS = 178_000_000
CHROMA = ("halved", "whole")  # of a JPEG: 4:2:0 and 4:4:4
_JPEG, _STEPS_AT_50 = ("JPEG", "MPO"), 3688  # the sum of the standard's table for luma (T.81, K.1)
_NOTE = "carlib"  # keyword of our text in a PNG

# What Pillow raises for a damaged file, by experiment: it has no base class of its own.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError,
    NotImplementedError, MemoryError, struct.error, AssertionError,
)  # fmt: skip
_cap_lock = threading.Lock()
_cap_users = 0
_cap_saved = None


def read_image(path, *, alpha: str = "refuse", depth: str = "refuse", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read one PNG, JPEG, WebP, BMP, TIFF, PPM or PGM file.

    A palette is expanded to RGB, bilevel becomes grey 0/255, the EXIF orientation is applied.

    Args:
        path:       the file; its content decides the format, not its suffix.
        alpha:      what to do with transparent pixels: "refuse", "drop" (the colour alone), "white" or "black"
                    (flatten onto it). An alpha channel that is opaque everywhere is always dropped.
        depth:      what to do with 16 bits a channel: "refuse", or "round" (v/257 to the nearest integer).
        max_pixels: a header that promises more is refused before anything is decoded.
    Returns:
        uint8 array, writable, (H, W) for a grey file and (H, W, 3) RGB otherwise.
    Raises:
        ValueError: no such file, not an image, damaged or truncated, too large, more than one frame, transparent,
            16-bit, or in a colour mode with no exact 8-bit RGB form (CMYK, LAB, 32-bit, ...).
    """
    if alpha not in ("refuse", "drop", "white", "black"):
        raise ValueError(f'alpha={alpha!r} is unknown; use "refuse", "drop", "white" or "black"')
    if depth not in ("refuse", "round"):
        raise ValueError(f'depth={depth!r} is unknown; use "refuse" or "round"')
    path = _existing(path)
    with _own_pixel_cap(), _opened(path) as file:
        with _readable(path):
            image = Image.open(file, formats=FORMATS)
        _check_header(image, path, max_pixels)
        colour, opacity = _decode(image, path, depth)
        with _readable(path):
            orientation = image.getexif().get(0x0112, 1)
    colour = _opaque(colour, opacity, alpha, path)
    return np.array(_upright(colour, orientation), order="C")  # a copy: Pillow's own buffer is read-only


def read_of_set(path):
    """`read_image` where no option of a command says what to do with 16 bits and transparency: of sets, of notebooks.

    Raises:
        ValueError: as `read_image`.
    """
    try:
        return read_image(path)
    except ValueError as error:
        told, option, _ = str(error).partition("; pass ")
        if not option:
            raise
        advice = "magick IN -background white -alpha remove -depth 8 OUT"
        raise ValueError(
            f"{told}, which is not taken here: convert it first, with ImageMagick say: {advice}"
        ) from error


def colour_profile(path) -> bytes | None:
    """The ICC profile in an image file, which says what its numbers mean; None: it has none, as most of sRGB.

    Raises:
        ValueError: no such file, or not an image.
    """
    return _header(path)[1].get("icc_profile") or None


def note(path) -> str | None:
    """The text that `write_image` put into a PNG or JPEG file for programs; None: there is none.

    Raises:
        ValueError: no such file, or not an image.
    """
    kind, info = _header(path)
    if kind in _JPEG:
        begin, found = f"{_NOTE} ".encode(), info.get("comment")
        return found[len(begin) :].decode("ascii", "replace") if found and found.startswith(begin) else None
    found = info.get(_NOTE) if kind == "PNG" else None
    return found if isinstance(found, str) else None


def check_quality(quality) -> int:
    """A JPEG's quality as Python's own number.

    Raises:
        ValueError: it is no whole number from 1 to 100.
    """
    if isinstance(quality, bool) or not isinstance(quality, Integral) or not 1 <= quality <= 100:
        raise ValueError(f"quality={quality!r} is not a whole number from 1 to 100")
    return int(quality)


def jpeg_quality(path) -> int | None:
    """libjpeg's quality of a JPEG (MPO, too), whatever the file's name, by its first table; None of other formats.

    From 20 to 99; lower ones are told up to 10 too high, 100 as 99. Other encoders have tables of their own: of these
    the quality whose steps of quantisation have the same sum.

    Raises:
        ValueError: as `note`.
    """
    path = _existing(path)
    with _own_pixel_cap(), _readable(path), Image.open(path, formats=FORMATS) as image:
        if image.format not in _JPEG:
            return None
        percent = 100 * sum(image.quantization[min(image.quantization)]) / _STEPS_AT_50
    return max(1, round(100 - percent / 2 if percent <= 100 else 5000 / percent))


def write_image(
    path, image: np.ndarray, *, quality: int | None = None, chroma: str | None = None, profile: bytes | None = None,
    note: str | None = None,
) -> Path:  # fmt: skip
    """Write an image, atomically; reading it back gives the same array, but of a JPEG.

    Args:
        path:  .png, .tif, .tiff, .bmp, .webp (lossless, RGB only), .ppm, .pgm (grey only) or .pnm;
               .jpg and .jpeg only with `quality`.
        image: uint8 (H, W) or (H, W, 3).
        quality: of a JPEG, 1 to 100.
        chroma: of a JPEG: "halved" both ways (4:2:0, also None) or "whole" (4:4:4).
        profile: ICC profile that the file is to hold; BMP, PPM and PGM cannot.
        note:  ASCII text for programs that the file is to hold; all but PNG and JPEG leave it out.
    Returns:
        `path`.
    Raises:
        ValueError: the array is not such an image, the suffix is unknown, lossy or has no profiles, or the file cannot
            be written.
    """
    path = Path(path)
    check_image(image)
    options = _options(path, image.ndim == 2, quality, chroma, profile)
    if note is not None and options["format"] == "JPEG":
        options = options | {"comment": f"{_NOTE} {note}".encode("ascii")}
    if note is not None and options["format"] == "PNG":
        options = options | {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_text(_NOTE, note)
    # The encoder's own ValueErrors (an image too large for the format, say) get the same single line as the disk's.
    with results.atomic(path) as temporary:
        try:
            Image.fromarray(np.ascontiguousarray(image)).save(temporary, **options)
        except (ValueError, SystemError, MemoryError, struct.error) as error:
            raise ValueError(f"cannot write {path} as {options['format']}: {_line(error)}") from error
    return path


def check_writable(path, *, grey, quality=None, chroma=None, profile=None):
    """Refuse now what `write_image` would refuse after long work; no folder is made for it.

    Args:
        path, quality, chroma, profile: as of `write_image`.
        grey: whether the image will be one (H, W).

    Raises:
        ValueError: the suffix is unknown, lossy, for grey images only, or its files have no colour profiles; the folder
            is there and cannot be written to.
    """
    _options(path, grey, quality, chroma, profile)
    if Path(path).parent.is_dir():
        results.check_writable(path)


def _options(path, grey, quality, chroma, profile) -> dict:
    """Pillow's, for writing an image to a path."""
    path = Path(path)
    options = _format(path, grey, quality, chroma)
    if profile is None:
        return options
    if options["format"] in ("BMP", "PPM"):
        raise ValueError(f"{path}: {options['format']} holds no colour profile, and the image has one; write .png")
    return options | {"icc_profile": profile}


def crop_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
    """The largest top-left part of an image (H, W[, C]) whose height and width are multiples of `multiple`; a view.

    Raises:
        ValueError: `multiple` is not a positive integer, or the image is smaller than it.
    """
    if isinstance(multiple, bool) or not isinstance(multiple, int | np.integer) or multiple < 1:
        raise ValueError(f"multiple={multiple!r}: give a positive integer, the scale for example")
    if image.ndim not in (2, 3):
        raise ValueError(f"image has shape {image.shape}; give (H, W) or (H, W, C)")
    height, width = (size - size % multiple for size in image.shape[:2])
    if not height or not width:
        raise ValueError(f"image is {image.shape[0]}x{image.shape[1]}, smaller than multiple={multiple}")
    return image[:height, :width]


def check_image(image):
    """Refuse what is not an image as this project takes them: uint8, (H, W) or (H, W, 3), not empty.

    Raises:
        ValueError: says which of them it is not.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"the image is a {type(image).__name__}, not a NumPy array: read it with carlib.data.read_image"
        )
    if image.dtype != np.uint8:
        nan = " and holds NaN" if image.dtype.kind == "f" and np.isnan(image).any() else ""
        advice = (
            "multiply it by 255 if it is in [0, 1], and round it" if image.dtype.kind == "f" else "bring it to 0..255"
        )
        raise ValueError(f"the image is {image.dtype}{nan}, not uint8: {advice} first")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise ValueError(f"the image has shape {image.shape}, expected (H, W) or (H, W, 3), not empty")


def to_grey(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H, W), the luma of BT.601 on the full range, rounded; (H, W) is returned as it is."""
    return image if image.ndim == 2 else np.rint(image @ LUMA).astype(np.uint8)


def to_colour(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W, 3), the grey level in each channel; an image (H, W, 3) is returned as it is."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def centre_crop(image: np.ndarray, size: int | None) -> np.ndarray:
    """At most size x size pixels from the middle of an image (H, W[, C]); a view. None leaves the image as it is."""
    if size is None:
        return image
    top, left = (max(0, (n - size) // 2) for n in image.shape[:2])
    return image[top : top + size, left : left + size]


def _header(path) -> tuple[str, dict]:
    """Format and what stands beside the pixels, which are not decoded."""
    path = _existing(path)
    with _own_pixel_cap(), _readable(path), Image.open(path, formats=FORMATS) as image:
        return image.format, image.info


def _existing(path) -> Path:
    path = Path(path)
    with _readable(path):
        if path.is_dir():
            raise OSError("it is a folder; give one file in it")
        if not path.exists():
            raise OSError("no such file")
        if not path.is_file():  # a pipe or a device would block, or never end
            raise OSError("it is not a regular file")
    return path


def _opened(path):
    """The file itself for Pillow: by name it maps plain TIFFs into memory, with wrong sides where EXIF swaps them."""
    with _readable(path):
        return open(path, "rb")


def _check_header(image, path, max_pixels):
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(
            f"{path} is {width}x{height}, {width * height} pixels, over the cap of {max_pixels}: to read it all the "
            f"same, give max_pixels={width * height} (--max-pixels)"
        )
    with _readable(path):
        # The further pictures of a camera's MPO file are previews or the other eye: the first is the photograph.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ValueError(f"{path} holds {frames} frames or pages; save the one you want as a file of its own")


def _decode(image, path, depth):
    """(colour, opacity): uint8 (H, W) or (H, W, 3), and uint8 (H, W) or None."""
    wide = sixteen.is_sixteen_bit(image)
    modes = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", *(sixteen.MODES if wide else ()))
    if image.mode not in modes:
        raise ValueError(
            f"{path} has colour mode {image.mode}; convert it to 8-bit RGB or grey first, with ImageMagick say: "
            "magick IN -colorspace sRGB OUT"
        )
    if wide and depth == "refuse":
        raise ValueError(f'{path} has 16 bits a channel; pass depth="round" to round it to 8 (--depth round)')
    with _readable(path):
        if wide:
            pixels = sixteen.read_rounded(image, path)
        else:
            _widen_clear(image)
            image.load()
            pixels = np.asarray(image.convert(_target(image)))
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        colour = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
        return colour, pixels[..., -1]
    return pixels, None


def _widen_clear(image):
    """The transparent level of a grey PNG of 2 or 4 bits as 8 bits, as Pillow makes its pixels, but not this number."""
    steps = {"L;2": 85, "L;4": 17}.get(image.tile[0].args if image.tile else None)
    if steps and "transparency" in image.info:
        image.info["transparency"] *= steps


def _target(image) -> str:
    """The mode that holds this image's pixels exactly: L, LA, RGB or RGBA."""
    grey = image.mode in ("1", "L", "LA", "La")
    clear = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return ("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")


def _opaque(colour, opacity, alpha, path):
    if opacity is None or alpha == "drop" or opacity.min() == 255:
        return colour
    if alpha == "refuse":
        raise ValueError(
            f'{path} has transparent pixels; pass alpha="white" or "black" to flatten onto it, or "drop" to ignore them'
            " (--alpha white, black or drop)"
        )
    ground = 255 if alpha == "white" else 0
    weight = opacity.astype(np.uint32).reshape(opacity.shape + (1,) * (colour.ndim - 2))
    return ((colour * weight + ground * (255 - weight) + 127) // 255).astype(np.uint8)  # exact rounding: 255 is odd


def _upright(image, orientation):
    """Undo the EXIF orientation (1 to 8; anything else means upright)."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def _format(path, grey, quality, chroma) -> dict:
    """Arguments for Pillow's save()."""
    suffix = path.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        if quality is None:
            raise ValueError(f"{path}: JPEG changes the pixels; write .png, or give its quality (--quality 90)")
        sampled = {None: 2, "halved": 2, "whole": 0}
        if chroma not in sampled:
            raise ValueError(f"chroma={chroma!r} is unknown: use {' or '.join(CHROMA)}")
        return {
            "format": "JPEG", "quality": check_quality(quality), "subsampling": sampled[chroma], "optimize": True,
        }  # fmt: skip
    for name, value in (("quality", quality), ("chroma", chroma)):
        if value is not None:
            raise ValueError(f"{path}: {name} is for JPEG: write .jpg, or leave it out (--{name})")
    if suffix == ".webp" and grey:
        raise ValueError(f"{path}: WebP has no grey images; write .png, or stack the image to RGB")
    if suffix == ".pgm" and not grey:
        raise ValueError(f"{path}: PGM holds grey images only; write .ppm or .png")
    known = {
        ".png": {"format": "PNG"},
        ".tif": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
        ".tiff": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
        ".bmp": {"format": "BMP"},
        ".webp": {"format": "WEBP", "lossless": True, "method": 4},
        ".ppm": {"format": "PPM"},
        ".pgm": {"format": "PPM"},
        ".pnm": {"format": "PPM"},
    }
    if suffix not in known:
        raise ValueError(f"{path}: cannot write {suffix or 'a name without a suffix'}; use one of {', '.join(known)}")
    return known[suffix]


@contextlib.contextmanager
def _readable(path):
    """Turn whatever Pillow raises into one ValueError line."""
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image of a known format ({', '.join(FORMATS)})") from None
    except _PILLOW_ERRORS as error:
        raise ValueError(f"cannot read {path}: {_line(error)}") from error


def _line(error) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


@contextlib.contextmanager
def _own_pixel_cap():
    """Switch Pillow's global pixel cap off while we read: ours is per call, Pillow's warns at 89 M and stops at 179 M.

    Readers are counted, so that threads may read side by side and the last one restores the cap.
    """
    global _cap_users, _cap_saved
    with _cap_lock:
        if _cap_users == 0:
            _cap_saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _cap_users += 1
    try:
        yield
    finally:
        with _cap_lock:
            _cap_users -= 1
            if _cap_users == 0:
                Image.MAX_IMAGE_PIXELS = _cap_saved
