"""The loss of a run: which terms of carlib.losses its networks are trained by, and with which weights."""

import torch

from carlib import losses, run_networks, runs
from carlib.training import schedule


def of_run(run: runs.Run, step, made: run_networks.Restored, hr, guide):
    """The loss of a batch (scalar), and each of its terms by name (detached scalars).

    Args:
        step:  of the training; Eq. 9 and 10 are measured before they count, too (schedule.penalises).
        made:  of the batch; its cost counts bit_price times.
        hr:    (N, 3, H, W), range [0, 1].
        guide: (N, 3, h, w), the LR image that a learned downscaler is held to; None where there is none.
    """
    total, terms = _restoring(run, step, made.sr, hr, guide, made.predicted)
    if run.priced:
        total, terms = total + run.bit_price * made.cost, terms | {"bit_cost": made.cost.detach()}
    return total, terms


def _restoring(run, step, sr, hr, guide, predicted):
    if predicted is None or run.resampler_from:  # nothing is asked of kernels and offsets that stay as they are
        total = losses.RESTORATION[run.loss](sr, hr)
        return total, {"restoration": total.detach()}
    if run.downscaler != "car":
        options = {name: getattr(run, name) for name in ("loss", "guidance", "guidance_loss", "distribution")}
        return losses.guided(sr, hr, guide, *predicted, **options)
    readings = {"offset": run.offset_reading, "tv": run.tv_reading}
    weighing = {"lambda_offset": run.lambda_offset, "gamma_tv": run.gamma_tv}
    if not run.offsets:
        weighing = dict.fromkeys(weighing, 0.0)
    options = {"loss": run.loss, "readings": readings, **weighing}
    if schedule.penalises(run, step):
        return losses.objective(sr, hr, *predicted, run.scale, **options)
    with torch.no_grad():
        _, terms = losses.objective(sr, hr, *predicted, run.scale, **options)
    return losses.RESTORATION[run.loss](sr, hr), terms
