"""Fig. 3 of the paper: crops of its images downscaled by every method, and restored by the EDSR trained on each."""

from carlib import artefacts, experiments, results, runs
from carlib.notebook import ParameterError
from carlib.studies import illustrate

# The paper's images, and where it looks closely; elsewhere embedded photographs. Boxes: top, left, height, width.
_PAPERS = {"set14/barbara": [4, 168, 72, 96], "set14/comic": [60, 40, 72, 96], "set14/ppt3": [240, 32, 72, 96]}
_EMBEDDED = {"demo/kodim23": [64, 152, 72, 96], "demo/monarch": [120, 196, 72, 96], "demo/sail": [176, 196, 72, 96]}
# Those whose restored crops lie over each other on the page, in a picture where a pixel is so many wide and high.
_SLID = {"Bicubic": "bicubic + EDSR", "CAR": "CAR + EDSR"}
_ENLARGED = 6
# Downscaler of the runs <downscaler>-edsr-x<scale> -> label; all but these two are shown where they are trained.
_NEEDED = ("bicubic", "car")
_LABELS = {
    "bicubic": "Bicubic",
    "perceptual-as-published": "Perceptual, as published",
    "dpid-0.5": "DPID",
    "l0": "L0, reconstructed",
    "car": "CAR",
}


def choose(crops=None, scale=4) -> dict:
    """Image -> box: `crops` itself; if empty the paper's images, where they are all here, else embedded ones.

    Their boxes begin and end at multiples of the scale.
    """
    from carlib import data

    if crops:
        return crops
    there = {path.stem for path in data.find("set14")} if "set14" in data.available() else set()
    shown = _PAPERS if all(image.partition("/")[2] in there for image in _PAPERS) else _EMBEDDED
    return {image: [number - number % scale for number in box] for image, box in shown.items()}


def check(crops, scale) -> dict:
    """Image -> HR pixels (see illustrate.check_crop) of every crop that `choose` gives.

    Raises:
        ParameterError (a ValueError): an image, a box or the scale does not fit.
    """
    for image, box in (crops or {}).items():
        if not isinstance(image, str) or not isinstance(box, list):
            raise ParameterError(f'crops={crops!r} is not {{"set/name" or a file: [top, left, height, width]}}')
    return {image: illustrate.check_crop(image, scale, box) for image, box in choose(crops, scale).items()}


def draw(profile, crops=None, scale=4):
    """Fig. 3: per image the HR crop, and each downscaler's LR crop below what is restored from it.

    Args:
        crops: {"set/name" or a file: [top, left, height, width]}, HR pixels, multiples of the scale;
            empty: see `choose`.
        scale: one for which params.yaml declares the runs.
    Returns:
        matplotlib Figure; written as figures/fig3, of other crops or another scale than 4 under a name that has them.
        Beside it, of each image, a pair of pictures for a slider: figures/fig3_slider1, 2, ...
    Raises:
        ParameterError (a ValueError): as `check`.  ValueError: the weights of bicubic-edsr or car-edsr are missing.
    """
    from carlib import figures

    images, boxes = check(crops, scale), choose(crops, scale)
    chains, missing = _chains(profile, scale)
    rows = [illustrate.row(illustrate.shown(image), hr, boxes[image], chains) for image, hr in images.items()]
    names = ", ".join(map(illustrate.shown, images))
    figure = figures.crops(rows)
    without = f" Left out, without weights of this profile's recipe: {'; '.join(missing)}." if missing else ""
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", _name(crops, scale)),
        title=f"Fig. 3, all downscalers: {names} downscaled by {scale} and restored by EDSR, profile {profile}",
        alt=f"Crops of {names}: the original, and for {', '.join(chains)} the small image and what the "
        "EDSR trained on such images restores",
        caption="Each EDSR was trained on the small images of its own downscaler, CAR's jointly with it. PSNR and SSIM "
        "are those of the whole image (Y channel, standard protocol). LR crops are enlarged without interpolation."
        f"{without}",
        command=_command(profile, crops, scale),
    )
    for number, row in enumerate(rows, start=1):
        _save_slider(row, f"{_name(crops, scale)}_slider{number}", profile, crops, scale)
    return figure


def _save_slider(row, name, profile, crops, scale):
    """The SR crops of one row of figures.crops by bicubic and CAR, one over the other."""
    top, left, height, width = row["box"]
    images, told = {}, []
    for label, value, image in row["panels"]:
        if label in _SLID:
            crop = image[top : top + height, left : left + width]
            images[_SLID[label]] = crop.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
            told.append(f"{_SLID[label]} {value}")
    artefacts.save_pair(
        images,
        results.folder(profile, "figures", name),
        title=f"Fig. 3, before and after: {row['name']} downscaled by {scale} and restored, profile {profile}",
        alt=f"A crop of {row['name']}, downscaled by {scale} and restored",
        caption=f"Move the line. PSNR and SSIM of the whole image: {', '.join(told)}. Each pixel is drawn as a square.",
        command=_command(profile, crops, scale),
    )


def _chains(profile, scale):
    """(label -> evaluate.Chain, labels of the runs that have no weights)."""
    chains, missing = {}, []
    for downscaler, label in _LABELS.items():
        name = f"{downscaler}-edsr-x{scale}"
        if downscaler in _NEEDED or _trained(name, profile):
            chains[label] = experiments.chain(name, profile)
        else:
            missing.append(label)
    return chains, missing


def _trained(name, profile) -> bool:
    try:
        return name in runs.names() and experiments.ready(name, profile) is not None
    except ValueError:  # declared, but there are no weights yet
        return False


def _command(profile, crops, scale):
    return experiments.papermill_command("06b_qualitative", profile, scale=scale, crops=crops or None)


def _name(crops, scale):
    """The pipeline's figure keeps its name."""
    parts = [f"{illustrate.file_label(image)}-{'-'.join(map(str, box))}" for image, box in (crops or {}).items()]
    return "fig3" if scale == 4 and not parts else "_".join([f"fig3_all_x{scale}", *parts])
