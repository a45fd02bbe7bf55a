"""What made a result is written beside it, and is no part of it."""

import hashlib
import json
import subprocess

import pandas as pd
import pytest
from matplotlib.figure import Figure

from carlib import artefacts, evaluate, experiments, provenance, results, runs, weights
from carlib.studies import joint, seeds

TEXTS = {"title": "t", "caption": "c", "command": "d"}


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(provenance, "_used", {})


def save(name="t", profile="demo"):
    return artefacts.save_table(pd.DataFrame({"a": [1]}), results.folder(profile, "tables", name), **TEXTS)


def record(home, name="tables-t.csv", profile="demo"):
    return json.loads((home / "results" / profile / "provenance" / f"{name}.json").read_text())


def test_a_record_names_file_profile_data_versions(home):
    path = save()
    found = record(home)
    assert found["file"] == "tables/t.csv" and found["profile"] == "demo" and found["commit"] == "unknown"
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["data"]["demo"]["count"] == 11 and len(found["data"]["demo"]["sha256"]) == 64
    assert found["parameters"]["profile"]["size"] and found["versions"]["numpy"] and found["weights"] == {}


def test_weights_that_were_loaded_are_in_it(home):
    run = "car-edsr-x4"
    path = experiments.ready(run, "demo")
    weights.load_run(path)
    save()
    found = record(home)["weights"]
    assert list(found) == [run] and found[run]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found[run]["profile"] == "mini" and found[run]["seed"] == 0 and found[run]["commit"]


STUDIES = {
    "seeds": lambda: seeds.study("demo", train=False, progress=False),
    "table1": lambda: joint.study("demo", progress=False),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_table_names_the_weights_of_all_runs_that_it_shows(home, monkeypatch, name):
    """Rows that an earlier process measured and kept are no exception."""
    measured = [{"protocol": "standard", "metric": metric, "value": 1.0} for metric in ("psnr", "ssim")]
    monkeypatch.setattr(evaluate, "_measure", lambda *arguments, **options: measured)
    STUDIES[name]()
    (path,) = results.folder("demo", "metrics").glob(f"{name}*.csv")
    shown = {run for run in pd.read_csv(path).run if runs.get(run, "demo").trains}
    assert len(shown) > 2
    expected = {run: provenance.sha256(experiments.ready(run, "demo")) for run in shown}
    for times in (1, 2):
        for file in (f"metrics-{path.name}", f"tables-{path.name}"):
            found = record(home, file)["weights"]
            assert {run: found[run]["sha256"] for run in found} == expected, (times, file)
        monkeypatch.setattr(provenance, "_used", {})  # as in another process
        monkeypatch.setattr(evaluate, "_measure", lambda *a, **o: pytest.fail("this row was kept"))
        STUDIES[name]()


def test_figures_and_metrics_have_one_too(home):
    artefacts.save_figure(Figure(figsize=(1, 1)), results.folder("demo", "figures", "f"), alt="a", **TEXTS)
    artefacts.save_rows([{"run": "r"}], results.folder("demo", "metrics", "m.csv"))
    assert record(home, "figures-f.png")["file"] == "figures/f.png" and record(home, "metrics-m.csv")


def test_a_file_of_the_users_own_has_none(home, tmp_path):
    artefacts.save_rows([{"run": "r"}], tmp_path / "own" / "m.csv")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["m.csv"]


def git(home, *arguments):
    named = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *named, *arguments], cwd=home, check=True, capture_output=True)


def test_the_commit_changes_the_record_and_not_the_result(home):
    def files():
        return {path.name: path.read_bytes() for path in results.folder("demo", "tables").iterdir()}

    (home / "carlib").mkdir()
    (home / "carlib" / "a.py").write_text("1")
    checkout = (home / "data").resolve()
    (home / "data").unlink()
    (home / "data").mkdir()
    (home / "data" / "demo").symlink_to(checkout / "demo")
    git(home, "init", "-q")
    git(home, "add", "carlib", "data", "params.yaml")
    git(home, "commit", "-qm", "first")
    save()
    before, first = files(), record(home)
    assert first["commit"] not in ("unknown", "") and not first["commit"].endswith("-dirty")  # results/ is not code
    results.write_text(home / "data" / "trials.csv", "of a trial")
    save()
    assert record(home) == first
    (home / "carlib" / "a.py").write_text("2")
    save()
    assert record(home)["commit"] == f"{first['commit']}-dirty"
    git(home, "commit", "-qam", "second")
    save()
    assert record(home)["commit"] != first["commit"] and files() == before


def test_a_figure_is_the_same_bytes_each_time(tmp_path):
    def drawn():
        figure = Figure(figsize=(2, 1))
        figure.add_subplot().plot([1, 2])
        path = artefacts.save_figure(figure, tmp_path / "f", alt="a", **TEXTS)
        return path.read_bytes(), path.with_suffix(".pdf").read_bytes()

    assert drawn() == drawn()


def test_the_projects_folder_is_named_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARLIB_HOME", "project")
    assert results.root() == tmp_path / "project"  # a notebook's kernel works elsewhere
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CARLIB_HOME", "~/project")
    assert results.root() == tmp_path / "project"
