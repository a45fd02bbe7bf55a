"""Decoded pixels that are kept on disk are those that decoding gives, and are renewed when a file is another."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from carlib import data
from carlib.data import decoded, sets


@pytest.fixture
def demo(home, monkeypatch):
    """The set demo, kept decoded."""
    monkeypatch.delenv("CARLIB_DECODED", raising=False)
    monkeypatch.setitem(sets.SETS, "demo", replace(sets.SETS["demo"], mapped=True))
    return home / "results" / "decoded"


@pytest.fixture
def three(tmp_path):
    """Three small images of different shapes, one of them grey."""
    draw = np.random.default_rng(0)
    shapes = {"a": (4, 6, 3), "b": (5, 3), "c": (2, 9, 3)}
    return [
        data.write_image(tmp_path / f"{name}.png", draw.integers(0, 256, shape, np.uint8))
        for name, shape in shapes.items()
    ]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("CARLIB_DECODED", str(tmp_path / "kept"))
    return tmp_path / "kept"


def assert_same(found, files):
    assert len(found) == len(files)
    for image, file in zip(found, files, strict=True):
        np.testing.assert_array_equal(image, data.read_image(file), strict=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_mapped_set_loads_the_same_images_without_decoding_them_again(demo, monkeypatch):
    files = data.find("demo")
    assert [stem for stem, _ in data.load("demo")] == [file.stem for file in files]
    assert len(names(demo)) == 1 and names(demo)[0].startswith("demo-")
    found = [image for _, image in data.load("demo")]
    assert_same(found, files)
    monkeypatch.setattr(decoded.images, "read_image", None)  # needed no more
    assert len(list(data.load("demo"))) == len(files)
    with pytest.raises(ValueError, match="read-only"):
        found[0][0, 0] = 0


def test_some_images_of_a_mapped_set_are_read_as_of_any(demo):
    assert len(list(data.load("demo", limit=2))) == 2
    assert not demo.exists()


def test_grey_and_colour_of_any_shape(three, kept):
    for _ in range(2):  # written, and read
        assert_same(decoded.mapped("three", three), three)


@pytest.mark.parametrize(("days", "left"), [(6, 2), (8, 1)])
def test_a_file_that_changed_renews_the_pixels_and_removes_what_nobody_used_for_a_week(three, kept, days, left):
    """Another node of a cluster may have the old ones mapped."""
    decoded.mapped("three", three)
    (before,) = names(kept)
    os.utime(kept / before, (time.time(), time.time() - days * 86400))
    data.write_image(three[1], 255 - data.read_image(three[1]))
    os.utime(three[1], ns=(1, 1))
    assert_same(decoded.mapped("three", three), three)
    assert len(names(kept)) == left and (before in names(kept)) == (left == 2)


def test_the_key_is_of_pillows_version_what_reads_files_and_their_times(three, monkeypatch):
    keys = [decoded._key(three), decoded._key(three)]
    assert keys[0] == keys[1]
    stat = three[1].stat()
    os.utime(three[1], ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    keys.append(decoded._key(three))
    monkeypatch.setattr(decoded.PIL, "__version__", "0.0")
    keys.append(decoded._key(three))
    monkeypatch.setattr(decoded, "sixteen", decoded.images)
    keys.append(decoded._key(three))
    assert len(set(keys)) == 4


def test_who_maps_pixels_uses_them(three, kept):
    decoded.mapped("three", three)
    (name,) = names(kept)
    os.utime(kept / name, (1, 1))
    decoded.mapped("three", three)
    assert time.time() - (kept / name).stat().st_mtime < 60


def test_pixels_cut_short_are_renewed(three, kept):
    decoded.mapped("three", three)
    path = kept / names(kept)[0]
    for size in (path.stat().st_size - 1, 10, 0):
        os.truncate(path, size)
        assert_same(decoded.mapped("three", three), three)


def test_a_bad_image_leaves_nothing_and_is_named(three, kept, capsys):
    three[2].write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"c\.png is not an image"):
        decoded.mapped("three", three)
    assert names(kept) == [] and "into memory" not in capsys.readouterr().err  # nothing is made twice


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from carlib.data import decoded

    files, read = [Path(name) for name in sys.argv[1:]], decoded.images.read_image

    def die_at_the_last(file):
        if file == files[-1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(file)

    decoded.images.read_image = die_at_the_last
    decoded.mapped("three", files)
"""


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_what_a_killed_process_left_is_removed(three, kept):
    code = "\n".join(line.removeprefix("    ") for line in KILLED.splitlines())
    done = subprocess.run([sys.executable, "-c", code, *map(str, three)], capture_output=True, check=False)
    assert done.returncode == -9 and len(names(kept)) == 1 and names(kept)[0].startswith(".three-")
    assert_same(decoded.mapped("three", three), three)
    assert len(names(kept)) == 1 and names(kept)[0].startswith("three-")


def test_several_processes_write_once(three, kept):
    code = "import sys; from pathlib import Path; from carlib.data import decoded\n"
    code += "print(sum(int(i.sum()) for i in decoded.mapped('three', [Path(name) for name in sys.argv[1:]])))"
    command = [sys.executable, "-c", code, *map(str, three)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=120) for process in started]
    assert {out for out, _ in told} == {f"{sum(int(data.read_image(file).sum()) for file in three)}\n"}
    assert sum("decoding" in error for _, error in told) == 1


def test_where_nothing_can_be_written_images_are_decoded_into_memory(three, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CARLIB_DECODED", str(tmp_path / "file"))
    assert_same(decoded.mapped("three", three), three)
    assert "three: decoding into memory: " in capsys.readouterr().err
