"""What each choice of a protocol is worth in dB: the standard one with a single choice changed, on the same images.

PSNR depends on how an image is cropped, rounded, turned into luma and compared, and on which "bicubic" made the LR
image. Papers rarely say; a difference between two tables may be nothing else.
"""

import numpy as np

from carlib import artefacts, data, experiments, metrics, pixels, rescale, results, runs
from carlib.ops.imresize import imresize

CHAINS = ("bicubic-bicubic", "bicubic-edsr", "car-edsr")
STANDARD = "standard protocol"
MEAN_OF_ERRORS = "a set's PSNR of its mean squared error, not mean of PSNR"
_MOST = 5  # images of a set: there are up to eight restorations each
ROW_COLUMNS = ["profile", "run", "scale", "set", "image", "choice", "psnr"]


def study(profile, *, progress=True):
    """Measure every choice on the profile's sets; write metrics/protocol.csv and tables/protocol.

    Returns:
        the table (see `table`).
    Raises:
        ValueError: weights are missing, or none of the sets is here.
    """
    rows = [row for scale in (2, 4) for row in measure(profile, scale, progress=progress)]
    artefacts.save_rows(rows, results.folder(profile, "metrics", "protocol.csv"), ROW_COLUMNS)
    made = table(rows)
    used = {name: len({row["image"] for row in rows if row["set"] == name}) for name in experiments.SMALL}
    artefacts.save_table(
        made,
        results.folder(profile, "tables", "protocol"),
        title=f"What each choice of a protocol is worth in dB, profile {profile}",
        caption="First line: PSNR by the standard protocol (see carlib/metrics.py), mean (least, most) of the images, "
        "dB. Every other line: the same with one choice changed, less the first. Images (n): "
        f"{', '.join(f'{count} of {name}' for name, count in used.items() if count)}. A column is a downscaler, an "
        "upscaler and a scale; its EDSR keeps the weights that it was trained to on the standard LR images.",
        command=experiments.papermill_command("09_protocol", profile),
    )
    return made


def measure(profile, scale, *, progress=True) -> list[dict]:
    """Rows (ROW_COLUMNS) of every chain at one scale, of the first images of the profile's small sets.

    Raises:
        ValueError: as `study`.
    """
    profile, rows = runs.profile(profile)["name"], []
    for run in (f"{name}-x{scale}" for name in CHAINS):
        chain = experiments.chain(run, profile)
        for set_name, name, image in experiments.small_images(profile, _MOST, job=run, progress=progress):
            shared = (profile, run, scale, set_name, name)
            found = {**compared(chain, image), **made_otherwise(chain, image)}
            rows += [dict(zip(ROW_COLUMNS, (*shared, *item), strict=True)) for item in found.items()]
    return rows


def compared(chain, image) -> dict:
    """Choice -> PSNR (dB) of one restored image, compared with its original in different ways.

    Args:
        chain: evaluate.Chain.  image: uint8 (H, W[, 3]), cropped here to multiples of the scale.
    """
    scale = chain.run.scale
    hr = data.crop_to_multiple(image, scale)
    lr, sr = chain(hr)
    levels = _unrounded(lr, sr, scale)
    sr = pixels.to_8_bits(sr)
    over_255 = "standard" if hr.ndim == 2 else "car-release"  # a grey image has no weights of Y
    return {
        STANDARD: metrics.psnr(hr, sr, scale),
        "RGB, not Y": metrics.psnr(hr, sr, scale, "rgb"),
        "Y of the full range (JPEG's), not of 16 to 235": metrics.psnr(data.to_grey(hr), data.to_grey(sr), scale),
        "Y with weights over 255, not 256": metrics.psnr(hr, sr, scale, over_255),
        "Y rounded": metrics.psnr(*(np.rint(metrics.luma(one)).astype(np.uint8) for one in (hr, sr)), scale),
        "grey images as R = G = B": metrics.psnr(data.to_colour(hr), data.to_colour(sr), scale),
        "SR truncated, not rounded": metrics.psnr(hr, levels.astype(np.uint8), scale),
        "SR not rounded": _psnr_of_levels(hr, levels, scale),
        "no border left out": metrics.psnr(hr, sr, 0),
        "a border of scale + 6 left out": metrics.psnr(hr, sr, scale + 6),
    }


def made_otherwise(chain, image) -> dict:
    """Choice -> PSNR (dB) by the standard protocol of one image cropped, downscaled or enlarged in another way.

    Arguments as `compared`. The last choice is all of the released code's at once.
    """
    scale, found = chain.run.scale, {}
    hr, by_8 = (data.crop_to_multiple(image, multiple) for multiple in (scale, 8))
    lr, sr = chain(by_8)
    found["sides cropped to multiples of 8"] = metrics.psnr(by_8, sr, scale)
    found["LR not rounded"] = metrics.psnr(hr, _levels(chain, _float_lr(chain, hr)) / 255, scale)
    size = tuple(n // scale for n in hr.shape[:2])
    if chain.run.downscaler == "bicubic":
        kinds = {"without antialiasing": no_antialias, "as OpenCV": opencv_like, "by Pillow": pillow}
        for kind, resize in kinds.items():
            restored = np.rint(_levels(chain, resize(hr, size))).astype(np.uint8)
            found[f"downscaled {kind}"] = metrics.psnr(hr, restored, scale)
    if chain.run.upscaler == "bicubic":
        small = chain(hr)[0]
        for kind, resize in {"as OpenCV": opencv_like, "by Pillow": pillow}.items():
            found[f"enlarged {kind}"] = metrics.psnr(hr, resize(small, hr.shape[:2]), scale)
    released = metrics.psnr(by_8, _unrounded(lr, sr, scale) / 255, scale, "car-release")
    found["all of the released code's: crop, SR, Y, grey"] = released
    return found


def no_antialias(image, size):
    """MATLAB's bicubic kernel, not widened where the image shrinks."""
    return imresize(image, size=size, antialias=False)


def opencv_like(image, size):
    """Bicubic as OpenCV's INTER_CUBIC and PyTorch's default: a = -0.75, not widened where the image shrinks."""
    import torch

    tensor = torch.tensor(data.to_colour(image)).permute(2, 0, 1)[None].double()
    resized = torch.nn.functional.interpolate(tensor, size=size, mode="bicubic", align_corners=False)
    resized = resized[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    return resized[..., 0] if image.ndim == 2 else resized


def pillow(image, size):
    """Pillow's bicubic: MATLAB's kernel and widening, but another rounding and border."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def _levels(chain, lr):
    """An LR image (uint8, or float on 0..255) enlarged by the chain's upscaler: float on 0..255, not rounded."""
    if chain.run.upscaler == "bicubic":
        return _bicubic(lr, chain.run.scale)
    return rescale.restore(chain.networks["upscaler"], lr) * 255


def _unrounded(lr, sr, scale):
    """A chain's SR image as float on 0..255; bicubic's, which comes in 8 bits, is made again."""
    return _bicubic(lr, scale) if sr.dtype == np.uint8 else sr * 255


def _bicubic(lr, scale):
    return np.clip(imresize(lr.astype(np.float64), scale), 0, 255)


def _float_lr(chain, hr):
    """The LR image before it is rounded, on 0..255."""
    import torch

    if chain.run.downscaler != "car":
        return imresize(hr.astype(np.float64), 1 / chain.run.scale)
    resampler = chain.networks["resampler"]
    with torch.inference_mode():
        lr, _ = resampler.downscale(pixels.to_tensor(hr, next(resampler.parameters()).device))
    lr = 255 * lr[0].permute(1, 2, 0).cpu().numpy()
    return lr[..., 0] if hr.ndim == 2 else lr


def _psnr_of_levels(hr, levels, scale) -> float:
    inside = slice(scale, -scale)
    difference = (metrics.luma(hr) - metrics.luma(levels))[inside, inside]
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def table(rows):
    """One line a choice, one column a chain and scale; rows as `measure` gives.

    Returns:
        DataFrame of text: the first line the standard protocol's PSNR, the others differences from it, as "mean (least,
        most)" over all images of all sets; "-" where a choice does not concern the chain.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    choices = [choice for choice in dict.fromkeys(frame.choice) if choice != STANDARD]
    last = next(choice for choice in choices if choice.startswith("all of"))
    choices = [choice for choice in choices if choice != last] + [MEAN_OF_ERRORS, last]
    columns = {}
    for (scale, run), part in frame.groupby(["scale", "run"], sort=False):
        values = part.pivot(index=["set", "image"], columns="choice", values="psnr")
        shown = {STANDARD: _spread(values[STANDARD], ".2f")}
        for choice in choices:
            if choice in values:
                shown[choice] = _spread(values[choice] - values[STANDARD], "+.3f")
        shown[MEAN_OF_ERRORS] = _spread(values[STANDARD].groupby("set").agg(_mean_of_errors), "+.3f")
        columns[f"{run.removesuffix(f'-x{scale}').replace('-', ' + ')}, x{scale}"] = shown
    made = pd.DataFrame(columns, index=[STANDARD, *choices]).fillna("-")
    return made.rename_axis("choice").reset_index()


def _spread(values, form) -> str:
    mean, least, most = (f"{round(value, 3) + 0.0:{form}}" for value in (values.mean(), values.min(), values.max()))
    return f"{mean} ({least}, {most})"  # + 0.0: no -0.000


def _mean_of_errors(psnr) -> float:
    """What a set's PSNR would be less than it is, were its images' errors averaged first."""
    return -10 * np.log10(np.mean(10 ** (-psnr / 10))) - psnr.mean()
