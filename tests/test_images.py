"""read_image and write_image: what is kept exactly, what is refused, and never half an image."""

import io
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from carlib import codecs
from carlib.data import (
    centre_crop,
    colour_profile,
    crop_to_multiple,
    jpeg_quality,
    note,
    read_image,
    to_grey,
    write_image,
)


@pytest.fixture
def rgb(rng):
    return rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    assert mode is None or image.mode == mode
    image.save(path, **options)
    return path


def one_line(error):
    assert error.type is ValueError
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".PNG"])
def test_written_rgb_reads_back(tmp_path, rgb, suffix):
    assert write_image(tmp_path / f"a{suffix}", rgb) == tmp_path / f"a{suffix}"
    back = read_image(tmp_path / f"a{suffix}")
    assert back.dtype == np.uint8 and back.flags.writeable
    np.testing.assert_array_equal(back, rgb)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".pgm", ".ppm", ".pnm"])
def test_written_grey_reads_back_as_grey(tmp_path, rgb, suffix):
    grey = rgb[..., 0]
    write_image(tmp_path / f"a{suffix}", grey)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), grey)


def test_one_pixel(tmp_path):
    for image in (np.full((1, 1), 9, np.uint8), np.full((1, 1, 3), 9, np.uint8)):
        np.testing.assert_array_equal(read_image(write_image(tmp_path / "one.png", image)), image)


def test_strided_views_are_written_as_they_look(tmp_path, rgb):
    view = rgb[::-1, ::2]
    np.testing.assert_array_equal(read_image(write_image(tmp_path / "v.png", view)), view)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_colour_profile_goes_along(tmp_path, rgb, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = write_image(tmp_path / f"a{suffix}", rgb, profile=profile)
    assert colour_profile(path) == profile
    np.testing.assert_array_equal(read_image(path), rgb)
    assert colour_profile(write_image(tmp_path / f"b{suffix}", rgb)) is None
    for name, kind in (("c.bmp", "BMP"), ("c.ppm", "PPM"), ("c.pnm", "PPM")):
        with pytest.raises(ValueError, match=f"{kind} holds no colour profile"):
            write_image(tmp_path / name, rgb, profile=profile)
        assert not (tmp_path / name).exists()


def test_jpeg_is_written_only_on_request(tmp_path):
    smooth = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2)
    with pytest.raises(ValueError, match="JPEG changes the pixels") as error:
        write_image(tmp_path / "a.jpg", smooth)
    one_line(error)
    write_image(tmp_path / "a.jpg", smooth, quality=95, note="how it was made")
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() <= 8  # of a ramp
    write_image(tmp_path / "b.jpg", smooth, quality=5)
    assert note(tmp_path / "a.jpg") == "how it was made" and note(tmp_path / "b.jpg") is None
    assert (tmp_path / "b.jpg").stat().st_size < (tmp_path / "a.jpg").stat().st_size
    coded = codecs.decode(codecs.encode(smooth, "jpeg", quality=95), "jpeg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), coded)  # what notebook 05c measures


def test_written_jpegs_are_optimised_with_chroma_halved_both_ways(tmp_path, rng):
    image = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    path = write_image(tmp_path / "a.jpg", image, quality=80)
    with Image.open(path) as opened:
        assert JpegImagePlugin.get_sampling(opened) == 2  # 4:2:0
    best, plain = (save(tmp_path / f"{o}.jpg", image, quality=80, subsampling=2, optimize=o) for o in (True, False))
    assert path.read_bytes() == best.read_bytes() and best.stat().st_size < plain.stat().st_size


def test_a_jpeg_with_whole_chroma(tmp_path, rng):
    image = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    path = write_image(tmp_path / "a.jpg", image, quality=80, chroma="whole")
    with Image.open(path) as opened:
        assert JpegImagePlugin.get_sampling(opened) == 0  # 4:4:4
    coded = codecs.decode(codecs.encode(image, "jpeg", quality=80, chroma="whole"), "jpeg")
    np.testing.assert_array_equal(read_image(path), coded)
    for name, chroma, message in (("b.jpg", "444", "chroma='444' is unknown: use halved or whole"),
                                  ("b.png", "whole", "chroma is for JPEG: write .jpg")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            write_image(tmp_path / name, image, quality=80 if name == "b.jpg" else None, chroma=chroma)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("quality", [20, 50, 80, 99])
def test_the_quality_of_a_jpeg_is_read_in_its_luma_table(tmp_path, rgb, quality):
    assert jpeg_quality(write_image(tmp_path / "a.jpg", rgb, quality=quality)) == quality
    assert jpeg_quality(write_image(tmp_path / "a.png", rgb)) is None


@pytest.mark.parametrize(("name", "quality", "message"), [
    ("a.jpg", 0, "quality=0 is not a whole number from 1 to 100"),
    ("a.jpg", 101, "quality=101 is not"),
    ("a.jpg", 90.0, "quality=90.0 is not"),
    ("a.png", 90, "quality is for JPEG"),
])  # fmt: skip
def test_a_quality_is_a_jpegs(tmp_path, rgb, name, quality, message):
    with pytest.raises(ValueError, match=message) as error:
        write_image(tmp_path / name, rgb, quality=quality)
    one_line(error)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a.png", lambda a: a / 255, "float64"),
        ("a.png", lambda a: a.astype(np.uint16), "uint16"),
        ("a.png", lambda a: a[..., :2], "shape"),
        ("a.png", lambda a: a[..., :1], "shape"),
        ("a.png", lambda a: a[:0], "empty"),
        ("a.png", lambda a: a[None], "shape"),
        ("a.png", lambda a: a.tolist(), "list"),
        ("a.gif", lambda a: a, "gif"),
        ("a", lambda a: a, "suffix"),
        ("a.webp", lambda a: a[..., 0], "grey"),
        ("a.pgm", lambda a: a, "grey"),
        ("a.webp", lambda a: np.zeros((1, 16384, 3), np.uint8), "cannot write"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, rgb, name, change, message):
    with pytest.raises(ValueError, match=message) as error:
        write_image(tmp_path / name, change(rgb))
    one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, rgb):
    path = write_image(tmp_path / "a.webp", rgb)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="cannot write"):
        write_image(path, np.zeros((1, 16384, 3), np.uint8))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_writing_below_a_file_is_one_line(tmp_path, rgb):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot write") as error:
        write_image(tmp_path / "file" / "a.png", rgb)
    one_line(error)


def test_palette_is_expanded_exactly(tmp_path, rng):
    index = rng.integers(0, 5, (6, 4), dtype=np.uint8)
    colours = rng.integers(0, 256, (5, 3), dtype=np.uint8)
    image = Image.fromarray(index)
    image.putpalette(colours.tobytes())
    for name in ("p.png", "p.bmp", "p.tif"):
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), colours[index])


def test_bilevel_becomes_grey(tmp_path, rng):
    bits = rng.integers(0, 2, (9, 11)).astype(bool)
    for name in ("b.png", "b.tif", "b.ppm"):
        Image.fromarray(bits).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), bits.astype(np.uint8) * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_alpha(tmp_path, rng, mode, suffix):
    pixels = rng.integers(0, 256, (6, 5, len(mode)), dtype=np.uint8)
    colour, opacity = (pixels[..., :3] if mode == "RGBA" else pixels[..., 0]), pixels[..., -1]
    path = save(tmp_path / f"a.{suffix}", pixels, mode)
    with pytest.raises(ValueError, match=r'alpha="white".*"black".*"drop"') as error:
        read_image(path)
    one_line(error)
    np.testing.assert_array_equal(read_image(path, alpha="drop"), colour)
    weight = opacity[..., None] / 255 if mode == "RGBA" else opacity / 255
    for name, ground in (("white", 255), ("black", 0)):
        expected = np.floor(colour * weight + ground * (1 - weight) + 0.5).astype(np.uint8)
        np.testing.assert_array_equal(read_image(path, alpha=name), expected)
    pixels[..., -1] = 255
    np.testing.assert_array_equal(read_image(save(path, pixels, mode)), colour)


def test_palette_with_transparency(tmp_path, rng):
    index = rng.integers(0, 3, (6, 5), dtype=np.uint8)
    colours = rng.integers(0, 256, (3, 3), dtype=np.uint8)
    image = Image.fromarray(index)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "p.png", transparency=1)
    with pytest.raises(ValueError, match="transparent"):
        read_image(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png", alpha="drop"), colours[index])
    colours[1] = 255
    np.testing.assert_array_equal(read_image(tmp_path / "p.png", alpha="white"), colours[index])
    image.save(tmp_path / "p.png", transparency=bytes([255, 255, 255]))
    assert read_image(tmp_path / "p.png").shape == (6, 5, 3)


@pytest.mark.parametrize("grey", [True, False])
def test_transparent_colour(tmp_path, rgb, grey):
    """PNG's tRNS chunk of a grey or RGB image: one colour is transparent."""
    pixels = rgb[..., 0] if grey else rgb
    value = int(pixels[2, 3]) if grey else tuple(map(int, pixels[2, 3]))
    path = save(tmp_path / "t.png", pixels, transparency=value)
    with pytest.raises(ValueError, match="transparent"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, alpha="drop"), pixels)
    assert (read_image(path, alpha="black")[2, 3] == 0).all()
    unused = next(v for v in range(256) if v not in pixels)
    save(path, pixels, transparency=unused if grey else (unused,) * 3)
    np.testing.assert_array_equal(read_image(path), pixels)


@pytest.mark.parametrize(
    ("mode", "name"), [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("LAB", "a.tif"), ("F", "a.tif"), ("I", "a.tif")]
)
def test_other_modes_are_refused_by_name(tmp_path, mode, name):
    Image.new(mode, (4, 4)).save(tmp_path / name)
    with pytest.raises(ValueError, match=f"mode {mode};.*RGB") as error:
        read_image(tmp_path / name)
    one_line(error)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "grey"), [("a.png", 0), ("a.tif", 0), ("a.webp", 0), ("a.tif", 1), ("a.png", 1)])
def test_exif_orientation(tmp_path, rgb, orientation, name, grey):
    image = rgb[..., 0] if grey else rgb
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    upright = Image.fromarray(image)
    upright.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    assert orientation < 5 or expected.shape[:2] == (7, 5)
    np.testing.assert_array_equal(read_image(tmp_path / name), expected)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_orientation_of_sixteen_bits(tmp_path, rgb, orientation):
    wide = np.ascontiguousarray(rgb[..., 0]).astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(wide).save(tmp_path / "a.tif", exif=exif)
    turned = np.rot90(rgb[..., 0], {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", depth="round"), turned)


@pytest.mark.parametrize(
    ("bits", "row", "levels"), [(2, b"\x1b", [0, 85, 170, 255]), (4, b"\x01\x2f", [0, 17, 34, 255])]
)
def test_a_transparent_level_of_few_bits(tmp_path, bits, row, levels):
    """Pillow tells level 2 of 0..3 or 0..15, and makes its pixels 8 bits."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"tRNS", struct.pack(">H", 2)), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")
    path = tmp_path / "few.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))
    with pytest.raises(ValueError, match="transparent pixels"):
        read_image(path)
    assert read_image(path, alpha="drop").tolist() == [levels]
    assert read_image(path, alpha="white").tolist() == [[255 if n == 2 else level for n, level in enumerate(levels)]]


def test_more_than_one_frame_is_refused(tmp_path, rgb):
    frames = [Image.fromarray(rgb), Image.fromarray(rgb[::-1].copy())]
    for name in ("a.tif", "a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match="2 frames"):
            read_image(tmp_path / name)


def test_of_a_cameras_file_of_two_pictures_the_first_is_read(tmp_path):
    """MPO: the others are previews, or the other eye."""
    first, second = (Image.new("RGB", (16, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert (read_image(tmp_path / "a.jpg")[..., 0] > 250).all()


ENCODINGS = [("PNG", {}), ("JPEG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("PPM", {})]
ENCODINGS += [("TIFF", {"compression": "tiff_adobe_deflate"})]


@pytest.mark.parametrize(("kind", "options"), ENCODINGS)
@pytest.mark.filterwarnings("ignore")
def test_truncated_files_never_give_half_an_image(tmp_path, rng, kind, options):
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(buffer, kind, **options)
    path = tmp_path / "cut"
    for share in (0.0, 0.01, 0.3, 0.9):
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
        with pytest.raises(ValueError) as error:
            read_image(path)
        one_line(error)


@pytest.mark.parametrize(("kind", "options"), ENCODINGS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_an_image_or_one_line(tmp_path, rng, kind, options):
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(buffer, kind, **options)
    dice, path = random.Random(3), tmp_path / "damaged"
    for _ in range(60):
        data = bytearray(buffer.getvalue())
        for _ in range(3):
            data[dice.randrange(min(len(data), 120))] = dice.randrange(256)
        path.write_bytes(data)
        try:
            read_image(path, depth="round", alpha="drop", max_pixels=10_000)
        except ValueError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(20), b"%PDF-1.4"])
def test_not_an_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png") as error:
        read_image(tmp_path / "a.png")
    one_line(error)


def test_gif_is_not_opened(tmp_path):
    Image.new("L", (3, 3)).save(tmp_path / "a.gif")
    with pytest.raises(ValueError, match="not an image of a known format"):
        read_image(tmp_path / "a.gif")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="no such file") as error:
        read_image(tmp_path / "none.png")
    one_line(error)
    with pytest.raises(ValueError, match="is a folder") as error:
        read_image(tmp_path)
    one_line(error)


def test_unknown_options_are_refused(tmp_path):
    for options in ({"alpha": "red"}, {"depth": "floor"}):
        with pytest.raises(ValueError, match="unknown; use"):
            read_image(tmp_path / "a.png", **options)


def test_pixel_cap_is_ours_and_read_from_the_header(tmp_path, rgb, monkeypatch):
    """The promise of 2 x 10^10 pixels is refused though the file has no pixel; Pillow's own cap does not interfere."""
    path = tmp_path / "big.ppm"
    path.write_bytes(b"P6 200000 100000 255\n")
    with pytest.raises(ValueError, match=r"200000x100000.*max_pixels") as error:
        read_image(path)
    one_line(error)
    save(tmp_path / "a.png", rgb)
    save(tmp_path / "a.tif", rgb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # warns from 10, raises from 20: the image has 35
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "a.tif"):
            np.testing.assert_array_equal(read_image(tmp_path / name), rgb)
            with pytest.raises(ValueError, match="cap of 34"):
                read_image(tmp_path / name, max_pixels=34)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_threads_restore_pillows_cap(tmp_path, rgb):
    path, before = save(tmp_path / "a.png", rgb), Image.MAX_IMAGE_PIXELS
    threads = [threading.Thread(target=lambda: [read_image(path) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3)])
def test_crop_to_multiple(shape):
    image = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(crop_to_multiple(image, 4), image[:4, :8])
    np.testing.assert_array_equal(crop_to_multiple(image, 1), image)


def test_crop_to_multiple_refuses_what_would_be_empty(rgb):
    with pytest.raises(ValueError, match="5x7, smaller than multiple=6"):
        crop_to_multiple(rgb, 6)
    for multiple in (0, -2, 2.0, "2", True, None):
        with pytest.raises(ValueError, match="positive integer"):
            crop_to_multiple(rgb, multiple)


def test_grey_is_the_rounded_luma_of_bt601():
    colours = np.array([[[0, 0, 255], [255, 0, 0], [0, 255, 0], [255, 255, 255]]], np.uint8)
    assert to_grey(colours).tolist() == [[29, 76, 150, 255]]  # 255 times 0.114, 0.299, 0.587 (29.07, 76.245, 149.685)


def test_of_an_odd_margin_the_middle_has_less_at_the_top_left():
    image = np.arange(7 * 6).reshape(7, 6)
    np.testing.assert_array_equal(centre_crop(image, 4), image[1:5, 1:5])
    np.testing.assert_array_equal(centre_crop(image, 9), image)


def test_importing_the_room_is_light():
    code = "import sys, carlib.data; print([m for m in ('torch', 'pandas', 'requests') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
