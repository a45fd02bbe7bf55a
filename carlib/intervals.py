"""Intervals of 95 %: of a mean over seeds, and of a mean difference that is paired image by image."""

import numpy as np

_FEW, _RESAMPLES = 15, 10_000
HOW = f"{_RESAMPLES:,} resamples; of fewer than {_FEW} Student's where wider"  # for captions


def paired(differences, *, resamples=_RESAMPLES, seed=0) -> tuple[float, float]:
    """Of the mean of `differences`: what another choice of images would have given.

    Percentile bootstrap: each resample draws as many images as there are, with repetition (Efron & Tibshirani 1993, ch.
    13). The same images are drawn for every call with the same count, so that differences of one set are comparable. Of
    few images, as Set5's, it is too narrow (five of one sign never leave 0 in): below _FEW Student's interval holds
    where it reaches farther.

    Args:
        differences: (n,) numbers, one per image: the same image by two methods, one less the other.
        resamples:   how many are drawn.  seed: of the generator.
    Returns:
        the 2.5 and 97.5 % quantiles; NaN for fewer than two images.
    """
    differences = np.asarray(differences, dtype=float)
    count = len(differences)
    if count < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count), dtype=np.int32)
    low, high = np.quantile(differences[drawn].mean(axis=1), (0.025, 0.975))
    if count < _FEW:
        mean, half = differences.mean(), half_width(differences)
        low, high = min(low, mean - half), max(high, mean + half)
    return float(low), float(high)


def half_width(values) -> float:
    """Half of Student's interval of the mean of `values`, such as one number a seed; NaN for fewer than two."""
    from scipy.special import stdtrit  # scipy.stats, which calls it, takes a second to import

    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float("nan")
    return float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values)))
