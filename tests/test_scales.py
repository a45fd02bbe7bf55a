"""CAR's gain by scale: a line per scale and set, of what has weights; at the paper's scales over all seeds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from carlib import results, runs
from carlib.data import sets
from carlib.studies import contrasts, scales

IMAGES = np.array([30.0, 34.0, 38.0, 28.0, 33.0])  # of Set5


def rows(values):
    """A row an image of Set5; values: run -> what is added to every image."""
    fixed = {"profile": "mini", "upscaler": "edsr", "set": "set5", "protocol": "standard", "metric": "psnr"}
    return pd.DataFrame([
        {**fixed, "run": run, "downscaler": run.partition("-")[0], "scale": runs.get(run, "mini").scale,
         "image": f"image{number}", "value": image + step}
        for run, step in values.items() for number, image in enumerate(IMAGES)
    ])  # fmt: skip


def test_a_line_is_a_scale_and_compares_both_of_the_pair(home):
    table = scales.table(rows({
        "bicubic-bicubic-x8": -3, "bicubic-edsr-x8": 0, "car-edsr-x8": 2.5,
        "bicubic-edsr-x2": 1, "bicubic-edsr-x2-seed1": 2, "car-edsr-x2": 4.0, "car-edsr-x2-seed1": 5.5,
    }), "mini")  # fmt: skip
    assert list(table.columns) == scales.COLUMNS and table.scale.tolist() == [2, 8]
    at_x2, at_x8 = table.iloc[0], table.iloc[1]
    assert (at_x2.gain, at_x2.seeds, at_x2.n) == (3.25, 2, 5) and at_x2.printed_gain == pytest.approx(38.94 - 38.06)
    assert at_x2.seed_interval == pytest.approx(12.706 * 0.25, rel=1e-4) and np.isnan(at_x8.seed_interval)  # Student's
    assert (at_x8.gain, at_x8.low, at_x8.high, at_x8.seeds) == (2.5, 2.5, 2.5, 1) and np.isnan(at_x8.printed_gain)
    found = at_x8[[scales.BOTH_WAYS, scales.BASE, scales.CAR]].tolist()
    assert found == pytest.approx([IMAGES.mean() - 3, IMAGES.mean(), IMAGES.mean() + 2.5])


def test_means_and_gain_are_of_the_seeds_that_both_have(home):
    table = scales.table(rows({"bicubic-edsr-x2": 0, "car-edsr-x2": 3.0, "car-edsr-x2-seed1": 9.0}), "mini")
    line = table.iloc[0]
    assert (line.gain, line.seeds) == (3.0, 1) and line.car - line.bicubic == pytest.approx(3.0)


def test_a_scale_without_one_of_both_has_no_line(home):
    table = scales.table(rows({"bicubic-edsr-x3": 0, "car-edsr-x8": 2.5, "bicubic-bicubic-x2": 1}), "mini")
    assert table.empty and list(table.columns) == scales.COLUMNS


def test_images_that_training_has_seen_are_left_out_of_lines_of_their_own(home, monkeypatch):
    monkeypatch.setattr(sets, "COPIES", {("set5", "woman"): ("another", *runs.get("car-edsr-x2", "mini").train_sets)})
    given = rows({"bicubic-edsr-x2": 0, "car-edsr-x2": 1.0})
    given.loc[given.image == "image4", "image"] = "woman"
    given.loc[(given.image == "woman") & (given.downscaler == "car"), "value"] += 5
    whole, less = scales.table(given, "mini").itertuples()
    assert (whole.set, whole.n, whole.gain) == ("set5", 5, 2.0)
    assert (less.set, less.n, less.gain) == ("set5 without woman", 4, 1.0) and np.isnan(less.printed_gain)
    assert scales.table(given, "paper").set.tolist() == ["set5"]  # trained on another set


def test_whole_scales_are_measured_and_what_is_left_out_is_told(home, monkeypatch, capsys):
    monkeypatch.setattr(scales.overview, "why_absent", lambda name, profile: "missing" * (name == "car-edsr-x3"))
    measured = []

    def measure(names, profile, **options):
        measured.extend(names)
        return rows({"bicubic-edsr-x8": 0, "car-edsr-x8": 1})

    monkeypatch.setattr(contrasts, "measure", measure)
    assert scales.study("mini").scale.tolist() == [8]
    assert {*scales.names([2, 4, 8]), "car-edsr-x2-seed1", "bicubic-edsr-x8-seed2"} < set(measured)
    assert not {*scales.names([3])} & set(measured) and len(measured) == len(set(measured))
    assert capsys.readouterr().err == "scale 3 is left out: car-edsr-x3: missing\n"


def test_no_scale_at_all_is_told_before_anything_is_measured(home, monkeypatch):
    monkeypatch.setattr(scales.overview, "why_absent", lambda name, profile: "missing: no weights")
    monkeypatch.setattr(contrasts, "measure", None)
    with pytest.raises(ValueError, match=r"no scale of .* can be measured: bicubic-bicubic-x2: missing: no weights"):
        scales.study("mini")


def test_without_weights_of_other_scales_there_is_no_picture_of_them(home, monkeypatch):
    monkeypatch.setattr(scales.overview, "why_absent", lambda name, profile: "missing" * ("x2" not in name))
    folder = home / "results" / "mini"
    old = [folder / "figures" / f"scales.{kind}" for kind in ("png", "pdf", "json")]
    old.append(folder / "provenance" / "figures-scales.png.json")
    for path in old:
        results.write_text(path, "of weights that are gone")
    assert scales.figure("mini") is None and not any(map(Path.exists, old))


def test_seeds_of_a_scale_that_is_left_out_are_not_measured(home, monkeypatch):
    monkeypatch.setattr(scales.overview, "why_absent", lambda name, profile: "missing" * (name == "car-edsr-x2"))
    measured = []
    monkeypatch.setattr(
        contrasts, "measure", lambda names, profile, **options: measured.extend(names) or rows({"car-edsr-x8": 1})
    )
    scales.study("mini")
    assert {runs.get(name, "mini").scale for name in measured} == {3, 4, 8} and "car-edsr-x4-seed1" in measured
