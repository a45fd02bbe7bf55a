"""The training loop of one process: updates, their loss summed up for the log, and validations.

A step is a function of (seed, step) and the weights: crops and flips are drawn from a generator seeded with both (IRN's
z from PyTorch's own, whose state a checkpoint keeps; of several processes each seeds its own at every step).
"""

import math
import sys
import time

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from carlib import data, devices, memory, run_networks, runs
from carlib.run_networks import Rescaler
from carlib.training import objective, schedule, validation
from carlib.training.patches import Patches, validation_images
from carlib.training.run_folder import LOG_COLUMNS

_ASKED = 10  # steps of several processes between two questions whether one of them was told to stop: each costs a wait


class Diverged(ValueError):
    """A training has left the numbers: `run` is its name, `told` what was no number, and when."""

    def __init__(self, run: runs.Run, told: str):
        super().__init__(f"{run.name}: {told}: lower lr={run.lr} or set clip")
        self.run, self.told = run.name, told


class Loop:
    """The training loop of one process. With several each trains on its share of every batch.

    step: updates done. log: rows of LOG_COLUMNS so far. sums, seconds: of the block since the last validation, so that
    a run which stops within it logs the same means as one that does not. average: of the weights, from those after the
    first update on; None where the run wants none (ema).
    """

    def __init__(self, run, fabric, told=lambda: False):
        self.run, self.fabric, self.told = run, fabric, told
        if fabric.device.type == "cpu":
            memory.keep_freed()
        self.make_networks()

    def make_networks(self):
        """The networks as the run begins, and their optimizer."""
        run, fabric = self.run, self.fabric
        rescaler = Rescaler(run_networks.build(run), run.alpha, run.jpeg, run.priced)
        rescaler = rescaler.to(memory_format=torch.channels_last)
        fused = fabric.device.type in ("cpu", "cuda")
        optimizer = torch.optim.Adam(_groups(run, rescaler.networks), betas=(0.9, 0.999), eps=run.adam_eps, fused=fused)
        self.networks = rescaler.networks
        self.rescaler, self.optimizer = fabric.setup(torch.compile(rescaler) if run.compile else rescaler, optimizer)
        follow = get_ema_multi_avg_fn(run.ema)
        self.average = AveragedModel(self.networks, multi_avg_fn=follow) if run.ema else None

    @property
    def kept(self):
        """The networks that are validated and whose weights are kept."""
        return self.average.module if self.average else self.networks

    def load_images(self):
        """Read the training and validation images."""
        run, fabric = self.run, self.fabric
        self.patches, self.validation = Patches(run, fabric.global_rank, fabric.world_size), validation_images(run)
        if self.patches.dropped and fabric.is_global_zero:
            count = "1 image is" if self.patches.dropped == 1 else f"{self.patches.dropped} images are"
            told = f"{count} smaller than patch={self.patches.size}, left out"
            print(f"{run.name}: {told}", file=sys.stderr)
        if fabric.is_global_zero and data.shared(run.validation_set, run.train_sets):
            told = f"{run.validation_set} validates, and is trained on: its PSNR says nothing about other images"
            print(f"{run.name}: {told}", file=sys.stderr)

    def begin(self, state):
        """Begin at the state of a checkpoint (which `checkpoint.restore` has put into the networks), or anew: None."""
        state = state or {"log": [], "step": 0}
        self.log, self.step = state["log"], state["step"]
        self.sums, self.seconds = state.get("sums", {}), state.get("seconds", 0.0)
        if "average" in state:
            self.average.load_state_dict(state["average"])
        self.batches = self.patches.ahead(range(self.step, self.run.steps), workers=devices.workers(self.fabric))

    def block(self, bar) -> dict | None:
        """Train up to the next validation and validate: its row of the log; None if told to stop within the block."""
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
        rescaler, pairs = Rescaler(self.kept, self.run.alpha, self.run.jpeg), self.validation
        return {"psnr": validation.validate(rescaler, pairs, self.run.scale)} | validation.behaviour(rescaler, pairs)

    def _update(self, step, psnrs):
        """One update: the terms of its loss, and the learning rate."""
        run, parts = self.run, self.run.accumulate
        if self.fabric.world_size > 1:  # a checkpoint keeps the generator of the first only
            torch.manual_seed(seed_of(run, step, self.fabric.global_rank))
        for group in self.optimizer.param_groups:
            group["lr"] = (rate := schedule.learning_rate(run, step, psnrs)) * group["share"]
        hr, lr = (None if t is None else self.fabric.to_device(t) for t in next(self.batches))
        self.optimizer.zero_grad(set_to_none=True)
        found = []
        for part in range(parts):
            chosen = slice(part * len(hr) // parts, (part + 1) * len(hr) // parts)
            with self.fabric.no_backward_sync(self.rescaler, enabled=part < parts - 1):
                found.append(self._gradients(step, hr[chosen], None if lr is None else lr[chosen]))
        if not schedule.trains_resampler(run, step):
            # Computed all the same: DDP waits for the gradient of every parameter. Adam leaves alone what has none.
            self.networks["resampler"].zero_grad(set_to_none=True)
        if run.clip:
            options = {"max_norm": run.clip, "error_if_nonfinite": False}  # `block` tells, and waits for no GPU
            self.fabric.clip_gradients(self.rescaler, self.optimizer, **options)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.networks)
        return {name: sum(terms[name] for terms in found) / parts for name in found[0]}, rate

    def _gradients(self, step, hr, lr):
        run = self.run
        made = self.rescaler(hr, None if run.learns_downscaling else lr)
        total, terms = objective.of_run(run, step, made, hr, lr)
        self.fabric.backward(total / run.accumulate)
        return terms | {"loss": total.detach(), "mse": (made.sr.detach().clamp(0, 1) - hr).square().mean()}

    def stops(self):
        """Whether to stop, which all processes must do at the same step: they ask each other now and then."""
        if self.fabric.world_size == 1:
            return self.told()
        if self.step % _ASKED:
            return False
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


def _groups(run, networks):
    """Adam's parameter groups, each with the "share" of the learning rate that it gets."""
    groups = []
    for role, network in networks.items():
        share = run.resampler_lr / run.lr if role == "resampler" and run.resampler_lr is not None else 1.0
        trainable = [p for p in network.parameters() if p.requires_grad]
        if trainable:
            groups.append({"params": trainable, "lr": run.lr * share, "share": share})
    return groups
