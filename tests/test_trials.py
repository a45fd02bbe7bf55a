"""Trials of the recipe: what was trained is what the table says."""

import pandas as pd
import pytest

from carlib import experiments, results, trials, weights

SHORT = ["steps=2", "validate_every=2", "patch={2: 16}", "validation_crop=32"]


def test_a_trial_leaves_a_line_with_what_was_trained_and_measured(home, tmp_path):
    out = tmp_path / "trials.csv"
    options = {"sets": ["demo"], "out": out, "device": "cpu", "progress": False}
    given = [*SHORT, "weighting=softmax"]
    (line,) = trials.trial("car-bicubic-x2", "smoke", given, note="why", **options)
    assert line["parameters"] == " ".join(sorted(given)) and line["steps"] == 2 and line["note"] == "why"
    (folder,) = (home / "results/smoke/runs").glob("trial-*")
    _, header = weights.load_run(folder / "weights.safetensors")
    assert header["parameters"]["weighting"] == "softmax"
    assert line["validation"] == header["validation"]["psnr_rgb"] and line["commit"] == header["commit"]
    made = {"weights": folder / "weights.safetensors", "device": "cpu", "progress": False}
    rows = experiments.measure("car-bicubic-x2", "smoke", ["demo"], **made)
    values = [row["value"] for row in rows if row["metric"] == "psnr"]
    assert line["n"] == len(values) == 2 and line["psnr"] == pytest.approx(sum(values) / 2, abs=5e-4)

    stamp = (folder / "last.ckpt").stat().st_mtime_ns
    trials.trial("car-bicubic-x2", "smoke", given, note="again", **options)  # trained already: only measured
    assert (folder / "last.ckpt").stat().st_mtime_ns == stamp
    trials.trial("car-bicubic-x2", "smoke", SHORT, **options)
    table = pd.read_csv(out, keep_default_na=False)
    assert list(table.columns) == trials.COLUMNS
    assert table.note.tolist() == ["again", ""]  # a line a trial


def test_a_trial_that_cannot_be_leaves_no_line(home, tmp_path):
    out = tmp_path / "trials.csv"
    with pytest.raises(ValueError, match="parameter 'wait' is unknown"):
        trials.trial("car-bicubic-x2", "smoke", ["wait=softmax"], out=out)
    with pytest.raises(ValueError, match="more than one line"):
        trials.trial("car-bicubic-x2", "smoke", SHORT, note="a\nb", out=out)
    assert not out.exists() and not list(home.glob("results/smoke/runs/trial-*"))


def lines(**psnr):
    """A trials.csv of x2, 500 steps: the recipe at 30 dB, and others by their parameters."""
    fixed = {"run": "car-edsr-x2", "profile": "mini", "steps": 500, "seconds": 9, "set": "set5", "n": 5, "note": ""}
    given = {"steps=500": 30.0, **{f"{name}=3 steps=500": value for name, value in psnr.items()}}
    return [{**fixed, "parameters": parameters, "psnr": value} for parameters, value in given.items()]


def test_sensitivity_is_the_gain_over_the_recipe_trained_as_long(home, tmp_path):
    out = tmp_path / "trials.csv"
    longer = {**lines()[0], "steps": 900, "parameters": "alpha=0.5 steps=900", "psnr": 33.0}
    other = {**lines()[0], "run": "bicubic-edsr-x2", "psnr": 20.0}
    pd.DataFrame([*lines(alpha=30.5, grey=29.0), longer, other], columns=trials.COLUMNS).to_csv(out, index=False)
    table = trials.sensitivity(out=out)
    assert table.variant.tolist() == ["recipe", "alpha=3", "grey=3", "alpha=0.5"] and set(table.run) == {"car-edsr-x2"}
    assert table.gain.tolist()[:3] == pytest.approx([0, 0.5, -1.0]) and table.gain.isna().tolist()[3]
    assert set(table.scale) == {2}
    figure = trials.draw(table, "mini")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"edsr, 500 steps: {variant}" for variant in ("recipe", "alpha=3", "grey=3")
    ]
    assert "gain over the recipe" in axes.get_xlabel()
    for kind, suffixes in (("tables", ("csv", "md", "json")), ("figures", ("png", "json"))):
        assert all(results.folder("mini", kind, f"sensitivity.{suffix}").is_file() for suffix in suffixes)


def test_no_trial_of_car_is_told(home, tmp_path):
    with pytest.raises(ValueError, match="has no trial of CAR under profile smoke: call `carlib trial"):
        trials.sensitivity("smoke", out=tmp_path / "none.csv")
