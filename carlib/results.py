"""The layout of results/: one folder a profile, every file written atomically (artefacts.py: with its origin).

results/<profile>/metrics/*.csv      long-form rows: ROW_COLUMNS, or those that the module which measured them names
results/<profile>/tables/*.csv       the paper's tables, ours beside the printed value; as .md and .tex too
results/<profile>/figures/*.png      pictures, as .pdf too, or two for a slider; tables and pictures have a .json
                                     sidecar (title, alt, caption, command)
results/<profile>/provenance/        a .json for each of these files: what made it (carlib.artefacts)
results/<profile>/kept/*.json        rows that take long to measure (carlib.kept; ignored by git)
results/<profile>/runs/<run>/        weights, checkpoint, log and curve of a training run (ignored by git)
results/<profile>/notebooks/         the notebooks as they were run (ignored by git)
results/<profile>/study/<task>/      kits of the user study (carlib.user_study.study_kit; ignored by git)
results/<profile>/jobs/<run>/        its jobs on a cluster (carlib.jobs; ignored by git)
results/<profile>/report/index.html  the page
results/bench.csv, .png, networks.csv what `carlib bench` and `carlib models` measured
results/decoded/                     pixels of large image sets, and of LR images to train on (carlib.data.decoded;
                                     ignored by git)
"""

import contextlib
import os
import tempfile
import threading
from pathlib import Path

_ONE_AT_A_TIME = threading.Lock()
ROW_COLUMNS = ["run", "profile", "downscaler", "upscaler", "scale", "set", "image", "protocol", "metric", "value"]


def root() -> Path:
    """The project's folder: CARLIB_HOME, else the nearest parent of the working folder that holds params.yaml.

    Raises:
        ValueError: there is none.
    """
    if home := os.environ.get("CARLIB_HOME"):
        return Path(home).expanduser().resolve()  # a notebook's kernel has another working folder
    for folder in [Path.cwd(), *Path.cwd().parents]:
        if (folder / "params.yaml").is_file() and (folder / "carlib").is_dir():
            return folder
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "params.yaml").is_file():
        return checkout
    raise ValueError("no params.yaml in this folder or above it: run inside a clone of the project, or set CARLIB_HOME")


def folder(profile: str, *parts: str) -> Path:
    """results/<profile>/<parts>, not created."""
    return root().joinpath("results", profile, *parts)


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on failure.

    Raises:
        ValueError: the folder cannot be written to, or the disk is full (the file that was there stays as it was).
    """
    try:
        path = Path(path).resolve()  # a link stays one, what it leads to is written
    except (OSError, RuntimeError) as error:  # Python before 3.13: a link that leads to itself
        raise ValueError(f"cannot write {path}: {error}") from error
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"cannot write {path}: it is no regular file")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(lock):
    """Hold a lock file while something that no second process may do is done; it falls with the process.

    Raises:
        ValueError: the file cannot be made.
    """
    from filelock import FileLock

    held = FileLock(lock)
    try:
        Path(lock).parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except OSError as error:
        raise ValueError(f"cannot write {lock}: {error.strerror or error}") from error
    try:
        yield
    finally:
        held.release()


def check_table(path, columns):
    """Refuse, before work that takes long, a path at which a table with (at least) these columns is not to be written.

    Raises:
        ValueError: as `atomic`; it is no .csv; another file is there, which would be lost.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{path} would be a table: name a .csv file")
    check_writable(path)
    if not path.is_file() or not path.stat().st_size:
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        header = file.readline().rstrip("\n").split(",")
    if not set(columns) <= set(header):
        raise ValueError(f"{path} is there and no such table, it would be lost: name another file")


class _Checked(Exception):
    pass


def check_writable(path):
    """Refuse, before work that takes long, a path that `atomic` could not write to; the file stays as it is.

    Raises:
        ValueError: as `atomic`.
    """
    with contextlib.suppress(_Checked), atomic(path):
        raise _Checked


def _umask() -> int:
    with _ONE_AT_A_TIME:  # of two threads that interleave, one would leave 0
        mask = os.umask(0)
        os.umask(mask)
    return mask


def write_text(path, text: str) -> Path:
    """Write `text` atomically, as UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_bytes(path, content) -> Path:
    """Write bytes (or a buffer) atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)
