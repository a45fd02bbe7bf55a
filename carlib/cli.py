"""The command `carlib`. Bad input ends in one line on stderr and exit code 2; heavy imports happen inside commands."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from carlib import data_commands, stopping, study_commands, train_commands
from carlib.train_commands import Profile

# Options of downscale and upscale alike.
Weights = Annotated[Path | None, typer.Option(help="Weights of a trained run; default: the shipped ones.")]
Tile = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS", help="Networks: compute larger HR images in parts so wide; 0: whole. Default: 1024."
    ),
]
Device = Annotated[str | None, typer.Option(help="Of networks: cpu, cuda or auto (the default).")]
Alpha = Annotated[str, typer.Option(help="Transparency: refuse, drop, white or black.")]
Depth = Annotated[str, typer.Option(help="16-bit images: refuse or round.")]
MaxPixels = Annotated[int | None, typer.Option(help="Images of more pixels are refused; default: 178 million.")]
Quality = Annotated[int | None, typer.Option(metavar="1..100", help="Of a .jpg.")]

_UNKNOWN = "it does not say how it was made, and was enlarged by {}: {}"
_OTHERS = {
    "car": "if CAR did not make it use --method edsr, if car-lean did --method car-lean",
    "edsr": "if CAR made it use --method car-jpeg",
    "edsr-jpeg": "if CAR made it use --method car-jpeg",
}
_MISUSE = typer.BadParameter.__base__  # Click's UsageError: some versions of Typer bring a Click of theirs

app = typer.Typer(
    name="carlib",
    help="Learned image downscaling with a content adaptive resampler (CAR), and the replication of its paper.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(train_commands.app)
app.add_typer(data_commands.app, name="data")
app.add_typer(study_commands.app, name="study")


def _say_version(wanted: bool):
    if wanted:
        import carlib

        typer.echo(f"carlib {carlib.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version and end.", callback=_say_version, is_eager=True)
    ] = False,
):
    """What stands before a command."""


@app.command()
def downscale(
    source: Annotated[Path, typer.Argument(help="A PNG, JPEG, TIFF, WebP or BMP image.")],
    target: Annotated[Path, typer.Argument(help="The LR image; a lossless format such as PNG, or JPEG.")],
    scale: Annotated[int | None, typer.Option(help="Downscaling factor; 4 if neither it nor --size is given.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="car, car-lean (smaller files), car-jpeg (for JPEG), bicubic, lanczos, box, perceptual, dpid, l0; "
            "best: car (of a .jpg car-jpeg) or bicubic, whichever is restored better; or trained: cnn-cr, tad, irn."
        ),
    ] = "car",
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the LR image, not --scale: bicubic, lanczos, box, dpid.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="perceptual: paper or as-published; l0: reconstruction or surrogate. Default: the first."),
    ] = None,
    lambda_: Annotated[
        float | None, typer.Option("--lambda", help="dpid: 0 to 100, default 1; l0: price of an edge, default 2e-4.")
    ] = None,
    rounding: Annotated[str | None, typer.Option(help="dpid: nearest (default) or truncate.")] = None,
    pad: Annotated[bool, typer.Option("--pad", help="Pad an image whose sides are no multiples of the scale.")] = False,
    quality: Annotated[
        int | None,
        typer.Option(
            metavar="1..100",
            help="Of a .jpg; method car-jpeg is trained for it. Of best: bicubic's, whose size the file keeps to.",
        ),
    ] = None,
    weights: Weights = None,
    tile: Tile = None,
    device: Device = None,
    alpha: Alpha = "refuse",
    depth: Depth = "refuse",
    max_pixels: MaxPixels = None,
):
    """Downscale an image."""
    from carlib import choice, data, method_networks, origin, rescale

    image, profile = _read(source, target, quality, alpha=alpha, depth=depth, max_pixels=max_pixels)
    scale, tried = 4 if scale is None and size is None else scale, ""
    if method == choice.BEST:
        own = {"weights": weights, "variant": variant, "lambda": lambda_, "rounding": rounding}
        choice.check_options(size=size, **own)
        found = choice.best(image, scale, quality=quality, pad=pad, tile=tile, device=device)
        lr, method, quality = found.lr, found.method, found.quality
        told = ", ".join(f"{name} {value:.2f} dB" for name, value in found.psnr.items())
        told += ", no file of car-jpeg is so small" * (len(found.psnr) == 1)
        tried = f" (restored: {told})" if quality is None else f", quality {quality} (restored at this size: {told})"
    else:
        lr = rescale.downscale(
            image, scale, method, size=_parse_size(size), pad=pad, weights=weights, tile=tile, device=device,
            variant=variant, lambda_=lambda_, rounding=rounding,
        )  # fmt: skip
    trained = method_networks.digest(method, scale, weights)
    made = origin.Origin(method, scale, image.shape[:2], weights and weights.name, quality, trained)
    data.write_image(target, lr, quality=quality, profile=profile, note=origin.written(made))
    if quality is None and target.suffix.lower() != ".png":
        typer.echo(f"carlib: {target}: only PNG and JPEG say how they were made: tell that to enlarge it", err=True)
    if quality is None and method == "car-jpeg":
        typer.echo(
            f"carlib: {target}: car-jpeg is meant for .jpg files: lossless, method car gives better results", err=True
        )
    # Own weights of the others may have been trained on JPEG; those of CAR are told apart by what they were trained on.
    own = weights is not None and method in set(method_networks.LEARNED) - {"car"}
    if quality is not None and method in method_networks.PAIRS and method != "car-jpeg" and not own:
        typer.echo(f"carlib: {target}: {method} was not trained for JPEG: use bicubic or car-jpeg", err=True)
    if image.ndim == 2 and not tried and weights is None and method in ("car", "car-lean"):
        typer.echo(f"carlib: {target}: grey images gain nothing by {method}: see --method best", err=True)
    factor = "" if scale is None else f" x{scale}"
    typer.echo(f"{target}: {_size(lr)}, from {_size(image)} by {method}{factor}{tried}")


@app.command()
def upscale(
    source: Annotated[Path, typer.Argument(help="The LR image.")],
    target: Annotated[Path, typer.Argument(help="The enlarged image.")],
    scale: Annotated[int | None, typer.Option(help="Factor; default: the one the image was made at, or 4.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="car, car-lean, car-jpeg, cnn-cr, tad or irn (for LR images made by it), edsr, edsr-jpeg, zssr, "
            "bicubic or lanczos. Default: what fits the way the image was made, if it tells; else an EDSR for JPEGs, "
            "car for others."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of the original, to cut padding off; the image may know it.")
    ] = None,
    weights: Weights = None,
    tile: Tile = None,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option(help="Networks: float32 (default) or bfloat16, faster on GPUs and processors with it.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of zssr: training steps at most; default 3000.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Of zssr: training takes no longer; enlarging comes on top.")
    ] = None,
    quality: Quality = None,
    alpha: Alpha = "refuse",
    depth: Depth = "refuse",
    max_pixels: MaxPixels = None,
):
    """Enlarge an image, usually one that `carlib downscale` made; zssr trains a network on it, which takes minutes."""
    from carlib import data, method_networks, origin, rescale

    image, profile = _read(source, target, quality, alpha=alpha, depth=depth, max_pixels=max_pixels)
    made = origin.read(source)
    unknown = method is None and made.method is None
    method = origin.upscaler_for(made) if method is None else method
    scale = _scale_of(source, made, image) if scale is None else scale
    if made.weights and method == made.method and weights is None:
        raise ValueError(f"{source} was made with {made.weights}: give that file (--weights), or the one you want")
    budget = {"steps": steps, "seconds": seconds, "progress": method == "zssr" or None}
    whole = origin.size_for(made, scale, image.shape) if size is None else _parse_size(size)
    network = {"weights": weights, "tile": tile, "device": device, "precision": precision}
    sr = rescale.upscale(image, scale, method, size=whole, **network, **budget)
    trained = method_networks.digest(method, scale, weights) if made.trained else None
    if told := _UNKNOWN.format(method, _OTHERS.get(method)) * unknown or origin.doubt(made, method, scale, trained):
        typer.echo(f"carlib: {source}: {told}", err=True)
    data.write_image(target, sr, quality=quality, profile=profile)
    typer.echo(f"{target}: {_size(sr)}, from {_size(image)} by {method} x{scale}")


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run of params.yaml; bicubic-bicubic-x2 needs no weights.")],
    sets: Annotated[list[str] | None, typer.Option("--set", help="Image set; repeat. Default: the profile's.")] = None,
    profile: Profile = None,
    protocol: Annotated[list[str] | None, typer.Option(help="standard, car-release or rgb; repeat.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A weights file; default: the run's own.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="CSV; default: in results/<profile>/metrics.")] = None,
):
    """Measure PSNR and SSIM of a run: one CSV row per image, protocol and metric."""
    from carlib import experiments, results

    if out is not None:
        results.check_table(out, results.ROW_COLUMNS)
    protocols = list(dict.fromkeys(protocol or ["standard"]))
    sets = list(dict.fromkeys(sets or []))
    chosen = {"protocols": protocols, "weights": weights, "any_recipe": True, "device": device}
    rows = experiments.measure(run, profile, sets or None, **chosen)
    out = out or results.folder(rows[0]["profile"], "metrics", "-".join([run, *sets]) + ".csv")
    typer.echo(experiments.summary(rows).to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    typer.echo(results.save_rows(rows, out))


@app.command()
def bench(
    case: Annotated[
        str, typer.Argument(help="operator, convolution, train, kill, downscale, upscale, start or all.")
    ] = "all",
    out: Annotated[
        Path | None, typer.Option(help="CSV, of which one case renews its own rows; a picture appears beside it.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed rounds; their median counts, of downscale the fastest.")] = 7,
    profile: Annotated[str | None, typer.Option(help="Of train: whose runs; default: mini.")] = None,
    device: Annotated[str | None, typer.Option(help="Of train and kill: auto, cpu, cuda; of operator: cuda.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", metavar="NAME=VALUE", help="Of train: override a run's number.")
    ] = None,
    kills: Annotated[
        int | None, typer.Option(help="Of kill: how often a training is killed and begun again; default: 20.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of kill: what the moments are drawn from; default: 0.")] = None,
):
    """Time ours against rivals in the same run; kill: see that a killed training ends with the same bits."""
    from carlib import bench as benchmarks

    options = {"profile": profile, "device": device, "params": param, "kills": kills, "seed": seed}
    table = benchmarks.run(case, repeats=repeats, out=out, **options)
    typer.echo(table.to_string(index=False))


@app.command()
def models(
    sizes: Annotated[list[str] | None, typer.Option("--size", help="mini, base, paper; repeat. Default: all.")] = None,
    scales: Annotated[list[int] | None, typer.Option("--scale", help="Factor; repeat. Default: 2 and 4.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also run each: seconds and gigabytes per HR megapixel on this machine.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="With --measure: CSV whose rows of them it renews, results/networks.csv, say.")
    ] = None,
):
    """List the networks: parameters, and billions of multiply-adds per HR megapixel."""
    from carlib import models as networks
    from carlib import network_costs

    before = network_costs.earlier(out, measure)

    table = networks.summary(sizes or ("mini", "base", "paper"), scales or (2, 4))
    if measure:
        written = (lambda measured: None) if out is None else partial(network_costs.save, out=out, before=before)
        table = network_costs.measure(table, each=written)
    shown = table.drop(columns="machine", errors="ignore").assign(parameters=table["parameters"].map("{:,}".format))
    typer.echo(shown.to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    if out is not None:
        typer.echo(out)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="Such as 06_kernels_offsets.")],
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", metavar="NAME=VALUE", help="Set a parameter of the notebook.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Executed copy; default: results/<profile>/notebooks/.")] = None,
):
    """Run a notebook with papermill; a wrong parameter is one line, not a traceback."""
    from carlib import experiments

    typer.echo(experiments.run_notebook(name, param or [], out=out))


@app.command()
def report(
    profile: Profile = None,
    readme: Annotated[
        bool,
        typer.Option(
            "--readme", help="Also renew the tables of README.md, REPLICATION.md and docs/ (from profile mini)."
        ),
    ] = False,
):
    """Put all tables and figures of a profile on one page."""
    from carlib import experiments

    typer.echo(experiments.build_report(profile))
    if readme:
        from carlib import readme as pages

        for path in pages.update():
            typer.echo(path)


def main():
    """Entry point: run a command; a refusal is one line on stderr and exit code 2."""
    # OpenMP's threads spin while they wait. A short spin costs a step nothing alone, and keeps a second program on the
    # same cores from slowing both by far more than half (measured on two: 10 times without).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (ValueError, OSError) as error:
        typer.echo(f"carlib: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except stopping.Stopped as told:
        typer.echo(f"carlib: {told}: the same command continues", err=True)
        sys.exit(128 + told.number)
    except MemoryError as error:  # NumPy says how much it wanted, Python nothing
        told = " ".join(str(error).split())
        advice = "use a smaller image, or with a network a smaller --tile"
        typer.echo(f"carlib: not enough memory{f' ({told})' if told else ''}: {advice}", err=True)
        sys.exit(2)
    except _MISUSE as error:
        _tell_misuse(error)
        sys.exit(error.exit_code)


def _tell_misuse(error):
    """In one line, unless it is the help of a command that was called with nothing."""
    told = error.format_message()
    if "\n" in told or error.ctx is None:
        error.show()
    else:
        typer.echo(f"carlib: {told.rstrip('.')}: see {error.ctx.command_path} --help", err=True)


def _read(source, target, quality=None, *, max_pixels, **options):
    """An image and its colour profile (or None); refused at once where `target` could not take what is made of it."""
    from carlib import data

    if target.is_dir():
        raise ValueError(f"{target} is a folder: name a file in it")
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"{target} is the source itself, which would be lost: write to another file")
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    image, profile = data.read_image(source, **options, **limit), data.colour_profile(source)
    data.check_writable(target, grey=image.ndim == 2, quality=quality, profile=profile)
    return image, profile


def _scale_of(source, made, image) -> int:
    """The factor an LR image was made at, or 4."""
    from carlib import origin

    try:
        return origin.scale_for(made, image.shape) or 4
    except ValueError as error:
        raise ValueError(f"{source}: {error} (--scale)") from error


def _parse_size(text):
    """ "640x480" (width x height) -> (480, 640)."""
    if text is None:
        return None
    width, separator, height = text.lower().partition("x")
    if not separator or not (width.isdecimal() and height.isdecimal()):  # "²" is a digit, and no number
        raise ValueError(f"--size {text!r} is not WIDTHxHEIGHT, such as 640x480")
    return int(height), int(width)


def _size(image):
    return f"{image.shape[1]}x{image.shape[0]}"
