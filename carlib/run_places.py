"""The folder that a run is trained in: its own, one aside for other settings, and weights that were brought there."""

import dataclasses
import hashlib
import json
import shlex
import sys
from pathlib import Path

from carlib import overview, results, runs


def own_folder(run) -> Path:
    """results/<profile>/runs/<run>; of a run with other settings than params.yaml's <run>-with-<their digest>.

    What tables show is in the former: a single training with `-p` must not take its place, nor be renewed with it.
    """
    declared, own = (json.loads(json.dumps(_placed(each))) for each in (_declared(run), run))
    if not (other := {key: value for key, value in own.items() if value != declared[key]}):
        return results.folder(run.profile, "runs", run.name)
    digest = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()[:8]
    return results.folder(run.profile, "runs", f"{run.name}-with-{digest}")


def _declared(run):
    """A run as params.yaml has it; itself, less its name, where that is incomplete without what `-p` gives."""
    try:
        return runs.get(run.name, run.profile)
    except ValueError:
        return dataclasses.replace(run, name="")


def _placed(run) -> dict:
    """A run as a dict, in which folders and weights files are told by where they are, whatever the working folder."""
    from carlib import data

    def placed(name):
        folder = data.own_folder(name)
        return name if folder is None else str(folder.resolve())

    files = {start: str(Path(other).resolve()) for start, other in run.starts.items() if runs.is_weights_file(other)}
    sets = {"train_sets": [placed(name) for name in run.train_sets], "validation_set": placed(run.validation_set)}
    return runs.as_dict(run) | files | sets


def tell_of_own(run, folder):
    """Say on stderr where a run with settings of its own is trained, and how it can be measured."""
    from carlib import devices, evaluate

    if not devices.is_first():
        return
    told, path = f"{run.name} with settings of its own: in {folder}", shlex.quote(str(folder / "weights.safetensors"))
    declared = _declared(run)
    if all(getattr(run, key) == getattr(declared, key) for key in evaluate.SYSTEM):  # others are no such run
        told += f"; `carlib evaluate {run.name} --profile {run.profile} --weights {path}` measures it"
    print(told, file=sys.stderr)


def brought(run, folder, renew, history) -> Path | None:
    """Weights without a checkpoint, copied here from where they were trained, say; None: there are none.

    Raises:
        ValueError: they are of another recipe or half-trained, and that is no reason to renew; `history` is wanted.
    """
    if not overview.is_brought(folder):
        return None
    path, step = folder / "weights.safetensors", overview.logged(folder / "log.csv")[0]
    half = "" if overview.is_whole(folder, run) else f"half-trained, {step} of {run.steps} steps"
    told = half or overview.other_recipe(path, run)
    if told and renew:
        print(f"{path}: {told}: training anew", file=sys.stderr)
        return None
    if told:
        raise ValueError(f"{path}: {told}, and no checkpoint beside: use --renew, or another --out")
    if history:
        raise ValueError(f"{folder} holds weights without a checkpoint, none of the way: --history needs --restart")
    unsure = "" if (folder / "log.csv").is_file() else ", and no log.csv to tell whether training had ended"
    print(f"{path}: of this very recipe, no checkpoint beside{unsure}: taken as it is", file=sys.stderr)
    return path
