"""Trials of the recipe: what was trained is what the table says."""

import pandas as pd
import pytest

from carlib import experiments, trials, weights

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


def test_seeds_are_pairs_and_their_interval_is_students():
    """Gains of 1, 2 and 3 dB: mean 2, standard error 1 / sqrt(3), t(2, 97.5 %) = 4.303."""
    gains = {"downscaler": "car", "upscaler": "edsr", "metric": "psnr", "profile": "mini", "gain": 1.0}
    table = pd.DataFrame([{**gains, "scale": 2, "set": "set5"}, {**gains, "scale": 4, "set": "set5"}])
    measured = [("car-edsr-x2", "seed=1", 38.0), ("bicubic-edsr-x2", "seed=1", 36.0), ("car-edsr-x2", "seed=2", 38.5)]
    measured += [("bicubic-edsr-x2", "seed=2", 35.5), ("car-edsr-x2", "seed=3", 99.0), ("car-edsr-x2", "seed=0", 99.0)]
    measured += [("car-edsr-x2", "seed=4 steps=500", 99.0), ("bicubic-edsr-x2", "seed=4 steps=500", 36.0)]
    frame = pd.DataFrame(measured, columns=["run", "parameters", "psnr"]).assign(profile="mini", set="set5")
    (line,) = trials.seeds(frame, table).to_dict("records")
    assert (line["scale"], line["set"], line["gains"]) == (2, "set5", [1.0, 2.0, 3.0])
    assert line["mean"] == pytest.approx(2.0) and line["half"] == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
    assert trials.seeds(frame[:1], table).empty and trials.seeds(frame[:0], table).empty
