"""Whether this installation computes what it should: what `carlib check` tells.

Wrong pixels look like right ones: a damaged weights file, a codec built otherwise or a compiler's mistake on a new GPU
show in no traceback. Each check compares with something that does not come from the same code.
"""

import platform
from typing import NamedTuple

from carlib import provenance, results
from carlib.data import sets

DIGESTS = "SHA256SUMS"  # in data/weights, as `sha256sum -c` reads it
_CLOSE = 1e-4  # of float32 results of size 1 to 10, whose sums are rounded in another order
_SAME = 0.005  # dB: what other processors' rounding does to a PSNR
# PSNR of the shipped weights on the first embedded photograph, standard protocol, in dB: of results/demo when they were
# shipped (AMD EPYC, torch 2.13.0, float32).
_PHOTOGRAPH = "astronaut"
_GOLDEN = {"car-edsr-x2": 38.847143, "bicubic-edsr-x2": 34.610404, "bicubic-bicubic-x2": 32.442313}


class Line(NamedTuple):
    """One check: passed True, False, or None where there was nothing to compare."""

    what: str
    passed: bool | None
    told: str


def lines(device="auto"):
    """Yields a Line for everything that there is to check.

    Args:
        device: "auto", "cpu", "cuda", ...: where the operator and the networks are computed.
    Raises:
        ValueError: the device cannot be used.
    """
    from carlib import devices

    device = devices.usable(device)
    yield from _machine(device)
    for what, check in (("weights", _weights), ("operator", _operator), ("codecs", _codecs), ("networks", _networks)):
        try:
            yield from check(device)
        except Exception as error:  # whatever it is, the other checks tell more
            yield Line(what, False, " ".join(f"{type(error).__name__}: {error}".split()))


def _machine(device):
    import torch

    from carlib import devices

    versions = provenance.versions()
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version and name != "torch")
    yield Line("machine", None, f"{platform.system()} {platform.machine()}, {provenance.machine()}")
    yield Line("versions", None, told)
    named = devices.name(torch.device(device))
    yield Line("device", None, f"{named}; precision auto is {devices.auto_precision(device)}")


def _weights(device):
    """Every shipped file against the list of their digests."""
    try:
        path = sets.shipped("weights", DIGESTS)
    except ValueError:
        yield Line("weights", None, f"no data/weights/{DIGESTS}, as outside a clone of the project: not compared")
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    wanted = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    there = {file.name for file in path.parent.glob("*.safetensors")}
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - there)]
    wrong += [
        f"{name} is not what was shipped"
        for name in sorted(there & wanted.keys())
        if provenance.sha256(path.parent / name) != wanted[name]
    ]
    told = f"{'; '.join(wrong)}: `git checkout {path.parent}` restores them"
    yield Line("weights", not wrong, told if wrong else f"{len(wanted)} shipped files are whole")
    if others := sorted(there - wanted.keys()):
        yield Line("other weights", None, f"{', '.join(others)}: not shipped, not compared")


def _operator(device):
    """Each implementation that can run here against the formula, forward and backward."""
    import torch

    from carlib.ops.resample import IMPLEMENTATIONS, resample

    tensors = _taps(torch.Generator().manual_seed(0))
    expected = _with_gradients(resample, tensors, "reference", "cpu")
    for impl in IMPLEMENTATIONS[2:]:
        if impl == "cuda" and not device.startswith("cuda"):
            yield Line("operator cuda", None, "no CUDA device here, or not the one that was asked for")
            continue
        place = "cpu" if impl == "numba" else device
        try:
            found = _with_gradients(resample, tensors, impl, place)
        except ValueError as error:
            yield Line(f"operator {impl}", False, str(error))
            continue
        pairs = zip(found, expected, strict=True)
        apart = torch.stack([(a - b).abs().max() for a, b in pairs]).max().item()  # NaN, if one is
        told = f"on {place}, result and four gradients at most {apart:.1e} from the formula"
        yield Line(f"operator {impl}", apart <= _CLOSE, told)


def _taps(generator):
    """hr, kernel and offsets at x2: taps that move by pixels, across the border, too."""
    import torch

    def drawn(*shape):
        return torch.randn(shape, generator=generator)

    return torch.rand(2, 3, 24, 40, generator=generator), *(drawn(2, 25, 12, 20) for _ in range(3))


def _with_gradients(resample, tensors, impl, place):
    own = [tensor.to(place).requires_grad_() for tensor in tensors]
    lr = resample(*own, scale=2, impl=impl)
    lr.square().mean().backward()
    return [found.detach().cpu() for found in (lr, *(tensor.grad for tensor in own))]


def _codecs(device):
    """Lossless is lossless."""
    import numpy as np

    from carlib import codecs

    slope = np.add.outer(np.arange(48), np.arange(64))[..., None] + np.array([0, 40, 80])
    image = (slope + np.random.default_rng(0).integers(0, 9, slope.shape)).astype(np.uint8)
    lost = []
    for codec in codecs.LOSSLESS:
        try:
            if (codecs.decode(codecs.encode(image, codec), codec) != image).any():
                lost.append(f"{codec} gives other pixels")
        except ValueError as error:
            lost.append(str(error))
    yield Line("codecs", not lost, "; ".join(lost) or f"{', '.join(codecs.LOSSLESS)} give back every pixel")


def _networks(device):
    """PSNR of shipped runs on one photograph against what it was when they were shipped."""
    from carlib import evaluate, experiments

    try:
        results.root()
    except ValueError:
        yield Line("networks", None, "not in a clone of the project: not compared")
        return
    names = [path.stem for path in sets.find("demo")]
    if _PHOTOGRAPH not in names:
        yield Line("networks", False, f"data/demo/{_PHOTOGRAPH}.png is missing: `git checkout data/demo` restores it")
        return
    if names[0] != _PHOTOGRAPH:
        yield Line("networks", None, f"data/demo holds a file that was not shipped, {names[0]}: not compared")
        return
    for run, expected in _GOLDEN.items():
        try:
            rows = evaluate.evaluate(experiments.chain(run, "demo", device=device), "demo", limit=1)
        except ValueError as error:
            yield Line(run, False, str(error))
            continue
        found = next(row["value"] for row in rows if row["metric"] == "psnr")
        yield Line(run, abs(found - expected) <= _SAME, f"{found:.3f} dB on {_PHOTOGRAPH}, {expected:.3f} dB expected")
