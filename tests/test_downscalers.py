"""The classical downscalers: equal to their formulas written as loops, and lawful."""

import itertools
import math
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from carlib import data, rescale
from carlib.downscalers.dpid import dpid
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
    image, threads, made = photograph(64, 48, 3), torch.get_num_threads(), {}
    try:
        for count in (2, 1):
            torch.set_num_threads(count)
            made[count] = [rescale.classical(name)(image, 2) for name in LAWFUL]
            assert torch.get_num_threads() == count
            assert numba.get_num_threads() == min(count, numba.config.NUMBA_NUM_THREADS)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(made[1], made[2])


@pytest.mark.parametrize("first", ["import torch; ", ""])
def test_the_first_loop_of_a_process_takes_no_more_threads_than_it_may(first):
    """numba's first launch sets OpenMP's number, which is PyTorch's as well (where that is imported before)."""
    told = (
        f"{first}import numba, numpy, sys; from carlib.downscalers.dpid import dpid; "
        "dpid(numpy.zeros((8, 8), numpy.uint8), (4, 4)); torch = sys.modules.get('torch'); "
        "print(numba.get_num_threads(), torch.get_num_threads() if torch else 1)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
