"""Table 3: pairs of images and seeds, verdicts, and rows that are missing."""

import math

import numpy as np
import pandas as pd
import pytest

from carlib import cells, results
from carlib.notebook import ParameterError
from carlib.studies import ablation, contrasts

RUNS = {"joint": "car-edsr-x2", "no-tv": "car-edsr-x2-no-tv", "no-offset-constraint": "car-edsr-x2-free",
        "no-offset": "car-edsr-x2-no-offset"}  # fmt: skip
IMAGES = np.array([30.0, 34.0, 38.0, 28.0, 33.0])  # of Set5


def rows(values, *, set_name="set5", profile="mini", metric="psnr"):
    """A row an image; values: run -> a number an image."""
    fixed = {"profile": profile, "downscaler": "car", "upscaler": "edsr", "scale": 2, "set": set_name}
    fixed |= {"protocol": "standard", "metric": metric}
    return pd.DataFrame([
        {**fixed, "run": run, "image": f"image{number}", "value": value}
        for run, column in values.items() for number, value in enumerate(column)
    ])  # fmt: skip


def paper_like(spread=0.0):
    """CAR; better without TV by 0.06, worse without offset loss by 0.2, and without offsets by 0.8."""
    noise = spread * np.array([1, -1, 2, -2, 0.0])
    steps = {"joint": 0.0, "no-tv": 0.06, "no-offset-constraint": -0.2, "no-offset": -0.8}
    return rows({RUNS[variant]: IMAGES + step + (noise if step else 0) for variant, step in steps.items()})


def line(table, variant, **where):
    found = table[table.variant == ablation.LABELS[variant]]
    for name, value in where.items():
        found = found[found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


def test_a_difference_is_image_by_image_to_the_whole(home):
    table = ablation.table(paper_like(0.01), {}, "mini", 2)
    whole, no_tv, no_offset = (line(table, variant) for variant in ("joint", "no-tv", "no-offset"))
    assert whole.ours == pytest.approx(IMAGES.mean()) and whole.printed == 38.94 and math.isnan(whole.difference)
    assert no_tv.difference == pytest.approx(0.06) and 0.04 < no_tv.low < 0.06 < no_tv.high < 0.08
    assert no_tv.printed_difference == pytest.approx(0.06) and no_offset.printed_difference == pytest.approx(-0.85)
    assert table.verdict.tolist() == ["not tested", "reproduced", "reproduced", "reproduced"]
    assert table.run.tolist() == list(RUNS.values()) and set(table.n) == {5} and set(table.seeds) == {1}
    assert table.seed_interval.isna().all() and set(table.note) == {""}


def test_seeds_are_paired_with_the_same_seeds_of_the_whole(home):
    values = {"car-edsr-x2": IMAGES, "car-edsr-x2-seed1": IMAGES + 10, "car-edsr-x2-seed2": IMAGES + 20,
              "car-edsr-x2-no-tv-seed1": IMAGES + 10.5, "car-edsr-x2-no-tv-seed2": IMAGES + 20.5}  # fmt: skip
    table = ablation.table(rows(values), {}, "mini", 2)
    whole, no_tv = line(table, "joint"), line(table, "no-tv")
    assert (whole.seeds, no_tv.seeds) == (3, 2) and whole.ours == pytest.approx(IMAGES.mean() + 10)
    assert whole.seed_interval == pytest.approx(4.302653 * 10 / math.sqrt(3), abs=1e-4)
    assert no_tv.difference == pytest.approx(0.5) and no_tv.low == pytest.approx(0.5)  # not of 15.5 and 10
    assert no_tv.difference_seed_interval == pytest.approx(0, abs=1e-9) and math.isnan(whole.difference_seed_interval)


def test_a_run_without_weights_is_a_row_that_says_so(home):
    measured = rows({RUNS["joint"]: IMAGES, RUNS["no-tv"]: IMAGES + 1})
    table = ablation.table(measured, {RUNS["no-offset"]: "missing: no weights are shipped"}, "demo", 2)
    lost = line(table, "no-offset")
    assert lost.note == "missing: no weights are shipped" and math.isnan(lost.ours) and math.isnan(lost.difference)
    assert lost.verdict == "not tested" and lost.seeds == 0 and lost.printed == 38.09
    assert line(table, "no-tv").note == "" and line(table, "no-tv").verdict == "more than printed"


def test_a_set_that_is_not_whole_has_nothing_printed(home):
    part = paper_like()[lambda frame: frame.image != "image4"]
    table = ablation.table(part, {}, "mini", 2)
    assert table.printed.isna().all() and set(table.verdict) == {"not tested"} and set(table.n) == {4}
    assert line(table, "no-tv").difference == pytest.approx(0.06)


def test_the_claims_are_those_of_the_paper_in_its_order(home):
    claims = ablation.claims(paper_like(), 2)
    assert claims.claim.tolist() == [text for _, _, text in ablation.CLAIMS] and set(claims.scale) == {"x2"}
    assert claims.verdict.tolist() == ["reproduced"] * 3
    assert claims["paper (Set5 / B100, dB)"].tolist() == ["+0.06 / -", "-0.21 / -", "-0.64 / -"]
    assert claims["ours (Set5 / B100, dB)"].tolist() == ["+0.06 / -", "-0.20 / -", "-0.60 / -"]
    assert claims["ours (mean, dB)"].tolist() == [0.06, -0.2, -0.6]
    swapped = paper_like().replace({"run": {RUNS["no-offset"]: RUNS["no-offset-constraint"],
                                            RUNS["no-offset-constraint"]: RUNS["no-offset"]}})  # fmt: skip
    assert ablation.claims(swapped, 2).verdict.tolist() == ["reproduced", "more than printed", "not"]


def test_a_claim_without_one_of_its_runs_is_not_tested(home):
    measured = rows({RUNS["joint"]: IMAGES, RUNS["no-offset-constraint"]: IMAGES - 1})
    assert ablation.claims(measured, 2).verdict.tolist() == ["not tested", "more than printed", "not tested"]


def test_what_is_written_is_named_by_its_scale(home):
    ablation.write(paper_like(), {}, "mini", 2, 1)
    folder = results.folder("mini", "tables")
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{suffix}" for name in ("table3_x2", "table3_x2_claims") for suffix in ("csv", "md", "tex", "json")
    }
    assert '-p profile mini -y \\"{scale: 2, seeds: 1}\\"' in (folder / "table3_x2.json").read_text()
    first = {path: path.read_bytes() for path in folder.iterdir()}
    ablation.write(paper_like(), {}, "mini", 2, 1)
    assert first == {path: path.read_bytes() for path in folder.iterdir()}
    assert len(pd.read_csv(results.folder("mini", "metrics", "table3_x2.csv"))) == 20


def test_every_run_and_seed_is_made_ready(home, monkeypatch):
    asked = []

    def make_ready(names, profile, **options):
        asked.append((names, options))
        return [], {"car-edsr-x4": "missing: no weights"}

    monkeypatch.setattr(contrasts, "make_ready", make_ready)
    with pytest.raises(ValueError, match="no run of Table 3 can be measured under profile mini: missing: no weights"):
        ablation.study("mini", 4, 2, train=False, device="cpu", progress=False)
    expected = [f"{run}{end}" for run in ("car-edsr-x4", "car-edsr-x4-no-tv", "car-edsr-x4-free",
                "car-edsr-x4-no-offset") for end in ("", "-seed1")]  # fmt: skip
    assert asked == [(expected, {"train": False, "executor": "", "device": "cpu", "progress": False})]
    assert cells.seeds(3, "mini") == 3


@pytest.mark.parametrize(("scale", "seeds", "told"), [
    (3, None, "scale=3 is not in Table 3: use 2 or 4, or None for both"),
    (None, 0, "seeds=0 must be above 0"),
])  # fmt: skip
def test_wrong_parameters_are_refused(home, scale, seeds, told):
    with pytest.raises(ParameterError, match=told):
        ablation.check(scale, seeds)
