"""Evaluation: down, up, compare; one row per image, protocol and metric."""

import sys
from functools import partial
from pathlib import Path

from carlib import (
    data,
    kept,
    memory,
    method_networks,
    metrics,
    provenance,
    rescale,
    results,
    runs,
    sources,
    weights,
    zssr,
)
from carlib.ops.imresize import imresize

_MEASURING = (
    "evaluate.py",
    "metrics.py",
    "method_networks.py",
    "pixels.py",
    "rescale.py",
    "tiles.py",
    "weights.py",
    "data/images.py",
    "models/__init__.py",
)


SYSTEM = ("downscaler", "upscaler", "scale")  # parameters that say what a run is, not how it is trained


class Chain:
    """A run as a function of an HR image; its networks are loaded once.

    Args:
        run:    a `carlib.runs.Run`.
        path:   its weights file; None where nothing is learned, or `networks` are given.
        device: "cpu", "cuda", ...; "auto" takes a GPU where there is one.
        networks: role -> network that is loaded already, in an nn.ModuleDict.
    Raises:
        ValueError: the file is missing, is another run's or profile's (demo takes mini's), or was trained with another
            downscaler, upscaler or scale.
    """

    def __init__(self, run: runs.Run, path=None, device="cpu", networks=None):
        from carlib import devices

        memory.use_huge_pages()
        self.run, self.device, self.digest, self.trained_on = run, devices.usable(device), None, []
        self.networks = {} if networks is None else networks.to(self.device).eval()
        if run.trains and networks is None:
            before = provenance.sha256(path) if Path(path).is_file() else None
            self.networks, metadata = weights.load_run(path)
            made, allowed = metadata.get("run"), {run.profile, "mini" if run.profile == "demo" else run.profile}
            if made != run.name or metadata.get("profile") not in allowed:
                raise ValueError(
                    f"{path} is of run {made}, profile {metadata.get('profile')}, not of {run.name}, {run.profile}"
                )
            for key in SYSTEM:  # whatever else may have been changed for a trial
                own, theirs = getattr(run, key), metadata.get("parameters", {}).get(key)
                if theirs not in (None, own):
                    raise ValueError(f"{path} was trained with {key}={theirs!r}, run {run.name} has {own!r}")
            self.networks.to(self.device)
            self.trained_on = metadata.get("data") or []
            after = provenance.loaded_weights()[run.name]["sha256"]
            self.digest = before if before == after else None  # the file was replaced meanwhile: which one is it?

    def __call__(self, hr):
        """hr uint8 (H, W[, 3]), sides multiples of the scale -> lr uint8, sr (uint8, or float32 in [0, 1])."""
        if self.run.learns_downscaling:
            lr = rescale.learned_downscale(method_networks.downscaler_of(self.networks), hr)
        else:
            lr = rescale.classical(self.run.downscaler)(hr, self.run.scale)
        if self.run.upscaler == "bicubic":
            return lr, imresize(lr, self.run.scale)
        if self.run.image_steps:
            return lr, zssr.restore(lr, self.run.scale, device=self.device, **_of_zssr(self.run))
        return lr, rescale.restore(self.networks["upscaler"], lr)


def _of_zssr(run) -> dict:
    return {"steps": run.image_steps, "size": run.size_of("zssr"), "seed": run.seed}


def evaluate(chain: Chain, set_name, *, protocols=("standard",), limit=None, crop=None, progress=False, keep=False):
    """Measure a run on an image set.

    Every image is cropped at its top left to a multiple of the scale ("car-release": of 8, as the released code does);
    grey images are measured in grey.

    Args:
        set_name:  a name of `carlib.data`.
        protocols: of `carlib.metrics`.  limit: only the first images.  crop: only the middle crop x crop pixels.
        keep:      keep the rows (carlib.kept), and take those that are; not of networks that the chain was given.
    Returns:
        list of dicts with results.ROW_COLUMNS; PSNR in dB, SSIM in 0..1.
    Raises:
        ValueError: the set is missing; a protocol is unknown.
    """
    from tqdm import tqdm

    for protocol in protocols:
        metrics.check_protocol(protocol)
    measured = data.find(set_name)[:limit]
    if seen := len(set(measured).intersection(data.shared(set_name, chain.trained_on))):
        told = f"{chain.run.name} was trained on {seen} of the {len(measured)} images that are measured of {set_name}"
        print(f"{told}: its numbers there say nothing about others", file=sys.stderr)
    loaded = tqdm(
        data.load(set_name, limit=limit),
        total=len(measured),
        desc=f"{chain.run.name} on {set_name}",
        unit="image",
        disable=not progress,
    )
    run, images = chain.run, ((set_name, name, image) for name, image in loaded)
    measure = partial(_measure, chain, protocols=protocols, crop=crop)
    if keep and (chain.digest or not run.trains):
        how = [list(protocols), crop]
        found = kept.rows(run.profile, f"{run.name}-{data.label(set_name)}", _made_by(chain), images, measure, how=how)
    else:
        found = kept.named(run.profile, ((set_name, name, measure(image)) for _, name, image in images))
    of_run = {"run": run.name, "downscaler": run.downscaler, "upscaler": run.upscaler, "scale": run.scale}
    return [{column: {**of_run, **row}[column] for column in results.ROW_COLUMNS} for row in found]


def _made_by(chain) -> dict:
    """What decides a run's rows on one machine, beside the image and how it is measured."""
    run, on_each = chain.run, bool(chain.run.image_steps)
    return {
        "run": [run.downscaler, run.upscaler, run.scale],
        "weights": _of_zssr(run) if on_each else chain.digest,
        "device": str(chain.device).split(":")[0],
        "code": sources.digest_of_run((*_MEASURING, "zssr.py") if on_each else _MEASURING, run),
    }


def _measure(chain, image, protocols, crop):
    rows, restored = [], {}
    image = data.centre_crop(image, crop)
    for protocol in protocols:
        hr = data.crop_to_multiple(image, 8 if protocol == "car-release" else chain.run.scale)
        if hr.shape not in restored:
            restored[hr.shape] = chain(hr)[1]
        for metric in ("psnr", "ssim"):
            value = getattr(metrics, metric)(hr, restored[hr.shape], chain.run.scale, protocol=protocol)
            rows.append({"protocol": protocol, "metric": metric, "value": value})
    return rows
