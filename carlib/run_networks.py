"""The networks of a run: built, begun with the weights of other runs, and joined to one that trains and validates."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from carlib import method_networks, models, results, runs, weights
from carlib.ops import jpeg2000
from carlib.ops.jpeg import price, stored
from carlib.ops.quantize import quantize

_BEFORE_TRAINING = ("head_scale",)  # options of a network that trained weights do not show


class Restored(NamedTuple):
    """Of a batch that was down- and upscaled.

    sr:        (N, 3, H, W).
    lr:        (N, 3, h, w), as the upscaler has read it.
    predicted: what a learned downscaler gave beside its LR image, for the loss; None of a given LR image.
    cost:      bits per LR pixel on average over the batch, in JPEG each at its quality's price; None where bits have
               none, and of evaluations.
    """

    sr: torch.Tensor
    lr: torch.Tensor
    predicted: tuple | None
    cost: torch.Tensor | None


class Rescaler(nn.Module):
    """Down and up again: a learned downscaler and quantisation (or a given LR image), JPEG if it is wanted, upscaler.

    jpeg:   the lowest and the highest quality; training draws one for each image, evaluation takes the middle.
    priced: whether training asks what LR images cost: bits of their JPEG or, without `jpeg`, of lossless JPEG 2000.
    """

    def __init__(self, networks: nn.ModuleDict, alpha: float, jpeg: list | None = None, priced: bool = False):
        super().__init__()
        self.networks, self.alpha, self.jpeg, self.priced = networks, alpha, jpeg, priced

    def forward(self, hr, lr=None) -> Restored:
        """hr (N, 3, H, W); lr (N, 3, h, w) or None to predict it."""
        predicted, priced, cost = None, self.priced and self.training, None
        if lr is None:
            lr, predicted = method_networks.downscaler_of(self.networks).downscale(hr)
            lr = quantize(lr, self.alpha)
        if self.jpeg:
            low, high = self.jpeg
            drawn = torch.randint(low, high + 1, (len(lr),)) if self.training else (low + high) // 2
            lr, bits = stored(lr, drawn, self.alpha)
            cost = bits * price(drawn).to(bits)
        elif priced:
            cost = jpeg2000.bits(lr)
        cost = cost.mean() / math.prod(lr.shape[2:]) if priced else None
        return Restored(self.networks["upscaler"](lr), lr, predicted, cost)


def build(run: runs.Run) -> nn.ModuleDict:
    """The run's networks, begun with the weights of the runs that it names; a resampler_from is frozen.

    Raises:
        ValueError: those weights are not there (`experiments.prepare` trains them), or do not fit.
    """
    networks = nn.ModuleDict({role: models.create(**spec) for role, spec in run.networks().items()})
    for start, path in start_files(run).items():
        header = weights.load(networks["upscaler" if start == "warm_start" else "resampler"], path)
        if start != "warm_start":
            _check_same_resampler(run, start, header.get("networks", {}).get("resampler", {}))
    if run.resampler_from:
        networks["resampler"].requires_grad_(False)
    return networks


def check_starts(run: runs.Run):
    """Refuse what a run cannot start from, before anything is trained for nothing: files, resamplers of other kinds.

    Raises:
        ValueError: so, in one line.
    """
    for start, other in run.starts.items():
        if runs.is_weights_file(other):
            if not Path(other).is_file():
                raise ValueError(
                    f"{start}={other!r} is not there: name a weights file, or a run of `carlib experiments`"
                )
            _check_file(run, start, other)
        elif start == "warm_start":
            _check_same_upscaler(run, other, runs.get(other, run.profile).networks()["upscaler"])
        else:
            theirs = runs.get(other, run.profile).networks().get("resampler")
            if theirs is None:
                raise ValueError(f"{start}={other!r} names a run without a resampler: name one with downscaler=car")
            _check_same_resampler(run, start, models.specification(**theirs))


def start_files(run: runs.Run) -> dict[str, Path]:
    """Parameter of runs.STARTS that the run sets -> the weights file it stands for."""
    return {
        start: Path(other)
        if runs.is_weights_file(other)
        else results.folder(run.profile, "runs", other, "weights.safetensors")
        for start, other in run.starts.items()
    }


def _check_file(run, start, path):
    """By the header of a file of ours; of another's the keys of its weights will tell."""
    held = weights.header(path).get("networks")
    if held is None:
        return
    role = "upscaler" if start == "warm_start" else "resampler"
    if not isinstance(held, dict) or not isinstance(held.get(role), dict):
        raise ValueError(f"{start}={path!r} holds no {role}: name another file")
    try:
        theirs = models.specification(**held[role])
    except TypeError as error:
        raise ValueError(f"{start}={path!r} does not say how to build its {role}: {error}") from error
    if role == "upscaler":
        _check_same_upscaler(run, path, theirs)
    else:
        _check_same_resampler(run, start, theirs)


def _check_same_upscaler(run, start, theirs):
    """Of the same kind and numbers, but for the scale, where their weights fit all the same."""
    ours, theirs = (models.specification(**spec) for spec in (run.networks()["upscaler"], theirs))
    both = (ours.keys() & theirs.keys()) - {"scale", "size"}  # a number that one does not have yet is its default
    differing = sorted(key for key in both if ours[key] != theirs[key])
    if not differing and ours["scale"] != theirs["scale"] and _shapes(ours) != _shapes(theirs):
        differing = ["scale"]
    if differing:
        told = ", ".join(f"{key}={theirs[key]!r}, not {ours[key]!r}" for key in differing)
        raise ValueError(f"{run.name} cannot take the upscaler of warm_start={start!r}, which has {told}")


def _shapes(spec) -> dict:
    with torch.device("meta"):  # no numbers
        return {key: value.shape for key, value in models.create(**spec).state_dict().items()}


def _check_same_resampler(run, start, theirs):
    """Weights may fit a resampler that reads them otherwise (another weighting, another border)."""
    ours = models.specification(**run.networks()["resampler"])
    theirs = ours | runs.defaults() | theirs if theirs else ours  # what they do not name yet was the default
    ours, theirs = (spec | {"kernel_size": spec["kernel_size"] or 3 * run.scale + 1} for spec in (ours, theirs))
    differing = sorted(key for key in ours if theirs[key] != ours[key] and key not in _BEFORE_TRAINING)
    if differing:
        told = ", ".join(f"{key}={theirs[key]!r}, not {ours[key]!r}" for key in differing)
        raise ValueError(f"{run.name} cannot take the resampler of {getattr(run, start)}, which has {told}")
