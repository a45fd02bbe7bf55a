"""Images with 16 bits a channel: refused, or rounded exactly where that is asked for."""

import struct
import zlib

import numpy as np
import pytest
from test_images import one_line

from carlib.data import read_image


def png16(path, samples, colour_type, clear=None):
    """A 16-bit PNG, written out by hand: Pillow cannot write colour with 16 bits."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = samples.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    header += b"" if clear is None else chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    return path


def rounded(samples, maximum=65535):
    return np.floor(samples.astype(np.float64) * 255 / maximum + 0.5).astype(np.uint8)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_sixteen_bit_png(tmp_path, rng, colour_type, channels):
    samples = rng.integers(0, 65536, (5, 6, channels), dtype=np.uint16)
    samples[0, :4, 0] = 0x00FF, 128, 129, 65535  # truncating would give 0; 128/257 rounds down, 129/257 up
    samples = samples[..., 0] if channels == 1 else samples
    path = png16(tmp_path / "s.png", samples, colour_type)
    with pytest.raises(ValueError, match='depth="round"') as error:
        read_image(path, alpha="drop")
    one_line(error)
    expected = rounded(samples)
    np.testing.assert_array_equal(
        read_image(path, depth="round", alpha="drop"), expected[..., :3] if channels == 4 else expected
    )


def test_sixteen_bit_grey_with_alpha_is_refused(tmp_path, rng):
    path = png16(tmp_path / "s.png", rng.integers(0, 65536, (5, 6, 2), dtype=np.uint16), 4)
    for depth in ("refuse", "round"):
        with pytest.raises(ValueError, match="16") as error:
            read_image(path, depth=depth, alpha="drop")
        one_line(error)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_tiff(tmp_path, rng, order, compression, channels):
    tifffile = pytest.importorskip("tifffile")
    samples = rng.integers(0, 65536, (5, 6, channels), dtype=np.uint16)
    options = {4: {"photometric": "rgb", "extrasamples": ["unassalpha"]}, 3: {"photometric": "rgb"}, 1: {}}[channels]
    samples = samples[..., 0] if channels == 1 else samples
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, samples, byteorder=order, compression=compression, **options)
    with pytest.raises(ValueError, match='depth="round"'):
        read_image(path)
    expected = rounded(samples)
    np.testing.assert_array_equal(
        read_image(path, depth="round", alpha="drop"), expected[..., :3] if channels == 4 else expected
    )


@pytest.mark.parametrize("maximum", [65535, 1023])
@pytest.mark.parametrize("magic", ["P2", "P3", "P5", "P6"])
def test_sixteen_bit_netpbm(tmp_path, rng, magic, maximum):
    samples = rng.integers(0, maximum + 1, (4, 5, 3) if magic in ("P3", "P6") else (4, 5), dtype=np.uint16)
    plain = magic in ("P2", "P3")
    body = ("# note\n" + " ".join(map(str, samples.ravel()))).encode() if plain else samples.astype(">u2").tobytes()
    path = tmp_path / "s.ppm"
    path.write_bytes(f"{magic}\n5 4\n{maximum}\n".encode() + body)
    with pytest.raises(ValueError, match='depth="round"'):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, depth="round"), rounded(samples, maximum))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="truncated"):
        read_image(path, depth="round")


@pytest.mark.parametrize(("colour_type", "clear"), [(0, (300,)), (2, (300, 1, 2))])
def test_sixteen_bits_with_a_transparent_colour_are_refused(tmp_path, colour_type, clear):
    samples = np.full((4, 5, 3) if colour_type else (4, 5), 300, np.uint16)
    path = png16(tmp_path / "s.png", samples, colour_type, clear)
    with pytest.raises(ValueError, match="16 bits with a transparent colour is not supported") as error:
        read_image(path, depth="round", alpha="drop")
    one_line(error)


@pytest.mark.parametrize("magic", ["P2", "P5"])
def test_a_sample_above_the_maximum_is_refused(tmp_path, magic):
    samples = np.array([[5, 1024]], np.uint16)
    body = b"5 1024" if magic == "P2" else samples.astype(">u2").tobytes()
    (tmp_path / "s.pgm").write_bytes(f"{magic}\n2 1\n1023\n".encode() + body)
    with pytest.raises(ValueError, match="a sample lies outside 0 to 1023") as error:
        read_image(tmp_path / "s.pgm", depth="round")
    one_line(error)
