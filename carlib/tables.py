"""The paper's tables: rows in, DataFrames out, ours beside the printed value. Nothing is measured here.

Networks of another size than the paper's (every profile but "paper") are not compared with a printed value. A claim
that the paper prints, such as a gain or an order, is judged for the profile's own networks.
"""

from carlib import intervals, results, runs

SETS = ("set5", "set14", "bsd100", "urban100", "div2k")
# The printed column that a downscaler of ours stands for: what its numbers were made with (REPLICATION.md).
COLUMN = {"perceptual-as-published": "perceptual", "dpid-0.5": "dpid", "l0-surrogate": "l0"}

VERDICT = (  # what `verdict` says, for captions
    "reproduced where the difference has the printed sign and both its intervals leave 0 out, partly where one "
    "holds 0 or the difference is a small share of the printed one, more than printed where it is many times that one "
    "(params.yaml, gain_share and gain_more)"
)
MORE = "more than printed"  # a difference of the printed sign, but so large that it is another finding


def printed(number: int):
    """The paper's Table `number` (1-5) in long form, with its errata flagged."""
    import pandas as pd

    return pd.read_csv(results.root() / "data" / "paper" / f"table{number}.csv", keep_default_na=False)


def later():
    """What others printed after the paper (2020): columns as Table 4's, and whose page it is (`source`)."""
    import pandas as pd

    return pd.read_csv(results.root() / "data" / "paper" / "later.csv", keep_default_na=False)


_CELL = ["upscaler", "downscaler", "scale", "set", "metric"]
_SHARED = ["upscaler", "scale", "set", "metric"]  # by cells that are compared


def table1(rows):
    """Table 1 in long form: one line per upscaler, downscaler, scale, set and metric.

    Args:
        rows: long-form rows (results.ROW_COLUMNS), of runs under any seeds; protocol "standard" counts.
    Returns:
        DataFrame: upscaler, downscaler, scale, set, metric, ours (mean over images and seeds), seeds (how many),
        seed_interval (half of the 95 % interval of the mean over seeds), printed (NaN where the paper has none or used
        another protocol, or the set is not whole), difference (ours less printed, NaN for networks of another size than
        the paper's), gain (over bicubic downscaling, over the seeds that both have), low and high (its 95 % interval
        over images), gain_seed_interval (half of that of its mean over seeds, paired), printed_gain, verdict, n
        (images), run, profile.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame = frame[frame.protocol == "standard"]
    named = {name: runs.split_seed(name, runs.names()) for name in frame.run.unique()}
    frame = frame.assign(seed=[named[name][1] or 0 for name in frame.run], run=[named[name][0] for name in frame.run])
    table = _means(frame)
    paper = printed(1)
    paper = paper[paper.flag == ""].astype({"value": float, "scale": int}).set_index(_CELL)["value"]
    columns = table.assign(downscaler=table.downscaler.replace(COLUMN))[_CELL].itertuples(index=False, name=None)
    table["printed"] = [paper.get(column, float("nan")) for column in columns]
    withhold(table)
    table["difference"] = table.ours - table.printed
    learned = (table.downscaler == "car") | (table.upscaler != "bicubic")
    table.loc[learned & (table.profile != "paper"), "difference"] = float("nan")
    table = table.join(_gains(frame), on=_CELL)
    base = table[table.downscaler == "bicubic"].set_index(_SHARED)["printed"].rename("base")
    table["printed_gain"] = table.printed - table.join(base, on=_SHARED)["base"]
    gains = ["gain", "low", "high", "gain_seed_interval", "printed_gain"]
    table.loc[table.downscaler == "bicubic", gains] = float("nan")
    table["verdict"] = _verdicts(table)
    numbers = ["ours", "seeds", "seed_interval", "printed", "difference", *gains]
    table = in_order(table, ["scale", "set", "upscaler", "downscaler", "metric"])
    return table[[*_CELL, *numbers, "verdict", "n", "run", "profile"]].reset_index(drop=True)


def _means(frame):
    """Means over images and seeds: a line per _CELL."""
    keys = [*_CELL, "run", "profile"]
    means = {"ours": ("value", "mean"), "seeds": ("seed", "nunique"), "n": ("image", "nunique")}
    table = frame.groupby(keys, sort=False).agg(**means)
    of_seeds = frame.groupby([*keys, "seed"], sort=False)["value"].mean()
    table["seed_interval"] = of_seeds.groupby(keys).agg(intervals.half_width)
    return table.reset_index()


def _gains(frame):
    """What is gained over bicubic downscaling, image by image and seed by seed, with its intervals, by _CELL."""
    import pandas as pd

    keys = [*_SHARED, "image", "seed"]
    values = frame.pivot(index=keys, columns="downscaler", values="value")
    differences = values.sub(values.get("bicubic", float("nan")), axis="index").stack().dropna()
    cells = differences.groupby([*_CELL, "image"]).mean().groupby(_CELL)
    bounds = pd.DataFrame([intervals.paired(cell) for _, cell in cells], columns=["low", "high"], dtype=float)
    by_seed = differences.groupby([*_CELL, "seed"]).mean()
    frame = cells.mean().to_frame("gain").reset_index().join(bounds).set_index(_CELL)
    return frame.assign(gain_seed_interval=by_seed.groupby(_CELL).agg(intervals.half_width))


def withhold(table):
    """Take back the printed values (in place) where not all images of a set were measured, or only their middle."""
    from carlib.data.sets import SETS

    cropped = {name: runs.profile(name)["evaluate"]["crop"] is not None for name in table.profile.unique()}
    whole = (table.n == table.set.map(lambda name: SETS[name].count)) & ~table.profile.map(cropped)
    table.loc[~whole, "printed"] = float("nan")


def in_order(table, keys):
    """Lines sorted by `keys`, image sets in the paper's order."""
    order = {name: i for i, name in enumerate(("demo", *SETS))}
    return table.sort_values(
        keys, key=lambda column: column.map(order) if column.name == "set" else column, kind="stable"
    )


def grid(table, names, doubted=None):
    """PSNR of a long-form table on one page: a line per scale and method, a column per image set, "ours (printed)".

    Args:
        table: DataFrame scale, set, metric, ours, printed and `names`; the sets' order is kept.
        names: the columns that tell methods apart.
        doubted: for each line, whether its printed value is marked by an asterisk; None: none is.
    """
    marks = "" if doubted is None else ["*" if one else "" for one in doubted]
    psnr = table.assign(mark=marks)[table.metric == "psnr"]
    shown = psnr.assign(cell=[_beside(line.ours, line.printed, line.mark) for line in psnr.itertuples()])
    keys, sets = ["scale", *names], list(dict.fromkeys(psnr.set))
    order = psnr[keys].drop_duplicates()
    wide = shown.pivot(index=keys, columns="set", values="cell")[sets].fillna("-")
    return order.merge(wide.reset_index(), on=keys).sort_values("scale", kind="stable").reset_index(drop=True)


def _beside(ours, theirs, mark="") -> str:
    ours, theirs = ("-" if value != value else f"{value:.2f}" for value in (ours, theirs))
    return "-" if ours == theirs == "-" else f"{ours} ({theirs}{mark})"


def _verdicts(table):
    """For each line "reproduced", MORE, "partly", "not" or "not tested".

    Bicubic down and up, which nothing learned: within the tolerance of the printed value. Others: the `verdict` of the
    gain over bicubic downscaling. Bicubic + EDSR is what they are compared with.
    """
    tolerance = runs.tolerance()

    def of_line(line):
        if line.downscaler != "bicubic":
            return verdict(line.gain, line.low, line.high, line.gain_seed_interval, line.printed_gain)
        if line.upscaler != "bicubic" or line.printed != line.printed:
            return "not tested"
        return "reproduced" if abs(line.difference) <= tolerance[line.metric] else "not"

    return table.apply(of_line, axis=1)


def verdict(difference, low, high, over_seeds, printed) -> str:
    """Whether a difference was reproduced, which has a printed value beside it.

    Args:
        low, high: its interval over images.  over_seeds: half of its interval over seeds, NaN for one seed.
    Returns:
        "not" of the other sign, "partly" where an interval holds 0 or it is a smaller share of the printed one than
        params.yaml wants (tolerance, gain_share), MORE above gain_more times it, else "reproduced"; "not tested"
        without one of the two.
    """
    if difference != difference or printed != printed or printed == 0:
        return "not tested"
    if difference * printed <= 0:
        return "not"
    tolerance = runs.tolerance()
    if not low * high > 0 or abs(difference) <= over_seeds or abs(difference) < tolerance["gain_share"] * abs(printed):
        return "partly"
    return MORE if abs(difference) > tolerance["gain_more"] * abs(printed) else "reproduced"


_CLAIMS = {
    ("bicubic", "bicubic"): "Bicubic down and up measures as printed",
    ("car", "bicubic"): "CAR trained for a fixed bicubic upscaler gains over bicubic downscaling",
    ("car", "edsr"): "CAR trained jointly with EDSR gains over bicubic downscaling and EDSR",
    ("perceptual-as-published", "edsr"): "EDSR restores worse from Perceptually's LR than from bicubic's",
    ("dpid-0.5", "edsr"): "EDSR restores worse from DPID's LR than from bicubic's",
    ("l0", "edsr"): "EDSR restores worse from L0-regularized's LR (here our reconstruction) than from bicubic's",
}


def claims(table) -> list[dict]:
    """Table 1's claims: what was printed for Set5 and B100, what was measured, and a verdict over all printed sets.

    Args:
        table: a `table1`.
    Returns:
        dicts: claim, scale, paper and ours (values of bicubic, gains of others; dB), and the verdict over every set's
        PSNR and SSIM, see `summed_up`; "not tested" without a printed set.
    """
    lines = []
    for (downscaler, upscaler), text in _CLAIMS.items():
        for scale in sorted(table.scale.unique()):
            column = table[(table.scale == scale) & (table.upscaler == upscaler)]
            verdicts = column[column.downscaler == downscaler].verdict
            column = column[column.metric == "psnr"].set_index("set")
            cells, plain = (column[column.downscaler == d] for d in (downscaler, "bicubic"))
            gained = downscaler != "bicubic"
            paper = cells.printed - plain.printed if gained else cells.printed
            ours, form = (cells.gain, "+.2f") if gained else (cells.ours, ".2f")
            lines.append(
                {
                    "claim": text,
                    "scale": f"x{scale}",
                    "paper (Set5 / B100, dB)": pair(paper, form),
                    "ours (Set5 / B100, dB)": pair(ours, form),
                    "verdict": summed_up(verdicts),
                }
            )
    return lines


def summed_up(verdicts) -> str:
    """That of all lines if they agree, those that could not be tested left out, else "partly".

    Where all are MORE or "reproduced": MORE if most of them are.
    """
    tested = [verdict for verdict in verdicts if verdict != "not tested"]
    if not tested:
        return "not tested"
    if set(tested) <= {"reproduced", MORE}:
        return MORE if tested.count(MORE) > len(tested) / 2 else "reproduced"
    return tested[0] if len(set(tested)) == 1 else "partly"


def of_all(verdicts) -> str:
    """`summed_up` where every line could be tested, else "not tested"."""
    return "not tested" if "not tested" in set(verdicts) else summed_up(verdicts)


def seen(rows, crop=None) -> str:
    """How many images rows are of, for a caption: "n = 6 images (2 of Set5, 4 of Set14)".

    Args:
        crop: pixels of the side of the middle that was taken of each and cut to multiples of 8; None: they were whole.
    """
    counts = {}
    for set_name, _ in dict.fromkeys((row["set"], row["image"]) for row in rows):
        counts[set_name] = counts.get(set_name, 0) + 1
    told = f"n = {sum(counts.values())} images ({', '.join(f'{count} of {name}' for name, count in counts.items())})"
    side = None if crop is None else crop - crop % 8
    return told if side is None else f"{told}, of each the middle, {side} x {side} pixels where it is as large"


def pair(values, form) -> str:
    """The numbers of Set5 and B100 in a Series whose index are sets, as "1.00 / -"; "-" where there is none."""
    shown = (values.get(name, float("nan")) for name in ("set5", "bsd100"))
    return " / ".join("-" if value != value else format(value, form) for value in shown)
