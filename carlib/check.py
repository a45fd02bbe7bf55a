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
_GOLDEN = ("car-edsr-x2", "bicubic-edsr-x2", "bicubic-bicubic-x2")


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
        folder = sets.shipped("weights")
    except ValueError:
        yield Line("weights", None, "not in a clone of the project: those of the package were not looked at")
        return
    lines = (folder / DIGESTS).read_text(encoding="utf-8").splitlines()
    wanted = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    there = {path.name for path in folder.glob("*.safetensors")}
    wrong = [f"{name} is missing" for name in wanted.keys() - there]
    wrong += [f"{name} is not in {DIGESTS}" for name in there - wanted.keys()]
    wrong += [
        f"{name} is not what was shipped: `git checkout {folder / name}` restores it"
        for name in sorted(there & wanted.keys())
        if provenance.sha256(folder / name) != wanted[name]
    ]
    yield Line("weights", not wrong, "; ".join(wrong) or f"{len(wanted)} shipped files are whole")


def _operator(device):
    """Each implementation that can run here against the formula, forward and backward."""
    import torch

    from carlib.ops.resample import IMPLEMENTATIONS, resample

    tensors = _taps(torch.Generator().manual_seed(0))
    expected = _with_gradients(resample, tensors, "reference", "cpu")
    for impl in IMPLEMENTATIONS[2:]:
        place = "cpu" if impl == "numba" else device
        try:
            found = _with_gradients(resample, tensors, impl, place)
        except ValueError as error:
            needed = impl == "cuda" and place.startswith("cuda")
            yield Line(f"operator {impl}", False if needed else None, str(error))
            continue
        apart = max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))
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
    """PSNR of shipped runs on one photograph against the number that the repository holds."""
    import csv

    from carlib import evaluate, experiments

    try:
        name, _ = next(sets.load("demo", limit=1))
        path = results.folder("demo", "metrics", "scales.csv")
        with open(path, newline="", encoding="utf-8") as file:
            known = {row["run"]: float(row["value"]) for row in csv.DictReader(file) if _is_psnr_of(row, name)}
    except (OSError, ValueError):
        yield Line("networks", None, "not in a clone of the project: there is no number to compare with")
        return
    for run in _GOLDEN:
        if run not in known:
            yield Line(run, None, f"{path} has no number of it: `git checkout {path}`")
            continue
        rows = evaluate.evaluate(experiments.chain(run, "demo", device=device), "demo", limit=1)
        found = next(float(row["value"]) for row in rows if _is_psnr_of(row, name))
        told = f"{found:.3f} dB on {name}, {known[run]:.3f} dB in results/demo"
        yield Line(run, abs(found - known[run]) <= _SAME, told)


def _is_psnr_of(row, image) -> bool:
    return (row["set"], row["image"], row["protocol"], row["metric"]) == ("demo", image, "standard", "psnr")
