"""The ablation (Table 3): CAR without its TV loss, without its offset loss, without offsets; each against the whole."""

from carlib import cells, experiments, intervals, overview, results, runs, tables

WHOLE = "joint"  # the variant of data/paper/table3.csv that the others are compared with
LABELS = {
    "joint": "CAR",
    "no-tv": "CAR, no TV loss",
    "no-offset-constraint": "CAR, no offset loss",
    "no-offset": "CAR, no offsets",
}
# What the paper says of its Table 3 (4.2.2): variant, what it is compared with, and in words.
CLAIMS = (
    ("no-tv", "joint", "Without the TV loss SR is better"),
    ("no-offset-constraint", "joint", "Without the offset loss SR is worse"),
    ("no-offset", "no-offset-constraint", "Without offsets SR is worse still"),
)
KEYS = ["scale", "set", "metric"]


def study(profile, scale=None, seeds=None, *, device="auto", progress=True):
    """Train what is missing of Table 3, measure it on the profile's sets, and write what `write` says.

    Args:
        scale: 2 or 4; None: both.
        seeds: how many of each run; None: as params.yaml wants.
    Returns:
        the table and the claims, see `table` and `claims`.
    Raises:
        ValueError: a parameter does not fit, a run cannot be trained, or nothing can be measured.
    """
    import pandas as pd

    check(scale, seeds)
    made, absent = make_ready(profile, scale, seeds, device=device, progress=progress)
    measured = [row for name in made for row in experiments.measure(name, profile, device=device, progress=progress)]
    if not measured:
        raise ValueError(f"no run of Table 3 can be measured under profile {profile}: {next(iter(absent.values()))}")
    return write(pd.DataFrame(measured), absent, profile, scale, seeds)


def check(scale, seeds):
    """Refuse parameters that the study cannot have.

    Raises:
        ParameterError (a ValueError): scale is none of the paper's, seeds no count.
    """
    from carlib.notebook import ParameterError

    scales = sorted({cell.scale for cell in cells.of(3)})
    if scale is not None and scale not in scales:
        known = " or ".join(map(str, scales))
        raise ParameterError(f"scale={scale!r} is not in Table 3: use {known}, or None for both")
    if seeds is not None and seeds < 1:
        raise ParameterError(f"seeds={seeds!r} must be above 0, or None for what params.yaml wants")


def make_ready(profile, scale=None, seeds=None, *, device="auto", progress=True):
    """Train Table 3's runs that are missing, continuing what was begun; profile demo takes what is shipped.

    Returns:
        names of the runs that can be measured, and run -> why it cannot be.
    """
    count = cells.seeds(3, profile) if seeds is None else seeds
    chosen = [cell.run for cell in cells.of(3, profile) if scale in (None, cell.scale)]
    names = [name for run in chosen for name in runs.seeded(run, count)]
    if runs.profile(profile)["train"] is not None:
        for name in names:
            experiments.prepare(name, profile, renew=True, device=device, progress=progress)
        return names, {}
    absent = {name: why for name in names if (why := overview.why_absent(name, profile))}
    return [name for name in names if name not in absent], absent


def table(rows, absent, profile, scale=None):
    """Table 3 in long form: a line per scale, set, variant and metric.

    Args:
        rows:   DataFrame of results.ROW_COLUMNS: runs of Table 3, under any seeds.
        absent: run -> why it has no rows.
    Returns:
        DataFrame: scale, set, variant, metric, ours (mean over images and seeds), seeds (how many), seed_interval (half
        of the 95 % interval of the mean over seeds), difference (to CAR, over the seeds that both have), low and high
        (its 95 % interval over images), printed, printed_difference, verdict (of the difference), n (images), run,
        profile, note (why there is nothing).
    """
    import pandas as pd

    values, paper = by_variant(rows), printed(rows)
    run_of = {(cell.variant, cell.scale): cell.run for cell in cells.of(3, profile) if scale in (None, cell.scale)}
    parts = []
    for variant in LABELS:
        part = compare(values, paper, variant, WHOLE)
        means = _of(values, variant).groupby(KEYS).mean()  # a column per seed
        part["ours"], part["seeds"] = means.mean(axis=1), means.count(axis=1)
        part["seed_interval"] = [intervals.half_width(line[line == line]) for line in means.to_numpy()]
        part["printed"], part["n"] = paper[variant], values.groupby(KEYS).size()
        parts.append(part.assign(variant=variant, profile=profile).reset_index())
    frame = pd.concat(parts, ignore_index=True)
    frame["run"] = [run_of[key] for key in zip(frame.variant, frame.scale, strict=True)]
    frame["note"] = frame.run.map(lambda name: absent.get(name, ""))
    frame["variant"] = frame.variant.map(LABELS)
    frame = frame.sort_values("metric", kind="stable")
    columns = ["scale", "set", "variant", "metric", "ours", "seeds", "seed_interval", "difference", "low", "high"]
    columns += ["printed", "printed_difference", "verdict", "n", "run", "profile", "note"]
    order = {label: place for place, label in enumerate(LABELS.values())}
    frame = frame.sort_values("variant", key=lambda column: column.map(order), kind="stable")
    return tables.in_order(frame, ["scale", "set"])[columns].reset_index(drop=True)


def by_variant(rows):
    """A line per KEYS and image, a column per variant and seed."""
    variant_of = {cell.run: cell.variant for cell in cells.of(3)}
    found = [runs.split_seed(name, variant_of) for name in rows.run]
    frame = rows.assign(variant=[variant_of[name] for name, _ in found], seed=[seed or 0 for _, seed in found])
    return frame.pivot(index=[*KEYS, "image"], columns=["variant", "seed"], values="value")


def _of(values, variant):
    """The columns of a variant, named by its seeds; without one, a column of NaN."""
    there = variant in values.columns.get_level_values("variant")
    return values[variant] if there else values.iloc[:, :1].droplevel("variant", axis=1) * float("nan")


def printed(rows):
    """The printed values of Table 3, a line per KEYS, a column per variant; NaN where a set is not whole."""
    paper = tables.printed(3)
    paper = paper[paper.flag == ""].astype({"scale": int, "value": float}).rename(columns={"value": "printed"})
    there = rows.groupby([*KEYS, "profile"]).image.nunique().rename("n").reset_index()
    frame = there.merge(paper[[*KEYS, "variant", "printed"]], on=KEYS, how="left")
    tables.withhold(frame)
    return frame.pivot(index=KEYS, columns="variant", values="printed").reindex(columns=list(LABELS))


def compare(values, paper, variant, base):
    """How one variant differs from another: a line per KEYS.

    Args:
        values: see `by_variant`.  paper: see `printed`.
    Returns:
        DataFrame: difference, low and high (its 95 % interval over images), printed_difference, verdict.
    """
    import pandas as pd

    differences = (_of(values, variant) - _of(values, base)).mean(axis=1)  # over the seeds that both have
    if variant == base:
        differences *= float("nan")
    grouped = differences.groupby(KEYS)
    frame = pd.DataFrame({"difference": grouped.mean()})
    bounds = [intervals.paired(group.dropna()) for _, group in grouped]
    frame["low"], frame["high"] = zip(*bounds, strict=True)
    frame["printed_difference"] = paper[variant] - paper[base] if variant != base else float("nan")
    frame["verdict"] = [verdict(*line) for line in frame.to_numpy()]
    return frame


def verdict(difference, low, high, printed) -> str:
    """Whether a difference has the sign that was printed: "reproduced", "partly" (its interval holds 0), or "not"."""
    if difference != difference or printed != printed or printed == 0:
        return "not tested"
    if difference * printed <= 0:
        return "not"
    return "reproduced" if low * high > 0 else "partly"


def claims(rows, scale=None):
    """What the paper says of the order of its Table 3, what was measured, and a verdict over all whole sets.

    Args:
        rows: as `table`.
    Returns:
        DataFrame: claim, scale, paper and ours (mean differences on Set5 and B100, ours also over all sets, dB),
        verdict: that of every set's PSNR and SSIM if they agree, else "partly"; "not tested" without a printed set.
    """
    import pandas as pd

    values, paper, lines = by_variant(rows), printed(rows), []
    for variant, base, text in CLAIMS:
        compared = compare(values, paper, variant, base)
        for one in sorted(set(rows.scale)) if scale is None else [scale]:
            found = compared.loc[one]
            psnr = found.xs("psnr", level="metric")
            lines.append(
                {
                    "claim": text,
                    "scale": f"x{one}",
                    "paper (Set5 / B100, dB)": tables.pair(psnr.printed_difference, "+.2f"),
                    "ours (Set5 / B100, dB)": tables.pair(psnr.difference, "+.2f"),
                    "ours (mean of all sets, dB)": round(psnr.difference.mean(), 2),
                    "verdict": tables.summed_up(found.verdict),
                }
            )
    return pd.DataFrame(lines)


def write(rows, absent, profile, scale=None, seeds=None):
    """Write metrics/table3, tables/table3 and tables/table3_claims; of one scale alone as table3_x<scale>.

    Returns:
        the table and the claims.
    """
    name = "table3" if scale is None else f"table3_x{scale}"
    given = {key: value for key, value in {"scale": scale, "seeds": seeds}.items() if value is not None}
    command = experiments.papermill_command("03_ablation", profile, **given)
    results.save_rows(rows.to_dict("records"), results.folder(profile, "metrics", f"{name}.csv"))
    made, told = table(rows, absent, profile, scale), claims(rows, scale)
    results.save_table(
        made,
        results.folder(profile, "tables", name),
        title=f"Table 3: CAR without a part of it, profile {profile}",
        caption="ours: mean over the n images of the set and over the seeds, standard protocol (PSNR in dB, Y); "
        "seed_interval: half of the 95 % interval of the mean over seeds, whose upscalers have one start. difference: "
        "to CAR, image by image; low, high: its 95 % interval over images (10,000 paired resamples). printed: the "
        "paper's value, made with its full-size networks; left out where a set is not whole or its images are "
        "cropped. verdict: reproduced where the difference has the printed sign and its interval leaves 0 out, partly "
        "where it holds 0. A run without weights of this recipe has no numbers, and its note says so.",
        command=command,
    )
    results.save_table(
        told,
        results.folder(profile, "tables", f"{name}_claims"),
        title=f"Table 3: the paper's order, profile {profile}",
        caption="Mean differences of PSNR; the verdict is that of every whole set's PSNR and SSIM if they agree.",
        command=command,
    )
    return made, told
