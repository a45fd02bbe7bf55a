"""The search for a recipe: a trial is a short run with other numbers, and each leaves lines in data/trials.csv."""

from pathlib import Path

from carlib import experiments, results, runs

COLUMNS = [
    "run", "profile", "parameters", "steps", "seconds", "precision", "commit", "validation", "set", "n", "psnr", "note",
]  # fmt: skip
SETS = ("set5", "bsd100")


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


def seeds(frame, table):
    """What another seed does to CAR's gain over bicubic LR images, both followed by EDSR.

    Args:
        frame: data/trials.csv, of which the lines with no other number than "seed=N" count (N not 0).
        table: a `tables.table1` of the same profile, whose networks are seed 0.
    Returns:
        DataFrame: scale, set, gains (dB, a list, one a seed), mean, half of its 95 % interval (t).
    """
    import pandas as pd
    from scipy import stats

    frame = frame[frame.parameters.str.fullmatch(r"seed=[1-9]\d*") & frame.profile.isin(table.profile)]
    frame = frame.join(frame.run.str.extract(r"^(?P<downscaler>bicubic|car)-edsr-x(?P<scale>\d+)$")).dropna()
    frame = frame.astype({"psnr": float, "scale": int})
    pairs = frame.pivot(index=["scale", "set", "parameters"], columns="downscaler", values="psnr")
    others = (pairs["car"] - pairs["bicubic"]).dropna() if {"car", "bicubic"} <= set(pairs) else pd.Series(dtype=float)
    lines = []
    for cell in table[(table.downscaler == "car") & (table.upscaler == "edsr") & (table.metric == "psnr")].itertuples():
        found = [gain for (scale, name, _), gain in others.items() if (scale, name) == (cell.scale, cell.set)]
        if found:
            gains = pd.Series([cell.gain, *found])
            half = stats.t.ppf(0.975, len(found)) * gains.sem()
            lines.append((cell.scale, cell.set, gains.tolist(), gains.mean(), half))
    return pd.DataFrame(lines, columns=["scale", "set", "gains", "mean", "half"])


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
