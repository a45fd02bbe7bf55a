"""Unpack a zip or tar file that nobody vouches for: plain files below one folder, at most so many bytes."""

import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

MAX_BYTES = 16 * 2**30  # DIV2K's training images take 3.8 GB
MAX_FILES = 100_000
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
    EOFError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


def unpack(archive, into, *, max_bytes: int = MAX_BYTES) -> list[Path]:
    """Unpack a zip or tar file (gzip, bzip2 and xz included).

    Every member is examined before the first is written, and nothing appears in `into` unless all can be unpacked.

    Args:
        archive:   the file; its content decides the format, not its name.
        into:      the folder, made if it is not there; files of the same name are replaced.
        max_bytes: cap on the sum of the unpacked sizes.
    Returns:
        the files written, sorted.
    Raises:
        ValueError: not an archive, damaged, a member that is absolute, climbs out with .., is a link or a device, is
            encrypted, or more than `max_bytes` or 100 000 members.
    """
    archive, into = Path(archive), Path(into)
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".unpack-") as temporary:
            if zipfile.is_zipfile(archive):
                names = _unzip(archive, Path(temporary), max_bytes)
            elif tarfile.is_tarfile(archive):
                names = _untar(archive, Path(temporary), max_bytes)
            else:
                raise ValueError("it is neither a zip nor a tar file")
            return sorted(_move(Path(temporary) / name, into / name) for name in set(names))
    except OSError as error:
        raise ValueError(f"cannot unpack {archive}: {error.strerror or error}") from error
    except _BROKEN as error:
        raise ValueError(f"cannot unpack {archive}: {' '.join(str(error).split())}") from error


def _unzip(archive, folder, max_bytes) -> list[str]:
    with zipfile.ZipFile(archive) as handle:
        budget = _Budget(max_bytes)
        for member in handle.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"{member.filename!r} is a link or a device")
            if member.flag_bits & 1:
                raise ValueError(f"{member.filename!r} is encrypted")
            budget.admit(member.filename, member.file_size)
        files = [member for member in handle.infolist() if not member.is_dir()]
        for member in files:
            # ZipExtFile stops at the declared size and checks the CRC, so a header cannot understate a bomb
            with handle.open(member) as source:
                _write(source, folder / member.filename)
    return [member.filename for member in files]


def _untar(archive, folder, max_bytes) -> list[str]:
    with tarfile.open(archive) as handle:
        budget = _Budget(max_bytes)
        for member in handle:
            if not (member.isreg() or member.isdir()):
                raise ValueError(f"{member.name!r} is a link or a device")
            budget.admit(member.name, member.size)
        files = [member for member in handle if member.isreg()]
        for member in files:  # not by extractall, whose safe filter Python has from 3.11.4 on only (Debian 12: 3.11.2)
            with handle.extractfile(member) as source:
                _write(source, folder / member.name)
    return [member.name for member in files]


def _write(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 2**20)


class _Budget:
    """Counts what the members will take, and looks at their names."""

    def __init__(self, max_bytes):
        self.max_bytes, self.bytes, self.files = max_bytes, 0, 0

    def admit(self, name, size):
        parts = PurePosixPath(name).parts
        if name.startswith("/") or PureWindowsPath(name).drive or PureWindowsPath(name).root:
            raise ValueError(f"{name!r} is an absolute path")
        if ".." in parts or "\\" in name:
            raise ValueError(f"{name!r} leads out of the folder")
        self.bytes, self.files = self.bytes + size, self.files + 1
        if self.bytes > self.max_bytes:
            raise ValueError(f"it unpacks to more than max_bytes={self.max_bytes}")
        if self.files > MAX_FILES:
            raise ValueError(f"it has more than {MAX_FILES} members")


def _move(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return source.replace(target)
