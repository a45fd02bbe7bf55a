"""What ResamplerNet begins with: kernels at rest, priors, the scale of the heads, one kernel for all pixels."""

import numpy as np
import pytest
import torch

from carlib import imresize, models
from carlib.models import ResamplerNet


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [2, 4])
def test_a_static_kernel_begins_as_bicubics_and_is_one_for_all_pixels_and_images(scale):
    net = models.create("resampler", scale, "mini", weighting="static", offsets=False)
    assert [(name, p.shape) for name, p in net.named_parameters()] == [("residual", ((3 * scale + 1) ** 2,))]
    hr = images(2, 3, 8 * scale, 12 * scale)
    guided = models.create("resampler", scale, "mini", weighting="guided")  # at rest it is bicubic's kernel, too
    torch.testing.assert_close(net.downscale(hr)[0], guided.downscale(hr)[0], rtol=0, atol=1e-5)
    torch.nn.init.normal_(net.residual)
    kernel, *offsets = net(hr)
    assert torch.equal(kernel, kernel[:1, :, :1, :1].expand_as(kernel))
    torch.testing.assert_close(kernel.sum(1), torch.ones_like(kernel[:, 0]), rtol=0, atol=1e-5)
    assert not any(offset.any() for offset in offsets)
    net.downscale(hr)[0].square().sum().backward()
    gradient = net.residual.grad
    assert gradient.abs().max() > 0 and gradient.sum().abs() < 1e-4 * gradient.abs().sum()  # the sum stays 1
    with pytest.raises(ValueError, match='weighting="static" follows no image: set offsets=False, local=0'):
        models.create("resampler", scale, "mini", weighting="static")


@pytest.mark.parametrize("weighting", ["softmax", "signed", "guided"])
@pytest.mark.parametrize("scale", [2, 4])
def test_what_depends_on_the_image_arrives_at_the_heads(weighting, scale):
    torch.manual_seed(0)
    net = models.create("resampler", scale, "mini", weighting=weighting)
    seen = {}
    net.kernels_weight.register_forward_hook(lambda module, inputs, output: seen.update(trunk=inputs[0]))
    hr = images(1, 3, 64, 96)
    with torch.inference_mode():
        net(hr)
    over_pixels = seen["trunk"].std((2, 3)).mean() / seen["trunk"].abs().mean()
    assert over_pixels > 0.2  # with PyTorch's own initialisation .01 to .03


def bits(**options):
    """What a network of seed 0 is, its prior included."""
    torch.manual_seed(0)
    net = ResamplerNet(2, width=8, blocks=1, **options)
    return {**net.state_dict(), "prior": net.prior}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.parametrize("weighting", ["clamp", "softmax", "signed", "guided"])
def test_no_scale_of_the_heads_is_1_as_released_and_0_of_what_starts_at_rest(weighting):
    plain, own = bits(weighting=weighting), 1 if weighting == "clamp" else 0
    assert same(plain, bits(weighting=weighting, head_scale=own))
    assert not same(plain, bits(weighting=weighting, head_scale=0.5))
    one, half = (bits(weighting=weighting, head_scale=scale) for scale in (1, 0.5))
    heads = [f"{name}.4.weight" for name in ("kernels_weight", "offsets_h_generation", "offsets_v_generation")]
    assert all(torch.equal(half[key], 0.5 * one[key]) and one[key].any() for key in heads)
    assert all(torch.equal(half[key], one[key]) for key in one if key not in heads)


@pytest.mark.parametrize("weighting", ["clamp", "softmax", "signed", "guided"])
def test_heads_of_scale_0_begin_with_one_kernel_for_all_pixels(weighting):
    hr = images(1, 3, 16, 24)
    torch.manual_seed(0)
    predicted = ResamplerNet(2, weighting=weighting, width=8, blocks=1, head_scale=0)(hr)
    assert all(torch.equal(tensor, tensor[:, :, :1, :1].expand_as(tensor)) for tensor in predicted)
    torch.manual_seed(0)
    kernel = ResamplerNet(2, weighting=weighting, width=8, blocks=1, head_scale=1)(hr)[0]
    assert (kernel - kernel[:, :, :1, :1]).abs().max() > 1e-3


def test_a_chosen_prior_is_a_gaussian_of_so_many_lr_pixels():
    assert same(bits(weighting="softmax"), bits(weighting="softmax", prior_sigma=0.35))
    line = np.exp(-0.5 * ((np.arange(7) - 3) / (0.6 * 2)) ** 2)
    expected = torch.from_numpy(np.outer(line, line) / line.sum() ** 2).flatten().float()
    for weighting in ("softmax", "signed", "guided"):
        kernel = ResamplerNet(2, weighting=weighting, width=4, blocks=0, prior_sigma=0.6)(images(1, 3, 16, 16))[0]
        torch.testing.assert_close(kernel[0, :, 4, 4], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighting", ["signed", "guided"])
def test_a_learned_prior_begins_as_the_fixed_one_and_is_trained_with_the_residuals(weighting):
    options = {"weighting": weighting, "width": 4, "blocks": 0}
    hr = images(1, 3, 16, 24)
    torch.manual_seed(0)
    fixed = ResamplerNet(2, **options)
    torch.manual_seed(0)
    net = ResamplerNet(2, **options, learned_prior=True)
    assert net.state_dict().keys() - fixed.state_dict().keys() == {"residual"}
    torch.testing.assert_close(net(hr)[0], fixed(hr)[0], rtol=0, atol=0)
    net.downscale(hr)[0].square().sum().backward()
    assert net.residual.grad.abs().max() > 0 and net.kernels_weight[4].weight.grad.abs().max() > 0
    torch.nn.init.normal_(net.residual)
    static = ResamplerNet(2, weighting="static", offsets=False)
    static.residual.data = net.residual.data
    torch.testing.assert_close(net(hr)[0], static(hr)[0], rtol=0, atol=1e-6)  # heads at rest: the same one kernel


@pytest.mark.parametrize(("options", "told"), [
    ({"prior_sigma": 0.5}, 'prior_sigma=0.5: weighting="clamp" has no prior, leave it out'),
    ({"prior_sigma": -1, "weighting": "signed"}, "prior_sigma=-1 is not a number above 0, nor None"),
    ({"prior_sigma": True, "weighting": "signed"}, "prior_sigma=True is not a number"),
    ({"prior_sigma": 0.05, "weighting": "softmax"}, "prior_sigma=0.05 is so narrow that outer taps have no weight"),
    ({"learned_prior": True, "weighting": "softmax"}, "learned_prior=True is for .* not for weighting='softmax'"),
    ({"head_scale": -1}, "head_scale=-1 is not a number >= 0"),
    ({"head_scale": float("nan")}, "head_scale=nan is not a number >= 0"),
])  # fmt: skip
def test_a_start_that_cannot_be_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        ResamplerNet(2, width=4, blocks=0, **options)


@pytest.mark.parametrize(("weighting", "local"), [("signed", 0), ("guided", 0), ("guided", 1)])
@pytest.mark.parametrize(("scale", "tolerance"), [(2, 2e-6), (4, 0.005)])
def test_signed_and_guided_start_as_matlabs_bicubic(scale, tolerance, weighting, local):
    hr = np.random.default_rng(1).random((16 * scale, 20 * scale, 3))
    net = ResamplerNet(scale, weighting=weighting, local=local, width=4, blocks=0)
    with torch.inference_mode():
        lr, (_, offset_v, offset_h) = net.downscale(torch.from_numpy(hr).permute(2, 0, 1)[None].float())
    assert not offset_v.any() and not offset_h.any()
    inside = slice(3, -3)  # at the rim imresize continues the image by its edge pixel, CAR by reflection
    found = lr[0].permute(1, 2, 0).numpy()[inside, inside]
    np.testing.assert_allclose(found, imresize(hr, 1 / scale)[inside, inside], rtol=0, atol=tolerance)


def test_softmax_starts_as_a_gaussian_at_rest():
    net = ResamplerNet(2, weighting="softmax", width=4, blocks=0)
    kernel, offset_v, _ = net(images(1, 3, 8, 8))
    line = np.exp(-0.5 * ((np.arange(7) - 3) / 0.7) ** 2)
    line /= line.sum()
    np.testing.assert_allclose(kernel[0, :, 1, 2].detach(), np.outer(line, line).ravel(), rtol=0, atol=1e-6)
    assert not offset_v.any()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_signed_kernel_of_any_size_begins_as_bicubic(scale):
    usual = ResamplerNet(scale, 4 * scale + 1, weighting="signed", width=4, blocks=0).prior
    wide = ResamplerNet(scale, 45, weighting="signed", width=4, blocks=0).prior.view(45, 45)
    assert float(wide.sum()) == pytest.approx(1, abs=1e-5) and len(usual) == (4 * scale + 1) ** 2
    torch.testing.assert_close(wide, wide.flip(0, 1))
