"""Training: a run that may be stopped anywhere, and what ends one."""

import contextlib
import json
import math
import os

import numpy as np
import pytest
import torch
from short_runs import go, short, smoke, without_seconds

from carlib import data, devices, experiments, models, provenance, run_networks, runs, train, weights
from carlib.training import checkpoint, objective, run_folder, validation
from carlib.training.patches import validation_images

pytestmark = pytest.mark.usefixtures("one_thread")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def assert_refused(folder, told, run, **options):
    """One line, and the folder is as it was."""
    before = contents(folder)
    with pytest.raises(ValueError, match=told) as refusal:
        go(run, folder, **options)
    assert "\n" not in str(refusal.value)
    assert contents(folder) == before


def test_an_upscaler_trains_on_the_lr_of_another_downscaler(home, tmp_path):
    path = go(short("bicubic-edsr-x2", downscaler="dpid-0.5"), tmp_path / "run")
    assert weights.load_run(path)[1]["parameters"]["downscaler"] == "dpid-0.5"
    assert_refused(tmp_path / "run", "downscaler 'dpid-0.5' -> 'dpid'", short("bicubic-edsr-x2", downscaler="dpid"))


def test_a_run_leaves_weights_a_checkpoint_and_a_log(home, tmp_path):
    seen, run = [], short("car-edsr-x2", steps=5)
    path = go(run, tmp_path / "run", on_validation=lambda log: seen.append(len(log)))
    assert path == tmp_path / "run" / "weights.safetensors"
    assert set(contents(tmp_path / "run")) == {"weights.safetensors", "last.ckpt", "log.csv"}
    lines = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert lines[0].split(",") == run_folder.LOG_COLUMNS
    assert [line.split(",")[0] for line in lines[1:]] == ["2", "4", "5"]
    assert seen == [1, 2, 3]
    networks, metadata = weights.load_run(path)
    psnrs = [float(line.split(",")[run_folder.LOG_COLUMNS.index("psnr")]) for line in lines[1:]]
    assert metadata["validation"]["psnr_rgb"] == pytest.approx(max(psnrs), abs=1e-3)
    assert metadata["parameters"] == json.loads(json.dumps(runs.as_dict(run))) and metadata["run"] == "car-edsr-x2"
    rescaler = run_networks.Rescaler(networks, run.alpha)  # half precision moves the validation by less than 0.01 dB
    assert validation.validate(rescaler, validation_images(run), 2) == pytest.approx(max(psnrs), abs=0.01)


def test_the_best_weights_stay_when_a_continued_run_gets_worse(home, tmp_path, monkeypatch):
    values = iter([30.0, 20.0, 25.0])
    monkeypatch.setattr(validation, "validate", lambda *arguments: next(values))

    def stop(log):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(short(steps=6), tmp_path / "run", on_validation=stop)
    best = (tmp_path / "run" / "weights.safetensors").read_bytes()
    go(short(steps=6), tmp_path / "run")
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == best
    header = weights.read(tmp_path / "run" / "weights.safetensors")[1]
    assert (header["steps"], header["device"]) == (2, devices.name(torch.device("cpu"))) == (2, "cpu")


def test_a_finished_run_is_left_alone(home, tmp_path):
    go(short(), tmp_path / "run")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "run").iterdir()}
    assert go(short(), tmp_path / "run") == tmp_path / "run" / "weights.safetensors"
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "run").iterdir()} == before


def test_a_folder_with_other_parameters_is_refused(home, tmp_path):
    go(short(), tmp_path / "run")
    told = r"holds a run with other parameters \(seed 0 -> 3\): use --renew, or another --out"
    assert_refused(tmp_path / "run", told, short(seed=3))
    assert_refused(tmp_path / "run", "other parameters", short("car-bicubic-x2"))


def test_restart_begins_anew(home, tmp_path):
    go(short(seed=1), tmp_path / "run")
    go(short(), tmp_path / "run", restart=True)
    go(short(), tmp_path / "fresh")
    for name in ("weights.safetensors", "log.csv"):
        a, b = ((tmp_path / folder / name).read_bytes() for folder in ("run", "fresh"))
        assert a == b if name != "log.csv" else without_seconds(a.decode()) == without_seconds(b.decode())


def test_a_restart_owns_its_folder_from_the_start(home, tmp_path, monkeypatch):
    """Stopped before its first validation, it is continued; the run it replaces does not come back."""
    before, block = go(short(seed=1), tmp_path / "run").read_bytes(), train.Loop.block

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.Loop, "block", stop)
    with pytest.raises(KeyboardInterrupt):
        go(short(), tmp_path / "run", restart=True)
    assert contents(tmp_path / "run")["weights.safetensors"] == before  # until there are better ones
    monkeypatch.setattr(train.Loop, "block", block)
    assert_refused(tmp_path / "run", "seed 0 -> 1", short(seed=1))
    assert go(short(), tmp_path / "run").read_bytes() == go(short(), tmp_path / "fresh").read_bytes()


def test_a_folder_that_cannot_be_written_to_shows_at_once(home, tmp_path, monkeypatch):
    monkeypatch.setattr(train.Loop, "block", lambda *arguments: pytest.fail("a step was made"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*file/run/") as refusal:
        go(short(), tmp_path / "file" / "run")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "truncated", "another"])
def test_a_checkpoint_that_cannot_be_read_is_refused(home, tmp_path, content):
    go(short(), tmp_path / "run")
    path = tmp_path / "run" / "last.ckpt"
    if content == "another":
        torch.save({"state_dict": {}}, path)
    else:
        path.write_bytes(path.read_bytes()[:5000] if content == "truncated" else content)
    assert_refused(tmp_path / "run", "last.ckpt .*--restart", short())


@pytest.mark.parametrize("name", ["car-edsr-x2", "bicubic-edsr-x2", "car-bicubic-x2"])
def test_the_loss_goes_down(home, tmp_path, name):
    numbers = {"steps": 30, "validate_every": 10, "batch": 4, "schedule": "constant", "lr": 1e-3, "validation_crop": 48}
    log = []
    go(smoke(name, **numbers), tmp_path / "run", on_validation=lambda rows: log.append(rows[-1]))
    assert log[-1]["loss"] < (1 if name == "car-bicubic-x2" else 0.8) * log[0]["loss"]
    assert log[-1]["psnr"] > log[0]["psnr"]


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_earlier_weights(home, tmp_path, monkeypatch):
    kept, of_run = {}, objective.of_run

    def spoil(log):
        kept.update(contents(tmp_path / "run"))
        monkeypatch.setattr(objective, "of_run", lambda *a: tuple([(r := of_run(*a))[0] * math.nan, r[1]]))

    with pytest.raises(ValueError, match=r"the loss is no longer a number near step 3: lower lr=") as refusal:
        go(short(), tmp_path / "run", on_validation=spoil)
    assert "\n" not in str(refusal.value)
    assert contents(tmp_path / "run") == kept and "weights.safetensors" in kept
    monkeypatch.setattr(objective, "of_run", of_run)
    go(short(), tmp_path / "run")  # and it can go on
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 3


def test_a_run_that_diverges_is_refused_and_keeps_earlier_weights(home, tmp_path):
    wild = short(lr=1e30, schedule="constant")
    assert_diverges(wild, tmp_path / "fresh")
    assert "weights.safetensors" not in contents(tmp_path / "fresh")
    before = go(short(), tmp_path / "run").read_bytes()
    assert_diverges(wild, tmp_path / "run", restart=True)
    assert contents(tmp_path / "run")["weights.safetensors"] == before


def assert_diverges(run, folder, **options):
    with pytest.raises(ValueError, match="the loss is no longer a number near step") as refusal:
        go(run, folder, **options)
    assert "\n" not in str(refusal.value)
    assert torch.load(folder / "last.ckpt", weights_only=True)["step"] == 0  # nothing spoilt to continue from


def test_weights_that_are_no_numbers_at_a_validation_end_with_the_same_advice(home, tmp_path):
    # One step: its loss is still a number, the weights after it are not.
    wild = short("bicubic-edsr-x2", steps=1, validate_every=1, lr=1e38, schedule="constant")
    with pytest.raises(ValueError, match=r"the validation is no number at step 1: lower lr=1e\+38 or set clip"):
        go(wild, tmp_path / "run")


def test_a_full_disk_ends_the_run_and_keeps_earlier_weights(home, tmp_path, monkeypatch):
    go(short(steps=2, schedule="constant"), tmp_path / "run")
    before = contents(tmp_path / "run")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    told = "cannot write .*: No space left on device"
    assert_refused(tmp_path / "run", told, short(steps=2, schedule="constant", seed=1), restart=True)
    assert contents(tmp_path / "run") == before


def test_a_run_begins_with_the_upscaler_it_names(home, tmp_path):
    start = home / "results" / "smoke" / "runs" / "bicubic-edsr-x2"
    go(short(), start)
    networks = run_networks.build(short("car-edsr-x2", warm_start="bicubic-edsr-x2"))
    upscaler = models.create(**short().networks()["upscaler"])
    weights.load(upscaler, start / "weights.safetensors")
    assert all(torch.equal(v, upscaler.state_dict()[k]) for k, v in networks["upscaler"].state_dict().items())
    (start / "weights.safetensors").unlink()
    assert_refused(tmp_path / "run", "no weights at .*no-such-run", short("car-edsr-x2", warm_start="no-such-run"))


def test_a_missing_set_is_refused_before_anything_is_written(home, tmp_path):
    assert_refused(tmp_path / "run", "image set urban100 is not here", short(train_sets=["urban100"]))
    assert_refused(tmp_path / "run", "image set urban100 is not here", short(validation_set="urban100"))
    assert_refused(tmp_path / "run", "unknown image set 'dmeo'", short(train_sets=["dmeo"]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("overrides", "told"), [
    ({"patch": {2: 4096}}, "no image of demo is as large as patch=4096"),
    ({"steps": 0}, "has nothing to train"),
    ({"kernel_size": -1}, "kernel_size=-1"),
    ({"scale": 5, "patch": {5: 50}}, "no scale 5"),
])  # fmt: skip
def test_a_run_that_cannot_be_is_refused(home, tmp_path, overrides, told):
    assert_refused(tmp_path / "run", told, short("car-edsr-x2", **overrides))


def test_bicubic_down_and_up_has_nothing_to_train(home, tmp_path):
    assert_refused(tmp_path / "run", "has nothing to train", smoke("bicubic-bicubic-x2"))


def test_an_unknown_device_is_refused(home, tmp_path):
    with pytest.raises(ValueError, match="device 'abacus' cannot be used: ") as refusal:
        train.train(short(), tmp_path / "run", device="abacus", progress=False)
    assert "\n" not in str(refusal.value)


def test_validation_is_the_mean_psnr_of_the_rounded_lr_restored(home):
    run = short("bicubic-bicubic-x2", validation_crop=64, validation_images=2)
    rescaler = run_networks.Rescaler(run_networks.build(run), run.alpha)
    rescaler.register_parameter("device", torch.nn.Parameter(torch.zeros(1)))
    from carlib import imresize, metrics

    values = []
    for _, image in data.load("demo", limit=2):
        hr = data.crop_to_multiple(data.centre_crop(image, 64), 2)
        hr = np.repeat(hr[..., None], 3, axis=2) if hr.ndim == 2 else hr
        sr = imresize(imresize(hr, 0.5).astype(np.float64) / 255, 2)
        values.append(metrics.psnr(hr, np.clip(sr, 0, 1), 2, protocol="rgb"))
    assert validation.validate(rescaler, validation_images(run), 2) == pytest.approx(np.mean(values), abs=1e-2)


def test_what_is_logged_of_kernels_and_offsets(home):
    run = short("car-edsr-x2", weighting="guided", local=1)
    torch.manual_seed(0)
    rescaler, pairs = run_networks.Rescaler(run_networks.build(run), run.alpha), validation_images(run)
    assert validation.behaviour(rescaler, pairs) == {"adaptivity": 0, "offset_length": 0}  # bicubic's kernel everywhere
    net = rescaler.networks["resampler"]
    torch.nn.init.normal_(net.kernels_weight[4].weight)
    torch.nn.init.constant_(net.offsets_v_generation[4].bias, 9.0)  # tanh: one LR pixel
    found = validation.behaviour(rescaler, pairs)
    assert found["adaptivity"] > 0.1 and found["offset_length"] == pytest.approx(2, abs=1e-3)
    assert validation.behaviour(run_networks.Rescaler(run_networks.build(short()), 1.0), pairs) == {}


def test_validation_does_not_train_batch_statistics(home):
    run = short()
    networks = run_networks.build(run)
    networks["upscaler"].add_module("norm", torch.nn.BatchNorm2d(3))
    rescaler = run_networks.Rescaler(networks, run.alpha).train()
    validation.validate(rescaler, validation_images(run), 2)
    assert not networks["upscaler"].norm.training


def test_a_validation_that_is_no_number_ends_the_run_before_its_checkpoint(home, tmp_path, monkeypatch):
    go(short(steps=2), tmp_path / "run")
    before = contents(tmp_path / "run")
    monkeypatch.setattr(validation, "validate", lambda *_: math.nan)
    with pytest.raises(ValueError, match="the validation is no number at step 2"):
        go(short(steps=2, seed=1), tmp_path / "other")
    assert "weights.safetensors" not in contents(tmp_path / "other")
    go(short(steps=2), tmp_path / "run")  # finished: nothing is validated
    assert contents(tmp_path / "run") == before


def test_two_processes_train_a_folder_one_after_the_other(home, tmp_path, capsys):
    """The second one waits, then finds the run finished."""
    import threading

    done = []
    with run_folder.alone(tmp_path / "run"):
        second = threading.Thread(target=lambda: done.append(go(short(), tmp_path / "run")))
        second.start()
        second.join(timeout=3)
        assert second.is_alive() and not (tmp_path / "run").exists()
    second.join(timeout=60)
    assert done == [tmp_path / "run" / "weights.safetensors"]
    assert "another process trains here: waiting for it" in capsys.readouterr().err


@pytest.fixture
def waited(monkeypatch):
    """waited(run, folder, ...): whoever trains next waits for another process, which trains this meanwhile."""

    def ahead(run, folder, **options):
        alone = run_folder.alone

        @contextlib.contextmanager
        def after_another(*arguments):
            monkeypatch.setattr(run_folder, "alone", alone)
            go(run, folder, **options)
            with alone(*arguments):
                yield

        monkeypatch.setattr(run_folder, "alone", after_another)

    return ahead


def test_a_restart_that_had_to_wait_begins_anew(home, tmp_path, waited):
    waited(short(), tmp_path / "run")
    logs = []
    go(short(), tmp_path / "run", restart=True, on_validation=lambda log: logs.append(len(log)))
    assert logs == [1, 2]


def test_networks_begun_anew_after_waiting_are_those_of_the_seed(home, tmp_path, waited):
    """Neither those of the checkpoint that was read before, nor of random numbers that were drawn since."""

    def stop(log):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(short(), tmp_path / "run", on_validation=stop)
    waited(short(seed=1), tmp_path / "run", restart=True)
    renewed, fresh = go(short(), tmp_path / "run", renew=True), go(short(), tmp_path / "fresh")
    assert renewed.read_bytes() == fresh.read_bytes()


def test_training_needs_no_git(home, monkeypatch):
    monkeypatch.setattr(provenance.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("git")))
    assert provenance.commit() == "unknown"


def test_a_curve_that_a_kill_prevented_is_drawn_by_the_next_call(home, tmp_path):
    go(short(), tmp_path / "run")
    logs = []
    go(short(), tmp_path / "run", on_validation=logs.append)
    assert [row["step"] for row in logs[0]] == [2, 4]


def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    from carlib import results

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="it is no regular file"):
        results.write_text(tmp_path / "pipe", "x")
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    results.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


def test_half_trained_weights_and_those_of_another_recipe_are_not_measured(home, capsys):
    folder = home / "results" / "smoke" / "runs" / "bicubic-edsr-x2"
    go(short(), folder)
    with pytest.raises(
        ValueError, match=r"cannot be measured, weights of another recipe: .*--renew` trains it to its end"
    ):
        experiments.ready("bicubic-edsr-x2", "smoke")
    lines = (folder / "log.csv").read_text().splitlines()
    (folder / "log.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ValueError, match="cannot be measured, training, 2 of 4: "):
        experiments.ready("bicubic-edsr-x2", "smoke")
    path = experiments.ready("bicubic-edsr-x2", "smoke", any_recipe=True)
    assert path == folder / "weights.safetensors" and f"{path}: training, 2 of 4" in capsys.readouterr().err


def test_training_on_images_of_ones_own_from_a_weights_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CARLIB_DECODED", str(tmp_path / "decoded"))
    photos = tmp_path / "my photos"
    photos.mkdir()
    for name, image in list(data.load("demo"))[:2]:
        data.write_image(photos / f"{name}.png", data.centre_crop(image, 48))
    own = {"train_sets": [f"{photos}/"], "validation_set": f"{photos}/"}
    first = go(short(**own), tmp_path / "first")
    run = short("car-edsr-x2", **own, warm_start=str(first))
    upscaler = run_networks.build(run)["upscaler"]
    before = weights.load_run(first)[0]["upscaler"]
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in upscaler.state_dict().items())
    assert run.needs == [] and run.starts == {"warm_start": str(first)}
    recipe = checkpoint.recipe(run)
    assert recipe["data"][f"{photos}/"]["count"] == 2 and recipe["warm_start"] == provenance.sha256(first)
    data.write_image(photos / "another.png", np.zeros((48, 48, 3), np.uint8))
    assert checkpoint.changes(recipe, checkpoint.recipe(run)) == {"data": "the data changed"}


def test_a_weights_file_to_start_from_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"warm_start='none\.safetensors' is not there: name a weights file, or a run"):
        experiments.prepare("car-edsr-x2", "smoke", ["warm_start=none.safetensors"], folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resampler_of_another_kind_in_a_weights_file_is_refused(tmp_path):
    first = go(short("car-edsr-x2"), tmp_path / "first")
    with pytest.raises(ValueError, match=r"cannot take the resampler of .*, which has .*weighting="):
        go(short("car-edsr-x2", resampler_start=str(first), weighting="clamp"), tmp_path / "run")
