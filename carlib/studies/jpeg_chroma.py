"""Is it the halved colour of a JPEG that CAR does not survive? LR images stored with their colour whole (4:4:4), too.

CAR writes detail into the colour of its LR images. JPEG as most programs write it keeps colour at half the resolution
(4:2:0); one that keeps it whole is larger. Networks are those that were trained on lossless LR images, one seed.
"""

import math

from carlib import artefacts, codecs, experiments, intervals, kept, results, runs, tables
from carlib.studies import jpeg_lr

RUNS = ("bicubic-edsr-x{}", "car-edsr-x{}")
LEAST = 50  # quality; of rougher files quantisation decides
ROW_COLUMNS = ["profile", "run", "downscaler", "scale", "chroma", "quality", "set", "image", "bpp", "psnr"]


def study(profile, *, device="auto", progress=True):
    """Measure the profile's images that have colour; write metrics/jpeg_chroma.csv and tables/jpeg_chroma.

    The rows of each image are kept (carlib.kept), and a later call goes on from them.

    Returns:
        the table, see `gains`.
    Raises:
        ValueError: weights are missing, none of the profile's sets is here or none of its images has colour, or
            params.yaml says nothing of the study.
    """
    chosen = experiments.study_settings("jpeg", profile)
    chains, made_by = experiments.chains(runs.at_scales(RUNS, jpeg_lr.SCALES), profile, device=device)
    qualities = [quality for quality in chosen["qualities"] if quality >= LEAST]
    images = experiments.images(chosen["sets"], chosen, job="JPEG 4:4:4", progress=progress)
    rows = kept.rows(
        profile, "jpeg_chroma", made_by | {"qualities": qualities}, (one for one in images if one[2].ndim == 3),
        lambda image: [row for chain in chains.values() for row in _stored(image, chain, qualities)],
    )  # fmt: skip
    if not rows:
        raise ValueError(f"no image of {', '.join(chosen['sets'])} has colour, or no quality is {LEAST} or more")
    artefacts.save_rows(rows, results.folder(profile, "metrics", "jpeg_chroma.csv"), ROW_COLUMNS)
    return write(profile, rows)


def write(profile, rows):
    """`gains` of the rows, written as tables/jpeg_chroma."""
    found = gains(rows)
    seen = tables.seen(rows, runs.profile(profile)["jpeg"]["crop"])
    artefacts.save_table(
        found.round({"bits": 1}).round(2),
        results.folder(profile, "tables", "jpeg_chroma"),
        title=f"LR images stored as JPEG with colour halved and whole, profile {profile}",
        caption="PSNR in dB (Y, 4 pixels of border left out) of what EDSR restores from the decoded LR image, by the "
        "JPEG's quality and by whether it halves the resolution of colour (4:2:0) or keeps it whole (4:4:4). The "
        "networks were trained on lossless LR images, one seed. gain: CAR less bicubic in the same kind of file, image "
        f"by image; low, high: its 95 % interval over images ({intervals.HOW}). bits: what CAR's files take more, in "
        f"percent. Measured on {seen}, those with colour.",
        command=experiments.papermill_command("05c_jpeg", profile, train=False),
    )
    return found


def gains(rows):
    """CAR beside bicubic downscaling by kind of file.

    Returns:
        DataFrame, a line per scale, chroma and quality: scale, chroma, quality, bicubic, car (mean PSNR, dB), gain,
        low, high (of its interval over images), bits (what CAR's files take more, percent), n (images).
    """
    import pandas as pd

    keys = ["scale", "chroma", "quality"]
    wide = pd.DataFrame(rows).pivot(index=[*keys, "set", "image"], columns="downscaler", values=["psnr", "bpp"])
    lines = []
    for key, group in wide.groupby(keys):
        gain = group.psnr.car - group.psnr.bicubic
        low, high = intervals.paired(gain)
        lines.append({
            **dict(zip(keys, key, strict=True)), "bicubic": group.psnr.bicubic.mean(), "car": group.psnr.car.mean(),
            "gain": gain.mean(), "low": low, "high": high,
            "bits": 100 * (group.bpp.car.mean() / group.bpp.bicubic.mean() - 1), "n": len(group),
        })  # fmt: skip
    return pd.DataFrame(lines)


def _stored(image, chain, qualities):
    from carlib import data, metrics, rescale

    run = chain.run
    hr = data.crop_to_multiple(image, math.lcm(8, run.scale))
    lr = chain(hr)[0]
    named = {"run": run.name, "downscaler": run.downscaler, "scale": run.scale}
    for chroma in codecs.CHROMA:
        for quality in qualities:
            coded = codecs.encode(lr, "jpeg", quality=quality, chroma=chroma)
            sr = rescale.restore(chain.networks["upscaler"], codecs.decode(coded, "jpeg"))
            psnr = metrics.psnr(hr, sr, max(jpeg_lr.SCALES))
            bpp = 8 * len(coded) / (hr.shape[0] * hr.shape[1])
            yield {**named, "chroma": chroma, "quality": quality, "bpp": bpp, "psnr": psnr}
