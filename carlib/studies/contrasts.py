"""Methods of one table compared: image by image and seed by seed, each difference beside the one that was printed.

A method has a label; `label_of` maps the runs that measure a table to them. A line stands for KEYS.
"""

import sys

from carlib import experiments, intervals, overview, results, runs, tables

KEYS = ["scale", "set", "metric"]
COLUMNS = [
    "ours", "seeds", "seed_interval", "difference", "low", "high", "difference_seed_interval", "printed",
    "printed_difference", "verdict", "n",
]  # fmt: skip

# Of what `compare` gives, for captions.
VERDICT = (
    f"difference_seed_interval: half of the 95 % interval of its mean over seeds, paired. verdict: {tables.VERDICT}"
)


def make_ready(names, profile, *, train=True, executor="", device="auto", progress=True):
    """Train runs that are missing, continuing what was begun, or take what is there.

    Args:
        train:    False (and always profile demo): nothing is trained; a run is measured if its weights are here, or
                  shipped, and of the recipe of today.
        executor: "slurm" or "local": what is missing is trained as jobs (`cluster.train_all`); "": here.
    Returns:
        names of the runs that can be measured, and run -> why it cannot be.
    Raises:
        ValueError: a run cannot be trained.
    """
    if not trains(profile, train):
        absent = {name: why for name in names if (why := overview.why_absent(name, profile))}
        return [name for name in names if name not in absent], absent
    options = {"renew": True, "device": device, "progress": progress}
    if executor:
        _train_jobs(names, profile, executor, options)
    else:
        for name in names:
            if runs.get(name, profile).trains:
                experiments.prepare(name, profile, **options)
    return names, {}


def trains(profile, train) -> bool:
    """Whether what is missing is trained: `train` says so, and the profile has training numbers."""
    return train and runs.profile(profile)["train"] is not None


def seeds_ready(names, declared, profile, **options) -> list[str]:
    """`make_ready` of declared runs and their further seeds: the declared ones, and the seeds that can be measured.

    Why a seed cannot, a line on stderr tells; a declared run without weights is refused where it is loaded.
    """
    made, absent = make_ready(names, profile, **options)
    for name, why in absent.items():
        if name not in declared:
            print(f"{name} is left out: {why}", file=sys.stderr)
    return list(dict.fromkeys([*declared, *made]))


def _train_jobs(names, profile, executor, options):
    from carlib.dispatch import cluster

    if failed := cluster.train_all(names, profile, executor=executor, **options):
        told = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ValueError(f"runs that failed: {len(failed)}; the same again submits them anew: {told}")


def measure(names, profile, sets=None, *, device="auto", progress=True):
    """Rows of runs on image sets (default the profile's), as a DataFrame of results.ROW_COLUMNS, perhaps empty."""
    import pandas as pd

    options = {"device": device, "progress": progress}
    measured = [row for name in names for row in experiments.measure(name, profile, sets, **options)]
    return pd.DataFrame(measured, columns=results.ROW_COLUMNS)


def trained_and_measured(names, profile, sets=None, *, train, executor, device, progress):
    """`make_ready`, then `measure` of what could be made ready: rows, and run -> why it has none."""
    training = {"train": train, "executor": executor}
    made, absent = make_ready(names, profile, **training, device=device, progress=progress)
    return measure(made, profile, sets, device=device, progress=progress), absent


def by_label(rows, label_of):
    """A line per KEYS and image, a column per label and seed."""
    found = [runs.split_seed(name, label_of) for name in rows.run]
    frame = rows.assign(label=[label_of[name] for name, _ in found], seed=[seed or 0 for _, seed in found])
    return frame.pivot(index=[*KEYS, "image"], columns=["label", "seed"], values="value")


def of(values, label):
    """The columns of a label, named by its seeds; without one, a column of NaN."""
    import pandas as pd

    if label in values.columns.get_level_values("label"):
        return values[label]
    return pd.DataFrame(float("nan"), index=values.index, columns=[0])


def shared_means(values, label, base):
    """Means over images of two labels under the seeds that both have: two DataFrames, a line per KEYS, a column a seed.

    NaN where a seed has one of the two alone.
    """
    own, others = (of(values, name).groupby(KEYS).mean() for name in (label, base))
    both = (own - others).notna()
    return own.where(both), others.where(both)


def printed(paper, rows, labels, *, unmeasured=False):
    """The printed values, a line per KEYS, a column per label; NaN where a measured set is not whole or cropped.

    Args:
        paper:      DataFrame KEYS, label, printed.  rows: what was measured.
        unmeasured: whether printed sets that were not measured have lines as well.
    """
    import pandas as pd

    there = rows.groupby([*KEYS, "profile"]).image.nunique().rename("n").reset_index()
    frame = there.merge(paper[[*KEYS, "label", "printed"]], on=KEYS, how="left")
    tables.withhold(frame)
    if unmeasured:
        others = paper.merge(there[KEYS], on=KEYS, how="left", indicator=True)
        frame = pd.concat([frame, others[others.pop("_merge") == "left_only"]])
    return frame.pivot(index=KEYS, columns="label", values="printed").reindex(columns=list(labels))


def claims(values, paper, told, scales):
    """Claims that one method is better or worse than another, with a verdict over all whole sets.

    Args:
        values: see `by_label`.  paper: see `printed`.  told: (label, its base, claim) each.  scales: a line for each.
    Returns:
        DataFrame: claim, scale, paper and ours (mean differences on Set5 and B100, dB; ours also over all sets that
        are printed or, without one, that were measured), verdict: over every set's PSNR and SSIM, see
        `tables.summed_up`; "not tested" without a printed set.
    """
    import pandas as pd

    lines = []
    for label, base, text in told:
        compared = compare(values, paper, label, base)
        for scale in scales:
            found = compared.loc[scale]
            psnr, summed_up = found.xs("psnr", level="metric"), tables.summed_up(found.verdict)
            lines.append(claim(text, scale, psnr.printed_difference, psnr.difference, summed_up))
    return pd.DataFrame(lines)


def claim(text, scale, paper, ours, verdict) -> dict:
    """One line of `claims`; paper, ours: differences of PSNR by image set."""
    both = paper.notna() & ours.notna()
    return {
        "claim": text,
        "scale": f"x{scale}",
        "paper (Set5 / B100, dB)": tables.pair(paper, "+.2f"),
        "ours (Set5 / B100, dB)": tables.pair(ours, "+.2f"),
        "ours (mean, dB)": round((ours[both] if both.any() else ours).mean(), 2),
        "verdict": verdict,
    }


def compare(values, paper, label, base):
    """How one method differs from another: a line per line of `paper`.

    Args:
        values: see `by_label`.  paper: see `printed`.  base: a label; `label` itself or None is compared with nothing.
    Returns:
        DataFrame: difference, low and high (its 95 % interval over images), difference_seed_interval (half of that of
        the mean over seeds that both have, NaN for one), printed_difference, verdict, n (images that both were measured
        on).
    """
    import pandas as pd

    frame = pd.DataFrame(index=paper.index)
    if base in (None, label):
        numbers = ["difference", "low", "high", "difference_seed_interval", "printed_difference"]
        return frame.assign(**dict.fromkeys(numbers, float("nan")), verdict="not tested", n=0)
    by_seed = of(values, label) - of(values, base)  # a column per seed, NaN where only one of the two has it
    differences = by_seed.mean(axis=1).dropna()
    bounds = {key: intervals.paired(group) for key, group in differences.groupby(KEYS)}
    frame["difference"] = differences.groupby(KEYS).mean()
    nothing = float("nan"), float("nan")
    frame["low"], frame["high"] = ([bounds.get(key, nothing)[end] for key in frame.index] for end in (0, 1))
    _, frame["difference_seed_interval"] = _over_seeds(by_seed, paper.index)
    frame["printed_difference"] = paper[label] - paper[base]
    frame["verdict"] = [tables.verdict(*line) for line in frame.to_numpy()]
    frame["n"] = _images(differences, frame.index)
    return frame


def _over_seeds(values, index):
    """The means over images, a column per seed, and half of the 95 % interval of each line's mean."""
    means = values.groupby(KEYS).mean().reindex(index)
    return means, [intervals.half_width(line[line == line]) for line in means.to_numpy()]


def _images(values, index):
    """How many images there are to each line."""
    return values.groupby(KEYS).size().reindex(index, fill_value=0)


def table(values, paper, base_of):
    """All methods in long form: a line per scale, set, label and metric, labels in the order of `base_of`.

    Args:
        values: see `by_label`.  paper: see `printed`.  base_of: label -> the label that it is compared with, or None.
    Returns:
        DataFrame: KEYS, label, ours (mean over images and seeds), seeds (how many), seed_interval (half of the 95 %
        interval of the mean over seeds), what `compare` gives, printed, n (images of this label, compared or not).
    """
    import pandas as pd

    parts = []
    for label, base in base_of.items():
        part, own = compare(values, paper, label, base), of(values, label)
        means, part["seed_interval"] = _over_seeds(own, paper.index)
        part["ours"], part["seeds"] = means.mean(axis=1), means.count(axis=1)
        part["printed"] = paper[label]
        part["n"] = _images(own.dropna(how="all"), paper.index)
        parts.append(part.assign(label=label).reset_index())
    return tables.in_order(pd.concat(parts, ignore_index=True), ["scale", "set"]).reset_index(drop=True)


def notes(table, absent) -> list[str]:
    """Why a line has no number of ours: its run is `absent` (run -> why), or its set was not measured.

    Args:
        table: DataFrame ours, run (NaN or "" where no run is declared).
    """
    told = []
    for line in table.itertuples():
        if line.ours == line.ours:
            told.append("")
        elif not isinstance(line.run, str) or not line.run:
            told.append("not trained here")
        else:
            told.append(absent.get(line.run, "set not measured"))
    return told


def check_training(train, executor):
    """Refuse an executor that cannot work here, or that is given nothing to train.

    Raises:
        ParameterError (a ValueError): it is so.
    """
    from carlib.dispatch import cluster
    from carlib.notebook import ParameterError

    if not executor:
        return
    if not train:
        raise ParameterError(f"executor={executor!r} trains and train=False does not: leave one of them out")
    try:
        cluster.check(executor)
    except ValueError as error:
        raise ParameterError(str(error)) from error


def check_sets(sets):
    """Refuse image sets that are unknown or not here.

    Raises:
        ParameterError (a ValueError): one is.
    """
    from carlib import data
    from carlib.notebook import ParameterError

    if sets is not None and not sets:
        raise ParameterError("sets=[] measures nothing: name some, or give None for the profile's")
    try:
        for name in sets or ():
            data.find(name)
    except ValueError as error:
        raise ParameterError(f"sets={sets!r}: {error}") from None
