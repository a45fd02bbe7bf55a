"""The package without its clone, as `pip install` puts it into other projects: its methods have their weights."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from carlib import method_networks

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "data" / "weights"
USE = """
import numpy, carlib
hr = numpy.arange(48 * 48 * 3, dtype=numpy.uint8).reshape(48, 48, 3)
lr = carlib.downscale(hr, scale=2, method="cnn-cr")  # has no loops that a new place would compile anew
sr = carlib.upscale(lr, scale=2, method="car-lean")
print(carlib.__file__, lr.shape, sr.shape, carlib.upscale(lr, scale=2, method="edsr-jpeg").shape)
"""


def setup(*command, root=ROOT):
    done = subprocess.run([sys.executable, "setup.py", "-q", *command], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def build(folder, root=ROOT):
    """The folder that a wheel becomes under site-packages; what is built stays in `folder`, as pip leaves it."""
    made = [
        "build",
        "--build-base",
        folder / "build",
        "bdist_wheel",
        "--dist-dir",
        folder,
        "--bdist-dir",
        folder / "all",
    ]
    setup("egg_info", "--egg-base", folder, *made, root=root)
    shutil.rmtree(folder / "lib", ignore_errors=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "lib")
    return folder / "lib"


def packaged(built):
    return {path.name: path for path in (built / "carlib" / method_networks.PACKAGED.name).iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def clone(tmp_path):
    """A clone whose carlib/ and weights can be changed; other files are not needed to build."""
    folder = tmp_path / "clone"
    for name in ("carlib", "data/weights"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def python(built, tmp_path):
    """Runs Python in an empty folder, with the built package alone."""
    environment = {name: value for name, value in os.environ.items() if name != "CARLIB_HOME"}

    def run(*arguments, **variables):
        variables = {**environment, "PYTHONPATH": str(built), **variables}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    return run


def test_it_holds_the_weights_of_every_method_and_no_others(built):
    runs = {*method_networks.PAIRS.values(), *method_networks.EDSR.values()}
    wanted = {f"{run.format(scale)}.safetensors" for run in runs for scale in (2, 3, 4, 8)}
    wanted &= {path.name for path in WEIGHTS.iterdir()}
    wanted = wanted - {"car-edsr-x8.safetensors"} | {"car-edsr-x8-seed1.safetensors"}  # which is better
    found = packaged(built)
    assert set(found) == wanted and {"car-edsr-x2.safetensors", "bicubic-edsr-x8-jpeg.safetensors"} <= wanted
    assert all(path.read_bytes() == (WEIGHTS / name).read_bytes() for name, path in found.items())


@pytest.mark.parametrize("run", ["car-edsr-x{}", "bicubic-edsr-x{}"])
def test_no_seed_is_much_better_than_the_one_that_is_taken(run):
    """By validation, which chose their weights."""
    for scale, taken in method_networks.files(run, WEIGHTS).items():
        seeds = [run.format(scale), *(f"{run.format(scale)}-seed{seed}" for seed in (1, 2))]
        found = {name: pd.read_csv(WEIGHTS / f"{name}.csv").psnr.max() for name in seeds}
        assert max(found.values()) - found[taken.stem] < 0.2, found


def test_it_scales_images_where_no_clone_is_near(built, python):
    done = python("-c", USE)
    assert done.stdout == f"{built}/carlib/__init__.py (24, 24, 3) (48, 48, 3) (48, 48, 3)\n", done.stderr


def test_what_needs_the_clone_says_so(python):
    done = python("-m", "carlib", "train", "car-edsr-x2")
    assert done.returncode == 2 and "run inside a clone of the project, or set CARLIB_HOME" in done.stderr


def test_carlib_home_names_the_clone_whose_weights_are_taken(python, tmp_path):
    done = python("-c", USE, CARLIB_HOME=str(tmp_path))
    assert "no weights of cnn-cr-cnn-sr are shipped for scale 2, for no scale" in done.stderr.splitlines()[-1]


def test_what_was_built_before_leaves_nothing_behind(clone, tmp_path):
    (clone / "carlib" / "gone.py").touch()
    built = build(tmp_path, clone)
    assert (built / "carlib" / "gone.py").is_file()
    (clone / "carlib" / "gone.py").unlink()
    (clone / "data" / "weights" / "tad-tau-x4.safetensors").unlink()
    other = clone / "data" / "weights" / "car-edsr-x2.safetensors"
    other.write_bytes(b"other")
    os.utime(other, (0, 0))
    build(tmp_path, clone)
    assert not (built / "carlib" / "gone.py").exists()
    assert "tad-tau-x4.safetensors" not in packaged(built)
    assert packaged(built)["car-edsr-x2.safetensors"].read_bytes() == b"other"


def test_without_the_weights_of_a_method_nothing_is_built(clone, tmp_path):
    for path in (clone / "data" / "weights").glob("irn-*"):
        path.unlink()
    with pytest.raises(AssertionError, match=r"data/weights has no irn-irn-xN\.safetensors: build carlib from a whole"):
        build(tmp_path, clone)


def test_the_clone_is_not_built_over(clone):
    with pytest.raises(AssertionError, match=r"--build-lib \. is the clone itself"):
        setup("build_py", "--build-lib", ".", root=clone)
    assert (clone / "carlib" / "cli.py").is_file()


def test_an_editable_install_needs_and_copies_no_weights(clone, tmp_path):
    shutil.rmtree(clone / "data")
    setup("editable_wheel", "--dist-dir", tmp_path, root=clone)
    (wheel,) = tmp_path.glob("*.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "shipped" in name]
    assert not (clone / "carlib" / "shipped").exists()


def test_a_source_distribution_holds_them_too(tmp_path):
    setup("egg_info", "--egg-base", tmp_path)
    listed = (tmp_path / "carlib.egg-info" / "SOURCES.txt").read_text().split()
    assert {"setup.py", "data/weights/irn-irn-x4.safetensors"} < set(listed)


def test_the_methods_are_known_where_only_the_standard_library_is():
    """pip builds there."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from carlib import method_networks"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
