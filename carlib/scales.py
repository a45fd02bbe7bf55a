"""What does CAR gain at other scales than the paper's? Its pair, EDSR on bicubic LR and CAR with EDSR, at x2 to x8.

An image loses what exceeds a multiple of the scale, so that scales measure slightly different images.
"""

from carlib import contrasts, experiments, illustrate, overview, results, seeds, tables

SCALES, BASE, CAR, BOTH_WAYS = (2, 3, 4, 8), "bicubic", "car", "bicubic both ways"
RUNS = {BOTH_WAYS: "bicubic-bicubic-x{}", BASE: "bicubic-edsr-x{}", CAR: "car-edsr-x{}"}
LABELS = {name.format(scale): label for scale in SCALES for label, name in RUNS.items()}
COLUMNS = ["scale", "set", "metric", "n", "seeds", BOTH_WAYS, BASE, CAR, "gain", "low", "high", "printed_gain",
           "profile"]  # fmt: skip
_IMAGE, _BOXES = "demo/coffee", {3: [168, 192, 96, 144], 8: [144, 192, 120, 144]}


def names(profile) -> list[str]:
    """The runs that are measured; the pair at the paper's scales under all of its seeds."""
    return list(dict.fromkeys([*LABELS, *seeds.names(profile)]))


def study(profile, *, device="auto", progress=True):
    """Measure what has weights, and write metrics/scales and tables/scales. Nothing is trained.

    Returns:
        the table, see `table`.
    Raises:
        ValueError: no scale has weights of both runs, or none of the profile's sets is here.
    """
    there = [name for name in names(profile) if not overview.why_absent(name, profile)]
    rows = contrasts.measure(there, profile, device=device, progress=progress)
    results.save_rows(rows.to_dict("records"), results.folder(profile, "metrics", "scales.csv"))
    made = table(rows, profile)
    if made.empty:
        raise ValueError(
            f"no scale has weights of bicubic and of CAR under profile {profile}: train {names(profile)[1]}"
        )
    results.save_table(
        made,
        results.folder(profile, "tables", "scales"),
        title=f"CAR's gain by scale, profile {profile}",
        caption="bicubic both ways, EDSR on bicubic LR (bicubic), CAR with EDSR (car): means over the n images of the "
        "set and over the seeds (PSNR in dB), standard protocol: Y, a border of scale pixels left out. gain: of CAR "
        "over bicubic with EDSR, image by image; low, high: its 95 % interval over images. printed_gain: the paper's, "
        "which has x2 and x4; left out where a set is not whole. A scale without weights is left out.",
        command=experiments.papermill_command("01_downscaling_for_sr", profile),
    )
    return made


def table(rows, profile):
    """CAR's gain, a line per scale, set and metric.

    Args:
        rows: DataFrame of results.ROW_COLUMNS: runs of RUNS under any seeds; a scale without CAR or its rival is left
            out.
    Returns:
        DataFrame with COLUMNS: n images, how many seeds CAR has, the means (those of the pair over the seeds that each
        has), gain, low and high (its interval over images), printed_gain.
    """
    values = contrasts.by_label(rows, LABELS)
    paper = contrasts.printed(seeds.paper(), rows, [BASE, CAR])
    frame = contrasts.compare(values, paper, CAR, BASE)
    frame = frame.rename(columns={"difference": "gain", "printed_difference": "printed_gain"})
    for label in RUNS:
        means = contrasts.of(values, label).groupby(contrasts.KEYS).mean()
        frame[label] = means.mean(axis=1)
    frame["seeds"] = means.count(axis=1)
    frame = frame[frame.gain.notna()].assign(profile=profile).reset_index()
    return tables.in_order(frame, ["scale", "set"])[COLUMNS].reset_index(drop=True)


def figure(profile):
    """LR images and what is restored from them, at the scales that the paper lacks: Figure, written as figures/scales.

    Raises:
        ValueError: weights are missing.
    """
    from carlib import data, figures

    rows = []
    for scale, box in _BOXES.items():
        hr = data.to_colour(illustrate.check_crop(_IMAGE, scale, box))
        panels = [
            panel
            for label, name in (("Bicubic", RUNS[BASE]), ("CAR", RUNS[CAR]))
            for panel in illustrate.panels(label, experiments.chain(name.format(scale), profile), hr, box)
        ]
        rows.append({"name": f"{_IMAGE}, x{scale}", "hr": hr, "box": box, "panels": panels})
    drawn = figures.crops(rows)
    results.save_figure(
        drawn,
        results.folder(profile, "figures", "scales"),
        title=f"Downscaled by {' and by '.join(map(str, _BOXES))} and restored, profile {profile}",
        alt=f"Crops of {_IMAGE} at both scales: bicubic's and CAR's small image, and what EDSR restores from them",
        caption="PSNR and SSIM of the whole image (Y, standard protocol). LR crops are enlarged without interpolation.",
        command=experiments.papermill_command("01_downscaling_for_sr", profile),
    )
    return drawn
