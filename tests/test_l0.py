"""L0-regularized downscaling, reconstructed: its parts, and what its price does. Laws are in test_downscalers.py."""

import math

import numpy as np
import pytest
from test_downscalers import photograph, spec_means

from carlib import data, downscale
from carlib.downscalers import l0 as l0_module
from carlib.downscalers import l0_reconstruction
from carlib.downscalers.l0 import l0
from carlib.downscalers.l0_reconstruction import autocorrelation, explained, fitted, smoothed_bilinear


def upscaled(lr, kernels):
    """U lr, by the formula; beyond the border the mirror image."""
    scale, (h, w) = len(kernels), lr.shape
    around = np.pad(lr, 1, mode="symmetric")
    hr = np.empty((h * scale, w * scale))
    for y, x in np.ndindex(*hr.shape):
        i, j = y // scale, x // scale
        hr[y, x] = (kernels[y % scale, x % scale] * around[i : i + 3, j : j + 3]).sum()
    return hr


def random_kernels(scale):
    """Kernels of which those of mirrored places are mirrored."""
    kernels = np.random.default_rng(1).normal(size=(scale, scale, 3, 3))
    kernels = kernels + kernels[::-1, :, ::-1]
    return kernels + kernels[:, ::-1, :, ::-1]


@pytest.mark.parametrize("scale", [2, 3])
def test_the_kernels_at_the_start_are_bilinear_interpolation_blurred(scale):
    lr = np.zeros((5, 5))
    lr[2, 2] = 1
    tent = np.maximum(1 - np.abs((np.arange(5 * scale) + 0.5) / scale - 2.5), 0)
    line = (np.roll(tent, 1) + 2 * tent + np.roll(tent, -1)) / 4
    np.testing.assert_allclose(upscaled(lr, smoothed_bilinear(scale)), np.outer(line, line), atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3])
def test_what_is_explained_is_the_transpose_of_upscaling(scale):
    kernels, image = random_kernels(scale), photograph(4 * scale, 3 * scale)
    padded = np.pad(image, scale, mode="symmetric")[..., None]
    found = explained(padded, kernels, (4, 3, 1))[..., 0] * scale**2
    for i, j in np.ndindex(4, 3):
        unit = np.zeros((4, 3))
        unit[i, j] = 1
        assert found[i, j] == pytest.approx((upscaled(unit, kernels) * image / 255).sum(), abs=1e-4)


def test_the_autocorrelation_is_that_of_upscaling():
    kernels, lr = random_kernels(3), np.zeros((7, 7))
    lr[3, 3] = 1
    found = autocorrelation(kernels)
    for i, j in np.ndindex(5, 5):
        other = np.roll(lr, (i - 2, j - 2), (0, 1))
        assert found[i, j] * 9 == pytest.approx((upscaled(lr, kernels) * upscaled(other, kernels)).sum())


def test_fitted_kernels_explain_the_image_better_and_keep_constants():
    image = photograph(24, 18, 3)
    lr = (spec_means(image, (12, 9)) / 255).astype(np.float32)
    start = smoothed_bilinear(2)
    found = fitted(lr, image, 2, start)
    np.testing.assert_allclose(found.sum((2, 3)), 1, atol=1e-9)
    errors = [
        sum(((upscaled(lr[..., c], k) - image[..., c] / 255) ** 2).sum() for c in range(3)) for k in (start, found)
    ]
    assert errors[1] < errors[0]
    flat = fitted(np.full((4, 4, 1), 0.5, np.float32), np.full((8, 8, 1), 127, np.uint8), 2, start)
    np.testing.assert_allclose(flat, start, atol=1e-9)


@pytest.mark.parametrize("scale", [2, 4])
def test_an_edge_amid_lr_pixels_does_not_ring_over_the_whole_image(scale):
    """Of this picture alone kernels that hardly pass Nyquist's frequency are the best: they are not taken."""
    step = np.full((32 * scale, 32 * scale), 64, np.uint8)
    step[:, 16 * scale + scale // 2 :] = 192
    lr = l0(step, scale).astype(int)
    assert np.abs(lr[:, :10] - 64).max() <= 1 and np.abs(lr[:, 23:] - 192).max() <= 1


def test_kernels_fitted_to_a_photograph_are_the_least_squares_ones(monkeypatch):
    images = [data.crop_to_multiple(data.centre_crop(image, 160), 4) for _, image in data.load("demo", limit=3)]
    pairs = [(image, scale, l0(image, scale)) for image in images for scale in (2, 4)]
    monkeypatch.setattr(l0_reconstruction, "_WEAKEST", -1)  # whatever they are
    for image, scale, lr in pairs:
        np.testing.assert_array_equal(l0(image, scale), lr)


def test_l0_without_a_price_is_the_least_squares_solution(monkeypatch):
    """Of the first round; the kernels are fitted afterwards."""
    monkeypatch.setattr(l0_module, "_ROUNDS", 1)
    image, kernels = photograph(8, 12), smoothed_bilinear(2)
    matrix = np.stack([upscaled(unit, kernels).ravel() for unit in np.eye(24).reshape(24, 4, 6)], 1)
    dense = np.linalg.lstsq(matrix, image.ravel() / 255, rcond=None)[0].reshape(4, 6)
    found = l0_module._solve(image[..., None], 2, 0.0, 2.0)[..., 0]
    np.testing.assert_allclose(found, dense, atol=1e-4)


@pytest.mark.parametrize(("options", "steps", "flat"), [
    ({}, 34.686, 0.0705), ({"kappa": 4.0}, 34.978, 0.0115), ({"variant": "surrogate"}, 25.787, 0.0),
])  # fmt: skip
def test_l0_of_a_photograph_is_as_sharp_and_as_flat_as_ever(options, steps, flat):
    """Mean difference of neighbours beside each other, and how many are equal: computed by the code at commit e90d153.

    One round gives 34.430, beta from lambda on 34.679, no kept edges 26.153; the surrogate's noise doubled 25.208.
    """
    image = data.centre_crop(dict(data.load("demo"))["chelsea"], 96)
    found = np.abs(np.diff(l0(image, 2, **options).astype(int), axis=1))
    assert found.mean() == pytest.approx(steps, abs=0.02)
    assert (found.sum(2) == 0).mean() == pytest.approx(flat, abs=0.0015)


@pytest.mark.parametrize("channels", [1, 3])
def test_neighbours_that_differ_by_just_the_root_of_the_price_are_edges(channels):
    """A chessboard; a grey difference counts as one of three channels."""
    image = np.repeat(255 * (np.indices((4, 6)).sum(0) % 2).astype(np.uint8)[..., None], channels, axis=2)
    assert l0_module._share_of_edges(image, 3.0) == 1
    assert l0_module._share_of_edges(image, 3.01) == 0


def test_l0_of_no_price_is_the_limit_of_a_small_one():
    for image, scale in ((photograph(32, 48, 3), 2), (photograph(32, 48), 4)):
        free, almost = (l0(image, scale, lambda_=price).astype(int) for price in (0, 1e-12))
        assert np.abs(free - almost).max() <= 1
        assert (free != l0(image, scale)).any()


def test_l0_makes_flat_what_costs_more_than_it_explains_and_sharpens_edges():
    """Faint noise on two plains, between them a blurred step: a high price leaves it, and makes it steeper."""
    image = np.random.default_rng(0).integers(0, 4, (32, 32)) + 50.0
    image[:, 16:] += 100
    image[:, 15:17] = image[:, 15:17].mean(1, keepdims=True)
    image = image.astype(np.uint8)
    lr, filtered = l0(image, 2, lambda_=2e-3).astype(int), l0(image, 2, "surrogate").astype(int)
    assert len(np.unique(lr[:, :6])) < len(np.unique(l0(image, 2, lambda_=0)[:, :6]))

    def overshoot(small):
        return max(50 - small.min(), small.max() - 153)

    def steepest(small):
        return np.abs(np.diff(small, axis=1)).max(1).min()

    assert overshoot(lr) < overshoot(filtered)
    assert steepest(lr) > steepest(downscale(image, 2, "bicubic").astype(int))


@pytest.mark.parametrize("kappa", [1, 1.009, math.inf, math.nan, True, "2"])
def test_a_kappa_that_hardly_ends_is_refused(kappa):
    with pytest.raises(ValueError, match=r"kappa=.* of l0 is not a finite number of at least 1\.01"):
        l0(photograph(8, 8), 2, kappa=kappa)
