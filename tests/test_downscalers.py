"""The classical downscalers: equal to their formulas written as loops, and lawful."""

import itertools
import math

import numpy as np
import pytest

from carlib import data, downscale, rescale
from carlib.downscalers import l0 as l0_module
from carlib.downscalers import l0_reconstruction
from carlib.downscalers.dpid import dpid
from carlib.downscalers.l0 import l0
from carlib.downscalers.l0_reconstruction import autocorrelation, explained, fitted, smoothed_bilinear
from carlib.downscalers.perceptual import perceptual
from carlib.ops.blocks import block_sums, parts

LAWFUL = [name for name in rescale.CLASSICAL if name != "perceptual-as-published"]  # whose defects are the point


def photograph(h, w, *channels, seed=0):
    """Random uint8 with smooth, flat and rough parts; no two axes alike."""
    draw = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, w).reshape(1, w, *[1] * len(channels)) * np.ones((h, w, *channels))
    image = np.clip(ramp + draw.normal(0, 60, (h, w, *channels)), 0, 255).astype(np.uint8)
    image[h // 2 :, : w // 3] = 90
    return image


def planes(image):
    return image.reshape(*image.shape[:2], -1)


# The formulas as loops, one LR pixel at a time.


def shares(n_in, n_out, i):
    """[(pixel, its share)] of part i of an axis: interval arithmetic."""
    begin, end = i * n_in / n_out, (i + 1) * n_in / n_out
    covered = [(k, min(k + 1, end) - max(k, begin)) for k in range(n_in)]
    return [(k, share) for k, share in covered if share > 1e-9]


def spec_block(image, size, i, j):
    """[(pixel as floats, its share)] of the block of LR pixel i, j."""
    rows, columns = shares(image.shape[0], size[0], i), shares(image.shape[1], size[1], j)
    return [(image[y, x].astype(float), a * b) for y, a in rows for x, b in columns]


def spec_means(image, size):
    means = np.empty((*size, image.shape[2]))
    for i, j in np.ndindex(*size):
        block = spec_block(image, size, i, j)
        means[i, j] = sum(value * share for value, share in block) / sum(share for _, share in block)
    return means


def spec_perceptual(image, scale):
    """Algorithm 1, on the scale 0..1; not rounded."""
    image = image / 255
    h, w = image.shape[0] // scale, image.shape[1] // scale
    mean, square = spec_means(image, (h, w)), spec_means(image**2, (h, w))
    total, count = np.zeros(mean.shape), np.zeros(mean.shape)
    height, width = min(2, h), min(2, w)
    for i, j, c in itertools.product(range(h - height + 1), range(w - width + 1), range(image.shape[2])):
        window = (slice(i, i + height), slice(j, j + width), c)
        m = mean[window].mean()
        low, high = (mean[window] ** 2).mean() - m**2, square[window].mean() - m**2
        ratio = math.sqrt(high / low) if low >= 1e-6 else 0
        total[window] += m + ratio * (mean[window] - m)
        count[window] += 1
    return np.clip(total / count, 0, 1) * 255


def spec_as_published(image, scale):
    """The low-pass filter as a double sum over 13x13 pixels; not rounded."""
    n = np.arange(-6, 7)
    response = [abs(k) <= 3 for k in n]
    taps = np.array([sum(np.exp(2j * np.pi * k * x / 13) * p for k, p in zip(n, response, strict=True)) for x in n])
    window = np.outer((taps / 13).real * np.hamming(13), (taps / 13).real * np.hamming(13))
    values = np.pad(image.astype(float), [(6, 6), (6, 6), (0, 0)], mode="symmetric")
    low, low_squares = (
        np.array([[(x[i : i + 13, j : j + 13] * window[..., None]).sum((0, 1)) for j in range(0, image.shape[1], scale)]
                  for i in range(0, image.shape[0], scale)])
        for x in (values, np.minimum(values**2, 255))
    )  # fmt: skip
    return np.where(low**2 < low_squares, 0, np.clip(low, 0, 255))


def spec_dpid(image, size, lambda_, truncate=False):
    """Not rounded; with `truncate` the block means are cut to whole levels."""
    means = spec_means(image, size)
    means = np.floor(means + 1e-9) if truncate else means
    lr = np.empty(means.shape)
    for i, j in np.ndindex(*size):
        around = [(y, x) for y in (i - 1, i, i + 1) for x in (j - 1, j, j + 1) if 0 <= y < size[0] and 0 <= x < size[1]]
        smooth = [(2 - abs(y - i)) * (2 - abs(x - j)) for y, x in around]
        a = sum(k * means[at] for k, at in zip(smooth, around, strict=True)) / sum(smooth)
        weighted = [(c * math.dist(a, v) ** lambda_, v) for v, c in spec_block(image, size, i, j)]
        total = sum(weight for weight, _ in weighted)
        lr[i, j] = sum(weight * v for weight, v in weighted) / total if total else a
    return lr


def assert_rounded(lr, exact, slack=1e-6):
    """`lr` is `exact` rounded to the nearest, either way where it lies between two levels."""
    assert lr.dtype == np.uint8 and lr.shape == exact.shape
    assert np.abs(lr - exact).max() <= 0.5 + slack


SHAPES = [(2, (6, 10, 3)), (3, (12, 9)), (4, (8, 4, 3)), (2, (2, 8)), (5, (5, 5, 3)), (2, (2, 2))]


@pytest.mark.parametrize(("n_in", "n_out"), [(6, 3), (7, 3), (9, 6), (5, 5), (1, 1), (13, 1)])
def test_parts_share_out_every_pixel(n_in, n_out):
    found = parts(n_in, n_out)
    for i in range(n_out):
        entries = range(found.first[i], found.first[i + 1])
        ours = [(found.pixel[k], found.share[k] * (n_in / n_out) / found.whole) for k in entries]
        assert ours == [(k, pytest.approx(share)) for k, share in shares(n_in, n_out, i)]
        assert sum(found.share[k] for k in entries) == found.whole


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("size", [(4, 5), (3, 7), (8, 10), (1, 1)])
def test_block_sums_are_means(size, power):
    image = photograph(8, 10, 3)
    rows, columns = parts(8, size[0]), parts(10, size[1])
    means = block_sums(image, rows, columns, power) / (rows.whole * columns.whole)
    np.testing.assert_allclose(means, spec_means(image.astype(float) ** power, size), rtol=1e-12)


@pytest.mark.parametrize(("scale", "shape"), SHAPES)
def test_perceptual_is_algorithm_1(scale, shape):
    image = photograph(*shape)
    exact = spec_perceptual(planes(image), scale)
    assert_rounded(perceptual(image, scale), exact.reshape(exact.shape[: image.ndim]))


@pytest.mark.parametrize(("scale", "shape"), SHAPES)
def test_perceptual_as_published_is_a_low_pass_filter_that_blackens_the_dark(scale, shape):
    image = photograph(*shape)
    exact = spec_as_published(planes(image), scale)
    lr = perceptual(image, scale, "as-published")
    assert_rounded(lr, exact.reshape(lr.shape))
    for level in (1, 12, 14, 17, 100, 250):  # 255 / 0.9941 is the square of 16
        flat = perceptual(np.full((16, 16), level, np.uint8), 2, "as-published")
        assert (flat == (0 if level < 16 else round(0.99410433 * level))).all()


def test_perceptual_gives_a_flat_window_its_mean():
    """Block means 10, 10, 10 and 10.5: their variance, 0.047, counts as none (1e-6 of white squared is 0.065)."""
    image = np.full((4, 4), 10, np.uint8)
    image[3, 2:] = 11
    assert (perceptual(image, 2) == 10).all()
    image[2, 2:] = 11  # variance 0.19
    assert perceptual(image, 2)[1, 1] == 11


@pytest.mark.parametrize("lambda_", [0, 0.5, 0.7, 1, 2])
@pytest.mark.parametrize("size", [(4, 6), (2, 3), (3, 5), (7, 11), (8, 12), (1, 1), (1, 12)])
def test_dpid_is_its_formula_at_every_size(size, lambda_):
    for image in (photograph(8, 12, 3), photograph(8, 12)):
        exact = spec_dpid(planes(image), size, lambda_)
        assert_rounded(dpid(image, size, lambda_), exact.reshape(*size, *image.shape[2:]))


@pytest.mark.parametrize("size", [(4, 6), (3, 5)])
def test_dpid_truncates_as_the_cuda_program(size):
    image = photograph(8, 12, 3)
    exact = spec_dpid(image, size, 1, truncate=True)
    np.testing.assert_array_equal(dpid(image, size, 1, "truncate"), np.floor(exact + 1e-9))


def test_dpid_of_lambda_0_is_the_block_mean():
    image = photograph(16, 24, 3)
    for size in ((4, 6), (5, 7)):
        assert_rounded(dpid(image, size, 0), spec_means(image, size))
    assert (dpid(image, (4, 6), 0) != dpid(image, (4, 6), 0.5)).any()


def test_a_whole_level_survives_truncation():
    """Block means of 9, 25 and 49 pixels that are whole numbers: float64 may lose the last bit of them."""
    for scale in (3, 5, 7):
        image = photograph(20 * scale, 20 * scale).astype(int)
        blocks = image.reshape(20, scale, 20, scale).swapaxes(1, 2).reshape(20, 20, -1)
        blocks[..., 0] = np.clip(blocks[..., 0], 60, 190)
        blocks[..., 0] -= blocks.sum(2) % scale**2  # 48 at most
        image = blocks.reshape(20, 20, scale, scale).swapaxes(1, 2).reshape(20 * scale, -1).astype(np.uint8)
        lr = dpid(image, (20, 20), 0, rounding="truncate")
        np.testing.assert_array_equal(lr, blocks.sum(2) // scale**2)


def test_lambda_of_dpid_is_1_unless_told_otherwise():
    image = photograph(12, 18, 3)
    np.testing.assert_array_equal(dpid(image, (4, 6)), dpid(image, (4, 6), 1.0))
    assert (dpid(image, (4, 6)) != dpid(image, (4, 6), 0.5)).any()


def test_dpid_of_the_images_own_size_is_the_image():
    image = photograph(7, 9, 3)
    for rounding in ("nearest", "truncate"):
        np.testing.assert_array_equal(dpid(image, (7, 9), rounding=rounding), image)


def test_every_row_of_a_block_counts_alike_in_dpid():
    """In dpid.m, which has a slip there, they weigh scale, scale - 1, ..., 1, and the image moves upwards."""
    for row in range(4):
        image = np.zeros((12, 4), np.uint8)
        image[4 + row] = 200
        assert dpid(image, (3, 1), 0)[1, 0] == 50


# L0: what the reconstruction consists of.


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


# Laws.


@pytest.mark.parametrize("name", LAWFUL)
@pytest.mark.parametrize("scale", [2, 3, 7, 16])
def test_a_constant_image_stays_constant(name, scale):
    for value in (0, 1, 100, 254, 255):
        for shape in ((2 * scale, 3 * scale, 3), (scale, scale), (scale, 4 * scale)):
            lr = rescale.classical(name)(np.full(shape, value, np.uint8), scale)
            assert lr.shape == (shape[0] // scale, shape[1] // scale, *shape[2:]) and (lr == value).all()
    colour = np.tile(np.array([3, 250, 128], np.uint8), (2 * scale, scale, 1))
    assert (rescale.classical(name)(colour, scale) == [3, 250, 128]).all()


@pytest.mark.parametrize("name", LAWFUL)
@pytest.mark.parametrize("scale", [2, 3, 4, 6, 10])
def test_flips_commute_exactly(name, scale):
    method = rescale.classical(name)
    few = np.random.default_rng(5).integers(0, 2, (8 * scale, 6 * scale), dtype=np.uint8) * 255  # many ties
    symmetric = np.concatenate([photograph(4 * scale, 6 * scale, 3), photograph(4 * scale, 6 * scale, 3)[::-1]])
    for image in (
        photograph(8 * scale, 7 * scale, 3),
        few,
        symmetric,
        np.concatenate([symmetric, symmetric[:, ::-1]], 1),
    ):
        lr = method(image, scale)
        for flip in (np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1]):
            np.testing.assert_array_equal(method(image[flip], scale), lr[flip])


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_flips_commute_with_dpid_at_fractional_sizes_too(rounding):
    image = photograph(23, 31, 3)
    lr = dpid(image, (7, 12), 0.7, rounding)
    for flip in (np.s_[::-1], np.s_[:, ::-1]):
        np.testing.assert_array_equal(dpid(image[flip], (7, 12), 0.7, rounding), lr[flip])


@pytest.mark.parametrize("name", rescale.CLASSICAL)
@pytest.mark.parametrize("scale", [2, 3, 5, 8, 16])
def test_a_grey_image_gives_what_it_gives_as_rgb_and_twice_the_same(name, scale):
    method, image = rescale.classical(name), photograph(3 * scale, 4 * scale)
    before = image.copy()
    lr = method(image, scale)
    assert lr.dtype == np.uint8 and lr.shape == (3, 4)
    np.testing.assert_array_equal(method(image, scale), lr)
    np.testing.assert_array_equal(image, before)
    in_colour = method(data.to_colour(image), scale).astype(int)
    # the sums over three equal channels are rounded in other places than those over one
    assert np.abs(in_colour - lr[..., None]).max() <= (1 if name.startswith(("dpid", "l0")) else 0)


@pytest.mark.parametrize("name", rescale.CLASSICAL)
def test_views_are_taken_as_they_are(name):
    image = photograph(32, 48, 3)[::-2, 1::3]
    read_only = np.asfortranarray(image)
    read_only.flags.writeable = False
    np.testing.assert_array_equal(rescale.classical(name)(read_only, 4), rescale.classical(name)(image.copy(), 4))


def test_threads_do_not_change_a_pixel():
    import numba

    image, threads = photograph(64, 48, 3), numba.get_num_threads()
    whole = [rescale.classical(name)(image, 2) for name in LAWFUL]
    numba.set_num_threads(1)
    try:
        for name, lr in zip(LAWFUL, whole, strict=True):
            np.testing.assert_array_equal(rescale.classical(name)(image, 2), lr)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize("kappa", [1, 1.009, math.inf, math.nan, True, "2"])
def test_a_kappa_that_hardly_ends_is_refused(kappa):
    with pytest.raises(ValueError, match=r"kappa=.* of l0 is not a finite number of at least 1\.01"):
        l0(photograph(8, 8), 2, kappa=kappa)
