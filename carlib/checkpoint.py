"""A training run's checkpoint: all that continuing needs, and the recipe that tells whether continuing is right."""

import ast
import dataclasses
import functools
import hashlib
import io
import json
import random
from pathlib import Path

import numpy as np
import torch

from carlib import data, models, rescale, results, runs

_WHOLE = ("networks", "code", "data", "warm_start", "resampler_from")  # parts of a recipe that are compared as a whole
_PARTS = {"recipe", "step", "log", "networks", "optimizer", "rng"}


def recipe(run: runs.Run, start: Path | None, frozen: Path | None = None) -> dict:
    """What decides the result of a run: parameters, code, images (names and sizes), the weights it starts from.

    Args:
        start:  the weights file of run.warm_start, or None.
        frozen: that of run.resampler_from, or None.
    """
    sets = data.inventory()
    return {
        "parameters": json.loads(json.dumps(runs.as_dict(run))),
        "networks": {role: models.specification(**network) for role, network in run.networks().items()},
        "code": code_digest(run),
        "data": {name: sets.get(data.canonical(name)) for name in [*run.train_sets, run.validation_set]},
        "warm_start": _digest(start),
        "resampler_from": _digest(frozen),
    }


def _digest(path):
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def code_digest(run: runs.Run) -> str:
    """SHA-256 of the code that decides a run's result: training loop, losses, crops, downscaler, networks, operators.

    Comments, docstrings and layout do not count, nor does the version of Python.
    """
    package = Path(__file__).parent
    waiting = [package / name for name in ("train.py", "patches.py", "losses.py", "metrics.py", "data/images.py")]
    waiting += [package / models.file_of(spec["name"]) for spec in run.networks().values()]
    digest = hashlib.sha256()
    if run.classical is not None:
        waiting.append(package / rescale.file_of(run.classical))
        digest.update(f"{rescale.CLASSICAL[run.classical]}\n".encode())
    parsed = {}
    while waiting:
        path = waiting.pop()
        if path not in parsed:
            parsed[path] = _parsed(path, path.stat().st_mtime_ns)
            waiting += [package / name for name in parsed[path][0]]
    for path in sorted(parsed):
        digest.update(f"{path.relative_to(package)}\n{parsed[path][1]}\n".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _parsed(path, _modified):
    """A module's imports (see _imports) and its code as text; once a process, for runs share most modules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return _imports(tree), _dump(_without_docstrings(tree))


def _imports(tree):
    """Files of the operators, network and downscaler parts that a module imports, relative to the package."""
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    wanted = ("carlib.ops.", "carlib.models.", "carlib.downscalers.")
    return [f"{name.removeprefix('carlib.').replace('.', '/')}.py" for name in names if name.startswith(wanted)]


def _without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def _dump(node) -> str:
    """As ast.dump, without empty fields, of which each version of Python has others."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value is not None and value != []]
    return f"{type(node).__name__}({', '.join(fields)})"


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
    defaults = {f.name: f.default for f in dataclasses.fields(runs.Run) if f.default is not dataclasses.MISSING}

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
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = rng["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    if "cuda" in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(rng["cuda"])


def _rng_state() -> dict:
    """Every generator's state, as tensors and plain numbers (readable with weights_only=True)."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "python": [version, list(words), gauss],
        "numpy": [name, keys.tolist(), int(position), int(has_gauss), float(cached)],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state
