"""Training: one loop for a learned downscaler with any upscaler, and for an upscaler on a classical downscaler's LR.

A step is a function of (seed, step) and the weights: crops and flips are drawn from a generator seeded with both (IRN's
z from PyTorch's own, whose state a checkpoint keeps). So a run that was stopped anywhere continues from its last
checkpoint to the same bits, on the same machine and thread count.
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

from carlib import checkpoint, losses, metrics, models, provenance, rescale, results, runs, weights
from carlib.ops.quantize import quantize
from carlib.patches import Patches, to_batch, validation_images

LOG_COLUMNS = [
    "step", "loss", "restoration", "offset", "tv", "guidance", "distribution", "patch_psnr", "psnr", "adaptivity",
    "offset_length", "lr", "seconds",
]  # fmt: skip


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
        ValueError: nothing to train, a set is missing, the folder holds other parameters or cannot be written to, or
            the loss or the validation is no number.
    """
    if not run.trains or not run.steps:
        raise ValueError(f"run {run.name} under profile {run.profile} has nothing to train")
    folder, commit = Path(folder), _commit()
    fabric = _fabric(run, device)
    torch.manual_seed(run.seed)
    rescaler = Rescaler(build_networks(run), run.alpha).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(_groups(run, rescaler.networks), betas=(0.9, 0.999), eps=run.adam_eps)
    rescaler, optimizer = fabric.setup(rescaler, optimizer)
    recipe = checkpoint.recipe(run, start_of(run), frozen_from(run))
    state = None if restart else _resume(recipe, folder, rescaler, optimizer, renew)
    if state and state["step"] >= run.steps:
        if on_validation and not (folder / "curve.png").is_file():  # killed before the last drawing
            on_validation(state["log"])
        return _finished(folder)

    patches, validation = Patches(run), validation_images(run)
    if patches.dropped:
        print(f"{run.name}: {patches.dropped} images are smaller than patch={patches.size}, left out", file=sys.stderr)
    header = partial(metadata, run, commit=commit, precision=_precision(run, device))
    with _alone(folder) as waited:
        if waited and not restart:
            state = _resume(recipe, folder, rescaler, optimizer, renew)
        log, step = (state["log"], state["step"]) if state else ([], 0)
        _sweep(folder)

        def keep():
            write_log(log, folder / "log.csv")  # before the checkpoint: a finished run never lacks the end of its log
            checkpoint.write(folder, recipe, rescaler.module.networks, optimizer, step, log)

        if state is None:  # whether the folder can be written to shows now, and a killed restart stays a restart
            keep()
            for stale in folder.glob("steps/*.safetensors"):
                stale.unlink()
        best = max((row["psnr"] for row in log), default=-math.inf)
        with _bar(run, step, progress) as bar:
            while step < run.steps:
                block = min(run.validate_every - step % run.validate_every, run.steps - step)
                began = time.perf_counter()
                row = _train_block(run, fabric, rescaler, optimizer, patches, range(step, step + block), log, bar)
                step += block
                row |= {"step": step, "psnr": validate(rescaler.module, validation, run.scale)}
                row |= behaviour(rescaler.module, validation)
                if math.isnan(row["psnr"]):
                    raise ValueError(
                        f"{run.name}: the validation is no number at step {step}: lower lr={run.lr} or set clip"
                    )
                row["seconds"] = (log[-1]["seconds"] if log else 0) + time.perf_counter() - began
                log.append({column: row.get(column, math.nan) for column in LOG_COLUMNS})
                if row["psnr"] > best:
                    best = row["psnr"]
                    weights.save(rescaler.module.networks, folder / "weights.safetensors", header(step, best))
                if history:
                    kept = folder / "steps" / f"{step:06}.safetensors"
                    weights.save(rescaler.module.networks, kept, header(step, row["psnr"]))
                keep()
                bar.set_postfix(loss=f"{row['loss']:.4f}", psnr=f"{row['psnr']:.2f}", best=f"{best:.2f}")
                if on_validation:
                    on_validation(log)
    return _finished(folder)


@contextlib.contextmanager
def _alone(folder):
    """Hold the folder's lock, so that two runs with the same start train it once and neither disturbs the other.

    Yields whether another process held it before.
    """
    from filelock import FileLock, Timeout

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock, waited = FileLock(folder.parent / f".{folder.name}.lock"), False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            print(f"{folder}: another process trains here: waiting for it", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise ValueError(f"cannot write {folder}/: {error.strerror or error}") from error
    try:
        yield waited
    finally:
        lock.release()


def _finished(folder):
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise ValueError(f"{folder} holds a finished checkpoint but no weights.safetensors: train again with --restart")
    return path


def _sweep(folder):
    """Remove what a killed process left half-written."""
    for name in ("last.ckpt", "weights.safetensors", "log.csv", "curve.png"):
        stem, _, suffix = name.partition(".")
        for stale in folder.glob(f".{stem}.*.{suffix}"):  # see results.atomic
            stale.unlink()


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
    """Mean RGB PSNR in dB, float32 (the paper selects its model by the same on 10 DIV2K images)."""
    rescaler.eval()
    device = next(rescaler.parameters()).device
    values = []
    for hr, lr in pairs:
        low = None if lr is None else to_batch(lr[None]).to(device)
        sr, _, _ = rescaler(to_batch(hr[None]).to(device), low)
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


def _train_block(run, fabric, rescaler, optimizer, patches, steps, log, bar):
    """Train for `steps`; the means of loss and terms over them."""
    rescaler.train()
    sums, psnrs = {}, [row["psnr"] for row in log]
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = (rate := learning_rate(run, step, psnrs)) * group["share"]
        hr, lr = (None if t is None else fabric.to_device(t) for t in patches.batch(step))
        sr, _, predicted = rescaler(hr, None if run.learns_downscaling else lr)
        total, terms = _objective(run, sr, hr, lr, predicted)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(total)
        if run.clip:
            fabric.clip_gradients(rescaler, optimizer, max_norm=run.clip)
        optimizer.step()
        terms |= {"loss": total.detach(), "mse": (sr.detach().clamp(0, 1) - hr).square().mean()}
        sums = {name: sums.get(name, 0) + value for name, value in terms.items()}
        bar.update()
        if step % 50 == 49 and not torch.isfinite(sums["loss"]):
            break
    means = {name: float(value) / len(steps) for name, value in sums.items()}
    if not math.isfinite(means["loss"]):
        raise ValueError(f"{run.name}: the loss is no longer a number near step {step}: lower lr={run.lr} or set clip")
    return means | {"lr": rate, "patch_psnr": -10 * math.log10(max(means["mse"], 1e-12))}


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


def write_log(log, path):
    """The training log as CSV, atomically."""
    lines = [",".join(LOG_COLUMNS)]
    for row in log:  # a checkpoint from before a column was logged lacks it
        values = (f"{row.get(column, math.nan):.6g}" for column in LOG_COLUMNS[1:])
        lines.append(",".join([str(row["step"]), *values]))
    results.write_text(path, "\n".join(lines) + "\n")


def _resume(recipe, folder, rescaler, optimizer, renew):
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
    checkpoint.restore(state, rescaler.module.networks, optimizer)
    return state


def _fabric(run, device):
    from lightning_fabric import Fabric

    try:
        fabric = Fabric(accelerator=device, devices=1, precision=_precision(run, device))
    except Exception as error:
        raise ValueError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    fabric.launch()
    return fabric


def _precision(run, device):
    return auto_precision(device) if run.precision == "auto" else run.precision


def auto_precision(device="cpu") -> str:
    """What precision "auto" means: bfloat16 where the machine computes in it, else float32 (emulated, it is slow)."""
    if device != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if native else "32-true"


def _bar(run, step, progress):
    from tqdm import tqdm

    return tqdm(total=run.steps, initial=step, desc=f"{run.name} ({run.profile})", unit="step", disable=not progress)


def _commit() -> str:
    return provenance.git("describe", "--always", "--dirty", "--exclude=*") or "unknown"
