"""The search for a recipe: a trial is a short run with other numbers, and each leaves lines in data/trials.csv."""

from pathlib import Path

from carlib import experiments, results, runs

COLUMNS = [
    "run", "profile", "parameters", "steps", "seconds", "precision", "commit", "validation", "set", "n", "psnr", "note",
]  # fmt: skip
SETS = ("set5", "bsd100")
RECIPE = "recipe"  # the variant in which nothing is changed


def trial(name, profile=None, params=(), *, sets=None, note="", out=None, device="auto", progress=True) -> list[dict]:
    """Train a run with other numbers, measure it, and append a line per set to a table of trials.

    A trial that was stopped is continued by the same call.

    Args:
        name, profile, params: as `experiments.prepare`; "steps=500" makes a trial short.
        sets: image sets to measure on; default those of SETS that are here, without one the embedded photographs.
        note: why it was tried.  out: CSV, default data/trials.csv.
    Returns:
        the new lines (COLUMNS): parameters as given, seconds of training, validation: best PSNR in dB (RGB) on the
        profile's validation set, psnr: mean over the n images, dB of luma.
    Raises:
        ValueError: as `experiments.prepare`, or a note with a line break.
    """
    if "\n" in note:
        raise ValueError(f"note={note!r} has more than one line")
    run = runs.get(name, profile, runs.parse_overrides(params))
    sets = sets or experiments.present_sets(SETS) or ["demo"]
    given = " ".join(sorted(params))
    folder = results.folder(run.profile, "runs", f"trial-{name}-{_digest(given)}")
    options = {"folder": folder, "device": device, "progress": progress}
    path = experiments.prepare(name, run.profile, params, **options)
    rows = experiments.measure(name, run.profile, sets, weights=path, device=device, progress=progress)
    trained = _trained(path, run, given)
    lines = [{**trained, **line, "note": note} for line in _means(rows)]
    _append(lines, results.root() / "data" / "trials.csv" if out is None else Path(out))
    return lines


def sensitivity(profile="mini", out=None):
    """What each changed number did to CAR: the trials of data/trials.csv beside the one that changed nothing else.

    Args:
        profile: whose trials.  out: CSV, default data/trials.csv.
    Returns:
        DataFrame: run, scale, steps, variant (what was changed, "recipe" for nothing), set, n, psnr (dB, Y), gain (over
        the recipe trained for as many steps; NaN without it), seconds, note; the recipe first.
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
        variant=[_changed(parameters) for parameters in frame.parameters],
        psnr=frame.psnr.astype(float),
    )
    alike = ["run", "steps", "set", "n"]
    recipe = frame[frame.variant == RECIPE].set_index(alike)["psnr"]
    known = [recipe.get(key, float("nan")) for key in frame[alike].itertuples(index=False, name=None)]
    frame["gain"] = frame.psnr - known
    frame = frame.sort_values(["scale", "run", "steps", "variant"], key=_recipe_first, kind="stable")
    columns = ["run", "scale", "steps", "variant", "set", "n", "psnr", "gain", "seconds", "note"]
    return frame[columns].reset_index(drop=True)


def _changed(parameters) -> str:
    """A trial's parameters without those that only make it short."""
    kept = [pair for pair in parameters.split() if not pair.startswith(("steps=", "validate_every="))]
    return " ".join(kept) or RECIPE


def _recipe_first(column):
    return column.where(column != RECIPE, "") if column.name == "variant" else column


def draw(table, profile):
    """The gains of `sensitivity` as dots, a panel per scale; both are written, as tables/ and figures/sensitivity.

    Returns:
        matplotlib Figure.
    Raises:
        ValueError: no trial has the recipe beside it.
    """
    from carlib import figures

    command = experiments.papermill_command("03_ablation", profile)
    results.save_table(
        table,
        results.folder(profile, "tables", "sensitivity"),
        title="Sensitivity: short trainings of CAR with one number changed, mini size",
        caption="From data/trials.csv, a line per trial and image set. gain: over the recipe of profile mini trained "
        "for as many steps. One seed each.",
        command=command,
    )
    upscaler = table.run.str.removeprefix("car-").str.rpartition("-x")[0]
    kinds = upscaler + ", " + table.steps.astype(str) + " steps: "
    shown = table.assign(variant=(kinds if kinds.nunique() > 1 else "") + table.variant)
    shown = shown[shown.gain.notna()]
    figure = figures.gains(shown, list(dict.fromkeys(shown.variant)), over="the recipe")
    results.save_figure(
        figure,
        results.folder(profile, "figures", "sensitivity"),
        title="Sensitivity: what one changed number does to CAR, mini size",
        alt="Gain in dB of CAR trained with one number changed over CAR trained by the recipe, for each image set",
        caption="Short trainings, see the table for their steps; 0 is the recipe of profile mini.",
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
    log = (path.parent / "log.csv").read_text(encoding="utf-8").splitlines()
    last = dict(zip(log[0].split(","), log[-1].split(","), strict=True))
    return {
        "run": run.name,
        "profile": run.profile,
        "parameters": given,
        "steps": run.steps,
        "seconds": round(float(last["seconds"])),
        "precision": header["parameters"]["precision"],
        "commit": header["commit"],
        "validation": header["validation"]["psnr_rgb"],
    }


def _means(rows) -> list[dict]:
    """Set, n and psnr of every set."""
    means = experiments.summary([row for row in rows if row["metric"] == "psnr"])
    return [{"set": line.set, "n": line.images, "psnr": round(line.mean, 3)} for line in means.itertuples()]


def _append(lines, path):
    """Add lines to the table; those of the same trial and set are replaced."""
    import pandas as pd

    key = ["run", "profile", "parameters", "set"]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    if path.is_file():
        before = pd.read_csv(path, keep_default_na=False)
        frame = pd.concat([before, frame]).drop_duplicates(key, keep="last")
    results.write_text(path, frame.to_csv(index=False))
