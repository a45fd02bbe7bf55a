"""The estimate of lossless JPEG 2000's bits: beside OpenJPEG's files, by hand, its gradient, and in a run's loss."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from carlib import codecs, data, pixels, rescale, run_networks, runs
from carlib.ops import jpeg2000
from carlib.training import objective


def photograph(name="chelsea", size=256):
    return data.centre_crop(dict(data.load("demo"))[name], size)


def openjpegs_bits(image):
    """Of a file without its headers, which a flat one of the same size has."""
    flat = np.full_like(image, 128)
    return 8 * (len(codecs.encode(image, "jpeg2000")) - len(codecs.encode(flat, "jpeg2000")))


@pytest.mark.parametrize("downscaler", ["bicubic", "car", "car-lean"])  # the last was trained against the estimate
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", ["chelsea", "astronaut", "coffee"])
def test_bits_are_about_those_of_openjpegs_file(name, scale, downscaler):
    lr = rescale.downscale(photograph(name), scale, downscaler)
    assert jpeg2000.bits(pixels.to_tensor(lr)).item() == pytest.approx(openjpegs_bits(lr), rel=0.03)


def test_the_wavelet_goes_five_times():
    """Computed by the code at commit e90d153; four times give 757,709, six 756,203."""
    assert jpeg2000.bits(pixels.to_tensor(photograph())).item() == pytest.approx(756_477, rel=1e-4)


def test_colour_that_is_not_there_takes_no_bits():
    grey = photograph()[::2, ::2, :1].repeat(3, axis=2)
    found = jpeg2000.bits(pixels.to_tensor(grey)).item()
    assert found == pytest.approx(openjpegs_bits(grey), rel=0.08)
    assert found < 0.6 * jpeg2000.bits(pixels.to_tensor(photograph()[::2, ::2])).item()


@pytest.mark.parametrize("size", [(96, 120), (33, 47), (2, 5), (1, 9), (1, 1)])
def test_any_size_and_each_image_for_itself(size):
    torch.manual_seed(0)
    images = torch.rand(3, 3, *size)
    found = jpeg2000.bits(images)
    assert found.shape == (3,) and found.dtype == torch.float32 and (found > 0).all()
    torch.testing.assert_close(found[1:2], jpeg2000.bits(images[1:2]))
    assert jpeg2000.bits(images.bfloat16()).dtype == torch.float32


def test_bits_by_hand():
    """A grey ramp: inside, the wavelet foresees odd pixels by their neighbours, only the mirrored end tells."""
    ramp = torch.tensor([0.0, 10, 20, 30])[None, :].repeat(4, 1) + 128
    found = jpeg2000._split(ramp[None, None], 3)
    torch.testing.assert_close(found[0][0, 0, 0], torch.tensor([128.0, 128 + 20 + 10 / 4]))
    torch.testing.assert_close(found[1][0, 0, 0], torch.tensor([0.0, 10.0]))  # 30 beside its mirrored 20
    flat = torch.full((1, 3, 16, 16), 128 / 255)
    assert jpeg2000.bits(flat).item() == pytest.approx(0, abs=0.01)
    grey = (torch.tensor([[148.0, 158.0], [148.0, 168.0]]) / 255).expand(1, 3, 2, 2)
    # Rows: low 148 + 10 / 2 = 153 and 158, high 10 and 20. Columns of these: low 155.5, high 5; low 15, high 10.
    one = 1.18 * sum(math.log2(1 + 4 * size) for size in (155.5 - 128, 5, 15, 10))
    assert jpeg2000.bits(grey).item() == pytest.approx(one, rel=1e-5)
    red = grey.clone()
    red[:, 0] += 8 / 255  # luma of RCT is a quarter higher, B - G stays 0, R - G is 8 everywhere
    more = 1.18 * (math.log2(1 + 4 * 29.5) - math.log2(1 + 4 * 27.5) + math.log2(1 + 4 * 8))
    assert jpeg2000.bits(red).item() == pytest.approx(one + more, rel=1e-5)


def test_the_wavelet_is_that_of_its_definition():
    """T.800, Annex F: an odd pixel loses its neighbours' mean, an even one gets a quarter of both of its own."""
    torch.manual_seed(0)
    for length in (2, 3, 8, 9):
        line = torch.randn(length, dtype=torch.float64)
        wide = np.pad(line.numpy(), 2, mode="reflect") if length > 2 else line.numpy()[[0, 1, 0, 1, 0, 1]]
        high = {n: wide[n + 2] - (wide[n + 1] + wide[n + 3]) / 2 for n in range(-1, length + 1, 2)}
        low = [wide[n + 2] + (high[n - 1] + high[n + 1]) / 4 for n in range(0, length, 2)]
        ours = jpeg2000._split(line.reshape(1, 1, 1, -1), 3)
        np.testing.assert_allclose(ours[0].flatten(), low)
        np.testing.assert_allclose(ours[1].flatten(), [high[n] for n in range(1, length, 2)])


def test_against_their_gradient_openjpegs_file_becomes_smaller():
    lr = pixels.to_tensor(photograph(size=128)).requires_grad_()
    (gradient,) = torch.autograd.grad(jpeg2000.bits(lr).sum(), lr)
    step = 0.25 / 255 * gradient / gradient.square().mean().sqrt()  # of 0 to 2 levels after rounding
    less, same, more = (openjpegs_bits(pixels.to_image((lr.detach() + sign * step).clamp(0, 1))) for sign in (-1, 0, 1))
    assert less < 0.99 * same and more > 1.03 * same


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 0, 8)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"is not \(N, 3, H, W\)"):
        jpeg2000.bits(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"of torch.uint8 is no float in \[0, 1\]: divide 8 bits by 255"):
        jpeg2000.bits(torch.zeros((1, 3, 8, 8), dtype=torch.uint8))


# ---- in a run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "jpeg"), [("car-edsr-x2", None), ("car-edsr-x2-jpeg", [50, 50])])
def test_the_price_of_bits_is_part_of_the_loss_and_reaches_the_resampler(name, jpeg):
    run = runs.get(name, "smoke", {"warm_start": None, "bit_price": 0.5})
    torch.manual_seed(0)
    rescaler = run_networks.Rescaler(run_networks.build(run), run.alpha, jpeg, run.priced)
    hr = pixels.to_tensor(photograph(size=64))
    made = rescaler(hr)
    if jpeg is None:
        torch.testing.assert_close(made.cost, jpeg2000.bits(made.lr)[0] / 32**2)
    total, terms = objective.of_run(run, 0, made, hr, None)
    free, others = objective.of_run(dataclasses.replace(run, bit_price=0.0), 0, made, hr, None)
    torch.testing.assert_close(total, free + 0.5 * made.cost)
    assert terms == others | {"bit_cost": made.cost} and "bit_cost" not in others
    made.cost.backward()
    assert any(p.grad is not None and p.grad.any() for p in rescaler.networks["resampler"].parameters())


def test_nothing_is_counted_where_bits_have_no_price_or_nothing_is_trained():
    run = runs.get("car-edsr-x2", "smoke", {"warm_start": None})
    hr = torch.rand(1, 3, 32, 32)
    networks = run_networks.build(run)
    assert run_networks.Rescaler(networks, run.alpha)(hr).cost is None
    assert run_networks.Rescaler(networks, run.alpha, None, True).eval()(hr).cost is None
