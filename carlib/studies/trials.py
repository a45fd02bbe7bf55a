"""The search for a recipe: a trial is a short run with other numbers, and each leaves lines in data/trials.csv."""

import re
from dataclasses import dataclass
from pathlib import Path

from carlib import artefacts, data, experiments, results, runs

COLUMNS = [
    "run", "profile", "parameters", "steps", "seconds", "precision", "commit", "start", "validation", "adaptivity",
    "offset_length", "set", "n", "psnr", "note",
]  # fmt: skip
SETS = ("set5", "bsd100")
_KEY = ["run", "profile", "parameters", "set"]
RECIPE = "recipe"  # the variant in which nothing is changed
_SHORT = ("steps", "validate_every")  # what makes a trial short is no change of the recipe


def trial(name, profile=None, params=(), *, sets=None, note="", out=None, device="auto", progress=True) -> list[dict]:
    """Train a run with other numbers, measure it, and append a line per set to a table of trials.

    A trial that was stopped is continued by the same call. One that diverges leaves its lines, too: without numbers,
    and the note says so.

    Args:
        name, profile, params: as `experiments.prepare`; "steps=500" makes a trial short.
        sets: image sets to measure on; default those of SETS that are here, without one the embedded photographs.
        note: why it was tried.  out: CSV, default data/trials.csv.
    Returns:
        the new lines (COLUMNS): parameters as given, seconds of training, start: the first digits of the SHA-256 of the
        weights that it began with, validation: their PSNR in dB (RGB) on the profile's validation set, adaptivity and
        offset_length: at the last validation (see `validation.behaviour`), psnr: mean over the n images, dB of luma;
        the last four "" of a trial that diverged.
    Raises:
        ValueError: as `experiments.prepare`; another downscaler, upscaler or scale is given; a note with a line break;
            `out` is no table of trials.
    """
    from carlib import evaluate
    from carlib.training import loop

    if "\n" in note:
        raise ValueError(f"note={note!r} has more than one line")
    overrides = runs.parse_overrides(params)
    if other := [key for key in evaluate.SYSTEM if key in overrides]:
        raise ValueError(f"a trial of {name} cannot have another {other[0]}: declare a run in params.yaml")
    run = runs.get(name, profile, overrides)
    if runs.profile(profile)["train"] is None:
        raise ValueError(f"profile {run.profile} trains nothing, and so has no trials: use --profile mini")
    sets = list(dict.fromkeys(sets or experiments.present_sets(SETS) or ["demo"]))
    for chosen in sets:
        data.find(chosen)  # before anything is trained
    out = results.root() / "data" / "trials.csv" if out is None else Path(out)
    results.check_table(out, _KEY)
    given = " ".join(sorted(params))
    folder = results.folder(run.profile, "runs", f"trial-{name}-{_digest(given)}")
    try:
        path = experiments.prepare(name, run.profile, params, folder=folder, device=device, progress=progress)
    except loop.Diverged as error:
        if error.run != name:  # the run that it begins with
            raise
        lines = _diverged(run, given, folder, sets, "; ".join(filter(None, [note, f"diverged: {error.told}"])), device)
    else:
        rows = experiments.measure(name, run.profile, sets, weights=path, device=device, progress=progress)
        trained = _trained(path, run, given)
        lines = [{**trained, **line, "note": note} for line in _means(rows)]
    _append(lines, out)
    return lines


def sensitivity(profile="mini", out=None):
    """What each changed number did to CAR: the trials of data/trials.csv, each beside the nearest one.

    The nearest is, of the trials of the same run and as many steps that change less of the recipe, the one that differs
    in the fewest numbers; the first of equals.

    Args:
        profile: whose trials.  out: CSV, default data/trials.csv.
    Returns:
        DataFrame: run, scale, steps, variant (in what it differs from the nearest, "recipe" if it changes nothing),
        beside (what the nearest itself changes, "recipe" for nothing, "" where there is none), changes (in how many
        numbers they differ), validation (dB, RGB), validation_gain, set, n, psnr (dB, Y), gain, seconds, note. Gains
        are over the nearest, NaN without one; of a trial that diverged all four are NaN.
    Raises:
        ValueError: there is no trial of CAR.
    """
    import pandas as pd

    path = results.root() / "data" / "trials.csv" if out is None else Path(out)
    frame = pd.read_csv(path, keep_default_na=False) if path.is_file() else pd.DataFrame(columns=COLUMNS)
    frame = frame[(frame.profile == profile) & frame.run.str.startswith("car-")]
    if frame.empty:
        raise ValueError(f"{path} has no trial of CAR under profile {profile}: call `carlib trial car-edsr-x2`")
    frame = frame.assign(
        scale=[runs.get(name, profile).scale for name in frame.run],
        psnr=pd.to_numeric(frame.psnr),  # "" is NaN
        validation=pd.to_numeric(frame.validation),
    )
    trials = [_Trial.of(line) for line in frame.itertuples()]
    frame = frame.assign(**pd.DataFrame([_beside(trial, trials) for trial in trials], index=frame.index))
    order = ["scale", "run", "steps", "changes", "beside", "variant"]
    frame = frame.sort_values(order, key=_recipe_first, kind="stable")
    columns = [
        "run", "scale", "steps", "variant", "beside", "changes", "validation", "validation_gain", "set", "n", "psnr",
        "gain", "seconds", "note",
    ]  # fmt: skip
    return frame[columns].reset_index(drop=True)


@dataclass(frozen=True)
class _Trial:
    """A line of data/trials.csv: what it can be compared with, its parameters as written, and all its numbers."""

    alike: tuple
    given: dict
    numbers: dict
    recipe: dict
    psnr: float
    validation: float

    @classmethod
    def of(cls, line):
        pairs = [pair for pair in re.split(r" (?=\w+=)", line.parameters) if pair]
        own, recipe = (
            runs.as_dict(runs.get(line.run, line.profile, runs.parse_overrides(some))) for some in (pairs, ())
        )
        given = dict(pair.split("=", 1) for pair in pairs)
        return cls((line.run, line.steps, line.set, line.n), given, own, recipe, line.psnr, line.validation)

    def differs(self, numbers) -> list[str]:
        """Names of the numbers in which it differs from others."""
        return [name for name, value in self.numbers.items() if name not in _SHORT and numbers[name] != value]

    def told(self, names) -> str:
        return " ".join(f"{name}={self.given.get(name, self.numbers[name])}" for name in sorted(names)) or RECIPE


def _beside(trial, trials) -> dict:
    """variant, beside, changes and both gains of a trial, see `sensitivity`."""
    changed = trial.differs(trial.recipe)
    near = [
        (len(trial.differs(other.numbers)), place)
        for place, other in enumerate(trials)
        if other.alike == trial.alike and len(other.differs(other.recipe)) < len(changed) and other.psnr == other.psnr
    ]
    if not near:
        nothing = {"gain": float("nan"), "validation_gain": float("nan")}
        return {"variant": trial.told(changed), "beside": "", "changes": 0, **nothing}
    changes, place = min(near)
    other = trials[place]
    return {
        "variant": trial.told(trial.differs(other.numbers)),
        "beside": other.told(other.differs(other.recipe)),
        "changes": changes,
        "gain": trial.psnr - other.psnr,
        "validation_gain": trial.validation - other.validation,
    }


def _recipe_first(column):
    return column.where(column != RECIPE, "") if column.name in ("variant", "beside") else column


def draw(table, profile):
    """Of `sensitivity` the gains of single changes as dots, grouped by what they are beside.

    Returns:
        matplotlib Figure; both are written, as tables/ and figures/sensitivity, the table with all trials.
    Raises:
        ValueError: no trial differs from another in one number.
    """
    import pandas as pd

    from carlib import figures

    command = experiments.papermill_command("03_ablation", profile, train=False)  # trials are trained beforehand
    artefacts.save_table(
        table,
        results.folder(profile, "tables", "sensitivity"),
        title="Sensitivity: short trainings of CAR with other numbers, mini size",
        caption="From data/trials.csv, a line per trial and image set. variant: in which numbers (changes: how many) a "
        "trial differs from the nearest one of as many steps; beside: what that one changes of the recipe of profile "
        "mini; gain and validation_gain: over it; those of another seed say how little a gain must be to mean nothing. "
        "validation: on the DIV2K images that recipes are chosen by (dB, RGB). A trial without psnr diverged. One "
        "training each, and not all at the same commit.",
        command=command,
    )
    shown = table[table.gain.notna() & (table.changes == 1)]
    groups = {}
    for (name, steps, beside), part in shown.groupby(["run", "steps", "beside"], sort=False):
        validated = part.drop_duplicates("variant").assign(set="validation")
        validated = validated.assign(gain=validated.validation_gain).sort_values("gain", ascending=False)
        order = {variant: place for place, variant in enumerate(validated.variant)}
        lines = pd.concat([validated, part]).sort_values("variant", key=lambda of, order=order: of.map(order))
        groups[f"{name}, {steps:,} steps, beside {beside}"] = lines[["variant", "set", "gain"]]
    if not groups:
        raise ValueError("no trial differs from another in one number: there is nothing to draw")
    figure = figures.changes(groups, over="the training without this change")
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", "sensitivity"),
        title="Sensitivity: what one changed number does to CAR, mini size",
        alt="Gain in dB of CAR trained with one number changed over CAR trained without this change, on the validation "
        "images and set by set",
        caption="One short training each. 0 is what stands in bold: the recipe of profile mini, or the recipe with the "
        'numbers after "beside". Grey: what another seed alone moves it by, where that was tried: less than that says '
        "nothing. Trials that differ from every other in two numbers or more are in the table alone.",
        command=command,
    )
    return figure


def _digest(text) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _trained(path, run, given) -> dict:
    """What a trained run's log and header tell."""
    from carlib import weights

    _, header = weights.load_run(path)
    return {
        **_begun(run, given, path.parent),
        **{name: _last(path.parent).get(name, "") for name in ("adaptivity", "offset_length")},
        "precision": header["parameters"]["precision"],
        "commit": header["commit"],
        "validation": header["validation"]["psnr_rgb"],
    }


def _diverged(run, given, folder, sets, note, device) -> list[dict]:
    """The lines of a trial that ended in no number."""
    from carlib import data, devices, provenance

    begun = {
        **_begun(run, given, folder),
        "precision": devices.precision(run, device),
        "commit": provenance.commit(),
        **dict.fromkeys(("validation", "adaptivity", "offset_length"), ""),
    }
    most = runs.profile(run.profile)["evaluate"]["images"]
    return [{**begun, "set": name, "n": len(data.find(name)[:most]), "psnr": "", "note": note} for name in sets]


def _begun(run, given, folder) -> dict:
    """What is known of a trial that may have diverged before its first validation: seconds are "" then."""
    from carlib import provenance, run_networks

    starts = run_networks.start_files(run).values()
    return {
        "run": run.name,
        "profile": run.profile,
        "parameters": given,
        "steps": run.steps,
        "seconds": round(last["seconds"]) if (last := _last(folder)) else "",
        "start": " ".join(provenance.sha256(path)[:10] for path in starts),
    }


def _last(folder) -> dict:
    """Column -> number of the last line of a training's log, {} before there is one."""
    path = folder / "log.csv"
    log = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not log[1:]:
        return {}
    pairs = zip(log[0].split(","), map(float, log[-1].split(",")), strict=True)
    return {column: value for column, value in pairs if value == value}


def _means(rows) -> list[dict]:
    """Set, n and psnr of every set."""
    means = experiments.summary([row for row in rows if row["metric"] == "psnr"])
    return [{"set": line.set, "n": line.images, "psnr": round(line.mean, 3)} for line in means.itertuples()]


def _append(lines, path):
    """Add lines to the table; those of the same trial and set are replaced."""
    import pandas as pd

    frame = pd.DataFrame(lines, columns=COLUMNS)
    with results.alone(path.with_name(f".{path.name}.lock")):  # trials run side by side
        if path.is_file():
            before = pd.read_csv(path, keep_default_na=False).reindex(columns=COLUMNS, fill_value="")
            frame = pd.concat([before, frame]).drop_duplicates(_KEY, keep="last")
        results.write_text(path, frame.to_csv(index=False))
