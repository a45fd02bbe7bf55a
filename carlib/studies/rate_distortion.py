"""Does it save bits to store a small image and restore it? Bits against fidelity, beside coding the HR image itself.

The paper's introduction claims so (CLAIM) and measures nothing: its Table 5 counts the bits of lossless LR images.
Here an LR image (CAR's or bicubic) is stored, lossless and at several qualities, decoded, restored by the EDSR trained
for it, and compared with the HR image; and the HR image itself is stored by the same lossy codecs.

Rate: bits of the whole file over HR pixels. Fidelity: PSNR and SSIM by the protocol "standard". One HR image, cropped
to a multiple of 8, and one shaved border (the largest scale's) serve every path: else they could not be compared.
"""

import itertools

import numpy as np

from carlib import artefacts, cells, codecs, experiments, intervals, kept, results, runs, tables
from carlib.studies import bjontegaard

CLAIM = (
    "the pre-downscaling and post-upscaling operation also helps to save storage and bandwidth for image or video "
    "compression and communication"
)
CODECS = ("jpeg", "webp", "jpegxl")  # of LR and of HR images; HR images are coded by AVIF too
LOSSLESS = ("jpegls", "jpegxl")  # of LR images
DOWNSCALERS, SCALES = ("car", "bicubic"), cells.SCALES
ROW_COLUMNS = ["profile", "run", "downscaler", "scale", "codec", "quality", "set", "image", "bpp", "psnr", "ssim"]
_SHAVE = max(SCALES)


def study(profile, *, device="auto", progress=True) -> list[dict]:
    """Measure the profile's images, and write the rows as metrics/rate_distortion.csv.

    Returns, raises: as `measure`.
    """
    rows = measure(profile, device=device, progress=progress)
    artefacts.save_rows(rows, results.folder(profile, "metrics", "rate_distortion.csv"), ROW_COLUMNS)
    return rows


def table(profile, rows):
    """`savings` of the rows, written as tables/rate_distortion, and their `claims` as tables/rate_distortion_claims."""
    found, seen, tolerance = savings(rows), _seen(profile, rows), runs.tolerance()
    command = experiments.papermill_command("05b_rate_distortion", profile)
    artefacts.save_table(
        found.round(dict.fromkeys(("bd_rate", "saved_share", "by_image", "least", "most"), 1)).round(2),
        results.folder(profile, "tables", "rate_distortion"),
        title=f"Bits saved by storing an LR image and restoring it, profile {profile}",
        caption=f'The paper claims: "{CLAIM}". against: what the LR image is compared with, the HR image by the same '
        "codec, as AVIF or (lossless ones) as JPEG, or the bicubic LR image by the same codec. bd_rate: Bjontegaard's "
        "delta rate, the mean difference in rate at equal PSNR in percent of what it is compared with; below 0 saves. "
        f"Between the mean curves of {seen}, piecewise cubic (PCHIP) in log rate over PSNR, over the interval "
        "from low to high dB that both reach and nowhere else: it is silent on the fidelity beyond, which a restored "
        "image never has, and it moves with the lowest quality that is measured. by_image: the mean over images of "
        f"each one's own delta rate; least, most: its 95 % interval ({intervals.HOW}); compared: of how many images, "
        "those whose two curves have PSNRs in common. In curves of means images with large files count for more. "
        "saved_share: percent of that interval "
        "at which fewer bits are taken; saved_up_to: the highest such PSNR. A lossless LR image is one point, beside "
        "the HR image as JPEG at that PSNR. verdict: reproduced where bits are saved at every PSNR of the interval; "
        f"else partly where bd_rate is below 0 or saved_share at least {tolerance['rd_share']:g} %, else not; not "
        f"tested where lossy curves have less than {tolerance['rd_interval']:g} dB in common, and under profile smoke. "
        f"{_conditions(profile)} The networks were trained on LR images that nothing had coded.",
        command=command,
    )
    artefacts.save_table(
        claims(found),
        results.folder(profile, "tables", "rate_distortion_claims"),
        title=f"Does storing CAR's LR image save bits? profile {profile}",
        caption=f'The paper claims: "{CLAIM}". bd_rate, by_image, saved_share: lowest to highest of the lines of the '
        f"table of savings, over codecs (by_image: where every image could be compared). verdict: that of every "
        f"line if they agree, else partly. Of {seen}, by this profile's own networks.",
        command=command,
    )
    return found


def figure(profile, rows):
    """The curves of the rows as a matplotlib Figure, written as figures/rate_distortion."""
    from carlib import figures

    drawn, seen = figures.rate_curves(curves(rows), CODECS), _seen(profile, rows)
    said = "; ".join(
        f"{line.claim}: {line.verdict} at {line.scale} ({line.bd_rate})" for line in claims(savings(rows)).itertuples()
    )
    artefacts.save_figure(
        drawn,
        results.folder(profile, "figures", "rate_distortion"),
        title=f"Bits against fidelity: LR images restored, and HR images coded, profile {profile}",
        alt="Curves of PSNR and SSIM over bits per HR pixel for JPEG, WebP and JPEG XL: the HR image coded, and CAR's "
        "and bicubic LR images of both scales coded and restored",
        caption=f"Means of {seen}. A column is one codec, of HR and LR images alike; AVIF codes HR images only, "
        "the same dotted curve in every column. Stars (×2) and crosses (×4): LR images stored lossless, by the codec "
        "that takes the fewest bits. HR images' curves go on above. "
        f'{_conditions(profile)} The paper claims: "{CLAIM}". Verdicts, with the delta rate: {said}.',
        command=experiments.papermill_command("05b_rate_distortion", profile),
    )
    return drawn


def measure(profile, *, device="auto", progress=True) -> list[dict]:
    """Rows (ROW_COLUMNS) of every image, codec and quality of the profile; quality 0 stands for lossless.

    Half a minute for 320 x 320 pixels on one CPU core, most of it the networks', which restore every decoded LR image.
    The rows of each image are kept (carlib.kept), and a later call goes on from them.

    Raises:
        ValueError: weights are missing, none of the profile's sets is here, or params.yaml says nothing of the study.
    """
    from carlib import data

    chosen = experiments.study_settings("rate_distortion", profile)
    names = [f"{downscaler}-edsr-x{scale}" for scale in SCALES for downscaler in DOWNSCALERS]
    chains, made_by = experiments.chains(names, profile, device=device)
    made_by |= {"qualities": chosen["qualities"]}

    def measured(image):
        hr = data.crop_to_multiple(image, 8)
        of_lr = [row for chain in chains.values() for row in _restored(hr, chain, chosen["qualities"])]
        return [*_direct(hr, chosen["qualities"]), *of_lr]

    images = experiments.images(chosen["sets"], chosen, job="rate, distortion", progress=progress)
    return kept.rows(profile, "rate_distortion", made_by, images, measured)


def _direct(hr, qualities):
    rows = []
    for codec in (*CODECS, "avif"):
        for quality in qualities:
            coded = codecs.encode(hr, codec, quality=quality)
            sr = codecs.decode(coded, codec, grey=hr.ndim == 2)
            rows.append(_row(hr, sr, coded, run="", downscaler="none", scale=1, codec=codec, quality=quality))
    return rows


def _restored(hr, chain, qualities):
    from carlib import rescale

    lr, sr = chain(hr)
    named = {"run": chain.run.name, "downscaler": chain.run.downscaler, "scale": chain.run.scale}
    rows = [_row(hr, sr, codecs.encode(lr, codec), **named, codec=codec, quality=0) for codec in LOSSLESS]
    for codec in CODECS:
        for quality in qualities:
            coded = codecs.encode(lr, codec, quality=quality)
            sr = rescale.restore(chain.networks["upscaler"], codecs.decode(coded, codec, grey=lr.ndim == 2))
            rows.append(_row(hr, sr, coded, **named, codec=codec, quality=quality))
    return rows


def _row(hr, sr, coded, **named):
    from carlib import metrics

    bpp = 8 * len(coded) / (hr.shape[0] * hr.shape[1])
    return {**named, "bpp": bpp, "psnr": metrics.psnr(hr, sr, _SHAVE), "ssim": metrics.ssim(hr, sr, _SHAVE)}


def _seen(profile, rows) -> str:
    return tables.seen(rows, runs.profile(profile)["rate_distortion"]["crop"])


def _conditions(profile) -> str:
    """What was done to files, for captions."""
    crop = runs.profile(profile)["rate_distortion"]["crop"]
    feels = ""
    if crop is not None:
        side = crop - crop % 8
        feels = (
            f"Whole files are counted, and so small a picture feels their headers: of {side} x {side} pixels 100 bytes "
            f"are {800 / side**2:.3f} bits per pixel, of an LR file as of an HR file. "
        )
    return f"{feels}JPEG, WebP and AVIF halve chroma (4:2:0); JPEG XL, as by default, keeps it whole."


# ---- rows in, curves, savings and the verdict out ----


def curves(rows) -> dict:
    """(downscaler, scale, codec, mode) -> DataFrame quality, bpp, psnr, ssim: means over images, by rising quality.

    Downscaler "none", scale 1 is the HR image itself; mode is "lossy" or "lossless" (one point).
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame["mode"] = np.where(frame.quality > 0, "lossy", "lossless")
    return mean_curves(frame, ["downscaler", "scale", "codec", "mode"], ["bpp", "psnr", "ssim"])


def mean_curves(frame, keys, columns) -> dict:
    """keys -> DataFrame quality and columns: means over images, by rising quality."""
    means = frame.groupby([*keys, "quality"])[columns].mean().reset_index()
    return {key: group.drop(columns=keys).reset_index(drop=True) for key, group in means.groupby(keys)}


def savings(rows):
    """Every way of storing LR images beside what it has to beat.

    Lossy ones: the HR image coded by the same codec, and as AVIF. Lossless ones: the HR image as JPEG, the weakest.
    CAR's lossy ones also: bicubic ones of the same scale and codec.
    Returns:
        DataFrame: scale, downscaler, codec, mode, against, bd_rate (percent), low, high (dB, the common interval),
        by_image (percent: mean over images of each one's), least, most (its interval over images), compared (images
        whose two curves have PSNRs in common), saved_share (percent of the common interval), saved_up_to (dB, NaN:
        nowhere), verdict, n (images).
    """
    import pandas as pd

    every, each, lines, profile = curves(rows), _image_by_image(rows), [], rows[0]["profile"]
    n = len({(row["set"], row["image"]) for row in rows})
    for own, rival in _comparisons():
        downscaler, scale, codec, mode = own
        anchor, test = (every[key][["bpp", "psnr"]].to_numpy() for key in (rival, own))
        percent, low, high = bjontegaard.bd_rate(anchor, test)
        share, up_to = bjontegaard.saved(anchor, test)
        found = {"bd_rate": percent, "low": low, "high": high, **_by_image(each[rival], each[own])}
        found |= {"saved_share": share, "saved_up_to": up_to}
        against = f"{rival[2]} of {'HR' if rival[0] == 'none' else 'bicubic LR'}"
        named = {"scale": scale, "downscaler": downscaler, "codec": codec, "mode": mode, "against": against}
        verdict = "not tested" if profile == "smoke" else _verdict(mode, percent, high - low, share)
        lines.append({**named, **found, "verdict": verdict, "n": n})
    return pd.DataFrame(lines)


def _image_by_image(rows) -> dict:
    """(downscaler, scale, codec, mode) -> (images, qualities, 2): bpp and PSNR of every image."""
    import pandas as pd

    frame = pd.DataFrame(rows).sort_values(["set", "image", "quality"])
    frame["mode"] = np.where(frame.quality > 0, "lossy", "lossless")
    parts = frame.groupby(["downscaler", "scale", "codec", "mode"])
    return {key: part[["bpp", "psnr"]].to_numpy().reshape(-1, part.quality.nunique(), 2) for key, part in parts}


def _by_image(rival, own) -> dict:
    rates = bjontegaard.of_images(rival, own)
    rates = rates[~np.isnan(rates)]
    least, most = intervals.paired(rates)
    mean = rates.mean() if len(rates) else float("nan")
    return {"by_image": mean, "least": least, "most": most, "compared": len(rates)}


def _comparisons():
    """What is compared with what, as keys of `curves`."""
    for scale, downscaler in itertools.product(SCALES, DOWNSCALERS):
        for codec in CODECS:
            for rival in (codec, "avif"):
                yield (downscaler, scale, codec, "lossy"), ("none", 1, rival, "lossy")
        for codec in LOSSLESS:
            yield (downscaler, scale, codec, "lossless"), ("none", 1, "jpeg", "lossy")
    for scale, codec in itertools.product(SCALES, CODECS):
        yield ("car", scale, codec, "lossy"), ("bicubic", scale, codec, "lossy")


def _verdict(mode, percent, interval, share):
    """By the tolerance of params.yaml; a lossless LR image is one point, whose interval is 0 dB."""
    tolerance = runs.tolerance()
    if share != share or (mode == "lossy" and interval < tolerance["rd_interval"]):
        return "not tested"
    partly = percent < 0 or share >= tolerance["rd_share"]
    return "reproduced" if share == 100 else "partly" if partly else "not"


def claims(table):
    """The introduction's claim, and CAR against bicubic LR: a line per scale, with the range of bd_rate and a verdict.

    Args:
        table: of `savings`.
    Returns:
        DataFrame: claim, scale, bd_rate, by_image and saved_share (lowest to highest), verdict: that of every line if
        they agree (those that could not be tested left out), else "partly".
    """
    import pandas as pd

    lines = []
    against, lossless = table.against, table["mode"] == "lossless"
    for text, chosen in {
        "a lossy CAR LR image saves bits over the HR image in the same codec": against == table.codec + " of HR",
        "a lossy CAR LR image saves bits over the HR image as AVIF": against == "avif of HR",
        "a lossless CAR LR image saves bits over the HR image as JPEG": (against == "jpeg of HR") & lossless,
        "a lossy CAR LR image saves bits over a bicubic one in the same codec": against.str.endswith(" of bicubic LR"),
    }.items():
        for scale, part in table[chosen & (table.downscaler == "car")].groupby("scale"):
            whole = part.assign(by_image=part.by_image.where(part.compared == part.n))
            forms = {"bd_rate": "+.1f", "by_image": "+.1f", "saved_share": ".1f"}
            shown = {column: _range(whole[column], form) for column, form in forms.items()}
            lines.append({"claim": text, "scale": f"x{scale}", **shown, "verdict": tables.summed_up(part.verdict)})
    return pd.DataFrame(lines)


def _range(values, form) -> str:
    values = values.dropna()
    return f"{values.min():{form}} to {values.max():{form}} %" if len(values) else "-"
