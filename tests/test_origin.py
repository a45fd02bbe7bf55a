"""What an LR image says of its making: written by downscale, heeded by upscale, ignored where it is nonsense."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from carlib import data, method_networks, origin, rescale
from carlib.origin import Origin


@pytest.fixture
def asked(monkeypatch):
    """What `upscale` was asked for; nothing is enlarged."""
    calls = []

    def upscale(image, scale, method, *, size, weights, **_):
        calls.append((method, scale, size, weights and weights.name))
        return image

    monkeypatch.setattr(rescale, "upscale", upscale)
    return calls


def lr_image(path, told=None):
    note = told if told is None or isinstance(told, str) else origin.written(told)
    return data.write_image(path, np.zeros((8, 12, 3), np.uint8), note=note)


def test_a_file_tells_how_it_was_made_and_changes_no_pixel(carlib, tmp_path):
    photo = data.write_image(tmp_path / "hr.png", np.random.default_rng(0).integers(0, 256, (15, 23, 3), np.uint8))
    lr = tmp_path / "lr.png"
    code, _, err = carlib("downscale", photo, lr, "--scale", 2, "--method", "box", "--pad")
    assert (code, err) == (0, "")
    assert origin.read(lr) == Origin("box", 2, (15, 23))
    expected = rescale.downscale(data.read_image(photo), 2, "box", pad=True)
    np.testing.assert_array_equal(data.read_image(lr), expected)
    code, _, err = carlib("upscale", lr, tmp_path / "sr.png", "--method", "bicubic")  # neither --scale nor --size
    assert (code, err) == (0, "")
    assert data.read_image(tmp_path / "sr.png").shape == (15, 23, 3)
    assert carlib("downscale", photo, lr, "--size", "9x7", "--method", "dpid")[0] == 0
    assert origin.read(lr) == Origin("dpid", None, (15, 23))


@pytest.mark.parametrize(("told", "options", "expected", "doubt"), [
    (None, [], ("edsr", 4, None, None), "enlarged by edsr: if CAR made it use --method car\n"),
    (None, ["--method", "car"], ("car", 4, None, None), ""),
    (Origin("bicubic", None, (16, 24)), [], ("edsr", 2, (16, 24), None), ""),  # by --size
    (Origin("bicubic", None, (30, 46)), ["--method", "bicubic"], ("bicubic", 4, (30, 46), None), ""),
    (Origin("dpid", None, (23, 36)), ["--method", "bicubic"], ("bicubic", 3, (23, 36), None), ""),
    (Origin("car", 2, (16, 23)), [], ("car", 2, (16, 23), None), ""),
    (Origin("irn", 2, (16, 24)), [], ("irn", 2, (16, 24), None), ""),
    (Origin("bicubic", 2, (16, 24)), [], ("edsr", 2, (16, 24), None), ""),
    (Origin("car", 2, (99, 99)), [], ("car", 2, None, None), "from 99x99 at x2 and no longer has that size"),
    (Origin("car", 2, (16, 23)), ["--size", "24x16"], ("car", 2, (16, 24), None), ""),
    (Origin("car", 2, (16, 24)), ["--scale", 4], ("car", 4, None, None), "made at x2 and is enlarged x4"),
    (Origin("bicubic", 2, (16, 24)), ["--method", "car"], ("car", 2, (16, 24), None), "made by bicubic, and car"),
    (Origin("car", 2, (16, 24)), ["--method", "bicubic"], ("bicubic", 2, (16, 24), None), ""),
    (Origin("car", 2, (16, 24)), ["--method", "edsr"], ("edsr", 2, (16, 24), None), "better than edsr: use car"),
    (Origin("car", 2, None, "my.st"), ["--weights", "a/my.st"], ("car", 2, None, "my.st"), ""),
])  # fmt: skip
def test_upscale_heeds_what_the_image_says_and_obeys_options(carlib, asked, tmp_path, told, options, expected, doubt):
    code, _, err = carlib("upscale", lr_image(tmp_path / "lr.png", told), tmp_path / "sr.png", *options)
    assert code == 0 and asked == [expected]
    assert doubt in err and err.count("\n") == bool(doubt)


def test_an_image_made_with_own_weights_asks_for_them(carlib, asked, tmp_path):
    lr = lr_image(tmp_path / "lr.png", Origin("car", 2, (16, 24), "my.safetensors"))
    code, _, err = carlib("upscale", lr, tmp_path / "sr.png")
    assert code == 2 and "was made with my.safetensors: give that file (--weights)" in err and err.count("\n") == 1
    assert not asked and not (tmp_path / "sr.png").exists()


def test_the_shipped_weights_need_not_be_named_again(carlib, asked, tmp_path):
    """An image made with them given by --weights."""
    trained = method_networks.digest("car", 2)
    lr = lr_image(tmp_path / "lr.png", Origin("car", 2, (16, 24), "copy.safetensors", trained=trained))
    code, _, err = carlib("upscale", lr, tmp_path / "sr.png")
    assert (code, err) == (0, "") and asked == [("car", 2, (16, 24), None)]


@pytest.mark.parametrize("nonsense", [
    "", "no JSON", "[" * 100_000, "[]", "3", "null", '{"method": "nearest"}', '{"method": ["car"]}', '{"scale": 1}',
    '{"scale": true}', '{"scale": "2"}', '{"size": 3}', '{"size": "ab"}', '{"size": [0, 1]}', '{"size": [1, 2, 3]}',
    '{"weights": 1}', '{"colour": "red"}', '{"quality": 0}', '{"quality": 101}', '{"quality": 80.5}',
    '{"trained": 1}', '{"trained": "\\u001b[2Jfoo"}', '{"weights": "a\\nb"}',
])  # fmt: skip
def test_nonsense_says_nothing(tmp_path, nonsense):
    assert origin.read(lr_image(tmp_path / "lr.png", nonsense)) == Origin()


def test_other_formats_and_other_programs_say_nothing(tmp_path):
    assert origin.read(lr_image(tmp_path / "lr.tif", Origin("car", 2))) == Origin()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", '{"method": "car"}')
    Image.new("L", (2, 2)).save(tmp_path / "other.png", pnginfo=text)
    assert origin.read(tmp_path / "other.png") == Origin()


def test_a_note_and_a_profile_go_together(tmp_path):
    path = data.write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8), profile=b"a profile", note="text")
    assert (data.note(path), data.colour_profile(path)) == ("text", b"a profile")


@pytest.mark.parametrize("scale", [0, 1, -2])
def test_an_impossible_scale_is_refused_whatever_the_image_says(carlib, tmp_path, scale):
    lr = lr_image(tmp_path / "lr.png", Origin("bicubic", 2, (16, 24)))
    code, _, err = carlib("upscale", lr, tmp_path / "sr.png", "--scale", scale, "--method", "bicubic")
    assert code == 2 and f"scale={scale} is not a whole number >= 2" in err and err.count("\n") == 1
    assert not (tmp_path / "sr.png").exists()


@pytest.mark.parametrize("size", [(20, 30), (16, 36), (8, 12), (4, 12), (10**400, 12)])
def test_a_size_of_no_whole_factor_is_told(carlib, asked, tmp_path, size):
    lr = lr_image(tmp_path / "lr.png", Origin("bicubic", None, size))
    code, _, err = carlib("upscale", lr, tmp_path / "sr.png")
    assert code == 2 and f"made from {size[1]}x{size[0]} by a factor that is not whole" in err and err.count("\n") == 1
    assert carlib("upscale", lr, tmp_path / "sr.png", "--scale", 2)[0] == 0 and asked == [("edsr", 2, None, None)]


def test_the_factor_is_the_one_that_both_sides_need():
    """13 to 4 is less than 4 and more than 3; 5 to 2 alone could be 3."""
    assert origin.scale_for(Origin("bicubic", None, (5, 13)), (2, 4)) == 4
    assert origin.scale_for(Origin("bicubic", None, (13, 5)), (4, 2)) == 4


def test_weights_of_another_method_are_no_other_weights():
    made = Origin("bicubic", 2, None, trained="01234567")
    assert origin.doubt(made, "edsr", 2, "89abcdef") == ""
    told = r"made by other weights of car \(01234567, not 89abcdef\)"
    assert re.search(told, origin.doubt(made._replace(method="car"), "car", 2, "89abcdef"))


def test_a_format_that_keeps_no_line_is_told(carlib, tmp_path):
    photo = data.write_image(tmp_path / "hr.png", np.zeros((8, 8), np.uint8))
    code, _, err = carlib("downscale", photo, tmp_path / "lr.tiff", "--method", "box")
    assert code == 0 and "only PNG and JPEG say how they were made" in err and err.count("\n") == 1


def test_a_jpeg_is_restored_by_the_network_that_was_trained_for_it(carlib, asked, tmp_path):
    """It says so itself; CAR's own small images do not survive JPEG, of which a line tells."""
    photo = data.write_image(tmp_path / "hr.png", np.full((24, 32, 3), 90, np.uint8))
    lr = tmp_path / "lr.jpg"
    code, _, err = carlib("downscale", photo, lr, "--scale", 2, "--method", "car-jpeg", "--quality", 80)
    trained = method_networks.digest("car-jpeg", 2)
    assert code == 0 and err == "" and origin.read(lr) == Origin("car-jpeg", 2, (24, 32), None, 80, trained)
    assert carlib("upscale", lr, tmp_path / "sr.png")[0] == 0 and asked == [("car-jpeg", 2, (24, 32), None)]
    assert carlib("downscale", photo, lr, "--scale", 2, "--method", "bicubic", "--quality", 80)[0] == 0
    assert carlib("upscale", lr, tmp_path / "sr.png")[0] == 0 and asked[1:] == [("edsr-jpeg", 2, (24, 32), None)]
    assert carlib("downscale", photo, lr, "--scale", 2, "--method", "bicubic", "--quality", 95)[0] == 0
    assert carlib("upscale", lr, tmp_path / "sr.png")[0] == 0 and asked[2:] == [("edsr", 2, (24, 32), None)]
    png = tmp_path / "lean.png"
    assert carlib("downscale", photo, png, "--scale", 2, "--method", "car-lean")[2] == ""
    assert carlib("upscale", png, tmp_path / "sr.png")[2] == "" and asked[3:] == [("car-lean", 2, (24, 32), None)]
    _, _, err = carlib("downscale", photo, lr, "--scale", 2, "--method", "car-lean", "--quality", 80)
    assert "car-lean was not trained for JPEG: use bicubic or car-jpeg" in err and err.count("\n") == 1
    _, _, err = carlib("downscale", photo, tmp_path / "lr.png", "--scale", 2, "--method", "car-jpeg")
    assert "car-jpeg is meant for .jpg files" in err and err.count("\n") == 1
    code, _, err = carlib("downscale", photo, lr, "--scale", 2, "--quality", 80)
    assert code == 0 and "use bicubic or car-jpeg, or for quality 90 and more --chroma whole" in err
    assert err.count("\n") == 1
    code, _, err = carlib("downscale", photo, lr, "--scale", 2, "--quality", 90, "--chroma", "whole")
    assert code == 0 and err == "" and origin.read(lr).method == "car"
    _, _, err = carlib("downscale", photo, lr, "--scale", 2, "--quality", 80, "--chroma", "whole")
    assert "car was not trained for JPEG" in err


@pytest.mark.parametrize(("form", "quality", "method"), [
    ("JPEG", 60, "edsr-jpeg"), ("JPEG", 85, "edsr-jpeg"), ("JPEG", 95, "edsr"), ("MPO", 30, "edsr-jpeg"),
])  # fmt: skip
def test_a_jpeg_that_says_nothing_is_none_of_cars(carlib, asked, tmp_path, form, quality, method):
    lr = tmp_path / "photo.jpeg"
    Image.new("RGB", (12, 8)).save(lr, format=form, quality=quality)
    assert origin.read(lr) == Origin(quality=quality)
    code, _, err = carlib("upscale", lr, tmp_path / "sr.png", "--scale", 2)
    assert code == 0 and asked == [(method, 2, None, None)] and err.count("\n") == 1
    assert f"enlarged by {method}: if CAR made it use --method car-jpeg" in err


def test_a_jpeg_that_others_stored_again_has_the_quality_of_its_tables(tmp_path):
    path = data.write_image(
        tmp_path / "lr.jpg",
        np.zeros((8, 12, 3), np.uint8),
        quality=95,
        note=origin.written(Origin("bicubic", 2, (16, 24), quality=95)),
    )
    with Image.open(path) as image:
        image.save(tmp_path / "again.jpg", quality=30)
    assert origin.read(tmp_path / "again.jpg") == Origin("bicubic", 2, (16, 24), quality=30)


def test_small_images_of_other_weights_are_told(carlib, asked, tmp_path):
    photo = data.write_image(tmp_path / "hr.png", np.full((24, 32, 3), 90, np.uint8))
    lr = tmp_path / "lr.png"
    assert carlib("downscale", photo, lr, "--scale", 2)[0] == 0
    made = origin.read(lr)
    assert made.trained == hashlib.sha256(Path("data/weights/car-edsr-x2.safetensors").read_bytes()).hexdigest()[:8]
    assert carlib("upscale", lr, tmp_path / "sr.png")[2] == ""
    data.write_image(lr, data.read_image(lr), note=origin.written(made._replace(trained="01234567")))
    code, _, err = carlib("upscale", lr, tmp_path / "sr.png")
    assert code == 0 and f"made by other weights of car (01234567, not {made.trained})" in err and err.count("\n") == 1


def test_a_jpeg_wants_a_quality(carlib, tmp_path):
    photo = data.write_image(tmp_path / "hr.png", np.full((8, 8, 3), 90, np.uint8))
    code, _, err = carlib("downscale", photo, tmp_path / "lr.jpg", "--method", "box", "--scale", 2)
    assert code == 2 and "give its quality" in err and not (tmp_path / "lr.jpg").exists()
