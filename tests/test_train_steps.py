"""What a training step is made of: its learning rate, and the patches of its batch."""

import numpy as np
import pytest
import torch
from short_runs import smoke

from carlib import data, rescale, run_networks
from carlib.training import loop, schedule
from carlib.training.patches import Patches, validation_images


def test_a_constant_rate_is_constant(home):
    run = smoke(schedule="constant", lr=0.1)
    assert {schedule.learning_rate(run, step, []) for step in range(run.steps)} == {0.1}


@pytest.mark.parametrize("steps", [1, 2, 19, 100, 5000])
def test_one_cycle_rises_linearly_to_the_rate_and_falls_to_a_thousandth(home, steps):
    run = smoke(schedule="one-cycle", lr=0.5, steps=steps)
    rates = np.array([schedule.learning_rate(run, step, []) for step in range(steps + 1)])
    rise = max(1, round(0.05 * steps))
    assert rates[0] == pytest.approx(0.5 / 25) and rates[rise] == pytest.approx(0.5) == rates.max()
    np.testing.assert_allclose(np.diff(rates[: rise + 1]), 0.5 * 24 / 25 / rise, rtol=1e-9)
    assert (np.diff(rates[rise:]) < 0).all()
    if steps > 1:
        assert rates[-1] == pytest.approx(0.5 / 1000)
        middle = rise + (steps - rise) / 2  # of a cosine: half-way between the rate and a thousandth of it
        if middle.is_integer():
            assert rates[int(middle)] == pytest.approx(0.5 * 1.001 / 2)


def test_plateau_halves_the_rate_after_validations_without_gain(home):
    run = smoke(schedule="plateau", lr=1.0, plateau_patience=2)
    for psnrs, halvings in (
        ([], 0),
        ([30], 0),
        ([30, 29], 0),
        ([30, 29, 30], 1),  # no gain twice; equal is no gain
        ([30, 29, 31, 30], 0),  # a gain begins the count anew
        ([30, 29, 29, 29], 1),
        ([30, 29, 29, 29, 29], 2),
        ([30, 29, 29, 31, 30, 30], 2),
    ):
        assert schedule.learning_rate(run, 9, psnrs) == 0.5**halvings, psnrs


@pytest.mark.parametrize("name", ["car-edsr-x2", "bicubic-edsr-x4"])
def test_a_batch_depends_on_seed_and_step_alone(home, name):
    one, other = Patches(smoke(name)), Patches(smoke(name, steps=9, lr=0.5))
    forward, backward = [one.batch(step) for step in (0, 1, 7)], [other.batch(step) for step in (7, 1, 0)][::-1]
    np.random.seed(3)
    torch.manual_seed(3)
    for a, b in zip(forward, backward, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x is None and y is None) or torch.equal(x, y)
    assert not torch.equal(forward[0][0], forward[1][0])
    assert not torch.equal(forward[0][0], Patches(smoke(name, seed=1)).batch(0)[0])


@pytest.mark.parametrize(("given", "rates"), [(None, {0.1}), (0.3, {0.1, 0.3})])
def test_the_resampler_may_have_a_rate_of_its_own(home, tmp_path, given, rates):
    run = smoke("car-edsr-x2", schedule="constant", lr=0.1, resampler_lr=given, steps=1)
    networks = run_networks.build(run)
    groups = loop._groups(run, networks)
    assert {group["lr"] for group in groups} == {run.lr * group["share"] for group in groups} == rates
    optimised = sum(parameter.numel() for group in groups for parameter in group["params"])
    assert optimised == sum(p.numel() for p in networks.parameters() if p.requires_grad)


@pytest.mark.parametrize("colours", [{}, {"recolour": 1.0}, {"grey": 0.5, "recolour": 0.5}])
def test_a_batch_of_bicubic_lr_belongs_to_its_hr(home, colours):
    run = smoke("bicubic-edsr-x2", batch=8, **colours)
    hr, lr = Patches(run).batch(5)
    assert hr.shape == (8, 3, 32, 32) and lr.shape == (8, 3, 16, 16)
    assert 0 <= hr.min() < hr.max() <= 1 and hr.dtype == lr.dtype == torch.float32
    box = torch.nn.functional.avg_pool2d(hr, 2)  # bicubic's LR is a little sharper; another crop or flip is far off
    apart = [(lr[i] - box[i]).abs().mean() for i in range(8)]
    flipped = [(lr[i] - box[i].flip(axis)).abs().mean() for i in range(8) for axis in (1, 2)]
    assert np.mean(apart) < 0.3 * np.mean(flipped)


@pytest.mark.parametrize("name", rescale.CLASSICAL)
def test_training_and_validation_use_the_lr_of_the_runs_downscaler(home, name):
    run = smoke("bicubic-edsr-x2", downscaler=name)
    downscale, patches = rescale.classical(name), Patches(run)
    np.testing.assert_array_equal(patches.lr[0], downscale(patches.hr[0], 2))
    for hr, lr in validation_images(run):
        np.testing.assert_array_equal(lr, downscale(hr, 2))


@pytest.mark.parametrize("name", ["car-edsr-x2", "bicubic-edsr-x2"])
def test_a_share_of_the_patches_is_grey_in_hr_and_lr(home, name):
    run = smoke(name, batch=64, grey=0.25)
    patches = [patch for patch in Patches(run).batch(0) if patch is not None]
    coloured = Patches(smoke(name, batch=64)).batch(0)[0]
    was_grey = (coloured == coloured[:, :1]).all((1, 2, 3))
    grey = [(patch == patch[:, :1]).all((1, 2, 3)) for patch in patches]
    assert all(torch.equal(one, grey[0]) for one in grey)
    assert 4 <= (grey[0] & ~was_grey).sum() <= 32 < (~grey[0]).sum()


def test_recoloured_patches_have_other_colours_and_grey_stays_grey(home):
    plain, other = (Patches(smoke(batch=32, recolour=share)).batch(0)[0] for share in (0.0, 1.0))
    grey = (plain == plain[:, :1]).all(1, keepdim=True).expand_as(plain)
    assert torch.equal(plain[grey], other[grey])
    changed = (plain != other).flatten(1).any(1)
    assert changed.sum() >= 24 and other.min() >= 0 and other.max() <= 1
    luma = other[changed].sub(other[changed].mean(1, keepdim=True)).abs().mean((1, 2, 3))
    assert luma.min() < 0.5 * luma.median() and luma.max() > 1.5 * luma.median()  # from pale to loud


@pytest.fixture
def framed(monkeypatch):
    """framed(side, ...) makes black images whose last row is red and last column green the only ones."""

    def only(*sides):
        images = [np.zeros((side, side, 3), np.uint8) for side in sides]
        for image in images:
            image[-1, :, 0] = image[:, -1, 1] = 255
        monkeypatch.setattr(data, "load", lambda name, **_: [("image", image) for image in images])

    return only


def test_an_image_of_exactly_the_patchs_size_is_used(home, framed):
    framed(32, 31, 30)
    patches = Patches(smoke("car-edsr-x2"))
    assert (len(patches.hr), patches.dropped) == (1, 2)
    assert patches.batch(0)[0].shape[2:] == (32, 32)


def test_the_last_row_and_column_of_an_image_can_be_drawn(home, framed):
    framed(34)
    drawn = Patches(smoke("car-edsr-x2", batch=32)).batch(0)[0].flatten(2).amax(2)
    for channel in (0, 1):
        assert set(drawn[:, channel].tolist()) == {0.0, 1.0}  # and need not


def test_crops_lie_in_the_images_and_are_flipped(home):
    patches = Patches(smoke(batch=16))
    images = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in patches.hr]
    flips = set()
    for crop in (patches.batch(0)[0] * 255).round().byte():
        for axes in ((), (1,), (2,), (1, 2)):
            candidate = crop.flip(axes) if axes else crop
            if any(is_inside(candidate, image) for image in images):
                flips.add(axes)
                break
        else:
            raise AssertionError("a crop is in no image")
    assert len(flips) > 1


def is_inside(crop, image):
    """Whether `crop` is a part of `image`, at even coordinates."""
    size = crop.shape[-1]
    corners = image[:, : image.shape[1] - size + 1 : 2, : image.shape[2] - size + 1 : 2]
    alike = (corners == crop[:, :1, :1]).all(0).nonzero().tolist()
    return any(torch.equal(image[:, 2 * y : 2 * y + size, 2 * x : 2 * x + size], crop) for y, x in alike)
