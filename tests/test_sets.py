"""Image sets: found by name wherever they lie, counted, and verified against the manifest."""

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from carlib.commands.data import app
from carlib.data import NAMES, available, find, inventory, load, manifest, read_image, sets, verify, write_image

DATA = Path(__file__).resolve().parent.parent / "data"
DEMO = DATA / "demo"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project with no image sets of its own."""
    (tmp_path / "home" / "data" / "raw").mkdir(parents=True)
    monkeypatch.setenv("CARLIB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CARLIB_DATA", raising=False)
    return tmp_path / "home"


def fill(folder, names, value=0):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 3), (value, 1, 2)).save(folder / name)
    return folder


def need(name):
    try:
        return find(name)
    except ValueError:
        pytest.skip(f"{name} is not here; set CARLIB_DATA to the folder that holds it")


def test_sets_are_found_in_data_raw_sorted(home):
    fill(home / "data" / "raw" / "Set5", ["b.png", "a.png", "c.jpg"])
    (home / "data" / "raw" / "Set5" / "notes.txt").write_text("x")
    (home / "data" / "raw" / "Set5" / ".hidden.png").write_text("x")
    assert [path.name for path in find("set5")] == ["a.png", "b.png", "c.jpg"]
    assert available() == {"demo": 11, "content": 10, "set5": 3}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("set5", "SET5"),
        ("Set14", "set14/hr"),
        ("b100", "bsds500/VAL"),
        ("bsd100", "BSD100"),
        ("B100", "B100/HR"),
        ("urban100", "URBAN100"),
        ("div2k", "DIV2K_valid_HR"),
        ("DIV2K", "DIV2K_valid10"),
        ("div2k-train", "DIV2K/DIV2K_train_HR"),
        ("bsds500-test", "BSDS500/data/images/test"),
    ],
)
def test_folder_names_and_their_variations(home, tmp_path, monkeypatch, name, folder):
    fill(tmp_path / "sets" / folder, ["a.png"])
    monkeypatch.setenv("CARLIB_DATA", str(tmp_path / "sets"))
    assert find(name) == [tmp_path / "sets" / folder / "a.png"]


def test_the_first_folder_with_images_wins(home, tmp_path, monkeypatch):
    (tmp_path / "one" / "Set5").mkdir(parents=True)  # empty: passed over
    fill(tmp_path / "two" / "Set5", ["two.png"])
    fill(home / "data" / "raw" / "Set5", ["raw.png"])
    fill(home / "data" / "raw" / "Set14", ["raw.png"])
    monkeypatch.setenv("CARLIB_DATA", os.pathsep.join(["", str(tmp_path / "one"), str(tmp_path / "two"), "/nowhere"]))
    assert [path.name for path in find("set5")] == ["two.png"]
    assert [path.name for path in find("set14")] == ["raw.png"]


def test_bsds500_is_train_and_test_never_val(home):
    raw = home / "data" / "raw" / "BSDS500"
    fill(raw / "train", ["9.png"])
    fill(raw / "val", ["5.png"])
    with pytest.raises(ValueError, match=r"bsds500 is not here .*BSDS500.test.*carlib data fetch bsds500"):
        find("bsds500")
    assert "bsds500" not in available() and available()["bsds500-train"] == 1
    fill(raw / "test", ["1.png"])
    assert [path.name for path in find("bsds500")] == ["9.png", "1.png"]
    assert [path.name for path in find("bsd100")] == ["5.png"]


def test_unknown_names_are_answered_with_the_list():
    with pytest.raises(
        ValueError, match=r"unknown image set 'Sett5' \(did you mean set5\?\); the sets are demo, content, set5"
    ):
        find("Sett5")
    with pytest.raises(ValueError, match=f"'xyzzy'; the sets are {', '.join(NAMES)}"):
        find("xyzzy")


def test_an_absent_set_names_folders_and_remedy(home, tmp_path, monkeypatch):
    monkeypatch.setenv("CARLIB_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError) as error:
        find("urban100")
    text = str(error.value)
    assert str(tmp_path / "elsewhere" / "Urban100") in text and str(home / "data" / "raw" / "Urban100") in text
    assert "carlib data fetch urban100" in text and "\n" not in text


def test_load_yields_stem_and_image(home):
    rng = np.random.default_rng(3)
    folder = home / "data" / "raw" / "Set5"
    images = {"a": rng.integers(0, 256, (3, 5), dtype=np.uint8), "b": rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)}
    for stem, image in images.items():
        write_image(folder / f"{stem}.png", image)
    loaded = dict(load("set5"))
    assert list(loaded) == ["a", "b"]
    for stem, image in images.items():
        np.testing.assert_array_equal(loaded[stem], image)
    assert [stem for stem, _ in load("set5", limit=1)] == ["a"]


def test_load_complains_before_the_first_image(home):
    with pytest.raises(ValueError, match="not here"):
        load("set5")
    for limit in (0, -1, 1.5, "2", True):
        with pytest.raises(ValueError, match="limit"):
            load("demo", limit=limit)


def test_inventory_does_not_depend_on_the_place(home, tmp_path, monkeypatch):
    fill(home / "data" / "raw" / "Set5", ["b.png", "a.png"])
    first = inventory()
    assert first["set5"]["count"] == 2 and json.loads(json.dumps(first)) == first
    fill(tmp_path / "other" / "set5" / "HR", ["a.png", "b.png"])
    monkeypatch.setenv("CARLIB_DATA", str(tmp_path / "other"))
    assert inventory() == first
    with (tmp_path / "other" / "set5" / "HR" / "a.png").open("ab") as file:
        file.write(b"x")  # one byte more
    assert inventory()["set5"] != first["set5"] and inventory()["demo"] == first["demo"]


def test_inventory_is_quick_with_a_thousand_files(home):
    folder = home / "data" / "raw" / "DIV2K_train_HR"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number:04}.png").write_bytes(b"x" * number)
    start = time.perf_counter()
    assert inventory()["div2k-train"]["count"] == 1000
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("name", sets.SHIPPED)
def test_what_comes_along_is_whole_small_and_licensed(name):
    files = find(name)
    assert len(files) == sets.SETS[name].count and {check.status for check in verify(name)} == {"ok"}
    assert sum(path.stat().st_size for path in files) < 3 * 2**20
    text = (DATA / name / "LICENSES.md").read_text()
    for path in files:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert f"{digest}  {path.name}\n" in text and f"| {path.name} |" in text


def test_the_photographs_that_come_along_have_grey_and_an_odd_size_among_them():
    shapes = {path.stem: read_image(path).shape for path in find("demo")}
    assert shapes["camera"] == (256, 320) and shapes["rocket"] == (227, 301, 3)


def test_verify_names_every_kind_of_trouble(home, tmp_path):
    folder = home / "data" / "demo"
    folder.mkdir()
    for path in DEMO.glob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "astronaut.png").unlink()
    Image.open(DEMO / "camera.png").save(folder / "camera.png", compress_level=1)  # other bytes, same pixels
    image = read_image(folder / "sail.png")
    image[0, 0, 0] ^= 1
    write_image(folder / "sail.png", image)
    (folder / "china.png").write_bytes((DEMO / "china.png").read_bytes()[:5000])
    Image.new("L", (3, 3)).save(folder / "new.png")
    (folder / "tulips.png").unlink()
    Image.open(DEMO / "tulips.png").save(folder / "tulips.bmp")  # same stem
    status = {check.file: check.status for check in verify("demo")}
    assert status.pop("astronaut.png") == "missing"
    assert status.pop("new.png") == "unknown"
    assert status.pop("sail.png") == status.pop("china.png") == "differs"
    assert set(status.values()) == {"ok"} and {"camera.png", "tulips.bmp"} <= set(status)


def test_pixel_sha256_is_that_of_rgb_bytes(tmp_path):
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.save(tmp_path / "a.png")
    assert manifest.pixel_sha256(tmp_path / "a.png") == hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def test_manifest_has_no_row_twice_and_knows_every_complete_set():
    for name, image_set in sets.SETS.items():
        known = sum(len(manifest.rows(part)) for part in image_set.parts)
        assert known == {"div2k": 36, "div2k-train": 0}.get(name, image_set.count)


@pytest.mark.parametrize(("name", "count"), [("set5", 5), ("set14", 14)])
def test_the_real_sets_agree_with_the_manifest(name, count):
    assert len(need(name)) == count
    assert {check.status for check in verify(name)} == {"ok"}


def test_bridge_of_set14_is_grey():
    shapes = {path.stem: read_image(path).shape for path in need("set14") if path.stem == "bridge"}
    assert shapes == {"bridge": (512, 512)}


def test_commands_list_and_verify(home, tmp_path):
    runner = CliRunner()
    fill(home / "data" / "raw" / "Set5", ["baby.png"])
    listed = runner.invoke(app, ["list", "--json", str(tmp_path / "out" / "sets.json")])
    assert listed.exit_code == 0 and "carlib data fetch urban100" in listed.stdout
    text = (tmp_path / "out" / "sets.json").read_text()
    assert text.endswith("}\n") and json.loads(text) == inventory()
    good = runner.invoke(app, ["verify", "demo"])
    assert good.exit_code == 0 and good.stdout == "demo: 11 ok\n"
    bad = runner.invoke(app, ["verify"])
    assert bad.exit_code == 1 and "set5: baby.png differs" in bad.stdout and "1 differs, 4 missing" in bad.stdout
    absent = runner.invoke(app, ["verify", "set14"])
    assert isinstance(absent.exception, ValueError)


def test_verify_fails_for_a_set_that_lacks_an_image(home):
    runner = CliRunner()
    fill(home / "data" / "raw" / "DIV2K_train_HR", ["0001.png"])  # no manifest names its files
    found = runner.invoke(app, ["verify", "div2k-train"])
    assert found.exit_code == 1 and "799 of its images are not here" in found.stdout
    folder = home / "data" / "demo"
    folder.mkdir()
    fill(folder, ["foreign.png"])  # which makes up for none
    for path in sorted(DEMO.glob("*.png"))[1:]:
        (folder / path.name).write_bytes(path.read_bytes())
    found = runner.invoke(app, ["verify", "demo"])
    assert found.exit_code == 1 and found.stdout == "demo: 10 ok, 1 missing, 1 unknown\n"


def test_a_folder_of_ones_own_goes_where_a_set_does(home, tmp_path, monkeypatch):
    fill(tmp_path / "my photos", ["b.png", "a.png", "a.bmp"], 7)
    (tmp_path / "my photos" / "notes.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    for name in ("./my photos", "my photos/", f"{tmp_path}/my photos"):
        assert [path.name for path in find(name)] == [stem for stem, _ in load(name)] == ["a.bmp", "a.png", "b.png"]
        assert sets.label(name) == sets.label("./my photos") and sets.label(name).startswith("my photos-")
        assert find(sets.canonical(name)) == find(name) and not sets.canonical(name).endswith("/")
        assert "/" not in sets.label(name) and sets.held(name)["count"] == 3
    assert sets.canonical("my photos/") == "./my photos"  # without a slash it would be the name of a set
    before = sets.held("./my photos")
    fill(tmp_path / "my photos", ["c.png"])
    assert sets.held("./my photos") != before
    assert sets.held("demo") == inventory()["demo"] and sets.held("set5") is None and sets.label("demo") == "demo"
    (tmp_path / "none").mkdir()
    for name, told in (
        ("./none", "the folder ./none holds no image"),
        ("no/where", "the folder no/where is not there"),
    ):
        assert sets.held(name) is None
        with pytest.raises(ValueError, match=told):
            load(name)
    with pytest.raises(ValueError, match=r"a folder of your own needs a slash: \./none"):
        find("none")
    with pytest.raises(ValueError, match=r"unknown image set '\./none'"):
        verify("./none")


def test_a_large_folder_is_kept_decoded(home, tmp_path, monkeypatch):
    folder = str(fill(tmp_path / "photos", ["b.png", "a.png"], 7))
    monkeypatch.setattr(sets, "_LARGE", 10)
    monkeypatch.setenv("CARLIB_DECODED", str(tmp_path / "decoded"))
    assert [(name, image.flags.writeable, tuple(image[0, 0])) for name, image in load(folder)] == [
        ("a.png", False, (7, 1, 2)), ("b.png", False, (7, 1, 2)),
    ]  # fmt: skip
    assert [path.name.startswith(sets.label(folder)) for path in (tmp_path / "decoded").glob("*.npy")] == [True]


def test_a_folder_that_cannot_be_read_is_not_called_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser reads everything
    with pytest.raises(ValueError, match=r"cannot be read: name a folder of images"):
        sets.find(f"{tmp_path}/")


@pytest.mark.parametrize(
    "pixels, told",
    [
        (np.zeros((4, 4, 4), np.uint8), "has transparent pixels"),
        (np.zeros((4, 4), np.uint16), "has 16 bits a channel"),
    ],
)
def test_an_image_of_a_folder_that_cannot_be_taken_as_it_is_is_told_with_what_helps_there(tmp_path, pixels, told):
    """No command that names a set has options for it."""
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png {told}, which is not taken here: convert it first") as refusal:
        list(sets.load(f"{tmp_path}/"))
    assert "--" not in str(refusal.value)
