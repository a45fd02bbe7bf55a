"""Is CAR's gain an accident of the seed? Table 1's pair, EDSR on bicubic LR and CAR with EDSR, under several."""

from carlib import artefacts, cells, experiments, intervals, results, runs, tables
from carlib.studies import contrasts

BASE, CAR = "bicubic", "car"
LABELS = {name: name.partition("-")[0] for name in cells.PAIR}
COLUMNS = ["scale", "set", "metric", "n", "seeds", BASE, CAR, "gain", "interval", "lowest", "highest", "printed_gain",
           "profile"]  # fmt: skip


def study(profile, *, train=True, executor="", device="auto", progress=True):
    """Train what is missing of the pair's seeds, measure them on the profile's sets, and write what `write` says.

    Args:
        train, executor: see `contrasts.make_ready`.
    Returns:
        the table, see `table`.
    Raises:
        ValueError: a run cannot be trained, or none has weights.
    """
    contrasts.check_training(train, executor)
    options = {"train": train, "executor": executor, "device": device, "progress": progress}
    rows, absent = contrasts.trained_and_measured(names(profile), profile, **options)
    if rows.empty:
        raise ValueError(f"no run of the pair can be measured under profile {profile}: {next(iter(absent.values()))}")
    return write(rows, profile, train=train)


def names(profile) -> list[str]:
    """The runs of the pair, seed by seed, as many as params.yaml wants."""
    count = cells.seeds("pair", profile)
    return [name for seed in zip(*(runs.seeded([run], count) for run in cells.PAIR), strict=True) for name in seed]


def table(rows, profile):
    """What CAR gains, seed by seed.

    Args:
        rows: DataFrame of results.ROW_COLUMNS: the pair under any seeds; a seed without both of them is left out.
    Returns:
        DataFrame with COLUMNS, a line per set and metric: n images, how many seeds, the means over both of EDSR on
        bicubic LR and of CAR, gain (their difference), interval (half of Student's 95 % interval of the gain over
        seeds, NaN for one), lowest and highest gain of a seed, and what is printed, where the set is whole.
    """
    values = contrasts.by_label(rows, LABELS)
    car, bicubic = contrasts.shared_means(values, CAR, BASE)
    gains = (car - bicubic).dropna(how="all")
    frame = gains.agg(["mean", "min", "max"], axis=1)
    frame = frame.rename(columns={"mean": "gain", "min": "lowest", "max": "highest"})
    frame[CAR], frame[BASE] = car.mean(axis=1), bicubic.mean(axis=1)
    frame["seeds"] = gains.count(axis=1)
    frame["interval"] = [intervals.half_width(line[line == line]) for line in gains.to_numpy()]
    frame["n"] = rows.groupby(contrasts.KEYS).image.nunique()
    printed = contrasts.printed(paper(), rows, [BASE, CAR])
    frame["printed_gain"] = printed[CAR] - printed[BASE]
    frame = tables.in_order(frame.assign(profile=profile).reset_index(), ["scale", "set"])
    return frame[COLUMNS].reset_index(drop=True)


def paper():
    """Table 1's printed cells of the pair, for `contrasts.printed`; label: BASE or CAR."""
    found = tables.printed(1)
    found = found[(found.flag == "") & (found.upscaler == "edsr") & found.downscaler.isin([BASE, CAR])]
    found = found.astype({"scale": int, "value": float})
    return found.rename(columns={"value": "printed", "downscaler": "label"})


def write(rows, profile, *, train=True):
    """Write metrics/seeds and tables/seeds; returns the table.

    Args:
        train: False if nothing was trained for it, which the command that makes it again then says.
    """
    artefacts.save_rows(rows.to_dict("records"), results.folder(profile, "metrics", "seeds.csv"))
    made = table(rows, profile)
    artefacts.save_table(
        made,
        results.folder(profile, "tables", "seeds"),
        title=f"Table 1's pair under several seeds, profile {profile}",
        caption="EDSR on bicubic LR and CAR with EDSR, means over the n images of the set and over the seeds, standard "
        "protocol (PSNR in dB, Y). gain: CAR's; interval: half of Student's 95 % interval of its mean over seeds; "
        "lowest, highest: of one seed. A seed draws patches, their colours and CAR's first weights; the EDSR that "
        "all begin with is one. printed_gain: the paper's, left out where a set is not whole.",
        command=experiments.papermill_command("01_downscaling_for_sr", profile, train=train),
    )
    return made
