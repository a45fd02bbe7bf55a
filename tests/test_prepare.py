"""Weights made ready: starts first, continued, renewed, shipped under profile demo, or refused in one line."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from torch import nn

from carlib import experiments, models, results, run_networks, run_places, runs, train, weights
from carlib.dispatch import queue
from carlib.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.usefixtures("one_thread")


def edit_params(home, edit):
    content = yaml.safe_load((home / "params.yaml").read_text())
    edit(content)
    (home / "params.yaml").write_text(yaml.safe_dump(content))


def prepare(name, profile="smoke", params=(), **options):
    return experiments.prepare(name, profile, params, device="cpu", progress=False, **options)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_refused(told, call, *arguments, **options):
    with pytest.raises(ValueError, match=told) as refusal:
        call(*arguments, **options)
    assert "\n" not in str(refusal.value)
    return refusal.value


# ---- weights made ready -------------------------------------------------------------------------------


@pytest.fixture
def started(home):
    """car-edsr-x2 starts from bicubic-edsr-x2-start; both take a second."""

    def edit(content):
        content["profiles"]["smoke"]["train"] |= {
            "steps": 4, "validate_every": 2, "patch": {2: 16, 4: 16}, "validation_crop": 32, "validation_images": 1,
        }  # fmt: skip
        content["runs"]["car-edsr-x2"]["smoke"] = {"warm_start": "bicubic-edsr-x2-start"}

    edit_params(home, edit)
    return results.folder("smoke", "runs", "bicubic-edsr-x2-start"), results.folder("smoke", "runs", "car-edsr-x2")


def last_step(folder):
    return checkpoint.read(folder)["step"]


def interrupt(name, folder):
    """Train to the first validation; what is left looks like a run that was killed there."""

    def stop(log):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(runs.get(name, "smoke"), folder, device="cpu", progress=False, on_validation=stop)
    assert last_step(folder) == 2 and (folder / "weights.safetensors").is_file()


def test_a_start_is_trained_before_the_run_that_begins_with_it(started):
    start, run = started
    path = prepare("car-edsr-x2")
    assert path == run / "weights.safetensors" and last_step(start) == last_step(run) == 4
    assert {entry.name for entry in run.iterdir()} == {"weights.safetensors", "last.ckpt", "log.csv"}  # no curve of two
    assert checkpoint.read(run)["recipe"]["warm_start"] == sha256(start / "weights.safetensors")


@pytest.mark.parametrize("options", [{}, {"renew": True}])
def test_an_interrupted_start_is_finished_first(started, options):
    start, run = started
    interrupt("bicubic-edsr-x2-start", start)
    prepare("car-edsr-x2", **options)
    assert last_step(start) == 4
    assert checkpoint.read(run)["recipe"]["warm_start"] == sha256(start / "weights.safetensors")


def test_an_interrupted_start_is_finished_before_a_restart(started):
    start, run = started
    prepare("car-edsr-x2")
    shutil.rmtree(start)
    interrupt("bicubic-edsr-x2-start", start)
    prepare("car-edsr-x2", restart=True)
    assert last_step(start) == 4
    assert checkpoint.read(run)["recipe"]["warm_start"] == sha256(start / "weights.safetensors")


def test_a_run_that_goes_on_leaves_its_start_alone(started):
    start, run = started
    prepare("bicubic-edsr-x2-start")
    interrupt("car-edsr-x2", run)
    before = {path: path.stat().st_mtime_ns for path in start.iterdir()}
    prepare("car-edsr-x2")
    assert last_step(run) == 4 and {path: path.stat().st_mtime_ns for path in start.iterdir()} == before


def test_renew_follows_a_change_of_the_start(home, started):
    start, run = started
    prepare("car-edsr-x2")
    first = sha256(start / "weights.safetensors")
    edit_params(home, lambda content: content["runs"]["bicubic-edsr-x2-start"].update(seed=5))
    prepare("car-edsr-x2", renew=True)
    assert sha256(start / "weights.safetensors") != first
    assert checkpoint.read(run)["recipe"]["warm_start"] == sha256(start / "weights.safetensors")


@pytest.fixture
def shipping(home):
    """A project whose data/weights holds nothing but car-edsr-x2, as profile mini would have made it."""
    (home / "data").unlink()
    shutil.copytree(ROOT / "data" / "paper", home / "data" / "paper")
    shutil.copytree(ROOT / "data" / "demo", home / "data" / "demo")
    run = runs.get("car-edsr-x2", "mini")
    networks = nn.ModuleDict({role: models.create(**options) for role, options in run.networks().items()})
    path = home / "data" / "weights" / "car-edsr-x2.safetensors"
    weights.save(networks, path, {"run": run.name, "profile": run.profile, "networks": run.networks()})
    return path


def test_profile_demo_takes_the_shipped_weights(shipping):
    path = prepare("car-edsr-x2", "demo")
    assert path == results.folder("demo", "runs", "car-edsr-x2", "weights.safetensors")
    assert path.read_bytes() == shipping.read_bytes()
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "recipe.json"}
    assert prepare("car-edsr-x2", "demo", renew=True) == path  # what the pipeline says
    assert experiments.ready("car-edsr-x2", "demo") == shipping
    rows = experiments.measure("car-edsr-x2", "demo", ["demo"], progress=False)
    assert len(rows) == 22 and {row["profile"] for row in rows} == {"demo"}


def test_profile_demo_trains_nothing(home, shipping):
    told = "profile demo trains nothing, it takes the shipped weights: use --profile mini"
    assert_refused(told, prepare, "car-edsr-x2", "demo", ["lr=1.0e-3"])
    assert_refused(told, prepare, "car-edsr-x2", "demo", restart=True)
    assert_refused("no weights are shipped for car-edsr-x4: train it with", prepare, "car-edsr-x4", "demo")
    assert_refused("no weights are shipped for car-edsr-x4", experiments.ready, "car-edsr-x4", "demo")
    assert_refused("bicubic-bicubic-x2 has no weights", prepare, "bicubic-bicubic-x2", "demo")
    assert not (home / "results").exists()


def test_a_pipeline_goes_on_without_weights_that_are_not_shipped(home, shipping, capsys):
    prepare("car-edsr-x2", "demo", allow_missing=True)
    content = shipping.read_bytes()
    shipping.unlink()
    path = prepare("car-edsr-x2", "demo", allow_missing=True)
    folder = results.folder("demo", "runs", "car-edsr-x2")
    assert path.name == "missing.txt" and set(folder.iterdir()) == {path, folder / "recipe.json"}
    assert "no weights are shipped for car-edsr-x2" in path.read_text()
    assert "no weights are shipped for car-edsr-x2" in capsys.readouterr().err
    shipping.write_bytes(content)
    path = prepare("car-edsr-x2", "demo", allow_missing=True)
    assert set(folder.iterdir()) == {path, folder / "recipe.json"} and path.read_bytes() == content


def test_the_recipe_beside_shipped_weights_has_the_numbers_of_the_run_and_of_what_it_begins_with(home, shipping):
    recipe = prepare("car-edsr-x2", "demo").with_name("recipe.json")
    declared = json.loads(recipe.read_text())["trained"]
    assert list(declared) == ["bicubic-edsr-x2-start", "car-edsr-x2"]
    assert declared["car-edsr-x2"] == json.loads(json.dumps(runs.as_dict(runs.get("car-edsr-x2", "mini"))))
    params = yaml.safe_load((home / "params.yaml").read_text())
    params["runs"]["bicubic-edsr-x2-start"]["mini"]["steps"] = 7
    (home / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    before = recipe.read_text()
    prepare("car-edsr-x2", "demo")
    assert recipe.read_text() == before.replace('"steps": 3000', '"steps": 7') != before
    params["runs"]["car-edsr-x2"]["demo"] = {"loss": "l1"}  # what is shown may be another number than was trained with
    (home / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    prepare("car-edsr-x2", "demo")
    found = json.loads(recipe.read_text())
    assert found["shown"]["loss"] == "l1" and found["trained"]["car-edsr-x2"]["loss"] == "l2"


def test_weights_of_another_seed_are_shipped_under_its_name(shipping):
    assert_refused("no weights are shipped for car-edsr-x2-seed1", experiments.ready, "car-edsr-x2-seed1", "demo")
    other = shipping.with_name("car-edsr-x2-seed1.safetensors")
    run = runs.get("car-edsr-x2-seed1", "mini")
    header = {"run": run.name, "profile": "mini", "networks": run.networks()}
    weights.save(weights.load_run(shipping)[0], other, header)
    assert experiments.ready("car-edsr-x2-seed1", "demo") == other
    assert experiments.chain("car-edsr-x2-seed1", "demo").run.seed == 1


def test_ready_says_what_is_missing_and_how_to_make_it(home):
    told = r"no weights at .*results/smoke/runs/car-edsr-x2/.*: call `carlib train car-edsr-x2 --profile smoke` first"
    assert_refused(told, experiments.ready, "car-edsr-x2", "smoke")
    assert experiments.ready("bicubic-bicubic-x2", "smoke") is None


def test_weights_of_another_run_in_the_shipped_place_are_not_measured(shipping):
    shipping.rename(shipping.with_name("car-bicubic-x2.safetensors"))
    told = "is of run car-edsr-x2, profile mini, not of car-bicubic-x2, demo"
    assert_refused(told, experiments.measure, "car-bicubic-x2", "demo", ["demo"], progress=False)


def test_a_run_at_its_end_is_told_without_loading_what_trains(home, monkeypatch):
    small = ["steps=2", "validate_every=1", "patch={2: 16}", "validation_crop=32"]
    path = prepare("bicubic-edsr-x2", params=small)
    monkeypatch.setattr(train, "Loop", None)
    monkeypatch.setattr(train.devices, "fabric", None)
    assert prepare("bicubic-edsr-x2", params=small) == path
    assert prepare("bicubic-edsr-x2", params=small, renew=True) == path
    with pytest.raises(TypeError):  # another recipe is trained
        prepare("bicubic-edsr-x2", params=[*small, "seed=1"], renew=True)


def test_a_finished_run_whose_start_is_gone_has_that_made_again(started):
    start, _ = started
    path = prepare("car-edsr-x2")
    before = path.read_bytes()
    shutil.rmtree(start)
    assert prepare("car-edsr-x2") == path and path.read_bytes() == before
    assert (start / "weights.safetensors").is_file()


# ---- one training beside the declared run, and weights from elsewhere ----------------------------------


def test_a_training_with_other_settings_has_a_folder_of_its_own(started):
    """So a notebook or a pipeline, which renews the declared run, leaves it alone, and its weights out of tables."""
    _, run = started
    path = prepare("car-edsr-x2", params=["lr=2.0e-4"])
    assert path.parent.parent == run.parent and path.parent.name.startswith("car-edsr-x2-with-") and not run.exists()
    before = path.read_bytes()
    assert prepare("car-edsr-x2", params=["lr=0.0002"]) == path and path.read_bytes() == before  # the same settings
    assert prepare("car-edsr-x2", params=["lr=0.0002", "steps=2"]).parent.name != path.parent.name
    assert prepare("car-edsr-x2", params=["steps=4"]) == run / "weights.safetensors"  # which it has all the same
    assert path.read_bytes() == before


def test_weights_that_were_brought_are_taken_for_trained(started, monkeypatch, capsys):
    start, run = started
    path = prepare("car-edsr-x2")
    for folder in (start, run):
        (folder / "last.ckpt").unlink()
    (start / "log.csv").unlink()
    before = [folder.joinpath("weights.safetensors").read_bytes() for folder in (start, run)]
    with monkeypatch.context() as without:
        without.setattr(train, "train", None)
        for options in ({}, {"renew": True}):
            capsys.readouterr()
            assert prepare("car-edsr-x2", **options) == path
            assert "of this very recipe, no checkpoint beside" in capsys.readouterr().err
        assert_refused("none of the way: --history needs --restart", prepare, "car-edsr-x2", history=True)
    path.unlink()
    (run / "log.csv").unlink()
    prepare("car-edsr-x2")  # trained from the start that was brought
    assert [folder.joinpath("weights.safetensors").read_bytes() for folder in (start, run)] == before


def test_half_trained_weights_without_a_checkpoint_are_not_trained_over_unless_that_is_wanted(started):
    start, _ = started
    interrupt("bicubic-edsr-x2-start", start)
    (start / "last.ckpt").unlink()
    before = (start / "weights.safetensors").read_bytes()
    log = (start / "log.csv").read_text()
    for step, told in ((0, log.splitlines()[0]), (2, log)):
        (start / "log.csv").write_text(told)
        refused = f"half-trained, {step} of 4 steps, and no checkpoint beside: use --renew"
        assert_refused(refused, prepare, start.name)
        assert not queue.is_current(start.name, "smoke") and not queue.is_done(start.name, "smoke")
        assert (start / "weights.safetensors").read_bytes() == before
    prepare(start.name, renew=True)
    assert last_step(start) == 4


def test_weights_that_were_brought_are_current_for_a_queue(started):
    start, _ = started
    prepare(start.name)
    (start / "last.ckpt").unlink()
    assert queue.is_current(start.name, "smoke") and queue.trained(start.name, "smoke").startswith("trained, 4 steps, ")
    (start / "log.csv").unlink()
    assert queue.is_current(start.name, "smoke") and queue.trained(start.name, "smoke") == "trained, 4 steps"


def test_folders_of_one_name_are_told_apart(home, tmp_path, monkeypatch):
    found = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        found.append(run_places.own_folder(runs.get("car-edsr-x2", "smoke", {"train_sets": ["./photos"]})))
    run = runs.get("car-edsr-x2", "smoke", {"train_sets": [str(tmp_path / "b" / "photos")]})
    assert found[0] != found[1] == run_places.own_folder(run)


def test_a_scale_without_a_patch_is_trained_where_the_patch_is_given(home):
    def edit(content):
        content["runs"]["bicubic-edsr-x6"] = {"downscaler": "bicubic", "upscaler": "rdn", "scale": 3}
        content["profiles"]["smoke"]["train"]["patch"] = {2: 32}

    edit_params(home, edit)
    assert_refused("holds no multiple of scale=3: add 3: 96", prepare, "bicubic-edsr-x6")
    small = ["patch={3: 24}", "steps=1", "validate_every=1", "validation_crop=33"]
    assert prepare("bicubic-edsr-x6", params=small).parent.name.startswith("bicubic-edsr-x6-with-")


@pytest.mark.parametrize("held", [[], "edsr", {"upscaler": "edsr"}, {"upscaler": {"name": "edsr"}}, {"resampler": {}}])
def test_a_start_whose_header_does_not_say_what_it_holds_is_one_line(home, tmp_path, held):
    path = tmp_path / "start.safetensors"
    weights.save(nn.Linear(1, 1), path, {"networks": held})
    run = runs.get("bicubic-edsr-x2", "smoke", {"warm_start": str(path)})
    assert_refused("holds no upscaler|does not say how to build its upscaler", run_networks.check_starts, run)


def test_a_finished_run_is_renewed_where_nothing_can_be_written(started, monkeypatch):
    start, _ = started
    path = prepare(start.name)

    def read_only(target):
        raise ValueError(f"cannot write {target}")

    monkeypatch.setattr(results, "check_writable", read_only)
    assert prepare(start.name, renew=True) == path
    assert_refused("cannot write", prepare, start.name, restart=True)


def test_a_run_without_anything_to_train_is_refused_before_its_sets_are_missed(home):
    assert_refused("has nothing to train: it trains on each image", prepare, "bicubic-zssr-x2", "paper")
    assert not (home / "results").exists()


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize(
    "name, other, fits",
    [("vdsr", "vdsr-x4", True), ("edsr", "edsr-x4", False), ("dncnn", "vdsr-x2", False)],  # of one shape, another sense
)
def test_a_start_of_another_scale_is_taken_where_its_weights_fit(home, tmp_path, name, other, fits, as_file):
    start = f"bicubic-{other}"
    if as_file:
        spec = runs.get(start, "smoke").networks()
        networks = nn.ModuleDict({role: models.create(**options) for role, options in spec.items()})
        start = str(tmp_path / "start.safetensors")
        weights.save(networks, start, {"networks": spec})
    run = runs.get(f"bicubic-{name}-x2", "smoke", {"warm_start": start})
    if fits:
        run_networks.check_starts(run)
    else:
        key = "scale" if name == "edsr" else "name"
        assert_refused(f"cannot take the upscaler of warm_start=.*which has .*{key}=", run_networks.check_starts, run)


def test_weights_of_another_recipe_are_not_trained_over_unless_that_is_wanted(home, started, capsys):
    start, _ = started
    path = prepare("bicubic-edsr-x2-start")
    (start / "last.ckpt").unlink()
    before = path.read_bytes()
    edit_params(home, lambda content: content["runs"]["bicubic-edsr-x2-start"].update(seed=5))
    told = "weights of another recipe: seed 0 -> 5, and no checkpoint beside: use --renew, or another --out"
    assert_refused(told, prepare, "bicubic-edsr-x2-start")
    assert path.read_bytes() == before
    prepare("bicubic-edsr-x2-start", renew=True)
    assert path.read_bytes() != before and "seed 0 -> 5: training anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    "params, told",
    [
        (["train_sets=[urban100]"], "image set urban100 is not here"),
        (["validation_set=./nothing"], r"the folder \./nothing is not there"),
        (["accumulate=3"], "cannot be shared out evenly"),
        (
            ["warm_start=bicubic-edsr-x4"],
            "cannot take the upscaler of warm_start='bicubic-edsr-x4', which has scale=4, not 2",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_its_start_is_trained(started, monkeypatch, params, told):
    monkeypatch.delenv("CARLIB_DATA", raising=False)
    start, _ = started
    assert_refused(told, prepare, "car-edsr-x2", params=params)
    assert not start.exists()


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_start_is_trained(started, tmp_path):
    start, _ = started
    (tmp_path / "file").write_text("")
    assert_refused("cannot write", prepare, "car-edsr-x2", folder=tmp_path / "file" / "run")
    assert not start.exists()


def test_validation_on_images_that_are_trained_on_is_told(started, tmp_path, capsys):
    other = tmp_path / "held out"
    shutil.copytree(ROOT / "data" / "content", other)
    prepare("bicubic-edsr-x2-start", params=[f"validation_set={other}"])
    assert "is trained on" not in capsys.readouterr().err
    prepare("bicubic-edsr-x2-start")
    told = "demo validates, and is trained on: its PSNR says nothing about other images"
    assert f"bicubic-edsr-x2-start: {told}" in capsys.readouterr().err
