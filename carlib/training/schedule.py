"""What changes from step to step of a training: the learning rate, what is trained, whether offsets are penalised."""

import math

from carlib import runs


def learning_rate(run: runs.Run, step: int, psnrs) -> float:
    """The rate of a step; `psnrs` are the validations so far (only "plateau" looks at them).

    "one-cycle": 5 % linear rise from lr/25, then a cosine to lr/1000. "plateau": halved each time `plateau_patience`
    validations in a row bring no gain (the paper: "decreased when the validation performance does not increase within
    100 epoch"; the factor is our guess).
    """
    if run.schedule == "constant":
        return run.lr
    if run.schedule == "one-cycle":
        rise = max(1, round(0.05 * run.steps))
        if step < rise:
            return run.lr * (1 + 24 * step / rise) / 25
        progress = (step - rise) / max(1, run.steps - rise)
        return run.lr * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * progress)))
    best, waited, halvings = -math.inf, 0, 0
    for psnr in psnrs:
        best, waited = (psnr, 0) if psnr > best else (best, waited + 1)
        if waited == run.plateau_patience:
            halvings, waited = halvings + 1, 0
    return run.lr * 0.5**halvings


def trains_resampler(run: runs.Run, step: int) -> bool:
    """Whether the resampler moves at a step: not in the first `resampler_after` of them.

    An upscaler that has not learned to read a trained resampler's images pushes it back to where it began.
    """
    return step >= round(run.resampler_after * run.steps)


def penalises(run: runs.Run, step: int) -> bool:
    """Whether lambda and gamma count at a step: not in the first `penalties_after` of them, and in full afterwards.

    From nothing, a strong penalty holds offsets at 0 before they have shown what they are good for.
    """
    return step >= round(run.penalties_after * run.steps)
