"""Two curves of rate and PSNR compared: Bjontegaard's delta rate, and where fewer bits are taken."""

import numpy as np


def bd_rate(anchor, test):
    """Bjontegaard's delta rate: how much more `test` takes than `anchor` at equal PSNR, on average (VCEG-M33, 2001).

    log10 of the rate is interpolated over PSNR piece by piece (PCHIP), not by the first proposal's single cubic, which
    swings between ten points. Points that another beats in both rate and PSNR are left out, as are infinite ones. A
    curve of one point is compared at its own PSNR.

    Args:
        anchor, test: (n, 2) rate > 0 and PSNR in dB, in any order.
    Returns:
        percent (below 0: saves), and low and high of the PSNR interval that both cover; all NaN where there is none.
    Raises:
        ValueError: a curve has another shape, no finite point, or a rate that is not positive.
    """
    low, high, ours, theirs = _common(test, anchor)
    if low != low:
        return (float("nan"),) * 3
    if low == high:
        ratio = ours(low) - theirs(low)
    else:
        ratio = (ours.integrate(low, high) - theirs.integrate(low, high)) / (high - low)
    return float(100 * (10**ratio - 1)), low, high


def of_images(anchors, tests):
    """`bd_rate` of every image by itself, in percent; NaN where its two curves have no PSNR in common.

    Args:
        anchors, tests: (images, n, 2) each, n of either.
    """
    return np.array([bd_rate(*both)[0] for both in zip(anchors, tests, strict=True)])


def saved(anchor, test):
    """Where `test` takes fewer bits than `anchor`, looked at in 501 places of the common PSNR interval.

    Arguments and errors as `bd_rate`.
    Returns:
        share of the interval in percent, and the highest such PSNR in dB (NaN: nowhere); both NaN without an interval.
    """
    low, high, ours, theirs = _common(test, anchor)
    if low != low:
        return float("nan"), float("nan")
    grid = np.linspace(low, high, 501)
    fewer = ours(grid) < theirs(grid)
    return float(100 * fewer.mean()), float(grid[fewer][-1]) if fewer.any() else float("nan")


def _common(*both):
    """low and high of the PSNR that both curves cover (NaN: nothing), and log10 of their rates as functions of PSNR."""
    fronts = [_front(points) for points in both]
    low, high = max(front[0, 1] for front in fronts), min(front[-1, 1] for front in fronts)
    if not low <= high:
        return float("nan"), float("nan"), None, None
    return float(low), float(high), *(_interpolated(front) for front in fronts)


def _front(points):
    """The points that no other beats in both rate and PSNR, by rising PSNR."""
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != 2 or not (points[:, 0] > 0).all():
        raise ValueError(f"a curve of shape {points.shape} is not (n, 2): rates above 0, and PSNR")
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) == 0:
        raise ValueError("a curve has no finite point")
    points = points[np.lexsort((-points[:, 1], points[:, 0]))]
    best_cheaper = np.maximum.accumulate(np.concatenate([[-np.inf], points[:-1, 1]]))
    return points[points[:, 1] > best_cheaper]


def _interpolated(front):
    from scipy.interpolate import PchipInterpolator

    rate, psnr = np.log10(front[:, 0]), front[:, 1]
    if len(front) == 1:
        return lambda places: np.full(np.shape(places), rate[0])
    return PchipInterpolator(psnr, rate)
