"""The shipped list of every known image with the checksum of its pixels, and the check against it.

`sha256_rgb` is the SHA-256 of the decoded pixels, not of the file: height x width x 3 bytes, RGB, row after row, a grey
image with its value three times (in Pillow's words, `image.convert("RGB").tobytes()`). So a PNG that was compressed
anew still agrees. A JPEG agrees as long as its decoder does; libjpeg-turbo, which Pillow carries, made the list.
"""

import csv
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carlib.data import sets
from carlib.data.images import read_image


@dataclass(frozen=True)
class Row:
    """One image of the manifest; `source` is owner/name@commit:folder/ on GitHub, or words."""

    set: str
    name: str
    width: int
    height: int
    mode: str
    bytes: int
    sha256_rgb: str
    source: str


@dataclass(frozen=True)
class Check:
    """What became of one file: status is "ok", "differs", "missing" or "unknown" (not in the manifest)."""

    file: str
    status: str
    detail: str = ""


def rows(part: sets.Part) -> dict[str, Row]:
    """The manifest's rows of one part of a set, by file name; empty if no checksum is known (DIV2K_train)."""
    path = sets.shipped("manifest.csv")
    return {row.name: row for row in _read(path, path.stat().st_mtime_ns) if row.set == part.manifest}


def pixel_sha256(path) -> str:
    """SHA-256 of a file's decoded pixels, as the manifest's column `sha256_rgb`.

    Raises:
        ValueError: the file cannot be read as an 8-bit image.
    """
    image = read_image(path)
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return hashlib.sha256(np.ascontiguousarray(rgb)).hexdigest()


def check(path: Path, row: Row | None, *, decode: bool = False) -> Check:
    """Compare one file with its row of the manifest; without a row look (if `decode`) whether it is an image at all."""
    unknown = Check(path.name, "unknown", "no checksum of it in the manifest")
    if row is None and not decode:
        return unknown
    try:
        digest = pixel_sha256(path)
    except ValueError as error:
        return Check(path.name, "differs", str(error))
    if row is None:
        return unknown
    if digest != row.sha256_rgb:
        return Check(path.name, "differs", f"pixels are {digest[:12]}, the manifest has {row.sha256_rgb[:12]}")
    return Check(path.name, "ok")


def verify(name: str) -> list[Check]:
    """Compare every file of a set with the manifest, by file name, else by stem (a PNG made of a JPEG).

    Args:
        name: of a set that is present.
    Returns:
        one Check for each file, then one "missing" for each row of the manifest without a file.
    Raises:
        ValueError: unknown or absent set.
    """
    key = sets.known(name)
    sets.find(key)  # complains about an absent set
    checks = []
    for part in sets.SETS[key].parts:
        known = rows(part)
        by_stem = {Path(row).stem: row for row in known}
        seen = set()
        for path in sets.files_in(sets.part_folder(part)):
            listed = path.name if path.name in known else by_stem.get(path.stem)
            seen.add(listed)
            checks.append(check(path, known.get(listed)))
        checks += [Check(row, "missing", "in the manifest, not in the folder") for row in known if row not in seen]
    return checks


@functools.lru_cache(maxsize=4)
def _read(path: Path, _modified: int) -> tuple[Row, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(_row(fields) for fields in csv.DictReader(file))


def _row(fields: dict) -> Row:
    numbers = {key: int(fields[key]) for key in ("width", "height", "bytes")}
    return Row(**{**fields, **numbers})
