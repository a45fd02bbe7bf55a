"""The networks behind a method of `carlib downscale` and `carlib upscale`: which weights it means, loaded once.

setup.py asks it which these are, where nothing but the standard library is installed: no import on top may need more.
"""

import os
from functools import lru_cache
from pathlib import Path

from carlib import memory, results

# The learned downscalers: the network that makes the LR images.
LEARNED = {"car": "ResamplerNet", "cnn-cr": "CNNCR", "tad": "TAD", "irn": "IRN"}
# Methods whose two sides belong together -> the run whose weights are the default.
PAIRS = {
    "car": "car-edsr-x{}",
    "car-lean": "car-edsr-x{}-priced",
    "car-jpeg": "car-edsr-x{}-static-jpeg-priced",  # one kernel for all pixels, which saves as much (notebook 05c)
    "cnn-cr": "cnn-cr-cnn-sr-x{}",
    "tad": "tad-tau-x{}",
    "irn": "irn-irn-x{}",
}
# Upscalers of a classical downscaler's LR images -> likewise.
EDSR = {"edsr": "bicubic-edsr-x{}", "edsr-jpeg": "bicubic-edsr-x{}-jpeg"}
# Where validation found another seed better by more than 0.2 dB: the first one's CAR of x8 learned late.
_BETTER = {"car-edsr-x8": "car-edsr-x8-seed1"}
# Where the package was installed without its clone: the weights of all these (setup.py copies them). CARLIB_HOME, if it
# is set, names a clone, whose weights are then taken.
PACKAGED = Path(__file__).resolve().parent / "shipped"


def digest(method, scale, weights=None) -> str | None:
    """The first eight digits of the SHA-256 of the weights file that a method of PAIRS takes, None of other methods.

    Arguments as of `of_method`.
    Raises:
        ValueError: none is shipped.  OSError: it is not there.
    """
    if method not in PAIRS:
        return None
    from carlib import provenance

    return provenance.sha256(_shipped(PAIRS[method], scale) if weights is None else weights)[:8]


def of_method(method, scale, *, weights=None, device=None):
    """The networks of a method of PAIRS or EDSR, by role.

    Args:
        weights: a weights file of a trained run; None: the shipped one of this scale.
        device:  "cpu", "cuda", ...; None or "auto": a GPU where there is one.
    Raises:
        ValueError: none is shipped, the file is none or of another scale, a method of PAIRS gets that of another one,
            or the device is not here.
    """
    path = _shipped({**PAIRS, **EDSR}[method], scale) if weights is None else weights
    networks, metadata = _loaded(path, device)
    found = metadata["networks"]["upscaler"]["scale"]
    if found != scale:
        raise ValueError(f"{path} is for scale {found}, not {scale}: choose other weights or another scale")
    other = _method_of(networks, metadata)
    if method in PAIRS and other not in (None, method):
        raise ValueError(f"{path} is of method {other}, not {method}: choose other weights, or method {other}")
    return networks


def method_of(weights, device=None) -> str:
    """The method of PAIRS that a weights file belongs to; "edsr" where its images come from a classical downscaler.

    Raises:
        ValueError: as `of_method`.
    """
    return _method_of(*_loaded(weights, device)) or "edsr"


def _method_of(networks, metadata):
    """The method of PAIRS that a learned downscaler belongs to, None without one."""
    network = type(downscaler_of(networks)).__name__
    name = next((name for name, wanted in LEARNED.items() if wanted == network), None)
    parameters = metadata.get("parameters", {})
    if name == "car" and parameters.get("jpeg"):
        return "car-jpeg"
    return "car-lean" if name == "car" and parameters.get("bit_price") else name


def _loaded(path, device):
    from carlib import devices

    memory.use_huge_pages()
    path = Path(path)
    stamp = path.stat().st_mtime_ns if path.is_file() else None
    return _load(path, stamp, devices.usable("auto" if device is None else device))


@lru_cache(maxsize=4)
def _load(path, stamp, device):
    from carlib import weights
    from carlib.ops.precision import undisturbed

    with undisturbed():  # they are kept for other callers
        networks, metadata = weights.load_run(path)
    if "upscaler" not in networks:
        raise ValueError(f"{path} holds no upscaler: it is not the weights file of a run")
    with memory.shortage_told():
        networks.to(device)
    return networks, metadata


def _shipped(run, scale) -> Path:
    packaged = PACKAGED.is_dir() and not os.environ.get("CARLIB_HOME")
    known = files(run, PACKAGED if packaged else results.root() / "data" / "weights")
    if scale not in known:
        networks = run.replace("-x{}", "")
        here = f"only for scale {', '.join(map(str, known))}" if known else "for no scale"
        advice = "give your own (--weights FILE, weights=)" + ", or use method bicubic" * (run in EDSR.values())
        if home := os.environ.get("CARLIB_HOME"):
            advice += f" (CARLIB_HOME is {home})"
        raise ValueError(f"no weights of {networks} are shipped for scale {scale}, {here}: {advice}")
    return known[scale]


def files(run, folder) -> dict[int, Path]:
    """Scale -> weights file, of a run of PAIRS or EDSR, that a folder has."""
    names = {scale: run.format(scale) for scale in range(2, 17)}
    named = {scale: folder / f"{_BETTER.get(name, name)}.safetensors" for scale, name in names.items()}
    return {scale: path for scale, path in named.items() if path.is_file()}


def downscaler_of(networks):
    """The network of a run that makes its LR images, IRN's being its upscaler; None where a classical method does."""
    for role in ("resampler", "downscaler"):
        if role in networks:
            return networks[role]
    return networks["upscaler"] if hasattr(networks["upscaler"], "downscale") else None
