"""Downloads and archives: nothing unverified gets a final name, nothing leaves its folder. No network is used."""

import errno
import functools
import hashlib
import http.server
import importlib
import io
import os
import socket
import stat
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner

from carlib.commands.data import app
from carlib.data import fetch, find, manifest, sets, unpack

module = importlib.import_module("carlib.data.fetch")  # the package's `fetch` is the function
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A project whose manifest lists three images of Set5, and a web server that has them."""
    home, web = tmp_path / "home", tmp_path / "web"
    (home / "data").mkdir(parents=True)
    folder = web / "owner" / "name" / COMMIT / "some folder"
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(1), ["set,name,width,height,mode,bytes,sha256_rgb,source"]
    for name in ("a.png", "b.png", "c d.png"):
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).save(folder / name)
        digest = manifest.pixel_sha256(folder / name)
        lines.append(f"Set5,{name},5,4,RGB,1,{digest},owner/name@{COMMIT}:some folder/")
    (home / "data" / "manifest.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("CARLIB_HOME", str(home))
    monkeypatch.delenv("CARLIB_DATA", raising=False)
    monkeypatch.setattr(module, "RETRIES", 0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=web))
    server.asked = []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(module, "GITHUB", address)
    yield SimpleNamespace(raw=home / "data" / "raw", web=web, remote=folder, server=server, url=address)
    server.shutdown()
    server.server_close()


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def tamper(path):
    image = np.array(Image.open(path))
    image[0, 0, 0] ^= 1
    Image.fromarray(image).save(path)


def test_addresses_come_from_the_real_manifest():
    row = manifest.rows(sets.SETS["set5"].parts[0])["baby.png"]
    expected = "majedelhelou/denoising_datasets/58234876fef6f1b56306705c78dfd40cdb837b86/CSet5/baby.png"
    assert module.url_of(row) == f"https://raw.githubusercontent.com/{expected}"
    row = manifest.rows(sets.SETS["div2k"].parts[0])["0802.png"]
    assert module.url_of(row).endswith("/tensorflow-compression-test/81ea61cdaea3ca7749db51823a58ddf373c256d1/0802.png")
    with pytest.raises(ValueError, match="no address"):
        module.url_of(manifest.rows(sets.SETS["demo"].parts[0])["sail.png"])


def test_fetch_brings_a_set_where_find_looks(world, capfd):
    done = fetch("Set5")
    assert done.added == ["a.png", "b.png", "c d.png"] and not done.kept and not done.unchecked
    assert listing(world.raw) == ["Set5/a.png", "Set5/b.png", "Set5/c d.png"]
    assert len(find("set5")) == 3 and "3 new, 0 kept, 3 verified" in str(done)
    assert "Set5" in capfd.readouterr().err  # the bar
    assert oct((world.raw / "Set5" / "a.png").stat().st_mode & 0o777) != oct(0o600)


def test_a_second_fetch_asks_the_network_for_nothing(world):
    fetch("set5", progress=False)
    (world.raw / "Set5" / "b.png").unlink()
    world.server.asked.clear()
    done = fetch("set5", progress=False)
    assert done.kept == ["a.png", "c d.png"] and done.added == ["b.png"]
    assert [path.rsplit("/", 1)[-1] for path in world.server.asked] == ["b.png"]


def test_a_tampered_file_is_refused_and_the_others_are_kept(world):
    tamper(world.remote / "a.png")
    with pytest.raises(ValueError, match=r"^Set5: a.png is refused: pixels are") as error:
        fetch("set5", progress=False)
    assert "\n" not in str(error.value) and listing(world.raw) == ["Set5/b.png", "Set5/c d.png"]
    (world.remote / "b.png").write_bytes(b"<html>not found</html>")
    (world.raw / "Set5" / "b.png").unlink()
    with pytest.raises(ValueError, match="and 1 more"):
        fetch("set5", progress=False)


def test_a_file_that_differs_is_not_overwritten(world, tmp_path):
    fetch("set5", into=tmp_path / "there", progress=False)
    path = tmp_path / "there" / "Set5" / "b.png"
    tamper(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"is there already and differs.*move it away"):
        fetch("set5", into=tmp_path / "there", progress=False)
    assert path.read_bytes() == before


def test_a_missing_address_or_server_is_one_line(world, monkeypatch):
    (world.remote / "b.png").unlink()
    with pytest.raises(ValueError, match=r"cannot download .*b.png: 404.*run again") as error:
        fetch("set5", progress=False)
    assert "\n" not in str(error.value) and listing(world.raw) == ["Set5/a.png"]
    monkeypatch.setattr(module, "GITHUB", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(ValueError, match=r"cannot download .*: no connection, or no answer; run again"):
        fetch("set5", progress=False)


def test_from_a_folder_instead_of_the_network(world, tmp_path):
    done = fetch("set5", from_dir=world.remote, progress=False)
    assert len(done.added) == 3 and not world.server.asked
    (tmp_path / "mine").mkdir()
    (world.raw / "Set5").rename(tmp_path / "mine" / "SET5")
    assert len(fetch("set5", from_dir=tmp_path / "mine", progress=False).added) == 3
    tamper(tmp_path / "mine" / "SET5" / "a.png")
    (tmp_path / "mine" / "SET5" / "b.png").unlink()
    with pytest.raises(ValueError, match=r"a.png is refused.*\(and 1 more"):
        fetch("set5", from_dir=tmp_path / "mine", into=tmp_path / "new", progress=False)
    assert listing(tmp_path / "new") == ["Set5/c d.png"]
    with pytest.raises(ValueError, match="is not a folder"):
        fetch("set5", from_dir=tmp_path / "nowhere")


def test_what_no_checksum_covers_is_not_called_verified():
    done = module.Fetched("div2k", kept=["a"], added=["b", "c"], unchecked=["c"])
    assert str(done).startswith("div2k: 2 new, 1 kept, 2 verified; in")


def test_a_copy_that_dies_leaves_nothing_at_its_name(world, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(ValueError, match=r"cannot write .*a\.png: No space left on device"):
        fetch("set5", from_dir=world.remote, progress=False)
    assert listing(world.raw) == []


def test_what_a_killed_run_left_goes_with_the_next(tmp_path):
    """What another process has in hand does not."""
    here = f".fetch-{socket.gethostname()}"
    ages = {
        f"{here}-killed": 2 * module._NEW, f"{here}-at-work": 2 * module._NEW, f"{here}-begun": 0,
        f"{here}-1-name": 2 * module._NEW,  # of a machine whose name begins like this one's
        ".fetch-elsewhere-1": 2 * module._NEW, ".fetch-elsewhere-2": 2 * module._STALE, ".fetch": 2 * module._STALE,
    }  # fmt: skip
    for name in ages:
        (tmp_path / name / "files").mkdir(parents=True)
    with FileLock(tmp_path / f"{here}-at-work" / "lock"):
        for name, age in ages.items():
            for path in (*(tmp_path / name).rglob("*"), tmp_path / name):
                os.utime(path, (time.time() - age,) * 2)
        with module._scratch(tmp_path) as folder:
            assert list(folder.iterdir()) == [] and folder.parent.name.startswith(f"{here}-")
    left = {f"{here}-at-work", f"{here}-begun", f"{here}-1-name", ".fetch-elsewhere-1"}
    assert {entry.name for entry in tmp_path.iterdir()} == left


def test_a_disk_without_locks_is_one_line(tmp_path, monkeypatch):
    def unsupported(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", unsupported)
    with pytest.raises(ValueError, match=r"cannot write .*: No locks available"), module._scratch(tmp_path):
        pass


def test_demo_and_unknown_sets_cannot_be_fetched(world):
    with pytest.raises(ValueError, match="comes with the repository"):
        fetch("demo")
    with pytest.raises(ValueError, match="did you mean urban100"):
        fetch("urban10")


@pytest.fixture
def pin(world, monkeypatch):
    """Makes the stand-in's address and MD5, the right one or another, those of DIV2K's validation archive."""

    def change(md5=None):
        path = world.web / "DIV2K_valid_HR.zip"
        md5 = md5 or hashlib.md5(path.read_bytes()).hexdigest()
        monkeypatch.setitem(module.ARCHIVES, "div2k", module.Archive(f"{world.url}/{path.name}", md5))

    return change


def div2k(world, count=100, name="DIV2K_valid_HR.zip"):
    """A small stand-in for the archive; the manifest knows the first image only."""
    with zipfile.ZipFile(world.web / name, "w") as handle:
        for number in range(801, 801 + count):
            buffer = io.BytesIO()
            Image.new("RGB", (2, 2), (number % 256, 0, 0)).save(buffer, "PNG")
            handle.writestr(f"DIV2K_valid_HR/{number:04}.png", buffer.getvalue())
    (world.web / "first.png").write_bytes(zipfile.ZipFile(world.web / name).read("DIV2K_valid_HR/0801.png"))
    digest = manifest.pixel_sha256(world.web / "first.png")
    with (world.raw.parent / "manifest.csv").open("a") as file:
        file.write(f"DIV2K_valid,0801.png,2,2,RGB,1,{digest},x\n")


def test_the_archives_of_div2k_are_pinned():
    """The MD5s that many projects publish for them."""
    assert {key: tuple(archive) for key, archive in module.ARCHIVES.items()} == {
        "div2k": (
            "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip",
            "9fcdda83005c5e5997799b69f955ff88",
        ),
        "div2k-train": (
            "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",
            "bdc2d9338d4e574fe81bf7d158758658",
        ),
    }


def test_a_verified_archive_is_unpacked_and_leaves_nothing_unchecked(world, pin):
    div2k(world)
    pin()
    done = fetch("div2k", progress=False)
    assert len(done.added) == 100 and not done.unchecked
    assert done.note == "DIV2K_valid_HR.zip has its published MD5" and "100 new, 0 kept, 100 verified" in str(done)
    assert len(listing(world.raw)) == 100 == len(find("div2k"))
    assert [path.name for path in world.raw.iterdir()] == ["DIV2K_valid_HR"]
    world.server.asked.clear()
    again = fetch("div2k", progress=False)  # without the archive only the manifest is left to compare with
    assert len(again.kept) == 100 and len(again.unchecked) == 99 and not world.server.asked
    assert again.note == "no checksum is shipped for 99 of these images"


def test_images_that_were_there_are_checked_if_they_are_the_archives(world, pin):
    div2k(world)
    pin()
    fetch("div2k", progress=False)
    (world.raw / "DIV2K_valid_HR" / "0860.png").unlink()
    done = fetch("div2k", progress=False)
    assert len(done.kept) == 99 and done.added == ["0860.png"] and not done.unchecked
    (world.raw / "DIV2K_valid_HR" / "0860.png").unlink()
    tamper(world.raw / "DIV2K_valid_HR" / "0870.png")
    done = fetch("div2k", progress=False)
    assert done.unchecked == ["0870.png"] and done.note.endswith("MD5; no checksum is shipped for 1 of these images")


def test_an_archive_with_another_md5_is_refused_before_it_is_unpacked(world, pin, monkeypatch, tmp_path):
    div2k(world)
    pin("0" * 32)
    monkeypatch.setattr(module, "unpack", lambda *_: pytest.fail("unpacked"))
    told = r"^DIV2K_valid_HR.zip is refused: its MD5 is [0-9a-f]{32}, not 0{32}; "
    with pytest.raises(ValueError, match=told + "run again") as error:
        fetch("div2k", progress=False)
    assert "\n" not in str(error.value) and listing(world.raw) == []
    assert [path.rsplit("/", 1)[-1] for path in world.server.asked] == ["DIV2K_valid_HR.zip"]
    with pytest.raises(ValueError, match=told + "take another copy") as error:
        fetch("div2k", from_dir=world.web, into=tmp_path / "second", progress=False)
    assert "\n" not in str(error.value) and listing(tmp_path / "second") == []
    assert (world.web / "DIV2K_valid_HR.zip").exists()


def test_an_archive_with_a_wrong_or_a_missing_image(world, pin):
    div2k(world, count=99)
    pin()
    with pytest.raises(ValueError, match=r"0900.png was not found$"):
        fetch("div2k", progress=False)
    assert len(listing(world.raw)) == 99
    text = (world.raw.parent / "manifest.csv").read_text()
    (world.raw.parent / "manifest.csv").write_text(text.replace("DIV2K_valid,0801", "DIV2K_valid,0802"))
    with pytest.raises(ValueError, match=r"0802.png is there already and differs"):
        fetch("div2k", progress=False)


def test_a_damaged_archive_is_not_met_again(world, pin):
    div2k(world)
    pin()
    whole = (world.web / "DIV2K_valid_HR.zip").read_bytes()
    (world.web / "DIV2K_valid_HR.zip").write_bytes(whole[:3000])
    with pytest.raises(ValueError, match="its MD5 is"):
        fetch("div2k", progress=False)
    assert listing(world.raw) == []
    (world.web / "DIV2K_valid_HR.zip").write_bytes(whole)
    assert len(fetch("div2k", progress=False).added) == 100


def test_a_verified_archive_that_could_not_be_unpacked_is_kept_for_the_next_run(world, pin, monkeypatch):
    div2k(world)
    pin()
    with monkeypatch.context() as full:
        full.setattr(zipfile.ZipFile, "infolist", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(ValueError, match=r"cannot unpack .*No space left"):
            fetch("div2k", progress=False)
    world.server.asked.clear()
    assert len(fetch("div2k", progress=False).added) == 100 and not world.server.asked


def test_div2k_from_a_folder_with_the_archive_or_the_images(world, pin, tmp_path):
    div2k(world)
    pin()
    done = fetch("div2k", from_dir=world.web, progress=False)
    assert len(done.added) == 100 and not done.unchecked and not world.server.asked
    assert (world.web / "DIV2K_valid_HR.zip").exists()
    done = fetch("div2k", from_dir=world.raw, into=tmp_path / "second", progress=False)
    assert len(done.added) == 100 and done.note == "no checksum is shipped for 99 of these images"


def test_an_image_without_checksum_must_at_least_be_an_image(world, tmp_path):
    div2k(world)
    unpack(world.web / "DIV2K_valid_HR.zip", tmp_path / "mine")
    (tmp_path / "mine" / "DIV2K_valid_HR" / "0850.png").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"0850.png is refused: .*not an image of a known format"):
        fetch("div2k", from_dir=tmp_path / "mine", progress=False)
    assert len(listing(world.raw)) == 99


def test_command_fetches_and_lists(world, tmp_path):
    arguments = ["fetch", "set5", "--into", str(tmp_path / "x"), "--from-dir", str(world.remote)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "set5: 3 new" in result.output and len(listing(tmp_path / "x")) == 3
    assert isinstance(CliRunner().invoke(app, ["fetch", "set5", "sett14"]).exception, ValueError)


def make_zip(path, members, mode=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as handle:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if mode is not None:
                info.external_attr = mode << 16
            handle.writestr(info, content)
    return path


def make_tar(path, *members, kind="w:gz"):
    with tarfile.open(path, kind) as handle:
        for name, content, changes in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            handle.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_unpack_good_archives(tmp_path, kind):
    if kind == "zip":
        archive = make_zip(tmp_path / "a", {"d/": b"", "d/x.txt": b"x", "y..z.txt": b"yy"})
    else:
        folder = ("./", b"", {"type": tarfile.DIRTYPE})
        archive = make_tar(tmp_path / "a", folder, ("./d/x.txt", b"x", {}), ("y..z.txt", b"yy", {}), kind=kind)
    files = unpack(archive, tmp_path / "out")
    assert files == [tmp_path / "out" / "d" / "x.txt", tmp_path / "out" / "y..z.txt"]
    assert listing(tmp_path / "out") == ["d/x.txt", "y..z.txt"] and files[1].read_bytes() == b"yy"


@pytest.mark.parametrize("name", ["../evil", "d/../../evil", "/evil", "C:\\evil", "..\\evil", "d\\..\\evil", "C:evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpack_refuses_names_that_lead_away(tmp_path, name, kind):
    if kind == "zip":
        archive = make_zip(tmp_path / "a", {"good": b"1", name: b"2"})
    else:
        archive = make_tar(tmp_path / "a", ("good", b"1", {}), (name, b"2", {}))
    with pytest.raises(ValueError, match=r"absolute|leads out") as error:
        unpack(archive, tmp_path / "deep" / "out")
    assert "\n" not in str(error.value) and listing(tmp_path) == ["a"]


def test_unpack_refuses_links_and_devices(tmp_path):
    for changes in (
        {"type": tarfile.SYMTYPE, "linkname": "/etc"},
        {"type": tarfile.SYMTYPE, "linkname": "inside"},
        {"type": tarfile.LNKTYPE, "linkname": "../x"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE},
    ):
        archive = make_tar(tmp_path / "a", ("good", b"1", {}), ("link", b"", changes), ("link/evil", b"2", {}))
        with pytest.raises(ValueError, match="link or a device"):
            unpack(archive, tmp_path / "out")
    with pytest.raises(ValueError, match="link or a device"):
        unpack(make_zip(tmp_path / "a", {"link": b"/etc"}, mode=stat.S_IFLNK | 0o777), tmp_path / "out")
    assert listing(tmp_path) == ["a"]


def test_unpack_refuses_bombs(tmp_path):
    zeros = bytes(3 * 2**20)
    for archive in (
        make_zip(tmp_path / "z", {"1": zeros, "2": zeros}),
        make_tar(tmp_path / "t", ("1", zeros, {}), ("2", zeros, {})),
    ):
        assert archive.stat().st_size < 20_000
        with pytest.raises(ValueError, match="more than max_bytes=5000000"):
            unpack(archive, tmp_path / "out", max_bytes=5_000_000)
        assert listing(tmp_path / "out") == []
        assert len(unpack(archive, tmp_path / "out2", max_bytes=2 * len(zeros))) == 2


def test_a_zip_header_that_understates_its_size_gains_nothing(tmp_path):
    archive = make_zip(tmp_path / "z", {"1": bytes(2**20)})
    data = archive.read_bytes()
    archive.write_bytes(data.replace((2**20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="cannot unpack"):
        unpack(archive, tmp_path / "out", max_bytes=1000)
    assert listing(tmp_path / "out") == []


def test_unpack_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("carlib.data.archives"), "MAX_FILES", 3)
    with pytest.raises(ValueError, match="more than 3 members"):
        unpack(make_zip(tmp_path / "z", {str(n): b"" for n in range(4)}), tmp_path / "out")


def test_unpack_what_is_no_archive_or_damaged(tmp_path):
    (tmp_path / "x").write_bytes(os.urandom(50))
    with pytest.raises(ValueError, match="neither a zip nor a tar"):
        unpack(tmp_path / "x", tmp_path / "out")
    with pytest.raises(ValueError, match="cannot unpack"):
        unpack(tmp_path / "none", tmp_path / "out")
    noise = np.random.default_rng(0).bytes(5000)
    for kind in ("w:gz", "w:bz2", "w:xz", "w"):
        data = make_tar(tmp_path / "t", ("1", noise, {}), ("2", noise, {}), kind=kind).read_bytes()
        (tmp_path / "t").write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match="cannot unpack") as error:
            unpack(tmp_path / "t", tmp_path / "out")
        assert "\n" not in str(error.value)
    assert listing(tmp_path / "out") == []
