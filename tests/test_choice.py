"""Of CAR and bicubic the one that is restored better: it is what both would have made, and what the command writes."""

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


@pytest.mark.parametrize("name", ["chelsea", "retina"])
def test_as_jpeg_car_has_to_beat_a_file_that_is_as_large(name):
    image = example(name)
    found = choice.best(image, 2, quality=50)
    car, bicubic = (rescale.downscale(image, 2, method) for method in choice.JPEG)
    sizes = [len(codecs.encode(bicubic, "jpeg", quality=quality)) for quality in range(1, 101)]
    size = len(codecs.encode(car, "jpeg", quality=50))
    quality = 1 + next(place for place, other in enumerate(sizes) if other >= size)
    sr = rescale.upscale(codecs.decode(codecs.encode(bicubic, "jpeg", quality=quality), "jpeg"), 2, "edsr-jpeg")
    assert found.psnr["bicubic"] == metrics.psnr(image, sr, 0, "rgb") and quality != 50
    assert choice._as_large(bicubic, 10**9) == 100 and choice._as_large(bicubic, 1) == 1


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
    bytes_told = " from as many bytes" if options else ""
    assert code == 0 and err == "" and made.scale == 2 and f"by {made.method} x2 (restored{bytes_told}: car" in out
    assert made.method == choice.best(data.read_image(photo), 2, quality=80 if options else None).method


@pytest.mark.parametrize("options", [("--weights", "x"), ("--lambda", 1), ("--size", "8x8"), ("--variant", "paper")])
def test_options_of_one_method_are_refused(carlib, tmp_path, options):
    photo = data.write_image(tmp_path / "hr.png", example("chelsea", 32))
    code, _, err = carlib("downscale", photo, tmp_path / "lr.png", "--method", "best", *options)
    name = options[0].strip("-")
    assert code == 2 and err == f"carlib: method 'best' has no {name}: leave {name} out, or name the method you want\n"
    assert not (tmp_path / "lr.png").exists()
