"""The networks of a run: built, begun with the weights of other runs, and joined to one that trains and validates."""

from pathlib import Path

from torch import nn

from carlib import models, rescale, results, runs, weights
from carlib.ops.quantize import quantize


class Rescaler(nn.Module):
    """Down and up again: a learned downscaler and quantisation (or a given LR image), upscaler."""

    def __init__(self, networks: nn.ModuleDict, alpha: float):
        super().__init__()
        self.networks, self.alpha = networks, alpha

    def forward(self, hr, lr=None):
        """hr (N, 3, H, W); lr (N, 3, h, w) or None to predict it -> sr, lr (8 bits), what its loss takes."""
        predicted = None
        if lr is None:
            lr, predicted = rescale.downscaler_of(self.networks).downscale(hr)
            lr = quantize(lr, self.alpha)
        return self.networks["upscaler"](lr), lr, predicted


def build(run: runs.Run) -> nn.ModuleDict:
    """The run's networks, the upscaler warm-started and the resampler taken and frozen where the run says so."""
    networks = nn.ModuleDict({role: models.create(**spec) for role, spec in run.networks().items()})
    if run.warm_start:
        weights.load(networks["upscaler"], start_of(run))
    if run.resampler_from:
        header = weights.load(networks["resampler"], frozen_from(run))
        _check_same_resampler(run, header.get("networks", {}).get("resampler", {}))
        networks["resampler"].requires_grad_(False)
    return networks


def _check_same_resampler(run, theirs):
    """Weights may fit a resampler that reads them otherwise (another weighting, another border)."""
    ours = models.specification(**run.networks()["resampler"])
    differing = sorted(key for key in ours.keys() & theirs.keys() if theirs[key] != ours[key])
    if differing:
        told = ", ".join(f"{key}={theirs[key]!r}, not {ours[key]!r}" for key in differing)
        raise ValueError(f"{run.name} cannot take the resampler of {run.resampler_from}, which has {told}")


def start_of(run: runs.Run) -> Path | None:
    """The weights file that the run's upscaler starts from; `experiments.prepare` trains it."""
    return run.warm_start and results.folder(run.profile, "runs", run.warm_start, "weights.safetensors")


def frozen_from(run: runs.Run) -> Path | None:
    """The weights file that the run's frozen resampler comes from; `experiments.prepare` trains it."""
    return run.resampler_from and results.folder(run.profile, "runs", run.resampler_from, "weights.safetensors")
