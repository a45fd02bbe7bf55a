"""What is declared and how far it is: one line per run, with the tables that show it, its state and what it cost."""

import sys
from pathlib import Path

from carlib import cells, jobs, results, runs

COLUMNS = ["run", "tables", "state", "steps", "seconds", "device", "kB", "note"]


def declared(profile: str | None = None) -> list[str]:
    """All runs that have something to train: those of params.yaml, and their seeds that are wanted.

    A "-start" that no run of the profile begins with is left out; where nothing is trained, all are.
    """
    trains = runs.profile(profile)["train"] is not None
    wanted = list(dict.fromkeys([*runs.names(), *cells.tables_of(profile), *cells.in_no_table(profile)]))
    needed = {other for name in wanted for other in runs.get(name, profile).needs if trains}
    wanted = [name for name in wanted if not name.endswith("-start") or name in needed]
    return [name for name in wanted if runs.get(name, profile).trains]


def table(profile: str | None = None):
    """DataFrame with COLUMNS.

    state: "shipped" (under profile demo, or where nothing was trained and those that are shipped are of this recipe),
        "trained", "training" with the step of the last validation, or "missing"; of a run that is a job of a cluster
        "queued", "running" or "failed", with the step as well.
    steps: of the training that is wanted. seconds: of training, measured; NaN where nothing tells. device: that
        wrote the weights, as they tell; "" where they do not (before they did, all were trained on CPUs).
    kB: of the weights.
    note: what else is to know, such as weights that were made by another recipe than params.yaml has now.
    """
    import pandas as pd

    shown = cells.tables_of(profile)
    names = declared(profile)
    chosen = runs.profile(profile)["name"]
    told = _jobs(names, chosen)
    lines = [_with_job(line(name, profile, shown.get(name, ())), told.get(name), chosen) for name in names]
    return pd.DataFrame(lines, columns=COLUMNS)


def _jobs(names, profile) -> dict:
    """Run -> its last job; where Slurm does not tell, all are "submitted"."""
    try:
        return jobs.explained(jobs.states(names, profile), profile)
    except ValueError as error:
        return {name: jobs.Job("submitted", str(error), None) for name in names if jobs.is_one(name, profile)}


def _with_job(found: dict, job, profile) -> dict:
    """A line of `table`, and what the job says that trains the run."""
    if job is None or job.state == "trained" or (found["state"] == "trained" and not found["note"]):
        return found
    if job.state == "failed" and jobs.is_outdated(found["run"], profile):
        return found
    _, comma, step = found["state"].partition(",")
    return found | {"state": f"{'failed' if job.state == 'gone' else job.state}{comma}{step}", "note": job.note}


def as_text(frame) -> str:
    """The table for a terminal, perhaps with what `step_cost.projected` adds, and a line that sums it up."""
    shown = frame.assign(
        seconds=["-" if value != value else f"{value:.0f}" for value in frame.seconds],
        kB=["-" if value != value else f"{value:.0f}" for value in frame.kB],
    )
    for column in frame.columns.intersection(["PFLOP", "hours"]):
        shown[column] = [f"{value:.3g}" for value in frame[column]]
    for column in ("run", "tables", "state", "device", "note"):
        texts = [text if len(text) <= 72 else f"{text[:71]}…" for text in shown[column]]
        shown[column] = [text.ljust(max(map(len, texts))) for text in texts]
    return f"{shown.to_string(index=False, justify='left')}\n{sum_up(frame)}"


def sum_up(frame) -> str:
    """One line about all runs of the table."""
    states = frame.state.str.partition(",")[0].value_counts(sort=False)
    told = ", ".join(f"{count} {state}" for state, count in states.items())
    hours = f"{frame.kB.sum() / 1000:.1f} MB; measured {hours_by_device(frame.seconds, frame.device)}"
    if "PFLOP" in frame:
        hours += f"; all: {frame.PFLOP.sum():.3g} PFLOP, {frame.hours.sum():.3g} hours"
    return f"{len(frame)} runs: {told}; {hours}"


def hours_by_device(seconds, device) -> str:
    """Such as "16.9 hours", or "17.3 hours: 16.9 on CPUs, 0.3 on NVIDIA H200": of many runs."""
    import pandas as pd

    names = [name if name not in ("", "cpu") else "CPUs" for name in device]
    spent = pd.Series(seconds, dtype=float).groupby(names).sum() / 3600
    spent = spent[spent > 0]
    each = ", ".join(f"{value:.1f} on {name}" for name, value in spent.items())
    return f"{spent.sum():.1f} hours" + (f": {each}" if set(spent.index) - {"CPUs"} else "")


def line(name: str, profile: str | None = None, tables=()) -> dict:
    """One line of `table`."""
    run = runs.get(name, profile)
    found = _trained(run) if runs.profile(profile)["train"] is not None else _shipped(run)
    path = found.pop("path")
    kilobytes = round(path.stat().st_size / 1000) if path.is_file() else float("nan")
    steps = runs.trained(name, profile).steps
    told = {"run": name, "tables": " ".join(map(str, tables)), "steps": steps, "kB": kilobytes}
    return told | {"device": trained_on(path)} | found


def why_absent(name, profile) -> str:
    """Why a run cannot stand beside others: it lacks its weights, or has those of another recipe; "" if it can."""
    if not runs.get(name, profile).trains:
        return ""
    found, chosen = line(name, profile), runs.profile(profile)
    if found["state"] in ("shipped", "trained"):
        return f"missing: {found['note']}" if found["note"] else ""
    if found["state"] != "missing":
        return found["state"]
    if chosen["train"] is None:
        return "missing: no weights are shipped"
    return f"missing: no weights here, train {name} under profile {chosen['name']}"


def first_absent(names, profile) -> str:
    """The first of some runs that cannot stand beside others, and why; "" if all can."""
    return next((f"{name}: {told}" for name in names if (told := why_absent(name, profile))), "")


def complete(scales, names_of, profile) -> list[int]:
    """The scales whose runs can all stand beside others; why one is left out, a line on stderr tells.

    names_of: scale -> its runs.
    """
    absent = {scale: told for scale in scales if (told := first_absent(names_of(scale), profile))}
    for scale, told in absent.items():
        print(f"scale {scale} is left out: {told}", file=sys.stderr)
    return [scale for scale in scales if scale not in absent]


def shipped_path(run) -> Path:
    """Where the weights of a run are that come with the project, if there are some; its training's log.csv beside."""
    return results.root() / "data" / "weights" / f"{run.name}.safetensors"


def substitute(run) -> Path | None:
    """The shipped weights of a run that is not trained here, if they are of its recipe; else None."""
    found = _shipped(run)
    return found["path"] if found["state"] == "shipped" and not found["note"] else None


def _shipped(run) -> dict:
    path = shipped_path(run)
    known = {"path": path, "seconds": logged(path.with_suffix(".csv"))[1]}
    return known | ({"state": "shipped", "note": other_recipe(path, run)} if path.is_file() else _MISSING)


def _trained(run) -> dict:
    folder = results.folder(run.profile, "runs", run.name)
    path = folder / "weights.safetensors"
    step, seconds = logged(folder / "log.csv")
    known = {"path": path, "seconds": seconds}
    if path.is_file() and is_whole(folder, run):
        return known | {"state": "trained", "note": other_recipe(path, run)}
    if not path.is_file() and not step and substitute(run):
        return _shipped(run)
    begun = step or path.is_file()
    return known | ({"state": f"training, {step} of {run.steps}", "note": ""} if begun else _MISSING)


_MISSING = {"state": "missing", "note": ""}


def is_brought(folder) -> bool:
    """Whether a run's folder holds weights and no checkpoint: they were trained elsewhere, and copied."""
    return (folder / "weights.safetensors").is_file() and not (folder / "last.ckpt").is_file()


def is_whole(folder, run) -> bool:
    """Whether the log beside a run's weights says that training had ended, or there is none, which says nothing."""
    log = folder / "log.csv"  # training writes it first
    return not log.is_file() or logged(log)[0] >= run.steps


def logged(path):
    """Step and seconds at the last validation that a log.csv tells."""
    import csv

    if not path.is_file():
        return 0, float("nan")
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    try:
        return (int(rows[-1]["step"]), float(rows[-1].get("seconds") or "nan")) if rows else (0, float("nan"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no whole log of a training: copy it again, or delete it") from error


def trained_on(path) -> str:
    """The device that weights were trained on, as they tell; "" if they do not, or are not there."""
    from carlib import weights

    try:
        return weights.header(path).get("device", "")
    except ValueError:
        return ""


def other_recipe(path, run) -> str:
    """What was different from params.yaml when the weights in `path` were trained, in words; "" if nothing.

    Precision is left out: "auto" is another one on another machine.
    """
    import json

    from carlib import weights
    from carlib.training import checkpoint

    wanted = run if runs.profile(run.profile)["train"] is not None else runs.trained(run.name, run.profile)
    try:
        header = weights.header(path)
    except ValueError as error:
        return str(error)
    if "parameters" not in header:
        return "weights that do not tell their recipe"
    now = json.loads(json.dumps(runs.as_dict(wanted)))
    then = {**header["parameters"], "precision": now["precision"]}
    changed = checkpoint.changes({"parameters": then}, {"parameters": now}).get("parameters", "")
    return changed and f"weights of another recipe: {changed}"
