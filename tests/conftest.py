"""Fixtures: reproducible tensors, and results/ away from the checkout."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
# pytest-xdist runs a process a core; their threads must not fight over them (set before torch is imported).
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project folder of its own: params.yaml and data of the checkout, an empty results/."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.setenv("CARLIB_HOME", str(tmp_path))
    monkeypatch.delenv("CARLIB_DATA", raising=False)
    return tmp_path


@pytest.fixture
def carlib(home, monkeypatch, capsys):
    """carlib("data", "list") -> exit code, stdout, stderr, of `main` itself."""

    from carlib import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["carlib", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        return end.value.code, output.out, output.err

    return run


@pytest.fixture
def declare(home):
    """declare(name={...}, ...) makes these the only runs, each a bicubic-edsr-x2 with other numbers under smoke."""

    def write(**own):
        content = yaml.safe_load((home / "params.yaml").read_text())
        base = {"downscaler": "bicubic", "upscaler": "edsr", "scale": 2}
        content["runs"] = {name.replace("_", "-"): base | {"smoke": numbers} for name, numbers in own.items()}
        (home / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    return write


@pytest.fixture
def one_thread():
    """PyTorch on one thread, for tiny tensors."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_irn(monkeypatch):
    """IRN's mini size with two couplings a level, fewer convolutions, and with the published random z."""
    from carlib import models

    monkeypatch.setitem(models.SIZES["irn"], "mini", {"blocks": 2, "growth": 4, "clamp": 2.0, "noise": 1.0})


@pytest.fixture
def rng():
    return np.random.default_rng(7)
