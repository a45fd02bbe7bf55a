"""The commands of experiments: train, evaluate, data, models; refusals are one line, and nothing is half-written."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from refusals import assert_refused

from carlib import data, experiments, models, network_costs, provenance


@pytest.mark.parametrize(("arguments", "told"), [
    (["train", "car-edrs-x2"], "run 'car-edrs-x2' is unknown: did you mean 'car-edsr-x2'"),
    (["train", "car-edsr-x2", "--profile", "mni"], "profile 'mni' is unknown: did you mean 'mini'"),
    (["train", "car-edsr-x2", "-p", "sed=1"], "parameter 'sed' is unknown: did you mean 'seed'"),
    (["train", "car-edsr-x2", "-p", "seed"], "is not name=value"),
    (["train", "car-edsr-x2", "-p", "patch={2"], "is not valid YAML"),
    (["train", "car-edsr-x2", "--profile", "smoke", "-p", "lr=0"], "lr=0.0 must be above 0"),
    (["train", "car-edsr-x2", "--profile", "paper"], "image set div2k-train is not here"),
    (["train", "bicubic-bicubic-x2", "--profile", "demo"], "has no weights"),
    (["train"], "name a RUN, or give --all"),
    (["train", "car-edsr-x2", "--only", "table3"], "name a RUN, or give --all"),
    (["train", "car-edsr-x2", "--all"], "--all takes --profile, --only, --renew, --device, --executor and"),
    (["train", "--all", "--history", "--profile", "smoke"], "--all takes --profile, --only"),
    (["train", "--all", "--no-wait", "--profile", "smoke"], "--no-wait is for jobs: give --executor slurm"),
    (["train", "car-edsr-x2", "--executor", "slrum", "--profile", "smoke"], "executor 'slrum' is unknown: use"),
    (["train", "car-edsr-x2", "--executor", "local", "-p", "lr=1"], "--executor takes RUN or --all"),
    (["train", "car-edsr-x2", "--executor", "local", "--profile", "demo"], "profile demo trains nothing"),
    (["train", "car-edrs-x2", "--executor", "local", "--profile", "smoke"], "run 'car-edrs-x2' is unknown"),
    (["train", "--all", "--restart", "--profile", "smoke"], "--all takes --profile, --only"),
    (["train", "--all", "--profile", "smoke", "--parallel", "0"], "--parallel is 0, not a whole number above 0"),
    (["train", "car-edsr-x2", "-p", "steps=1", "--parallel", "2"], "--parallel takes RUN or --all, --only"),
    (["train", "--all", "--profile", "demo"], "profile demo trains nothing"),
    (["train", "--all", "--profile", "demo", "--parallel", "2"], "profile demo trains nothing"),
    (["train", "--all", "--profile", "smoke", "--only", "3"], "--only '3' is not the name of a table"),
    (["train", "--all", "--profile", "smoke", "--only", "table6"], "no runs are declared for table 6"),
    (["experiments", "--profile", "mni"], "profile 'mni' is unknown"),
    (["train", "car-edsr-x2", "--profile", "demo", "-p", "lr=1e-3"], "profile demo trains nothing"),
    (["train", "car-edsr-x2", "--profile", "demo", "--restart"], "profile demo trains nothing"),
    (["evaluate", "bicubic-bicubic-x2", "--set", "urban100"], "image set urban100 is not here"),
    (["evaluate", "bicubic-bicubic-x2", "--set", "demmo"], "did you mean demo"),
    (["evaluate", "bicubic-bicubic-x2", "--profile", "paper"], "none of the image sets"),
    (["evaluate", "car-edsr-x2", "--profile", "smoke", "--set", "demo"], "no weights at"),
    (["data", "verify", "demmo"], "unknown image set 'demmo'"),
    (["evaluate", "bicubic-bicubic-x2", "--set", "demo", "--weights", "w.safetensors"], "has no weights"),
    (["notebook", "07_none"], "no notebook '07_none'"),
    (["report", "--profile", "demo"], "nothing to report in"),
    (["report", "--profile", "mni"], "profile 'mni' is unknown"),
])  # fmt: skip
def test_unknown_names_are_refused(carlib, home, arguments, told):
    assert_refused(carlib(*arguments), told, home / "results")


def test_evaluate_writes_rows_and_shows_means(carlib, home):
    code, out, _ = carlib("evaluate", "bicubic-bicubic-x2", "--profile", "smoke", "--protocol", "rgb")
    path = home / "results" / "smoke" / "metrics" / "bicubic-bicubic-x2.csv"
    assert code == 0 and out.splitlines()[-1] == str(path)
    frame = pd.read_csv(path)
    assert len(frame) == 4 and set(frame["protocol"]) == {"rgb"}
    assert f"{frame[frame['metric'] == 'ssim']['value'].mean():.4f}" in out


def test_what_is_named_twice_is_measured_once(carlib, home):
    twice = ["--set", "demo"] * 2 + ["--protocol", "rgb"] * 2
    assert carlib("evaluate", "bicubic-bicubic-x2", "--profile", "smoke", *twice)[0] == 0
    frame = pd.read_csv(home / "results" / "smoke" / "metrics" / "bicubic-bicubic-x2-demo.csv")
    assert len(frame) == len(frame.drop_duplicates(["image", "metric"])) == 4


@pytest.mark.parametrize("command", [
    ["evaluate", "bicubic-bicubic-x2", "--profile", "smoke"], ["experiments", "--profile", "smoke"],
    ["trial", "car-bicubic-x2", "--profile", "smoke", "-p", "steps=2"],
])  # fmt: skip
@pytest.mark.parametrize(("name", "told"), [
    ("photo.png", "would be a table: name a .csv file"), ("notes.csv", "no such table, it would be lost"),
    ("folder.csv", "no regular file"),
])  # fmt: skip
def test_a_table_takes_the_place_of_no_other_file(carlib, home, tmp_path, monkeypatch, command, name, told):
    """Which is said before anything is measured or trained."""
    monkeypatch.setattr(experiments, "prepare", None)
    monkeypatch.setattr(experiments, "measure", None)
    (tmp_path / "folder.csv").mkdir()
    for file in ("photo.png", "notes.csv"):
        (tmp_path / file).write_text("a,b\n1,2\n")
    assert_refused(carlib(*command, "--out", tmp_path / name), told, tmp_path / "nothing")
    assert (tmp_path / "photo.png").read_text() == (tmp_path / "notes.csv").read_text() == "a,b\n1,2\n"


def test_evaluate_renews_a_table_of_its_own(carlib, home, tmp_path):
    for protocol in ("rgb", "standard"):
        options = ["--profile", "smoke", "--protocol", protocol, "--out", tmp_path / "rows.csv"]
        assert carlib("evaluate", "bicubic-bicubic-x2", *options)[0] == 0
    assert set(pd.read_csv(tmp_path / "rows.csv").protocol) == {"standard"}


def test_data_list_tells_of_folders_that_are_none(carlib, tmp_path, monkeypatch):
    monkeypatch.setenv("CARLIB_DATA", f"{tmp_path}{os.pathsep}{tmp_path / 'typo'}")
    code, _, err = carlib("data", "list")
    assert code == 0 and "typo, which is no folder" in err and err.count("\n") == 1


def test_train_trains_and_evaluate_takes_it(carlib, home):
    run = ["bicubic-edsr-x2", "--profile", "smoke"]
    small = ["-p", "steps=3", "-p", "validate_every=1", "-p", "patch={2: 16}", "-p", "validation_crop=32"]
    folder = home / "results" / "smoke" / "runs" / "bicubic-edsr-x2"
    code, out, err = carlib("train", *run, *small, "--device", "cpu")
    aside = Path(out.strip())
    assert code == 0 and aside.parent.name.startswith("bicubic-edsr-x2-with-") and not folder.exists()
    told = re.search(r"`carlib (evaluate .*)` measures it", err)[1]
    assert carlib(*told.split(), "--set", "demo")[0] == 0
    code, _, err = carlib("train", *run, *small, "-p", "downscaler=box", "--device", "cpu")
    assert code == 0 and "measures it" not in err and "with settings of its own" in err  # no run to measure it as
    small += ["--out", folder]
    code, out, _ = carlib("train", *run, *small, "--device", "cpu")
    assert code == 0 and out.strip() == str(folder / "weights.safetensors")
    assert {path.name for path in folder.iterdir()} == {"weights.safetensors", "last.ckpt", "log.csv", "curve.png"}
    code, _, err = carlib("evaluate", *run, "--set", "DEMO")
    assert code == 0 and f"{folder / 'weights.safetensors'}: training, 3 of 4\n" in err
    code, _, err = carlib("train", *run, "-p", "steps=4", "--out", folder, "--device", "cpu")
    assert code == 2 and "holds a run with other parameters" in err.splitlines()[-1]
    weights_before = (folder / "weights.safetensors").read_bytes()
    code, out, err = carlib("train", *run, *small, "-p", "seed=1", "--renew", "--device", "cpu")
    assert code == 0 and "bicubic-edsr-x2: seed 0 -> 1: training anew" in err
    assert (folder / "weights.safetensors").read_bytes() != weights_before


def test_train_all_ends_with_1_and_the_failed_runs(carlib, monkeypatch):
    from carlib.dispatch import queue

    asked = []
    monkeypatch.setattr(queue, "train_all", lambda *arguments, **options: asked.append(arguments) or {"a": "why"})
    assert carlib("train", "--all", "--profile", "paper", "--only", "table3") == (1, "", "carlib: a: why\n")
    assert asked == [("paper", 3)]
    monkeypatch.setattr(queue, "train_all", lambda *arguments, **options: {})
    assert carlib("train", "--all", "--profile", "smoke", "--parallel", "1")[0] == 0


def test_train_takes_several_runs_at_a_time_where_it_or_the_profile_says_so(carlib, monkeypatch):
    from carlib.dispatch import parallel, queue

    asked = []
    monkeypatch.setattr(parallel, "train", lambda names, profile, **options: asked.append((names, options)) or {})
    assert carlib("train", "--all", "--only", "table3", "--profile", "smoke")[0] == 0
    assert carlib("train", "car-edsr-x2", "car-edsr-x4", "--profile", "mini", "--parallel", "3", "--renew")[0] == 0
    assert [(names, options["count"], options["renew"]) for names, options in asked] == [
        (queue.wanted("smoke", 3), 2, False), (["car-edsr-x2", "car-edsr-x4"], 3, True),
    ]  # fmt: skip


def test_train_hands_runs_to_an_executor(carlib, monkeypatch):
    from carlib import cells
    from carlib.dispatch import cluster

    asked = []
    monkeypatch.setattr(cluster, "train_all", lambda names, profile, **options: asked.append((names, options)) or {})
    given = ["--executor", "slurm", "--profile", "smoke"]
    assert carlib("train", "--all", "--only", "table3", *given, "--no-wait")[0] == 0
    assert carlib("train", "car-edsr-x4", *given)[0] == 0
    assert [names for names, _ in asked] == [cells.names(3, "smoke"), ["car-edsr-x4"]]
    assert [options["wait"] for _, options in asked] == [False, True] and asked[0][1]["executor"] == "slurm"
    monkeypatch.setattr(cluster, "train_all", lambda *arguments, **options: {"a": "why"})
    assert carlib("train", "car-edsr-x4", *given) == (1, "", "carlib: a: why\n")


def test_experiments_lists_runs_and_keeps_the_list(carlib, home):
    code, out, _ = carlib("experiments", "--profile", "smoke", "--out", home / "costs.csv")
    frame = pd.read_csv(home / "costs.csv")
    assert code == 0 and out.splitlines()[-1] == str(home / "costs.csv") and "missing" in out
    assert out.splitlines()[-2].startswith(f"{len(frame)} runs: {len(frame)} missing")


def test_data_list_tells_what_is_here(carlib, tmp_path):
    code, out, err = carlib("data", "list", "--json", tmp_path / "sets.json")
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert (code, err) == (0, "") and lines["demo"][:2] == ["11", "11"] and lines["urban100"][:2] == ["0", "100"]
    assert set(yaml.safe_load((tmp_path / "sets.json").read_text())) == {"demo", "content"}


def test_data_verify_finds_a_changed_file(carlib, tmp_path, monkeypatch):
    assert carlib("data", "verify", "demo")[:2] == (0, "demo: 11 ok\n")
    data.write_image(tmp_path / "sets" / "Set5" / "baby.png", np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setenv("CARLIB_DATA", str(tmp_path / "sets"))
    code, out, err = carlib("data", "verify", "set5")
    assert (code, err) == (1, "") and "baby.png differs" in out


def test_models_lists_what_networks_cost(carlib):
    code, out, _ = carlib("models", "--size", "mini", "--scale", 2)
    assert code == 0 and len(out.splitlines()) == 1 + len(models.SIZES)
    assert re.search(r"^ *edsr +mini +2 +121,987 +31\.03$", out, re.MULTILINE)
    assert_refused(carlib("models", "--size", "huge"), "size 'huge' of resampler is unknown")


def test_models_writes_what_it_measured(carlib, tmp_path, monkeypatch):
    bicubic = models.summary(("mini",), (2,)).query("network == 'bicubic'")
    monkeypatch.setattr(models, "summary", lambda *_: bicubic.copy())
    path = tmp_path / "networks.csv"
    code, out, _ = carlib("models", "--measure", "--out", path)
    assert code == 0 and out.splitlines()[-1] == str(path) and "machine" not in out
    (row,) = network_costs.earlier(path).to_dict("records")
    assert (row["network"], row["scale"], row["machine"]) == ("bicubic", 2, provenance.machine()) and row["seconds"] > 0
    assert_refused(carlib("models", "--out", path), "add --measure")


def test_several_runs_are_made_ready_in_their_order_and_out_is_of_one(carlib, monkeypatch):
    made = []
    monkeypatch.setattr(experiments, "prepare", lambda name, *_, **__: made.append(name) or f"{name}.safetensors")
    code, out, _ = carlib("train", "car-edsr-x4", "bicubic-edsr-x4", "--profile", "smoke", "--parallel", "1")
    assert code in (0, None) and made == ["car-edsr-x4", "bicubic-edsr-x4"] == re.findall(r"(\S+)\.safetensors", out)
    code, _, err = carlib("train", "car-edsr-x4", "bicubic-edsr-x4", "--out", "x")
    assert code == 2 and "--out x is the folder of one run, here are 2" in err and len(made) == 2
