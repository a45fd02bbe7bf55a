"""Where is CAR's gain less, or none? In colour, and on text, windows, drawings and some scientific images.

The paper measures the luma of photographs. What CAR writes into the colour of its LR image, its upscaler has to take
out again: so what is restored is compared in RGB, Cb and Cr, too, and the LR image with the bicubic one.

Ten chosen images of other content are no sample, and are shown one by one: what CAR, and CAR whose bits have a price,
gain over bicubic downscaling where EDSR restores, what CAR gains where nothing learned does, and what their small PNGs
take more. "takes" is what `carlib downscale --method best` would take: of CAR and bicubic the one whose restored image
is nearer in RGB.
"""

from carlib import artefacts, cells, codecs, experiments, intervals, kept, pixels, results, runs, tables

SET, PHOTOGRAPHS = "content", "demo"
CHANNELS = ("psnr", "psnr_rgb", "psnr_cb", "psnr_cr")  # of what is restored
KINDS = {
    "text": ("code", "page", "scan", "terminal"),
    "drawn": ("comic", "form", "map"),
    "science": ("cells", "galaxies", "retina"),
}
SCALES, BASE, UPSCALED_BASE = cells.SCALES, "bicubic", "bicubic both ways"
RUNS = {
    BASE: "bicubic-edsr-x{}",
    "car": "car-edsr-x{}",
    "car-priced": "car-edsr-x{}-priced",
    UPSCALED_BASE: "bicubic-bicubic-x{}",
    "car, bicubic upscaling": "car-bicubic-x{}",
}
ROW_COLUMNS = ["profile", "run", "downscaler", "scale", "set", "image", *CHANNELS, "lr", "png"]
_SHOWN = {"cells": [64, 96, 64, 96], "comic": [128, 40, 64, 96], "terminal": [64, 8, 64, 96]}  # image -> box
_FIGURE_SCALE = 2


def names() -> list[str]:
    """The runs that are measured."""
    return runs.at_scales(RUNS.values(), SCALES)


def study(profile, *, device="auto", progress=True) -> list[dict]:
    """Measure the profile's sets and SET, and write the rows as metrics/content.csv.

    The rows of each image are kept (carlib.kept), and a later call goes on from them.

    Returns:
        rows (ROW_COLUMNS) of every image and run: PSNR in dB by the protocols "standard" and "rgb", of Cb and of Cr
        (BT.601; none of grey images), that of the LR image beside the bicubic one (RGB), and its bits per pixel as PNG.
    Raises:
        ValueError: weights are missing, or none of the profile's sets is here.
    """
    from carlib import data

    chosen = runs.profile(profile)["evaluate"]
    chains, made_by = experiments.chains(names(), profile, device=device)
    label_of = {name.format(scale): label for scale in SCALES for label, name in RUNS.items()}

    def measured(image):
        hr = data.crop_to_multiple(image, max(SCALES))
        return [_row(hr, chain, label_of[name]) for name, chain in chains.items()]

    sets = dict.fromkeys([SET, PHOTOGRAPHS, *experiments.some_sets(chosen["sets"])])
    images = experiments.images(sets, chosen, job="colour, content", progress=progress)
    rows = kept.rows(profile, "content", made_by, images, measured)
    artefacts.save_rows(rows, results.folder(profile, "metrics", "content.csv"), ROW_COLUMNS)
    return rows


def _row(hr, chain, label):
    from carlib import metrics, rescale

    lr, sr = chain(hr)
    scale = chain.run.scale
    colour = {"psnr_cb": float("nan"), "psnr_cr": float("nan")}
    if hr.ndim == 3:
        own, restored = (_chroma(pixels.to_8_bits(image)) for image in (hr, sr))
        colour = {name: metrics.psnr(hr_, sr_, scale) for name, hr_, sr_ in zip(colour, own, restored, strict=True)}
    return {
        **{"run": chain.run.name, "downscaler": label, "scale": scale},
        **{"psnr": metrics.psnr(hr, sr, scale), "psnr_rgb": metrics.psnr(hr, sr, scale, "rgb"), **colour},
        "lr": metrics.psnr(rescale.classical("bicubic")(hr, scale), lr, 0, "rgb"),
        "png": codecs.bits_per_pixel(lr, "png"),
    }


def _chroma(image):
    """Cb and Cr of an image, uint8."""
    import numpy as np
    from skimage.color import rgb2ycbcr

    return [np.rint(plane).astype(np.uint8) for plane in np.moveaxis(rgb2ycbcr(image), 2, 0)[1:]]


def colour(profile, rows):
    """`costs` of the rows, written as tables/colour."""
    found = costs(rows)
    artefacts.save_table(
        found.round(2),
        results.folder(profile, "tables", "colour"),
        title=f"What CAR's gain in luma costs in colour, profile {profile}",
        caption="Gains over bicubic LR images with EDSR in dB, means over the n colour images of a set: of luma (the "
        f"standard protocol; low, high: its 95 % interval over images, {intervals.HOW}), of R, G and B together, of Cb "
        "and of Cr. lr: PSNR of the LR image beside the bicubic one, RGB. car: with its EDSR; car-priced: whose loss "
        "counts the bits of lossless LR images.",
        command=experiments.papermill_command("08_where_the_gain_comes_from", profile),
    )
    return found


def table(profile, rows):
    """`gains` of the rows, written as tables/content."""
    found = gains(rows)
    artefacts.save_table(
        found.round({"car_png": 1, "priced_png": 1}).round(2),
        results.folder(profile, "tables", "content"),
        title=f"CAR on text, drawings and scientific images, profile {profile}",
        caption="bicubic: PSNR in dB (Y, standard protocol) of bicubic LR images restored by EDSR. car, priced: what "
        "CAR with its EDSR gains over that, and CAR whose loss counts the bits of lossless LR images; car_rgb: the "
        "former over all three channels (protocol rgb). upscaled: CAR's gain under bicubic "
        "upscaling, over bicubic both ways. car_png, priced_png: what their LR images take more than bicubic's as PNG, "
        "percent. takes: what `carlib downscale --method best` takes, by car_rgb. A line an image; last the mean of "
        "the n embedded photographs, low and high: the 95 % interval of car over them.",
        command=experiments.papermill_command("08_where_the_gain_comes_from", profile),
    )
    return found


def figure(profile):
    """LR images and what is restored from them, of an image of each kind: Figure, written as figures/content."""
    from carlib import data, figures
    from carlib.studies import illustrate

    scale, images = _FIGURE_SCALE, dict(data.load(SET))
    named = {"Bicubic": RUNS[BASE], "CAR": RUNS["car"]}
    shown = {label: experiments.chain(name.format(scale), profile) for label, name in named.items()}
    drawn = figures.crops([
        illustrate.row(f"{SET}/{name}, x{scale}", data.crop_to_multiple(images[name], scale), box, shown)
        for name, box in _SHOWN.items()
    ])  # fmt: skip
    artefacts.save_figure(
        drawn,
        results.folder(profile, "figures", "content"),
        title=f"CAR on stained tissue, a drawing and a terminal, x{scale}, profile {profile}",
        alt="Crops of three images, each with bicubic's and CAR's small image and what EDSR restores from them",
        caption="PSNR and SSIM of the whole image (Y, standard protocol). LR crops are enlarged without interpolation.",
        command=experiments.papermill_command("08_where_the_gain_comes_from", profile),
    )
    return drawn


# ---- rows in, tables out ----


def costs(rows):
    """Gains by channel, a line per scale, set and downscaler ("car", "car-priced"), over images that have colour.

    Returns:
        DataFrame: scale, set, downscaler, n, luma, low, high (of its interval), rgb, cb, cr (gains, dB), lr (dB),
        profile.
    """
    import pandas as pd

    frame, keys = pd.DataFrame(rows), ["scale", "set", "image"]
    frame = frame[(frame.set != SET) & frame.psnr_cb.notna()]
    base = frame[frame.downscaler == BASE].set_index(keys)[list(CHANNELS)]
    own = frame[frame.downscaler.isin(("car", "car-priced"))].set_index([*keys, "downscaler"])
    gained = own[list(CHANNELS)].sub(base).assign(lr=own.lr)
    lines = []
    for (scale, set_name, downscaler), part in gained.groupby(["scale", "set", "downscaler"], sort=False):
        low, high = intervals.paired(part.psnr)
        mean = part.mean()
        named = {"scale": scale, "set": set_name, "downscaler": downscaler, "n": len(part)}
        fidelity = {"luma": mean.psnr, "low": low, "high": high, "rgb": mean.psnr_rgb, "cb": mean.psnr_cb}
        lines.append({**named, **fidelity, "cr": mean.psnr_cr, "lr": mean.lr, "profile": rows[0]["profile"]})
    return tables.in_order(pd.DataFrame(lines), ["scale", "set"]).reset_index(drop=True)


def gains(rows):
    """A line per scale and image, and one for the photographs, whose images are not told apart.

    Returns:
        DataFrame: scale, kind, image, n, bicubic (dB), car, low, high (its interval over images, NaN for one), car_rgb,
        priced, upscaled (gains, dB), car_png, priced_png (percent), takes ("car", "bicubic", of many how often which),
        profile.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame = frame[frame.set.isin((SET, PHOTOGRAPHS))]
    keys, kind_of = ["scale", "set", "image"], {name: kind for kind, those in KINDS.items() for name in those}
    wide = frame.pivot(index=keys, columns="downscaler", values=["psnr", "psnr_rgb", "png"])
    psnr, rgb, png = wide["psnr"], wide["psnr_rgb"], wide["png"]
    found = pd.DataFrame({
        "bicubic": psnr[BASE],
        "car": psnr["car"] - psnr[BASE],
        "car_rgb": rgb["car"] - rgb[BASE],
        "priced": psnr["car-priced"] - psnr[BASE],
        "upscaled": psnr["car, bicubic upscaling"] - psnr[UPSCALED_BASE],
        "car_bits": png["car"], "priced_bits": png["car-priced"], "bicubic_bits": png[BASE],
    }).reset_index()  # fmt: skip
    found["kind"] = [
        kind_of[name] if which == SET else "photographs" for which, name in zip(found.set, found.image, strict=True)
    ]
    found.loc[found.set == PHOTOGRAPHS, "image"] = "all"
    lines = [_line(key, part) for key, part in found.groupby(["scale", "kind", "image"])]
    lines.sort(key=lambda line: (line["scale"], (*KINDS, "photographs").index(line["kind"])))
    return pd.DataFrame(lines).assign(profile=rows[0]["profile"])


def _line(key, part) -> dict:
    mean, (low, high), takes = part.mean(numeric_only=True), intervals.paired(part.car), (part.car_rgb > 0).sum()
    return {
        **dict(zip(("scale", "kind", "image"), key, strict=True)),
        "n": len(part),
        **mean[["bicubic", "car"]],
        **{"low": low, "high": high},
        **mean[["car_rgb", "priced", "upscaled"]],
        "car_png": 100 * (mean.car_bits / mean.bicubic_bits - 1),
        "priced_png": 100 * (mean.priced_bits / mean.bicubic_bits - 1),
        "takes": f"car {takes} of {len(part)}" if len(part) > 1 else "car" if takes else BASE,
    }
