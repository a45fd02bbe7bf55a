"""What networks take on this machine, and its file: results/networks.csv for the report (`carlib models --measure`)."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from carlib import provenance, results

COLUMNS = ["network", "size", "scale", "parameters", "gigamacs", "seconds", "gigabytes", "machine"]
_KEYS = COLUMNS[:3]


def path() -> Path:
    """Where the committed file is, if there is one."""
    return results.root() / "results" / "networks.csv"


def earlier(out, measured=True):
    """The table in `out`, None without a file; to be read before the measurement, which takes minutes.

    Args:
        out:      a CSV, or None.
        measured: whether there will be seconds and gigabytes to write.
    Raises:
        ValueError: nothing is measured, `out` cannot be written, or is another kind of file.
    """
    import pandas as pd

    if out is None:
        return None
    if not measured:
        raise ValueError(f"--out {out} is for what is measured: add --measure")
    results.check_writable(out)
    if not Path(out).exists():
        return None
    try:
        before = pd.read_csv(out)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {out} as CSV ({error}): name another file") from error
    if list(before.columns) != COLUMNS:
        raise ValueError(f"{out} is no table of `carlib models --measure`: name another file")
    return before


def save(table, out, before=None) -> Path:
    """Write what was measured, atomically: the whole or, while measuring goes on, its first rows.

    Args:
        table:  of `measure`, with COLUMNS.
        before: of `earlier`; its rows of other networks, sizes and scales are kept, first.
    """
    import pandas as pd

    if before is not None:
        known = set(table[_KEYS].itertuples(index=False, name=None))
        kept = [key not in known for key in before[_KEYS].itertuples(index=False, name=None)]
        table = pd.concat([before[kept], table]) if any(kept) else table
    return results.write_text(out, table[COLUMNS].to_csv(index=False, float_format="%.4g"))


def measure(table, side=192, each=lambda measured: None):
    """What the networks of `carlib.models.summary` take on this machine, single precision, one image.

    Args:
        table: its DataFrame, or some rows of it.
        side:  of the square HR image in pixels, a multiple of the scales.
        each:  called after every network with what is measured so far, as it is returned in the end.
    Returns:
        the table with three more columns. Per HR megapixel: seconds of one forward pass (after a small one that begins
        threads), gigabytes by which the process grows at its peak (NaN off Linux). machine: as `bench.run` has it.
    """
    from tqdm import tqdm

    rows = table[_KEYS].to_dict("records")
    code = f"from carlib import network_costs; network_costs._print_measures({rows!r}, {side})"
    environment, found = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}, []  # as of timing.number_from_a_child
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in tqdm(child.stdout, total=len(rows), desc="forward passes", unit="network"):
                found.append([float(value) for value in line.split()])
                each(_with_measures(table, found, side))
        except BaseException:
            child.kill()  # it would measure on
            raise
    if child.returncode or len(found) != len(rows):
        raise ValueError(f"the measurement stopped after {len(found)} of {len(rows)} networks: is the memory enough?")
    return _with_measures(table, found, side)


def _with_measures(table, found, side):
    """The first rows of the table, as many as were measured, with the three columns."""
    megapixels = side * side / 1e6
    seconds, growth = zip(*found, strict=True)
    return table.head(len(found)).assign(
        seconds=[value / megapixels for value in seconds],
        gigabytes=[value / 1e9 / megapixels for value in growth],
        machine=provenance.machine(),
    )


def _print_measures(rows, side):
    """A line "seconds bytes" for every row, as soon as it is known."""
    import torch

    from carlib import models, timing

    for row in rows:
        network = models.create(row["network"], row["scale"], row["size"]).eval()
        size = side if row["network"] in models.DOWNSCALERS else side // row["scale"]
        with torch.inference_mode():
            small = 16 * row["scale"]  # a multiple of it, which the downscalers need
            network(torch.rand(1, 3, small, small))
            image, began = torch.rand(1, 3, size, size), time.perf_counter()
            growth, _ = timing.peak_growth(partial(network, image))
        print(time.perf_counter() - began, growth, flush=True)
