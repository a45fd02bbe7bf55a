"""`carlib measure`: restored images beside their originals, whoever restored them."""

from pathlib import Path
from typing import Annotated

import typer

COLUMNS = ["image", "protocol", "psnr", "ssim"]
Protocols = Annotated[
    list[str] | None, typer.Option("--protocol", help="standard (the default), car-release or rgb; repeat.")
]


def measure(
    original: Annotated[Path, typer.Argument(help="The HR image, or a folder of such.")],
    restored: Annotated[Path, typer.Argument(help="What was restored of it; of a folder images of the same names.")],
    scale: Annotated[int, typer.Option(help="The factor, whose number of pixels is left out at each border.")] = 4,
    protocol: Protocols = None,
    out: Annotated[Path | None, typer.Option(help="CSV, a row per image and protocol.")] = None,
):
    """Measure PSNR and SSIM of any images.

    Of an image or a folder, whoever restored it; an original that is larger by less than the scale is cut as `evaluate`
    does it.
    """
    import pandas as pd

    from carlib import metrics, results

    protocols = list(dict.fromkeys(protocol or ["standard"]))
    for name in protocols:
        metrics.check_protocol(name)
    if scale < 1:
        raise ValueError(f"scale={scale} is not a whole number >= 1")
    if out is not None:
        results.check_table(out, COLUMNS)
    rows = [row for pair in _pairs(original, restored) for row in _rows(*pair, scale, protocols)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    means = table.groupby("protocol", sort=False)[["psnr", "ssim"]].mean().reset_index().assign(image="mean")
    shown = pd.concat([table, means]) if len(table) > len(protocols) else table
    typer.echo(shown.to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    if out is not None:
        typer.echo(results.write_text(out, table.to_csv(index=False)))


def _pairs(original, restored):
    """(HR file, restored file), many: of folders those of one name, whatever their suffixes."""
    from carlib.commands.images import images_of

    if not original.is_dir() and not restored.is_dir():
        return [(original, restored)]
    if not (original.is_dir() and restored.is_dir()):
        raise ValueError(f"{original} and {restored}: name two images or two folders")
    theirs = {path.stem: path for path in images_of(restored)}
    ours = images_of(original)
    if missing := [path.name for path in ours if path.stem not in theirs]:
        raise ValueError(f"{restored} has no image named as {missing[0]} ({len(missing)} of {len(ours)} are missing)")
    return [(path, theirs[path.stem]) for path in ours]


def _rows(original, restored, scale, protocols):
    from carlib import data, metrics

    hr, sr = (data.read_image(path) for path in (original, restored))
    if all(0 <= full - cut < scale for full, cut in zip(hr.shape[:2], sr.shape[:2], strict=True)):
        hr = hr[: sr.shape[0], : sr.shape[1]]
    if hr.ndim != sr.ndim:  # a grey image stored in colour, or the other way round
        hr, sr = data.to_colour(hr), data.to_colour(sr)
    if hr.shape != sr.shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (hr, sr))
        raise ValueError(f"{original} and {restored} are {sizes}: give images of one size")
    for protocol in protocols:
        values = (getattr(metrics, metric)(hr, sr, scale, protocol=protocol) for metric in ("psnr", "ssim"))
        yield dict(zip(COLUMNS, (original.name, protocol, *values), strict=True))
