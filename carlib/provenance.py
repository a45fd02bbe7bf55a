"""What made a result: commit, weights, versions, machine (carlib/artefacts.py writes it beside each)."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

_PACKAGES = (
    "carlib", "imagecodecs", "matplotlib", "numba", "numpy", "pandas", "pillow", "scikit-image", "scipy", "torch",
)  # fmt: skip
_used = {}  # run -> what is known of the weights that this process has loaded


def loaded_weights() -> dict:
    """Run -> digest, profile, seed and commit of the weights that this process has loaded until now."""
    return dict(sorted(_used.items()))


def used_weights(path, metadata):
    """Remember that this process has loaded a run's weights.

    Args:
        path:     the weights file.
        metadata: its header (see carlib.weights).
    """
    _used[metadata.get("run", Path(path).stem)] = {
        "sha256": sha256(path),
        **{name: metadata.get(name) for name in ("profile", "seed", "commit")},
    }


def versions() -> dict:
    """Python's version and those of the packages that results are computed with; None where one is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def machine() -> str:
    """Processor, cores, PyTorch's threads and version, such as "AMD EPYC, 2 cores, 1 thread, torch 2.13.0"."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    plural = "" if threads == 1 else "s"
    return f"{model}, {os.cpu_count()} cores, {threads} thread{plural}, torch {torch.__version__}"


def processor(machine: str) -> str:
    """Of what `machine` says the part that does not change with threads and versions: "AMD EPYC, 2 cores"."""
    return ", ".join(machine.split(", ")[:2])


def commit() -> str:
    """The project's commit, "-dirty" if code, parameters or data differ from it, "unknown" outside a git checkout."""
    name = git("describe", "--always", "--exclude=*")
    if not name:
        return "unknown"
    # Results are committed too, and the pipeline has just written some; so has each trial in its list of them.
    decisive = ("carlib", "notebooks", "data", "params.yaml", "dvc.yaml", ":!data/trials.csv")
    changed = git("status", "--porcelain", "--", *decisive)
    return f"{name}-dirty" if changed else name


def git(*arguments) -> str:
    """What git answers in the project's folder; "" where it is not installed or refuses."""
    from carlib import results

    try:
        done = subprocess.run(["git", *arguments], cwd=results.root(), capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return ""
    return done.stdout.strip()


@functools.cache
def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def sha256(path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
