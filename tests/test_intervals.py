"""Intervals: brute force, and what must hold for any numbers."""

import math

import numpy as np
import pytest

from carlib import intervals


def test_the_bootstrap_is_its_definition():
    differences = np.tile([0.3, -0.1, 0.25, 0.7], 4)
    draw, means = np.random.default_rng(5), []
    places = draw.integers(16, size=(200, 16), dtype=np.int32)
    for resample in places:
        means.append(sum(differences[place] for place in resample) / 16)
    expected = np.quantile(means, (0.025, 0.975))
    np.testing.assert_allclose(intervals.paired(differences, resamples=200, seed=5), expected, rtol=0, atol=1e-12)


def test_the_bootstrap_is_the_same_each_time_and_moves_with_the_numbers():
    differences = np.random.default_rng(0).normal(size=20)
    low, high = intervals.paired(differences)
    assert intervals.paired(differences) == (low, high) and low < differences.mean() < high
    moved = intervals.paired(differences + 2)
    np.testing.assert_allclose(moved, (low + 2, high + 2), rtol=0, atol=1e-12)
    np.testing.assert_allclose(intervals.paired(-differences), (-high, -low), rtol=0, atol=0.02)
    assert intervals.paired([0.25] * 7) == (0.25, 0.25)


def test_the_bootstrap_of_many_normal_numbers_is_about_the_normal_interval():
    differences = np.random.default_rng(1).normal(size=400)
    low, high = intervals.paired(differences)
    half = 1.96 * differences.std() / 20
    assert low == pytest.approx(differences.mean() - half, abs=0.01)
    assert high == pytest.approx(differences.mean() + half, abs=0.01)


def test_of_few_images_students_interval_holds_where_it_reaches_farther():
    differences = np.array([0.4, 0.1, 3.0, 0.2, 0.3])  # one sign: no resample has a mean below 0
    low, high = intervals.paired(differences)
    half = intervals.half_width(differences)
    assert low == pytest.approx(differences.mean() - half) and low < 0
    assert high == pytest.approx(differences.mean() + half)
    many = intervals.paired(np.tile(differences, 3))  # fifteen: the bootstrap's alone
    assert many[0] > 0 and many[0] > differences.mean() - intervals.half_width(np.tile(differences, 3))


def test_fifteen_are_many_and_fourteen_few():
    differences = np.array([3.0] + [0.1] * 14)  # one sign: of resamples alone 0 is out
    assert intervals.paired(differences)[0] > 0 > differences.mean() - intervals.half_width(differences)
    low, _ = intervals.paired(differences[:14])
    half = intervals.half_width(differences[:14])
    assert low == pytest.approx(differences[:14].mean() - half) and low < 0
    assert intervals.HOW == "10,000 resamples; of fewer than 15 Student's where wider"


def test_each_end_is_the_farther_one_of_bootstrap_and_student():
    """Of skewed numbers the bootstrap reaches farther on one side, Student's on the other."""
    differences = np.array([0.0] * 12 + [1.0] * 2)
    low, high = intervals.paired(differences)
    mean, half = differences.mean(), intervals.half_width(differences)
    draw = np.random.default_rng(0).integers(14, size=(10_000, 14), dtype=np.int32)
    farther = np.quantile(differences[draw].mean(axis=1), 0.975)
    assert farther > mean + half
    assert low == pytest.approx(mean - half) and high == pytest.approx(farther)


def test_students_interval_of_three_numbers():
    # t(0.975, 2 degrees of freedom) = 4.302653 (any table); standard deviation 1
    assert intervals.half_width([1, 2, 3]) == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_number_has_no_interval(values):
    assert math.isnan(intervals.half_width(values)) and all(map(math.isnan, intervals.paired(values)))
