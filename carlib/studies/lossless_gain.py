"""What does CAR gain where its lossless LR images take no more bits than bicubic ones?

The paper prints both: a gain (Table 1) and slightly fewer bits (Table 5). The networks of this profile gain with LR
images that take more. Whether they have to is asked here by a second CAR, whose loss gave the bits of its LR images a
price (`bit_price`; carlib/ops/jpeg2000.py): it stands beside the first one and bicubic downscaling, each restored by
the EDSR that was trained with it.

As for Table 5 an HR image loses what exceeds a multiple of 8 (at x3 of 24), and a grey one has three equal channels.
Fidelity: PSNR by the protocol "standard". Size: the whole file over LR pixels, JPEG 2000 with its 40 bytes more.
"""

import math

from carlib import artefacts, cells, codecs, experiments, intervals, kept, overview, results, runs, tables
from carlib.studies import contrasts, illustrate, lossless, lossless_tables

SCALES, OTHERS, BASE = cells.SCALES, cells.OTHER_SCALES, "bicubic"
RUNS = {BASE: "bicubic-edsr-x{}", "car": "car-edsr-x{}", "car-priced": "car-edsr-x{}-priced"}
CODINGS = {**lossless.CODINGS, "png": {"codec": "png"}}  # what Table 5 may have counted, and what `carlib` writes
_LABELS = {BASE: "Bicubic", "car": "CAR", "car-priced": "CAR, bits priced"}
_IMAGE, _BOX = "demo/coffee", [208, 208, 72, 96]  # of the picture: of the embedded ones that with the median gain at x4
ROW_COLUMNS = ["profile", "run", "downscaler", "scale", "seed", "set", "image", "psnr", *CODINGS]


def names(scales=SCALES) -> list[str]:
    """The declared runs of some scales."""
    return runs.at_scales(RUNS.values(), scales)


def seeded(profile) -> list[str]:
    """Those of the paper's scales, each under as many seeds as params.yaml wants."""
    return runs.seeded(names(), cells.seeds("priced", profile))


def others(profile) -> list[str]:
    """Those of the other scales, of each scale whose runs all have weights: they are not trained for this."""
    return names(overview.complete(OTHERS, lambda scale: names([scale]), profile))


def study(profile, *, train=True, executor="", device="auto", progress=True) -> list[dict]:
    """Train what is missing, measure the images that the profile evaluates, and write metrics/lossless_gain.csv.

    The rows of each image are kept (carlib.kept), and a later call goes on from them.

    Args:
        train, executor: see `contrasts.make_ready`. A seed without weights is left out.
    Returns:
        rows (ROW_COLUMNS) of every image and run; of the codings the bits per LR pixel.
    Raises:
        ValueError: a run cannot be trained, weights of a declared one are missing, or none of the sets is here.
    """
    contrasts.check_training(train, executor)
    chosen = runs.profile(profile)["evaluate"]
    training = {"train": train, "executor": executor}
    made = contrasts.seeds_ready(seeded(profile), names(), profile, **training, device=device, progress=progress)
    chains, made_by = experiments.chains([*made, *others(profile)], profile, device=device)

    def measured(image):
        return [_row(image, chain) for chain in chains.values()]

    images = experiments.images(experiments.some_sets(chosen["sets"]), chosen, job="gain, bits", progress=progress)
    rows = kept.rows(profile, "lossless_gain", made_by, images, measured)
    artefacts.save_rows(rows, results.folder(profile, "metrics", "lossless_gain.csv"), ROW_COLUMNS)
    return rows


def _row(image, chain):
    from carlib import data, metrics

    run = chain.run
    hr = data.to_colour(data.crop_to_multiple(image, math.lcm(8, run.scale)))
    lr, sr = chain(hr)
    downscaler = "car-priced" if run.priced else run.downscaler
    bits = {coding: _bits(lr, coding) for coding in CODINGS}
    named = {"run": run.name, "downscaler": downscaler, "scale": run.scale, "seed": run.seed}
    return {**named, "psnr": metrics.psnr(hr, sr, run.scale), **bits}


def _bits_told(lr) -> str:
    return f"{_bits(lr, 'jpeg2000'):.2f} bits per pixel"


def _bits(lr, coding) -> float:
    """Per LR pixel."""
    extra = 8 * lossless_tables.EXTRA.get(coding, 0) / (lr.shape[0] * lr.shape[1])
    return codecs.bits_per_pixel(lr, **CODINGS[coding]) + extra


def table(profile, rows):
    """`gains` of the rows, written as tables/lossless_gain."""
    found = gains(rows)
    artefacts.save_table(
        found.round(dict.fromkeys((*CODINGS, "printed_bits"), 1)).round(2),
        results.folder(profile, "tables", "lossless_gain"),
        title=f"CAR's gain and the bits of its lossless LR images, profile {profile}",
        caption="PSNR in dB (Y, standard protocol) of what EDSR restores, means over the n images of the set and over "
        "the seeds that both were trained under; scales that the paper lacks where they have weights. car: trained on "
        "the error alone, the weights of its best validation; car-priced: its loss counts the bits of lossless LR "
        "images, too, its last weights (the command's method car-lean has the first seed's; under mini at x8 trained "
        "on from car, 2,000 updates more than both). gain: over bicubic LR images, image by image; low, high: its 95 % "
        f"interval over images ({intervals.HOW}); seed_interval: half of that of its mean over seeds. bits: per LR "
        "pixel, CAR's less bicubic's, by JPEG 2000 and 40 bytes a file, with its seed interval; "
        f"{', '.join(CODINGS)}: what CAR's files take more by each, in percent. printed_gain (Table 1), printed_bits "
        "(Table 5, percent): the paper's, of its full-size networks; left out where a set is not whole. verdict, of "
        "both at once: not where CAR's files take more bits over bicubic's than those of any printed pair, else "
        f"that of the gain. {tables.VERDICT}",
        command=experiments.papermill_command("05_lossless_size", profile, train=False),
    )
    return found


def figure(profile):
    """LR images and what is restored from them, at both scales: matplotlib Figure, written as figures/lossless_gain."""
    from carlib import data, figures

    hr = data.crop_to_multiple(data.to_colour(illustrate.check_crop(_IMAGE, max(SCALES), _BOX, 3)), 8)
    rows = []
    for scale in SCALES:
        named = {label: RUNS[downscaler].format(scale) for downscaler, label in _LABELS.items()}
        shown = {label: experiments.chain(name, profile) for label, name in named.items()}
        rows.append(illustrate.row(f"{_IMAGE}, x{scale}", hr, _BOX, shown, _bits_told))
    drawn = figures.crops(rows)
    artefacts.save_figure(
        drawn,
        results.folder(profile, "figures", "lossless_gain"),
        title=f"Lossless LR images and what is restored from them, profile {profile}",
        alt=f"Crops of {_IMAGE} at both scales: bicubic's small image, CAR's, and that of a CAR whose loss counts "
        "bits, each with what its EDSR restores above it",
        caption="Bits of the whole small image, JPEG 2000 and 40 bytes; PSNR and SSIM of the whole image (Y, standard "
        "protocol). Small images are enlarged without interpolation.",
        command=experiments.papermill_command("05_lossless_size", profile, train=False),
    )
    return drawn


# ---- rows in, table out ----


def gains(rows):
    """CAR beside bicubic downscaling: what it gains, and what its lossless files take more.

    Returns:
        DataFrame, a line per scale, set and downscaler ("car", "car-priced"): bicubic, car (mean PSNR, dB), gain, low,
        high (of its interval over images), seed_interval (half of that of its mean over seeds, NaN for one), bits (per
        LR pixel, JPEG 2000 as Table 5 counts), bits_seed_interval, a column per coding (what CAR's files take more,
        percent), printed_gain (dB), printed_bits (percent), verdict, seeds, n (images), run, profile.
    """
    import pandas as pd

    frame, keys = pd.DataFrame(rows), ["scale", "seed", "set", "image"]
    base = frame[frame.downscaler == BASE][[*keys, "psnr", *CODINGS]]
    both = frame[frame.downscaler != BASE].merge(base, on=keys, suffixes=("", "_bicubic"))
    both["run"] = [runs.split_seed(name, runs.names())[0] for name in both.run]
    lines = [dict(zip(_KEYS, key, strict=True)) | _line(part) for key, part in both.groupby(list(_KEYS), sort=False)]
    found = pd.DataFrame(lines).merge(_printed(), on=["scale", "set"], how="left")
    tables.withhold(found)
    found.loc[found.printed.isna(), "printed_bits"] = float("nan")
    found = found.rename(columns={"printed": "printed_gain"})
    found["verdict"] = [_verdict(line) for line in found.itertuples()]
    last = ["printed_gain", "printed_bits", "verdict", "seeds", "n", "run", "profile"]
    found = tables.in_order(found, ["scale", "set"])
    return found[[*found.columns.drop(last), *last]].reset_index(drop=True)


_KEYS = ("scale", "set", "downscaler", "run", "profile")


def _line(part) -> dict:
    """Of one scale, set and downscaler, every image under every seed."""
    part = part.assign(gain=part.psnr - part.psnr_bicubic, bits=part.jpeg2000 - part.jpeg2000_bicubic)
    low, high = intervals.paired(part.groupby("image", sort=False).gain.mean())
    mean = part.mean(numeric_only=True)
    fidelity = {"bicubic": mean.psnr_bicubic, "car": mean.psnr, "gain": mean.gain, "low": low, "high": high}
    of_seeds = part.groupby("seed")[["gain", "bits"]].mean()
    more = {coding: 100 * (mean[coding] / mean[f"{coding}_bicubic"] - 1) for coding in CODINGS}
    return {
        **fidelity,
        "seed_interval": intervals.half_width(of_seeds.gain),
        "bits": mean.bits,
        "bits_seed_interval": intervals.half_width(of_seeds.bits),
        **more,
        "seeds": len(of_seeds),
        "n": part.image.nunique(),
    }


def _printed():
    """Of CAR with EDSR beside bicubic with EDSR, by scale and set: printed (gain, dB), printed_bits (percent)."""
    wide = []
    for number, chosen in ((1, "upscaler == 'edsr' and metric == 'psnr' and flag == ''"), (5, "set != 'average'")):
        paper = tables.printed(number).query(chosen).astype({"value": float, "scale": int})
        paper = paper[paper.downscaler.isin((BASE, "car"))]
        wide.append(paper.pivot(index=["scale", "set"], columns="downscaler", values="value"))
    fidelity, bits = wide
    found = (fidelity.car - fidelity.bicubic).to_frame("printed")
    return found.assign(printed_bits=100 * (bits.car / bits.bicubic - 1)).reset_index()


def _verdict(line) -> str:
    """Of gain and bits at once."""
    of_gain = tables.verdict(line.gain, line.low, line.high, line.seed_interval, line.printed_gain)
    return "not" if of_gain != "not tested" and line.bits > lossless_tables.similar()[1] else of_gain
