"""Guided weights: the smallest kernel residual that makes a step of colour."""

import numpy as np
import pytest
import torch

from carlib import data, downscale, metrics, resample, upscale
from carlib.models import ResamplerNet, guided
from carlib.models.guided import guided_residual
from carlib.ops.guided_op import guided as compiled


def tap_colours(hr, scale, size, centre):
    """(N, 3, K*K, h, w): the colours under the taps at rest."""
    padded, first = guided._padded(hr, scale, size, centre)
    return guided._colours(padded, first, size, scale, [n // scale for n in hr.shape[-2:]])


WAYS = pytest.mark.parametrize("way", ["compiled", "composed"])


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def problem(scale, size=None, height=12, width=20, taps="symmetric"):
    """hr, a step, window and options of a net's geometry."""
    net = ResamplerNet(scale, size, weighting="guided", taps=taps, width=4, blocks=0)
    hr = images(2, 3, height * scale, width * scale)
    step = 0.1 * (images(2, 3, height, width, seed=1) - 0.5)
    return hr, step, net.window, {"scale": scale, "centre": net._centre}


def residual(way, step, hr, window, *, scale, centre, eps):
    """By compiled loops or, as where the image wants a gradient, composed of PyTorch's operators."""
    if way == "compiled":
        return compiled(step, hr, window, scale, centre, eps)
    return guided_residual(step, hr.clone().requires_grad_(), window, scale=scale, centre=centre, eps=eps).detach()


@pytest.mark.parametrize(("scale", "taps"), [(2, None), (4, None), (2, 6), (4, 12), (1, 3), (3, 4)])
def test_colours_under_the_taps_are_those_the_operator_samples(scale, taps):
    net = ResamplerNet(scale, taps, weighting="guided", width=4, blocks=0)
    size, centre = net.kernel_size, net._centre
    hr = images(1, 3, 5 * scale, 7 * scale)
    found = tap_colours(hr, scale, size, centre)
    rest = torch.zeros(1, size**2, 5, 7)
    for tap in (0, size - 1, size**2 // 2, size**2 - 1):
        one = rest.clone()
        one[:, tap] = 1
        torch.testing.assert_close(found[:, :, tap], resample(hr, one, rest, rest, scale=scale), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("scale", "size"), [(1, 3), (1, 5), (2, 6), (2, 7), (4, 13)])
def test_colours_under_the_papers_taps_too(scale, size):
    net = ResamplerNet(scale, size, weighting="guided", taps="paper", width=4, blocks=0)
    hr, rest = images(1, 3, 8 * scale, 9 * scale), torch.zeros(1, size**2, 8, 9)
    found = tap_colours(hr, scale, size, net._centre)
    for tap in (0, size - 1, size**2 - 1):
        one = rest.clone()
        one[:, tap] = 1
        sampled = resample(hr, one, rest, rest, scale=scale, taps="paper")
        torch.testing.assert_close(found[:, :, tap], sampled, rtol=0, atol=1e-6)


@WAYS
@pytest.mark.parametrize(("scale", "taps"), [(2, None), (4, None), (2, 6)])
def test_the_residual_makes_the_step_and_sums_to_0(way, scale, taps):
    hr, step, window, options = problem(scale, taps)
    weights = residual(way, step, hr, window, eps=1e-12, **options)
    torch.testing.assert_close(weights.sum(1), torch.zeros_like(weights[:, 0]), rtol=0, atol=1e-6)
    rest = torch.zeros_like(weights)
    torch.testing.assert_close(resample(hr, weights, rest, rest, scale=scale), step, rtol=0, atol=1e-5)


@WAYS
def test_the_residual_is_the_smallest_that_makes_the_step(way):
    hr, step, window, options = problem(2, height=2, width=3)
    found = residual(way, step, hr, window, eps=1e-14, **options)[0, :, 1, 2].double()
    colours = tap_colours(hr, 2, 7, 3.0)[0, :, :, 1, 2].double()
    root = window.double().sqrt()  # in r / sqrt(g) the smallest solution is the pseudo-inverse's
    conditions = torch.cat([colours, torch.ones(1, 49)]) * root
    wanted = torch.cat([step[0, :, 1, 2].double(), torch.zeros(1)])
    expected = root * (torch.linalg.pinv(conditions) @ wanted)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@WAYS
def test_where_all_taps_are_alike_there_is_no_step(way):
    _, step, window, options = problem(2)
    flat = torch.full((2, 3, 24, 40), 0.7)
    assert not residual(way, step, flat, window, eps=1e-5, **options).any()


@WAYS
def test_eps_damps_a_step_along_a_colour_that_hardly_varies(way):
    # One colour direction of variance v: the step made is v / (v + eps) of the wanted one.
    _, step, window, options = problem(2)
    grey = images(2, 1, 24, 40).expand(-1, 3, -1, -1) * 0.01
    step = step[:, :1].expand(-1, 3, -1, -1)
    colours = tap_colours(grey, 2, 7, 3.0)
    weights = window.view(1, 1, -1, 1, 1)
    variance = 3 * ((colours - (colours * weights).sum(2, keepdim=True)) ** 2 * weights).sum(2)  # along (1, 1, 1)
    made = (colours * residual(way, step, grey, window, eps=1e-5, **options)[:, None]).sum(2)
    torch.testing.assert_close(made, step * variance / (variance + 1e-5), rtol=1e-3, atol=1e-6)


def test_strips_change_nothing(monkeypatch):
    hr, step, window, options = problem(2)
    whole = residual("composed", step, hr, window, eps=1e-5, **options)
    monkeypatch.setattr(guided, "_MOST_COLOURS", 2 * 3 * 49 * 20 * 5)  # five of twelve lines
    strips = residual("composed", step, hr, window, eps=1e-5, **options)
    torch.testing.assert_close(strips, whole, rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_step_and_the_image():
    hr, step, window, options = problem(2, height=2, width=2)
    hr, step, window = hr[:1].double().requires_grad_(), step[:1].double().requires_grad_(), window.double()
    assert torch.autograd.gradcheck(lambda s, x: guided_residual(s, x, window, eps=1e-3, **options), (step, hr))


def test_a_gradient_reaches_the_window_where_one_is_wanted():
    hr, step, window, options = problem(2, 6, 3, 4)
    window = window.clone().requires_grad_()
    found = guided_residual(step, hr, window, eps=1e-5, **options)
    (gradient,) = torch.autograd.grad(found.square().sum(), window)
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize(("height", "width"), [(12, 20), (3, 50), (17, 1)])
@pytest.mark.parametrize(("scale", "size", "taps"), [
    (2, None, "symmetric"), (4, None, "symmetric"), (2, 6, "symmetric"), (4, 12, "symmetric"), (2, 4, "symmetric"),
    (1, 3, "symmetric"), (8, None, "symmetric"), (2, 6, "paper"), (2, 7, "paper"), (4, 12, "paper"), (1, 3, "paper"),
])  # fmt: skip
def test_compiled_loops_give_the_same_forward_and_backward(scale, size, taps, height, width):
    hr, step, window, options = problem(scale, size, height, width, taps)
    hr, step, window = hr.double(), step.double().requires_grad_(), window.double()
    composed = guided_residual(step, hr.clone().requires_grad_(), window, eps=1e-5, **options)
    ways = [compiled(step, hr, window, *options.values(), 1e-5), composed]
    torch.testing.assert_close(*ways, rtol=1e-8, atol=1e-9)
    upstream = images(*ways[0].shape, seed=2).double()
    torch.testing.assert_close(*(torch.autograd.grad(way, step, upstream)[0] for way in ways), rtol=1e-8, atol=1e-9)


def test_compiled_loops_know_neither_threads_nor_what_else_there_is():
    """The same bits; so downscaling an image in parts changes nothing."""
    hr, step, window, options = problem(2, 6, 24, 40)
    threads, ways = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            ways.append(residual("compiled", step, hr, window, eps=1e-5, **options))
    finally:
        torch.set_num_threads(threads)
    found = ways[0]
    assert torch.equal(*ways)
    part = residual("compiled", step[:1, :, 7:20, 9:34], hr[:1, :, 14:40, 18:68], window, eps=1e-5, **options)
    assert torch.equal(part[:, :, 2:-2, 2:-2], found[:1, :, 9:18, 11:32])


def test_pytorch_finds_nothing_wrong_with_the_operator_and_its_backward_pass():
    hr, step, window, options = problem(2, 6, 3, 4)
    arguments = hr, window, 2, options["centre"]
    torch.library.opcheck(torch.ops.carlib.guided.default, (step.requires_grad_(), *arguments, 1e-5))
    _, inverses, means = torch.ops.carlib.guided(step.detach(), *arguments, 1e-5)
    grad = images(2, 36, 3, 4)
    backward = torch.ops.carlib.guided_backward.default
    torch.library.opcheck(backward, (grad, hr, window, inverses, means, 2, options["centre"]))


def test_the_operator_has_no_gradient_for_the_image_and_no_second_one():
    hr, step, window, options = problem(2, 6, 3, 4)
    found = compiled(step.requires_grad_(), hr, window, *options.values(), 1e-5)
    (gradient,) = torch.autograd.grad(found.square().sum(), step, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives only where hr wants a gradient"):
        gradient.sum().backward()
    found = compiled(step, hr.requires_grad_(), window, *options.values(), 1e-5)
    with pytest.raises(RuntimeError, match="for `step` alone"):
        found.sum().backward()


def test_the_operator_refuses_an_image_that_does_not_fit():
    hr, step, window, options = problem(2, 6, 3, 4)
    for other in (hr[:1], hr[:, :1], hr[:, :, :4]):
        with pytest.raises(ValueError, match=r"not \(N, 3, h, w\) and x2 of it"):
            compiled(step, other, window, *options.values(), 1e-5)
    with pytest.raises(ValueError, match=r"step is \(2, 1, 3, 4\) and hr"):
        compiled(step[:, :1], hr, window, *options.values(), 1e-5)


def test_an_inverse_that_is_not_there_is_not_a_number_and_no_exception():
    _, step, window, options = problem(2, 6, 3, 4)
    flat = torch.full((2, 3, 6, 8), 0.5)
    assert not compiled(step, flat, window, *options.values(), 1e-200).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_cpu_has_loops_for_single_and_double_precision(dtype):
    hr, step, window, options = problem(2, 6, 3, 4)
    found = guided_residual(step.requires_grad_(), hr.to(dtype), window, eps=1e-5, **options)
    assert ("carlib_guided" in type(found.grad_fn).__name__) == (dtype != torch.bfloat16)


def test_a_grey_image_stays_grey():
    net = ResamplerNet(2, weighting="guided", width=8, blocks=1, local=1)
    torch.nn.init.normal_(net.kernels_weight[4].weight)
    lr = net.downscale(images(1, 1, 16, 24).expand(-1, 3, -1, -1).contiguous())[0]
    np.testing.assert_array_equal(lr[:, 0].detach(), lr[:, 2].detach())


def test_the_window_is_a_gaussian_of_four_fifths_of_an_lr_pixel_and_defaults_are_those_of_shipped_weights():
    for scale in (2, 4):
        net = ResamplerNet(scale, weighting="guided", width=4, blocks=0)
        line = np.exp(-0.5 * ((np.arange(3 * scale + 1) - 3 * scale / 2) / (0.8 * scale)) ** 2)
        expected = torch.from_numpy(np.outer(line, line) / line.sum() ** 2).flatten().float()
        torch.testing.assert_close(net.window, expected, rtol=1e-5, atol=0)
        assert (net.bound, net.guided_eps) == (0.25, 1e-5)


def test_the_eps_that_is_asked_for_counts():
    torch.manual_seed(0)
    net = ResamplerNet(2, weighting="guided", width=4, blocks=0, head_scale=1.0, guided_eps=0.1)
    damped = net(images(1, 3, 16, 16))[0]
    net.guided_eps = 1e-5
    assert (net(images(1, 3, 16, 16))[0] - damped).abs().max() > 1e-3


def test_the_shipped_pair_restores_a_photograph_as_well_as_ever():
    """38.02 dB: computed by the code at commit e90d153. A window of 0.5 LR pixels gives 37.89, an eps of 1e-4 35.66."""
    hr = data.centre_crop(dict(data.load("demo"))["chelsea"], 128)
    assert metrics.psnr(hr, upscale(downscale(hr, 2), 2), 2) == pytest.approx(38.02, abs=0.02)
