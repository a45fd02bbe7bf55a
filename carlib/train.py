"""Training: one loop for a learned downscaler with any upscaler, and for an upscaler on a classical downscaler's LR.

A step is a function of (seed, step) and the weights: crops and flips are drawn from a generator seeded with both (IRN's
z from PyTorch's own, whose state a checkpoint keeps; of several processes each seeds its own at every step). So a run
that was stopped anywhere continues from its last checkpoint to the same bits, on the same machine and thread count.
"""

import contextlib
import math
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from carlib import (
    checkpoint,
    devices,
    losses,
    metrics,
    models,
    overview,
    provenance,
    rescale,
    results,
    runs,
    stopping,
    training_folder,
    weights,
)
from carlib.ops.quantize import quantize
from carlib.patches import Patches, to_batch, validation_images
from carlib.training_folder import LOG_COLUMNS


class Diverged(ValueError):
    """A training has left the numbers: `run` is its name, `told` what was no number, and when."""

    def __init__(self, run: runs.Run, told: str):
        super().__init__(f"{run.name}: {told}: lower lr={run.lr} or set clip")
        self.run, self.told = run.name, told


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


def train(
    run: runs.Run,
    folder,
    *,
    restart=False,
    renew=False,
    history=False,
    device="auto",
    progress=True,
    on_validation=None,
) -> Path:
    """Train `run` in `folder`, continuing from its last checkpoint if there is one.

    Files: weights.safetensors (best validation PSNR so far, half precision), last.ckpt (all that continuing needs),
    log.csv. Each appears atomically. A second process that is to train in the same folder waits for the first.
    Processes that torchrun or srun started share each batch, and train as one process would (but IRN, of
    whose z each draws its share); the first writes.

    Args:
        restart:       begin anew; the checkpoint in `folder` is replaced at once, the weights at the first validation.
        renew:         begin anew if parameters, code, images or the start's weights are others than the checkpoint's
                       (what a pipeline wants), else continue.
        history:       also keep the weights of every validation, as steps/<step>.safetensors.
        device:        "auto", "cpu", "cuda", ... (Lightning Fabric's accelerator).
        on_validation: called with the log (list of dicts with LOG_COLUMNS) after every validation.
    Returns:
        the path of weights.safetensors.
    Raises:
        ValueError: nothing to train, a set is missing, the folder holds other parameters or cannot be written to, the
            batch cannot be shared out, or the loss or the validation is no number (Diverged).
        stopping.Stopped: SIGTERM came. The checkpoint is of the step during which it came.
    """
    if not run.trains or not run.steps:
        raise ValueError(f"run {run.name} under profile {run.profile} has nothing to train")
    folder = Path(folder)
    if not restart and (log := _ended(run, folder)):
        if on_validation and not (folder / "curve.png").is_file():
            on_validation(log)  # killed before the last drawing
        return training_folder.finished(folder)

    fabric, commit = devices.fabric(run, device), provenance.commit()
    header = partial(metadata, run, commit=commit, precision=devices.precision(run, device))
    with devices.determinism(run.deterministic), stopping.on_sigterm() as told:
        torch.manual_seed(run.seed)
        loop = Loop(run, fabric, told)
        recipe = _recipe(run)
        fabric.barrier()  # nobody reads the folder while another process of this run writes there already
        read = checkpoint.stamp(folder)
        state = None if restart else _resume(recipe, folder, loop, renew)
        fabric.barrier()
        if state and state["step"] >= run.steps:
            return training_folder.finished(folder)

        loop.load_images()
        with training_folder.alone(folder, told) if fabric.is_global_zero else contextlib.nullcontext():
            if fabric.broadcast(checkpoint.stamp(folder) != read) and not restart:  # another process trained here
                torch.manual_seed(run.seed)
                loop.make_networks()
                state = _resume(recipe, folder, loop, renew)
            if fabric.broadcast(state and state["step"]) != (state and state["step"]):
                raise ValueError(f"{folder}: processes of {run.name} read different checkpoints: is the disk shared?")
            fabric.barrier()
            loop.begin(state)
            record = training_folder.Record(loop, folder, recipe, header, history)
            if state is None:
                record.begin()
            with _bar(run, loop.step, progress and fabric.is_global_zero) as bar:
                while loop.step < run.steps:
                    row = loop.block(bar)
                    if row is None:
                        record.keep()
                    else:
                        best = record.validated(row)
                        bar.set_postfix(loss=f"{row['loss']:.4f}", psnr=f"{row['psnr']:.2f}", best=f"{best:.2f}")
                        if on_validation and fabric.is_global_zero:
                            on_validation(loop.log)
                    if row is None or (loop.step < run.steps and loop.stops()):
                        raise stopping.Stopped(f"{run.name}: stopped by SIGTERM after step {loop.step} of {run.steps}")
            fabric.barrier()  # the others return when the files are there
    return training_folder.finished(folder)


class Loop:
    """The training loop of one process. With several each trains on its share of every batch.

    step: updates done. log: rows of LOG_COLUMNS so far. sums, seconds: of the block since the last validation, so that
    a run which stops within it logs the same means as one that does not.
    """

    def __init__(self, run, fabric, told=lambda: False):
        self.run, self.fabric, self.told = run, fabric, told
        self.make_networks()

    def make_networks(self):
        """The networks as the run begins, and their optimizer."""
        run, fabric = self.run, self.fabric
        rescaler = Rescaler(build_networks(run), run.alpha).to(memory_format=torch.channels_last)
        fused = fabric.device.type == "cuda"
        optimizer = torch.optim.Adam(_groups(run, rescaler.networks), betas=(0.9, 0.999), eps=run.adam_eps, fused=fused)
        self.networks = rescaler.networks
        self.rescaler, self.optimizer = fabric.setup(torch.compile(rescaler) if run.compile else rescaler, optimizer)

    def load_images(self):
        """Read the training and validation images."""
        run, fabric = self.run, self.fabric
        self.patches, self.validation = Patches(run, fabric.global_rank, fabric.world_size), validation_images(run)
        if self.patches.dropped and fabric.is_global_zero:
            told = f"{self.patches.dropped} images are smaller than patch={self.patches.size}, left out"
            print(f"{run.name}: {told}", file=sys.stderr)

    def begin(self, state):
        """Begin at the state of a checkpoint (which `checkpoint.restore` has put into the networks), or anew: None."""
        state = state or {"log": [], "step": 0}
        self.log, self.step = state["log"], state["step"]
        self.sums, self.seconds = state.get("sums", {}), state.get("seconds", 0.0)
        self.batches = self.patches.ahead(range(self.step, self.run.steps), workers=devices.workers(self.fabric))

    def block(self, bar) -> dict | None:
        """Train up to the next validation and validate: its row of the log; None if SIGTERM came within the block."""
        run, began = self.run, time.perf_counter()
        first = self.step - self.step % run.validate_every
        last = min(first + run.validate_every, run.steps)
        psnrs = [row["psnr"] for row in self.log]
        self.rescaler.train()
        while self.step < last:
            terms, rate = self._update(self.step, psnrs)
            self.sums = {name: self.sums.get(name, 0) + value for name, value in terms.items()}
            self.step += 1
            bar.update()
            if self.step % 50 == 0 and not torch.isfinite(self._of_all()["loss"]):
                break
            if self.step < last and self.stops():
                self.sums, self.seconds = self._of_all(), self.seconds + time.perf_counter() - began
                return None
        means = {name: float(value) / (last - first) for name, value in self._of_all().items()}
        if not math.isfinite(means["loss"]):
            raise Diverged(run, f"the loss is no longer a number near step {self.step - 1}")
        row = means | {"lr": rate, "patch_psnr": -10 * math.log10(max(means["mse"], 1e-12)), "step": self.step}
        row |= self.fabric.broadcast(self._validate() if self.fabric.is_global_zero else None)
        if math.isnan(row["psnr"]):
            raise Diverged(run, f"the validation is no number at step {self.step}")
        before = self.log[-1]["seconds"] if self.log else 0
        row["seconds"] = before + self.seconds + time.perf_counter() - began
        self.sums, self.seconds = {}, 0.0
        self.log.append({column: row.get(column, math.nan) for column in LOG_COLUMNS})
        return row

    def _validate(self):
        rescaler = Rescaler(self.networks, self.run.alpha)
        return {"psnr": validate(rescaler, self.validation, self.run.scale)} | behaviour(rescaler, self.validation)

    def _update(self, step, psnrs):
        """One update: the terms of its loss, and the learning rate."""
        run, parts = self.run, self.run.accumulate
        if self.fabric.world_size > 1:  # a checkpoint keeps the generator of the first only
            torch.manual_seed(seed_of(run, step, self.fabric.global_rank))
        for group in self.optimizer.param_groups:
            group["lr"] = (rate := learning_rate(run, step, psnrs)) * group["share"]
        hr, lr = (None if t is None else self.fabric.to_device(t) for t in next(self.batches))
        self.optimizer.zero_grad(set_to_none=True)
        found = []
        for part in range(parts):
            chosen = slice(part * len(hr) // parts, (part + 1) * len(hr) // parts)
            with self.fabric.no_backward_sync(self.rescaler, enabled=part < parts - 1):
                found.append(self._gradients(hr[chosen], None if lr is None else lr[chosen]))
        if run.clip:
            self.fabric.clip_gradients(self.rescaler, self.optimizer, max_norm=run.clip)
        self.optimizer.step()
        return {name: sum(terms[name] for terms in found) / parts for name in found[0]}, rate

    def _gradients(self, hr, lr):
        run = self.run
        sr, _, predicted = self.rescaler(hr, None if run.learns_downscaling else lr)
        total, terms = _objective(run, sr, hr, lr, predicted)
        self.fabric.backward(total / run.accumulate)
        return terms | {"loss": total.detach(), "mse": (sr.detach().clamp(0, 1) - hr).square().mean()}

    def stops(self):
        """Whether to stop, which all processes must do at the same step."""
        if self.fabric.world_size == 1:
            return self.told()
        told = torch.tensor(float(self.told()), device=self.fabric.device)
        return bool(self.fabric.all_reduce(told, reduce_op="sum"))

    def _of_all(self):
        """`sums`, of several processes their mean."""
        if self.fabric.world_size == 1:
            return self.sums
        return {name: self.fabric.all_reduce(value, reduce_op="mean") for name, value in self.sums.items()}


def seed_of(run: runs.Run, step: int, rank: int) -> int:
    """What process `rank` of several seeds PyTorch's generator with at a step."""
    return int(np.random.SeedSequence([run.seed, step, rank]).generate_state(1, np.uint64)[0])


def build_networks(run: runs.Run) -> nn.ModuleDict:
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


def _groups(run, networks):
    """Adam's parameter groups, each with the "share" of the learning rate that it gets."""
    groups = []
    for role, network in networks.items():
        share = run.resampler_lr / run.lr if role == "resampler" and run.resampler_lr is not None else 1.0
        trainable = [p for p in network.parameters() if p.requires_grad]
        if trainable:
            groups.append({"params": trainable, "lr": run.lr * share, "share": share})
    return groups


def start_of(run: runs.Run) -> Path | None:
    """The weights file that the run's upscaler starts from; `experiments.prepare` trains it."""
    return run.warm_start and results.folder(run.profile, "runs", run.warm_start, "weights.safetensors")


def frozen_from(run: runs.Run) -> Path | None:
    """The weights file that the run's frozen resampler comes from; `experiments.prepare` trains it."""
    return run.resampler_from and results.folder(run.profile, "runs", run.resampler_from, "weights.safetensors")


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


@torch.inference_mode()
def validate(rescaler: Rescaler, pairs, scale) -> float:
    """Mean RGB PSNR in dB, float32 (the paper selects its model by the same on 10 DIV2K images); NaN once diverged."""
    rescaler.eval()
    device = next(rescaler.parameters()).device
    values = []
    for hr, lr in pairs:
        low = None if lr is None else to_batch(lr[None]).to(device)
        sr, _, _ = rescaler(to_batch(hr[None]).to(device), low)
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


def metadata(run: runs.Run, step: int, psnr: float, commit: str, precision: str) -> dict:
    """What the header of a weights file says; `commit` and `precision` are those the training began with."""
    return {
        "run": run.name,
        "profile": run.profile,
        "commit": commit,
        "data": run.train_sets,
        "steps": step,
        "seed": run.seed,
        "validation": {"set": run.validation_set, "psnr_rgb": round(psnr, 4)},
        "networks": {role: models.specification(**network) for role, network in run.networks().items()},
        "parameters": {**runs.as_dict(run), "precision": precision},
    }


def _objective(run, sr, hr, guide, predicted):
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
    return losses.objective(sr, hr, *predicted, run.scale, loss=run.loss, readings=readings, **weighing)


def _ended(run, folder) -> list | None:
    """The log of a run that is at its end, by this very recipe; None of any other, or with several processes.

    Asked first: a table asks for each of its runs, and to load Fabric and make networks takes seconds.
    """
    if devices.processes() != (1, 1) or overview.logged(folder / "log.csv")[0] < run.steps:
        return None
    state = checkpoint.read(folder)
    if state is None or state["step"] < run.steps:
        return None
    if any(path and not path.is_file() for path in (start_of(run), frozen_from(run))):
        return None  # refused where it is loaded
    return None if checkpoint.changes(state["recipe"], _recipe(run)) else state["log"]


def _recipe(run) -> dict:
    return checkpoint.recipe(run, start_of(run), frozen_from(run))


def _resume(recipe, folder, loop, renew):
    """The state to continue from, put into place; None to begin."""
    state = checkpoint.read(folder)
    if state is None:
        return None
    changed = checkpoint.changes(state["recipe"], recipe)
    if changed and renew:
        print(f"{folder.name}: {'; '.join(changed.values())}: training anew", file=sys.stderr)
        return None
    if "parameters" in changed:
        raise ValueError(
            f"{folder} holds a run with other parameters ({changed['parameters']}): use --restart or another --out"
        )
    if changed:
        print(f"{folder.name}: {'; '.join(changed.values())}: continuing all the same, see --renew", file=sys.stderr)
    checkpoint.restore(state, loop.networks, loop.optimizer)
    return state


def _bar(run, step, progress):
    from tqdm import tqdm

    return tqdm(total=run.steps, initial=step, desc=f"{run.name} ({run.profile})", unit="step", disable=not progress)
