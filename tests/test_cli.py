"""The command and its two doors for images: exit codes, one line on stderr for a refusal, and nothing half-written."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from refusals import assert_refused
from torch import nn

from carlib import data, imresize, models, rescale, results, runs, weights, zssr

COMMANDS = (
    "downscale", "upscale", "train", "experiments", "evaluate", "bench", "models", "notebook", "report", "data",
    "data list", "data verify", "data fetch", "study", "study make", "study analyse", "check", "measure", "trial",
)  # fmt: skip


@pytest.fixture
def image(tmp_path):
    """A PNG of 24 x 16 pixels (width x height)."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return data.write_image(tmp_path / "hr.png", pixels)


@pytest.fixture
def pair(tmp_path):
    """A weights file of an untrained CAR and EDSR at x2."""
    run = runs.get("car-edsr-x2", "smoke")
    networks = nn.ModuleDict({role: models.create(**options) for role, options in run.networks().items()})
    weights.save(networks, tmp_path / "pair.safetensors", {"networks": run.networks()})
    return tmp_path / "pair.safetensors"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(carlib, command):
    code, out, err = carlib(*command.split(), "--help")
    usage = out.partition("\n\n")[0]  # begins with the program's name, here pytest's
    assert (code, err) == (0, "") and f"carlib {command}".rstrip() in usage and "--help" in out


def test_no_command_shows_the_help(carlib):
    code, out, err = carlib()
    assert code in (0, 2) and "downscale" in out + err


@pytest.mark.parametrize(("arguments", "told"), [
    (["dwonscale"], "No such command 'dwonscale'"), (["downscale"], "Missing argument"), (["train"], "name a RUN"),
    (["downscale", "a", "b", "--scale", "x"], "Invalid value for '--scale'"),
    (["train", "--foo"], "carlib train --help"), (["data", "fetch", "--foo"], "carlib data fetch --help"),
])  # fmt: skip
def test_a_misuse_is_told_in_one_line(carlib, arguments, told):
    assert_refused(carlib(*arguments), told)


def test_an_installed_command_runs(home):
    """The program itself, and the package as one, in processes of their own."""
    program = Path(sys.executable).with_name("carlib")
    for command in [[program]] * program.is_file() + [[sys.executable, "-m", "carlib"]]:
        done = subprocess.run([*command, "train", "no-such-run"], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("carlib: run 'no-such-run' is unknown") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("code", [
    "import carlib",
    "import sys; sys.argv = ['carlib', '--help']; from carlib.cli import app; app(standalone_mode=False)",
    "import sys; sys.argv = ['carlib', 'train', '--help']; from carlib.cli import app; app(standalone_mode=False)",
])  # fmt: skip
def test_help_does_not_wait_for_torch(code):
    code += "; import sys; heavy = {'torch', 'numpy', 'numba', 'pandas', 'matplotlib', 'skimage'} & set(sys.modules); "
    code += "sys.exit(', '.join(heavy) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_round_trip_on_a_file(carlib, image, tmp_path, scale):
    code, out, err = carlib("downscale", image, tmp_path / "lr.png", "--scale", scale, "--method", "bicubic")
    assert (code, err) == (0, "") and f"{24 // scale}x{16 // scale}, from 24x16 by bicubic x{scale}" in out
    hr, lr = data.read_image(image), data.read_image(tmp_path / "lr.png")
    np.testing.assert_array_equal(lr, imresize(hr, 1 / scale))
    code, _, err = carlib("upscale", tmp_path / "lr.png", tmp_path / "sr.png", "--scale", scale, "--method", "bicubic")
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(data.read_image(tmp_path / "sr.png"), imresize(lr, scale))


@pytest.mark.parametrize(("options", "arguments"), [
    (["--method", "perceptual", "--scale", 2], {"scale": 2, "method": "perceptual"}),
    (["--method", "perceptual", "--variant", "as-published"], {"scale": 4, "method": "perceptual",
                                                               "variant": "as-published"}),
    (["--method", "dpid", "--lambda", 0.5, "--size", "7x5"], {"method": "dpid", "lambda_": 0.5, "size": (5, 7)}),
    (["--method", "dpid", "--rounding", "truncate"], {"scale": 4, "method": "dpid", "rounding": "truncate"}),
    (["--method", "bicubic", "--size", "9x6"], {"method": "bicubic", "size": (6, 9)}),
    (["--method", "l0", "--lambda", "2e-3"], {"scale": 4, "method": "l0", "lambda_": 2e-3}),
])  # fmt: skip
def test_classical_downscalers_take_their_options(carlib, image, tmp_path, options, arguments):
    code, out, err = carlib("downscale", image, tmp_path / "lr.png", *options)
    lr = data.read_image(tmp_path / "lr.png")
    assert (code, err) == (0, "") and f"lr.png: {lr.shape[1]}x{lr.shape[0]}, from 24x16 by {arguments['method']}" in out
    np.testing.assert_array_equal(lr, rescale.downscale(data.read_image(image), **arguments))


@pytest.mark.parametrize(("options", "told"), [
    (["--method", "dpid", "--size", "7x5", "--scale", 2], "give either scale or size"),
    (["--method", "l0", "--size", "7x5"], "'l0' takes no size"),
    (["--method", "dpid", "--size", "25x16"], "size 25x16 is larger than the image of 24x16 (width x height)"),
    (["--method", "dpid", "--size", "7"], "--size '7' is not WIDTHxHEIGHT"),
    (["--method", "dpid", "--size", "7x5²"], "--size '7x5²' is not WIDTHxHEIGHT"),  # isdigit, but no int
    (["--method", "box", "--scale", 40000, "--pad"], "padded to 40000x40000 it would take too much memory"),
    (["--method", "bicubic", "--lambda", 1], "'bicubic' has no lambda"),
    (["--method", "perceptual", "--scale", 32], "the image is 24x16 (width x height), not a multiple of scale=32"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(carlib, image, tmp_path, options, told):
    assert_refused(carlib("downscale", image, tmp_path / "lr.png", *options), told, tmp_path / "lr.png")


def test_car_round_trip_of_an_odd_size(carlib, pair, tmp_path):
    data.write_image(tmp_path / "odd.png", np.random.default_rng(0).integers(0, 256, (15, 23), dtype=np.uint8))
    options = ["--scale", 2, "--weights", pair]
    assert carlib("downscale", tmp_path / "odd.png", tmp_path / "lr.png", "--pad", *options)[0] == 0
    assert data.read_image(tmp_path / "lr.png").shape == (8, 12)
    assert carlib("upscale", tmp_path / "lr.png", tmp_path / "sr.png", "--size", "23x15", *options)[0] == 0
    assert data.read_image(tmp_path / "sr.png").shape == (15, 23)


@pytest.mark.parametrize(("options", "told"), [
    (["--scale", "5", "--method", "bicubic"], "the image is 24x16 (width x height), not a multiple of scale=5"),
    (["--scale", "1", "--method", "bicubic"], "scale=1 is not a whole number >= 2"),
    (["--method", "nearest"], "method 'nearest' is unknown"),
    (["--scale", "5"], "no weights of car-edsr are shipped for scale 5"),  # no padding would help
    (["--weights", "none.safetensors"], "no weights at none.safetensors"),
    (["--method", "bicubic", "--alpha", "blue"], "alpha='blue' is unknown"),
])  # fmt: skip
def test_downscale_refuses_in_one_line(carlib, image, tmp_path, options, told):
    assert_refused(carlib("downscale", image, tmp_path / "lr.png", *options), told, tmp_path / "lr.png")


@pytest.mark.parametrize("size", ["24", "24x", "x16", "24x16x3", "-24x16", "ax16", "0x16", "99x16"])
def test_upscale_refuses_another_size(carlib, image, tmp_path, size):
    outcome = carlib("upscale", image, tmp_path / "sr.png", "--scale", 2, "--method", "bicubic", "--size", size)
    assert_refused(outcome, "size", tmp_path / "sr.png")


def test_upscale_trains_zssr_on_the_image_within_its_budget(carlib, image, tmp_path):
    sr, lr = tmp_path / "sr.png", data.read_image(image)
    code, _, _ = carlib("upscale", image, sr, "--scale", 2, "--method", "zssr", "--steps", 1)
    assert code == 0 and np.array_equal(data.read_image(sr), zssr.restore(lr, 2, steps=1))
    outcome = carlib("upscale", image, sr.with_stem("no"), "--scale", 2, "--method", "edsr", "--steps", 1)
    assert_refused(outcome, "method 'edsr' has no steps: leave steps out, or use method zssr", sr.with_stem("no"))


def test_a_grey_image_is_told_that_car_gains_nothing(carlib, tmp_path):
    photo = data.write_image(tmp_path / "grey.png", np.full((16, 24), 90, np.uint8))
    _, _, err = carlib("downscale", photo, tmp_path / "lr.png", "--scale", 2)
    assert err == f"carlib: {tmp_path / 'lr.png'}: grey images gain nothing by car: see --method best\n"
    for method in ("bicubic", "best"):  # best has tried
        assert carlib("downscale", photo, tmp_path / "lr.png", "--scale", 2, "--method", method)[2] == ""


def test_a_target_that_cannot_hold_the_result_is_refused_before_the_work(carlib, image, tmp_path, monkeypatch):
    from carlib import rescale

    monkeypatch.setattr(rescale, "downscale", None)
    monkeypatch.setattr(rescale, "upscale", None)
    photo = data.write_image(tmp_path / "photo.png", data.read_image(image), profile=b"a profile")
    for command in ("downscale", "upscale"):
        for source, name, told in [
            (image, "a.jpg", "JPEG changes the pixels"),
            (image, "a.txt", "cannot write .txt"),
            (photo, "a.bmp", "BMP holds no colour profile"),
        ]:
            assert_refused(carlib(command, source, tmp_path / name), told, tmp_path / name)


def test_the_source_is_not_overwritten(carlib, image, tmp_path):
    before, link = image.read_bytes(), tmp_path / "link.png"
    link.symlink_to(image)
    for command in ("downscale", "upscale"):
        for target in (image, link, tmp_path / "none" / ".." / image.name):
            code, _, told = carlib(command, image, target, "--method", "bicubic")
            assert code == 2 and "is the source itself, which would be lost" in told
    assert image.read_bytes() == before


def test_an_empty_name_is_not_the_working_folder(carlib, image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for names in (("", "out"), (image, "")):
        for command in ("downscale", "upscale"):
            assert_refused(carlib(command, *names, "--method", "bicubic"), "a name is empty", tmp_path / "out")


def test_the_version_is_said(carlib):
    code, told, _ = carlib("--version")
    assert code == 0 and re.fullmatch(r"carlib \d+\.\d+\.\d+", told.strip())


def test_bad_files_are_refused(carlib, image, tmp_path):
    lr, bicubic = tmp_path / "lr.png", ["--scale", "2", "--method", "bicubic"]
    text, cut, clear = tmp_path / "text.png", tmp_path / "cut.png", tmp_path / "clear.png"
    text.write_text("not an image")
    cut.write_bytes(image.read_bytes()[:200])
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(clear)
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 8), 999, np.uint16)).save(deep)
    for source, told in (
        (tmp_path / "none.png", "no such file"),
        (text, "is not an image"),
        (cut, "cannot read"),
        (clear, "has transparent pixels"),
        (clear, "(--alpha white, black or drop)"),
        (deep, "(--depth round)"),
    ):
        assert_refused(carlib("downscale", source, lr, *bicubic), told, lr)
    assert_refused(carlib("downscale", image, tmp_path / "lr.jpg", *bicubic), "JPEG changes", tmp_path / "lr.jpg")
    assert_refused(carlib("downscale", image, tmp_path / "lr", *bicubic), "cannot write", tmp_path / "lr")
    assert_refused(carlib("downscale", image, text / "lr.png", *bicubic), "cannot write", text / "lr.png")
    assert_refused(
        carlib("downscale", image, tmp_path / "x.png", "--weights", image, "--scale", 2), "hr.png is damaged"
    )
    assert text.read_text() == "not an image"


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("Unable to allocate 9 TiB\nfor an array")])
def test_too_little_memory_is_one_line(carlib, image, tmp_path, monkeypatch, error):
    monkeypatch.setattr(rescale, "downscale", lambda *arguments, **options: (_ for _ in ()).throw(error))
    outcome = carlib("downscale", image, tmp_path / "lr.png", "--method", "box")
    told = "not enough memory (Unable to allocate 9 TiB for an array):" if str(error) else "not enough memory: use a"
    assert_refused(outcome, told, tmp_path / "lr.png")


def test_a_failed_command_leaves_the_earlier_file(carlib, image, tmp_path):
    (tmp_path / "lr.png").write_bytes(image.read_bytes())
    assert carlib("downscale", image, tmp_path / "lr.png", "--scale", "7", "--method", "bicubic")[0] == 2
    assert (tmp_path / "lr.png").read_bytes() == image.read_bytes()


def test_a_full_disk_is_one_line_and_leaves_the_earlier_file(carlib, image, tmp_path, monkeypatch):
    (tmp_path / "lr.png").write_bytes(image.read_bytes())
    before = sorted(path.name for path in tmp_path.iterdir())

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = carlib("downscale", image, tmp_path / "lr.png", "--scale", "2", "--method", "bicubic")
    assert (code, out) == (2, "") and err == f"carlib: cannot write {tmp_path / 'lr.png'}: No space left on device\n"
    assert (tmp_path / "lr.png").read_bytes() == image.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == before  # no temporary file either


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_write_that_fails_inside_leaves_the_earlier_file(tmp_path):
    path = results.write_text(tmp_path / "a.txt", "before")
    with (
        pytest.raises(ValueError, match=r"cannot write .*a\.txt: No space left on device"),
        results.atomic(path),
        open("/dev/full", "w") as full,
    ):
        full.write("x" * 100_000)
    assert path.read_text() == "before" and [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_no_target(carlib, image, tmp_path):
    assert_refused(carlib("downscale", image, tmp_path), "is a folder: name a file in it", tmp_path / "nothing")


def test_more_pixels_are_read_where_they_are_asked_for(carlib, image, tmp_path):
    lr = tmp_path / "lr.png"
    refused = carlib("downscale", image, lr, "--method", "box", "--max-pixels", 383)
    assert_refused(refused, "give max_pixels=384 (--max-pixels)", lr)
    assert carlib("downscale", image, lr, "--method", "box", "--max-pixels", 384)[0] == 0


def test_a_want_of_memory_is_one_line(carlib, image, tmp_path, monkeypatch):
    """PyTorch's own is a RuntimeError of many."""

    def starved(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried\nx"
        )

    monkeypatch.setattr(models.ResamplerNet, "downscale", starved)
    outcome = carlib("downscale", image, tmp_path / "lr.png")
    assert_refused(outcome, "use a smaller image, or with a network a smaller --tile", tmp_path / "lr.png")


def test_a_device_that_is_not_there_is_told(carlib, image, tmp_path):
    outcome = carlib("downscale", image, tmp_path / "lr.png", "--device", "abacus")
    assert_refused(
        outcome, "device 'abacus' cannot be used: there is no such kind, use auto, cpu or cuda", tmp_path / "lr.png"
    )
    refused = carlib("downscale", image, tmp_path / "lr.png", "--method", "box", "--device", "cpu")
    assert_refused(refused, "method 'box' has no device", tmp_path / "lr.png")


@pytest.fixture
def folder(tmp_path):
    """Two photographs, one of which has no multiple of 2 for a side, and a text."""
    names = {"a.png": (16, 24, 3), "B.JPG": (12, 20, 3), "odd.bmp": (15, 24)}
    for seed, (name, shape) in enumerate(names.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        jpeg = {"quality": 90} if name.endswith("JPG") else {}
        data.write_image(tmp_path / "photos" / name, pixels, **jpeg)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def test_every_image_of_a_folder_is_downscaled_and_enlarged_again(carlib, folder, tmp_path):
    options = "--scale", 2, "--method", "bicubic"
    code, out, err = carlib("downscale", folder, tmp_path / "lr", *options, "--pad")
    assert (code, err) == (0, "") and len(out.splitlines()) == 3
    assert sorted(path.name for path in (tmp_path / "lr").iterdir()) == ["B.png", "a.png", "odd.png"]
    one = tmp_path / "one.png"
    assert carlib("downscale", folder / "B.JPG", one, *options)[0] == 0
    assert one.read_bytes() == (tmp_path / "lr" / "B.png").read_bytes()
    assert carlib("upscale", tmp_path / "lr", tmp_path / "sr", "--method", "lanczos", "--quality", 90)[0] == 0
    shapes = {path.name: data.read_image(path).shape for path in (tmp_path / "sr").iterdir()}
    assert shapes == {"a.jpg": (16, 24, 3), "B.jpg": (12, 20, 3), "odd.jpg": (15, 24)}


def test_what_a_folder_holds_that_is_refused_is_told_and_the_others_are_made(carlib, folder, tmp_path):
    (folder / "broken.png").write_bytes(b"no image")
    code, out, err = carlib("downscale", folder, tmp_path / "lr", "--scale", 2, "--method", "bicubic")
    broken, odd, last = err.splitlines()
    assert code == 2 and str(folder / "broken.png") in broken and f"{folder / 'odd.bmp'}: the image is 24x15" in odd
    assert last == f"carlib: 2 of the 4 images in {folder} were refused"
    assert len(out.splitlines()) == 2 == len(list((tmp_path / "lr").iterdir()))


@pytest.mark.parametrize(
    "options", [("--method", "nonsense"), ("--scale", 5, "--method", "car"), ("--weights", "none.st")]
)
def test_an_option_that_no_image_can_have_ends_a_folder_at_once(carlib, folder, tmp_path, options):
    code, out, err = carlib("downscale", folder, tmp_path / "lr", *options)
    assert (code, out) == (2, "") and not (tmp_path / "lr").exists()
    first, last = err.splitlines()
    assert str(folder / "B.JPG") in first
    assert last == f"carlib: {folder / 'a.png'} was refused for the same reason: nothing was made"


def test_pictures_of_a_folder_that_are_not_read_are_named(carlib, folder, tmp_path):
    for name in ("b.HEIC", "a.gif"):
        (folder / name).write_bytes(b"")
    code, _, err = carlib("downscale", folder, tmp_path / "lr", "--scale", 2, "--method", "bicubic", "--pad")
    assert (code, err) == (0, f"carlib: {folder}: not read, convert them first: a.gif, b.HEIC\n")  # not notes.txt
    for path in folder.glob("*.[pbJ]*"):
        path.unlink()
    _, _, err = carlib("downscale", folder, tmp_path / "none", "--scale", 2, "--method", "bicubic")
    assert "convert them first: a.gif, b.HEIC\n" in err and "holds no image" in err


def test_hidden_files_of_a_folder_are_none_of_its_images(carlib, folder, tmp_path):
    (folder / "._a.png").write_bytes(b"what macOS leaves")
    assert carlib("downscale", folder, tmp_path / "lr", "--scale", 2, "--method", "bicubic", "--pad")[0] == 0


@pytest.mark.parametrize(("target", "told"), [
    ("lr.png", "is a folder and"), ("photos/notes.txt", "is a folder and"), ("photos", "is the source itself"),
])  # fmt: skip
def test_a_folder_needs_another_folder(carlib, folder, tmp_path, target, told):
    outcome = carlib("downscale", folder, tmp_path / target, "--method", "bicubic")
    assert_refused(outcome, told, tmp_path / "lr.png")
    assert (folder / "notes.txt").read_text() == "no image" and len(list(folder.iterdir())) == 4


def test_a_folder_without_images_or_with_two_of_one_name_is_refused(carlib, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    told = "holds no image (.bmp, .jpeg, "
    assert_refused(carlib("downscale", tmp_path / "empty", tmp_path / "lr"), told, tmp_path / "lr")
    data.write_image(folder / "a.bmp", np.zeros((8, 8), np.uint8))
    (folder / "a.png").rename(folder / "A.png")  # one name where capitals do not count
    told = f"A.png and a.bmp in {folder} have one name: rename one of them"
    assert_refused(carlib("downscale", folder, tmp_path / "lr"), told, tmp_path / "lr")


def test_a_size_of_other_proportions_is_told(carlib, image, tmp_path):
    for size, told in (("12x8", 0), ("12x9", 0), ("12x6", 1)):
        _, _, err = carlib("downscale", image, tmp_path / "lr.png", "--method", "bicubic", "--size", size)
        assert err.count(f"{size} has other proportions than 24x16: it is distorted") == told


def test_a_small_image_that_was_cut_is_told(carlib, image, tmp_path):
    assert carlib("downscale", image, tmp_path / "lr.png", "--scale", 2, "--method", "bicubic")[0] == 0
    with Image.open(tmp_path / "lr.png") as whole:
        info = PngImagePlugin.PngInfo()
        info.add_text("carlib", whole.text["carlib"])
        whole.crop((0, 0, 8, 8)).save(tmp_path / "cut.png", pnginfo=info)
    code, _, err = carlib("upscale", tmp_path / "cut.png", tmp_path / "sr.png", "--method", "lanczos")
    assert code == 0 and "it was made from 24x16 at x2 and no longer has that size" in err
