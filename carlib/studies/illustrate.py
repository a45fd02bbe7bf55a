"""The paper's pictures of images, kernels and offsets: networks run on one image, drawn by carlib.figures, written."""

import hashlib
import re

from carlib import artefacts, data, experiments, pixels, results, runs
from carlib.notebook import ParameterError

# Figure -> the runs it shows, less their scale.
_RUNS = {
    3: ("bicubic-bicubic-x{}", "bicubic-edsr-x{}", "car-edsr-x{}"),
    4: ("car-edsr-x{}", "car-edsr-x{}-free"),
    5: ("car-edsr-x{}-no-tv", "car-edsr-x{}"),
    6: ("car-edsr-x{}",),
}
# Figure -> the image and the crop that the pipeline shows, as its notebook's parameters have them.
_SHOWN = {
    3: ("demo/kodim23", [60, 152, 96, 96]),
    4: ("demo/kodim23", [40, 120, 192, 192]),
    5: ("demo/kodim23", [40, 120, 96, 96]),
}


def name_of(base, figure, image, box, scale=4) -> str:
    """The file name of a figure: `base` of what the pipeline shows, a name of its own of another image, crop, scale."""
    base = base if scale == 4 else f"{base}_x{scale}"
    if (image, list(box)) == _SHOWN[figure]:
        return base
    return "_".join([base, file_label(image), "-".join(map(str, box))])


def file_label(image) -> str:
    """What files about an image are called: "set/name" as set-name, a file of one's own by its name and its place."""
    path = data.own_file(image)
    if path is None:
        return image.replace("/", "-")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', path.stem)[:40]}-{digest}"  # no dot: suffixes are put in its place


def shown(image) -> str:
    """What people are told of an image: "set/name", of a file of one's own its name."""
    path = data.own_file(image)
    return image if path is None else path.name


def check_image(image, scale, figure):
    """HR pixels of an image, cropped at its top left to a multiple of `scale`.

    Args:
        image:  "set/name", such as "set14/barbara", or a file of one's own, such as "photos/a.jpg".
        scale:  one for which params.yaml declares the runs that `figure` (3 to 6) shows.
    Returns:
        uint8 (H, W[, 3]).
    Raises:
        ParameterError (a ValueError): one of them does not fit.
    """
    declared = runs.read_params()["runs"]
    scales = sorted({run["scale"] for run in declared.values()})
    scales = [known for known in scales if all(name.format(known) in declared for name in _RUNS[figure])]
    if scale not in scales:
        raise ParameterError(
            f"scale={scale!r} has no runs for Fig. {figure} in params.yaml: use {', '.join(map(str, scales))}"
        )
    set_name, _, name = image.partition("/")
    try:
        if path := data.own_file(image):
            return data.crop_to_multiple(data.read_of_set(path), scale)
        found = {path.stem: path for path in data.find(set_name)}
    except ValueError as error:
        raise ParameterError(f'image={image!r}: {error}; an image is "set/name", or a file') from None
    if name not in found:
        raise ParameterError(f"no image {name!r} in {set_name}: there are {', '.join(found)}")
    return data.crop_to_multiple(data.read_image(found[name]), scale)


def check_crop(image, scale, box, figure=3):
    """HR pixels of an image as `check_image`, once `box` has been checked too.

    Args:
        image, scale, figure: as `check_image`.
        box: [top, left, height, width] in HR pixels, multiples of `scale`, inside the image.
    Returns:
        uint8 (H, W[, 3]), the whole image.
    Raises:
        ParameterError (a ValueError): one of them does not fit.
    """
    hr = check_image(image, scale, figure)
    whole = all(isinstance(number, int) and number >= 0 and number % scale == 0 for number in box)
    if len(box) != 4 or not whole or 0 in box[2:]:
        raise ParameterError(f"box={box!r} is not [top, left, height, width] in multiples of scale={scale}")
    top, left, height, width = box
    if top + height > hr.shape[0] or left + width > hr.shape[1]:
        raise ParameterError(f"box={box!r} reaches beyond {image}, which is {hr.shape[0]} high and {hr.shape[1]} wide")
    return hr


def sr_panel(label, hr, sr, scale):
    """A panel of `figures.crops`: SR in 8 bits, below its label PSNR and SSIM of the whole image."""
    from carlib import metrics
    from carlib.data import to_colour

    values = [getattr(metrics, metric)(hr, sr, scale) for metric in ("psnr", "ssim")]
    return label, f"{values[0]:.2f} dB / {values[1]:.4f}", to_colour(pixels.to_8_bits(sr))


def panels(label, chain, hr, box, told=None) -> list:
    """The LR and the SR panel of `figures.crops` of a run as an `evaluate.Chain`.

    Args:
        label: of the SR panel; of the LR panel its part before " + ".
        hr:    uint8 (H, W[, 3]).  box: of it, see `check_crop`.
        told:  what is said below the LR panel, a function of the LR image; default the size of the crop.
    """
    from carlib.data import to_colour

    (lr, sr), scale = chain(hr), chain.run.scale
    below = f"{box[3] // scale}×{box[2] // scale} px" if told is None else told(lr)
    return [(f"{label.partition(' + ')[0]} LR", below, to_colour(lr)), sr_panel(label, hr, sr, scale)]


def row(name, hr, box, shown, told=None) -> dict:
    """A row of `figures.crops`: the `panels` of each run.

    Args:
        name: of the image.  hr, box, told: as of `panels`.  shown: label -> evaluate.Chain.
    """
    from carlib.data import to_colour

    both = [panels(label, chain, hr, box, told) for label, chain in shown.items()]
    return {"name": name, "hr": to_colour(hr), "box": tuple(box), "panels": [panel for pair in both for panel in pair]}


def figure3(profile, image, scale, box):
    """Fig. 3: HR, LR and SR crops of one image for bicubic and CAR downscaling.

    Arguments as `check_crop`.
    Returns:
        matplotlib Figure; written as figures/fig3_x<scale>, of another image or crop see `name_of`.
    """
    from carlib import figures
    from carlib.data import to_colour

    hr = check_crop(image, scale, box)
    by_bicubic, *pairs = (
        panels(label, experiments.chain(name.format(scale), profile), hr, box)
        for label, name in zip(("bicubic + bicubic", "bicubic + EDSR", "CAR + EDSR"), _RUNS[3], strict=True)
    )
    beside = [by_bicubic[1], *(panel for pair in pairs for panel in pair)]  # both of bicubic have the same LR image
    figure = figures.crops([{"name": shown(image), "hr": to_colour(hr), "box": tuple(box), "panels": beside}])
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", name_of(f"fig3_x{scale}", 3, image, box)),
        title=f"As Fig. 3, bicubic and CAR alone: {shown(image)} downscaled by {scale} and restored, profile {profile}",
        alt=f"Crops of {shown(image)}: the original, and for bicubic and CAR downscaling by {scale} the small image "
        "and what is restored from it",
        caption="PSNR and SSIM are those of the whole image (Y channel). LR crops are enlarged without interpolation.",
        command=experiments.papermill_command(
            "01_downscaling_for_sr", profile, figure_scale=scale, figure_image=image, figure_box=box, train=False
        ),
    )
    return figure


def figure4(profile, image, scale, box):
    """Fig. 4: bicubic's kernel, and CAR's kernels and offsets with and without the offset loss, on one crop.

    Arguments and result as `figure3`; written as figures/fig4, of another scale as figures/fig4_x<scale>.
    """
    from carlib import figures
    from carlib.data import to_colour

    hr = to_colour(check_crop(image, scale, box, figure=4))
    top, left, height, width = box
    maps = tap_maps(profile, image, scale, box)
    figure = figures.kernels_offsets(hr[top : top + height, left : left + width], kernels(maps, scale), scale)
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", name_of("fig4", 4, image, box, scale)),
        title=f"Fig. 4: kernels and offsets for {shown(image)}, x{scale}, profile {profile}",
        alt="Maps of the weights and offsets of the nine central taps, for bicubic, for CAR, and for CAR trained "
        "without the offset loss",
        caption="Each map shows one tap over the LR grid. Colour of an offset: direction by hue, length by saturation, "
        "see the wheel; its radius is in HR pixels, and what is longer is darker; the number below is the mean length "
        "of what is shown, the nine taps. Bicubic's taps are, of as many, those that come closest to MATLAB's. "
        f"{_adaptivity(maps)} {_moves(maps)}",
        command=experiments.papermill_command("06_kernels_offsets", profile, image=image, scale=scale, box=box),
    )
    return figure


def kernels(maps, scale) -> list:
    """(title, kernel, offset_v, offset_h) of bicubic, and of CAR with and without the offset loss; maps: `tap_maps`."""
    (kernel, *_), _ = maps.values()
    named = zip(("CAR", "CAR, no offset loss"), maps.values(), strict=True)
    return [("bicubic", bicubic_taps(scale, *kernel.shape), None, None), *((title, *arrays) for title, arrays in named)]


def _adaptivity(maps) -> str:
    """How much weights depend on the content: a flat map is a finding, not a fault of the picture."""
    found = [f"{100 * kernel.std((1, 2)).mean() / abs(kernel).mean():.0f} %" for kernel, _, _ in maps.values()]
    return f"Standard deviation of a weight over these LR pixels, of the mean size of weights: {_of_both(found)}."


def _moves(maps) -> str:
    """How long offsets are, and how much they depend on the content: a white map is a finding, too."""
    found = [lengths(*arrays) for arrays in maps.values()]
    mean, spread = ([_length(line[name]) for line in found] for name in ("mean", "spread"))
    return (
        "Of all taps, each counting as much as the size of its weight: mean length of an offset "
        f"{_of_both(mean)} HR pixels; standard deviation of a tap's offset over these LR pixels {_of_both(spread)}."
    )


def _length(pixels) -> str:
    return "below 0.0001" if pixels < 1e-4 else f"{pixels:.2g}"


def _of_both(texts) -> str:
    return f"{texts[0]} (CAR), {texts[1]} (without the offset loss)"


def over_training(profile, history, image, scale, box):
    """Kernels and offsets as they were learned: those of Fig. 4 at the steps that a run trained with `history` kept.

    Args:
        history: its folder; of the kept steps the first, the last and two between are drawn, evenly apart by logarithm.
        others:  as `figure3`.
    Returns:
        matplotlib Figure; written as figures/over_training.
    Raises:
        ParameterError (a ValueError): the folder keeps no steps, or its networks have another scale.
    """
    from carlib import figures, weights
    from carlib.data import to_colour

    hr = to_colour(check_crop(image, scale, box, figure=4))
    top, left, height, width = box
    kept = _spread(sorted((results.root() / history).glob("steps/[!.]*.safetensors")))
    if not kept:
        raise ParameterError(f"history={history!r} holds no steps/: `carlib train RUN --history` keeps them")
    examples = []
    for path in kept:
        networks, header = weights.load_run(path)
        if "resampler" not in networks or networks["resampler"].scale != scale:
            raise ParameterError(f"history={history!r} is of {header['run']}, which is no resampler of scale={scale}")
        examples.append((f"after {header['steps']:,} steps", *_predicted(networks["resampler"], hr, scale, box)))
    examples.insert(0, ("at the start: bicubic", bicubic_taps(scale, *examples[0][1].shape), None, None))
    figure = figures.kernels_offsets(hr[top : top + height, left : left + width], examples, scale)
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", "over_training"),
        title=f"Kernels and offsets while they are learned: {header['run']} on {shown(image)}, profile "
        f"{header['profile']}",
        alt="Maps of the weights and offsets of the nine central taps before training and after more and more steps",
        caption=f"As Fig. 4; the run has {header['parameters']['steps']:,} steps, weighting "
        f"{header['parameters']['weighting']}, lambda {header['parameters']['lambda_offset']:g}.",
        command=experiments.papermill_command(
            "06_kernels_offsets", profile, image=image, scale=scale, box=box, history=history
        ),
    )
    return figure


def _spread(paths, count=4):
    """At most `count` of the paths, the first and the last among them, their places evenly apart by logarithm."""
    import numpy as np

    places = np.rint(np.geomspace(1, max(len(paths), 1), count)).astype(int) - 1
    return [paths[place] for place in sorted(set(places))] if paths else []


def offset_lengths(profile, image, scale, box):
    """How long CAR's offsets are on a crop, with and without the offset loss; arguments as `check_crop`.

    Returns:
        DataFrame: run, and what `lengths` tells of it.
    """
    import pandas as pd

    maps = tap_maps(profile, image, scale, box)
    return pd.DataFrame([{"run": name, **lengths(*arrays)} for name, arrays in maps.items()])


def lengths(kernel, offset_v, offset_h) -> dict:
    """Of offsets (K*K, h, w), in HR pixels.

    Returns:
        dict: mean and largest length; spread: the standard deviation of a tap's offset over the LR pixels (both
        directions together, mean of all taps). Both means weigh a tap by the magnitude of its weight.
    """
    import numpy as np

    length, spread = np.hypot(offset_v, offset_h), np.hypot(offset_v.std((1, 2)), offset_h.std((1, 2)))
    mean = np.average(length, weights=abs(kernel))
    return {"mean": mean, "largest": length.max(), "spread": np.average(spread, weights=abs(kernel).mean((1, 2)))}


def figure5(profile, image, scale, box):
    """Fig. 5: what the TV loss does to the LR image, and what it costs: LR and SR crops without it and with it.

    A run without weights (of the recipe that params.yaml has now) is left out, and the caption says so.

    Arguments and result as `figure3`; written as figures/fig5_x<scale>.
    Raises:
        ValueError: as `check_crop`, or neither run has weights.
    """
    from carlib import figures, metrics, overview, rescale
    from carlib.data import to_colour

    hr = check_crop(image, scale, box, figure=5)
    plain, sr_panels, lr_panels = rescale.classical("bicubic")(hr, scale), [], []
    names = dict(zip(("CAR, no TV loss", "CAR"), (name.format(scale) for name in _RUNS[5]), strict=True))
    absent = {label: told for label, name in names.items() if (told := overview.why_absent(name, profile))}
    for label, name in names.items():
        if label in absent:
            continue
        lr, sr = experiments.chain(name, profile)(hr)
        sr_panels.append(sr_panel(label, hr, sr, scale))
        apart = metrics.psnr(plain, lr, 1, protocol="rgb")  # what the eye sees: most of it is in the colours
        lr_panels.append((f"{label}: LR", f"{apart:.2f} dB to bicubic LR", to_colour(lr)))
    if not sr_panels:
        raise ValueError(f"Fig. 5 has no run to show: {next(iter(absent.values()))}")
    row = {"name": shown(image), "hr": to_colour(hr), "box": tuple(box), "panels": sr_panels + lr_panels}
    figure = figures.crops([row])
    artefacts.save_figure(
        figure,
        results.folder(profile, "figures", name_of(f"fig5_x{scale}", 5, image, box)),
        title=f"Fig. 5: LR and SR of {shown(image)} without and with the TV loss, x{scale}, profile {profile}",
        alt=f"Crops of {shown(image)}: the original, and the small and the restored image of CAR trained without and "
        "with the TV loss",
        caption="Under an SR crop: PSNR and SSIM of the whole image (Y channel). Under an LR crop: PSNR of the whole "
        "LR image against bicubic's, over all colours (RGB); bicubic's has no jagged edges. LR crops are enlarged "
        "without interpolation." + "".join(f" {label}: {told}." for label, told in absent.items()),
        command=experiments.papermill_command(
            "03_ablation", profile, train=False, scale=scale, figure_image=image, figure_box=box
        ),
    )
    return figure


def tap_maps(profile, image, scale, box) -> dict:
    """Run -> its kernel, offset_v, offset_h, NumPy arrays (K*K, height/scale, width/scale), cut from the whole image's.

    For CAR with and without the offset loss; arguments as `check_crop`.
    """
    from carlib import weights

    hr, maps = check_crop(image, scale, box, figure=4), {}
    for name in (name.format(scale) for name in _RUNS[4]):
        networks, _ = weights.load_run(experiments.ready(name, profile))
        maps[name] = _predicted(networks["resampler"], hr, scale, box)
    return maps


def _predicted(resampler, hr, scale, box):
    """kernel, offset_v, offset_h of the whole image, NumPy arrays cut to the box."""
    import torch

    top, left, height, width = (number // scale for number in box)
    with torch.inference_mode():
        predicted = resampler(pixels.to_tensor(hr))
    return [tensor[0, :, top : top + height, left : left + width].clone().numpy() for tensor in predicted]


def bicubic_taps(scale, count, *shape):
    """Bicubic as a constant kernel map (K*K, h, w) of K*K = `count` taps: what "signed" weighting starts from."""
    import math

    import numpy as np

    from carlib.models import ResamplerNet

    prior = ResamplerNet(scale, kernel_size=math.isqrt(count), weighting="signed", width=4, blocks=0).prior.numpy()
    return np.broadcast_to(prior[:, None, None], (count, *shape))
