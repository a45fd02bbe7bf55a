"""Codecs: what goes in lossless comes out, sizes are those of the files, other encoders agree."""

import imagecodecs
import jpeg_ls
import numpy as np
import pytest

import carlib
from carlib import codecs, data

SHAPES = [(1, 1), (1, 1, 3), (1, 17), (1, 17, 3), (17, 1, 3), (13, 7), (13, 7, 3), (40, 64, 3), (64, 40)]


@pytest.fixture(scope="module")
def photo():
    """96 x 97 pixels: no side a multiple of 2 and the other."""
    return np.ascontiguousarray(dict(data.load("demo"))["kodim23"][100:196, 200:297])


def image(kind, shape):
    if kind == "constant":
        return np.full(shape, 77, np.uint8)
    if kind == "noise":
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return (np.indices(shape).sum(0) % 256).astype(np.uint8)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("kind", ["constant", "noise", "ramp"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("codec", codecs.LOSSLESS)
def test_lossless_gives_the_image_back(codec, shape, kind):
    hr = image(kind, shape)
    before = hr.copy()
    coded = codecs.encode(hr, codec)
    decoded = codecs.decode(coded, codec, grey=hr.ndim == 2)
    assert type(coded) is bytes and decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, hr)
    np.testing.assert_array_equal(hr, before)
    if hr.ndim == 3:
        transform = {"transform": "hp1"} if codec == "jpegls" else {}
        np.testing.assert_array_equal(codecs.decode(codecs.encode(hr, codec, **transform), codec, **transform), hr)


def test_noise_is_larger_than_it_was_and_still_coded():
    """The encoder's own guess of the buffer is too small for it."""
    noise = image("noise", (300, 200, 3))
    assert codecs.bits_per_pixel(noise, "jpegls") > 24
    np.testing.assert_array_equal(codecs.decode(codecs.encode(noise, "jpegls"), "jpegls"), noise)


def test_views_are_coded_as_they_look(photo):
    for view in (photo[::-1, ::2], photo.transpose(1, 0, 2), photo[..., ::-1], photo[..., 0]):
        for codec in codecs.LOSSLESS:
            decoded = codecs.decode(codecs.encode(view, codec), codec, grey=view.ndim == 2)
            np.testing.assert_array_equal(decoded, view)


# ---- sizes --------------------------------------------------------------------------------------------


def test_bits_per_pixel_counts_the_file_and_colour_pixels_once(photo):
    for codec in codecs.LOSSLESS:
        assert codecs.bits_per_pixel(photo, codec) == 8 * len(codecs.encode(photo, codec)) / (96 * 97)
    assert codecs.bits_per_pixel(photo) == codecs.bits_per_pixel(photo, "jpegls")
    lossy = codecs.bits_per_pixel(photo, "jpeg", quality=50)
    assert lossy == 8 * len(codecs.encode(photo, "jpeg", quality=50)) / (96 * 97) < 4
    assert carlib.codecs is codecs


def test_files_are_those_of_imagecodecs_at_the_options_that_are_told(photo):
    coded = {codec: codecs.encode(photo, codec) for codec in ("png", "webp")}
    assert coded["png"] == imagecodecs.png_encode(photo, level=9)
    assert coded["webp"] == imagecodecs.webp_encode(photo, lossless=True, method=6, numthreads=1)
    coded = {codec: codecs.encode(photo, codec, quality=70) for codec in ("jpeg", "webp")}
    assert coded["jpeg"] == imagecodecs.jpeg8_encode(photo, level=70, subsampling="420", optimize=True)
    assert coded["webp"] == imagecodecs.webp_encode(photo, level=70, lossless=False, method=6, numthreads=1)


def test_jpeg_xl_takes_its_seventh_effort(photo):
    assert codecs.encode(photo, "jpegxl") == imagecodecs.jpegxl_encode(photo, lossless=True, effort=7, numthreads=1)
    lossy = imagecodecs.jpegxl_encode(photo, distance=1.0, lossless=False, effort=7, numthreads=1)
    assert codecs.encode(photo, "jpegxl", quality=90) == lossy


def test_the_spiff_header_is_counted_and_is_44_bytes(photo):
    """Without it the file is a plain code stream, which decodes to the same pixels."""
    coded = codecs.encode(photo, "jpegls")
    assert coded[6:11] == b"SPIFF"
    bare = coded[:2] + coded[2 + codecs.SPIFF_BYTES :]
    assert bare[2:4] == b"\xff\xf7"  # SOF55, the first marker of JPEG-LS
    np.testing.assert_array_equal(codecs.decode(bare, "jpegls"), photo)


def test_another_encoder_makes_the_same_code_stream(photo):
    """CharLS through pyjpegls, which writes no SPIFF header: interleaved by sample (2) it is ours to the byte."""
    for hr in (photo, photo[..., 1]):
        hr = np.ascontiguousarray(hr)
        stream = bytes(jpeg_ls.encode_array(hr, interleave_mode=2))
        np.testing.assert_array_equal(codecs.decode(stream, "jpegls"), hr)
        coded = codecs.encode(hr, "jpegls")
        assert len(coded) - len(stream) == codecs.SPIFF_BYTES
        assert coded[2 + codecs.SPIFF_BYTES :] == stream[2:]


@pytest.mark.parametrize("transform", codecs.TRANSFORMS)
@pytest.mark.parametrize("kind", ["constant", "noise", "ramp", "photo"])
@pytest.mark.parametrize(("interleave", "mode"), [("plane", 0), ("line", 1), ("sample", 2)])
def test_every_interleave_gives_the_image_back_and_is_in_the_file(photo, interleave, mode, kind, transform):
    """ILV, the last but one byte of the first SOS marker segment (ITU-T T.87, C.2.3); two libraries decode it."""
    for shape in ((40, 64, 3), (13, 8, 3)):
        hr = photo if kind == "photo" else image(kind, shape)
        coded = codecs.encode(hr, "jpegls", interleave=interleave, transform=transform)
        np.testing.assert_array_equal(codecs.decode(coded, "jpegls", transform=transform), hr)
        start = coded.index(b"\xff\xda")
        segment = coded[start + 2 : start + 2 + int.from_bytes(coded[start + 2 : start + 4])]
        assert segment[-2] == mode and coded.count(b"\xff\xda") == (3 if interleave == "plane" else 1)
        if transform == "none":
            np.testing.assert_array_equal(jpeg_ls.decode(np.frombuffer(coded, np.uint8)), hr)


def test_by_plane_a_file_is_three_grey_ones(photo):
    """Their code streams one after the other, under a header of one frame and three scans."""
    coded = codecs.encode(photo, "jpegls", interleave="plane")
    grey = [codecs.encode(photo[..., c], "jpegls") for c in range(3)]
    scans = [file[file.index(b"\xff\xda") + 10 : -2] for file in grey]
    assert all(scan in coded for scan in scans)
    assert 0 < len(coded) - sum(map(len, scans)) < 80


def test_a_few_rough_pixels_are_too_much_for_the_buffer_of_line_and_plane():
    for interleave in ("line", "plane"):
        told = r"jpegls cannot encode an image of shape \(2, 2, 3\): .*buffer is too small"
        assert_refused(told, codecs.encode, image("noise", (2, 2, 3)), "jpegls", interleave=interleave)


def test_the_wavelet_file_has_a_reversible_colour_transform(photo):
    """COD of ISO/IEC 15444-1: its ninth byte says whether components are transformed, its last 1 is the 5/3 filter."""
    coded = codecs.encode(photo, "jpeg2000")
    start = coded.index(b"\xff\x52")
    assert coded[start + 8] == 1 and coded[start + 13] == 1
    grey = codecs.encode(photo[..., 0], "jpeg2000")
    assert grey[grey.index(b"\xff\x52") + 8] == 0


def test_hp1_by_hand():
    """CharLS's HP1: R - G + 128, G, B - G + 128, modulo 256."""
    pixels = np.array([[[10, 200, 250], [255, 0, 0], [7, 7, 7]]], np.uint8)
    expected = [[(10 - 200 + 128) % 256, 200, 178], [(255 + 128) % 256, 0, 128], [128, 7, 128]]
    assert codecs._hp1(pixels)[0].tolist() == expected
    np.testing.assert_array_equal(codecs._hp1_undone(codecs._hp1(pixels)), pixels)


def test_hp1_makes_a_photograph_smaller_and_noise_no_smaller(photo):
    bits = codecs.bits_per_pixel
    assert bits(photo, transform="hp1") < 0.9 * bits(photo)
    noise = image("noise", (64, 64, 3))
    assert bits(noise, transform="hp1") == pytest.approx(bits(noise), rel=0.02)
    forgotten = codecs.decode(codecs.encode(photo, "jpegls", transform="hp1"), "jpegls")
    np.testing.assert_array_equal(forgotten, codecs._hp1(photo))  # the file does not know


@pytest.mark.parametrize("codec", codecs.LOSSLESS)
def test_one_pixel_of_a_network_is_encoded(codec):
    """NumPy takes (1, 1, 1) for strides of a contiguous image of one pixel, which encoders refuse."""
    pixel = np.lib.stride_tricks.as_strided(np.array([1, 2, 3], np.uint8), (1, 1, 3), (1, 1, 1))
    assert codecs.decode(codecs.encode(pixel, codec), codec).tolist() == [[[1, 2, 3]]]


# ---- lossy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("codec", codecs.LOSSY)
def test_more_quality_is_more_bits_and_more_fidelity(photo, codec, grey):
    hr = photo[..., 0] if grey else photo
    sizes, fidelities = [], []
    for quality in (10, 50, 90):
        coded = codecs.encode(hr, codec, quality=quality)
        assert coded == codecs.encode(hr, codec, quality=quality)
        decoded = codecs.decode(coded, codec, grey=grey)
        assert decoded.shape == hr.shape and decoded.dtype == np.uint8
        sizes.append(len(coded))
        fidelities.append(psnr(hr, decoded))
    assert sizes == sorted(set(sizes)) and fidelities == sorted(set(fidelities))
    assert sizes[-1] < len(codecs.encode(hr, "png")) and fidelities[-1] > 30


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 17, 3), (13, 7, 3), (13, 7)], ids=str)
@pytest.mark.parametrize("codec", codecs.LOSSY)
def test_lossy_takes_every_size(codec, shape):
    hr = image("constant", shape)
    decoded = codecs.decode(codecs.encode(hr, codec, quality=90), codec, grey=hr.ndim == 2)
    assert decoded.shape == shape and abs(decoded.astype(int) - 77).max() <= 3


def test_quality_of_jpeg_xl_is_libjxls():
    """Values of JxlEncoderDistanceFromQuality, from its formula: visually lossless (distance 1) at 90."""
    assert [codecs._distance(q) for q in (100, 90, 30)] == pytest.approx([0.1, 1.0, 6.4])
    assert codecs._distance(29.999) == pytest.approx(6.4, abs=0.01)  # the two pieces meet
    assert codecs._distance(0.001) < 25.1


# ---- refusals -----------------------------------------------------------------------------------------


def assert_refused(told, call, *arguments, **options):
    with pytest.raises(ValueError, match=told) as refusal:
        call(*arguments, **options)
    assert "\n" not in str(refusal.value)


COLOUR = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(("arguments", "options", "told"), [
    ((COLOUR, "jpg"), {}, "codec 'jpg' has no lossless mode here: use one of jpegls, jpeg2000, png, webp, jpegxl$"),
    ((COLOUR, "jpeg"), {}, "codec 'jpeg' has no lossless mode here: .*, or give quality"),
    ((COLOUR, "png"), {"quality": 50}, "codec 'png' has no lossy mode here: use one of jpeg, webp, avif"),
    ((COLOUR, "jpeg"), {"quality": 0}, "quality=0 is not a number above 0, at most 100"),
    ((COLOUR, "jpeg"), {"quality": 101}, "quality=101"),
    ((COLOUR, "jpeg"), {"quality": "90"}, "quality='90'"),
    ((COLOUR, "jpeg"), {"quality": True}, "quality=True"),
    ((COLOUR, "webp"), {"quality": float("nan")}, "quality=nan"),
    ((COLOUR, "jpegls"), {"transform": "hp2"}, "transform='hp2' is unknown: use one of none, hp1"),
    ((COLOUR, "png"), {"transform": "hp1"}, "transform='hp1' is for jpegls alone, not for png"),
    ((COLOUR[..., 0], "jpegls"), {"transform": "hp1"}, "takes a colour image, this one is grey"),
    ((COLOUR, "jpegls"), {"interleave": "none"}, "interleave='none' is unknown: use one of sample, line, plane"),
    ((COLOUR, "png"), {"interleave": "line"}, "interleave='line' is for jpegls alone, not for png"),
    ((COLOUR[..., 0], "jpegls"), {"interleave": "plane"}, "takes a colour image, this one is grey"),
    ((COLOUR, "jpeg2000"), {"quality": 40}, "codec 'jpeg2000' has no lossy mode here"),
    ((COLOUR.astype(float), "png"), {}, "the image is float64, not uint8: multiply it by 255"),
    ((COLOUR.tolist(), "png"), {}, "the image is a list, not a NumPy array"),
    ((np.zeros((4, 5, 4), np.uint8), "png"), {}, r"shape \(4, 5, 4\), expected \(H, W\) or \(H, W, 3\)"),
    ((np.zeros((0, 5, 3), np.uint8), "png"), {}, r"shape \(0, 5, 3\)"),
    ((np.zeros((1, 16384, 3), np.uint8), "webp"), {}, "webp cannot encode an image of shape"),  # libwebp's limit
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(arguments, options, told):
    assert_refused(told, codecs.encode, *arguments, **options)
    assert_refused(told, codecs.bits_per_pixel, *arguments, **options)


@pytest.mark.parametrize("codec", dict.fromkeys((*codecs.LOSSLESS, *codecs.LOSSY)))
@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"no image at all" * 9])
def test_bytes_that_are_no_image_are_refused(codec, content):
    assert_refused(f"{codec} cannot decode these {len(content)} bytes", codecs.decode, content, codec)


@pytest.mark.parametrize("content", [None, "png", 3, [1, 2], np.zeros(9, np.uint8)], ids=str)
def test_what_is_not_bytes_is_refused(content):
    told = f"data is a {type(content).__name__}, not bytes: give what encode wrote"
    assert_refused(told, codecs.decode, content, "png")


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_kind_of_bytes_is_decoded(photo, kind):
    for codec in codecs.LOSSLESS:
        np.testing.assert_array_equal(codecs.decode(kind(codecs.encode(photo, codec)), codec), photo)


def test_decode_needs_to_know_the_codec(photo):
    assert_refused("codec 'jpg' is unknown: use one of jpegls, jpeg2000, png", codecs.decode, b"", "jpg")
    assert_refused("transform='x' is unknown", codecs.decode, codecs.encode(photo, "png"), "png", transform="x")


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_jpeg_that_was_cut_off_is_refused(part):
    """libjpeg fills the rest with grey."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    coded = codecs.encode(image, "jpeg", quality=90)
    with pytest.raises(ValueError, match="the end of the image is missing"):
        codecs.decode(coded[: int(part * len(coded))], "jpeg")
    assert codecs.decode(coded + b"\0\0", "jpeg").shape == image.shape
