"""Public checkpoints of published networks, measured on bicubic LR images, as the first half of Table 4 is."""

import re
from pathlib import Path

from carlib import cells, experiments, models, provenance, runs

_KEY = re.compile(r"(?P<network>[\w-]+)-x(?P<scale>[24])")


def networks() -> list[str]:
    """The networks whose checkpoints can be read: all that are made to follow any downscaler."""
    return [name for name in models.UPSCALERS if name not in ("bicubic", "irn")]


def printed_name(network) -> str:
    """What Table 4 calls a network of carlib.models."""
    return next((printed for printed, name in cells.NETWORKS.items() if name == network), network)


def check(checkpoints):
    """Refuse checkpoints that cannot be meant, before anything is measured.

    Args:
        checkpoints: "<network>-x<scale>" -> a file that `carlib.weights.load` reads, or a dict of "file" and options of
            the network, such as {"file": "lapsrn.pth", "up_kernel": 4}, or "value_range" (see there).
    Returns:
        key -> (network, scale, file, options).
    Raises:
        ParameterError (a ValueError): a key names no network and scale, a file is missing, or an option is unknown.
    """
    from carlib.notebook import ParameterError

    found = {}
    for key, wanted in checkpoints.items():
        named = _KEY.fullmatch(str(key))
        name = named and cells.NETWORKS.get(named["network"], named["network"])
        if not named or name not in networks():
            known = ", ".join(networks())
            raise ParameterError(f"checkpoints has {key!r}: name network and scale, as vdsr-x4; known are {known}")
        wanted = {"file": wanted} if isinstance(wanted, str) else wanted
        if not isinstance(wanted, dict) or not isinstance(wanted.get("file"), str):
            raise ParameterError(f'checkpoints, {key}: {wanted!r} is neither a file nor {{"file": ..., option: value}}')
        if not Path(wanted["file"]).is_file():
            raise ParameterError(f"checkpoints, {key}: there is no file {wanted['file']}")
        options = {option: value for option, value in wanted.items() if option != "file"}
        found[key] = name, int(named["scale"]), Path(wanted["file"]), options
    return found


def chain(key, checkpoints, profile, *, device="auto"):
    """One of the checkpoints as an `evaluate.Chain` from bicubic LR images, at the published size.

    Raises:
        ValueError: see `check`, or the file does not fit the network.
    """
    from torch import nn

    from carlib import evaluate, memory, weights

    memory.use_huge_pages()
    name, scale, path, options = check(checkpoints)[key]
    value_range = options.pop("value_range", None)
    network = models.create(name, scale, "paper", **options)
    weights.load(network, path, value_range=value_range)
    provenance.used_weights(path, {"run": key})
    run = runs.make(name=key, profile=profile, downscaler="bicubic", upscaler=name, scale=scale, size="paper")
    return evaluate.Chain(run, device=device, networks=nn.ModuleDict({"upscaler": network}))


def measure(checkpoints, profile, sets=None, *, device="auto", progress=True) -> list[dict]:
    """Rows (results.ROW_COLUMNS) of all checkpoints, run: their key; sets: default the profile's that are here."""
    made = [chain(key, checkpoints, profile, device=device) for key in checkpoints]  # a wrong file at once
    return [row for one in made for row in experiments.measure_chain(one, sets, progress=progress)]
