"""The image sets by name, and where their files lie.

`demo` and `content` come with the repository. Every other set is looked for under the folders named in CARLIB_DATA
(separated as in PATH), then under data/raw of the project; the first folder that holds images wins. Folder names are
matched without regard to case.

A folder of one's own images goes wherever a set does: any name with a slash is one, such as ./photos.
"""

import difflib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carlib import results
from carlib.data.images import SUFFIXES, read_of_set


@dataclass(frozen=True)
class Part:
    """One folder of images: its name in the manifest, and other names that it goes by."""

    manifest: str
    folders: tuple[str, ...]


@dataclass(frozen=True)
class ImageSet:
    """A set is one part or several; `count` is the number of images when it is complete.

    mapped: so large that its pixels are kept decoded, see carlib.data.decoded.
    """

    parts: tuple[Part, ...]
    count: int
    mapped: bool = False


SHIPPED = ("demo", "content")  # the sets that come with the repository; "content" are no ordinary photographs
_SHIPPED = {name: Part(name, (name,)) for name in SHIPPED}
_SET5 = Part("Set5", ("Set5", "Set5/HR", "Set5/original"))
_SET14 = Part("Set14", ("Set14", "Set14/HR", "Set14/original"))
_URBAN = Part("Urban100", ("Urban100", "Urban100/HR", "Urban100_HR"))
_BSDS_FOLDERS = ("BSDS500", "BSDS500/data/images", "BSR/BSDS500/data/images")  # as here, on GitHub, in the archive
_BSDS = {
    split: Part(f"BSDS500/{split}", tuple(f"{folder}/{split}" for folder in _BSDS_FOLDERS))
    for split in ("train", "val", "test")
}
# BSD100, the paper's B100, is the val part of BSDS500: never train on it.
_B100 = Part("BSDS500/val", (*_BSDS["val"].folders, "BSD100", "BSD100/HR", "B100", "B100/HR", "BSDS100"))
_VALID = Part("DIV2K_valid", ("DIV2K_valid_HR", "DIV2K/DIV2K_valid_HR", "DIV2K_valid", "DIV2K_valid10"))
_TRAIN = Part("DIV2K_train", ("DIV2K_train_HR", "DIV2K/DIV2K_train_HR", "DIV2K_train"))

SETS = {
    "demo": ImageSet((_SHIPPED["demo"],), 11),
    "content": ImageSet((_SHIPPED["content"],), 10),
    "set5": ImageSet((_SET5,), 5),
    "set14": ImageSet((_SET14,), 14),
    "bsd100": ImageSet((_B100,), 100),
    "urban100": ImageSet((_URBAN,), 100),
    "div2k": ImageSet((_VALID,), 100),
    "div2k-train": ImageSet((_TRAIN,), 800, mapped=True),
    "bsds500": ImageSet((_BSDS["train"], _BSDS["test"]), 400),
    "bsds500-train": ImageSet((_BSDS["train"],), 200),
    "bsds500-test": ImageSet((_BSDS["test"],), 200),
}
NAMES = tuple(SETS)
# (test set, image) -> training sets that have its scene, too: in BSDS500 it is 302003. No digest tells: Set5's is
# reduced to 231 / 321 of that size and cut at its sides (found by matched features; not in DIV2K and Urban100).
COPIES = {("set5", "woman"): ("bsds500", "bsds500-train")}
ALIASES = {"b100": "bsd100"}
_LARGE = 200_000_000  # bytes of files in a folder of one's own from which its pixels are kept decoded: 2 GB of JPEG's


def own_folder(name: str) -> Path | None:
    """The folder of one's own that a name with a slash means; None of the name of a set."""
    text = str(name)
    return Path(text).expanduser() if "/" in text or os.sep in text else None


def own_file(name) -> Path | None:
    """The file of one's own that a name with an image's suffix means; None of "set/name".

    It is looked for in the working folder, then in the project's: in JupyterLab a notebook's folder is the former.

    Raises:
        ValueError: there is no such home folder.
    """
    if not isinstance(name, str) or os.path.splitext(name)[1].lower() not in SUFFIXES:
        return None
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name}: {error}") from error
    project = _project()
    return path.resolve() if project is None or os.path.isfile(path) else (project / path).resolve()


def label(name: str) -> str:
    """What the files about a set are called: its name, of a folder also what tells it from others of that name."""
    folder = own_folder(name)
    if folder is None:
        return name
    folder = folder.resolve()
    return f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def canonical(name: str) -> str:
    """The set's own name, from any case or an alias; of a folder of one's own a name without a last slash.

    Raises:
        ValueError: no set has this name.
    """
    if own_folder(name) is None:
        return known(name)
    plain = str(Path(name))
    return f"./{plain}" if own_folder(plain) is None else plain  # it keeps a slash


def known(name: str) -> str:
    """`canonical`, of sets alone.

    Raises:
        ValueError: no set has this name.
    """
    key = str(name).strip().lower()
    key = ALIASES.get(key, key)
    if key in SETS:
        return key
    close = difflib.get_close_matches(key, [*NAMES, *ALIASES], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    own = f"; a folder of your own needs a slash: ./{name}" if key and Path(str(name)).is_dir() else ""
    raise ValueError(f"unknown image set {name!r}{hint}; the sets are {', '.join(NAMES)}{own}")


def find(name: str) -> list[Path]:
    """The image files of a set, part after part, each part sorted by file name.

    `div2k` gives the validation images that are present, which may be fewer than 100.

    Raises:
        ValueError: unknown name, a part of the set is in none of the folders, or a folder of one's own has no image.
    """
    folder = own_folder(name)
    if folder is not None:
        if not (files := files_in(folder)):
            raise ValueError(
                f"the folder {name} {_why_none(folder)}: name a folder of images, or a set of `carlib data list`"
            )
        return files
    key = known(name)
    files = []
    for part in SETS[key].parts:
        folder = part_folder(part)
        if folder is None:
            raise ValueError(_absent(key, part))
        files += files_in(folder)
    return files


def _why_none(folder) -> str:
    if not folder.is_dir():
        return "is a file" if folder.is_file() else "is not there"
    if not os.access(folder, os.R_OK | os.X_OK):
        return "cannot be read"
    return f"holds no image ({', '.join(sorted(SUFFIXES))})"


def load(name: str, limit: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Read a set image by image.

    Args:
        limit: read the first `limit` images only; None reads all.
    Returns:
        iterator of (stem, image; of a folder of one's own the whole file name), uint8 (H, W) or (H, W, 3) as the file
        is, not cropped; of what is large and read as a whole read-only, views of memory that all processes share.
    Raises:
        ValueError: at once if the set is unknown or absent or `limit` is not positive; while iterating if a file is
            bad.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit={limit!r}: give a positive integer, or None for all images")
    files = find(name)[:limit]
    names = [path.stem if own_folder(name) is None else path.name for path in files]
    if limit is None and _is_mapped(name, files):
        return _mapped(label(canonical(name)), names, files)
    return ((stem, read_of_set(path)) for stem, path in zip(names, files, strict=True))


def _is_mapped(name, files) -> bool:
    if own_folder(name) is None:
        return SETS[known(name)].mapped
    return sum(path.stat().st_size for path in files) > _LARGE


def _mapped(name, names, files):
    from carlib.data import decoded

    yield from zip(names, decoded.mapped(name, files), strict=True)


def available() -> dict[str, int]:
    """Number of images of every set that is present, in the order of NAMES."""
    return {name: len(files) for name, files in _present().items()}


def inventory() -> dict[str, dict]:
    """What is present, for a pipeline to depend on: {set: {"count": n, "sha256": digest}}, absent sets left out.

    The digest covers the sorted (file name, size in bytes) pairs, no pixel and no folder, so it takes milliseconds and
    is the same wherever the folders lie. `carlib data verify` looks at the pixels.
    """
    return {name: _described(files) for name, files in _present().items()}


def held(name: str) -> dict | None:
    """`inventory` of one set or folder of one's own; None: it is absent.

    Raises:
        ValueError: no set has this name.
    """
    canonical(name)
    try:
        files = find(name)
    except ValueError:
        return None
    return _described(files)


def shared(name: str, others) -> list[Path]:
    """The image files of a set that are in other sets as well; what is absent shares nothing."""

    def files(of):
        try:
            return {path.resolve(): path for path in find(of)}
        except ValueError:
            return {}

    seen = set().union(*map(files, others))
    return [path for place, path in files(name).items() if place in seen]


def folder_of(name: str) -> str:
    """Where a set was found, for people to read; "" if it is absent."""
    folders = [part_folder(part) for part in SETS[canonical(name)].parts]
    return "" if None in folders else ", ".join(map(str, folders))


def part_folder(part: Part) -> Path | None:
    """The first folder that holds images of this part, or None."""
    for base in _bases(part):
        for name in part.folders:
            folder = resolve(base, name)
            if folder is not None and files_in(folder):
                return folder
    return None


def resolve(base: Path, name: str) -> Path | None:
    """base/name where each component may differ in case; an exact match is preferred."""
    folder = Path(base)
    for component in name.split("/"):
        exact = folder / component
        if not exact.is_dir():
            try:
                alike = sorted(child for child in folder.iterdir() if child.name.lower() == component.lower())
            except OSError:
                return None
            exact = next((child for child in alike if child.is_dir()), None)
        if exact is None:
            return None
        folder = exact
    return folder


def shipped(*parts: str) -> Path:
    """A file or folder that the repository carries under data/: of the project one works in, else of this checkout.

    Raises:
        ValueError: neither has it.
    """
    for base in _shippers():
        if base.joinpath(*parts).exists():
            return base.joinpath(*parts)
    raise ValueError(f"data/{'/'.join(parts)} is missing: run inside a clone of the project, or set CARLIB_HOME")


def _project() -> Path | None:
    try:
        return results.root()
    except ValueError:
        return None


def named() -> list[Path]:
    """The folders that CARLIB_DATA names, whether they are there or not."""
    return [Path(entry).expanduser() for entry in os.environ.get("CARLIB_DATA", "").split(os.pathsep) if entry]


def _shippers() -> list[Path]:
    checkout = Path(__file__).resolve().parents[2]
    return [base / "data" for base in (_project(), checkout) if base is not None]


def _bases(part: Part) -> list[Path]:
    if part in _SHIPPED.values():
        return _shippers()
    project = _project()
    return named() + ([project / "data" / "raw"] if project else [])


def files_in(folder: Path) -> list[Path]:
    """The image files of one folder, by name; hidden files and other suffixes are passed over."""
    try:
        files = [entry for entry in os.scandir(folder) if _is_image_name(entry.name) and entry.is_file()]
    except OSError:
        return []
    return [Path(entry.path) for entry in sorted(files, key=lambda entry: entry.name)]


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _present() -> dict[str, list[Path]]:
    found = {}
    for name, image_set in SETS.items():
        folders = [part_folder(part) for part in image_set.parts]
        if None not in folders:
            found[name] = [path for folder in folders for path in files_in(folder)]
    return found


def _described(files: list[Path]) -> dict:
    pairs = sorted((path.name, path.stat().st_size) for path in files)
    listed = "".join(f"{name}\t{size}\n" for name, size in pairs)
    return {"count": len(files), "sha256": hashlib.sha256(listed.encode()).hexdigest()}


def _absent(name: str, part: Part) -> str:
    looked = ", ".join(str(base / part.folders[0]) for base in _bases(part)) or "nothing: CARLIB_DATA is not set"
    if name in SHIPPED:
        return f"image set {name} is not here (looked for {looked}); restore it with `git checkout data/{name}`"
    return (
        f"image set {name} is not here (looked for {looked});"
        f" run `carlib data fetch {name}`, or point CARLIB_DATA to the folder that holds {part.folders[0]}"
    )
