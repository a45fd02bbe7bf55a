"""LR images of training sets are made once, and are those that the downscaler of now makes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from short_runs import smoke

from carlib import provenance, rescale, sources
from carlib.training import lr_images, patches


@pytest.fixture
def folder(home, monkeypatch):
    monkeypatch.delenv("CARLIB_DECODED", raising=False)
    monkeypatch.setattr(sources, "_BEGUN", float("inf"))  # whoever edits while tests run
    return home / "results" / "decoded"


@pytest.fixture
def made(monkeypatch):
    """A list to which every call of a downscaler adds its name."""
    calls, downscale = [], rescale.downscale
    monkeypatch.setattr(rescale, "downscale", lambda *args, **kw: calls.append(kw["method"]) or downscale(*args, **kw))
    return calls


def hr_images(*sides):
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (side, side + 4, 3), np.uint8) for side in sides]


def of(name, scale=2):
    return smoke(f"bicubic-edsr-x{scale}", downscaler=name)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("name", ["bicubic", "dpid-0.5", "l0-surrogate"])
def test_they_are_the_downscalers_and_made_once(folder, made, name):
    hr = hr_images(16, 24)
    expected = [rescale.classical(name)(image, 2) for image in hr]
    for _ in range(2):  # written, and read
        for lr, wanted in zip(lr_images.of_run(of(name), hr), expected, strict=True):
            np.testing.assert_array_equal(lr, wanted, strict=True)
    assert len(made) == 4 and len(names(folder)) == 1  # two of them expected


def test_other_images_scales_and_downscalers_have_others(folder, made):
    hr = hr_images(16, 24)
    lr_images.of_run(of("bicubic"), hr)
    for changed, run in (
        (hr[::-1], of("bicubic")),
        ([hr[0], hr[1] ^ 1], of("bicubic")),
        (hr, of("bicubic", 4)),
        (hr, of("box")),
    ):
        before = len(made)
        found = lr_images.of_run(run, changed)
        assert len(made) == before + 2
        for lr, image in zip(found, changed, strict=True):
            np.testing.assert_array_equal(lr, rescale.classical(run.classical)(image, run.scale))


@pytest.mark.parametrize("file", ["downscalers/dpid.py", "ops/blocks.py", "rescale.py"])
def test_other_code_of_the_downscaler_makes_them_anew(folder, made, tmp_path, monkeypatch, file):
    package = shutil.copytree(sources._PACKAGE, tmp_path / "carlib", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "_PACKAGE", package)
    lr_images.of_run(of("dpid-0.5"), hr_images(16))
    before = names(folder)
    (package / "losses.py").write_text("other = 1\n")  # no part of it
    lr_images.of_run(of("dpid-0.5"), hr_images(16))
    assert len(made) == 1
    path = package / file
    path.write_text(path.read_text() + "other = 1\n")
    os.utime(path, ns=(1, 1))
    lr_images.of_run(of("dpid-0.5"), hr_images(16))
    assert len(made) == 2 and set(before) < set(names(folder))


def test_other_options_and_versions_make_them_anew(folder, made, monkeypatch):
    lr_images.of_run(of("dpid-0.5"), hr_images(16))
    monkeypatch.setitem(rescale.CLASSICAL, "dpid-0.5", {"method": "dpid", "lambda_": 0.25})
    lr_images.of_run(of("dpid-0.5"), hr_images(16))
    monkeypatch.setattr(provenance, "versions", lambda: {"numba": "another"})
    lr_images.of_run(of("dpid-0.5"), hr_images(16))
    assert len(made) == 3


def test_a_process_whose_code_was_edited_neither_reads_nor_writes_them(folder, made, monkeypatch):
    lr_images.of_run(of("box"), hr_images(16))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(sources, "_BEGUN", 0.0)  # every file is newer
    lr_images.of_run(of("box"), hr_images(16))
    assert len(made) == 2 and before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_where_nothing_can_be_written_they_are_made_in_memory(tmp_path, home, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CARLIB_DECODED", str(tmp_path / "file"))
    (lr,) = lr_images.of_run(of("box"), hr_images(16))
    np.testing.assert_array_equal(lr, rescale.classical("box")(hr_images(16)[0], 2))
    assert "demo-box-x2: downscaling into memory: " in capsys.readouterr().err


def test_processes_that_start_at_once_make_them_once(folder):
    code = "from short_runs import smoke; from carlib.training import patches\n"
    code += "print(sum(int(lr.sum()) for lr in patches.Patches(smoke('bicubic-edsr-x2')).lr))"
    command, environment = [sys.executable, "-c", code], os.environ | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options["cwd"] = Path(__file__).parent
    started = [subprocess.Popen(command, **options) for _ in range(2)]
    told = [process.communicate(timeout=600) for process in started]
    found = patches.Patches(smoke("bicubic-edsr-x2"))
    total = sum(int(rescale.classical("bicubic")(image, 2).sum()) for image in found.hr)
    assert [out for out, _ in told] == [f"{total}\n"] * 2, told
    assert sum("downscaling: " in error for _, error in told) == 1
