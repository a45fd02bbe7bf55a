"""The tables of studies as Markdown, shorter than their files: what README.md and docs/findings.md show."""

from carlib.cells import SCALES
from carlib.formats import markdown
from carlib.studies import scales
from carlib.studies.jpeg_lr import ALL

_COLUMNS = {
    "bicubic": "Bicubic",
    "perceptual-as-published": "Perceptually, as published",
    "dpid-0.5": "DPID, 0.5",
    "l0": "L0, reconstructed",
    "car": "CAR",
}
NAMES = {"bicubic": "Bicubic", "edsr": "EDSR", "set5": "Set5", "set14": "Set14", "bsd100": "B100", "div2k": "DIV2K"}


def _results(table) -> str:
    """One line per upscaler, scale and set: PSNR of both downscalers, the gain and its interval; the printed ones."""
    psnr = table[(table.metric == "psnr") & table.set.isin(NAMES)]
    lines = []
    for (upscaler, scale, name), cells in psnr.groupby(["upscaler", "scale", "set"], sort=False):
        bicubic, car = (cells[cells.downscaler == d].iloc[0] for d in ("bicubic", "car"))
        lines.append(
            {
                "upscaler": NAMES[upscaler],
                "scale": f"x{scale}",
                "set": f"{NAMES[name]} ({car.n})",
                "bicubic LR": markdown.number(bicubic.ours),
                "CAR LR": markdown.number(car.ours),
                "gain, 95 % interval": f"{car.gain:+.2f} [{car.low:+.2f}, {car.high:+.2f}]",
                "paper: bicubic LR": markdown.number(bicubic.printed),
                "paper: CAR LR": markdown.number(car.printed),
                "paper: gain": markdown.number(car.printed_gain, "{:+.2f}"),
                "verdict": car.verdict,
            }
        )
    return markdown.table(sorted(lines, key=lambda line: (line["upscaler"], line["scale"])))


def _unseen(table) -> str:
    """Table 1's pair on a set less the images that training has seen; a line per scale of the paper."""
    psnr = table[(table.metric == "psnr") & table.scale.isin(SCALES)].set_index("scale")
    lines = []
    for scale, less in psnr[psnr.set.str.contains(" without ")].iterrows():
        name, _, images = less.set.partition(" without ")
        whole = psnr[psnr.set == name].loc[scale]
        lines.append(
            {
                "EDSR": f"x{scale}",
                "set": f"{NAMES[name]} without `{images}` ({less.n})",
                "bicubic LR": markdown.number(less.bicubic),
                "CAR LR": markdown.number(less.car),
                "gain, 95 % interval": _gain(less),
                f"with `{images}` ({whole.n})": _gain(whole),
            }
        )
    return markdown.table(lines)


def _seeds(table) -> str:
    """A line per set: the mean gain in PSNR over seeds, its interval and its range."""
    lines = []
    for cell in table[(table.metric == "psnr") & table.set.isin(NAMES)].itertuples():
        lines.append(
            {
                "scale": f"x{cell.scale}",
                "set": f"{NAMES[cell.set]} ({cell.n})",
                "seeds": cell.seeds,
                "gain, mean and 95 % interval": f"{cell.gain:+.2f} ± {markdown.number(cell.interval)}",
                "lowest": f"{cell.lowest:+.2f}",
                "highest": f"{cell.highest:+.2f}",
                "paper: gain": markdown.number(cell.printed_gain, "{:+.2f}"),
            }
        )
    return markdown.table(lines)


def _scales(table) -> str:
    """A line per set and scale that the paper lacks: PSNR of bicubic both ways and of both with EDSR, and the gain."""
    shown = table[(table.metric == "psnr") & table.set.isin(NAMES) & ~table.scale.isin(SCALES)]
    return markdown.table(
        {
            "scale": f"x{line['scale']}",
            "set": f"{NAMES[line['set']]} ({line['n']})",
            "bicubic both ways": markdown.number(line[scales.BOTH_WAYS]),
            "bicubic LR, EDSR": markdown.number(line[scales.BASE]),
            "CAR LR, EDSR": markdown.number(line[scales.CAR]),
            "gain, 95 % interval": f"{line['gain']:+.2f} [{line['low']:+.2f}, {line['high']:+.2f}]",
            "over seeds": f"± {line['seed_interval']:.2f} ({line['seeds']})" if line["seeds"] > 1 else "-",
        }
        for line in shown.to_dict("records")
    )


def _downscalers(table) -> str:
    """One line per scale and set, a column per downscaler: PSNR of EDSR trained on its LR, ours and (printed)."""
    psnr = table[(table.metric == "psnr") & (table.upscaler == "edsr") & table.set.isin(NAMES)]
    lines = []
    for (scale, name), cells in psnr.groupby(["scale", "set"], sort=False):
        cells = cells.set_index("downscaler")
        shown = {title: cells.loc[downscaler] for downscaler, title in _COLUMNS.items()}
        values = {
            title: f"{markdown.number(cell.ours)} ({markdown.number(cell.printed)})" for title, cell in shown.items()
        }
        lines.append({"scale": f"x{scale}", "set": NAMES[name], **values})
    return markdown.table(lines)


def _attribution(table) -> str:
    """One line per variant, one column per scale and set, which says how many of its images: gains in dB."""
    table = table[table.set.isin(NAMES) & ~table.variant.str.startswith("bicubic")]  # with what they are compared
    counts = table.groupby("set")["n"].max()  # variants of colour have no grey images
    lines = []
    for variant, cells in table.groupby("variant", sort=False):
        columns = {
            f"x{c.scale} {NAMES[c.set]} ({_of(counts[c.set], c.set)})": f"{c.gain:+.2f}" for c in cells.itertuples()
        }
        lines.append({"gain over bicubic LR, dB": variant, **columns})
    return markdown.table(lines)


def _colour(table) -> str:
    """A line per scale and set: CAR's gains by channel, and how far its LR images are from bicubic ones."""
    shown = table[table.set.isin(NAMES) & (table.downscaler == "car")]
    return markdown.table(
        {
            "scale": f"x{line.scale}",
            "set, images with colour": f"{NAMES[line.set]} ({line.n})",
            "gain in luma, dB": f"{line.luma:+.2f} [{line.low:+.2f}, {line.high:+.2f}]",
            "in RGB": f"{line.rgb:+.2f}",
            "in Cb": f"{line.cb:+.2f}",
            "in Cr": f"{line.cr:+.2f}",
            "its small image against bicubic's, PSNR": f"{line.lr:.1f}",
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
                f"x{cell.scale}: bicubic": markdown.number(cell.bicubic),
                f"x{cell.scale}: gain": markdown.number(cell.car, "{:+.2f}"),
                f"x{cell.scale}: gain, RGB": markdown.number(cell.car_rgb, "{:+.2f}"),
                f"x{cell.scale}: PNG": markdown.number(cell.car_png, "{:+.0f} %"),
            }
        lines.append(line)
    return markdown.table(lines)


def _lossless_gain(table) -> str:
    """A line per scale and set: gain and bits of CAR, of CAR whose bits have a price, and of the paper's."""
    lines = []
    for (scale, name), cells in table[table.set.isin(NAMES)].groupby(["scale", "set"], sort=False):
        car, priced = (cells[cells.downscaler == downscaler].iloc[0] for downscaler in ("car", "car-priced"))
        lines.append(
            {
                "scale": f"x{scale}",
                "set": f"{NAMES[name]} ({car.n})",
                "CAR: gain": f"{car.gain:+.2f}",
                "JPEG 2000": markdown.number(car.jpeg2000, "{:+.1f} %"),
                "PNG": markdown.number(car.png, "{:+.1f} %"),
                "CAR, bits priced: gain": _gain(priced),
                "its JPEG 2000": markdown.number(priced.jpeg2000, "{:+.1f} %"),
                "its PNG": markdown.number(priced.png, "{:+.1f} %"),
                "paper: gain": markdown.number(priced.printed_gain, "{:+.2f}"),
                "paper: bits": markdown.number(priced.printed_bits, "{:+.1f} %"),
                "verdict": priced.verdict,
            }
        )
    return markdown.table(lines)


def _jpeg(table) -> str:
    """A line per scale and quality that others printed, and lossless: PSNR of both downscalers by their training."""
    lines = []
    shown = table[table.quality.isin((0, *table.quality[table.printed_gain.notna()]))]
    shown = shown[shown.scale.isin(SCALES)]
    for (scale, quality), cells in shown.groupby(["scale", "quality"], sort=False):
        plain, jpeg, priced = (cells[cells.trained == trained].iloc[0] for trained in ("lossless", "jpeg", "priced"))
        lines.append(
            {
                "scale": f"x{scale}",
                "JPEG quality": quality or "lossless",
                "trained lossless: bicubic": markdown.number(plain.bicubic),
                "CAR's gain": _gain(plain),
                "trained on JPEG: bicubic": markdown.number(jpeg.bicubic),
                "gain on JPEG": _gain(jpeg),
                "files": f"{jpeg.bits:+.0f} %",
                "gain, bits priced": _gain(priced),
                "files, bits priced": f"{priced.bits:+.0f} %",
                "printed gain, trained lossless (DIV2K)": markdown.number(plain.printed_gain, "{:+.2f}"),
            }
        )
    return markdown.table(lines)


def _jpeg_chroma(table) -> str:
    """A line per scale and quality: CAR's gain and bits in files with colour halved and whole."""
    lines = []
    for (scale, quality), cells in table.groupby(["scale", "quality"]):
        halved, whole = (cells[cells.chroma == chroma].iloc[0] for chroma in ("halved", "whole"))
        lines.append(
            {
                "scale": f"x{scale}",
                "JPEG quality": quality,
                "4:2:0: bicubic": markdown.number(halved.bicubic),
                "gain, 4:2:0": _gain(halved),
                "files, 4:2:0": f"{round(halved.bits):+d} %",
                "4:4:4: bicubic": markdown.number(whole.bicubic),
                "gain, 4:4:4": _gain(whole),
                "files, 4:4:4": f"{round(whole.bits):+d} %",
            }
        )
    return markdown.table(lines)


def _gain(cell) -> str:
    return f"{cell.gain:+.2f} [{cell.low:+.2f}, {cell.high:+.2f}]"


def _jpeg_worth(table) -> str:
    """A line per scale: what a bit is worth from quality to quality."""
    return markdown.table(
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
    """A line per comparison: bits at equal PSNR, of all images."""
    return markdown.table(
        {
            "scale": f"x{line.scale}",
            "trained on": _TRAINED_ON[line.trained],
            "LR image": "CAR" if line.downscaler == "car" else "bicubic",
            "against": _AGAINST[line.against],
            "bits at equal PSNR, %": f"{line.bd_rate:+.1f} [{line.least:+.1f}, {line.most:+.1f}]",
            "over seeds": f"± {line.seed_interval:.1f} ({line.seeds})" if line.seeds > 1 else "-",
            "fewer": f"{_some(line)} images",
            "curves of means, %": f"{line.pooled:+.1f}",
            "these: fewer at": f"{line.saved_share:.0f} % of {line.low:.1f} to {line.high:.1f} dB",
        }
        for line in table[table.set == ALL].itertuples()
    )


def _jpeg_rates_sets(table) -> str:
    """CAR with a price on bits, and one kernel with it, set by set."""
    shown = table[table.against.isin(("better", "CAR")) & table.scale.isin(SCALES)]
    lines = []
    for (scale, trained, against), parts in shown.groupby(["scale", "trained", "against"]):
        compared = {"scale": f"x{scale}", "CAR": _TRAINED_ON[trained], "against": _AGAINST[against]}
        lines.append(compared | {
            f"{NAMES.get(part.set, part.set)} ({part.n})":
                f"{part.bd_rate:+.1f} [{part.least:+.1f}, {part.most:+.1f}]; fewer: {_some(part)}"
            for part in parts.itertuples()
        })  # fmt: skip
    return markdown.table(lines)


def _some(line) -> str:
    return f"{round(line.n * line.fewer / 100)} of {line.n}" if line.n else "-"


def _of(n, set_name) -> str:
    """How many images, and of how many if they are not all."""
    from carlib.data.sets import SETS

    whole = SETS[set_name].count
    return str(n) if n == whole else f"first {n} of {whole}"


# Block -> the table whose numbers it shows, and as what.
TABLES = {
    "results": ("table1", _results),
    "downscalers": ("table1", _downscalers),
    "unseen": ("scales", _unseen),
    "seeds": ("seeds", _seeds),
    "scales": ("scales", _scales),
    "attribution": ("attribution", _attribution),
    "colour": ("colour", _colour),
    "content": ("content", _content),
    "lossless_gain": ("lossless_gain", _lossless_gain),
    "jpeg": ("jpeg", _jpeg),
    "jpeg_chroma": ("jpeg_chroma", _jpeg_chroma),
    "jpeg_worth": ("jpeg_worth", _jpeg_worth),
    "jpeg_rates": ("jpeg_rates", _jpeg_rates),
    "jpeg_rates_sets": ("jpeg_rates", _jpeg_rates_sets),
}
