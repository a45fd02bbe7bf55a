"""Where does CAR's gain come from? Parts of the trained system are switched off at test time, and one is trained alone.

A kernel is shared by R, G and B. So a kernel that follows the image has two ways to help the upscaler: it can choose
what brightness the LR pixel keeps, or shift the LR pixel's colour between those that lie under its taps and so write
detail into Cb and Cr, which an LR image has to spare. To tell them apart, CAR's upscaler gets LR images of which one
part is CAR's and the other bicubic's, and both systems get images without colour. A part switched off also costs what
the upscaler expected of it; so what a kernel can gain that follows no image is trained, too (weighting "static").
"""

import numpy as np

from carlib import artefacts, data, experiments, intervals, pixels, rescale, results, runs

BASE = "bicubic and its EDSR"
_COLOUR_ONLY, _LUMA_ONLY = "CAR's colour only", "CAR's luma only"
# The LR images that CAR's upscaler gets: CAR's; its kernels without offsets; the image's mean kernel and offsets at
# every pixel; CAR's Cb and Cr with bicubic's luma; CAR's luma with bicubic's Cb and Cr; bicubic's.
PARTS = ("CAR", "CAR, offsets 0", "CAR, one kernel", _COLOUR_ONLY, _LUMA_ONLY, "bicubic LR")
GREY, GREY_BASE = "CAR, grey image", "bicubic, grey image"
# Systems that were trained as they are: CAR without offsets and one kernel, each with an EDSR of its own, both systems
# on grey patches alone (and measured on grey images), and, for bicubic upscaling, which cannot read colour, CAR and one
# kernel.
NO_OFFSETS, STATIC = "no offsets, trained", "one kernel, trained"
ON_GREY, ON_GREY_BASE = "CAR, grey image, trained on grey", "bicubic, grey image, trained on grey"
UPSCALED_BASE = "bicubic both ways"
UPSCALED, UPSCALED_STATIC = "CAR, bicubic upscaling", "one kernel, bicubic upscaling"
SYSTEMS = {
    BASE: "bicubic-edsr-x{}",
    NO_OFFSETS: "car-edsr-x{}-no-offset",
    STATIC: "car-edsr-x{}-static",
    ON_GREY_BASE: "bicubic-edsr-x{}-grey",
    ON_GREY: "car-edsr-x{}-grey",
    UPSCALED_BASE: "bicubic-bicubic-x{}",
    UPSCALED: "car-bicubic-x{}",
    UPSCALED_STATIC: "car-bicubic-x{}-static",
}
_OVER = dict.fromkeys((GREY, GREY_BASE), GREY_BASE) | dict.fromkeys((ON_GREY, ON_GREY_BASE), ON_GREY_BASE)
_OVER |= dict.fromkeys((UPSCALED_BASE, UPSCALED, UPSCALED_STATIC), UPSCALED_BASE)
_MOST = 20  # images of a set: there are fifteen restorations each
ROW_COLUMNS = ["profile", "run", "scale", "set", "image", "variant", "psnr"]


def study(profile, *, progress=True):
    """Measure every variant on the profile's sets; write metrics/attribution.csv and tables/attribution.

    Returns:
        the table: scale, set, n, variant, psnr (dB, Y, standard protocol), gain (over bicubic LR and the EDSR trained
        on it; of grey images over the same on grey images; of bicubic upscaling over bicubic both ways), low and high
        (its 95 % interval over images).
    Raises:
        ValueError: weights are missing, or none of the sets is here.
    """
    rows = [row for scale in (2, 4) for row in measure(profile, scale, progress=progress)]
    artefacts.save_rows(rows, results.folder(profile, "metrics", "attribution.csv"), ROW_COLUMNS)
    table = gains(rows)
    artefacts.save_table(
        table,
        results.folder(profile, "tables", "attribution"),
        title=f"Where CAR's gain comes from: parts switched off at test time, one kernel trained, profile {profile}",
        caption=f"psnr: mean over the n images (at most {_MOST} of a set), dB, luma, standard protocol; gain: over "
        f'bicubic LR images restored by the EDSR that was trained on them ("{BASE}"), grey images over the same on '
        'grey images, "trained on grey" both on grey patches alone. "CAR" with a part replaced, and "bicubic LR", have '
        "the upscaler trained with CAR restore them: a part that is missing costs also what the upscaler expected of "
        f'it. "{NO_OFFSETS}": CAR whose offsets were 0 from the start, trained with its own EDSR as CAR was; '
        f'"{STATIC}": so was one kernel for all pixels of all images. With "bicubic upscaling" nothing learned '
        f'restores; gains there are over "{UPSCALED_BASE}". low, high: the gain\'s 95 % interval over images '
        f"({intervals.HOW}).",
        command=experiments.papermill_command("08_where_the_gain_comes_from", profile),
    )
    return table


def measure(profile, scale, *, progress=True) -> list[dict]:
    """Rows (ROW_COLUMNS) of car-edsr and SYSTEMS at one scale, of the first images of the profile's small sets.

    Raises:
        ValueError: as `study`.
    """
    from carlib import data, metrics

    profile, run = runs.profile(profile)["name"], f"car-edsr-x{scale}"
    images = experiments.small_images(profile, _MOST, job=run, progress=progress)
    car = experiments.chain(run, profile)
    others = {label: experiments.chain(name.format(scale), profile) for label, name in SYSTEMS.items()}
    rows = []
    for set_name, name, image in images:
        hr = data.crop_to_multiple(image, scale)
        for label, (reference, sr) in restored(car, others, hr).items():
            value = metrics.psnr(reference, sr, scale)
            rows.append(dict(zip(ROW_COLUMNS, (profile, run, scale, set_name, name, label, value), strict=True)))
    return rows


def restored(car, others, hr) -> dict:
    """Variant -> (what to compare with, sr); a grey image has no variants of colour.

    Args:
        car:    evaluate.Chain of car-edsr.
        others: variant -> evaluate.Chain of SYSTEMS.
        hr:     uint8 (H, W[, 3]), sides multiples of the scale.
    """
    upscaler, found = car.networks["upscaler"], {BASE: (hr, others[BASE](hr)[1])}
    for label, lr in lr_images(car.networks["resampler"], hr).items():
        found[label] = hr, rescale.restore(upscaler, lr)
    grey = data.to_grey(hr)
    found |= {GREY_BASE: (grey, others[BASE](grey)[1]), GREY: (grey, car(grey)[1])}
    shown = {label: grey if label in (ON_GREY, ON_GREY_BASE) else hr for label in others if label != BASE}
    return found | {label: (image, others[label](image)[1]) for label, image in shown.items()}


def lr_images(resampler, hr) -> dict:
    """Variant (PARTS) -> uint8 LR image."""
    import torch

    bicubic = rescale.classical("bicubic")(hr, resampler.scale)
    with torch.inference_mode():
        tensor = pixels.to_tensor(hr, next(resampler.parameters()).device)
        kernel, offset_v, offset_h = resampler(tensor)
        means = [part.mean((2, 3), keepdim=True).expand_as(part).contiguous() for part in (kernel, offset_v, offset_h)]
        still = torch.zeros_like(offset_v)
        made = {
            "CAR": (kernel, offset_v, offset_h),
            "CAR, offsets 0": (kernel, still, still),
            "CAR, one kernel": means,
        }
        made = {label: _resampled(resampler, tensor, taps, grey=hr.ndim == 2) for label, taps in made.items()}
    if hr.ndim == 3:
        made[_COLOUR_ONLY] = _with_luma_of(bicubic, made["CAR"])
        made[_LUMA_ONLY] = _with_luma_of(made["CAR"], bicubic)
    return {**made, "bicubic LR": bicubic}


def _resampled(resampler, tensor, taps, grey):
    """uint8 (h, w[, 3]): `tensor` downscaled by given kernels and offsets, with the network's geometry."""
    from carlib.ops.resample import resample

    lr = resample(tensor, *taps, scale=resampler.scale, taps=resampler.taps, border=resampler.border)
    return pixels.to_image(lr, grey)


def _with_luma_of(luma, colour):
    """`colour` with its luma replaced by that of `luma`; the same added to R, G and B leaves Cb and Cr as they were."""
    shift = (luma.astype(float) - colour) @ data.LUMA
    return np.rint(np.clip(colour + shift[..., None], 0, 255)).astype(np.uint8)


def gains(rows):
    """Means over images and gains over bicubic (see `study`), a DataFrame; rows as `measure` gives."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    base = frame.variant.map(lambda label: _OVER.get(label, BASE))
    image = ["scale", "set", "image"]
    known = frame.set_index([*image, "variant"])["psnr"]
    # Image by image: grey ones have no variants of colour.
    wanted = pd.MultiIndex.from_frame(frame[image].assign(variant=base))
    frame["gain"] = frame.psnr.to_numpy() - known.reindex(wanted).to_numpy()
    grouped = frame.groupby(["scale", "set", "variant"], sort=False)
    table = grouped.agg(n=("psnr", "size"), psnr=("psnr", "mean"), gain=("gain", "mean")).reset_index()
    table[["low", "high"]] = [intervals.paired(cell) for _, cell in grouped["gain"]]
    return table[["scale", "set", "n", "variant", "psnr", "gain", "low", "high"]]


def draw(profile, table):
    """The gains as dots, a panel per scale, a row per variant.

    Returns:
        matplotlib Figure; written as figures/attribution.
    """
    from carlib import figures
    from carlib.data.sets import SETS

    trained = (ON_GREY, NO_OFFSETS, STATIC, UPSCALED, UPSCALED_STATIC)
    shown = [label for label in (*PARTS, GREY, *trained) if label != "bicubic LR"]
    parts = {name: f"first {n} of {SETS[name].count}" for name, n in table.groupby("set").n.max().items()}
    parts = {name: told for name, told in parts.items() if SETS[name].count > _MOST}
    figure = figures.gains(table[table.variant.isin(shown)], shown, over="bicubic LR", parts=parts)
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", "attribution"),
        title=f"Where CAR's gain comes from, profile {profile}",
        alt="PSNR gain over bicubic downscaling for each image set: CAR whole, with parts switched off, trained "
        "without offsets, and one kernel",
        caption="Gain over bicubic LR images and the EDSR trained on them, dB of luma, mean over a set "
        f"(at most its first {_MOST} images). The rows below "
        "the first replace a part of CAR's LR image before CAR's upscaler restores it; then both systems on images "
        "whose colour was taken away before downscaling, first as they are, then trained so; last, what was trained by "
        "itself: CAR without offsets and one kernel for all pixels, each with an EDSR, and CAR and one kernel under "
        "bicubic upscaling, over bicubic both ways.",
        command=experiments.papermill_command("08_where_the_gain_comes_from", profile),
    )
    return figure


def findings(table) -> list[str]:
    """What the numbers say, two sentences per scale, over all sets."""
    lines = []
    for scale, part in table.groupby("scale"):
        mean = part.groupby("variant")["gain"].mean()
        parts = {
            "with one kernel for all pixels": "CAR, one kernel",
            "without offsets": "CAR, offsets 0",
            "with bicubic's luma": _COLOUR_ONLY,
            "with bicubic's colour": _LUMA_ONLY,
            "on grey images": GREY,
            "on grey images, trained on them": ON_GREY,
            "without offsets, trained with its own upscaler": NO_OFFSETS,
            "one kernel, trained with its own upscaler": STATIC,
        }
        told = ", ".join(f"{words} {mean[label]:+.2f}" for words, label in parts.items() if label in mean)
        lines.append(f"x{scale}: CAR gains {mean['CAR']:+.2f} dB (mean of {part['set'].nunique()} sets); {told}.")
        told = f"CAR gains {mean[UPSCALED]:+.2f} dB, one kernel {mean[UPSCALED_STATIC]:+.2f}"
        lines.append(f"x{scale}, bicubic upscaling: over bicubic both ways {told}.")
    return lines
