"""The package without its clone, as `pip install` puts it into other projects: its methods have their weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carlib import method_networks

ROOT = Path(__file__).resolve().parent.parent
USE = """
import numpy, carlib
hr = numpy.arange(48 * 48 * 3, dtype=numpy.uint8).reshape(48, 48, 3)
lr = carlib.downscale(hr, scale=2, method="car-lean")
sr = carlib.upscale(lr, scale=2, method="car-lean")
print(carlib.__file__, lr.shape, sr.shape, carlib.upscale(lr, scale=2, method="edsr-jpeg").shape)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder that a built package has under site-packages."""
    folder = tmp_path_factory.mktemp("built")
    command = ["egg_info", "--egg-base", folder, "build_py", "--build-lib", folder / "lib"]
    subprocess.run([sys.executable, "setup.py", "-q", *command], cwd=ROOT, check=True)
    return folder / "lib"


@pytest.fixture
def python(built, tmp_path):
    """Runs Python in an empty folder, with the built package alone."""
    environment = {name: value for name, value in os.environ.items() if name != "CARLIB_HOME"}
    environment["PYTHONPATH"] = str(built)

    def run(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_it_holds_the_weights_of_every_method_and_no_others(built):
    runs = {*method_networks.PAIRS.values(), *method_networks.EDSR.values()}
    shipped = {path.name: path for path in (ROOT / "data" / "weights").glob("*.safetensors")}
    wanted = {name for name in shipped for scale in range(2, 10) for run in runs if name[:-12] == run.format(scale)}
    packaged = {path.name: path for path in (built / "carlib" / method_networks.PACKAGED.name).iterdir()}
    assert set(packaged) == wanted and {"car-edsr-x2.safetensors", "bicubic-edsr-x8-jpeg.safetensors"} <= wanted
    assert all(path.read_bytes() == shipped[name].read_bytes() for name, path in packaged.items())


def test_it_scales_images_where_no_clone_is_near(built, python):
    done = python("-c", USE)
    assert done.stdout == f"{built}/carlib/__init__.py (24, 24, 3) (48, 48, 3) (48, 48, 3)\n", done.stderr


def test_what_needs_the_clone_says_so(python):
    done = python("-m", "carlib", "train", "car-edsr-x2")
    assert done.returncode == 2 and "run inside a clone of the project, or set CARLIB_HOME" in done.stderr
