"""ZSSR at test time: it learns from the image alone, repeats itself, and keeps to its budget."""

import math
import time

import numpy as np
import pytest
import torch

from carlib import imresize, metrics, zssr


def stripes(height=64, width=72):
    """An image that repeats at every size, on which bicubic blurs every edge."""
    v, u = np.mgrid[:height, :width]
    pattern = ((u * 0.35 + v * 0.2) % 8 < 4) ^ ((u - v) % 12 < 6)
    return np.repeat(np.where(pattern, 220, 40).astype(np.uint8)[..., None], 3, 2)


def test_it_beats_bicubic_on_an_image_that_repeats_itself():
    hr = stripes()
    lr = imresize(hr, 0.5)
    sr = zssr.restore(lr, 2, steps=60, size="mini")
    assert sr.shape == hr.shape and sr.dtype == np.uint8
    assert metrics.psnr(hr, sr, 2) > metrics.psnr(hr, imresize(lr, 2), 2) + 0.5


def test_the_same_seed_and_steps_give_the_same_image_and_touch_nobody_elses_numbers():
    lr = imresize(stripes(), 0.5)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = zssr.restore(lr, 2, steps=5, size="mini")
    assert torch.equal(torch.rand(2), expected)
    assert np.array_equal(first, zssr.restore(lr, 2, steps=5, size="mini"))
    assert not np.array_equal(first, zssr.restore(lr, 2, steps=5, seed=1, size="mini"))


def test_no_time_means_one_step():
    began = time.perf_counter()
    sr = zssr.restore(imresize(stripes(), 0.5), 2, seconds=0, size="mini")
    assert sr.shape == (64, 72, 3) and time.perf_counter() - began < 60  # 3,000 steps take longer anywhere


def test_grey_stays_grey_and_sides_need_not_be_multiples():
    grey = imresize(stripes(58, 50), 0.5)[..., 0]
    assert zssr.restore(grey, 3, steps=2, size="mini").shape == (87, 75)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_smallest_image_has_a_son(scale):
    lr = stripes(4 * scale, 4 * scale)
    assert zssr.restore(lr, scale, steps=2, size="mini").shape == (4 * scale**2, 4 * scale**2, 3)


def test_back_projection_makes_the_lr_image_come_back():
    rng = np.random.default_rng(0)
    lr, sr = rng.random((8, 9, 3)), rng.random((16, 18, 3))
    lack = [np.abs(imresize(zssr.back_project(sr, lr, 2, n), 0.5) - lr).max() for n in (0, 1, 10)]
    assert lack[2] < 0.2 * lack[1] < 0.2 * lack[0]


def test_an_error_that_no_longer_falls_stalls():
    assert not zssr._stalls([5.0, 4.0, 3.0, 2.1])  # too few looks
    assert not zssr._stalls([5.0, 4.0, 3.1, 2.0, 1.0])
    assert zssr._stalls([1.0, 1.1, 0.9, 1.1, 1.0])
    assert zssr._stalls([9.0, 1.0, 1.1, 1.2, 1.3, 1.4])


def test_the_rate_falls_to_a_tenth_at_each_stall_and_looks_are_counted_anew(monkeypatch):
    """From 1e-3 three falls lead below the lowest rate, 9e-6."""
    looks = []
    monkeypatch.setattr(zssr, "_EVERY", 1)
    monkeypatch.setattr(zssr, "_stalls", lambda errors: looks.append(len(errors)) or len(errors) == 2)
    zssr.train(stripes(16, 16) / 255, 2, steps=30, size="mini")
    assert looks == [1, 2] * 3


def test_the_median_of_the_orientations_counts(monkeypatch):
    values = iter([0, 1, 0, 0.1, 1, 0.3, 0, 1])
    monkeypatch.setattr(zssr, "_enlarged", lambda network, image: np.full((2 * len(image), 16, 3), next(values)))
    monkeypatch.setattr(zssr, "back_project", lambda sr, lr, scale: sr)
    np.testing.assert_allclose(zssr.apply(None, np.zeros((8, 8, 3)), 2), 0.2)


def test_there_are_ten_back_projections():
    lr, sr = np.random.default_rng(0).random((8, 9, 3)), np.zeros((16, 18, 3))
    np.testing.assert_array_equal(zssr.back_project(sr, lr, 2), zssr.back_project(sr, lr, 2, 10))
    assert not np.array_equal(zssr.back_project(sr, lr, 2), zssr.back_project(sr, lr, 2, 9))


def test_the_network_and_the_crops_follow_the_seed(monkeypatch):
    crops, crop = [], zssr._crop
    monkeypatch.setattr(zssr, "_crop", lambda *arguments: crops.append(crop(*arguments)) or crops[-1])
    image = np.random.default_rng(0).random((40, 40, 3))
    begun, again, other = (
        [p.sum().item() for p in zssr.train(image, 2, steps=0, seed=seed, size="mini").parameters()]
        for seed in (0, 0, 1)
    )
    assert begun == again and begun != other
    monkeypatch.setattr(zssr, "_CROP", 16)
    for seed in (0, 0, 1):
        zssr.train(image, 2, steps=1, seed=seed, size="mini")
    assert np.array_equal(crops[0], crops[1]) and not np.array_equal(crops[0], crops[2])


@pytest.mark.parametrize(("lr", "options", "told"), [
    (np.zeros((16, 16, 3)), {}, "lr is no uint8 image"),
    (np.zeros((7, 30, 3), np.uint8), {}, "lr is 30x7: ZSSR at scale 2 needs sides of 8 pixels"),
    (np.zeros((16, 16, 3), np.uint8), {"scale": 1.5}, "scale=1.5 is not a whole number >= 2"),
    (np.zeros((16, 16, 4), np.uint8), {}, "lr is no uint8 image"),
    (np.zeros((16, 16, 1), np.uint8), {}, "lr is no uint8 image"),
    (np.zeros(16, np.uint8), {}, "lr is no uint8 image"),
    (np.zeros((5, 7), np.uint8), {}, "lr is 7x5: ZSSR at scale 2 needs sides of 8 pixels"),
    (np.zeros((16, 16, 3), np.uint8), {"scale": "2"}, "scale='2' is not a whole number >= 2"),
    (np.zeros((16, 16, 3), np.uint8), {"steps": -1}, "steps=-1 is not a whole number >= 0"),
    (np.zeros((16, 16, 3), np.uint8), {"steps": math.inf}, "steps=inf is not a whole number >= 0"),
    (np.zeros((16, 16, 3), np.uint8), {"seconds": math.nan}, "seconds=nan is not a number >= 0"),
    (np.zeros((16, 16, 3), np.uint8), {"seconds": -1}, "seconds=-1 is not a number >= 0"),
    (np.zeros((16, 16, 3), np.uint8), {"seed": 1.5}, "seed=1.5 is not a whole number >= 0"),
])  # fmt: skip
def test_what_cannot_be_restored_is_refused(lr, options, told):
    with pytest.raises(ValueError, match=told) as refusal:
        zssr.restore(lr, **{"scale": 2} | options)
    assert "\n" not in str(refusal.value)


def test_what_the_caller_has_set_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    options = {"steps": 3, "size": "mini"}
    wanted = zssr.restore(image, 2, **options)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            found = zssr.restore(image, 2, **options)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found, wanted)
