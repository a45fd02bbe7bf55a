"""The CUDA kernels under numba's simulator, which runs them in Python: test_resample_cuda.py starts this file."""

import math

import pytest
import torch
from test_resample import problem

from carlib import resample
from carlib.ops import resample_cuda

pytestmark = pytest.mark.skipif(not resample_cuda.SIMULATED, reason="NUMBA_ENABLE_CUDASIM is not set")


def results(impl, args, scale, **options):
    """lr and all four gradients."""
    lr = resample(*args, scale=scale, impl=impl, **options)
    upstream = torch.linspace(-1, 1, lr.numel(), dtype=lr.dtype).view_as(lr)
    return lr, *torch.autograd.grad(lr, args, upstream)


# scale, K, h, w, C and N: odd and even K, never square, one and two groups of channels, blocks that are not full
SMALL, EVEN, LEAST = (2, 3, 2, 3, 1, 2), (3, 4, 2, 1, 5, 1), (1, 1, 3, 2, 3, 1)
LINE = (1, 3, 1, 5, 5, 2)  # one pixel high
RELEASED = (2, 7, 1, 2, 1, 1), (4, 13, 1, 2, 1, 1)  # the paper's scales and the release's taps
BORDERS = [{}, {"border": "release"}]


@pytest.mark.parametrize(
    ("problem_of", "options"),
    [
        *((SMALL, o) for o in (*BORDERS, {"taps": "paper"}, {"pad": 0}, {"pad": 23})),
        *((EVEN, o) for o in BORDERS),
        (LEAST, {}),
        *((LINE, o) for o in ({}, {"pad": 0})),
        *((problem_of, {}) for problem_of in RELEASED),
    ],
)
def test_the_kernels_match_the_reference_forward_and_backward(problem_of, options):
    scale, size, h, w, channels, n = problem_of
    args = [t.requires_grad_() for t in problem(scale, size, h, w, c=channels, n=n)]
    expected = results("reference", args, scale, **options)
    for ours, reference in zip(results("cuda", args, scale, **options), expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precision_is_computed_in_float32(dtype):
    args = [t.to(dtype).requires_grad_() for t in problem(2, 3, 2, 3, n=1)]
    expected = results("reference", [t.detach().double().requires_grad_() for t in args], 2)
    for ours, reference in zip(results("cuda", args, 2), expected, strict=True):
        assert ours.dtype == dtype
        limit = 8e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps  # of float32: positions of some pixels
        torch.testing.assert_close(ours.double(), reference, rtol=limit, atol=limit)


def test_gradients_as_small_or_large_as_they_come_are_resolved():
    """Fixed point follows the size of what is added up."""
    hr, kernel, offset_v, offset_h = problem(2, 3, 2, 3, n=1)
    found = []
    for factor in (1.0, 1e-30, 1e30):
        hr.requires_grad_()
        lr = resample(hr, kernel * factor, offset_v, offset_h, scale=2, impl="cuda")
        found.append(torch.autograd.grad(lr.sum(), hr)[0] / factor)
    torch.testing.assert_close(found[1:], [found[0]] * 2, rtol=0, atol=1e-12)


def test_each_image_has_its_own_unit():
    hr, kernel, offset_v, offset_h = problem(2, 3, 2, 3, n=2)
    kernel[1] *= 1e20
    hr.requires_grad_()
    both = torch.autograd.grad(resample(hr, kernel, offset_v, offset_h, scale=2, impl="cuda").sum(), hr)[0]
    first = [t[:1] for t in (hr, kernel, offset_v, offset_h)]
    alone = torch.autograd.grad(resample(*first, scale=2, impl="cuda").sum(), first[0])[0]
    assert torch.equal(both[:1], alone)


@pytest.mark.parametrize(
    ("bad", "border"), [(math.nan, "replicate"), (math.nan, "release"), (math.inf, "release"), (-math.inf, "replicate")]
)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, here in place of a GPU
def test_an_offset_that_is_no_number_shows_and_touches_nothing_else(bad, border):
    at = (0, 4, 1, 2)

    def found(offset, weight):
        args = problem(2, 3, 2, 3, n=1, c=1)
        args[2][at] = offset
        args[1][at] = weight
        return results("cuda", [t.requires_grad_() for t in args], 2, border=border)

    (lr, of_hr, of_kernel, *_), (_, clean, *_) = found(bad, 1.0), found(0.0, 0.0)
    assert lr.isnan().sum() == 1 and lr[0, 0, 1, 2].isnan() and of_kernel[at].isnan() and of_kernel.isnan().sum() == 1
    touched = of_hr.isnan()
    assert 0 < touched.sum() <= 4
    torch.testing.assert_close(of_hr[~touched], clean[~touched], rtol=0, atol=1e-12)


def test_only_wanted_gradients_are_computed(monkeypatch):
    hr, kernel, offset_v, offset_h = problem(2, 3, 2, 3, n=1)
    monkeypatch.setattr(resample_cuda, "_backward_image", None)
    offset_h.requires_grad_()
    resample(hr, kernel, offset_v, offset_h, scale=2, impl="cuda").sum().backward()
    assert kernel.grad is None and offset_h.grad.abs().sum() > 0


def test_the_simulator_takes_no_other_device():
    assert "takes CPU tensors" in resample_cuda.why_not(torch.empty(1, device="meta"))
