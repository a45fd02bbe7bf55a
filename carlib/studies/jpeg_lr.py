"""What is left of CAR where its LR images are stored as JPEG, and what it gains where training stores them so, too?

The paper stores LR images lossless. SAIN's authors stored those of its networks as JPEG and found CAR below bicubic
downscaling (data/paper/jpeg.csv). Here the EDSRs of bicubic LR images and CAR with its EDSR, each trained on LR images
that nothing had coded, and each trained on LR images that were JPEG of a quality drawn anew each time
(carlib/ops/jpeg.py), restore LR images that a codec stored: libjpeg, chroma halved (4:2:0). A third CAR's loss gave the
bits of these files a price. So did that of one kernel for all pixels of all images, which is a fixed filter: what it
saves, no kernel that follows the image is needed for. At the paper's scales all have several seeds.

Fidelity: PSNR by the protocol "standard", but with a border of 4 pixels at every scale. Rate: bits of the whole file
over HR pixels. The HR image is coded, too.
"""

import math

import numpy as np

from carlib import artefacts, cells, codecs, experiments, intervals, kept, origin, overview, results, runs, tables
from carlib.studies import bjontegaard, contrasts, rate_distortion

DOWNSCALERS, LOSSLESS = ("bicubic", "car"), 0
SCALES = cells.SCALES  # have all trainings
OTHERS = cells.OTHER_SCALES  # only what `carlib downscale` takes, and its rival
# On which LR images networks were trained -> the run.
TRAINED = {
    "lossless": "{}-edsr-x{}",
    "jpeg": "{}-edsr-x{}-jpeg",
    "priced": "{}-edsr-x{}-jpeg-priced",
    "one kernel": "{}-edsr-x{}-static-jpeg-priced",
}
# CAR's -> those of the bicubic run that it stands beside.
RIVALS = {"lossless": "lossless", "jpeg": "jpeg", "priced": "jpeg", "one kernel": "jpeg"}
ALL = "all"  # for a set: every image of all
ROW_COLUMNS = ["profile", "run", "downscaler", "scale", "trained", "seed", "quality", "set", "image", "bpp",
               "psnr", "mse"]  # fmt: skip
_SHAVE = max(SCALES)
_KEYS = ["scale", "trained", "quality"]
_CURVE = ["downscaler", "scale", "trained", "seed"]
_COMPARED = ["scale", "trained", "downscaler", "against"]
_PERCENT = ("bd_rate", "least", "most", "seed_interval", "fewer", "pooled", "saved_share")


def names() -> list[str]:
    """The runs that are measured at SCALES."""
    return [
        name.format(downscaler, scale)
        for scale in SCALES
        for trained, name in TRAINED.items()
        for downscaler in DOWNSCALERS
        if downscaler == "car" or trained in RIVALS.values()
    ]


def seeded(profile) -> list[str]:
    """Those of `names`, each under as many seeds as params.yaml wants."""
    return runs.seeded(names(), cells.seeds("jpeg", profile))


def of_others(scale) -> list[str]:
    """The runs of one of OTHERS."""
    named = (("bicubic", "lossless"), ("bicubic", "jpeg"), ("car", "one kernel"))
    return [TRAINED[trained].format(downscaler, scale) for downscaler, trained in named]


def study(profile, *, train=True, executor="", device="auto", progress=True) -> list[dict]:
    """Train what is missing, measure the profile's images, and write the rows as metrics/jpeg.csv.

    Of OTHERS nothing is trained, and what has all its weights is measured. The rows of each image are kept
    (carlib.kept), and a later call goes on from them.

    Args:
        train, executor: see `contrasts.make_ready`. A seed without weights is left out.
    Returns:
        rows (ROW_COLUMNS) of every image, run and quality; quality 0 stands for lossless, downscaler "none" and scale 1
        for the HR image itself.
    Raises:
        ValueError: a run cannot be trained, weights of a declared one are missing, none of the profile's sets is here,
            or params.yaml says nothing of the study.
    """
    from carlib import data

    contrasts.check_training(train, executor)
    chosen, training = experiments.study_settings("jpeg", profile), {"train": train, "executor": executor}
    made = contrasts.seeds_ready(seeded(profile), names(), profile, **training, device=device, progress=progress)
    others = [name for scale in overview.complete(OTHERS, of_others, profile) for name in of_others(scale)]
    chains, made_by = experiments.chains([*made, *others], profile, device=device)
    made_by |= {"qualities": chosen["qualities"], "lower": chosen["lower"]}

    def measured(image):
        direct = _direct(data.crop_to_multiple(image, 8), [*chosen["lower"], *chosen["qualities"]])
        of_lr = [row for chain in chains.values() for row in _restored(image, chain, chosen["qualities"])]
        return [*direct, *of_lr]

    images = experiments.images(chosen["sets"], chosen, job="LR as JPEG", progress=progress)
    rows = kept.rows(profile, "jpeg", made_by, images, measured)
    artefacts.save_rows(rows, results.folder(profile, "metrics", "jpeg.csv"), ROW_COLUMNS)
    return rows


def _direct(hr, qualities):
    named = {"run": "", "downscaler": "none", "scale": 1, "trained": "", "seed": 0}
    for quality in qualities:
        coded = codecs.encode(hr, "jpeg", quality=quality)
        yield _row(hr, codecs.decode(coded, "jpeg"), coded, **named, quality=quality)


def _restored(image, chain, qualities):
    from carlib import data, rescale

    run = chain.run
    hr = data.crop_to_multiple(image, math.lcm(8, run.scale))
    lr, sr = chain(hr)
    kinds = {"one kernel": run.weighting == "static", "priced": run.priced, "jpeg": run.jpeg, "lossless": True}
    trained = next(kind for kind, holds in kinds.items() if holds)
    named = {"run": run.name, "downscaler": run.downscaler, "scale": run.scale, "trained": trained, "seed": run.seed}
    yield _row(hr, sr, codecs.encode(lr, "jpegls"), **named, quality=LOSSLESS)
    for quality in qualities:
        coded = codecs.encode(lr, "jpeg", quality=quality)
        sr = rescale.restore(chain.networks["upscaler"], codecs.decode(coded, "jpeg"))
        yield _row(hr, sr, coded, **named, quality=quality)


def _row(hr, sr, coded, **named):
    from carlib import metrics

    mse = float(np.square(hr / 255 - (sr / 255 if sr.dtype == np.uint8 else sr)).mean())  # as the loss "l2" has it
    bpp = 8 * len(coded) / (hr.shape[0] * hr.shape[1])
    return {**named, "bpp": bpp, "psnr": metrics.psnr(hr, sr, _SHAVE), "mse": mse}


def table(profile, rows):
    """`gains` of the rows, written as tables/jpeg."""
    found = gains(rows)
    artefacts.save_table(
        found.round({"bits": 1}).round(2),
        results.folder(profile, "tables", "jpeg"),
        title=f"LR images stored as JPEG, profile {profile}",
        caption="PSNR in dB (Y, 4 pixels of border left out) of what EDSR restores from the decoded LR image, by "
        "quality (0: lossless) and by the LR images that the networks were trained on: lossless ones, or JPEG of a "
        "quality drawn anew each time; priced: CAR's loss counts the bits of these files, too (bicubic as under jpeg); "
        "one kernel: the same, of one for all pixels of all images (the only CAR at x3 and x8). Means over the n "
        "images and over the seeds that both were trained under. gain: CAR less bicubic, image by image; low, high: "
        f"its 95 % interval over images ({intervals.HOW}); seed_interval: half of the 95 % interval of its mean over "
        "seeds. bits: what CAR's files take more, in percent; a gain at equal quality need be none at equal bits, see "
        f"jpeg_rates. Measured on {_seen(profile, rows)}. printed_gain: of networks of the paper's size, trained on "
        f"lossless LR images, on DIV2K (SAIN README). verdict of that: {tables.VERDICT}",
        command=experiments.papermill_command("05c_jpeg", profile, train=False),
    )
    return found


def rates(profile, rows):
    """`savings` of the rows, written as tables/jpeg_rates."""
    found = savings(rows)
    artefacts.save_table(
        found.round(dict.fromkeys(_PERCENT, 1)).round(2),
        results.folder(profile, "tables", "jpeg_rates"),
        title=f"Bits of LR images stored as JPEG, profile {profile}",
        caption="bd_rate: Bjontegaard's delta rate, the mean difference in bits at equal PSNR in percent of what it is "
        "compared with; below 0 saves. Of each image by itself; the mean over the n images that the set has (all: of "
        "every set) and over seeds, each seed beside the same of its rival. least, most: its 95 % interval over images "
        f"({intervals.HOW}); seed_interval: half of Student's 95 % interval of its mean over seeds (the EDSR that all "
        "begin with is one). fewer: percent of the images that take fewer bits. pooled: the delta rate between curves "
        "of means over these images, as papers often have it, over the interval from low to high dB that both reach; "
        "saved_share: percent of that interval at which fewer bits are taken. against: the HR image as JPEG, or the "
        "bicubic LR image as JPEG, whose EDSR was trained on lossless LR images where CAR was, else on JPEG. "
        f"better: the same, above quality {origin.LIKE_LOSSLESS} restored by the EDSR trained on lossless LR images; "
        "CAR: of one kernel, CAR with the same price. "
        f"Measured on {_seen(profile, rows)}.",
        command=experiments.papermill_command("05c_jpeg", profile, train=False),
    )
    return found


def prices(profile, rows):
    """`worth` of the rows, written as tables/jpeg_worth."""
    found = worth(rows)
    artefacts.save_table(
        found.round({"saved": 3, "worth": 2}),
        results.folder(profile, "tables", "jpeg_worth"),
        title=f"What a bit of a bicubic LR image's JPEG saves, profile {profile}",
        caption="saved: by how much the mean squared error of restored images (RGB in [0, 1]; EDSR trained on JPEG) "
        "falls from one quality to the next, over the bits per LR pixel that it takes, in thousandths. worth: the same "
        "over JPEG's step of quantisation, that of quality 50 being 1: what `bit_price` stands for with the loss l2. "
        f"Means over the seeds of each training and over {_seen(profile, rows)}.",
        command=experiments.papermill_command("05c_jpeg", profile, train=False),
    )
    return found


def _seen(profile, rows) -> str:
    seen = tables.seen(rows, runs.profile(profile)["jpeg"]["crop"])
    return f"{seen} (sides are cut to multiples of 8, at x3 of 24)"


def figure(profile, rows):
    """PSNR over bits, as a matplotlib Figure, written as figures/jpeg."""
    from carlib import figures

    drawn = figures.jpeg_curves({key: curve for key, curve in curves(rows).items() if key[1] not in OTHERS})
    artefacts.save_figure(
        drawn,
        results.folder(profile, "figures", "jpeg"),
        title=f"LR images stored as JPEG and restored, profile {profile}",
        alt="Curves of PSNR over bits per HR pixel at both scales: the HR image as JPEG, and CAR's and bicubic LR "
        "images as JPEG, restored by networks that were trained on lossless LR images, on JPEG, and on JPEG with a "
        "price on its bits, CAR's also with one kernel for all pixels",
        caption=f"Means over the seeds of each training and over {_seen(profile, rows)}. Dashed: trained on lossless "
        "LR images; solid: on JPEG; green: CAR with a price on the bits of its files, too; grey: the same of one "
        "kernel for all pixels. The HR image's curve goes on beyond the picture. x3 and x8 are in the tables.",
        command=experiments.papermill_command("05c_jpeg", profile, train=False),
    )
    return drawn


# ---- rows in, tables out ----


def gains(rows):
    """CAR beside bicubic downscaling at every quality.

    Returns:
        DataFrame, a line per scale, training and quality: scale, trained, quality, bicubic, car (mean PSNR, dB), gain,
        low, high (of its interval over images), seed_interval (half of that of its mean over seeds, NaN for one), bits
        (what CAR's files take more, percent), printed_gain, verdict, seeds, n (images).
    """
    import pandas as pd

    both = _beside_their_rivals(pd.DataFrame(rows))
    paper, lines = _printed(), []
    for (scale, trained, quality), group in both.groupby(_KEYS):
        group = group.assign(gain=group.psnr - group.psnr_bicubic)
        by_image, by_seed = (group.groupby(of).gain.mean() for of in (["set", "image"], "seed"))
        low, high = intervals.paired(by_image)
        over_seeds = intervals.half_width(by_seed)
        means = group[["psnr", "psnr_bicubic", "bpp", "bpp_bicubic"]].mean()
        gain, printed = means.psnr - means.psnr_bicubic, paper.get((scale, trained, quality), float("nan"))
        verdict = tables.verdict(gain, low, high, over_seeds, printed)
        lines.append({
            "scale": scale, "trained": trained, "quality": quality, "bicubic": means.psnr_bicubic, "car": means.psnr,
            "gain": gain, "low": low, "high": high, "seed_interval": over_seeds,
            "bits": 100 * (means.bpp / means.bpp_bicubic - 1), "printed_gain": printed,
            "verdict": "not tested" if rows[0]["profile"] == "smoke" else verdict,
            "seeds": len(by_seed), "n": len(by_image),
        })  # fmt: skip
    return pd.DataFrame(lines)


def worth(rows):
    """What a bit per LR pixel saves of the mean squared error of restored bicubic LR images, from quality to quality.

    Both are means over images and seeds.

    Returns:
        DataFrame: scale, quality, next, saved (thousandths of the squared range, a bit), worth (saved over the mean
        `carlib.ops.jpeg.price` of both qualities).
    """
    import pandas as pd
    import torch

    from carlib.ops.jpeg import price

    frame = pd.DataFrame(rows)
    frame = frame[(frame.downscaler == "bicubic") & (frame.trained == "jpeg") & (frame.quality > LOSSLESS)]
    lines = []
    for scale, means in frame.groupby(["scale", "quality"])[["bpp", "mse"]].mean().groupby("scale"):
        qualities = [quality for _, quality in means.index]
        steps = price(torch.tensor(qualities)).numpy()
        saved = -1000 * np.diff(means.mse) / (np.diff(means.bpp) * scale**2)
        columns = {"quality": qualities[:-1], "next": qualities[1:], "saved": saved}
        lines.append(pd.DataFrame({"scale": scale, **columns, "worth": 2 * saved / (steps[:-1] + steps[1:])}))
    return pd.concat(lines, ignore_index=True)


def _beside_their_rivals(frame):
    """CAR's rows, each with psnr_bicubic and bpp_bicubic of the bicubic LR image that it is compared with."""
    of_image = ["scale", "seed", "quality", "set", "image"]
    car = frame[frame.downscaler == "car"].assign(rival=lambda rows: rows.trained.map(RIVALS))
    bicubic = frame[frame.downscaler == "bicubic"].rename(columns={"trained": "rival"})
    bicubic = bicubic[[*of_image, "rival", "psnr", "bpp"]]
    return car.merge(bicubic, on=[*of_image, "rival"], suffixes=("", "_bicubic"))


def _printed() -> dict:
    """(scale, trained, quality) -> CAR's gain over bicubic downscaling with EDSR, as SAIN's authors printed it."""
    import pandas as pd

    paper = pd.read_csv(results.root() / "data" / "paper" / "jpeg.csv")
    wide = paper[paper.upscaler == "edsr"].pivot(index=["scale", "quality"], columns="downscaler", values="value")
    return {(scale, "lossless", quality): gain for (scale, quality), gain in (wide.car - wide.bicubic).items()}


def curves(rows) -> dict:
    """(downscaler, scale, trained) -> quality, bpp, psnr: means over images and seeds, by rising quality; of JPEG."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame = frame[frame.quality > LOSSLESS]
    return rate_distortion.mean_curves(frame, ["downscaler", "scale", "trained"], ["bpp", "psnr"])


def _image_by_image(rows) -> dict:
    """(downscaler, scale, trained, seed) -> (images, qualities, 2): bpp and PSNR of every image, by rising quality.

    "better" for trained: bicubic LR images, each quality restored by the EDSR that `carlib upscale` takes.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame = frame[frame.quality > LOSSLESS].sort_values(["set", "image", "quality"])
    found = {}
    for key, part in frame.groupby(_CURVE):
        found[key] = part[["bpp", "psnr"]].to_numpy().reshape(-1, part.quality.nunique(), 2)
    qualities = np.sort(frame[frame.trained == "jpeg"].quality.unique())
    rough = (qualities <= origin.LIKE_LOSSLESS)[:, None]
    for downscaler, scale, trained, seed in list(found):
        if (downscaler, trained) == ("bicubic", "jpeg") and ("bicubic", scale, "lossless", seed) in found:
            on_jpeg, lossless = (found["bicubic", scale, kind, seed] for kind in ("jpeg", "lossless"))
            found["bicubic", scale, "better", seed] = np.where(rough, on_jpeg, lossless)
    return found


def savings(rows):
    """Bits at equal PSNR: LR images beside the HR image, and CAR's beside bicubic ones.

    against: "HR", of SCALES; "bicubic LR", restored by the EDSR of RIVALS; "better": bicubic LR, at high quality
    restored by the EDSR that was trained on lossless LR images, which is then better (as `carlib upscale` has it);
    "CAR": of one kernel, CAR with the same price.

    Delta rates are taken image by image. Between curves of means over images at equal quality some images stand at
    other PSNRs than others, and those with large files count for more: that number is "pooled".
    Returns:
        DataFrame: scale, trained, downscaler, against, set (ALL, then each if there are several), bd_rate (percent: the
        mean over images of each one's mean over seeds), least, most (its interval over images), seed_interval (half of
        that of its mean over seeds, NaN for one), fewer (percent of the images that take fewer bits), pooled (percent),
        low, high (dB, the interval that the curves of means have in common, means over seeds), saved_share (percent of
        it), seeds (that both have), n (images whose two curves have PSNRs in common).
    """
    import pandas as pd

    names = pd.DataFrame(rows)[["set", "image"]].drop_duplicates().sort_values(["set", "image"]).set.to_numpy()
    every = {ALL: np.full(len(names), True)} | {name: names == name for name in np.unique(names)}
    if len(every) == 2:
        del every[names[0]]
    lines = []
    for (downscaler, scale, trained, against), pairs in _pairs(_image_by_image(rows)).items():
        named = {"scale": scale, "trained": trained, "downscaler": downscaler, "against": against}
        by_image = np.array([bjontegaard.of_images(*pair) for pair in pairs])
        for name, some in every.items():
            pooled = _pooled([(rival[some].mean(0), own[some].mean(0)) for rival, own in pairs])
            lines.append(named | {"set": name} | _summary(by_image[:, some]) | pooled)
    return pd.DataFrame(lines).sort_values(_COMPARED, kind="stable", ignore_index=True)


def _summary(by_image) -> dict:
    """What (seeds, images) delta rates say."""
    by_image = by_image[:, ~np.isnan(by_image).any(axis=0)]
    if by_image.size == 0:
        none = dict.fromkeys(("bd_rate", "least", "most", "seed_interval", "fewer"), float("nan"))
        return {**none, "seeds": len(by_image), "n": 0}
    of_images = by_image.mean(axis=0)
    least, most = intervals.paired(of_images)
    return {
        "bd_rate": of_images.mean(), "least": least, "most": most,
        "seed_interval": intervals.half_width(by_image.mean(axis=1)), "fewer": 100 * np.mean(of_images < 0),
        "seeds": len(by_image), "n": len(of_images),
    }  # fmt: skip


def _pooled(curves_of_means) -> dict:
    """The delta rate of curves of means over images, and where it holds; means over seeds."""
    rates, low, high = np.transpose([bjontegaard.bd_rate(*both) for both in curves_of_means])
    share = np.mean([bjontegaard.saved(*both)[0] for both in curves_of_means])
    return {"pooled": rates.mean(), "low": low.mean(), "high": high.mean(), "saved_share": share}


def _pairs(every) -> dict:
    """(downscaler, scale, trained, against) -> rival's and own of `_image_by_image`, of each seed that both have."""
    found = {}
    for (downscaler, scale, trained, seed), own in every.items():
        if downscaler != "none" and trained != "better":
            for against, rival in _rivals(downscaler, scale, trained).items():
                theirs = every.get((*rival, 0 if rival[0] == "none" else seed))
                if theirs is not None:
                    found.setdefault((downscaler, scale, trained, against), []).append((theirs, own))
    return found


def _rivals(downscaler, scale, trained) -> dict:
    """What an LR image's curve is compared with: against, as `savings` has it -> key of `_image_by_image`."""
    # At x3 other pixels are left out than of the HR image; at x8 there is as little to compare beside it.
    found = {"HR": ("none", 1, "")} if scale in SCALES else {}
    if downscaler == "car":
        found["bicubic LR"] = ("bicubic", scale, RIVALS[trained])
    if trained in ("priced", "one kernel"):
        found["better"] = ("bicubic", scale, "better")
    if trained == "one kernel":
        found["CAR"] = ("car", scale, "priced")
    return found
