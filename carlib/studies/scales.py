"""What does CAR gain at other scales than the paper's? Its pair, EDSR on bicubic LR and CAR with EDSR, at x2 to x8.

An image loses what exceeds a multiple of the scale, so that scales measure slightly different images.
"""

from carlib import artefacts, cells, experiments, intervals, overview, results, runs, tables
from carlib.studies import contrasts, illustrate, seeds

SCALES = sorted([*cells.SCALES, *cells.OTHER_SCALES])
BASE, CAR, BOTH_WAYS = "bicubic", "car", "bicubic both ways"
RUNS = {BOTH_WAYS: "bicubic-bicubic-x{}", BASE: "bicubic-edsr-x{}", CAR: "car-edsr-x{}"}
LABELS = {name.format(scale): label for scale in SCALES for label, name in RUNS.items()}
COLUMNS = ["scale", "set", "metric", "n", "seeds", BOTH_WAYS, BASE, CAR, "gain", "low", "high", "seed_interval",
           "printed_gain", "profile"]  # fmt: skip
_IMAGE, _BOXES = "demo/coffee", {3: [168, 192, 96, 144], 8: [144, 192, 120, 144]}


def names(scales=SCALES) -> list[str]:
    """The declared runs of some scales."""
    return runs.at_scales(RUNS.values(), scales)


def study(profile, *, device="auto", progress=True):
    """Measure the scales whose runs all have weights, and write metrics/scales and tables/scales. Nothing is trained.

    The pair is measured under as many of its seeds as have weights.

    Returns:
        the table, see `table`.
    Raises:
        ValueError: no scale has weights, or none of the profile's sets is here.
    """
    measured = names(_complete(SCALES, profile))
    if not measured:
        told = overview.first_absent(names(), profile)
        raise ValueError(f"no scale of {', '.join(map(str, SCALES))} can be measured: {told}")
    further = [*seeds.names(profile), *runs.seeded(cells.OTHER_PAIR, cells.seeds("scales", profile))]
    wanted = [name for name in further if runs.split_seed(name, runs.names())[0] in measured]
    there = [name for name in wanted if not overview.why_absent(name, profile)]
    rows = contrasts.measure(dict.fromkeys([*measured, *there]), profile, device=device, progress=progress)
    artefacts.save_rows(rows.to_dict("records"), results.folder(profile, "metrics", "scales.csv"))
    made = table(rows, profile)
    artefacts.save_table(
        made,
        results.folder(profile, "tables", "scales"),
        title=f"CAR's gain by scale, profile {profile}",
        caption="bicubic both ways, EDSR on bicubic LR (bicubic), CAR with EDSR (car): means over the n images of the "
        "set and over the seeds that both of the pair have (PSNR in dB), standard protocol: Y, a border of scale "
        "pixels left out. gain: of CAR over bicubic with EDSR, image by image; low, high: its 95 % interval over "
        f"images ({intervals.HOW}); seed_interval: half of Student's 95 % interval of its mean over seeds. "
        "printed_gain: the paper's, which has x2 and x4; left out where a set is not whole. "
        "A scale whose runs have no weights of this recipe is left out. A set without an image is one whose training "
        "set holds that image's scene: all networks have seen it (woman of Set5 is 302003 of BSDS500, reduced).",
        command=_command(profile),
    )
    return made


def _command(profile):
    return experiments.papermill_command("01_downscaling_for_sr", profile, train=False)


def _complete(scales, profile) -> list[int]:
    """Those whose runs all have weights."""
    return overview.complete(scales, lambda scale: names([scale]), profile)


def table(rows, profile):
    """CAR's gain, a line per scale, set and metric.

    Args:
        rows: DataFrame of results.ROW_COLUMNS: runs of RUNS under any seeds.
    Returns:
        DataFrame with COLUMNS: n images, how many seeds both of the pair have, the means over these, gain, low and high
        (its interval over images), seed_interval (half of that over seeds, NaN for one), printed_gain. A scale with one
        of the pair alone has no line. A set of which training has seen an image has further lines, "set5 without
        woman".
    """
    import pandas as pd

    found = [_lines(rows, profile)]
    for name, images in _seen_in_training(rows, profile).items():
        others = rows[(rows.set == name) & ~rows.image.isin(images)]
        if len(others):
            found.append(_lines(others, profile).assign(set=f"{name} without {', '.join(images)}"))
    return pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]


def _seen_in_training(rows, profile) -> dict:
    """Set -> its images that the pair's training set holds, too (data.sets.COPIES)."""
    from carlib.data.sets import COPIES

    trained = {name for run in RUNS.values() for name in runs.get(run.format(SCALES[0]), profile).train_sets}
    here, found = set(rows[["set", "image"]].itertuples(index=False, name=None)), {}
    for (name, image), holders in COPIES.items():
        if trained.intersection(holders) and (name, image) in here:
            found.setdefault(name, []).append(image)
    return found


def _lines(rows, profile):
    values = contrasts.by_label(rows, LABELS)
    frame = contrasts.compare(values, contrasts.printed(seeds.paper(), rows, [BASE, CAR]), CAR, BASE)
    names = {"difference": "gain", "difference_seed_interval": "seed_interval", "printed_difference": "printed_gain"}
    frame = frame.rename(columns=names)
    car, bicubic = contrasts.shared_means(values, CAR, BASE)
    frame[CAR], frame[BASE], frame["seeds"] = car.mean(axis=1), bicubic.mean(axis=1), car.count(axis=1)
    frame[BOTH_WAYS] = contrasts.of(values, BOTH_WAYS).groupby(contrasts.KEYS).mean().mean(axis=1)
    frame = frame[frame.gain.notna()].assign(profile=profile).reset_index()
    return tables.in_order(frame, ["scale", "set"])[COLUMNS].reset_index(drop=True)


def figure(profile):
    """LR images and what is restored from them, at the scales that the paper lacks: Figure, written as figures/scales.

    None, and no such file, where none of these scales has weights.
    """
    from carlib import figures

    path, rows = results.folder(profile, "figures", "scales"), []
    for scale in _complete(_BOXES, profile):
        named = {"Bicubic + EDSR": RUNS[BASE], "CAR + EDSR": RUNS[CAR]}
        shown = {label: experiments.chain(name.format(scale), profile) for label, name in named.items()}
        hr = illustrate.check_crop(_IMAGE, scale, _BOXES[scale])
        rows.append(illustrate.row(f"{_IMAGE}, x{scale}", hr, _BOXES[scale], shown))
    if not rows:
        return artefacts.remove_figure(path)
    drawn = figures.crops(rows)
    artefacts.save_figure(
        drawn,
        path,
        title=f"Downscaled at other scales than the paper's and restored, profile {profile}",
        alt=f"Crops of {_IMAGE} at each scale: bicubic's and CAR's small image, and what EDSR restores from them",
        caption="PSNR and SSIM of the whole image (Y, standard protocol). LR crops are enlarged without interpolation.",
        command=_command(profile),
    )
    return drawn
