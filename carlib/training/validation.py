"""What a validation measures: the PSNR that chooses the weights, and how far kernels and offsets follow the image."""

import math

import numpy as np
import torch

from carlib import metrics
from carlib.run_networks import Rescaler
from carlib.training.patches import to_batch


@torch.inference_mode()
def validate(rescaler: Rescaler, pairs, scale) -> float:
    """Mean RGB PSNR in dB, float32 (the paper selects its model by the same on 10 DIV2K images); NaN once diverged."""
    rescaler.eval()
    device = next(rescaler.parameters()).device
    values = []
    for hr, lr in pairs:
        low = None if lr is None else to_batch(lr[None]).to(device)
        sr = rescaler(to_batch(hr[None]).to(device), low).sr
        if not sr.isfinite().all():
            return math.nan
        values.append(metrics.psnr(hr, sr[0].permute(1, 2, 0).clamp(0, 1).cpu().numpy(), scale, protocol="rgb"))
    return float(np.mean(values))


@torch.inference_mode()
def behaviour(rescaler: Rescaler, pairs) -> dict:
    """How far a resampler's kernels and offsets follow the first validation image; {} without a resampler.

    adaptivity: standard deviation of a tap's weight over LR pixels, over its mean size, of the mean tap; 0 is a kernel
    that is the same for all pixels. offset_length: mean over taps, weighted by the size of their weights, HR pixels.
    """
    if "resampler" not in rescaler.networks:
        return {}
    hr = to_batch(pairs[0][0][None]).to(next(rescaler.parameters()).device)
    kernel, offset_v, offset_h = rescaler.networks["resampler"](hr)
    size = kernel.abs()
    length = (torch.hypot(offset_v, offset_h) * size).sum() / size.sum()
    return {"adaptivity": float(kernel.std((2, 3)).mean() / size.mean()), "offset_length": float(length)}
