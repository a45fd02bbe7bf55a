"""Trials of the recipe: what was trained is what the table says."""

import math
import threading

import pandas as pd
import pytest

from carlib import experiments, results, runs, weights
from carlib.readme import trainings
from carlib.studies import trials
from carlib.studies.trials import RECIPE
from carlib.training import objective

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
    log = pd.read_csv(folder / "log.csv").iloc[-1]
    assert [line["adaptivity"], line["offset_length"]] == log[["adaptivity", "offset_length"]].tolist()
    assert line["start"] == ""
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
    table.drop(columns=["start", "adaptivity"]).to_csv(out, index=False)  # as it was before these were told
    trials.trial("car-bicubic-x2", "smoke", SHORT, **options)
    older, newer = pd.read_csv(out, keep_default_na=False).itertuples()
    assert older._fields[1:] == tuple(trials.COLUMNS) and older.adaptivity == "" != newer.adaptivity


def test_what_cannot_be_measured_is_not_trained(home, tmp_path):
    for profile, sets, told in (("smoke", ["nope"], "unknown image set 'nope'"), ("demo", None, "trains nothing")):
        with pytest.raises(ValueError, match=told):
            trials.trial("car-bicubic-x2", profile, sets=sets, out=tmp_path / "trials.csv", progress=False)
        assert not (home / "results" / profile / "runs").exists()


def test_a_trial_that_cannot_be_leaves_no_line(home, tmp_path):
    out = tmp_path / "trials.csv"
    with pytest.raises(ValueError, match="parameter 'wait' is unknown"):
        trials.trial("car-bicubic-x2", "smoke", ["wait=softmax"], out=out)
    with pytest.raises(ValueError, match="more than one line"):
        trials.trial("car-bicubic-x2", "smoke", SHORT, note="a\nb", out=out)
    assert not out.exists() and not list(home.glob("results/smoke/runs/trial-*"))


def test_a_trial_that_diverges_leaves_a_line_without_numbers(home, tmp_path, monkeypatch):
    out = tmp_path / "trials.csv"
    options, of_run = {"out": out, "device": "cpu", "progress": False}, objective.of_run
    given = [*SHORT, "loss=l2"]
    monkeypatch.setattr(objective, "of_run", lambda *a: tuple([(r := of_run(*a))[0] * math.nan, r[1]]))
    (line,) = trials.trial("car-bicubic-x2", "smoke", given, sets=["demo"], note="too much", **options)
    assert line["note"].startswith("too much; diverged: the loss is no longer a number near step ")
    assert line["psnr"] == line["validation"] == "" and (line["n"], line["steps"]) == (2, 2)
    monkeypatch.undo()
    monkeypatch.setenv("CARLIB_HOME", str(home))
    trials.trial("car-bicubic-x2", "smoke", SHORT, sets=["demo"], **options)
    frame = pd.read_csv(out, keep_default_na=False)
    assert frame.psnr[0] == "" and float(frame.psnr[1]) > 0
    assert trainings.trials(frame).splitlines()[2].split(" | ")[3:5] == ["-", "-"]
    table = trials.sensitivity("smoke", out=out)
    assert table.variant.tolist() == ["patch={2: 16} validation_crop=32", "loss=l2"]
    assert table.beside.tolist()[1] == table.variant[0] and table.gain.isna().all() and pd.isna(table.psnr[1])


def lines(**psnr):
    """Lines of x2 and 500 steps, by their parameters."""
    fixed = {"run": "car-edsr-x2", "profile": "mini", "steps": 500, "seconds": 9, "set": "set5", "n": 5, "note": ""}
    return [{**fixed, "parameters": parameters, "psnr": value} for parameters, value in psnr.items()]


def sensitivity(tmp_path, rows):
    """The table of some rows, by the variant."""
    out = tmp_path / "trials.csv"
    pd.DataFrame(rows, columns=trials.COLUMNS).to_csv(out, index=False)
    return trials.sensitivity(out=out).set_index("variant")


def test_a_trial_stands_beside_the_one_that_differs_in_the_fewest_numbers(home, tmp_path):
    given = {
        "steps=500": 30.0,
        "grey=0.0 steps=500": 31.0,
        "grey=0.0 loss=l1 steps=500": 29.0,
        "alpha=0.0 steps=500": "",
    }
    given |= {
        "local=0 steps=500": 28.0,
        "local=0 steps=500 weighting=softmax": 25.0,
        "alpha=0.0 bound=1 steps=500": 30.5,
    }
    table = sensitivity(tmp_path, lines(**given))
    beside = {"grey=0.0": RECIPE, "loss=l1": "grey=0.0", "local=0": RECIPE, "weighting=softmax": "local=0"}
    gains = {"grey=0.0": 1.0, "loss=l1": -2.0, "local=0": -2.0, "weighting=softmax": -3.0}
    single = table[table.gain.notna() & (table.changes == 1)]
    assert single.beside.to_dict() == beside and single.gain.to_dict() == pytest.approx(gains)
    assert table.index[0] == RECIPE and pd.isna(table.gain[RECIPE]) and table.beside[RECIPE] == ""
    assert (
        pd.isna(table.psnr["alpha=0.0"]) and table.beside["alpha=0.0"] == RECIPE
    )  # diverged: nothing stands beside it
    assert table.changes["alpha=0.0 bound=1"] == 2 and table.gain["alpha=0.0 bound=1"] == pytest.approx(0.5)


def test_only_trials_of_one_run_as_long_and_of_the_same_images_are_compared(home, tmp_path):
    (recipe, changed) = lines(**{"steps=500": 30.0, "alpha=0.5 steps=500": 31.0})
    for other in ({"steps": 900}, {"run": "car-edsr-x4"}, {"set": "bsd100"}, {"n": 4}, {"profile": "smoke"}):
        table = sensitivity(tmp_path, [{**recipe, **other}, changed])
        assert table.gain.isna().all() and table.beside["alpha=0.5"] == "", other
    assert sensitivity(tmp_path, [recipe, changed]).gain["alpha=0.5"] == pytest.approx(1.0)


def test_a_number_written_out_as_the_recipe_has_it_is_no_change(home, tmp_path):
    same = runs.get("car-edsr-x2", "mini").grey
    given = {
        "steps=500": 30.0,
        f"grey={same} steps=500": 30.0,
        f"grey={same} alpha=0.5 steps=500 validate_every=9": 31.0,
    }
    table = sensitivity(tmp_path, lines(**given))
    assert table.index.tolist() == [RECIPE, RECIPE, "alpha=0.5"] and table.changes["alpha=0.5"] == 1


def test_the_figure_shows_single_changes_and_says_beside_what(home, tmp_path):
    given = {
        "steps=500": 30.0,
        "grey=0.0 steps=500": 31.0,
        "grey=0.0 loss=l1 steps=500": 29.0,
        "kernel_size=5 steps=500": 30,
    }
    given |= {"bound=1 lr=1e-3 steps=500": 27.0}
    longer = {**lines(**{"steps=900": 33.0})[0], "steps": 900}
    other = {**longer, "run": "bicubic-edsr-x2", "psnr": 20.0}
    table = sensitivity(tmp_path, [*lines(**given), longer, other]).reset_index()
    assert len(table) == 6 and set(table.scale) == {2} and set(table.run) == {"car-edsr-x2"}
    (axes,) = trials.draw(table, "mini").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "car-edsr-x2, 500 steps, beside recipe",
        "grey=0.0",
        "kernel_size=5",
        "car-edsr-x2, 500 steps, beside grey=0.0",
        "loss=l1",
    ]
    assert not axes.collections  # no other seed was tried
    assert "gain over the training without this change" in axes.get_xlabel()
    for kind, suffixes in (("tables", ("csv", "md", "json")), ("figures", ("png", "json"))):
        assert all(results.folder("mini", kind, f"sensitivity.{suffix}").is_file() for suffix in suffixes)
    assert "bound=1 lr=1e-3" in results.folder("mini", "tables", "sensitivity.csv").read_text()


def test_every_option_of_the_search_is_a_change_by_its_name(home, tmp_path):
    changes = ["ema=0.995", "head_scale=0.1", "learned_prior=true", "penalties_after=0.3", "prior_sigma=0.5"]
    changes += ["resampler_after=0.5", "resampler_blocks=4", "resampler_start=car-bicubic-x2", "resampler_width=48"]
    table = sensitivity(tmp_path, lines(**{"ema=0.0 steps=500": 30.0} | {f"{one} steps=500": 31.0 for one in changes}))
    assert table.index.tolist() == [RECIPE, *changes] and (table.beside[changes] == RECIPE).all()
    (axes,) = trials.draw(table.reset_index(), "mini").axes
    assert sorted(label.get_text() for label in axes.get_yticklabels()[1:]) == sorted(changes)


def test_what_another_seed_moves_is_a_band_over_its_group(home, tmp_path):
    given = {"": 30.0, "seed=1": 29.4, "loss=l1": 30.2, "loss=l1 kernel_size=5": 31.0}
    table = sensitivity(tmp_path, lines(**{f"{one} steps=500".strip(): psnr for one, psnr in given.items()}))
    (axes,) = trials.draw(table.reset_index(), "mini").axes
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert sorted({*corners[:, 0].round(6)}) == [-0.6, 0.6] and (corners[:, 1].min(), corners[:, 1].max()) == (0.5, 2.5)


def test_no_trial_of_car_is_told(home, tmp_path):
    with pytest.raises(ValueError, match="has no trial of CAR under profile smoke: call `carlib trial"):
        trials.sensitivity("smoke", out=tmp_path / "none.csv")


@pytest.mark.parametrize("param", ["downscaler=box", "upscaler=rcan", "scale=4"])
def test_a_trial_of_another_system_is_refused(home, param):
    key = param.partition("=")[0]
    with pytest.raises(ValueError, match=f"a trial of bicubic-edsr-x2 cannot have another {key}: declare a run"):
        trials.trial("bicubic-edsr-x2", "smoke", [param], progress=False)


def test_trials_side_by_side_lose_no_line(tmp_path):
    """Each reads the table, adds its lines and writes it: one at a time."""
    path = tmp_path / "trials.csv"
    line = dict.fromkeys(trials.COLUMNS, "") | {"run": "a", "set": "set5"}
    with results.alone(tmp_path / ".trials.csv.lock"):
        other = threading.Thread(target=trials._append, args=([line], path))
        other.start()
        other.join(0.3)
        assert other.is_alive() and not path.exists()
    other.join(10)
    assert len(pd.read_csv(path)) == 1
