"""Bjontegaard's delta rate on curves whose answer is known."""

import math

import numpy as np
import pytest

from carlib.studies import bjontegaard

PSNR = np.array([28.0, 29.5, 31.0, 33.0, 36.0])
ANCHOR = np.stack([0.1 * 2 ** ((PSNR - 28) / 2), PSNR], axis=1)  # log rate is linear in PSNR


def moved(rate=1.0, psnr=0.0):
    return ANCHOR * [rate, 1] + [0, psnr]


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.25, 3.0])
def test_a_rate_times_a_factor_is_that_many_percent(factor):
    assert bjontegaard.bd_rate(ANCHOR, moved(rate=factor)) == pytest.approx((100 * (factor - 1), 28, 36))


def test_a_curve_against_itself_is_zero_and_order_does_not_matter():
    shuffled = ANCHOR[[3, 0, 4, 1, 2]]
    assert bjontegaard.bd_rate(ANCHOR, shuffled)[0] == pytest.approx(0)
    share, highest = bjontegaard.saved(ANCHOR, shuffled)
    assert share == 0 and math.isnan(highest)


def test_a_shift_in_psnr_is_taken_over_the_common_interval():
    """2 dB more at the same rate is half the rate at the same PSNR: the slope is a factor of 2 every 2 dB."""
    assert bjontegaard.bd_rate(ANCHOR, moved(psnr=2)) == pytest.approx((-50, 30, 36))
    assert bjontegaard.bd_rate(moved(psnr=2), ANCHOR) == pytest.approx((100, 30, 36))


def test_swapping_inverts_the_ratio():
    rng = np.random.default_rng(0)
    other = np.stack([np.sort(rng.uniform(0.1, 2, 6)), np.sort(rng.uniform(27, 35, 6))], axis=1)
    there, back = bjontegaard.bd_rate(ANCHOR, other)[0], bjontegaard.bd_rate(other, ANCHOR)[0]
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)


def test_the_mean_is_that_of_a_brute_force_grid():
    other = np.array([[0.08, 27], [0.2, 30], [0.3, 31], [0.9, 34.5], [4, 37]])
    percent, low, high = bjontegaard.bd_rate(ANCHOR, other)
    from scipy.interpolate import pchip_interpolate

    grid = np.linspace(low, high, 20001)
    logs = [pchip_interpolate(curve[:, 1], np.log10(curve[:, 0]), grid) for curve in (other, ANCHOR)]
    assert (low, high) == (28, 36)
    assert percent == pytest.approx(100 * (10 ** np.mean(logs[0] - logs[1]) - 1), abs=0.01)
    fewer = logs[0] < logs[1]
    share, highest = bjontegaard.saved(ANCHOR, other)
    assert share == pytest.approx(100 * fewer.mean(), abs=0.2) and 0 < share < 100
    assert highest == pytest.approx(grid[fewer][-1], abs=8 / 500)


def test_curves_that_do_not_overlap_have_no_delta():
    for shift in (-9, 9):
        assert all(map(math.isnan, bjontegaard.bd_rate(ANCHOR, moved(psnr=shift))))
        assert all(map(math.isnan, bjontegaard.saved(ANCHOR, moved(psnr=shift))))
    assert bjontegaard.bd_rate(ANCHOR, moved(psnr=8, rate=4)) == pytest.approx((-75, 36, 36))  # they touch


def test_one_point_is_compared_at_its_own_psnr():
    """On the anchor's straight line 32 dB cost 0.1 * 2^2."""
    assert bjontegaard.bd_rate(ANCHOR, [[0.6, 32.0]]) == pytest.approx((50, 32, 32))
    assert bjontegaard.saved(ANCHOR, [[0.6, 32.0]])[0] == 0
    assert bjontegaard.saved(ANCHOR, [[0.3, 32.0]]) == (100, 32)
    assert math.isnan(bjontegaard.bd_rate(ANCHOR, [[0.6, 40.0]])[0])


def test_points_that_another_beats_and_infinite_ones_do_not_count():
    """A restored image saturates: more bits, and sometimes a little less PSNR."""
    worse = [[1.8, 35.9], [0.2, 28.5], [0.2, 29.0], [2.0, np.inf]]
    assert bjontegaard.bd_rate(ANCHOR, np.concatenate([worse, ANCHOR])) == pytest.approx((0, 28, 36), abs=1e-9)


def test_of_points_of_one_rate_or_one_psnr_the_better_one_counts():
    beaten = [[ANCHOR[0, 0], 27.0], [ANCHOR[2, 0], 30.9], [ANCHOR[2, 0] * 1.2, ANCHOR[2, 1]]]
    assert bjontegaard.bd_rate(ANCHOR, np.concatenate([beaten, ANCHOR])) == pytest.approx((0, 28, 36), abs=1e-9)


@pytest.mark.parametrize(("curve", "told"), [
    (np.ones((3, 3)), r"a curve of shape \(3, 3\) is not \(n, 2\)"),
    ([1.0, 2.0], "is not"),
    ([[0.0, 30.0], [1.0, 31.0]], "rates above 0"),
    ([[1.0, np.nan]], "a curve has no finite point"),
    (np.ones((0, 2)), "a curve has no finite point"),
])  # fmt: skip
def test_what_is_no_curve_is_refused(curve, told):
    with pytest.raises(ValueError, match=told):
        bjontegaard.bd_rate(ANCHOR, curve)
    with pytest.raises(ValueError, match=told):
        bjontegaard.saved(curve, ANCHOR)
