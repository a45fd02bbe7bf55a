"""Which run fills which cell of the paper's Tables 1 to 5: the one list that tables, queue and overview ask.

Table 4 also has EDSR on bicubic LR, which the paper prints in Table 1, and IRN, which is later than the paper.
"""

import dataclasses
from dataclasses import dataclass

from carlib import runs

SCALES, OTHER_SCALES = (2, 4), (3, 8)  # the paper's, and those that studies add


@dataclass(frozen=True)
class Cell:
    """A cell, named as in data/paper, and the run that measures it."""

    table: int
    upscaler: str
    downscaler: str
    variant: str
    loss: str
    scale: int
    run: str


# Printed name -> network, where they differ. What is printed is ESRGAN's generator trained for PSNR.
NETWORKS = {"d-dbpn": "ddbpn", "esrgan": "rrdb"}
# Loss -> the networks (as printed) that Table 4 shows on bicubic LR beside EDSR.
_ON_BICUBIC = {
    "l2": ("srcnn", "vdsr", "drrn", "memnet", "dncnn", "srresnet"),
    "l1": ("lapsrn", "zssr", "carn", "srram", "esrgan"),
}
# Table -> (upscaler, downscaler, variant, loss) -> run, its scale left open.
_RUNS = {
    1: {
        ("bicubic", "bicubic", "", ""): "bicubic-bicubic-x{}",
        ("bicubic", "car", "joint", ""): "car-bicubic-x{}",
        ("edsr", "bicubic", "", ""): "bicubic-edsr-x{}",
        ("edsr", "perceptual", "", ""): "perceptual-as-published-edsr-x{}",
        ("edsr", "dpid", "", ""): "dpid-0.5-edsr-x{}",
        ("edsr", "l0", "", ""): "l0-edsr-x{}",
        ("edsr", "car", "joint", ""): "car-edsr-x{}",
    },
    2: {
        (printed, downscaler, variant, ""): f"{downscaler}-{NETWORKS.get(printed, printed)}-x{{}}{suffix}"
        for printed in ("srdensenet", "d-dbpn", "rdn", "rcan")
        for downscaler, variant, suffix in (
            ("bicubic", "", ""),
            ("car", "joint", ""),
            ("car", "edsr-guided", "-frozen"),
        )
    },
    3: {
        ("edsr", "car", "joint", ""): "car-edsr-x{}",
        ("edsr", "car", "no-tv", ""): "car-edsr-x{}-no-tv",
        ("edsr", "car", "no-offset-constraint", ""): "car-edsr-x{}-free",
        ("edsr", "car", "no-offset", ""): "car-edsr-x{}-no-offset",
    },
    4: {
        ("edsr", "bicubic", "", ""): "bicubic-edsr-x{}",  # printed in Table 1
        **{
            (printed, "bicubic", "", loss): f"bicubic-{NETWORKS.get(printed, printed)}-x{{}}"
            for loss, networks in _ON_BICUBIC.items()
            for printed in networks
        },
        ("cnn-sr", "cnn-cr", "joint", "l2"): "cnn-cr-cnn-sr-x{}",
        ("cnn-sr", "car", "joint", "l2"): "car-cnn-sr-x{}",
        ("edsr", "car", "joint", "l2"): "car-edsr-x{}",
        ("tau", "tad", "joint", "l1"): "tad-tau-x{}",
        ("tau", "car", "joint", "l1"): "car-tau-x{}",
        ("edsr", "car", "joint", "l1"): "car-edsr-x{}-l1",
        ("irn", "irn", "joint", "l1"): "irn-irn-x{}",  # printed in data/paper/later.csv
    },
    5: {("", "car", "", ""): "car-edsr-x{}"},
}
# What is not printed for 2 and 4: a table, or a run of one.
_SCALES = {2: (4,), "cnn-cr-cnn-sr-x{}": (2,), "bicubic-srresnet-x{}": (4,), "bicubic-rrdb-x{}": (4,)}
TABLES = tuple(_RUNS)
# Whose gain has an interval over seeds (seeds.py; scales.py: in no table of the paper), what stands beside Table 5 with
# one (lossless_gain.py), and whose files as JPEG have one (jpeg_lr.py), which are in none.
_PAIR = ("bicubic-edsr-x{}", "car-edsr-x{}")
PAIR, OTHER_PAIR = (tuple(runs.at_scales(_PAIR, scales)) for scales in (SCALES, OTHER_SCALES))
PRICED = tuple(runs.at_scales(("car-edsr-x{}-priced",), SCALES))
_ON_JPEG = ("bicubic-edsr-x{}-jpeg", "car-edsr-x{}-jpeg", "car-edsr-x{}-jpeg-priced", "car-edsr-x{}-static-jpeg-priced")
JPEG = tuple(runs.at_scales(_ON_JPEG, SCALES))


def of(table: int, profile: str | None = None) -> list[Cell]:
    """The cells of a table that runs fill, scale by scale in the paper's order.

    A cell of one loss (Table 4) is left out where the profile trains its run with the other. Where it trains the run
    that has no loss in its name with this one, as profile paper does car-edsr-x2, that run fills the cell of RUN-l1.

    Raises:
        ValueError: no such table.
    """
    if table not in _RUNS:
        raise ValueError(f"no runs are declared for table {table!r}: there are tables {', '.join(map(str, TABLES))}")
    cells = [
        Cell(table, *key, scale, name.format(scale))
        for scale in _SCALES.get(table, SCALES)
        for key, name in _RUNS[table].items()
        if scale in _SCALES.get(name, SCALES)
    ]
    cells = [_trained_once(cell, profile) for cell in cells]
    return [cell for cell in cells if not cell.loss or runs.get(cell.run, profile).loss == cell.loss]


def _trained_once(cell, profile):
    """The cell with the run whose name lacks its loss, where that one's recipe is the same."""
    plain = cell.run.removesuffix(f"-{cell.loss}")
    own = runs.get(cell.run, profile)
    same = plain != cell.run and dataclasses.replace(runs.get(plain, profile), name=cell.run) == own
    return dataclasses.replace(cell, run=plain) if same else cell


def seeds(table: int | str, profile: str | None = None) -> int:
    """How many seeds params.yaml wants under a profile of each run of a table, or of those of another key of `seeds`.

    Raises:
        ValueError: it is no whole number above 0.
    """
    wanted = runs.read_params().get("seeds") or {}
    key = table if isinstance(table, str) else f"table{table}"
    count = (wanted.get(key) or {}).get(runs.profile(profile)["name"], 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"seeds of {key} is {count!r} in params.yaml, not a whole number above 0")
    return count


def names(table: int, profile: str | None = None) -> list[str]:
    """The runs of a table, each under all seeds that the profile wants.

    Table 1's PAIR, which JPEG's runs are set beside, and, shown beside Table 5, PRICED have numbers of their own.
    """
    wanted = dict.fromkeys((cell.run for cell in of(table, profile)), seeds(table, profile))
    for key, number, those in (("pair", 1, PAIR), ("jpeg", 1, PAIR), ("priced", 5, PRICED)):
        if table == number:
            wanted |= {run: max(wanted.get(run, 1), seeds(key, profile)) for run in those}
    return [name for run, count in wanted.items() for name in runs.seeded([run], count)]


def in_no_table(profile: str | None = None) -> list[str]:
    """The runs of JPEG and OTHER_PAIR under all seeds that the profile wants, if params.yaml declares them."""
    wanted = {**dict.fromkeys(JPEG, "jpeg"), **dict.fromkeys(OTHER_PAIR, "scales")}
    chosen = [run for run in runs.names() if run in wanted]
    return [name for run in chosen for name in runs.seeded([run], seeds(wanted[run], profile))]


def tables_of(profile: str | None = None) -> dict[str, list[int]]:
    """Run -> the tables that show it."""
    found = {}
    for table in TABLES:
        for name in names(table, profile):
            found.setdefault(name, []).append(table)
    return found
