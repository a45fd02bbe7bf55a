"""Methods compared: pairs of images, sets that were printed but not measured, and the grid on one page."""

import math

import numpy as np
import pandas as pd
import pytest

from carlib import experiments, overview, results, tables
from carlib.dispatch import cluster
from carlib.notebook import ParameterError
from carlib.studies import contrasts

RUNS = ["car-edsr-x4", "car-edsr-x4-free", "car-edsr-x4-no-tv"]
IMAGES = np.array([30.0, 34.0, 38.0, 28.0, 33.0])  # of Set5
LABEL_OF = {"car-edsr-x2": "a", "bicubic-edsr-x2": "b"}


def rows(values, set_name="set5"):
    """A row an image; values: run -> a number an image."""
    fixed = {"profile": "mini", "scale": 2, "set": set_name, "protocol": "standard", "metric": "psnr"}
    lines = [{**fixed, "run": run, "image": f"{number}", "value": value}
             for run, column in values.items() for number, value in enumerate(column)]  # fmt: skip
    return pd.DataFrame(lines, columns=results.ROW_COLUMNS)


def paper(**values):
    """Label -> what was printed for Set5 and Set14."""
    return pd.DataFrame([{"scale": 2, "set": name, "metric": "psnr", "label": label, "printed": value}
                         for label, both in values.items()
                         for name, value in zip(("set5", "set14"), both, strict=True)])  # fmt: skip


def compared(measured, printed, **options):
    return contrasts.by_label(measured, LABEL_OF), contrasts.printed(printed, measured, "ab", **options)


def test_a_printed_set_that_was_not_measured_has_a_line_where_it_is_wanted(home):
    measured = rows({"car-edsr-x2": IMAGES + 1, "bicubic-edsr-x2": IMAGES})
    printed = paper(a=(39.0, 35.0), b=(38.0, 34.5))
    for unmeasured, sets in ((False, ["set5"]), (True, ["set5", "set14"])):
        table = contrasts.table(*compared(measured, printed, unmeasured=unmeasured), {"b": None, "a": "b"})
        assert table.set.drop_duplicates().tolist() == sets and table.label.tolist() == ["b", "a"] * len(sets)
    first, last = table.iloc[1], table.iloc[3]
    assert (first.difference, first.printed_difference, first.n, first.verdict) == (1.0, 1.0, 5, "reproduced")
    assert math.isnan(last.ours) and (last.printed_difference, last.n, last.verdict) == (0.5, 0, "not tested")


def test_a_claims_mean_is_over_printed_sets_or_else_over_those_measured(home):
    printed = paper(a=(39.0, 35.0), b=(38.0, 34.5))
    told = [("a", "b", "a is better than b")]
    ours = [rows({"car-edsr-x2": IMAGES + step, "bicubic-edsr-x2": IMAGES}, name)
            for name, step in (("set5", 1), ("demo", 3))]  # fmt: skip
    for measured, mean in ((pd.concat(ours), 1.0), (ours[1], 3.0)):
        claims = contrasts.claims(*compared(measured, printed, unmeasured=True), told, [2])
        assert claims["ours (mean, dB)"].tolist() == [pytest.approx(mean)]


def test_nothing_measured_is_a_table_of_what_was_printed(home):
    table = contrasts.table(*compared(rows({}), paper(a=(39.0, 35.0)), unmeasured=True), {"a": "b", "b": None})
    assert len(table) == 4 and table.ours.isna().all() and set(table.verdict) == {"not tested"} and set(table.n) == {0}
    assert table[table.label == "a"].printed.tolist() == [39.0, 35.0]


def test_a_difference_is_of_the_images_that_both_have(home):
    measured = rows({"car-edsr-x2": IMAGES[:3] + 1, "bicubic-edsr-x2": IMAGES})
    (_, line) = contrasts.table(
        *compared(measured, paper(a=(39.0, 1), b=(38.0, 1))), {"b": None, "a": "b"}
    ).itertuples()
    assert line.difference == pytest.approx(1.0) and line.n == 3


def test_a_line_without_numbers_says_why(home):
    table = pd.DataFrame({"ours": [1.0] + [math.nan] * 3, "run": ["a", "b", "c", ""]})
    assert contrasts.notes(table, {"b": "missing"}) == ["", "missing", "set not measured", "not trained here"]


def test_a_profile_that_trains_prepares_every_run(home, monkeypatch):
    asked = []
    monkeypatch.setattr(experiments, "prepare", lambda name, profile, **options: asked.append((name, options)))
    assert contrasts.make_ready(RUNS, "mini", device="cpu", progress=False) == (RUNS, {})
    assert [name for name, _ in asked] == RUNS
    assert all(options == {"renew": True, "device": "cpu", "progress": False} for _, options in asked)


def test_an_executor_gets_all_runs_at_once_and_tells_what_failed(home, monkeypatch):
    asked, failed = [], {}
    monkeypatch.setattr(cluster, "train_all", lambda names, *given, **options: asked.append((names, options)) or failed)
    assert contrasts.make_ready(RUNS, "mini", executor="slurm", progress=False) == (RUNS, {})
    assert asked == [(RUNS, {"executor": "slurm", "renew": True, "device": "auto", "progress": False})]
    failed["car-edsr-x4"] = "slurm job 6 ended: timeout"
    with pytest.raises(ValueError, match=r"runs that failed: 1; .* anew: car-edsr-x4: slurm job 6 ended"):
        contrasts.make_ready(RUNS, "mini", executor="slurm")
    assert contrasts.make_ready(RUNS, "demo", executor="slurm") and len(asked) == 2  # nothing to train


@pytest.mark.parametrize(("profile", "state", "why"), [
    ("demo", "shipped", "missing: no weights are shipped"),
    ("mini", "trained", "missing: no weights here, train car-edsr-x4-no-tv under profile mini"),
])  # fmt: skip
def test_what_is_not_trained_is_measured_with_weights_of_todays_recipe(home, monkeypatch, profile, state, why):
    old = "weights of another recipe: steps 4000 -> 2000"
    lines = {"car-edsr-x4": {"state": state, "note": ""}, "car-edsr-x4-free": {"state": state, "note": old}}
    monkeypatch.setattr(overview, "line", lambda name, profile: lines.get(name, {"state": "missing", "note": ""}))
    made, absent = contrasts.make_ready(RUNS, profile, train=False)
    assert made == ["car-edsr-x4"] and absent == {"car-edsr-x4-free": f"missing: {old}", "car-edsr-x4-no-tv": why}


@pytest.mark.parametrize(("train", "executor", "told"), [
    (True, "slrum", "executor 'slrum' is unknown: use slurm or local"),
    (False, "local", "executor='local' trains and train=False does not: leave one of them out"),
])  # fmt: skip
def test_an_executor_that_cannot_work_is_refused(home, train, executor, told):
    contrasts.check_training(False, "")
    with pytest.raises(ParameterError, match=told):
        contrasts.check_training(train, executor)


@pytest.mark.parametrize(("sets", "told"), [
    (["sett5"], r"sets=\['sett5'\]: unknown image set 'sett5' \(did you mean set5\?\)"),
    (["demo", "urban100"], "image set urban100 is not here"),
    ([], r"sets=\[\] measures nothing"),
])  # fmt: skip
def test_sets_that_cannot_be_measured_are_refused(home, sets, told):
    contrasts.check_sets(None), contrasts.check_sets(["demo"])
    with pytest.raises(ParameterError, match=told) as refusal:
        contrasts.check_sets(sets)
    assert "\n" not in str(refusal.value)


def test_a_grid_has_a_line_per_method_and_a_column_per_set():
    lines = [(4, "set5", "b", 30.0, 32.0), (4, "set5", "a", math.nan, 33.0), (4, "set14", "b", 27.0, math.nan),
             (2, "set14", "a", math.nan, math.nan)]  # fmt: skip
    table = pd.DataFrame(lines, columns=["scale", "set", "method", "ours", "printed"]).assign(metric="psnr")
    grid = tables.grid(pd.concat([table, table.assign(metric="ssim", ours=0.5)]), ["method"])
    assert grid.to_dict("split")["data"] == [
        [2, "a", "-", "-"],
        [4, "b", "30.00 (32.00)", "27.00 (-)"],
        [4, "a", "- (33.00)", "-"],
    ]
    assert list(grid.columns) == ["scale", "method", "set5", "set14"]
