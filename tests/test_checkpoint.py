"""What a checkpoint remembers of its recipe, and when that lets a run continue."""

import ast
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from short_runs import go, short

import carlib
from carlib import data, rescale, results, runs, sources
from carlib.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def stamps(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of carlib's files, whose code is digested in place of carlib's."""
    folder = shutil.copytree(Path(carlib.__file__).parent, tmp_path / "carlib")
    monkeypatch.setattr(sources, "_PACKAGE", folder)
    return folder


def edit(path, before, after):
    text = path.read_text(encoding="utf-8")
    assert before in text, path
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def test_the_code_digest_is_that_of_the_code_not_of_its_place(package):
    copied = checkpoint.code_digest(short())
    assert copied == checkpoint.code_digest(short()) and len(copied) == 64
    shutil.move(package, package.with_name("elsewhere"))
    shutil.copytree(package.with_name("elsewhere"), package)
    assert checkpoint.code_digest(short()) == copied


def test_comments_docstrings_and_layout_are_no_change(package):
    before = checkpoint.code_digest(short())
    for path in (
        package / "train.py",
        package / "training" / "loop.py",
        package / "losses.py",
        package / "models" / "edsr.py",
    ):
        edit(path, '"""', '"""Anew: ')  # the module's docstring
        path.write_text(
            "# a comment\n\n\n" + path.read_text(encoding="utf-8") + "\n\n# and another\n", encoding="utf-8"
        )
    edit(package / "run_networks.py", '    """Parameter of runs.STARTS', '    """Name of runs.STARTS')  # a function's
    edit(package / "run_networks.py", '    """Down and up again', '    """Up and down')  # a class's
    edit(package / "training" / "loop.py", "betas=(0.9, 0.999), ", "betas=(\n        0.9,\n        0.999,\n    ), ")
    (package / "evaluate.py").write_text("no part of training")
    assert checkpoint.code_digest(short()) == before


@pytest.mark.parametrize(("file", "before", "after"), [
    ("training/loop.py", "betas=(0.9, 0.999)", "betas=(0.9, 0.99)"),
    ("losses.py", "return ", "return 2 * "),
    ("models/layers.py", "import", "import os\nimport"),
    ("ops/imresize.py", "(1.5 * t - 2.5)", "(1.5 * t - 2.25)"),
])  # fmt: skip
def test_a_changed_number_or_line_is_a_change(package, file, before, after):
    digest = checkpoint.code_digest(short())
    edit(package / file, before, after)
    assert checkpoint.code_digest(short()) != digest


def test_what_the_training_loop_is_made_of_is_digested_and_a_dependency_of_its_stage():
    """A new module of it that was forgotten would leave old weights standing."""
    # Compared by their values, kept by the header, or no part of the numbers.
    apart = {
        "checkpoint",
        "data",
        "devices",
        "memory",
        "models",
        "overview",
        "provenance",
        "results",
        "run_folder",
        "runs",
        "stopping",
    }
    package, made_of = Path(carlib.__file__).parent, set(checkpoint._TRAINING)
    imported = set()
    for file in ("train.py", "training/loop.py"):
        for node in ast.walk(ast.parse((package / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "carlib":
                room = node.module in ("carlib", "carlib.training")
                imported |= {name.name for name in node.names} if room else {node.module.split(".")[-1]}
    ops = {path.stem for path in (package / "ops").glob("*.py")}
    imported -= {"ops", *apart, *ops}
    assert {"objective", "schedule"} < imported <= {Path(file).stem for file in made_of}
    stage = yaml.safe_load((package.parent / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["weights"]
    assert {f"carlib/{file}" for file in made_of} <= set(stage["deps"])


def test_a_module_counts_however_it_is_imported():
    tree = ast.parse("from carlib.ops import jpeg, nothing\nfrom carlib.ops.quantize import quantize\nimport torch")
    assert sources._imports(tree) == ["ops/jpeg.py", "ops/quantize.py"]


@pytest.mark.parametrize(("file", "touched"), [
    ("models/edsr.py", {"bicubic-edsr-x2", "car-edsr-x2"}),
    ("models/bicubic.py", {"car-bicubic-x2"}),
    ("ops/resample_numba.py", {"car-edsr-x2", "car-bicubic-x2"}),
    ("ops/resample_kernels.py", {"car-edsr-x2", "car-bicubic-x2"}),
    ("ops/imresize.py", {"bicubic-edsr-x2", "car-edsr-x2", "car-bicubic-x2"}),
    ("ops/jpeg.py", {"bicubic-edsr-x2", "car-edsr-x2", "car-bicubic-x2"}),
    ("metrics.py", {"bicubic-edsr-x2", "car-edsr-x2", "car-bicubic-x2"}),  # selects the weights that are kept
    ("evaluate.py", set()),
    ("downscalers/dpid.py", set()),
])  # fmt: skip
def test_code_that_a_run_does_not_use_is_no_change_for_it(home, package, file, touched):
    every = [short(name) for name in ("bicubic-edsr-x2", "car-edsr-x2", "car-bicubic-x2")]
    before = {run.name: checkpoint.code_digest(run) for run in every}
    path = package / file
    path.write_text(path.read_text(encoding="utf-8") + "\nanother = 1\n", encoding="utf-8")
    assert {run.name for run in every if checkpoint.code_digest(run) != before[run.name]} == touched


@pytest.mark.parametrize(("file", "touched"), [
    ("ops/imresize.py", {"bicubic"}),
    ("ops/blocks.py", {"dpid", "l0"}),
    ("downscalers/dpid.py", {"dpid"}),
    ("downscalers/l0_reconstruction.py", {"l0"}),
    ("downscalers/perceptual.py", set()),
])  # fmt: skip
def test_the_code_of_a_downscaler_counts_for_runs_with_it(home, package, file, touched):
    every = {name: short(downscaler=name) for name in ("bicubic", "dpid", "l0")}
    before = {name: checkpoint.code_digest(run) for name, run in every.items()}
    path = package / file
    path.write_text(path.read_text(encoding="utf-8") + "\nanother = 1\n", encoding="utf-8")
    assert {name for name, run in every.items() if checkpoint.code_digest(run) != before[name]} == touched


def test_the_digest_is_of_the_downscaler_and_its_options(home):
    digests = {checkpoint.code_digest(short(downscaler=name)) for name in rescale.CLASSICAL}
    assert len(digests) == len(rescale.CLASSICAL)


def test_the_digest_leaves_out_what_only_some_versions_of_python_have():
    tree = ast.parse("def f(x):\n    return None")
    before = sources._dump(tree)
    tree.body[0].type_params = []  # since 3.12
    assert sources._dump(tree) == before and "type_params" not in before


def test_the_digest_leaves_out_the_empty_strings_that_some_versions_put_into_formats():
    tree = ast.parse("f'{x:{width}.2f}'")
    before = sources._dump(tree)
    tree.body[0].value.values[0].format_spec.values.insert(0, ast.Constant(""))  # in 3.12
    assert sources._dump(tree) == before


def test_images_of_the_validation_are_part_of_the_recipe(home):
    run = short(train_sets=["demo"], validation_set="demo")
    assert set(checkpoint.recipe(run)["data"]) == {"demo"}


def test_changed_code_is_told_when_a_run_continues(home, tmp_path, monkeypatch, capsys):
    go(short(), tmp_path / "run")
    before = stamps(tmp_path / "run")
    monkeypatch.setattr(checkpoint, "code_digest", lambda run: "another")
    go(short(), tmp_path / "run")
    assert "the code changed: it is finished, and stays as it is" in capsys.readouterr().err
    assert stamps(tmp_path / "run") == before


def test_changes_are_told_in_words():
    before = {"parameters": {"lr": 0.1, "seed": 0, "gone": 1}, "code": "a", "data": {"demo": 1}, "warm_start": None}
    assert checkpoint.changes(before, before) == {}
    now = {"parameters": {"lr": 0.2, "seed": 0, "new": 3}, "code": "b", "data": {"demo": 2}, "warm_start": "c"}
    assert checkpoint.changes(before, now) == {
        "code": "the code changed",
        "data": "the data changed",
        "warm_start": "the warm_start changed",
        "parameters": "lr 0.1 -> 0.2, gone 1 -> None, new None -> 3",
    }


def test_renew_leaves_a_finished_run_alone(home, tmp_path):
    path = go(short(), tmp_path / "run")
    before = stamps(tmp_path / "run")
    assert go(short(), tmp_path / "run", renew=True) == path
    assert stamps(tmp_path / "run") == before


def test_renew_continues_what_was_stopped(home, tmp_path):
    def stop(log):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(short(), tmp_path / "run", on_validation=stop)
    seen = []
    path = go(
        short(), tmp_path / "run", renew=True, on_validation=lambda log: seen.append([row["step"] for row in log])
    )
    assert seen == [[2, 4]]
    assert path.read_bytes() == go(short(), tmp_path / "whole").read_bytes()


def assert_anew(folder, run, told, capsys):
    """With `renew` the run is trained as in an empty folder, and says why."""
    steps = []
    capsys.readouterr()
    path = go(run, folder, renew=True, on_validation=lambda log: steps.append(log[-1]["step"]))
    assert steps == [2, 4] and f"run: {told}: training anew" in capsys.readouterr().err
    assert path.read_bytes() == go(run, folder.with_name("fresh")).read_bytes()


def test_renew_trains_anew_with_another_number_and_without_it_is_refused(home, tmp_path, capsys):
    go(short(), tmp_path / "run")
    before = stamps(tmp_path / "run")
    with pytest.raises(ValueError, match=r"other parameters \(lr 0\.001 -> 0\.01\): use --renew, or another --out"):
        go(short(lr=0.01), tmp_path / "run")
    assert stamps(tmp_path / "run") == before
    assert_anew(tmp_path / "run", short(lr=0.01), "lr 0.001 -> 0.01", capsys)


def test_renew_trains_anew_with_other_images(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CARLIB_DATA", str(tmp_path / "sets"))
    draw = np.random.default_rng(0)
    for name in "ab":
        data.write_image(tmp_path / "sets" / "Set5" / f"{name}.png", draw.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    run = short(train_sets=["set5"])
    go(run, tmp_path / "run")
    before = stamps(tmp_path / "run")
    go(run, tmp_path / "run", renew=True)
    assert stamps(tmp_path / "run") == before
    data.write_image(tmp_path / "sets" / "Set5" / "c.png", draw.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    data.write_image(tmp_path / "sets" / "Set14" / "c.png", draw.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    assert_anew(tmp_path / "run", run, "the data changed", capsys)
    before = stamps(tmp_path / "run")
    (tmp_path / "sets" / "Set14" / "c.png").unlink()  # of a set that the run does not see
    go(run, tmp_path / "run", renew=True)
    assert stamps(tmp_path / "run") == before


def test_renew_trains_anew_from_other_weights(home, tmp_path, capsys):
    start, run = results.folder("smoke", "runs", "bicubic-edsr-x2"), short("car-edsr-x2", warm_start="bicubic-edsr-x2")
    go(short(), start)
    go(run, tmp_path / "run")
    before = stamps(tmp_path / "run")
    go(run, tmp_path / "run", renew=True)
    assert stamps(tmp_path / "run") == before
    go(short(seed=1), start, restart=True)
    assert_anew(tmp_path / "run", run, "the warm_start changed", capsys)


def test_renew_trains_anew_with_other_code(home, tmp_path, monkeypatch, capsys):
    go(short(), tmp_path / "run")
    monkeypatch.setattr(checkpoint, "code_digest", lambda run: "another")
    assert_anew(tmp_path / "run", short(), "the code changed", capsys)


def test_renew_does_not_hide_a_damaged_checkpoint(home, tmp_path):
    go(short(), tmp_path / "run")
    (tmp_path / "run" / "last.ckpt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read .*: begin anew with --restart") as refusal:
        go(short(), tmp_path / "run", renew=True)
    assert "\n" not in str(refusal.value)


def test_what_is_restored_is_what_was_written(home, tmp_path):
    """Networks, optimizer and the draws of every generator."""
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        network(
            torch.rand(5, 3) + torch.tensor(np.random.random((5, 3)), dtype=torch.float32)
        ).square().sum().backward()
        optimizer.step()
        return [p.detach().clone() for p in network.parameters()]

    step()
    recipe = checkpoint.recipe(short())
    checkpoint.write(tmp_path, recipe, network, optimizer, 7, [{"step": 7}], {"seconds": 1.5})
    first = step()
    state = checkpoint.read(tmp_path)
    assert (state["step"], state["log"], state["recipe"]) == (7, [{"step": 7}], recipe)
    checkpoint.restore(state, network, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(first, step(), strict=True))
    assert checkpoint.read(tmp_path / "empty") is None


def test_generators_come_back_from_tensors_and_from_the_lists_of_earlier_checkpoints():
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(network.parameters())
    rng = checkpoint._rng_state()
    state = {"networks": network.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng}
    drawn = [(torch.rand(3).tolist(), np.random.random(3).tolist(), [random.random() for _ in range(3)])]
    (version, words, gauss), (name, keys, *rest) = rng["python"], rng["numpy"]
    lists = {"python": [version, words.tolist(), gauss], "numpy": [name, keys.tolist(), *rest]}
    for known in (rng, rng | lists):
        checkpoint.restore(state | {"rng": known}, network, optimizer)
        drawn.append((torch.rand(3).tolist(), np.random.random(3).tolist(), [random.random() for _ in range(3)]))
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize(("number", "value"), [("res_scale", 0.1), ("blocks", 3)])
def test_another_size_of_a_network_is_a_change(home, tmp_path, monkeypatch, capsys, number, value):
    from carlib import models

    go(short(), tmp_path / "run")
    sizes = models.SIZES["edsr"]
    monkeypatch.setitem(sizes, "mini", sizes["mini"] | {number: value})
    if number == "blocks":
        with pytest.raises(ValueError, match="of other networks"):
            go(short(), tmp_path / "run")
    capsys.readouterr()
    assert_anew(tmp_path / "run", short(), "the networks changed", capsys)


def test_a_parameter_that_came_later_counts_as_its_default(home):
    now = checkpoint.recipe(runs.get("car-edsr-x2", "smoke"))
    before = json.loads(json.dumps(now))
    del before["parameters"]["guided_eps"], before["networks"]["resampler"]["guided_eps"]
    assert checkpoint.changes(before, now) == {} == checkpoint.changes(now, before)
    now["parameters"]["guided_eps"] = now["networks"]["resampler"]["guided_eps"] = 0.5
    told = checkpoint.changes(before, now)
    assert told == {"networks": "the networks changed", "parameters": "guided_eps 1e-05 -> 0.5"}
