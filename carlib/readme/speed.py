"""What `carlib bench` measured as Markdown: a table per machine, number of threads and version of PyTorch."""

from carlib.formats import markdown

# Cases of `carlib bench` that README.md shows; docs/speed.md has all.
SHORT = r"^operator x\d: .*taps$|^operator x\d on .*: (?:one image|16 patches)|^training step .* px$|^CAR \(mini\)"


def tables(bench) -> str:
    """A table per `provenance.machine`, a line per case: what ours takes, the others' time as a multiple.

    Notes are in the file.
    """
    dates = bench.date if "date" in bench else ""  # older rows have none
    where = bench.assign(date=dates).groupby("machine", sort=False)
    return "\n".join(f"{machine}{_days(rows)}:\n\n{_cases(rows)}" for machine, rows in where)


def _days(rows) -> str:
    """The first and the last one, such as "; 2026-11-27 to 2026-11-29"; "" where none is known."""
    days = [day for day in sorted(set(rows.date)) if day]
    return f"; {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""


def _cases(bench) -> str:
    lines = []
    for case, rows in bench.groupby("case", sort=False):
        ours, *others = rows.itertuples(index=False)
        told = [f"{_name(row)} {_time(row) if row.ratio == '' else f'{float(row.ratio):.2f}'}" for row in others]
        memory = [f"{float(row.memory):.2f}" for row in (ours, *others) if row.memory != ""]
        line = {"case": case, "ours": f"{_name(ours)} {_time(ours)}", "others, times as long": ", ".join(told)}
        lines.append({**line, "memory": ", ".join(memory) or "-"})
    return markdown.table(lines)


def _name(row) -> str:
    """Of a row of bench.csv, without "carlib" and with semicolons, as commas part the rows."""
    return row.name.removeprefix("carlib, ").replace(", ", "; ")


def _time(row) -> str:
    seconds = float(row.seconds)
    if seconds >= 10:
        return f"{seconds:.0f} s"
    decimals = 2 if seconds < 0.00995 else 1 if seconds < 0.0995 else 0  # three digits
    return f"{seconds * 1000:.{decimals}f} ms"
