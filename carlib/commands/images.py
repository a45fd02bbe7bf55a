"""`carlib downscale` and `carlib upscale`: of one image, or of every image in a folder."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

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
Quality = Annotated[int | None, typer.Option(metavar="1..100", help="Of a .jpg, which needs one.")]
Chroma = Annotated[
    str | None,
    typer.Option(
        help="Of a .jpg: halved (4:2:0, the default), or whole (4:4:4): larger, but at qualities of 90 and more it "
        "keeps CAR's gain in part."
    ),
]


def _named(text) -> Path:
    """An empty name would be the working folder: a variable of the shell that is not set."""
    if not str(text):
        raise typer.BadParameter("a name is empty: name a file or a folder")
    return Path(text)


_WHOLE_FROM = 90  # quality from which CAR of lossless LR images gains in 4:4:4 (notebook 05c: 80 loses, 90 gains)
# Of photographs and pictures that carlib does not read: in a folder they are named, other files are not.
_UNREAD = frozenset((
    ".heic", ".heif", ".avif", ".jxl", ".jp2", ".gif", ".psd", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf",
    ".orf", ".rw2", ".pef", ".srw", ".hif", ".jxr", ".j2k",
))  # fmt: skip
_UNKNOWN = "it does not say how it was made, and was enlarged by {}: if CAR made it use --method {}"


def downscale(
    source: Annotated[
        Path, typer.Argument(parser=_named, help="A PNG, JPEG, TIFF, WebP or BMP image, or a folder of such.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            parser=_named,
            help="The LR image, in a lossless format such as PNG or as JPEG; of a folder the folder for them.",
        ),
    ],
    scale: Annotated[
        int | None,
        typer.Option(
            help="Factor: 2, 3, 4 or 8 of car, car-lean and car-jpeg, 2 or 4 of tad and irn, 2 of cnn-cr, any whole "
            "one of the others; 4 if neither it nor --size is given."
        ),
    ] = None,
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
        float | None,
        typer.Option(
            "--lambda", help="dpid: 0 to 100, default 1 (the paper: 0.5); l0: price of an edge, 0 to 1, default 2e-4."
        ),
    ] = None,
    rounding: Annotated[str | None, typer.Option(help="dpid: nearest (default) or truncate.")] = None,
    pad: Annotated[
        bool, typer.Option("--pad", help="Pad an image whose sides are no multiples of the scale; else it is refused.")
    ] = False,
    quality: Annotated[
        int | None,
        typer.Option(
            metavar="1..100",
            help="Of a .jpg, which needs one; method car-jpeg is trained for it. Of best: bicubic's, whose size the "
            "file keeps to.",
        ),
    ] = None,
    chroma: Chroma = None,
    weights: Weights = None,
    tile: Tile = None,
    device: Device = None,
    alpha: Alpha = "refuse",
    depth: Depth = "refuse",
    max_pixels: MaxPixels = None,
):
    """Downscale an image or a folder.

    Images of a folder become PNGs, with --quality JPEGs.
    """
    read = {"quality": quality, "chroma": chroma, "alpha": alpha, "depth": depth, "max_pixels": max_pixels}
    options = {
        "scale": scale, "method": method, "size": size, "variant": variant, "lambda_": lambda_, "rounding": rounding,
        "pad": pad, "weights": weights, "tile": tile, "device": device,
    }  # fmt: skip
    _each(partial(_downscale, read=read, **options), source, target, quality)


def _downscale(source, target, *, read, scale, method, size, variant, lambda_, rounding, pad, weights, tile, device):
    from carlib import choice, data, method_networks, origin, rescale

    (image, profile), quality, chroma = _read(source, target, **read), read["quality"], read["chroma"]
    scale, tried = 4 if scale is None and size is None else scale, ""
    if method == choice.BEST:
        own = {"weights": weights, "variant": variant, "lambda": lambda_, "rounding": rounding}
        choice.check_options(size=size, **own)
        found = choice.best(image, scale, quality=quality, chroma=chroma, pad=pad, tile=tile, device=device)
        lr, method, quality = found.lr, found.method, found.quality
        told = ", ".join(f"{name} {value:.2f} dB" for name, value in found.psnr.items())
        told += ", no file of CAR's is so small" * (len(found.psnr) == 1)
        told = f"(restored{' at this size' * (quality is not None)}, RGB: {told})"
        tried = f" {told}" if quality is None else f", quality {quality} {told}"
    else:
        lr = rescale.downscale(
            image, scale, method, size=_parse_size(size), pad=pad, weights=weights, tile=tile, device=device,
            variant=variant, lambda_=lambda_, rounding=rounding,
        )  # fmt: skip
    trained = method_networks.digest(method, scale, weights)
    made = origin.Origin(method, scale, image.shape[:2], weights and weights.name, quality, trained)
    data.write_image(target, lr, quality=quality, chroma=chroma, profile=profile, note=origin.written(made))
    if quality is None and target.suffix.lower() != ".png":
        advice = f"use upscale --method {method}" if method in method_networks.PAIRS else "tell that"
        typer.echo(f"carlib: {target}: only PNG and JPEG say how they were made: to enlarge it {advice}", err=True)
    if quality is None and method == "car-jpeg":
        typer.echo(
            f"carlib: {target}: car-jpeg is meant for .jpg files: lossless, method car gives better results", err=True
        )
    # Own weights of the others may have been trained on JPEG; those of CAR are told apart by what they were trained on.
    own = weights is not None and method in set(method_networks.LEARNED) - {"car"}
    kept = bool(tried) or (method == "car" and chroma == "whole" and quality >= _WHOLE_FROM)
    if quality is not None and method in method_networks.PAIRS and method != "car-jpeg" and not own and not kept:
        also = f", or for quality {_WHOLE_FROM} and more --chroma whole" if method == "car" else ""
        typer.echo(f"carlib: {target}: {method} was not trained for JPEG: use bicubic or car-jpeg{also}", err=True)
    if image.ndim == 2 and not tried and weights is None and method in ("car", "car-lean"):
        typer.echo(f"carlib: {target}: grey images gain nothing by {method}: see --method best", err=True)
    if size is not None and abs(lr.shape[0] * image.shape[1] - lr.shape[1] * image.shape[0]) > max(image.shape[:2]):
        typer.echo(
            f"carlib: {target}: {_size(lr)} has other proportions than {_size(image)}: it is distorted", err=True
        )
    factor = f" {variant}" * (variant is not None) + f" x{scale}" * (scale is not None)
    typer.echo(f"{target}: {_size(lr)}, from {_size(image)} by {method}{factor}{tried}")


def upscale(
    source: Annotated[Path, typer.Argument(parser=_named, help="The LR image, or a folder of such.")],
    target: Annotated[Path, typer.Argument(parser=_named, help="The enlarged image, of a folder the folder for them.")],
    scale: Annotated[int | None, typer.Option(help="Factor; default: the one the image was made at, or 4.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="car, car-lean, car-jpeg, cnn-cr, tad or irn (for LR images made by it), edsr, edsr-jpeg, zssr, "
            "bicubic or lanczos. Default: what fits the way the image was made, if it tells; else edsr, for JPEGs up "
            "to quality 85 edsr-jpeg, with --weights what they are of."
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
        float | None,
        typer.Option(help="Of zssr: training takes no longer (default: no limit); enlarging comes on top."),
    ] = None,
    quality: Quality = None,
    alpha: Alpha = "refuse",
    depth: Depth = "refuse",
    max_pixels: MaxPixels = None,
):
    """Enlarge an image or a folder.

    Best what `carlib downscale` made. zssr trains a network on each, which takes minutes.
    """
    read = {"quality": quality, "alpha": alpha, "depth": depth, "max_pixels": max_pixels}
    options = {
        "scale": scale, "method": method, "size": size, "weights": weights, "tile": tile, "device": device,
        "precision": precision, "steps": steps, "seconds": seconds,
    }  # fmt: skip
    _each(partial(_upscale, read=read, **options), source, target, quality)


def _upscale(source, target, *, read, scale, method, size, weights, tile, device, precision, steps, seconds):
    from carlib import data, method_networks, origin, rescale

    image, profile = _read(source, target, **read)
    made = origin.read(source)
    unknown = method is None and made.method is None
    if method is None:
        own = method_networks.method_of(weights, device) if unknown and weights else None
        method = own or origin.upscaler_for(made)
    scale = _scale_of(source, made, image) if scale is None else scale
    if made.weights and method == made.method and weights is None and not origin.by_shipped(made, scale):
        raise ValueError(f"{source} was made with {made.weights}: give that file (--weights), or the one you want")
    budget = {"steps": steps, "seconds": seconds, "progress": method == "zssr" or None}
    whole = origin.size_for(made, scale, image.shape) if size is None else _parse_size(size)
    network = {"weights": weights, "tile": tile, "device": device, "precision": precision}
    sr = rescale.upscale(image, scale, method, size=whole, **network, **budget)
    trained = method_networks.digest(method, scale, weights) if made.trained else None
    if unknown and not weights:
        told = _UNKNOWN.format(method, "car" if made.quality is None else "car-jpeg")
    else:
        told = origin.doubt(made, method, scale, trained, image.shape if size is None else None)
    if told:
        typer.echo(f"carlib: {source}: {told}", err=True)
    data.write_image(target, sr, quality=read["quality"], profile=profile)
    typer.echo(f"{target}: {_size(sr)}, from {_size(image)} by {method} x{scale}")


def _each(work, source, target, quality):
    """work(image file, file to write) of one image, or of every image that lies in a folder itself.

    Of a folder results have the names of their images, as .png, with a quality as .jpg. What is refused is told, and
    the others are made.

    Raises:
        ValueError: as `work`; a folder has no image, or two of one name; `target` is no folder; an image was refused.
    """
    if not source.is_dir():
        return work(source, target)
    from carlib.data.images import SUFFIXES

    visible = (path for path in source.iterdir() if not path.name.startswith("."))
    if unread := sorted(path.name for path in visible if path.suffix.lower() in _UNREAD):
        typer.echo(f"carlib: {source}: not read, convert them first: {', '.join(unread)}", err=True)
    files = images_of(source)
    if not target.is_dir() and (target.exists() or target.suffix.lower() in SUFFIXES):
        raise ValueError(f"{source} is a folder and {target} is none: name a folder")
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} is the source itself, whose images would be lost: write to another folder")
    refused = []
    for count, file in enumerate(files):
        try:
            work(file, target / f"{file.stem}{'.png' if quality is None else '.jpg'}")
        except (ValueError, MemoryError) as error:
            told = " ".join(str(error).split())
            if count == 1 and refused == [told]:  # of an option, most likely: it would be the same of all
                raise ValueError(f"{file} was refused for the same reason: nothing was made") from error
            refused.append(told)
            typer.echo(f"carlib: {told}" if str(file) in told else f"carlib: {file}: {told}", err=True)
    if refused:
        raise ValueError(f"{len(refused)} of the {len(files)} images in {source} were refused")


def images_of(folder) -> list[Path]:
    """The image files that lie in a folder itself, by name.

    Raises:
        ValueError: there is none, or two of one name.
    """
    from carlib.data.images import SUFFIXES

    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    files = sorted(path for path in shown if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    named = {}
    for file in files:
        if (other := named.setdefault(file.stem.casefold(), file)) is not file:  # one name to some systems
            raise ValueError(f"{other.name} and {file.name} in {folder} have one name: rename one of them")
    return files


def _read(source, target, *, quality, max_pixels, chroma=None, **options):
    """An image and its colour profile (or None); refused at once where `target` could not take what is made of it."""
    from carlib import data

    if target.is_dir():
        raise ValueError(f"{target} is a folder: name a file in it")
    # A folder that is not there has no "..", but by name (`results.atomic`) it leads back all the same.
    if _path(target) == _path(source) or (target.exists() and source.exists() and target.samefile(source)):
        raise ValueError(f"{target} is the source itself, which would be lost: write to another file")
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    image, profile = data.read_image(source, **options, **limit), data.colour_profile(source)
    data.check_writable(target, grey=image.ndim == 2, quality=quality, chroma=chroma, profile=profile)
    return image, profile


def _path(path):
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself; it is refused where it would be written
        return path


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
