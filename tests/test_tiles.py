"""Large images in parts: what networks make of them is what they make of the whole, and nothing of a seam is left."""

import math
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from carlib import downscale, models, rescale, tiles, upscale

LOCAL = [name for name in models.UPSCALERS if name not in ("rcan", "srram")]
REDUCING = (*models.DOWNSCALERS, "irn")


def network(name, scale):
    """Of mini size, in which no weights are 0: layers that begin so would see nothing."""
    torch.manual_seed(0)
    made = models.create(name, scale, "mini").eval()
    for parameter in made.parameters():
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return made


def noise(height, width):
    return np.random.default_rng(0).random((height, width, 3), dtype=np.float32)


def result(call, made, image):
    with torch.inference_mode():
        return call(made, torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()


def up(made, lr):
    return made(lr)


def down(made, hr):
    return made.downscale(hr)[0]


def seeing_less_than(whole, function):
    """`function`, of parts that are smaller than the whole both down and right."""

    def called(image):
        assert image.shape[0] < whole.shape[0] and image.shape[1] < whole.shape[1]
        return function(image)

    return called


@pytest.mark.parametrize("name", LOCAL)
def test_upscalers_make_of_parts_what_they_make_of_the_whole(name):
    made = network(name, 2)
    margin = tiles.margin(made, up, scale=2)
    side = margin + 5
    image = noise(2 * side, 2 * side - 3)
    whole = result(up, made, image)
    parts = tiles.applied(seeing_less_than(image, partial(result, up, made)), image, side, margin, scale=2)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "scale"), [*product(REDUCING, (2, 4)), ("resampler", 3), ("resampler", 8)])
def test_downscalers_make_of_parts_what_they_make_of_the_whole(name, scale):
    made, factor = network(name, scale), Fraction(1, scale)
    grid = math.lcm(8, scale)
    margin = tiles.margin(made, down, scale=factor, grid=grid)
    side = (math.ceil(margin / grid) + 2) * grid
    image = noise(2 * side, 2 * side - scale)
    whole = result(down, made, image)
    function = seeing_less_than(image, partial(result, down, made))
    parts = tiles.applied(function, image, side, margin, scale=factor, grid=grid)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=5e-6)


@pytest.mark.parametrize(("name", "scale"), [("bicubic", 2), ("srcnn", 4), ("cnn-sr", 4), ("lapsrn", 2), ("vdsr", 2)])
def test_a_margin_is_as_narrow_as_can_be(name, scale):
    made, image = network(name, scale), noise(41, 55)
    margin, whole = tiles.margin(made, up, scale=scale), result(up, made, image)
    narrower = tiles.applied(partial(result, up, made), image, 24, margin - 1, scale=scale)
    assert np.abs(narrower - whole).max() > 2e-5


@pytest.mark.parametrize(("name", "expected"), [("edsr", 12), ("bicubic", 2)])
def test_margins_are_those_that_layers_add_up_to(name, expected):
    """EDSR of 4 blocks x2: 1 + 4*2 + 1 + 1 convolutions of LR pixels, then one of half of them. Bicubic: two taps."""
    assert tiles.margin(network(name, 2), up, scale=2) == expected


class Looking(torch.nn.Module):
    """Sees each pixel and the one five steps to the left, or after that many quarter turns."""

    def __init__(self, turns):
        super().__init__()
        self.turns = turns

    def forward(self, lr):
        lr = lr.rot90(self.turns, (2, 3))
        return (lr + torch.nn.functional.pad(lr, (5, 0, 0, 0))[..., : lr.shape[3]]).rot90(-self.turns, (2, 3))


@pytest.mark.parametrize("turns", range(4))
def test_a_network_that_looks_one_way_only_is_seamless_in_parts(turns):
    made, image = Looking(turns), noise(70, 90)
    margin, whole = tiles.margin(made, up, scale=1), result(up, made, image)
    assert margin == 5
    parts = tiles.applied(seeing_less_than(image, partial(result, up, made)), image, 24, margin, scale=1)
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 31, 64, 65, 100])
@pytest.mark.parametrize(("side", "margin", "grid"), [(8, 3, 1), (24, 9, 8), (1000, 0, 8), (24, 50, 24)])
def test_pieces_cover_a_side_once_and_keep_to_the_grid(length, side, margin, grid):
    pieces = tiles._pieces(length, side, margin, grid)
    assert [n for _, (first, last) in pieces for n in range(first, last)] == list(range(length))
    for (begin, end), (first, last) in pieces:
        assert begin % grid == 0 and first % grid == 0 and last - first <= max(side, grid)
        assert begin == 0 or first - begin >= margin
        assert end == length or (end - last >= margin and end % grid == 0)


def test_a_network_for_both_directions_has_a_margin_for_each():
    made = network("irn", 2)
    both = [(tiles.margin(made, up, scale=2), tiles.margin(made, down, scale=Fraction(1, 2), grid=8)) for _ in range(2)]
    assert both == [(40, 70)] * 2


@pytest.mark.parametrize("name", ["rcan", "srram"])
def test_networks_that_see_the_whole_image_are_known(name):
    assert tiles.margin(network(name, 2), up, scale=2) is None


def photograph(*shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = 128 + 80 * np.sin(x / 5 + 0.3) * np.cos(y / 7)
    wave = wave[..., None] + np.arange(3) * 9 if len(shape) == 3 else wave
    return np.clip(wave + np.random.default_rng(0).normal(0, 5, shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("method", ["car", "irn"])
@pytest.mark.parametrize("shape", [(176, 200, 3), (204, 132)])
def test_a_user_asks_for_parts(method, shape):
    hr = photograph(*shape)
    lr, whole = downscale(hr, 2, method, tile=64), downscale(hr, 2, method, tile=0)
    assert np.abs(lr.astype(int) - whole).max() <= 1 and np.mean(lr != whole) < 0.01
    sr, whole = upscale(lr, 2, method, tile=64), upscale(lr, 2, method, tile=0)
    assert sr.shape == hr.shape and np.abs(sr.astype(int) - whole).max() <= 1 and np.mean(sr != whole) < 0.01


def test_large_images_go_in_parts_unasked(monkeypatch):
    sides = []
    applied = tiles.applied
    monkeypatch.setattr(tiles, "SIDE", 64)
    monkeypatch.setattr(
        tiles,
        "applied",
        lambda f, image, side, *rest, **more: sides.append(side) or applied(f, image, side, *rest, **more),
    )
    hr = photograph(200, 136, 3)
    lr = downscale(hr, 4)
    assert upscale(lr, 4).shape == hr.shape
    assert sides == [8 * 60, 8 * 12]  # margins of ResamplerNet (HR pixels) and EDSR (LR pixels), mini
    upscale(lr[:16, :16], 4)
    assert len(sides) == 2


def test_parts_are_refused_of_a_network_that_sees_the_whole_image():
    lr, made = photograph(40, 40, 3), network("rcan", 2)
    with pytest.raises(ValueError, match="RCAN sees too far, perhaps the whole image: leave tile out"):
        rescale.restore(made, lr, tile=64)
    np.testing.assert_array_equal(rescale.restore(made, lr, tile=0), rescale.restore(made, lr))


@pytest.mark.parametrize("tile", [-1, 1, 63, 64.0, True, "64"])
def test_sides_that_are_none_are_refused(tile):
    with pytest.raises(ValueError, match=r"tile=.*is not 0 nor a whole number >= 64"):
        downscale(photograph(16, 16), 2, tile=tile)


def test_methods_without_a_network_have_no_parts():
    with pytest.raises(ValueError, match="method 'bicubic' has no tile"):
        downscale(photograph(16, 16), 2, "bicubic", tile=64)
