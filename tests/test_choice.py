"""Of CAR and bicubic the one that is restored better: it is what both would have made, and what the command writes."""

from functools import partial

import numpy as np
import pytest

from carlib import choice, codecs, data, metrics, origin, rescale


def example(name, size=96):
    return data.centre_crop(dict([*data.load("demo"), *data.load("content")])[name], size)


@pytest.mark.parametrize(("name", "winner"), [("chelsea", "car"), ("retina", "bicubic")])
def test_the_nearer_one_is_taken(name, winner):
    image = example(name)
    found = choice.best(image, 2)
    assert found.method == winner and set(found.psnr) == {"car", "bicubic"}
    np.testing.assert_array_equal(found.lr, rescale.downscale(image, 2, winner))
    for method, upscaler in (("car", "car"), ("bicubic", "edsr")):
        sr = rescale.upscale(rescale.downscale(image, 2, method), 2, upscaler)
        assert found.psnr[method] == metrics.psnr(image, sr, 0, "rgb")


def test_what_is_stored_as_jpeg_is_compared_as_jpeg():
    image = example("chelsea")
    rough, fine = (choice.best(image, 2, quality=quality) for quality in (10, 90))
    assert set(rough.psnr) == {"car-jpeg", "bicubic"}
    assert all(rough.psnr[method] < fine.psnr[method] - 1 for method in rough.psnr)


@pytest.mark.parametrize(("name", "winner"), [("chelsea", "car-jpeg"), ("retina", "bicubic")])
def test_jpegs_are_compared_at_the_size_of_bicubics(name, winner, carlib, tmp_path):
    image = example(name)
    found = choice.best(image, 2, quality=70)
    car, bicubic = (rescale.downscale(image, 2, method) for method in choice.JPEG)
    size = len(codecs.encode(bicubic, "jpeg", quality=70))
    coded = partial(codecs.encode, car, "jpeg")
    quality = choice._highest_quality_within(coded, size)
    at, above = (len(codecs.encode(car, "jpeg", quality=q)) for q in (quality, quality + 1))
    assert at <= size < above
    assert found.method == winner and found.quality == (quality if winner == "car-jpeg" else 70) and quality < 70
    assert choice._highest_quality_within(coded, 10**9) == 100 and choice._highest_quality_within(coded, 1) == 0
    photo, lr, sr = (tmp_path / file for file in ("hr.png", "lr.jpg", "sr.png"))
    data.write_image(photo, image)
    assert carlib("downscale", photo, lr, "--scale", 2, "--method", "best", "--quality", 70)[0] == 0
    assert carlib("upscale", lr, sr)[0] == 0  # what was told is what the file holds
    assert metrics.psnr(image, data.read_image(sr), 0, "rgb") == pytest.approx(found.psnr[winner])


def test_a_car_whose_smallest_file_is_larger_than_bicubics_is_not_taken(carlib, tmp_path):
    image = dict(data.load("demo"))["chelsea"][:192, :192]
    found = choice.best(image, 2, quality=1)
    assert set(found.psnr) == {"bicubic"} and (found.method, found.quality) == ("bicubic", 1)
    photo = data.write_image(tmp_path / "hr.png", image)
    lr = tmp_path / "lr.jpg"
    code, out, _ = carlib("downscale", photo, lr, "--scale", 2, "--method", "best", "--quality", 1)
    assert code == 0 and f"bicubic {found.psnr['bicubic']:.2f} dB, no file of CAR's is so small)" in out


def test_with_whole_chroma_the_car_of_lossless_images_competes(carlib, tmp_path):
    image = example("kodim23", 192)
    found = choice.best(image, 2, quality=98, chroma="whole")
    car, bicubic = (rescale.downscale(image, 2, method) for method in choice.LOSSLESS)
    size = len(codecs.encode(bicubic, "jpeg", quality=98, chroma="whole"))
    coded = codecs.encode(car, "jpeg", quality=found.quality, chroma="whole")
    assert found.method == "car" and len(coded) <= size and 90 < found.quality < 98
    sr = rescale.upscale(codecs.decode(coded, "jpeg"), 2)
    assert found.psnr["car"] == metrics.psnr(image, sr, 0, "rgb") > choice.best(image, 2, quality=98).psnr["bicubic"]
    photo, lr, again = (tmp_path / file for file in ("hr.png", "lr.jpg", "sr.png"))
    data.write_image(photo, image)
    options = ("--method", "best", "--quality", 98, "--chroma", "whole")
    assert carlib("downscale", photo, lr, "--scale", 2, *options)[0] == 0 and carlib("upscale", lr, again)[0] == 0
    np.testing.assert_array_equal(data.read_image(again), sr)
    with pytest.raises(ValueError, match="chroma='whole' is for JPEG: give a quality"):
        choice.best(image, 2, chroma="whole")


@pytest.mark.parametrize("shape", [(7, 9), (1, 1, 3)])
def test_any_size_padded(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = choice.best(image, 2, pad=True)
    assert found.lr.shape == ((shape[0] + 1) // 2, (shape[1] + 1) // 2, *shape[2:])


@pytest.mark.parametrize(("target", "options"), [("lr.png", ()), ("lr.jpg", ("--quality", 80))])
def test_the_command_tries_both_and_the_file_says_which(carlib, tmp_path, target, options):
    photo = data.write_image(tmp_path / "hr.png", example("retina"))
    code, out, err = carlib("downscale", photo, tmp_path / target, "--scale", 2, "--method", "best", *options)
    made = origin.read(tmp_path / target)
    found = choice.best(data.read_image(photo), 2, quality=80 if options else None)
    told = f", quality {found.quality} (restored at this size, RGB: car-jpeg" if options else " (restored, RGB: car "
    assert code == 0 and err == "" and made.scale == 2 and f"by {made.method} x2{told}" in out
    assert (made.method, made.quality) == (found.method, found.quality)


@pytest.mark.parametrize("options", [("--weights", "x"), ("--lambda", 1), ("--size", "8x8"), ("--variant", "paper")])
def test_options_of_one_method_are_refused(carlib, tmp_path, options):
    photo = data.write_image(tmp_path / "hr.png", example("chelsea", 32))
    code, _, err = carlib("downscale", photo, tmp_path / "lr.png", "--method", "best", *options)
    name = options[0].strip("-")
    assert code == 2 and err == f"carlib: method 'best' has no {name}: leave {name} out, or name the method you want\n"
    assert not (tmp_path / "lr.png").exists()


def test_device_and_tile_reach_every_network(monkeypatch):
    seen = {}

    def noted(door):
        original = getattr(rescale, door)

        def call(image, scale, method, *size, **options):
            seen[door, method] = options
            return original(image, scale, method, *size, **options)

        monkeypatch.setattr(rescale, door, call)

    noted("downscale")
    noted("upscale")
    choice.best(example("chelsea", 32), 2, tile=64, device="cpu")
    given = {"tile": 64, "device": "cpu"}
    assert seen["downscale", "car"] == given | {"pad": False} and seen["downscale", "bicubic"] == {"pad": False}
    assert seen["upscale", "car"] == seen["upscale", "edsr"] == given


@pytest.mark.parametrize("quality", [0, 101, 50.5, 100.0, True])
def test_a_quality_that_no_jpeg_has_is_refused(quality):
    with pytest.raises(ValueError, match="is not a whole number from 1 to 100"):
        choice.best(example("retina"), 2, quality=quality)


def test_the_quality_that_is_found_can_be_written(tmp_path):
    found = choice.best(example("retina"), 2, quality=np.int64(70))
    assert found.quality == 70
    data.write_image(tmp_path / "lr.jpg", found.lr, quality=found.quality)
