"""Laws of the quantiser (Eq. 7)."""

import math

import pytest
import torch

from carlib import quantize


def test_forward_rounds_to_8_bits_and_clamps():
    lr = torch.linspace(-0.5, 1.5, 4001, dtype=torch.float64)
    levels = quantize(lr) * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-9)
    assert (quantize(lr) - lr.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-12


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_backward_is_the_derivative_of_the_soft_round(alpha):
    lr = torch.linspace(0.001, 0.999, 1777, dtype=torch.float64, requires_grad=True)
    quantize(lr, alpha).sum().backward()
    x = (lr.detach() * 255).requires_grad_()
    soft_round = x - alpha * torch.sin(2 * math.pi * x) / (2 * math.pi)  # Eq. 7 as printed, on 0..255
    (expected,) = torch.autograd.grad(soft_round.sum(), x)
    torch.testing.assert_close(lr.grad, expected, rtol=0, atol=1e-9)


def test_no_gradient_where_clamped():
    lr = torch.tensor([-0.2, 0.3001, 1.2], requires_grad=True)
    quantize(lr, 0.0).sum().backward()
    assert lr.grad.tolist() == [0, 1, 0]


def test_black_and_white_themselves_have_a_gradient():
    lr = torch.tensor([0.0, 1.0, -1e-6, 1 + 1e-6], requires_grad=True)
    quantize(lr, 0.0).sum().backward()
    assert lr.grad.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("alpha", [-1, math.nan, math.inf, None, "1", 1j, True])
def test_alpha_must_be_a_number(alpha):
    with pytest.raises(ValueError, match=r"alpha=.* must be a finite number >= 0") as caught:
        quantize(torch.rand(3), alpha)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_and_differentiated_in_float32(dtype):
    lr = torch.linspace(-0.1, 1.1, 997).to(dtype).requires_grad_()
    wide = lr.detach().float().requires_grad_()
    found, expected = quantize(lr), quantize(wide)
    assert found.dtype == dtype and torch.equal(found, expected.to(dtype))
    gradients = [torch.autograd.grad(value.sum(), at)[0] for value, at in ((found, lr), (expected, wide))]
    torch.testing.assert_close(gradients[0], gradients[1].to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("lr", [torch.zeros(2, dtype=torch.uint8), torch.zeros(2, dtype=torch.complex64), [0.5]])
def test_what_is_no_floating_point_tensor_is_refused(lr):
    with pytest.raises(ValueError, match="not a floating-point tensor"):
        quantize(lr)
