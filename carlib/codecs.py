"""Image codecs as bytes in memory: how many bits an image takes, lossless and lossy.

A size here is that of the whole file, headers included. For JPEG-LS that is CharLS's file. How the samples of a colour
image follow each other in it is `interleave`: "sample" (R, G and B of a pixel together; imagecodecs writes nothing
else), "line" or "plane" (three images one after the other; both by pyjpegls). By sample the first bytes are an optional
SPIFF header, SPIFF_BYTES of every file's size: 0.09 bits a pixel at 64 x 64; by line and by plane there is none.

JPEG-LS codes R, G and B as they are: its baseline (ITU-T T.87) has no colour transform. transform="hp1" codes their
differences, as the HP1 transform of HP's encoder and of CharLS does: R - G + 128, G, B - G + 128, modulo 256. The file
does not name the transform: tell `decode`. JPEG 2000 takes its own reversible transform, RCT; WebP and JPEG XL choose.
"""

import functools

import numpy as np

from carlib.data import check_image
from carlib.data.images import CHROMA

LOSSLESS = ("jpegls", "jpeg2000", "png", "webp", "jpegxl")
LOSSY = ("jpeg", "webp", "avif", "jpegxl")
TRANSFORMS = ("none", "hp1")
INTERLEAVES = ("sample", "line", "plane")
SPIFF_BYTES = 44
_NO_GREY = ("webp", "avif")  # stored with three equal channels


def encode(image, codec, *, quality=None, transform="none", interleave="sample", chroma="halved") -> bytes:
    """Encode an 8-bit image.

    Args:
        image:      uint8 (H, W) or (H, W, 3) RGB.
        codec:      lossless: one of LOSSLESS; lossy: one of LOSSY.
        quality:    None is lossless; else above 0, at most 100, on the codec's own scale: libjpeg's, libwebp's and
                    libavif's quality, libjxl's quality (turned into its distance). Chroma is halved both ways (4:2:0)
                    by "jpeg", "webp" and "avif", and kept whole by "jpegxl".
        transform:  "none" or "hp1", of "jpegls" and colour only.
        interleave: "sample", "line" or "plane", of "jpegls" and colour only; `decode` reads it in the file. By line and
                    plane images of a few rough pixels are refused: pyjpegls has too small a buffer for them.
        chroma:     "whole" keeps its resolution (4:4:4); of "jpeg" alone.
    Returns:
        the file's bytes; the same on every call.
    Raises:
        ValueError: the image, a name or the quality does not fit.
    """
    check_image(image)
    _check_codec(codec, quality)
    _check_option("transform", transform, TRANSFORMS, codec, grey=image.ndim == 2)
    _check_option("interleave", interleave, INTERLEAVES, codec, grey=image.ndim == 2)
    if chroma not in CHROMA or (chroma == "whole" and codec != "jpeg"):
        raise ValueError(f"chroma={chroma!r} is not for {codec}: use jpeg, with {' or '.join(CHROMA)}")
    # A copy: of one pixel NumPy takes any strides for contiguous, encoders do not.
    image = np.array(_hp1(image) if transform == "hp1" else image, order="C")
    if image.ndim == 2 and codec in _NO_GREY:
        image = np.repeat(image[..., None], 3, axis=2)
    try:
        if quality is None:
            return bytes(_lossless(image, codec, interleave))
        return bytes(_lossy(image, codec, float(quality), chroma))
    except (RuntimeError, ValueError, MemoryError) as error:
        raise ValueError(f"{codec} cannot encode an image of shape {image.shape}: {error}") from error


def decode(data, codec, *, transform="none", grey=False):
    """What `encode` wrote, as pixels.

    Args:
        data:      the file's bytes.  codec: the one that wrote it.  transform: the one it was written with.
        grey:      the image was grey: "webp" and "avif", which know colour only, give it back as (H, W).
    Returns:
        uint8 (H, W) or (H, W, 3).
    Raises:
        ValueError: the codec is unknown, `data` is not bytes, or the codec cannot read them.
    """
    if codec not in (*LOSSLESS, *LOSSY):
        raise ValueError(f"codec {codec!r} is unknown: use one of {', '.join(dict.fromkeys((*LOSSLESS, *LOSSY)))}")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ValueError(f"data is a {type(data).__name__}, not bytes: give what encode wrote, or a file's bytes")
    if codec == "jpeg" and _cut_off(bytes(data)):
        raise ValueError(f"jpeg cannot decode these {len(data)} bytes: the end of the image is missing")
    try:
        image = getattr(_imagecodecs(), f"{_NAMES.get(codec, codec)}_decode")(data)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{codec} cannot decode these {len(data)} bytes: {error}") from error
    _check_option("transform", transform, TRANSFORMS, codec, grey=image.ndim == 2)
    if grey and codec in _NO_GREY:
        image = np.ascontiguousarray(image[..., 1])
    return _hp1_undone(image) if transform == "hp1" else image


def _cut_off(jpeg: bytes) -> bool:
    """Whether a JPEG has no end; libjpeg would fill the rest with grey without a word. What follows its end is free."""
    place = 2
    while (place := jpeg.find(b"\xff", place)) >= 0:
        marker = jpeg[place + 1 : place + 2]
        if marker == b"\xd9":
            return False
        if marker in (b"", b"\x00", b"\xff") or b"\xd0" <= marker <= b"\xd7":  # within a scan, or filling
            place += 1 if marker == b"\xff" else 2
        else:
            place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])  # a segment, of which an embedded image is a part
    return True


def bits_per_pixel(image, codec="jpegls", **options) -> float:
    """8 times the bytes of the encoded file over the pixels of the image (a colour pixel is one pixel).

    Args:
        image, codec, options: as `encode`; lossless unless quality is given.
    Raises:
        ValueError: as `encode`.
    """
    data = encode(image, codec, **options)
    return 8 * len(data) / (image.shape[0] * image.shape[1])


_NAMES = {"jpeg2000": "jpeg2k", "jpeg": "jpeg8"}  # ours -> imagecodecs'


def _lossless(image, codec, interleave):
    library = _imagecodecs()
    if codec == "jpegls" and interleave != "sample":
        return _pyjpegls(image, interleave)
    if codec == "jpegls":
        # Its own guess of the buffer is too small for noise, which JPEG-LS makes larger than it was.
        return library.jpegls_encode(image, out=2 * image.size + 4096)
    if codec == "jpeg2000":
        return library.jpeg2k_encode(image, level=0, reversible=True, mct=image.ndim == 3, codecformat="jp2")
    if codec == "png":
        return library.png_encode(image, level=9)
    if codec == "webp":
        return library.webp_encode(image, lossless=True, method=6, numthreads=1)
    return library.jpegxl_encode(image, lossless=True, effort=7, numthreads=1)


def _pyjpegls(image, interleave):
    import jpeg_ls

    if interleave == "plane":
        return jpeg_ls.encode_array(np.ascontiguousarray(image.transpose(2, 0, 1)), interleave_mode=0)
    # Its documentation wants lines of R, G and B in turn here; what it codes rightly is the image as it is.
    return jpeg_ls.encode_array(image, interleave_mode=1)


def _lossy(image, codec, quality, chroma):
    library = _imagecodecs()
    if codec == "jpeg":
        sampled = "420" if chroma == "halved" else "444"
        return library.jpeg8_encode(image, level=round(quality), subsampling=sampled, optimize=True)
    if codec == "webp":  # imagecodecs is lossless unless told otherwise, whatever the level
        return library.webp_encode(image, level=quality, lossless=False, method=6, numthreads=1)
    if codec == "avif":
        return library.avif_encode(image, level=round(quality), speed=6, pixelformat="420", numthreads=1)
    return library.jpegxl_encode(image, distance=_distance(quality), lossless=False, effort=7, numthreads=1)


def _distance(quality) -> float:
    """libjxl's rule from quality to Butteraugli distance (lib/extras, JxlEncoderDistanceFromQuality); 0.1 at 100."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _hp1(image):
    """Modulo 256, which uint8 arithmetic is."""
    red, green, blue = np.moveaxis(image, 2, 0)
    return np.stack([red - green + np.uint8(128), green, blue - green + np.uint8(128)], axis=2)


def _hp1_undone(image):
    red, green, blue = np.moveaxis(image, 2, 0)
    return np.stack([red + green - np.uint8(128), green, blue + green - np.uint8(128)], axis=2)


@functools.cache
def _imagecodecs():
    import imagecodecs

    return imagecodecs


def _check_codec(codec, quality):
    kind, known = ("lossless", LOSSLESS) if quality is None else ("lossy", LOSSY)
    if codec not in known:
        hint = ", or give quality" if quality is None and codec in LOSSY else ""
        raise ValueError(f"codec {codec!r} has no {kind} mode here: use one of {', '.join(known)}{hint}")
    if quality is None:
        return
    if isinstance(quality, bool) or not isinstance(quality, int | float | np.number) or not 0 < quality <= 100:
        raise ValueError(f"quality={quality!r} is not a number above 0, at most 100")


def _check_option(name, value, known, codec, grey):
    """Of JPEG-LS and colour images alone, but for the first of the `known` values, which changes nothing."""
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown: use one of {', '.join(known)}")
    if value == known[0]:
        return
    if codec != "jpegls":
        raise ValueError(f"{name}={value!r} is for jpegls alone, not for {codec}: leave it out")
    if grey:
        raise ValueError(f"{name}={value!r} takes a colour image, this one is grey: leave it out")
