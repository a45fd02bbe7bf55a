"""`carlib check`: what is whole is said to be, and what is not is found."""

import hashlib
import importlib
import shutil
from pathlib import Path

import pytest

from carlib import check, codecs

resample = importlib.import_module("carlib.ops.resample")  # the package's `resample` is the function
ROOT = Path(__file__).resolve().parent.parent


def passed(lines):
    return {line.what: line.passed for line in lines}


@pytest.fixture
def clone(home):
    """A project with a weights folder of its own."""
    (home / "data").unlink()
    shutil.copytree(ROOT / "data" / "demo", home / "data" / "demo")
    (home / "data" / "weights").mkdir()
    for name in ("car-edsr-x2", "bicubic-edsr-x2"):
        shutil.copy(ROOT / "data" / "weights" / f"{name}.safetensors", home / "data" / "weights")
    wanted = (ROOT / "data" / "weights" / check.DIGESTS).read_text().splitlines(keepends=True)
    held = [line for line in wanted if line.split()[1] in ("car-edsr-x2.safetensors", "bicubic-edsr-x2.safetensors")]
    (home / "data" / "weights" / check.DIGESTS).write_text("".join(held))
    return home


def test_the_list_of_digests_is_of_the_weights_that_are_shipped():
    """Anew: cd data/weights && sha256sum *.safetensors > SHA256SUMS"""
    folder = ROOT / "data" / "weights"
    files = sorted(folder.glob("*.safetensors"))
    told = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    assert (folder / check.DIGESTS).read_text() == told


def test_a_whole_clone_passes(carlib, clone):
    code, out, err = carlib("check", "--device", "cpu")
    assert (code, err) == (0, "") and "WRONG" not in out
    for what in ("weights", "operator torch", "operator numba", "codecs", "car-edsr-x2", "bicubic-bicubic-x2"):
        assert f"ok    {what} " in out
    assert "2 shipped files are whole" in out and "38.847 dB on astronaut, 38.847 dB expected" in out


def test_damaged_missing_and_foreign_weights_are_found(carlib, clone):
    folder = clone / "data" / "weights"
    path = folder / "car-edsr-x2.safetensors"
    shutil.copy(path, folder / "mine.safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # a bit of a weight
    path.write_bytes(content)
    (folder / "bicubic-edsr-x2.safetensors").unlink()
    code, out, err = carlib("check", "--device", "cpu")
    line = next(line for line in out.splitlines() if line[6:].startswith("weights "))
    assert code == 1 and line.startswith("WRONG") and "are wrong" in err
    told = "bicubic-edsr-x2.safetensors is missing; car-edsr-x2.safetensors is not what was shipped: `git checkout"
    assert told in line and "-     other weights        mine.safetensors: not shipped, not compared" in out
    assert "no weights are shipped for bicubic-edsr-x2" in out and "ok    bicubic-bicubic-x2 " in out  # all are checked


def test_a_wrong_operator_codec_or_network_is_found(clone, monkeypatch):
    right = resample.resample_op
    monkeypatch.setattr(resample, "resample_op", lambda *arguments: right(*arguments) * 1.001)
    monkeypatch.setattr(codecs, "decode", lambda data, codec: 1)
    monkeypatch.setitem(check._GOLDEN, "car-edsr-x2", 38.947143)
    found = passed(check.lines("cpu"))
    assert not any(found[name] for name in ("operator torch", "operator numba", "codecs", "car-edsr-x2"))
    assert found["bicubic-edsr-x2"] and found["weights"]


@pytest.mark.parametrize("place", range(5))
def test_a_result_or_gradient_that_is_no_number_is_found(home, monkeypatch, place):
    right = check._with_gradients

    def broken(resample, tensors, impl, device):
        found = right(resample, tensors, impl, device)
        if impl == "numba":
            found[place].view(-1)[7] = float("nan")
        return found

    monkeypatch.setattr(check, "_with_gradients", broken)
    found = passed(check._operator("cpu"))
    assert found["operator torch"] and not found["operator numba"]


def test_a_photograph_that_is_damaged_or_gone_is_told(clone):
    path = clone / "data" / "demo" / "astronaut.png"
    path.write_bytes(path.read_bytes()[:1000])
    damaged = {line.what: line for line in check._networks("cpu")}
    assert "astronaut.png" in damaged["car-edsr-x2"].told and not any(line.passed for line in damaged.values())
    other = clone / "data" / "demo" / "aaa.png"
    shutil.copy(clone / "data" / "demo" / "china.png", other)
    (before,) = check._networks("cpu")
    assert before.passed is None and "a file that was not shipped, aaa" in before.told
    other.unlink()
    path.unlink()
    (gone,) = check._networks("cpu")
    assert gone.passed is False and "astronaut.png is missing: `git checkout data/demo`" in gone.told


def test_without_a_clone_what_cannot_be_compared_is_said_to_be(home, monkeypatch):
    def absent(*parts):
        raise ValueError("missing")

    monkeypatch.setattr(check.sets, "shipped", absent)
    monkeypatch.setattr(check.results, "root", absent)
    found = passed(check.lines("cpu"))
    assert found["weights"] is found["networks"] is None and found["operator numba"] and found["codecs"]


def test_a_device_that_is_not_there_is_one_line(carlib, home):
    code, out, err = carlib("check", "--device", "nonsense")
    assert code == 2 and out == "" and len(err.splitlines()) == 1
