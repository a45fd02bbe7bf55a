"""Networks: sizes and keys of the published ones, and the laws of what they predict."""

import inspect
import math

import numpy as np
import pytest
import torch

from carlib import imresize, models
from carlib.models import EDSR, Bicubic, ResamplerNet


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def tiny(scale, **options):
    """A small ResamplerNet, the same at every call, whose kernels and offsets are far from their start."""
    torch.manual_seed(5)
    net = ResamplerNet(scale, **{"width": 8, "blocks": 1, **options})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "sub_mean" not in name and parameter.ndim == 4:
                parameter.normal_(0, 1 / parameter[0].numel() ** 0.5)
            elif "sub_mean" not in name:
                parameter.normal_(0, 0.1)
    return net.eval()


def trainable(make, *args, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in make(*args, **options).parameters() if p.requires_grad)


# The published networks: counts from their released code and from EDSR-PyTorch's, without the frozen mean shifts.
@pytest.mark.parametrize(("scale", "taps", "count"), [
    (2, 7, 10_645_651), (4, 13, 9_896_443), (2, 6, 10_555_756), (4, 12, 9_723_568),
])  # fmt: skip
def test_parameters_of_the_resampler(scale, taps, count):
    assert trainable(ResamplerNet, scale, kernel_size=taps) == count
    if taps % 2:
        assert trainable(models.create, "resampler", scale) == count  # as released is the default


@pytest.mark.parametrize(("scale", "size", "count"), [
    (2, "paper", 40_729_603), (4, "paper", 43_089_923), (2, "base", 1_369_859), (4, "base", 1_517_571),
])  # fmt: skip
def test_parameters_of_edsr(scale, size, count):
    assert trainable(models.create, "edsr", scale, size) == count


def test_keys_are_those_of_the_released_resampler():
    layers = ["sub_mean", "ds_1.1", "ds_2.downsample.1", "ds_4.downsample.1", "ds_8.downsample.1"]
    layers += [f"res_4.{block}.transform.{layer}" for block in range(5) for layer in (1, 4)]
    trunk = (1, 4, 7, "9.upsample.0", 11)
    layers += [f"{branch}_trunk.{layer}" for branch in ("kernels", "offsets") for layer in trunk]
    heads = ("kernels_weight", "offsets_h_generation", "offsets_v_generation")
    layers += [f"{head}.{layer}" for head in heads for layer in (1, 4)]
    with torch.device("meta"):
        keys = set(ResamplerNet(4).state_dict())
    assert keys == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize(("scale", "tail"), [(2, (0,)), (4, (0, 2)), (3, (0,))])
def test_keys_are_those_of_edsr_pytorch(scale, tail):
    layers = ["sub_mean", "add_mean", "head.0", "body.2", "tail.1", *(f"tail.0.{layer}" for layer in tail)]
    layers += [f"body.{block}.body.{layer}" for block in range(2) for layer in (0, 2)]
    with torch.device("meta"):
        keys = set(EDSR(scale, blocks=2, channels=4).state_dict())
    assert keys == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize("weighting", ["clamp", "softmax", "signed", "guided"])
@pytest.mark.parametrize(("scale", "taps"), [(1, 3), (2, 7), (2, 6), (3, 9), (4, 5), (8, 3)])
def test_kernels_sum_to_1_and_offsets_stay_within_one_lr_pixel(weighting, scale, taps):
    net = tiny(scale, weighting=weighting, kernel_size=taps)
    with torch.inference_mode():
        kernel, offset_v, offset_h = net(images(2, 3, 24, 48))
    assert kernel.shape == offset_v.shape == offset_h.shape == (2, taps**2, 24 // scale, 48 // scale)
    torch.testing.assert_close(kernel.sum(1), torch.ones_like(kernel[:, 0]), rtol=0, atol=1e-5)
    assert kernel.std(dim=(2, 3)).max() > 1e-3  # they follow the image
    if weighting in ("clamp", "softmax"):
        assert kernel.min() >= 0
    for offset in (offset_v, offset_h):
        assert 0.1 * scale < offset.abs().max() < scale


def test_a_clamped_kernel_of_negative_numbers_is_a_box():
    net = tiny(2)
    torch.nn.init.constant_(net.kernels_weight[4].bias, -1e3)
    kernel = net(images(1, 3, 8, 8))[0]
    torch.testing.assert_close(kernel, torch.full_like(kernel, 1 / 49), rtol=0, atol=1e-6)


def test_signed_weights_stay_within_their_bound():
    net = tiny(2, weighting="signed", bound=0.1)
    torch.nn.init.normal_(net.kernels_weight[4].weight, std=9)
    residual = net(images(1, 3, 8, 16))[0] - net.prior.view(1, -1, 1, 1)
    assert 0.1 < residual.abs().max() <= 0.2  # bound * tanh less its mean


def test_trunks_and_heads_have_the_activation_of_the_release_or_of_the_paper():
    kinds = {}
    for name in ("relu", "leaky_relu"):
        net = models.create("resampler", 2, "mini", activation=name)
        parts = (net.kernels_trunk, net.kernels_weight, net.offsets_trunk, net.offsets_h_generation)
        found = [type(module).__name__ for part in parts for module in part.modules()]
        kinds[name] = found.count("ReLU"), found.count("LeakyReLU")
        assert net(images(1, 3, 16, 16))[0].isfinite().all()
    assert kinds == {"relu": (10, 0), "leaky_relu": (0, 10)}
    assert models.create("resampler", 2, "mini").state_dict().keys() == net.state_dict().keys()
    with pytest.raises(ValueError, match="activation='gelu' is unknown: use one of relu, leaky_relu"):
        models.create("resampler", 2, "mini", activation="gelu")


def test_local_features_tell_one_lr_pixel_from_the_next():
    # Two images that differ within one block of 8x8 only: without local features a trunk at 1/8 must tell them apart.
    torch.manual_seed(0)
    net = ResamplerNet(2, width=8, blocks=0, weighting="guided", local=1, offsets=False)
    torch.nn.init.normal_(net.kernels_weight[4].weight)
    for parameter in net.kernels_trunk.parameters():
        torch.nn.init.zeros_(parameter)
    kernel = net(images(1, 3, 16, 16))[0]
    assert (kernel[:, :, 1:-1, 1:-1] - kernel[:, :, 4:5, 4:5]).abs().amax((0, 1)).max() > 1e-3


# x4: a tap is a mean of 2x2 pixels, which can only come close to bicubic's 16x16 weights (hence 0.005).
@pytest.mark.parametrize("weighting", ["clamp", "softmax", "signed", "guided"])
def test_a_constant_image_keeps_its_colour(weighting):
    hr = torch.full((1, 3, 24, 16), 0.3)
    lr, _ = tiny(4, weighting=weighting).downscale(hr)
    torch.testing.assert_close(lr, torch.full((1, 3, 6, 4), 0.3), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("scale", "height", "width"), [
    (2, 2, 2), (2, 2, 4), (2, 8, 8), (2, 10, 22), (4, 4, 4), (4, 4, 12), (4, 20, 36), (8, 8, 24), (1, 1, 1), (1, 3, 17),
    (3, 3, 3), (3, 12, 24), (3, 15, 33),
])  # fmt: skip
def test_sides_need_only_be_multiples_of_the_scale(scale, height, width):
    lr, predicted = tiny(scale).downscale(images(1, 3, height, width))
    assert lr.shape == (1, 3, height // scale, width // scale) and lr.isfinite().all()
    assert all(tensor.shape[2:] == lr.shape[2:] for tensor in predicted)


@pytest.mark.parametrize(("scale", "pad"), [(2, (0, 2, 0, 4)), (3, (0, 6, 0, 3))])  # to 24x32, to 24x36
def test_other_sides_are_continued_by_reflection(scale, pad):
    net, hr = tiny(scale), images(1, 3, 24 - pad[3], 30)
    continued = torch.nn.functional.pad(hr, pad, mode="reflect")
    height, width = (side // scale for side in hr.shape[2:])
    for found, whole in zip(net(hr), net(continued), strict=True):
        torch.testing.assert_close(found, whole[:, :, :height, :width], rtol=0, atol=1e-6)


def test_far_from_the_border_a_crop_predicts_what_the_image_does():
    # Reach of `tiny` at x4: 2 (5x5) + 4*2 (one block at 1/4) + 8*3 (trunk at 1/8) + 4*3 (at LR), and at most 7 more for
    # the place in a block of 8x8: 53 < 56 HR pixels.
    net, hr, scale, margin = tiny(4), images(1, 3, 144, 152), 4, 56
    top, left = 8, 16  # multiples of 8: the grid of the deepest layer
    with torch.inference_mode():
        whole, crop = net(hr), net(hr[:, :, top:136, left:144])
    m = margin // scale
    for a, b in zip(whole, crop, strict=True):
        a = a[:, :, top // scale : 136 // scale, left // scale : 144 // scale]
        torch.testing.assert_close(a[:, :, m:-m, m:-m], b[:, :, m:-m, m:-m], rtol=0, atol=1e-5)
        assert (a - b).abs().max() > 1e-3  # at the border it does not


def test_without_offsets_they_are_zero_and_have_no_branch():
    net = tiny(2, offsets=False)
    assert not any(name.startswith("offsets") for name, _ in net.named_parameters())
    _, offset_v, offset_h = net(images(1, 3, 8, 16))
    assert not offset_v.any() and not offset_h.any()
    assert net.downscale(images(1, 3, 8, 16))[0].shape == (1, 3, 4, 8)


def test_every_parameter_of_the_resampler_gets_a_gradient():
    net = tiny(2, weighting="softmax")
    net.downscale(images(2, 3, 16, 24))[0].square().sum().backward()
    still = [name for name, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == []


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 4), (16, 33)])
def test_bicubic_is_imresize(scale, shape):
    lr = np.random.default_rng(2).random((*shape, 3))
    found = Bicubic(scale)(torch.from_numpy(lr).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, imresize(lr, scale), rtol=0, atol=2e-6)  # float32 against float64


def test_bicubic_passes_gradients_on():
    lr = images(1, 2, 3, 4).requires_grad_()
    Bicubic(2)(lr).sum().backward()
    assert lr.grad.sum().item() == pytest.approx(4 * lr.numel(), rel=1e-5)  # every SR pixel's weights sum to 1
    assert not list(Bicubic(2).parameters()) and not Bicubic(2).state_dict()


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_edsr_enlarges_by_its_scale(scale):
    sr = EDSR(scale, blocks=1, channels=4)(images(2, 3, 5, 7))
    assert sr.shape == (2, 3, 5 * scale, 7 * scale)


def test_edsr_without_weights_gives_the_mean_colour():
    net = EDSR(2, blocks=2, channels=4)
    for parameter in (p for p in net.parameters() if p.requires_grad):
        torch.nn.init.zeros_(parameter)
    expected = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1).expand(1, 3, 6, 4)
    torch.testing.assert_close(net(images(1, 3, 3, 2)), expected)


def test_edsr_is_that_of_the_paper_unless_told_otherwise():
    defaults = {name: p.default for name, p in inspect.signature(EDSR).parameters.items()}
    assert {name: defaults[name] for name in ("blocks", "channels", "res_scale")} == {
        "blocks": 32, "channels": 256, "res_scale": 0.1,
    }  # fmt: skip
    assert EDSR.public_range == 2
    assert EDSR(2, blocks=1, channels=4).body[0].res_scale == 0.1


def test_a_residual_branch_is_scaled():
    block = models.edsr.ResidualBlock(4, res_scale=0.1)
    x = images(1, 4, 5, 6)
    torch.testing.assert_close(block(x), x + 0.1 * block.body(x))


@pytest.mark.parametrize(("make", "told"), [
    (lambda: models.create("rcam", 2), "network 'rcam' is unknown: use one of resampler, edsr, bicubic"),
    (lambda: models.create("edsr", 2, "huge"), "size 'huge' of edsr is unknown: use one of mini, base, paper"),
    (lambda: models.create("edsr", 2, "mini", chanels=4), "edsr cannot be made with .*chanels"),
    (lambda: models.create("edsr", 6, "mini"), "EDSR has no scale 6"),
    (lambda: models.create("edsr", 0, "mini"), "scale=0 is not a whole number >= 1"),
    (lambda: models.create("irn", 2.0, "mini"), "scale=2.0 is not a whole number >= 1"),
    (lambda: models.create("resampler", True, "mini"), "scale=True is not a whole number >= 1"),
    (lambda: models.create("edsr", "4", "mini"), "scale='4' is not a whole number >= 1"),
    (lambda: models.create("resampler", 5, "mini"), "ResamplerNet has no scale 5: use 1, 2, 3, 4 or 8"),
    (lambda: models.create("resampler", 2, "mini", weighting="relu"), "use one of clamp, softmax, signed"),
    (lambda: models.create("resampler", 2, "mini", width=10), "width=10 is not a positive multiple of 4"),
    (lambda: models.create("resampler", 2, "mini", kernel_size=0), "kernel_size=0"),
    (lambda: models.create("bicubic", 1.5), "scale=1.5 is not a whole number"),
])  # fmt: skip
def test_create_refuses_what_it_cannot_make(make, told):
    with pytest.raises(ValueError, match=told) as refusal:
        make()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (1, 3, 9, 8), (1, 3, 8, 5), (1, 3, 0, 8)])
def test_the_resampler_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"hr is .*(expected|not a multiple of scale=2)") as refusal:
        tiny(2)(torch.zeros(shape))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (8, 8)])
def test_edsr_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"lr is \(.*expected \(N, 3, h, w\)"):
        EDSR(2, blocks=1, channels=4)(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 0, 8), (8, 8)])
def test_bicubic_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"lr is \(.*expected \(N, C, h, w\)"):
        Bicubic(2)(torch.zeros(shape))


@pytest.mark.parametrize("scale", [0, 1.5, math.inf, math.nan, True])
def test_bicubic_refuses_what_is_no_factor(scale):
    with pytest.raises(ValueError, match=f"Bicubic cannot have scale={scale}: it is a whole number >= 1"):
        Bicubic(scale)


def test_the_mean_shift_is_frozen():
    for net in (EDSR(2, blocks=1, channels=4), tiny(2)):
        assert not any(p.requires_grad for name, p in net.named_parameters() if "mean" in name)


@pytest.mark.parametrize(("options", "told"), [
    ({"taps": "papre"}, "taps='papre' is unknown"),
    ({"border": "x"}, "border='x' is unknown"),
    ({"bound": 0}, "bound=0 is not a number above 0"),
    ({"bound": "a"}, "bound='a' is not a number above 0"),
    ({"kernel_size": 3.0}, "kernel_size=3.0 is not a whole number"),
    ({"width": 8.0}, "width=8.0 is not a positive multiple of 4"),
    ({"blocks": -1}, "blocks=-1 is not a whole number >= 0"),
])  # fmt: skip
def test_an_option_that_cannot_be_is_refused_when_the_network_is_made(options, told):
    with pytest.raises(ValueError, match=told):
        ResamplerNet(2, **options)


@pytest.mark.parametrize("make", [lambda: EDSR(2, blocks=1, channels=4), lambda: Bicubic(2)])
def test_double_precision_stays_double(make):
    assert make().double()(torch.rand(1, 3, 4, 5, dtype=torch.float64)).dtype == torch.float64
