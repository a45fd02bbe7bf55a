"""Training of a run in a folder: for a learned downscaler with any upscaler, and an upscaler on a classical one's LR.

A run that was stopped anywhere continues from its last checkpoint to the same bits, on the same machine and thread
count (see carlib/training/loop.py).
"""

import contextlib
import sys
from functools import partial
from pathlib import Path

import torch

from carlib import data, devices, models, overview, provenance, results, run_networks, runs, stopping
from carlib.training import checkpoint, run_folder
from carlib.training.loop import Loop


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

    Files: weights.safetensors (best validation PSNR so far, of a run with bit_price the last; half precision),
    last.ckpt (all that continuing needs), log.csv. Each appears atomically. A second process that is to train in the
    same folder waits for the first. Processes that torchrun or srun started share each batch, and train as one would
    (but where each draws its share: IRN's z, the qualities of `jpeg`); the first writes.

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
            batch cannot be shared out, or the loss or the validation is no number (loop.Diverged).
        stopping.Stopped: SIGTERM, SIGHUP or Ctrl-C came. The checkpoint is of the step during which it came.
    """
    _check_trains(run)
    folder = Path(folder)
    if not restart and (log := ended(run, folder)):
        if history and not (folder / "steps").is_dir():
            raise ValueError(f"{folder} is finished and kept no weights on the way: --history needs --restart")
        if on_validation and not (folder / "curve.png").is_file():
            on_validation(log)  # killed before the last drawing
        return run_folder.finished(folder)

    fabric, commit = devices.fabric(run, device), provenance.commit()
    computed = {"device": devices.name(fabric.device), "precision": devices.precision(run, device)}
    header = partial(metadata, run, commit=commit, **computed)
    with devices.determinism(run.deterministic), stopping.on_sigterm() as told:
        torch.manual_seed(run.seed)
        loop = Loop(run, fabric, told)
        recipe = checkpoint.recipe(run)
        fabric.barrier()  # nobody reads the folder while another process of this run writes there already
        read = checkpoint.stamp(folder)
        state = None if restart else _resume(recipe, folder, loop, renew)
        fabric.barrier()
        if state and state["step"] >= run.steps:
            return run_folder.finished(folder)

        loop.load_images()
        with run_folder.alone(folder, told) if fabric.is_global_zero else contextlib.nullcontext():
            if fabric.broadcast(checkpoint.stamp(folder) != read) and not restart:  # another process trained here
                torch.manual_seed(run.seed)
                loop.make_networks()
                state = _resume(recipe, folder, loop, renew)
            if fabric.broadcast(state and state["step"]) != (state and state["step"]):
                raise ValueError(f"{folder}: processes of {run.name} read different checkpoints: is the disk shared?")
            fabric.barrier()
            loop.begin(state)
            record = run_folder.Record(loop, folder, recipe, header, history)
            if state is None:
                record.begin()
            _to_the_end(loop, record, progress, on_validation)
            fabric.barrier()  # the others return when the files are there
    return run_folder.finished(folder)


def _to_the_end(loop, record, progress, on_validation):
    """Train block by block; each ends in a validation, which leaves what the folder is to hold.

    Raises:
        stopping.Stopped: a signal came; the checkpoint is of this step.
    """
    run, first, told = loop.run, loop.fabric.is_global_zero, loop.told
    bar = _bar(run, loop.step, progress and first)
    with bar, stopping.on_ctrl_c(told, bar):
        while loop.step < run.steps:
            row = loop.block(bar)
            if row is None:
                record.keep()
            else:
                best = record.validated(row)
                bar.set_postfix(loss=f"{row['loss']:.4f}", psnr=f"{row['psnr']:.2f}", best=f"{best:.2f}")
                if on_validation and first:
                    on_validation(loop.log)
            if row is None or (loop.step < run.steps and loop.stops()):
                after = f"after step {loop.step} of {run.steps}"
                raise stopping.Stopped(f"{run.name}: stopped by {told.by} {after}", told.number)


def check(run: runs.Run, folder):
    """Refuse, before what it begins with is trained for nothing, what `train` would refuse after that.

    Raises:
        ValueError: nothing to train, an image set is missing, the batch cannot be shared out, or the folder cannot be
            written to.
    """
    _check_trains(run)
    here, nodes = devices.processes()
    devices.check_shares(run, here * nodes)
    for name in dict.fromkeys([*run.train_sets, run.validation_set]):
        data.find(name)
    results.check_writable(Path(folder) / "last.ckpt")


def _check_trains(run):
    if not run.trains or not run.steps:
        when = ": it trains on each image when it is measured, call `carlib evaluate`" if run.image_steps else ""
        raise ValueError(f"run {run.name} under profile {run.profile} has nothing to train{when}")


def metadata(run: runs.Run, step: int, psnr: float, commit: str, device: str, precision: str) -> dict:
    """What the header of a weights file says; commit, device and precision are of the process that wrote it."""
    return {
        "run": run.name,
        "profile": run.profile,
        "commit": commit,
        "device": device,
        "data": run.train_sets,
        "steps": step,
        "seed": run.seed,
        "validation": {"set": run.validation_set, "psnr_rgb": round(psnr, 4)},
        "networks": {role: models.specification(**network) for role, network in run.networks().items()},
        "parameters": {**runs.as_dict(run), "precision": precision},
    }


def ended(run, folder) -> list | None:
    """The log of a run that is at its end, by this very recipe; None of any other, or with several processes.

    Asked first: a table asks for each of its runs, and to load Fabric and make networks takes seconds.
    """
    if devices.processes() != (1, 1) or overview.logged(folder / "log.csv")[0] < run.steps:
        return None
    state = checkpoint.read(folder)
    if state is None or state["step"] < run.steps:
        return None
    if not all(path.is_file() for path in run_networks.start_files(run).values()):
        return None  # refused where it is loaded
    return None if checkpoint.changes(state["recipe"], checkpoint.recipe(run)) else state["log"]


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
            f"{folder} holds a run with other parameters ({changed['parameters']}): use --renew, or another --out"
        )
    if changed:
        ended = "it is finished, and stays as it is" if state["step"] >= loop.run.steps else "continuing all the same"
        print(f"{folder.name}: {'; '.join(changed.values())}: {ended}, see --renew", file=sys.stderr)
    checkpoint.restore(state, loop.networks, loop.optimizer)
    return state


def _bar(run, step, progress):
    from tqdm import tqdm

    return tqdm(total=run.steps, initial=step, desc=f"{run.name} ({run.profile})", unit="step", disable=not progress)
