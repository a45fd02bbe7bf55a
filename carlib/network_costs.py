"""The file of what networks cost, as `carlib models --measure --out` writes it: results/networks.csv for the report."""

from pathlib import Path

from carlib import results

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
        table:  of `bench.measure_networks`, with COLUMNS.
        before: of `earlier`; its rows of other networks, sizes and scales are kept, first.
    """
    import pandas as pd

    if before is not None:
        known = set(table[_KEYS].itertuples(index=False, name=None))
        kept = [key not in known for key in before[_KEYS].itertuples(index=False, name=None)]
        table = pd.concat([before[kept], table]) if any(kept) else table
    return results.write_text(out, table[COLUMNS].to_csv(index=False, float_format="%.4g"))
