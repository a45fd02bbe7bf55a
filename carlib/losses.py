"""The training objective (CAR, Eq. 8-11), one function per term, and that of the other learned downscalers."""

import math

import torch

from carlib.ops.penalties import sum_of_lengths, sum_of_steps


def l1(sr, hr):
    """Eq. 8: mean absolute error over pixels and channels; sr, hr of one shape, range [0, 1]."""
    _check_shapes(sr=sr, hr=hr)
    return (sr - hr).abs().mean()


def l2(sr, hr):
    """Mean squared error, the "L2" rows of Table 4; arguments as `l1`."""
    _check_shapes(sr=sr, hr=hr)
    return (sr - hr).square().mean()


def charbonnier(sr, hr, eps=1e-3):
    """Mean of sqrt(error^2 + eps^2), L1 rounded off below eps (LapSRN's loss); arguments as `l1`."""
    _check_shapes(sr=sr, hr=hr)
    return (sr - hr).square().add(eps**2).sqrt().mean()


RESTORATION = {"l1": l1, "l2": l2, "charbonnier": charbonnier}


def offset_distance(offset_v, offset_h, scale, reading="weighted", eta=1.0):
    """Eq. 9, averaged over batch and LR pixels: how far taps have moved, in LR pixels, weighted by their distance.

    Args:
        offset_v, offset_h: (N, K*K, h, w), HR pixels.
        scale:   HR pixels in an LR pixel, the unit of Eq. 9.
        reading: "weighted": sum of w * |offset|; the printed constant eta, which has no gradient, is left out.
                 "printed":  sum of eta + w * |offset|, with the constant and the printed, off-centre w.
                 "regulated": sum of (eta + w) * |offset|, what the wording "distance weight regulator" suggests.
        eta:     1 in the paper.
    Returns:
        scalar; w(i, j) is the tap's distance from the kernel's centre over that of (K/2, K/2).
    Raises:
        ValueError: the reading is unknown, or shapes do not fit.
    """
    if reading not in ("weighted", "printed", "regulated"):
        raise ValueError(f'reading={reading!r} of Eq. 9 is unknown: use "weighted", "printed" or "regulated"')
    _check_shapes(offset_v=offset_v, offset_h=offset_h)
    weight = _distance_weight(offset_v, centred=reading != "printed")
    constant = eta * len(weight) if reading == "printed" else 0.0
    total = sum_of_lengths(offset_v, offset_h, weight + eta if reading == "regulated" else weight)
    mean = constant + total / (scale * len(offset_v) * math.prod(offset_v.shape[2:]))
    return mean.to(torch.promote_types(offset_v.dtype, offset_h.dtype))


def partial_tv(kernel, offset_v, offset_h, scale, reading="batch"):
    """Eq. 10: vertical offsets may not vary along rows nor horizontal ones along columns, weighted by the kernel.

    Args:
        kernel, offset_v, offset_h: (N, K*K, h, w); offsets in HR pixels, measured in LR pixels here.
        reading: "batch": the sum over LR pixels, as printed, averaged over the batch only.
                 "mean":  also averaged over LR pixels, so that it does not grow with the patch.
    Returns:
        scalar; the kernel is taken at the first pixel of each pair, by magnitude (weights may be negative).
    Raises:
        ValueError: the reading is unknown, or shapes do not fit.
    """
    if reading not in ("batch", "mean"):
        raise ValueError(f'reading={reading!r} of Eq. 10 is unknown: use "batch" or "mean"')
    _check_shapes(kernel=kernel, offset_v=offset_v, offset_h=offset_h)
    total = sum_of_steps(kernel, offset_v, offset_h) / (scale * len(kernel))
    total = total / math.prod(kernel.shape[2:]) if reading == "mean" else total
    return total.to(torch.promote_types(kernel.dtype, torch.promote_types(offset_v.dtype, offset_h.dtype)))


def objective(sr, hr, kernel, offset_v, offset_h, scale, *, loss="l1", lambda_offset, gamma_tv, readings=None):
    """Eq. 11: the restoration loss + lambda * Eq. 9 + gamma * Eq. 10, and each term by name.

    Args:
        loss:          a name of RESTORATION.
        lambda_offset: lambda, >= 0.  gamma_tv: gamma, >= 0. A term of weight 0 is not computed.
        readings:      {"offset": reading of Eq. 9, "tv": reading of Eq. 10}; default "weighted", "batch".
    Returns:
        total (scalar), {"restoration": ..., "offset": ..., "tv": ...} (detached scalars).
    Raises:
        ValueError: the loss or a reading is unknown, or shapes do not fit.
    """
    if loss not in RESTORATION:
        raise ValueError(f"loss={loss!r} is unknown: use one of {', '.join(RESTORATION)}")
    readings = {"offset": "weighted", "tv": "batch", **(readings or {})}
    if unknown := readings.keys() - {"offset", "tv"}:
        raise ValueError(f'there is no reading of {min(unknown)!r}: the terms are "offset" and "tv"')
    total = RESTORATION[loss](sr, hr)
    terms = {"restoration": total.detach()}
    if lambda_offset:
        term = offset_distance(offset_v, offset_h, scale, readings["offset"])
        total, terms["offset"] = total + lambda_offset * term, term.detach()
    if gamma_tv:
        term = partial_tv(kernel, offset_v, offset_h, scale, readings["tv"])
        total, terms["tv"] = total + gamma_tv * term, term.detach()
    return total, terms


def guided(sr, hr, guide, lr, z=None, *, loss="l1", guidance=1.0, guidance_loss="l2", distribution=1.0):
    """The objective of CNN-CR, TAD and IRN: restoration, an LR image near bicubic's, a likely z; and each term by name.

    IRN sums |sr - hr|, scale^2 (lr - guide)^2 and z^2 over all values of an image; divided by the number of HR values
    those sums are the terms here with both weights 1, at every scale. z^2 is the negative logarithm of the density of
    N(0, 1) but for a constant and a factor 2: the distribution matching of IRN's first stage, without an adversary.

    Args:
        sr, hr:        (N, 3, H, W), range [0, 1].
        guide, lr:     (N, 3, h, w), the bicubic LR image and the predicted one, not rounded.
        z:             what IRN throws away, (N, C, h, w); None for the others.
        loss:          a name of RESTORATION, between sr and hr.
        guidance:      weight of `guidance_loss` (likewise a name) between lr and guide, >= 0.
        distribution:  weight of z^2, summed over z and divided by the number of HR values, >= 0.
    Returns:
        total (scalar), {"restoration": ..., "guidance": ..., "distribution": ...} (detached scalars).
    Raises:
        ValueError: a loss is unknown, or shapes do not fit.
    """
    if unknown := {loss, guidance_loss} - RESTORATION.keys():
        raise ValueError(f"loss={min(unknown)!r} is unknown: use one of {', '.join(RESTORATION)}")
    _check_shapes(guide=guide, lr=lr)
    terms = {"restoration": RESTORATION[loss](sr, hr), "guidance": RESTORATION[guidance_loss](lr, guide)}
    total = terms["restoration"] + guidance * terms["guidance"]
    if z is not None:
        terms["distribution"] = z.square().sum() / hr.numel()
        total = total + distribution * terms["distribution"]
    return total, {name: term.detach() for name, term in terms.items()}


def _check_shapes(**tensors):
    """Refuse tensors of different shapes, which would be broadcast without a word, and those without numbers."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{', '.join(f'{name} {shape}' for name, shape in shapes.items())}: shapes must be the same")
    name, shape = next(iter(shapes.items()))
    if 0 in shape:
        raise ValueError(f"{name} {shape} holds no number")


def _distance_weight(like, centred):
    """(K*K,) w(i, j) of Eq. 9. Printed, i - m/2 runs from i = 0 and is half a tap off centre."""
    size = round(like.shape[1] ** 0.5)
    if size * size != like.shape[1]:
        raise ValueError(f"offsets have {like.shape[1]} channels, not K*K for a whole K")
    centre = (size - 1) / 2 if centred else size / 2
    place = torch.arange(size, device=like.device, dtype=like.dtype) - centre
    return (torch.hypot(place[:, None], place[None, :]) / math.hypot(size / 2, size / 2)).flatten()
