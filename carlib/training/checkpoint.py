"""A training run's checkpoint: all that continuing needs, and the recipe that tells whether continuing is right."""

import io
import json
import random
from pathlib import Path

import numpy as np
import torch

from carlib import data, models, provenance, results, run_networks, runs, sources

_WHOLE = ("networks", "code", "data", *runs.STARTS)  # parts of a recipe that are compared as a whole
_TRAINING = (
    "train.py", "training/loop.py", "training/run_folder.py", "training/schedule.py", "training/objective.py",
    "training/validation.py", "training/patches.py", "run_networks.py", "method_networks.py", "losses.py", "metrics.py",
    "data/images.py",
)  # fmt: skip
_PARTS = {"recipe", "step", "log", "networks", "optimizer", "rng"}


def recipe(run: runs.Run) -> dict:
    """What decides the result of a run: parameters, code, images (names and sizes), the weights it starts from."""
    return {
        "parameters": json.loads(json.dumps(runs.as_dict(run))),
        "networks": {role: models.specification(**network) for role, network in run.networks().items()},
        "code": code_digest(run),
        "data": {name: data.held(name) for name in [*run.train_sets, run.validation_set]},
        **dict.fromkeys(runs.STARTS),
        **{start: provenance.sha256(path) for start, path in run_networks.start_files(run).items()},
    }


def code_digest(run: runs.Run) -> str:
    """SHA-256 of the code that decides a run's weights: training loop, losses, crops, networks, operators."""
    return sources.digest_of_run(_TRAINING, run)


def changes(before: dict, now: dict) -> dict[str, str]:
    """Part of the recipe -> what changed in it, in words; {} if nothing did.

    A parameter that one of them does not have yet counts as its default, which is what the code did before it had it.
    """
    before, now = _with_defaults(before, now), _with_defaults(now, before)
    found = {part: f"the {part} changed" for part in _WHOLE if before.get(part) != now.get(part)}
    old, new = before["parameters"], now["parameters"]
    if changed := [f"{key} {old.get(key)!r} -> {new.get(key)!r}" for key in old | new if old.get(key) != new.get(key)]:
        found["parameters"] = ", ".join(changed)
    return found


def _with_defaults(recipe, other):
    """`recipe` with the default of every parameter, and of every network's option, that only `other` has."""
    defaults = runs.defaults()

    def filled(values, others):
        return {key: defaults[key] for key in others if key in defaults} | values

    networks = recipe.get("networks", {})
    theirs = other.get("networks", {})
    return recipe | {
        "parameters": filled(recipe["parameters"], other["parameters"]),
        "networks": {role: filled(network, theirs.get(role, {})) for role, network in networks.items()},
    }


def write(folder: Path, recipe: dict, networks, optimizer, step: int, log: list[dict], block: dict):
    """Write last.ckpt atomically. block: what the steps since the last validation are to add to the log.

    Raises:
        ValueError: the folder cannot be written to, or the disk is full.
    """
    state = {
        "recipe": json.dumps(recipe, sort_keys=True),
        "step": step,
        "log": log,
        "networks": networks.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": _rng_state(),
        **block,
    }
    buffer = io.BytesIO()  # a full disk makes torch.save raise a RuntimeError, writing a buffer an OSError
    torch.save(state, buffer)
    results.write_bytes(folder / "last.ckpt", buffer.getbuffer())


def stamp(folder: Path) -> int | None:
    """Another number for every last.ckpt that is written; None if there is none."""
    path = folder / "last.ckpt"
    return path.stat().st_mtime_ns if path.is_file() else None


def read(folder: Path) -> dict | None:
    """The state in last.ckpt, its "recipe" a dict; None if there is none.

    Raises:
        ValueError: the file is damaged, or no checkpoint of ours.
    """
    path = folder / "last.ckpt"
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read ({reason}): begin anew with --restart") from error
    if not isinstance(state, dict) or not state.keys() >= _PARTS:
        raise ValueError(f"{path} is no checkpoint of `carlib train`: use --restart or another --out")
    return state | {"recipe": json.loads(state["recipe"])}


def restore(state: dict, networks, optimizer):
    """Put a state that was read into the networks, the optimizer and every random generator.

    Raises:
        ValueError: it is of other networks.
    """
    try:
        networks.load_state_dict(state["networks"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise ValueError("the checkpoint is of other networks: begin anew with --restart or --renew") from error
    rng = state["rng"]
    torch.set_rng_state(rng["torch"])
    version, words, gauss = rng["python"]
    random.setstate((version, tuple(torch.as_tensor(words).tolist()), gauss))
    name, keys, *rest = rng["numpy"]
    np.random.set_state((name, torch.as_tensor(keys).numpy().astype(np.uint32), *rest))
    if "cuda" in rng and torch.cuda.is_initialized():  # of the GPU that trained, whatever others there were
        torch.cuda.set_rng_state(rng["cuda"][0])


def _rng_state() -> dict:
    """Every generator's state, as tensors and plain numbers (readable with weights_only=True; numbers are slow)."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "python": [version, torch.tensor(words), gauss],
        "numpy": [name, torch.tensor(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
    }
    if torch.cuda.is_initialized():
        state["cuda"] = [torch.cuda.get_rng_state()]
    return state
