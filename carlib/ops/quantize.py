"""Rounding to 8 bits with the gradient of the soft round (CAR, Eq. 7)."""

import math
import numbers

import torch


def quantize(lr, alpha=1.0):
    """Clamp to [0, 1] and round to a multiple of 1/255; the gradient is that of the soft round.

    Forward, on the 0..255 scale: round(clamp(x)). Backward (Eq. 7, round_soft(x) = x - alpha sin(2 pi x) / (2 pi)):
    1 - alpha * cos(2 pi x), with x on the 0..255 scale, and 0 where x was clamped. alpha = 0 passes the gradient
    straight through the rounding.

    Args:
        lr:    float tensor of any shape, meant for [0, 1].
        alpha: strength of the soft round's gradient, >= 0; the paper names no value (params.yaml: defaults.alpha).
    Returns:
        Same shape and dtype, values k/255 with k = 0..255 (in half precision the nearest to them).
    Raises:
        ValueError: alpha is not a number, negative or not finite; lr is not a floating-point tensor.
    """
    if not isinstance(lr, torch.Tensor) or not lr.is_floating_point():
        raise ValueError(f"lr is {getattr(lr, 'dtype', type(lr).__name__)}, not a floating-point tensor in [0, 1]")
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not 0 <= alpha < math.inf:
        raise ValueError(f"alpha={alpha!r} must be a finite number >= 0")
    return _SoftRound.apply(lr, alpha)


class _SoftRound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, lr, alpha):
        ctx.save_for_backward(lr)
        ctx.alpha = alpha
        return _levels(lr).clamp(0, 255).round().div(255).to(lr.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (lr,) = ctx.saved_tensors
        slope = 1 - ctx.alpha * torch.cos(2 * math.pi * _levels(lr))
        return (gradient * slope * ((lr >= 0) & (lr <= 1))).to(lr.dtype), None


def _levels(lr):
    """On the 0..255 scale, in float32 at least: half precision does not tell 256 levels and their fractions apart."""
    return lr.to(torch.promote_types(lr.dtype, torch.float32)) * 255
