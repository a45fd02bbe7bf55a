"""CNN-CR, TAD and IRN: published sizes, the laws of each architecture, and what their losses do."""

import numpy as np
import pytest
import torch
from learned import image, mini, trained_looking
from torch import nn

from carlib import imresize, losses, models
from carlib.models.bicubic import Bicubic, BicubicReduction
from carlib.models.irn import IRN, Coupling, Haar

NAMES = ("cnn-cr", "tad", "irn")

pytestmark = pytest.mark.usefixtures("one_thread", "small_irn")


# ---- sizes and contract -------------------------------------------------------------------------------


# IRN's are those of the released code, TAD's of the third-party build it follows (both of networks.md, instantiated);
# those of CNN-CR, and of TAD at x4, by hand from their docstrings.
@pytest.mark.parametrize(("name", "scale", "count"), [
    ("irn", 2, 1_667_952),
    ("irn", 4, 4_355_136),
    ("tad", 2, 261_619),
    ("tad", 4, 261_619 + 64 * 16 * 9 + 16),
    ("cnn-cr", 2, (3 * 64 * 9 + 64) + 10 * (64 * 64 * 9 + 64) + (64 * 3 * 9 + 3)),
    ("cnn-cr", 4, (3 * 64 * 9 + 64) + 11 * (64 * 64 * 9 + 64) + (64 * 3 * 9 + 3)),
])  # fmt: skip
def test_parameters_are_those_of_the_published_network(name, scale, count):
    assert sum(p.numel() for p in models.create(name, scale).parameters()) == count


def test_the_released_irn_counts_its_haar_patterns_too():
    for scale, count in ((2, 1_668_000), (4, 4_355_376)):
        assert sum(v.numel() for v in models.create("irn", scale).state_dict().values()) == count


def test_the_state_dict_of_irn_has_the_keys_of_the_released_code():
    keys = set(mini("irn", blocks=1).state_dict())
    parts = {
        f"operations.1.{part}.conv{i}.{kind}" for part in "FGH" for i in range(1, 6) for kind in ("weight", "bias")
    }
    assert keys == {"operations.0.haar_weights"} | parts


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_downscaler_keeps_the_contract(name, scale):
    """Shapes, single precision, gradients to every weight and to the image, in float32 and under bfloat16 autocast."""
    network = trained_looking(mini(name, scale), 0.01)
    hr = image(2, 3, 5 * scale, 7 * scale).requires_grad_()
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            lr, told = network.downscale(hr)
        assert lr.shape == (2, 3, 5, 7) and lr.dtype == torch.float32 and told[0] is lr
        assert [tuple(z.shape) for z in told[1:]] == [(2, 3 * scale**2 - 3, 5, 7)] * (name == "irn")
        network.zero_grad()
        hr.grad = None
        sum(part.square().sum() for part in told).backward()
        for gradient in (hr.grad, *(p.grad for p in network.parameters())):
            assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_downscaler_in_half_precision_as_a_whole_gives_nearly_the_same_image(name, scale):
    network, hr = trained_looking(mini(name, scale), 0.01), image(1, 3, 4 * scale, 5 * scale).bfloat16()
    expected = network.downscale(hr.float())[0].detach()
    lr, told = network.bfloat16().downscale(hr.requires_grad_())
    torch.testing.assert_close(lr, expected, rtol=0, atol=0.05 * expected.abs().max().item())
    sum(part.square().sum() for part in told).backward()
    for gradient in (hr.grad, *(p.grad for p in network.parameters())):
        assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("name", NAMES)
def test_doubles_stay_doubles_and_one_lr_pixel_is_an_image(name):
    assert mini(name, 4).double().downscale(image(1, 3, 4, 4, dtype=torch.float64))[0].dtype == torch.float64


@pytest.mark.parametrize(("call", "told"), [
    (lambda: mini("irn", 3), "IRN has no scale 3: use a power of 2"),
    (lambda: mini("irn", 1), "IRN has no scale 1: use a power of 2 from 2 on"),
    (lambda: mini("tad", 1), "TAD has no scale 1"),
    (lambda: mini("tad", channels=20), "TAD cannot have channels=20: it is a multiple of 8"),
    (lambda: mini("cnn-cr", 6), "CNN-CR has no scale 6"),
    (lambda: mini("cnn-cr", depth=0), "CNN-CR cannot have depth=0"),
    (lambda: mini("irn", 4).downscale(image(1, 3, 8, 10)), "hr is 8x10, not a multiple of scale=4: crop or pad it"),
    (lambda: mini("tad").downscale(image(1, 1, 8, 8)), r"hr is \(1, 1, 8, 8\), expected \(N, 3, H, W\)"),
    (lambda: mini("cnn-cr").downscale(image(3, 8, 8)), r"hr is \(3, 8, 8\)"),
    (lambda: mini("irn")(image(1, 1, 8, 8)), r"lr is \(1, 1, 8, 8\), expected \(N, 3, h, w\)"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(call, told):
    with pytest.raises(ValueError, match=told) as refusal:
        call()
    assert "\n" not in str(refusal.value)


# ---- CNN-CR and TAD -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "height", "width"), [(1, 5, 4), (2, 6, 10), (2, 2, 2), (3, 9, 6), (4, 4, 12)])
def test_the_bicubic_reduction_is_imresize(scale, height, width):
    hr = image(2, 3, height, width, dtype=torch.float64)
    lr = BicubicReduction(scale).double()(hr)
    for one, whole in zip(lr, hr, strict=True):
        expected = imresize(whole.permute(1, 2, 0).numpy(), 1 / scale)
        np.testing.assert_allclose(one.permute(1, 2, 0), expected, rtol=0, atol=1e-7)  # its taps are float32


def test_the_bicubic_reduction_is_the_transpose_of_the_enlargement_but_for_a_factor():
    """Away from the border MATLAB's two are one kernel."""
    hr, lr = image(1, 1, 32, 40), image(1, 1, 16, 20, seed=1)
    hr[..., :8, :], hr[..., -8:, :], hr[..., :, :8], hr[..., :, -8:] = 0, 0, 0, 0
    reduced, enlarged = (BicubicReduction(2)(hr) * lr).sum(), (Bicubic(2)(lr) * hr).sum()
    torch.testing.assert_close(4 * reduced, enlarged, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_cnn_cr_begins_as_bicubic(scale):
    hr = image(1, 3, 4 * scale, 6 * scale)
    torch.testing.assert_close(mini("cnn-cr", scale)(hr), BicubicReduction(scale)(hr), rtol=0, atol=0)
    constant = torch.full_like(hr, 0.3)
    torch.testing.assert_close(mini("cnn-cr", scale)(constant), constant[..., :4, :6], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn-cr", "tad"])
@pytest.mark.parametrize("scale", [2, 4])
def test_every_hr_pixel_is_seen(name, scale):
    hr = image(1, 3, 4 * scale, 4 * scale).requires_grad_()
    network = trained_looking(mini(name, scale))
    lr = network.model(hr) if name == "cnn-cr" else network(hr)  # CNN-CR without the bicubic image
    lr.square().sum().backward()
    assert (hr.grad != 0).all()


# ---- IRN ----------------------------------------------------------------------------------------------


def test_the_haar_transform_is_orthogonal_but_for_its_factor():
    """4 A^T A is the identity, so 2A is orthogonal: written out as a matrix over all pixels of all colours."""
    pixels = torch.eye(3 * 4 * 6, dtype=torch.float64).view(-1, 3, 4, 6)
    matrix = Haar(3)(pixels).flatten(1)
    torch.testing.assert_close(4 * matrix @ matrix.T, torch.eye(len(matrix), dtype=torch.float64), rtol=0, atol=0)


def test_the_haar_transform_is_means_and_differences():
    hr = image(1, 2, 4, 6, dtype=torch.float64)
    a, b, c, d = (hr[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    expected = torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1) / 4
    torch.testing.assert_close(Haar(2)(hr), expected, rtol=0, atol=1e-16)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", ["mini", "paper"])
def test_irn_forward_then_inverse_with_the_true_z_is_the_image(size, scale, dtype, tolerance):
    torch.manual_seed(1)
    network = trained_looking(models.create("irn", scale, size).to(dtype), 0.01)
    hr = image(2, 3, 2 * scale, 3 * scale, dtype=dtype)
    with torch.inference_mode():
        lr, (_, z) = network.downscale(hr)
        restored = network(lr, z)
        box = nn.functional.avg_pool2d(hr, scale)
    assert (lr - box).abs().max() > 1e-3  # not the transform it began as
    torch.testing.assert_close(restored, hr, rtol=0, atol=tolerance)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_inverse_of_irn_then_its_forward_is_the_lr_image_and_z(scale):
    network = trained_looking(mini("irn", scale).double(), 0.01)
    lr, z = image(1, 3, 3, 4, dtype=torch.float64), image(1, 3 * scale**2 - 3, 3, 4, seed=1, dtype=torch.float64)
    found = network.downscale(network(lr, z))[1]
    for one, other in zip(found, (lr, z), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [2, 4])
def test_irn_begins_as_box_downscaling_and_a_constant_image_stays_one(scale):
    network, hr = mini("irn", scale).eval(), image(1, 3, 2 * scale, 3 * scale)
    lr, (_, z) = network.downscale(hr)
    torch.testing.assert_close(lr, nn.functional.avg_pool2d(hr, scale), rtol=0, atol=1e-6)
    torch.testing.assert_close(network(lr), nn.functional.interpolate(lr, scale_factor=scale), rtol=0, atol=1e-6)
    lr, (_, z) = network.downscale(torch.full_like(hr, 0.3))
    torch.testing.assert_close(lr, torch.full_like(lr, 0.3), rtol=0, atol=1e-6)
    torch.testing.assert_close(z, torch.zeros_like(z), rtol=0, atol=1e-6)


def test_a_coupling_is_the_papers():
    """The formula, at one coupling: additive on the means, affine and bounded on the details."""
    coupling, x = trained_looking(Coupling(12, growth=4, clamp=0.7)), image(2, 12, 3, 5)
    low = x[:, :3] + coupling.F(x[:, 3:])
    scale = torch.exp(0.7 * (2 * torch.sigmoid(coupling.H(low)) - 1))
    torch.testing.assert_close(coupling(x), torch.cat([low, x[:, 3:] * scale + coupling.G(low)], 1))
    assert scale.log().abs().max() < 0.7


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_z_is_drawn_in_training_and_0_in_evaluation(noise):
    network, lr = trained_looking(mini("irn", 2, noise=noise), 0.01), image(1, 3, 4, 4)
    drawn = [network.train()(lr) for _ in range(2)]
    assert torch.equal(*drawn) == (noise == 0)
    torch.manual_seed(5)
    first = network(lr)
    torch.manual_seed(5)
    assert torch.equal(network(lr, torch.empty(1, 9, 4, 4).normal_() * noise), first)
    network.eval()
    assert torch.equal(network(lr), network(lr)) and torch.equal(network(lr), network(lr, torch.zeros(1, 9, 4, 4)))


@pytest.mark.parametrize("noise", [-0.1, float("inf"), float("nan")])
def test_noise_that_is_no_deviation_is_refused(noise):
    with pytest.raises(ValueError, match=f"IRN cannot draw z with noise={noise}: give a standard deviation"):
        IRN(2, blocks=1, noise=noise)


# ---- the objective ------------------------------------------------------------------------------------


def test_the_guidance_is_0_exactly_where_the_lr_image_is_bicubics():
    hr, sr, lr = image(2, 3, 8, 12), image(2, 3, 8, 12, seed=1), image(2, 3, 4, 6, seed=2)
    for kind in ("l1", "l2"):
        total, terms = losses.guided(sr, hr, lr, lr.clone(), guidance_loss=kind)
        assert terms["guidance"] == 0 and total == terms["restoration"] and "distribution" not in terms
        other = lr.clone()
        other[1, 2, 3, 5] += 1e-3
        assert losses.guided(sr, hr, lr, other, guidance_loss=kind)[1]["guidance"] > 0


@pytest.mark.parametrize("scale", [2, 4])
def test_the_objective_of_irn_is_the_published_sums_over_the_number_of_hr_values(scale):
    hr, sr = image(2, 3, 2 * scale, 3 * scale), image(2, 3, 2 * scale, 3 * scale, seed=1)
    guide, lr, z = image(2, 3, 2, 3, seed=2), image(2, 3, 2, 3, seed=3), image(2, 3 * scale**2 - 3, 2, 3, seed=4)
    sums = (sr - hr).abs().sum() + scale**2 * (lr - guide).square().sum() + z.square().sum()
    total, _ = losses.guided(sr, hr, guide, lr, z)
    torch.testing.assert_close(total, sums / hr.numel())
    weighed, terms = losses.guided(sr, hr, guide, lr, z, guidance=0.5, distribution=3.0)
    torch.testing.assert_close(weighed, terms["restoration"] + 0.5 * terms["guidance"] + 3 * terms["distribution"])


def test_an_objective_that_does_not_fit_is_refused():
    hr, lr = image(1, 3, 4, 4), image(1, 3, 2, 2)
    with pytest.raises(ValueError, match="loss='l3' is unknown: use one of l1, l2"):
        losses.guided(hr, hr, lr, lr, guidance_loss="l3")
    with pytest.raises(ValueError, match=r"guide \(1, 3, 2, 1\), lr \(1, 3, 2, 2\): shapes must be the same"):
        losses.guided(hr, hr, lr[..., :1], lr)
