"""What does CAR gain at other scales than the paper's? Its pair, EDSR on bicubic LR and CAR with EDSR, at x2 to x8.

An image loses what exceeds a multiple of the scale, so that scales measure slightly different images.
"""

from carlib import cells, contrasts, experiments, illustrate, intervals, overview, results, runs, seeds, tables

SCALES = sorted([*cells.SCALES, *cells.OTHER_SCALES])
BASE, CAR, BOTH_WAYS = "bicubic", "car", "bicubic both ways"
RUNS = {BOTH_WAYS: "bicubic-bicubic-x{}", BASE: "bicubic-edsr-x{}", CAR: "car-edsr-x{}"}
LABELS = {name.format(scale): label for scale in SCALES for label, name in RUNS.items()}
COLUMNS = ["scale", "set", "metric", "n", "seeds", BOTH_WAYS, BASE, CAR, "gain", "low", "high", "printed_gain",
           "profile"]  # fmt: skip
_IMAGE, _BOXES = "demo/coffee", {3: [168, 192, 96, 144], 8: [144, 192, 120, 144]}


def names(scales=SCALES) -> list[str]:
    """The declared runs of some scales."""
    return runs.at_scales(RUNS.values(), scales)


def study(profile, *, device="auto", progress=True):
    """Measure the scales whose runs all have weights, and write metrics/scales and tables/scales. Nothing is trained.

    The pair at the paper's scales is measured under as many of its seeds as have weights.

    Returns:
        the table, see `table`.
    Raises:
        ValueError: no scale has weights, or none of the profile's sets is here.
    """
    measured = names(_complete(SCALES, profile))
    further = [name for name in seeds.names(profile) if runs.split_seed(name, runs.names())[0] in measured]
    there = [name for name in further if not overview.why_absent(name, profile)]
    rows = contrasts.measure(dict.fromkeys([*measured, *there]), profile, device=device, progress=progress)
    results.save_rows(rows.to_dict("records"), results.folder(profile, "metrics", "scales.csv"))
    made = table(rows, profile)
    results.save_table(
        made,
        results.folder(profile, "tables", "scales"),
        title=f"CAR's gain by scale, profile {profile}",
        caption="bicubic both ways, EDSR on bicubic LR (bicubic), CAR with EDSR (car): means over the n images of the "
        "set and over the seeds that both of the pair have (PSNR in dB), standard protocol: Y, a border of scale "
        "pixels left out. gain: of CAR over bicubic with EDSR, image by image; low, high: its 95 % interval over "
        f"images ({intervals.HOW}). printed_gain: the paper's, which has x2 and x4; left out where a set is not whole. "
        "A scale whose runs have no weights of this recipe is left out.",
        command=experiments.papermill_command("01_downscaling_for_sr", profile),
    )
    return made


def _complete(scales, profile) -> list[int]:
    """Those whose runs all have weights.

    Raises:
        ValueError: none has.
    """
    if found := overview.complete(scales, lambda scale: names([scale]), profile):
        return found
    told = overview.first_absent(names(scales), profile)
    raise ValueError(f"no scale of {', '.join(map(str, scales))} can be measured: {told}")


def table(rows, profile):
    """CAR's gain, a line per scale, set and metric.

    Args:
        rows: DataFrame of results.ROW_COLUMNS: runs of RUNS under any seeds.
    Returns:
        DataFrame with COLUMNS: n images, how many seeds both of the pair have, the means over these, gain, low and high
        (its interval over images), printed_gain. A scale with one of the pair alone has no line.
    """
    values = contrasts.by_label(rows, LABELS)
    frame = contrasts.compare(values, contrasts.printed(seeds.paper(), rows, [BASE, CAR]), CAR, BASE)
    frame = frame.rename(columns={"difference": "gain", "printed_difference": "printed_gain"})
    car, bicubic = contrasts.shared_means(values, CAR, BASE)
    frame[CAR], frame[BASE], frame["seeds"] = car.mean(axis=1), bicubic.mean(axis=1), car.count(axis=1)
    frame[BOTH_WAYS] = contrasts.of(values, BOTH_WAYS).groupby(contrasts.KEYS).mean().mean(axis=1)
    frame = frame[frame.gain.notna()].assign(profile=profile).reset_index()
    return tables.in_order(frame, ["scale", "set"])[COLUMNS].reset_index(drop=True)


def figure(profile):
    """LR images and what is restored from them, at the scales that the paper lacks: Figure, written as figures/scales.

    Raises:
        ValueError: none of these scales has weights.
    """
    from carlib import data, figures

    rows = []
    for scale in _complete(_BOXES, profile):
        hr, panels = data.to_colour(illustrate.check_crop(_IMAGE, scale, _BOXES[scale])), []
        for label, name in (("Bicubic + EDSR", RUNS[BASE]), ("CAR + EDSR", RUNS[CAR])):
            panels += illustrate.panels(label, experiments.chain(name.format(scale), profile), hr, _BOXES[scale])
        rows.append({"name": f"{_IMAGE}, x{scale}", "hr": hr, "box": _BOXES[scale], "panels": panels})
    drawn = figures.crops(rows)
    results.save_figure(
        drawn,
        results.folder(profile, "figures", "scales"),
        title=f"Downscaled at other scales than the paper's and restored, profile {profile}",
        alt=f"Crops of {_IMAGE} at each scale: bicubic's and CAR's small image, and what EDSR restores from them",
        caption="PSNR and SSIM of the whole image (Y, standard protocol). LR crops are enlarged without interpolation.",
        command=experiments.papermill_command("01_downscaling_for_sr", profile),
    )
    return drawn
