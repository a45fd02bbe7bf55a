"""Download the image sets from pinned public origins; nothing gets its final name before its pixels are verified.

Single files come from GitHub at the commit that the manifest names. DIV2K comes as an archive from its authors, which
must have its widely published MD5 before it is unpacked. For DIV2K images from elsewhere (a folder, an earlier run) the
manifest has checksums of 36 of the 100 validation images only, and the result says how many others there are.
"""

import contextlib
import filecmp
import hashlib
import re
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from carlib import results
from carlib.data import manifest, sets
from carlib.data.archives import unpack

_NEW, _STALE = 10, 24 * 3600  # seconds, see _is_left
GITHUB = "https://raw.githubusercontent.com"


class Archive(NamedTuple):
    """An archive's address and the MD5 that its bytes must have."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


ARCHIVES = {
    "div2k": Archive("https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip", "9fcdda83005c5e5997799b69f955ff88"),
    "div2k-train": Archive(
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip", "bdc2d9338d4e574fe81bf7d158758658"
    ),
}
ARCHIVE_NAMES = {"div2k": range(801, 901), "div2k-train": range(1, 801)}
RETRIES = 2
_SOURCE = re.compile(r"(?P<repo>[^/@:]+/[^/@:]+)@(?P<commit>[0-9a-f]{40}):(?P<folder>.*)")


@dataclass
class Fetched:
    """What `fetch` did: file names that were there already, that are new, and those that no checksum covers."""

    name: str
    folders: list[Path] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    note: str = ""

    def __str__(self):
        where = ", ".join(map(str, self.folders))
        verified = len(self.kept) + len(self.added) - len(self.unchecked)
        text = f"{self.name}: {len(self.added)} new, {len(self.kept)} kept, {verified} verified; in {where}"
        return f"{text}; {self.note}" if self.note else text


def fetch(name: str, into=None, progress: bool = True, from_dir=None) -> Fetched:
    """Bring one image set here, verified. A second call continues where the first one stopped.

    Args:
        name:     a set's name; none that the repository carries.
        into:     receives the set's own folder (Set5, BSDS500/val, ...); None is data/raw of the project. Another
                  folder is found again when CARLIB_DATA names it.
        progress: show a bar on stderr.
        from_dir: take the files from this folder instead of the network (itself, or the set's folder in it; for DIV2K
                  the archive too). They are verified all the same, and copied.
    Returns:
        what was added, kept, and what no checksum covers.
    Raises:
        ValueError: unknown set, no connection, an archive without its MD5, or files refused because they are missing or
            differ; those that agree are kept. A file that is already there and differs is never overwritten.
    """
    key = sets.known(name)
    if key in sets.SHIPPED:
        raise ValueError(f"the set {key} comes with the repository; restore it with `git checkout data/{key}`")
    into = results.root() / "data" / "raw" if into is None else Path(into)
    from_dir = None if from_dir is None else Path(from_dir)
    if from_dir is not None and not from_dir.is_dir():
        raise ValueError(f"from_dir={from_dir} is not a folder")
    done = Fetched(key)
    for part in sets.SETS[key].parts:
        folder = into / part.folders[0]
        done.folders.append(folder)
        _make(folder)
        if key in ARCHIVES:
            _fetch_archive(key, part, folder, done, progress, from_dir)
        else:
            _fetch_files(part, folder, done, progress, from_dir)
    return done


def url_of(row: manifest.Row) -> str:
    """Where the manifest's `source` column says that this image can be downloaded.

    Raises:
        ValueError: the source is not of the form owner/name@commit:folder/.
    """
    match = _SOURCE.fullmatch(row.source)
    if not match:
        raise ValueError(f"{row.set}/{row.name} has no address in the manifest (source: {row.source})")
    folder = match["folder"].strip("/")
    path = f"{folder}/{row.name}" if folder else row.name
    return f"{GITHUB}/{match['repo']}/{match['commit']}/{quote(path)}"


def _fetch_files(part, folder, done, progress, from_dir):
    from tqdm import tqdm

    refused = []
    with _scratch(folder) as temporary:
        for row in tqdm(manifest.rows(part).values(), desc=part.manifest, unit="image", disable=not progress):
            source = _get_file(row, part, temporary, from_dir) if not (folder / row.name).exists() else None
            _settle(source, folder / row.name, row, done, refused)
    _complain(part, refused)


def _get_file(row, part, temporary, from_dir) -> Path | None:
    """The downloaded or local copy of one image; None if the local folder has none."""
    if from_dir is None:
        return _download(url_of(row), temporary, row.name)
    folders = [from_dir, *(sets.resolve(from_dir, name) for name in part.folders)]
    return next((folder / row.name for folder in folders if folder and (folder / row.name).is_file()), None)


def _settle(source, target, row, done, refused, vouched=False):
    """Verify one image and give it its final name, or note why not.

    `row` is None where the manifest has no checksum; `vouched`: the source is from an archive that has its MD5.
    """
    if target.exists():
        result, names = manifest.check(target, row), done.kept
        vouched = vouched and source is not None and filecmp.cmp(source, target, shallow=False)
        if result.status == "differs":
            refused.append(f"{target} is there already and differs ({result.detail}); move it away")
            return
    elif source is None:
        refused.append(f"{target.name} was not found")
        return
    else:
        result, names = manifest.check(source, row, decode=True), done.added
        if result.status == "differs":
            refused.append(f"{target.name} is refused: {result.detail}")
            return
        with results.atomic(target) as temporary:
            shutil.copyfile(source, temporary)
    names.append(target.name)
    if result.status == "unknown" and not vouched:
        done.unchecked.append(target.name)


def _complain(part, refused):
    if refused:
        more = f" (and {len(refused) - 1} more; those that agree are kept)" if len(refused) > 1 else ""
        raise ValueError(f"{part.manifest}: {refused[0]}{more}")


def _fetch_archive(key, part, folder, done, progress, from_dir):
    from tqdm import tqdm

    names = [f"{number:04}.png" for number in ARCHIVE_NAMES[key]]
    known = manifest.rows(part)
    refused = []
    with _scratch(folder) as temporary:
        sources, vouched = {}, False
        if not all((folder / name).exists() for name in names):
            sources, vouched = _archive_files(key, part, folder, temporary, progress, from_dir)
        for name in tqdm(names, desc=f"{part.manifest}: verify", unit="image", disable=not progress):
            _settle(sources.get(name), folder / name, known.get(name), done, refused, vouched)
    (folder / _archive_name(key)).unlink(missing_ok=True)
    _complain(part, refused)
    notes = [f"{ARCHIVES[key].name} has its published MD5"] if vouched else []
    if done.unchecked:
        notes.append(f"no checksum is shipped for {len(done.unchecked)} of these images")
    done.note = "; ".join(notes)


def _archive_files(key, part, folder, temporary, progress, from_dir) -> tuple[dict[str, Path], bool]:
    """({file name: path}, whether a verified archive holds them) of the archive's images, or a local folder's."""
    url, _ = ARCHIVES[key]
    if from_dir is not None and not (from_dir / ARCHIVES[key].name).is_file():
        folders = [from_dir, *(sets.resolve(from_dir, name) for name in part.folders)]
        return {path.name: path for each in reversed(folders) if each for path in sets.files_in(each)}, False
    if from_dir is not None:
        archive = from_dir / ARCHIVES[key].name
    else:
        # Kept under a hidden name until the set is complete: a run that is cut short need not load 3.5 GB again.
        archive = folder / _archive_name(key)
        if not archive.exists():
            _download(url, folder, archive.name, progress)
    _check_md5(key, archive, again="take another copy" if from_dir else "run again to download it anew")
    return {path.name: path for path in unpack(archive, temporary / "unpacked")}, True


def _check_md5(key, archive, again):
    """Refuse an archive that is not the published one; our own hidden copy is deleted, not met again."""
    _, expected = ARCHIVES[key]
    try:
        with open(archive, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {archive}: {error.strerror or error}") from error
    if found != expected:
        if archive.name == _archive_name(key):
            archive.unlink()
        raise ValueError(f"{ARCHIVES[key].name} is refused: its MD5 is {found}, not {expected}; {again}")


@contextlib.contextmanager
def _scratch(folder):
    """An empty folder in another for a while, no second process's. What a killed one left, 4 GB perhaps, goes first."""
    from filelock import FileLock

    for left in folder.glob(".fetch*"):
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)
    try:
        own = Path(tempfile.mkdtemp(dir=folder, prefix=f".fetch-{socket.gethostname()}-"))
        (own / "files").mkdir()
        lock = FileLock(own / "lock")
        lock.acquire()
    except OSError as error:
        raise ValueError(f"cannot write {folder}/: {error.strerror or error}") from error
    try:
        yield own / "files"
    finally:
        lock.release()
        shutil.rmtree(own, ignore_errors=True)


def _is_left(scratch) -> bool:
    """Whether nobody works in a scratch folder any more; one that is new may not have its lock yet.

    A lock may not be seen on another machine: its folder is left alone for a day.
    """
    from filelock import FileLock, Timeout

    ours = scratch.name.rpartition("-")[0] == f".fetch-{socket.gethostname()}"
    try:
        newest = max(path.stat().st_mtime for path in (scratch, *scratch.rglob("*")))
        if time.time() - newest < (_NEW if ours else _STALE):
            return False
        with FileLock(scratch / "lock", timeout=0):
            return True
    except (OSError, Timeout):  # gone meanwhile, or in use
        return False


def _archive_name(key) -> str:
    return f".{ARCHIVES[key].name}"


def _download(url, folder, name, progress=False) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # its warnings print the checksum of every file
    bar = progress and sys.stderr is not None
    keeper = pooch.create(folder, base_url="", registry={name: None}, urls={name: url}, retry_if_failed=RETRIES)
    try:
        return Path(keeper.fetch(name, downloader=pooch.HTTPDownloader(progressbar=bar, timeout=60)))
    except (requests.RequestException, OSError) as error:
        silent = isinstance(error, requests.ConnectionError | requests.Timeout)
        reason = "no connection, or no answer" if silent else " ".join(str(error).split())[:200]
        raise ValueError(f"cannot download {url}: {reason}; run again to continue, or use --from-dir") from error


def _make(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make {folder}: {error.strerror or error}") from error
