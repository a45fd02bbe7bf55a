"""JPEG with a gradient: beside libjpeg's own file, its gradient, and networks that train through it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from short_runs import go, short
from torch.nn import functional

from carlib import codecs, data, pixels, rescale, run_networks, runs, weights
from carlib.ops.jpeg import jpeg, price, stored
from carlib.training import validation

SIZES = [(96, 120), (33, 47), (8, 9), (17, 2), (1, 1)]


def photograph(size=(96, 120)):
    image = dict(data.load("demo"))["chelsea"]
    return np.ascontiguousarray(image[40 : 40 + size[0], 60 : 60 + size[1]])


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 95, 100])
@pytest.mark.parametrize("size", SIZES)
def test_it_leaves_what_libjpegs_file_leaves(quality, size):
    """Of the change that JPEG makes, little is another one here: libjpeg computes in whole numbers.

    Of tiny images one coefficient that ends in a half, which it rounds away from 0, is a large part.
    """
    image = photograph(size)
    stored = codecs.decode(codecs.encode(image, "jpeg", quality=quality), "jpeg").astype(float)
    ours = pixels.to_image(jpeg(pixels.to_tensor(image), quality)).astype(float)
    change, other = np.abs(stored - image).mean(), np.abs(ours - stored).mean()
    assert other <= (0.05 + 0.2 * change if min(size) > 9 else 1.5)


@pytest.mark.parametrize("quality", [10, 30, 75])
@pytest.mark.parametrize("size", [(96, 98), (96, 100), (96, 104), (98, 96), (97, 99), (24, 24)])
def test_the_rim_is_as_near_to_libjpegs_as_the_rest(quality, size):
    """Where sides are no multiples of 16, encoders continue the image, colours and luma each in a way of their own."""
    image = photograph(size)
    stored = codecs.decode(codecs.encode(image, "jpeg", quality=quality), "jpeg").astype(float)
    other = np.abs(pixels.to_image(jpeg(pixels.to_tensor(image), quality)) - stored).mean(axis=2)
    rest = max(other[:-10, :-10].mean(), 0.2)
    assert other[:, -10:].mean() < 2 * rest and other[-10:].mean() < 2 * rest


def test_in_mixed_precision_it_is_computed_in_single():
    image = pixels.to_tensor(photograph())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = jpeg(image, 50)
    assert torch.equal(mixed, jpeg(image, 50)) and jpeg(image.half(), 50).dtype == torch.float16


def test_saturated_images_are_as_libjpegs():
    """Blocks overshoot: libjpeg clips them before colours are put together."""
    rows, columns = np.mgrid[:48, :64] // 3
    image = np.repeat(((rows + columns) % 2 * 255)[..., None], 3, axis=2).astype(np.uint8)
    stored = codecs.decode(codecs.encode(image, "jpeg", quality=10), "jpeg").astype(float)
    assert np.abs(pixels.to_image(jpeg(pixels.to_tensor(image), 10)) - stored).mean() < 1


def test_values_are_of_8_bits_and_qualities_go_with_their_images():
    image = torch.cat([pixels.to_tensor(photograph())] * 3)
    found = jpeg(image, torch.tensor([10, 50, 95]))
    levels = found * 255
    assert found.dtype == image.dtype and torch.equal(levels.round() / 255, found) and found.amax() <= 1
    for one, quality in zip(found, (10, 50, 95), strict=True):
        torch.testing.assert_close(one[None], jpeg(image[:1], quality), rtol=0, atol=1e-6)
    errors = (found - image).square().mean((1, 2, 3)).tolist()
    assert errors == sorted(errors, reverse=True)


def test_grey_stays_grey():
    grey = photograph()[..., :1].repeat(3, axis=2)
    found = jpeg(pixels.to_tensor(grey), 20)
    assert torch.equal(found[:, 0], found[:, 1]) and torch.equal(found[:, 0], found[:, 2])


def test_without_rounding_it_is_halved_colour_and_so_is_the_gradient():
    """alpha 0 passes roundings by; JFIF's matrices, means of 2x2 pixels and a triangle are left."""
    forth = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    back = torch.tensor([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])

    def halved(image):
        y, chroma = torch.einsum("dc,nchw->ndhw", forth, image).split([1, 2], dim=1)
        chroma = functional.interpolate(functional.avg_pool2d(chroma, 2), scale_factor=2, mode="bilinear")
        return torch.einsum("dc,nchw->ndhw", back, torch.cat([y, chroma], 1))

    torch.manual_seed(0)
    image = (0.5 + 0.1 * torch.randn(2, 3, 32, 48)).requires_grad_()
    weights = torch.randn(2, 3, 32, 48)
    ours, wanted = (torch.autograd.grad(f, image, weights)[0] for f in (jpeg(image, 60, alpha=0.0), halved(image)))
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_a_coefficient_that_becomes_0_gives_back_nothing():
    """Faint noise under quality 10 becomes flat, and cannot be learned from; its mean can."""
    torch.manual_seed(0)
    image = (0.5 + 0.002 * torch.randn(1, 3, 16, 16)).requires_grad_()
    (given,) = torch.autograd.grad(jpeg(image, 10, alpha=1.0).square().sum(), image)
    (straight,) = torch.autograd.grad(jpeg(image, 10, alpha=0.0)[0, :, 3, 4].sum(), image)
    (soft,) = torch.autograd.grad(jpeg(image, 10, alpha=1.0)[0, :, 3, 4].sum(), image)
    assert given.isfinite().all() and soft.abs().sum() < 0.2 * straight.abs().sum()


@pytest.mark.parametrize(("image", "quality", "message"), [
    (torch.zeros(3, 8, 8), 50, r"shape \(3, 8, 8\) is not \(N, 3, H, W\)"),
    (torch.zeros(1, 1, 8, 8), 50, r"shape \(1, 1, 8, 8\) is not"),
    (torch.zeros(0, 3, 8, 8), 50, r"shape \(0, 3, 8, 8\) is not"),
    (torch.zeros((1, 3, 8, 8), dtype=torch.uint8), 50, r"of torch.uint8 is no float in \[0, 1\]: divide 8 bits by 255"),
    (torch.zeros(1, 3, 8, 8), 0, r"quality=\[0\] is not 1 to 100"),
    (torch.zeros(1, 3, 8, 8), 101, r"quality=\[101\] is not 1 to 100"),
    (torch.zeros(1, 3, 8, 8), 50.5, r"quality=50.5 is no whole number, nor one for each of 1 images"),
    (torch.zeros(3, 3, 8, 8), torch.tensor([50, 60]), r"quality=\[50, 60\] is no whole number, nor one for each of 3"),
])  # fmt: skip
def test_what_is_no_image_or_no_quality_is_refused(image, quality, message):
    with pytest.raises(ValueError, match=message):
        jpeg(image, quality)


# ---- bits ---------------------------------------------------------------------------------------------


def libjpegs_bits(image, quality):
    """Of a file without its headers, which a grey one of the same size has."""
    return 8 * sum(
        sign * len(codecs.encode(one, "jpeg", quality=quality))
        for sign, one in ((1, image), (-1, np.full_like(image, 128)))
    )


@pytest.mark.parametrize("quality", [20, 30, 50, 70, 80, 90, 95])
@pytest.mark.parametrize("scale", [2, 4])
def test_bits_are_about_those_of_libjpegs_file(scale, quality):
    for name in ("chelsea", "astronaut", "coffee"):
        lr = rescale.downscale(data.centre_crop(dict(data.load("demo"))[name], 256), scale, "bicubic")
        (bits,) = stored(pixels.to_tensor(lr), quality)[1].tolist()
        assert bits == pytest.approx(libjpegs_bits(lr, quality), rel=0.2)


def test_bits_go_with_their_images_and_flat_ones_take_none():
    image = torch.cat([pixels.to_tensor(photograph())] * 2)
    both = stored(image, torch.tensor([30, 80]))[1]
    for bits, quality in zip(both, (30, 80), strict=True):
        torch.testing.assert_close(bits[None], stored(image[:1], quality)[1])
    flat = stored(torch.full((1, 3, 24, 40), 200 / 255), 90)[1]
    assert flat < 1e-3 * both[0]


def test_bits_by_hand():
    """Flat blocks of 8x8 differ from those on their left alone; by 20 levels, which are 160 in the DCT, steps of 16."""
    levels = torch.tensor([[120.0, 140, 140], [120, 120, 100]]).repeat_interleave(8, 0).repeat_interleave(8, 1)
    grey = (levels / 255).expand(1, 3, 16, 24)
    torch.testing.assert_close(stored(grey, 50)[1], torch.tensor([2.4 * 2 * math.log2(1 + 160 / 16)]))
    colour = grey.clone()
    colour[:, 2, :, :8] += 60 / 255  # blue: 60 levels are 6.8 of luma and 30 of Cb; a chroma block is 16 pixels
    assert stored(colour, 50)[1] > stored(colour.mean(1, keepdim=True).expand(1, 3, 16, 24), 50)[1] + 2.4


@pytest.mark.parametrize("quality", [30, 80])
def test_against_their_gradient_libjpegs_file_becomes_smaller(quality):
    lr = pixels.to_tensor(photograph()).requires_grad_()
    (gradient,) = torch.autograd.grad(stored(lr, quality)[1].sum(), lr)
    step = 4 / 255 * gradient / gradient.square().mean().sqrt()
    less, same, more = (
        libjpegs_bits(pixels.to_image((lr.detach() + sign * step).clamp(0, 1)), quality) for sign in (-1, 0, 1)
    )
    assert less < 0.96 * same and more > 1.04 * same


def test_a_bit_costs_by_the_step_of_quantisation():
    found = price(torch.tensor([[10, 25, 50], [75, 95, 100]]))
    torch.testing.assert_close(found, torch.tensor([[5.0, 2.0, 1.0], [0.5, 0.1, 0.02]]))
    assert price(50) == 1


# ---- runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [[30], [0, 50], [90, 30], [30, 101], [30.0, 95.0], [True, 50], []])
def test_a_range_of_qualities_is_two_whole_numbers(value):
    with pytest.raises(ValueError, match=r"jpeg=.* is no lowest and highest quality of JPEG: give \[30, 95\]"):
        runs.get("car-edsr-x2", "smoke", {"jpeg": value})


def test_a_run_that_trains_nothing_has_no_use_for_it():
    with pytest.raises(ValueError, match=r"jpeg=.* is for a run that is trained"):
        runs.get("bicubic-bicubic-x2", "smoke", {"jpeg": [30, 95]})


@pytest.mark.parametrize("name", ["bicubic-edsr-x2", "bicubic-edsr-x2-jpeg", "car-rdn-x4-frozen"])
def test_bits_have_a_price_where_a_downscaler_learns(name):
    with pytest.raises(ValueError, match=r"bit_price=0.1 is for a learned downscaler that is trained, not for"):
        runs.get(name, "smoke", {"bit_price": 0.1})


def test_a_price_is_not_below_0():
    with pytest.raises(ValueError, match=r"bit_price=-0.1 must be a finite number >= 0"):
        runs.get("car-edsr-x2-jpeg", "smoke", {"bit_price": -0.1})


@pytest.mark.parametrize("name", ["car-edsr-x2-jpeg", "bicubic-edsr-x2-jpeg"])
def test_networks_read_what_jpeg_left(name):
    run = runs.get(name, "smoke", {"warm_start": None})
    torch.manual_seed(0)
    rescaler = run_networks.Rescaler(run_networks.build(run), run.alpha, [10, 95], True)
    hr = torch.rand(3, 3, 32, 32)
    lr = None if run.learns_downscaling else torch.rand(3, 3, 16, 16)
    plain = run_networks.Rescaler(rescaler.networks, run.alpha)(hr, lr).lr
    rescaler.eval()
    state = torch.get_rng_state()
    sr, read, _, cost = rescaler(hr, lr)
    assert cost is None
    assert torch.equal(torch.get_rng_state(), state)  # validating is no part of what is drawn
    assert torch.equal(read, jpeg(plain, 52, run.alpha)) and torch.equal(sr, rescaler.networks["upscaler"](read))
    rescaler.train()
    torch.manual_seed(1)
    drawn = torch.randint(10, 96, (3,))
    torch.manual_seed(1)
    _, read, _, cost = rescaler(hr, lr)
    bits = stored(plain, drawn, run.alpha)[1]
    torch.testing.assert_close(cost, (bits * price(drawn)).mean() / 16**2)
    assert torch.equal(read, jpeg(plain, drawn, run.alpha)) and len(set(drawn.tolist())) > 1
    if run.learns_downscaling:
        read.sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in rescaler.networks["resampler"].parameters())


def test_where_bits_cost_the_last_weights_are_kept(home, tmp_path, monkeypatch):
    """What stands highest in PSNR alone may be what spends most."""
    for price_of_bits, kept in ((0.0, 30), (0.5, 29)):
        psnrs = iter([30.0, 29.0])
        monkeypatch.setattr(validation, "validate", lambda *_, psnrs=psnrs: next(psnrs))
        run = short("car-edsr-x2-jpeg", warm_start=None, bit_price=price_of_bits)
        path = go(run, tmp_path / str(price_of_bits))
        assert weights.header(path)["validation"]["psnr_rgb"] == kept
        costs = pd.read_csv(path.parent / "log.csv").bit_cost
        assert costs.gt(0).all() if price_of_bits else costs.isna().all()
