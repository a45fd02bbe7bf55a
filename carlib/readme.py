"""The numbers of README.md, REPLICATION.md and docs/speed.md, rendered from the committed results between markers.

Nothing there is typed: `carlib report --readme` writes them, and a test compares the pages with the files.
"""

from carlib import overview, provenance, results, runs, scales

PROFILE = "mini"  # whose numbers the pages show; it measured every set that is present
PAGES = {
    "README.md": (
        "results",
        "seeds",
        "scales",
        "downscalers",
        "attribution",
        "colour",
        "lossless_gain",
        "jpeg",
        "speed",
    ),
    "REPLICATION.md": (
        *("table1_claims", "table2_claims", "table3_claims", "table4_claims", "table5_findings", "fig6_claims"),
        *("content", "rate_distortion_claims", "jpeg_worth", "jpeg_rates", "trials", "costs"),
    ),
    "docs/speed.md": ("bench",),
}
# Cases of `carlib bench` that README.md shows; docs/speed.md has all.
_SPEED = r"^operator x\d: .*taps$|^operator x\d on .*: one image|^training step .* px$|^CAR|^bicubic|^DPID"
_COLUMNS = {
    "bicubic": "Bicubic",
    "perceptual-as-published": "Perceptually, as published",
    "dpid-0.5": "DPID, 0.5",
    "l0": "L0, reconstructed",
    "car": "CAR",
}
_NAMES = {"bicubic": "Bicubic", "edsr": "EDSR", "set5": "Set5", "set14": "Set14", "bsd100": "B100", "div2k": "DIV2K"}


def update() -> list:
    """Renew every generated block of the pages; the paths written.

    Raises:
        ValueError: a table or a marker is missing.
    """
    written = []
    for name, blocks in PAGES.items():
        path = results.root() / name
        text = path.read_text(encoding="utf-8")
        for block in blocks:
            text = insert(text, block, render(block))
        written.append(results.write_text(path, text))
    return written


def insert(page: str, block: str, content: str) -> str:
    """`page` with `content` between `<!-- block -->` and `<!-- /block -->`.

    Raises:
        ValueError: the page has not exactly one such pair.
    """
    begin, end = f"<!-- {block} -->\n", f"<!-- /{block} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in rest:
        raise ValueError(f"the page has no single pair of lines <!-- {block} --> and <!-- /{block} -->")
    return f"{before}{begin}{content}{end}{after}"


def render(block: str) -> str:
    """The Markdown of one block of PAGES."""
    import pandas as pd

    if block == "trials":
        return _trials(pd.read_csv(_there(results.root() / "data" / "trials.csv"), keep_default_na=False))
    if block.endswith(("_claims", "_findings")):
        path = _there(results.folder(PROFILE, "tables", f"{block}.csv"))
        claims = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns="profile", errors="ignore")
        return _markdown(claims[claims.verdict != "not tested"].to_dict("records"))
    if block == "costs":
        return _costs()
    if block in ("speed", "bench"):
        bench = pd.read_csv(_there(results.root() / "results" / "bench.csv"), keep_default_na=False)
        return _speed(bench[bench.case.str.contains(_SPEED)] if block == "speed" else bench)
    table, shown = _TABLES[block]
    return shown(pd.read_csv(_there(results.folder(PROFILE, "tables", f"{table}.csv"))))


def _there(path):
    if not path.is_file():
        raise ValueError(f"{path} is not there: run the pipeline, or `carlib bench --out results/bench.csv`, first")
    return path


def _results(table) -> str:
    """One line per upscaler, scale and set: PSNR of both downscalers, the gain and its interval; the printed ones."""
    psnr = table[(table.metric == "psnr") & table.set.isin(_NAMES)]
    lines = []
    for (upscaler, scale, name), cells in psnr.groupby(["upscaler", "scale", "set"], sort=False):
        bicubic, car = (cells[cells.downscaler == d].iloc[0] for d in ("bicubic", "car"))
        lines.append(
            {
                "upscaler": _NAMES[upscaler],
                "scale": f"x{scale}",
                "set": f"{_NAMES[name]} ({car.n})",
                "bicubic LR": _shown(bicubic.ours),
                "CAR LR": _shown(car.ours),
                "gain, 95 % interval": f"{car.gain:+.2f} [{car.low:+.2f}, {car.high:+.2f}]",
                "paper: bicubic LR": _shown(bicubic.printed),
                "paper: CAR LR": _shown(car.printed),
                "paper: gain": _shown(car.printed_gain, "{:+.2f}"),
                "verdict": car.verdict,
            }
        )
    return _markdown(sorted(lines, key=lambda line: (line["upscaler"], line["scale"])))


def _seeds(table) -> str:
    """A line per set: the mean gain in PSNR over seeds, its interval and its range."""
    lines = []
    for cell in table[(table.metric == "psnr") & table.set.isin(_NAMES)].itertuples():
        lines.append(
            {
                "scale": f"x{cell.scale}",
                "set": f"{_NAMES[cell.set]} ({cell.n})",
                "seeds": cell.seeds,
                "gain, mean and 95 % interval": f"{cell.gain:+.2f} ± {_shown(cell.interval)}",
                "lowest": f"{cell.lowest:+.2f}",
                "highest": f"{cell.highest:+.2f}",
                "paper: gain": _shown(cell.printed_gain, "{:+.2f}"),
            }
        )
    return _markdown(lines)


def _scales(table) -> str:
    """A line per set and scale that the paper lacks: PSNR of bicubic both ways and of both with EDSR, and the gain."""
    shown = table[(table.metric == "psnr") & table.set.isin(_NAMES) & ~table.scale.isin(scales.PRINTED)]
    return _markdown(
        {
            "scale": f"x{line['scale']}",
            "set": f"{_NAMES[line['set']]} ({line['n']})",
            "bicubic both ways": _shown(line[scales.BOTH_WAYS]),
            "bicubic LR, EDSR": _shown(line[scales.BASE]),
            "CAR LR, EDSR": _shown(line[scales.CAR]),
            "gain, 95 % interval": f"{line['gain']:+.2f} [{line['low']:+.2f}, {line['high']:+.2f}]",
        }
        for line in shown.to_dict("records")
    )


def _downscalers(table) -> str:
    """One line per scale and set, a column per downscaler: PSNR of EDSR trained on its LR, ours and (printed)."""
    psnr = table[(table.metric == "psnr") & (table.upscaler == "edsr") & table.set.isin(_NAMES)]
    lines = []
    for (scale, name), cells in psnr.groupby(["scale", "set"], sort=False):
        cells = cells.set_index("downscaler")
        shown = {title: cells.loc[downscaler] for downscaler, title in _COLUMNS.items()}
        values = {title: f"{_shown(cell.ours)} ({_shown(cell.printed)})" for title, cell in shown.items()}
        lines.append({"scale": f"x{scale}", "set": _NAMES[name], **values})
    return _markdown(lines)


def _attribution(table) -> str:
    """One line per variant, one column per scale and set, which says how many of its images: gains in dB."""
    table = table[table.set.isin(_NAMES) & ~table.variant.str.startswith("bicubic")]  # with what they are compared
    counts = table.groupby("set")["n"].max()  # variants of colour have no grey images
    lines = []
    for variant, cells in table.groupby("variant", sort=False):
        columns = {
            f"x{c.scale} {_NAMES[c.set]} ({_of(counts[c.set], c.set)})": f"{c.gain:+.2f}" for c in cells.itertuples()
        }
        lines.append({"gain over bicubic LR, dB": variant, **columns})
    return _markdown(lines)


def _colour(table) -> str:
    """A line per scale and set: CAR's gains by channel, and how far its LR images are from bicubic ones."""
    shown = table[table.set.isin(_NAMES) & (table.downscaler == "car")]
    return _markdown(
        {
            "scale": f"x{line.scale}",
            "set, images with colour": f"{_NAMES[line.set]} ({line.n})",
            "gain in luma, dB": f"{line.luma:+.2f} [{line.low:+.2f}, {line.high:+.2f}]",
            "in RGB": f"{line.rgb:+.2f}",
            "in Cb": f"{line.cb:+.2f}",
            "in Cr": f"{line.cr:+.2f}",
            "small image beside bicubic's, dB": f"{line.lr:.1f}",
        }
        for line in shown.itertuples()
    )


def _content(table) -> str:
    """A line per image, the photographs' mean last: CAR's gains at both scales, and what its PNG takes more."""
    lines = []
    for (kind, image, n), cells in table.groupby(["kind", "image", "n"], sort=False):
        line = {"image": f"{kind} ({n})" if n > 1 else f"{kind}: {image}"}
        for cell in cells.itertuples():
            line |= {
                f"x{cell.scale}: bicubic": _shown(cell.bicubic),
                f"x{cell.scale}: gain": _shown(cell.car, "{:+.2f}"),
                f"x{cell.scale}: gain, RGB": _shown(cell.car_rgb, "{:+.2f}"),
                f"x{cell.scale}: PNG": _shown(cell.car_png, "{:+.0f} %"),
            }
        lines.append(line)
    return _markdown(lines)


def _lossless_gain(table) -> str:
    """A line per scale and set: gain and bits of CAR, of CAR whose bits have a price, and of the paper's."""
    lines = []
    for (scale, name), cells in table[table.set.isin(_NAMES)].groupby(["scale", "set"], sort=False):
        car, priced = (cells[cells.downscaler == downscaler].iloc[0] for downscaler in ("car", "car-priced"))
        lines.append(
            {
                "scale": f"x{scale}",
                "set": f"{_NAMES[name]} ({car.n})",
                "CAR: gain": f"{car.gain:+.2f}",
                "JPEG 2000": _shown(car.jpeg2000, "{:+.1f} %"),
                "PNG": _shown(car.png, "{:+.1f} %"),
                "CAR, bits priced: gain": _gain(priced),
                "its JPEG 2000": _shown(priced.jpeg2000, "{:+.1f} %"),
                "its PNG": _shown(priced.png, "{:+.1f} %"),
                "paper: gain": _shown(priced.printed_gain, "{:+.2f}"),
                "paper: bits": _shown(priced.printed_bits, "{:+.1f} %"),
                "verdict": priced.verdict,
            }
        )
    return _markdown(lines)


def _jpeg(table) -> str:
    """A line per scale and quality that others printed, and lossless: PSNR of both downscalers by their training."""
    lines = []
    shown = table[table.quality.isin((0, *table.quality[table.printed_gain.notna()]))]
    shown = shown[shown.scale.isin(scales.PRINTED)]
    for (scale, quality), cells in shown.groupby(["scale", "quality"], sort=False):
        plain, jpeg, priced = (cells[cells.trained == trained].iloc[0] for trained in ("lossless", "jpeg", "priced"))
        lines.append(
            {
                "scale": f"x{scale}",
                "JPEG quality": quality or "lossless",
                "trained lossless: bicubic": _shown(plain.bicubic),
                "CAR's gain": _gain(plain),
                "trained on JPEG: bicubic": _shown(jpeg.bicubic),
                "gain on JPEG": _gain(jpeg),
                "files": f"{jpeg.bits:+.0f} %",
                "gain, bits priced": _gain(priced),
                "files, bits priced": f"{priced.bits:+.0f} %",
                "printed gain, trained lossless (DIV2K)": _shown(plain.printed_gain, "{:+.2f}"),
            }
        )
    return _markdown(lines)


def _gain(cell) -> str:
    return f"{cell.gain:+.2f} [{cell.low:+.2f}, {cell.high:+.2f}]"


def _jpeg_worth(table) -> str:
    """A line per scale: what a bit is worth from quality to quality."""
    return _markdown(
        {"from quality to": f"x{scale}", **{f"{c.quality} to {c.next}": f"{c.worth:.2f}" for c in cells.itertuples()}}
        for scale, cells in table.groupby("scale")
    )


_AGAINST = {
    "HR": "HR image as JPEG",
    "bicubic LR": "bicubic LR image as JPEG",
    "better": "bicubic LR image as JPEG, the better EDSR for each quality",
    "CAR": "CAR LR image as JPEG, bits priced",
}
_TRAINED_ON = {
    "lossless": "lossless LR",
    "jpeg": "JPEG",
    "priced": "JPEG, bits priced",
    "one kernel": "JPEG, bits priced, one kernel",
}


def _jpeg_rates(table) -> str:
    """A line per comparison: bits at equal PSNR."""
    return _markdown(
        {
            "scale": f"x{line.scale}",
            "trained on": _TRAINED_ON[line.trained],
            "LR image": "CAR" if line.downscaler == "car" else "bicubic",
            "against": _AGAINST[line.against],
            "bits at equal PSNR, %": f"{line.bd_rate:+.1f} [{line.least:+.1f}, {line.most:+.1f}]",
            "between": f"{line.low:.1f} and {line.high:.1f} dB",
            "fewer at": f"{line.saved_share:.0f} % of these",
        }
        for line in table.itertuples()
    )


def _of(n, set_name) -> str:
    """How many images, and of how many if they are not all."""
    from carlib.data.sets import SETS

    whole = SETS[set_name].count
    return str(n) if n == whole else f"first {n} of {whole}"


def _trials(frame) -> str:
    """One line per trial, a column per set; in the order of the file."""
    keys = ["run", "parameters", "seconds", "validation", "note"]
    lines, measured = [], {f"{_NAMES.get(name, name)}, dB": "-" for name in frame.set.unique()}
    for (run, parameters, seconds, validation, note), cells in frame.groupby(keys, sort=False):
        psnr = measured | {
            f"{_NAMES.get(c.set, c.set)}, dB": _shown(float(c.psnr or "nan")) for c in cells.itertuples()
        }
        line = {"run": run, "changed": parameters or "nothing", "seconds": seconds}
        lines.append({**line, "validation, dB": _shown(float(validation or "nan")), **psnr, "why": note})
    return _markdown(lines)


def _costs() -> str:
    """How many runs are shipped (by their present recipe), what the logs say training took, which have none or wait."""
    declared = {name: runs.get(name, PROFILE) for name in overview.declared(PROFILE)}
    weights = {name: overview.shipped_path(run) for name, run in declared.items()}
    there = [name for name, path in weights.items() if path.is_file()]
    shipped = [name for name in there if not overview.other_recipe(weights[name], declared[name])]
    seconds = {name: overview.logged(weights[name].with_suffix(".csv"))[1] for name in shipped}
    logged = {name: value for name, value in seconds.items() if value > 0}
    size = sum(weights[name].stat().st_size for name in shipped) / 1e6
    listed = {
        "Without a log": [name for name in shipped if name not in logged],
        "Not trained": [name for name in weights if name not in shipped],
    }
    told = [f"- {what}: {', '.join(f'`{name}`' for name in names) or 'none'}.\n" for what, names in listed.items()]
    hours = overview.hours_by_device(list(logged.values()), [overview.trained_on(weights[name]) for name in logged])
    return (
        f"- {len(shipped)} of the {len(weights)} runs are shipped ({size:.1f} MB). The logs beside {len(logged)} of "
        f"them (`data/weights/RUN.csv`) add up to {hours}.\n{''.join(told)}"
    )


def _shown(value, form="{:.2f}") -> str:
    return "-" if value != value else form.format(value)


def _speed(bench) -> str:
    """A table per machine, a line per case: what ours takes, the others' time as a multiple. Notes are in the file."""
    dates = bench.date if "date" in bench else ""  # older rows have none
    where = bench.assign(date=dates).groupby(bench.machine.map(provenance.processor), sort=False)
    return "\n".join(f"{_heading(rows)}:\n\n{_cases(rows)}" for _, rows in where)


def _heading(rows) -> str:
    """Machines, as their threads and versions were, and days."""
    days = [day for day in sorted(set(rows.date)) if day]
    return "; ".join([*dict.fromkeys(rows.machine), *days])


def _cases(bench) -> str:
    lines = []
    for case, rows in bench.groupby("case", sort=False):
        ours, *others = rows.itertuples(index=False)
        told = [f"{_name(row)} {_time(row) if row.ratio == '' else f'{float(row.ratio):.2f}'}" for row in others]
        memory = [f"{float(row.memory):.2f}" for row in (ours, *others) if row.memory != ""]
        line = {"case": case, "ours": f"{_name(ours)} {_time(ours)}", "others, times as long": ", ".join(told)}
        lines.append({**line, "memory": ", ".join(memory) or "-"})
    return _markdown(lines)


def _name(row) -> str:
    """Of a row of bench.csv, without "carlib" and with semicolons, as commas part the rows."""
    return row.name.removeprefix("carlib, ").replace(", ", "; ")


def _time(row) -> str:
    seconds = float(row.seconds)
    if seconds >= 10:
        return f"{seconds:.0f} s"
    decimals = 2 if seconds < 0.00995 else 1 if seconds < 0.0995 else 0  # three digits
    return f"{seconds * 1000:.{decimals}f} ms"


def _markdown(lines) -> str:
    """A table of dicts with the same keys."""
    lines = list(lines)
    if not lines:
        raise ValueError("a table of profile mini has no line that the pages show: measure it on Set5, Set14 or B100")
    rows = [list(lines[0]), ["---"] * len(lines[0]), *(list(map(str, line.values())) for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


# Block -> the table whose numbers it shows, and as what.
_TABLES = {
    "results": ("table1", _results),
    "downscalers": ("table1", _downscalers),
    "seeds": ("seeds", _seeds),
    "scales": ("scales", _scales),
    "attribution": ("attribution", _attribution),
    "colour": ("colour", _colour),
    "content": ("content", _content),
    "lossless_gain": ("lossless_gain", _lossless_gain),
    "jpeg": ("jpeg", _jpeg),
    "jpeg_worth": ("jpeg_worth", _jpeg_worth),
    "jpeg_rates": ("jpeg_rates", _jpeg_rates),
}
