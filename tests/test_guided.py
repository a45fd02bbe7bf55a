"""Guided weights: the smallest kernel residual that makes a step of colour."""

import numpy as np
import pytest
import torch

from carlib import resample
from carlib.models import ResamplerNet, guided
from carlib.models.guided import guided_residual, tap_colours


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def problem(scale, taps=None, height=12, width=20):
    """hr, a step, window and options of a net's geometry."""
    net = ResamplerNet(scale, taps, weighting="guided", width=4, blocks=0)
    hr = images(2, 3, height * scale, width * scale)
    step = 0.1 * (images(2, 3, height, width, seed=1) - 0.5)
    return hr, step, net.window, {"scale": scale, "centre": net._centre}


@pytest.mark.parametrize(("scale", "taps"), [(2, None), (4, None), (2, 6), (4, 12), (1, 3), (3, 4)])
def test_colours_under_the_taps_are_those_the_operator_samples(scale, taps):
    if scale == 3:  # ResamplerNet has no x3, the function has
        size, centre = taps, (taps - 1) / 2
    else:
        net = ResamplerNet(scale, taps, weighting="guided", width=4, blocks=0)
        size, centre = net.kernel_size, net._centre
    hr = images(1, 3, 5 * scale, 7 * scale)
    found = tap_colours(hr, scale, size, centre)
    rest = torch.zeros(1, size**2, 5, 7)
    for tap in (0, size - 1, size**2 // 2, size**2 - 1):
        one = rest.clone()
        one[:, tap] = 1
        torch.testing.assert_close(found[:, :, tap], resample(hr, one, rest, rest, scale=scale), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("scale", "taps"), [(2, None), (4, None), (2, 6)])
def test_the_residual_makes_the_step_and_sums_to_0(scale, taps):
    hr, step, window, options = problem(scale, taps)
    weights = guided_residual(step, hr, window, eps=1e-12, **options)
    torch.testing.assert_close(weights.sum(1), torch.zeros_like(weights[:, 0]), rtol=0, atol=1e-6)
    rest = torch.zeros_like(weights)
    torch.testing.assert_close(resample(hr, weights, rest, rest, scale=scale), step, rtol=0, atol=1e-5)


def test_the_residual_is_the_smallest_that_makes_the_step():
    hr, step, window, options = problem(2, height=2, width=3)
    found = guided_residual(step, hr, window, eps=1e-14, **options)[0, :, 1, 2].double()
    colours = tap_colours(hr, 2, 7, 3.0)[0, :, :, 1, 2].double()
    root = window.double().sqrt()  # in r / sqrt(g) the smallest solution is the pseudo-inverse's
    conditions = torch.cat([colours, torch.ones(1, 49)]) * root
    wanted = torch.cat([step[0, :, 1, 2].double(), torch.zeros(1)])
    expected = root * (torch.linalg.pinv(conditions) @ wanted)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_where_all_taps_are_alike_there_is_no_step():
    _, step, window, options = problem(2)
    flat = torch.full((2, 3, 24, 40), 0.7)
    assert not guided_residual(step, flat, window, eps=1e-5, **options).any()


def test_eps_damps_a_step_along_a_colour_that_hardly_varies():
    # One colour direction of variance v: the step made is v / (v + eps) of the wanted one.
    _, step, window, options = problem(2)
    grey = images(2, 1, 24, 40).expand(-1, 3, -1, -1) * 0.01
    step = step[:, :1].expand(-1, 3, -1, -1)
    colours = tap_colours(grey, 2, 7, 3.0)
    weights = window.view(1, 1, -1, 1, 1)
    variance = 3 * ((colours - (colours * weights).sum(2, keepdim=True)) ** 2 * weights).sum(2)  # along (1, 1, 1)
    made = (colours * guided_residual(step, grey, window, eps=1e-5, **options)[:, None]).sum(2)
    torch.testing.assert_close(made, step * variance / (variance + 1e-5), rtol=1e-3, atol=1e-6)


def test_strips_change_nothing(monkeypatch):
    hr, step, window, options = problem(2)
    whole = guided_residual(step, hr, window, eps=1e-5, **options)
    monkeypatch.setattr(guided, "_MOST_COLOURS", 2 * 3 * 49 * 20 * 5)  # five of twelve lines
    torch.testing.assert_close(guided_residual(step, hr, window, eps=1e-5, **options), whole, rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_step_and_the_image():
    hr, step, window, options = problem(2, height=2, width=2)
    hr, step, window = hr[:1].double().requires_grad_(), step[:1].double().requires_grad_(), window.double()
    assert torch.autograd.gradcheck(lambda s, x: guided_residual(s, x, window, eps=1e-3, **options), (step, hr))


def test_a_grey_image_stays_grey():
    net = ResamplerNet(2, weighting="guided", width=8, blocks=1, local=1)
    torch.nn.init.normal_(net.kernels_weight[4].weight)
    lr = net.downscale(images(1, 1, 16, 24).expand(-1, 3, -1, -1).contiguous())[0]
    np.testing.assert_array_equal(lr[:, 0].detach(), lr[:, 2].detach())
