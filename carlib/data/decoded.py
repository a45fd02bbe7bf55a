"""Large image sets decoded once: one file of pixels that is mapped into memory, so that all processes share its pages.

DIV2K's 800 training images are decoded in a minute or two, to 6.6 GB. Without the file every process that trains, each
rank of DDP and each continued run, would decode them anew and hold them for itself. The smaller sets take seconds.

The LR images of a training set are kept in the same way (carlib.training.lr_images): a downscaler can take minutes
for them.

<name>-<key>.npy holds two arrays, one after the other: the shapes (n, 3), as np.save writes them, a grey image's as
(h, w, 0), and then the pixels, uint8, image after image. A set's key is of the files' names, sizes and times, and of
what decodes them.
"""

import contextlib
import hashlib
import math
import mmap
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from carlib import results
from carlib.data import images, sixteen

_KEY = 16  # hexadecimal digits
_UNUSED = 7 * 86400  # seconds after which a file that no process mapped may go


def mapped(name: str, files: list[Path]) -> list[np.ndarray]:
    """The images of a set, decoded once; see `kept`.

    Args:
        files: the set's, in order.
    Returns:
        what `images.read_of_set` gives for each.
    Raises:
        ValueError: an image is bad.
    """
    return kept(name, _key(files), files, images.read_of_set, "decoding")


def kept(name: str, key: str, parts: list, make, doing: str) -> list[np.ndarray]:
    """make(part) of every part, read-only views of a file in the folder of `folder()`, written if it is missing.

    One of several processes writes it, the others wait. Files of the same name with another key are then removed if
    nobody used them for a week. Where nothing can be written the images are made in memory, after a line on stderr.

    Args:
        key:   hexadecimal digits that stand for all that decides the images; the first 16 count.
        make:  part -> uint8 image (H, W) or (H, W, 3).
        doing: what making is called while it goes on.
    Raises:
        ValueError: of `make`.
    """
    from filelock import FileLock

    path = folder() / f"{name}-{key[:_KEY]}.npy"
    if (found := _map(path)) is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{name}.lock"):
            if (found := _map(path)) is None:  # nobody wrote it in the meantime
                _sweep(path.parent, name)
                _write(path, parts, partial(_made, make), f"{name}: {doing}")
                found = _map(path)
    except _Unmade as error:
        raise error.__cause__ from None
    except (OSError, ValueError) as error:
        print(f"{name}: {doing} into memory: {error}", file=sys.stderr)
    return [make(part) for part in _bar(parts, f"{name}: {doing}")] if found is None else found


class _Unmade(Exception):
    """An image could not be made, which no other place to keep it would mend; its cause says why."""


def _made(make, part):
    try:
        return make(part)
    except (OSError, ValueError) as error:
        raise _Unmade from error


def folder() -> Path:
    """CARLIB_DECODED, such as a node's own disk, else results/decoded of the project."""
    named = os.environ.get("CARLIB_DECODED")
    return Path(named).expanduser() if named else results.root() / "results" / "decoded"


def _key(files) -> str:
    digest = hashlib.sha256(PIL.__version__.encode())  # JPEG's pixels depend on the decoder
    for module in (images, sixteen):
        digest.update(Path(module.__file__).read_bytes())
    for file in files:
        stat = file.stat()
        digest.update(f"{file.name}\t{stat.st_size}\t{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _map(path):
    """The images in a file of ours; None if there is none, or one that is cut short."""
    try:
        with open(path, "rb") as handle:
            shapes = np.load(handle)
            begin = handle.tell()
        pixels = np.memmap(path, np.uint8, "r", offset=begin)
    except (OSError, ValueError, EOFError):
        return None
    shapes = [tuple(shape[: 3 if shape[2] else 2]) for shape in shapes.tolist()]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    if len(pixels) != ends[-1]:
        return None
    with contextlib.suppress(AttributeError, OSError):  # read ahead: crops alone would fetch page by page
        pixels._mmap.madvise(mmap.MADV_WILLNEED)
    with contextlib.suppress(OSError):  # of another user, perhaps
        os.utime(path)
    pixels = np.asarray(pixels)  # of a memmap each crop would be one, which costs more than the crop
    parts = np.split(pixels, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _sweep(folder, name):
    """Remove what nobody used for a week, and what a killed process left half-written (see results.atomic).

    Call it with the lock. What another node of a cluster has mapped must stay: there a removed file ends its process.
    """
    key = "[0-9a-f]" * _KEY
    unused = [path for path in folder.glob(f"{name}-{key}.npy") if time.time() - path.stat().st_mtime > _UNUSED]
    for stale in [*unused, *folder.glob(f".{name}-{key}.*.npy")]:
        with contextlib.suppress(OSError):  # Windows keeps what a process has mapped
            stale.unlink()


def _write(path, parts, make, told):
    shapes = np.zeros((len(parts), 3), np.int64)
    with results.atomic(path) as temporary, open(temporary, "wb") as handle:
        np.save(handle, shapes)  # takes the place of those known at the end
        for place, part in enumerate(_bar(parts, told)):
            image = make(part)
            shapes[place, : image.ndim] = image.shape
            image.tofile(handle)
        handle.seek(0)
        np.save(handle, shapes)


def _bar(parts, told):
    return tqdm(parts, desc=told, unit="image")
