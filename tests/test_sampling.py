"""Where taps lie, asked of the operator, is what Eq. 1-3 say."""

import math

import numpy as np
import pytest

from carlib import figures
from carlib.notebook import ParameterError
from carlib.studies import sampling


@pytest.mark.parametrize(("scale", "size", "taps", "half"), [
    (2, 6, "paper", 3), (2, 7, "symmetric", 3), (2, 6, "symmetric", 2.5), (4, 12, "paper", 6), (3, 4, "symmetric", 1.5),
])  # fmt: skip
def test_places_are_those_of_the_equations(scale, size, taps, half):
    offsets = np.random.default_rng(0).uniform(-1, 1, (2, size * size))
    found = sampling.sample(scale, size, taps, *offsets)
    middle = (found.pixel + 0.5) * scale - 0.5
    np.testing.assert_allclose(found.centre, middle, rtol=0, atol=1e-12)
    for a in range(size):
        for b in range(size):
            tap = a * size + b
            place = np.array([middle + a - half, middle + b - half])
            np.testing.assert_allclose(found.rest[tap], place, rtol=0, atol=1e-12)
            np.testing.assert_allclose(found.places[tap], place + offsets[:, tap], rtol=0, atol=1e-12)


def test_weights_are_those_of_the_four_pixels_around_a_place():
    offsets = np.random.default_rng(1).uniform(-1, 1, (2, 49))
    found = sampling.sample(2, 7, "symmetric", *offsets)
    for (v, u), weights in zip(found.places, found.weights, strict=True):
        row, column = math.floor(v), math.floor(u)
        alpha, beta = v - row, u - column
        expected = np.zeros_like(weights)
        expected[row : row + 2, column : column + 2] = np.outer([1 - alpha, alpha], [1 - beta, beta])
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-12)


def test_the_printed_kernel_is_off_centre_by_half_a_pixel_and_the_released_one_is_not():
    for size, taps, off in ((6, "paper", -0.5), (7, "symmetric", 0)):
        found = sampling.sample(2, size, taps)
        np.testing.assert_allclose(found.rest.mean(0) - found.centre, off, rtol=0, atol=1e-12)


def test_an_offset_that_leaves_the_image_is_refused():
    with pytest.raises(ValueError, match=r"an offset of 9 HR pixels is longer than 1\.5 \* scale=3"):
        sampling.sample(2, 7, offset_h=9.0)


def test_the_picture_marks_the_places_that_the_operator_samples():
    moved = sampling.sample(2, 7, "symmetric", *sampling.toward_a_line(7))
    figure = figures.sampling([("still", sampling.sample(2, 6, "paper")), ("moved", moved)], tap=(1, 5))
    assert [axes.get_title(loc="left")[:3] for axes in figure.axes[:3]] == ["(a)", "(b)", "(c)"]
    for axes, found in zip(figure.axes, (sampling.sample(2, 6, "paper"), moved), strict=False):
        (marks,) = (line for line in axes.lines if line.get_label().startswith("tap:"))
        np.testing.assert_array_equal(np.stack(marks.get_data()[::-1], axis=1), found.places)
    shown = [float(text.get_text().rpartition("= ")[2]) for text in figure.axes[2].texts if "= 0." in text.get_text()]
    four = moved.weights[1 * 7 + 5]
    np.testing.assert_allclose(sorted(shown)[:2], sorted(four[four > 0])[:2], atol=5e-3)


def test_what_cannot_be_drawn_is_refused(home):
    with pytest.raises(ParameterError, match="scale=8 cannot be drawn"):
        sampling.draw("smoke", 8)
    with pytest.raises(ValueError, match=r"tap \(7, 0\) is outside 7x7"):
        figures.sampling([("k", sampling.sample(2, 7))], tap=(7, 0))
    with pytest.raises(ValueError, match="no kernels"):
        figures.sampling([], tap=(0, 0))
