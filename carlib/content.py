"""What else does CAR serve? Text, windows, drawings and scientific images, beside the photographs it is measured on.

Image by image, since ten chosen images are no sample: what CAR, and CAR whose bits have a price, gain over bicubic
downscaling where EDSR restores, what CAR gains where nothing learned does, and what their small PNGs take more. "takes"
is what `carlib downscale --method best` would take: of CAR and bicubic the one whose restored image is nearer in RGB.
"""

from carlib import codecs, experiments, intervals, kept, results, runs

SET, PHOTOGRAPHS = "content", "demo"
KINDS = {
    "text": ("code", "page", "scan", "terminal"),
    "drawn": ("comic", "form", "map"),
    "science": ("cells", "galaxies", "retina"),
}
SCALES, BASE, UPSCALED_BASE = (2, 4), "bicubic", "bicubic both ways"
RUNS = {
    BASE: "bicubic-edsr-x{}",
    "car": "car-edsr-x{}",
    "car-priced": "car-edsr-x{}-priced",
    UPSCALED_BASE: "bicubic-bicubic-x{}",
    "car, bicubic upscaling": "car-bicubic-x{}",
}
ROW_COLUMNS = ["profile", "run", "downscaler", "scale", "set", "image", "psnr", "psnr_rgb", "png"]
_SHOWN = {"cells": [64, 96, 64, 96], "comic": [128, 40, 64, 96], "terminal": [64, 8, 64, 96]}  # image -> box
_FIGURE_SCALE = 2


def names() -> list[str]:
    """The runs that are measured."""
    return [name.format(scale) for scale in SCALES for name in RUNS.values()]


def study(profile, *, device="auto", progress=True) -> list[dict]:
    """Measure the set and the embedded photographs, and write the rows as metrics/content.csv.

    The rows of each image are kept (carlib.kept), and a later call goes on from them.

    Returns:
        rows (ROW_COLUMNS) of every image and run: PSNR by the protocols "standard" and, nothing shaved, "rgb", and bits
        per LR pixel.
    Raises:
        ValueError: weights are missing.
    """
    from carlib import data

    chosen = runs.profile(profile)["evaluate"]
    chains, made_by = experiments.chains(names(), profile, device=device)

    def measured(image):
        hr = data.crop_to_multiple(image, max(SCALES))
        labels = list(RUNS) * len(SCALES)
        return [_row(hr, chain, label) for label, chain in zip(labels, chains.values(), strict=True)]

    part = {"limit": chosen["images"], "crop": chosen["crop"]}
    images = experiments.images((SET, PHOTOGRAPHS), **part, job="content", progress=progress)
    rows = kept.rows(profile, "content", made_by, images, measured)
    results.save_rows(rows, results.folder(profile, "metrics", "content.csv"), ROW_COLUMNS)
    return rows


def _row(hr, chain, label):
    from carlib import metrics

    lr, sr = chain(hr)
    scale = chain.run.scale
    fidelity = {"psnr": metrics.psnr(hr, sr, scale), "psnr_rgb": metrics.psnr(hr, sr, 0, "rgb")}
    return {
        **{"run": chain.run.name, "downscaler": label, "scale": scale},
        **fidelity,
        "png": codecs.bits_per_pixel(lr, "png"),
    }


def table(profile, rows):
    """`gains` of the rows, written as tables/content."""
    found = gains(rows)
    results.save_table(
        found.round({"car_png": 1, "priced_png": 1}).round(2),
        results.folder(profile, "tables", "content"),
        title=f"CAR on text, drawings and scientific images, profile {profile}",
        caption="bicubic: PSNR in dB (Y, standard protocol) of bicubic LR images restored by EDSR. car, priced: what "
        "CAR with its EDSR gains over that, and CAR whose loss counts the bits of lossless LR images; car_rgb: the "
        "former over all three channels (protocol rgb, no border left out). upscaled: CAR's gain under bicubic "
        "upscaling, over bicubic both ways. car_png, priced_png: what their LR images take more than bicubic's as PNG, "
        "percent. takes: what `carlib downscale --method best` takes, by car_rgb. A line an image; last the mean of "
        "the n embedded photographs, low and high: the 95 % interval of car over them.",
        command=experiments.papermill_command("08_where_the_gain_comes_from", profile),
    )
    return found


def figure(profile):
    """LR images and what is restored from them, of an image of each kind: Figure, written as figures/content."""
    from carlib import data, figures, illustrate

    scale, images, rows = _FIGURE_SCALE, dict(data.load(SET)), []
    for name, box in _SHOWN.items():
        hr, panels = data.crop_to_multiple(images[name], scale), []
        for label, run in (("Bicubic", RUNS[BASE]), ("CAR", RUNS["car"])):
            lr, sr = experiments.chain(run.format(scale), profile)(hr)
            panels += [(f"{label} LR", f"{box[3] // scale}×{box[2] // scale} px", lr)]
            panels += [illustrate.sr_panel(label, hr, sr, scale)]
        rows.append({"name": f"{SET}/{name}, x{scale}", "hr": hr, "box": box, "panels": panels})
    drawn = figures.crops(rows)
    results.save_figure(
        drawn,
        results.folder(profile, "figures", "content"),
        title=f"CAR on stained tissue, a drawing and a terminal, x{scale}, profile {profile}",
        alt="Crops of three images, each with bicubic's and CAR's small image and what EDSR restores from them",
        caption="PSNR and SSIM of the whole image (Y, standard protocol). LR crops are enlarged without interpolation.",
        command=experiments.papermill_command("08_where_the_gain_comes_from", profile),
    )
    return drawn


# ---- rows in, table out ----


def gains(rows):
    """A line per scale and image, and one for the photographs, whose images are not told apart.

    Returns:
        DataFrame: scale, kind, image, n, bicubic (dB), car, low, high (its interval over images, NaN for one), car_rgb,
        priced, upscaled (gains, dB), car_png, priced_png (percent), takes ("car", "bicubic", of many how often which),
        profile.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
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
