"""Guided weights: how a kernel must change to move the colour of its LR pixel by a wanted step.

A kernel is shared by R, G and B: a residual r that sums to 0 moves the LR pixel by sum_k r_k a_k, a_k the colour under
tap k. Of all residuals that make the step c, the smallest one (sum_k r_k^2 / g_k) is

    r_k = g_k (a_k - mean)^T (Cov + eps I)^-1 c        mean, Cov: of the colours a_k, weighted by g

that is, the weights of He, Sun and Tang's guided filter (ECCV 2010, for colour images) with c in place of the centre's
colour. eps damps steps along colours in which the taps hardly differ; where all taps are alike there is no step.
"""

import math

import torch
from torch.nn import functional

from carlib.ops.guided_op import guided
from carlib.ops.resample import reflect_pad

_MOST_COLOURS = 1 << 25  # numbers in a strip, more than a batch has: all of a photograph's are many times its kernels


def guided_residual(step, hr, window, *, scale, centre, eps):
    """(N, K*K, h, w) residual weights, which sum to 0 at every LR pixel.

    Args:
        step:   (N, 3, h, w), wanted change of each LR pixel's colour, in units of hr.
        hr:     (N, 3, H, W) in [0, 1], H = h*scale, W = w*scale.
        window: (K*K,) the weights g; they sum to 1.
        centre: place of the kernel's centre in taps, see ops/resample.py.
        eps:    in units of a variance of hr.
    """
    if _has_loops(hr) and not (torch.is_grad_enabled() and (hr.requires_grad or window.requires_grad)):
        return guided(step, hr, window, scale, centre, eps)  # with a gradient for `step` alone
    count, height = len(window), step.shape[2]
    padded, first = _padded(hr, scale, round(count**0.5), centre)
    lines = max(1, _MOST_COLOURS // (3 * count * step.shape[0] * step.shape[3]))
    strips = []
    for top in range(0, height, lines):
        wanted = step[:, :, top : top + lines]
        colours = _colours(padded[:, :, top * scale :], first, round(count**0.5), scale, wanted.shape[2:])
        strips.append(_residual(wanted, colours, window.view(1, 1, -1, 1, 1), eps))
    return torch.cat(strips, 2)


def _has_loops(hr) -> bool:
    return hr.device.type == "cpu" and hr.dtype in (torch.float32, torch.float64)


def _residual(step, colours, weights, eps):
    # From the middle tap on, so that a constant image has exact zeros to divide by eps.
    colours = colours - colours[:, :, colours.shape[2] // 2, None]
    colours = colours - (colours * weights).sum(2, keepdim=True)
    weighted = colours * weights
    multiplier = _solve(_covariance(weighted, colours), step.double(), eps).to(colours.dtype)
    return (weighted * multiplier[:, :, None]).sum(1)


def _padded(hr, scale, size, centre):
    """The image continued as the operator does, and where in it the first LR pixel's first tap lies."""
    pad = size // 2
    padded = reflect_pad(hr, pad)
    # A tap may lie beyond the pad; by index, for replication's own gradient has other bits each time on a GPU.
    rows, columns = (torch.arange(-1, n + 1, device=hr.device).clamp(0, n - 1) for n in padded.shape[-2:])
    padded = padded[:, :, rows][..., columns]
    first = (scale - 1) / 2 - centre + pad + 1
    if first != math.floor(first):  # between pixels: bilinear sampling takes the mean of 2x2
        padded = functional.avg_pool2d(padded, 2, stride=1)
    return padded, math.floor(first)


def _colours(padded, first, size, scale, shape):
    """(N, 3, K*K, *shape) from the top left of `padded`."""
    rows, columns = (slice(first, first + (n - 1) * scale + size) for n in shape)
    windows = padded[:, :, rows, columns].unfold(2, size, scale).unfold(3, size, scale)  # (N, 3, h, w, K, K)
    return windows.permute(0, 1, 4, 5, 2, 3).flatten(2, 3)


def _covariance(weighted, colours):
    """The symmetric 3x3 covariance, float64 (N, 3, 3, h, w): its smallest eigenvalue is what counts."""
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    rr, rg, rb, gg, gb, bb = ((weighted[:, i] * colours[:, j]).sum(1) for i, j in pairs)
    return torch.stack([rr, rg, rb, rg, gg, gb, rb, gb, bb], 1).unflatten(1, (3, 3)).double()


def _solve(covariance, step, eps):
    """(covariance + eps I)^-1 step, (N, 3, h, w), by the adjugate: far faster than a batch of LU decompositions.

    A symmetric matrix's adjugate has for rows the cross products of the other two rows.
    """
    matrix = covariance + eps * torch.eye(3, dtype=torch.float64, device=step.device).view(1, 3, 3, 1, 1)
    cross = torch.linalg.cross(matrix.roll(-1, 1), matrix.roll(-2, 1), dim=2)
    determinant = (matrix[:, 0] * cross[:, 0]).sum(1, keepdim=True)
    return (cross * step[:, :, None]).sum(1) / determinant
