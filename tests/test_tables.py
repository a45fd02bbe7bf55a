"""Table 1 from rows: what stands beside the printed value, what is gained, and the verdict."""

import math

import numpy as np
import pandas as pd
import pytest

from carlib import artefacts, intervals, results, runs, tables
from carlib.studies import joint

COLUMNS = [
    "upscaler", "downscaler", "scale", "set", "metric", "ours", "seeds", "seed_interval", "printed", "difference",
    "gain", "low", "high", "gain_seed_interval", "printed_gain", "verdict", "n", "run", "profile",
]  # fmt: skip


def rows(downscaler, upscaler, values, *, metric="psnr", set_name="set5", scale=2, protocol="standard"):
    """A row an image; `values` is one number for every image of Set5, or a list."""
    values = values if isinstance(values, list) else [values] * 5
    fixed = {"profile": "demo", "downscaler": downscaler, "upscaler": upscaler, "scale": scale, "set": set_name}
    fixed |= {"run": f"{downscaler}-{upscaler}-x{scale}", "protocol": protocol, "metric": metric}
    return [{**fixed, "image": f"{number}", "value": value} for number, value in enumerate(values)]


def seed(number, *given):
    """`rows` of another seed."""
    return [{**row, "run": f"{row['run']}-seed{number}"} for row in rows(*given)]


def line(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_a_line_is_the_mean_beside_the_printed_value(home):
    table = tables.table1(rows("bicubic", "bicubic", [33.0, 34.0, 33.5, 33.5, 34.5]))
    assert list(table.columns) == COLUMNS and len(table) == 1
    (only,) = table.to_dict("records")
    assert only["ours"] == pytest.approx(33.7) and only["printed"] == 33.66
    assert only["difference"] == pytest.approx(0.04)
    assert (only["n"], only["run"], only["profile"]) == (5, "bicubic-bicubic-x2", "demo")
    assert math.isnan(only["gain"])


def test_a_gain_has_the_interval_of_its_images_and_no_other_than_pairs(home):
    """The interval is that of differences, however far images are from each other."""
    values, steps = [20.0, 30.0, 40.0, 50.0, 60.0], [1.0, 1.2, 0.8, 1.1, 0.9]
    table = tables.table1(rows("bicubic", "edsr", values) + rows("car", "edsr", np.add(values, steps).tolist()))
    car, bicubic = line(table, downscaler="car"), line(table, downscaler="bicubic")
    assert car["gain"] == pytest.approx(1.0) and car["printed_gain"] == pytest.approx(38.94 - 38.06)
    assert (car["low"], car["high"]) == pytest.approx(intervals.paired(steps)) and 0.8 < car["low"] < 1 < car["high"]
    assert bicubic[["gain", "low", "high", "printed_gain"]].isna().all()


def test_the_same_rows_under_three_seeds_have_the_interval_of_one(home):
    """It is over images: seeds of one image are averaged first, not counted as more images."""
    pair = ("bicubic", "edsr", [20.0, 30, 40, 50, 60]), ("car", "edsr", [21.0, 31.2, 40.8, 51.1, 60.9])
    one = [row for given in pair for row in rows(*given)]
    three = one + [row for number in (1, 2) for given in pair for row in seed(number, *given)]
    low, high = ([line(tables.table1(r), downscaler="car")[c] for r in (one, three)] for c in ("low", "high"))
    assert low[0] == pytest.approx(low[1], abs=1e-9) and high[0] == pytest.approx(high[1], abs=1e-9)


def test_seeds_are_averaged_and_gains_paired_with_the_same_seed(home):
    values = rows("bicubic", "edsr", 30.0) + seed(1, "bicubic", "edsr", 40.0)
    values += rows("car", "edsr", 31.0) + seed(1, "car", "edsr", 42.0) + seed(2, "car", "edsr", 99.0)
    table = tables.table1(values + rows("l0", "edsr", 29.0))
    assert len(table) == 3 and set(table["run"]) == {"bicubic-edsr-x2", "car-edsr-x2", "l0-edsr-x2"}
    car, l0 = line(table, downscaler="car"), line(table, downscaler="l0")
    assert car["ours"] == pytest.approx((31 + 42 + 99) / 3) and (car["seeds"], car["n"]) == (3, 5)
    assert car["gain"] == pytest.approx((1 + 2) / 2)  # bicubic has no third seed
    assert car["seed_interval"] == pytest.approx(intervals.half_width([31, 42, 99]))
    assert l0["gain"] == pytest.approx(-1.0) and l0["seeds"] == 1 and math.isnan(l0["seed_interval"])


@pytest.mark.parametrize(("set_name", "count"), [("set5", 4), ("set5", 1), ("set14", 5), ("demo", 11)])
def test_a_set_that_is_not_whole_has_nothing_printed_and_no_verdict(home, set_name, count):
    values = [*rows("bicubic", "edsr", [30.0] * count, set_name=set_name)]
    values += rows("car", "edsr", [31.0] * count, set_name=set_name)
    values += rows("bicubic", "bicubic", [29.0] * count, set_name=set_name)
    table = tables.table1(values)
    assert table["printed"].isna().all() and table["difference"].isna().all()
    assert set(table["verdict"]) == {"not tested"} and set(table["n"]) == {count}
    assert line(table, downscaler="car")["gain"] == pytest.approx(1.0)  # ours over ours, all the same


def test_what_the_paper_measured_by_another_protocol_is_left_out(home):
    values = [v for up in ("bicubic", "edsr") for down in ("bicubic", "car")
              for v in rows(down, up, [30.0 + (down == "car")] * 100, set_name="div2k")]  # fmt: skip
    table = tables.table1(values)
    bicubic = table[table.upscaler == "bicubic"].set_index("downscaler")
    assert math.isnan(bicubic.printed["bicubic"]) and bicubic.printed["car"] == 33.18
    assert set(bicubic.verdict) == {"not tested"}  # the printed gain is unknown
    assert line(table, upscaler="edsr", downscaler="car")["verdict"] == "reproduced"


def test_other_protocols_do_not_count(home):
    values = rows("bicubic", "bicubic", 33.66) + rows("bicubic", "bicubic", 20.0, protocol="rgb")
    assert line(tables.table1(values))["ours"] == pytest.approx(33.66)


@pytest.mark.parametrize(("ours", "metric", "verdict"), [
    (33.66, "psnr", "reproduced"),
    (33.689, "psnr", "reproduced"),
    (33.631, "psnr", "reproduced"),
    (33.70, "psnr", "not"),
    (33.62, "psnr", "not"),
    (0.9299, "ssim", "reproduced"),
    (0.9308, "ssim", "reproduced"),
    (0.9311, "ssim", "not"),
    (0.90, "ssim", "not"),
])  # fmt: skip
def test_bicubic_is_reproduced_within_the_tolerance(home, ours, metric, verdict):
    table = tables.table1(rows("bicubic", "bicubic", ours, metric=metric))
    assert table["verdict"].tolist() == [verdict]


@pytest.mark.parametrize(("upscaler", "gain", "verdict"), [
    ("edsr", 2.0, "more than printed"),  # printed: 38.94 - 38.06 = 0.88
    ("edsr", 1.33, "more than printed"),
    ("edsr", 1.31, "reproduced"),
    ("edsr", 0.45, "reproduced"),
    ("edsr", 0.43, "partly"),
    ("edsr", 0.01, "partly"),
    ("edsr", 0.0, "not"),
    ("edsr", -0.5, "not"),
    ("bicubic", 0.37, "reproduced"),  # printed: 34.38 - 33.66 = 0.72
    ("bicubic", 0.35, "partly"),
    ("bicubic", -0.01, "not"),
])  # fmt: skip
def test_car_is_judged_by_its_share_of_the_printed_gain(home, upscaler, gain, verdict):
    """However far the values themselves are from the paper's."""
    table = tables.table1(rows("bicubic", upscaler, 20.0) + rows("car", upscaler, 20.0 + gain))
    assert line(table, downscaler="car")["verdict"] == verdict
    assert line(table, downscaler="car")["gain"] == pytest.approx(gain)


@pytest.mark.parametrize(("numbers", "told"), [
    ((0.2, 0.1, 0.3, math.nan, 0.15), "reproduced"),
    ((0.2, 0.1, 0.3, math.nan, 0.13), "more than printed"),
    ((-0.2, -0.3, -0.1, math.nan, -0.13), "more than printed"),
    ((0.2, -0.1, 0.3, math.nan, 0.05), "partly"),
    ((-0.2, -0.3, 0.1, math.nan, 0.05), "not"),
    ((0.0, -0.1, 0.1, math.nan, 0.05), "not"),
    ((-0.2, -0.3, -0.1, math.nan, -0.4), "reproduced"),
    ((-0.2, -0.3, -0.1, math.nan, -0.41), "partly"),
    ((-0.2, math.nan, math.nan, math.nan, -0.5), "partly"),  # one image has no interval
    ((0.2, 0.1, 0.3, 0.19, 0.15), "reproduced"),
    ((0.2, 0.1, 0.3, 0.21, 0.15), "partly"),  # over seeds it may be nothing
    ((-0.2, -0.3, -0.1, 0.21, 0.15), "not"),
    ((0.2, 0.1, 0.3, math.nan, 0.0), "not tested"),
    ((0.2, 0.1, 0.3, math.nan, math.nan), "not tested"),
    ((math.nan, math.nan, math.nan, math.nan, 0.05), "not tested"),
])  # fmt: skip
def test_a_verdict_is_of_the_sign_and_whether_an_interval_holds_zero(home, numbers, told):
    """And of whether the difference is below or above so many times the printed one, here 0.5 and 1.5."""
    assert tables.verdict(*numbers) == told


def test_a_gain_that_may_be_an_accident_of_images_or_seeds_is_reproduced_in_part(home):
    values = rows("bicubic", "edsr", 36.0) + rows("car", "edsr", [39.0, 35.5, 38.0, 37.0, 36.2])
    found = line(tables.table1(values), downscaler="car")
    assert found["gain"] == pytest.approx(1.14) and found["low"] < 0 < found["high"] and found["verdict"] == "partly"
    values = rows("bicubic", "edsr", 36.0) + seed(1, "bicubic", "edsr", 36.0) + rows("car", "edsr", 37.0)
    alike, others = (
        line(tables.table1(values + seed(1, "car", "edsr", ours)), downscaler="car") for ours in (36.9, 36.6)
    )
    assert alike["gain_seed_interval"] == pytest.approx(12.706 * 0.05, rel=1e-4) and alike["verdict"] == "reproduced"
    assert others["gain_seed_interval"] > others["gain"] and others["low"] > 0 and others["verdict"] == "partly"


@pytest.mark.parametrize(("downscaler", "printed", "gain", "verdict"), [
    ("perceptual-as-published", 31.45, -10.0, "more than printed"),
    ("perceptual-as-published", 31.45, -4.0, "reproduced"),  # printed: 31.45 - 38.06 = -6.61
    ("perceptual-as-published", 31.45, -3.0, "partly"),
    ("perceptual-as-published", 31.45, 0.5, "not"),
    ("dpid-0.5", 37.02, -1.0, "reproduced"),
    ("l0", 35.40, -1.0, "partly"),
])  # fmt: skip
def test_other_downscalers_stand_beside_the_column_they_explain(home, downscaler, printed, gain, verdict):
    table = tables.table1(rows("bicubic", "edsr", 36.0) + rows(downscaler, "edsr", 36.0 + gain))
    found = line(table, downscaler=downscaler)
    assert found["printed"] == printed and found["gain"] == pytest.approx(gain) and found["verdict"] == verdict
    claim = [claim for claim in tables.claims(table) if claim["ours (Set5 / B100, dB)"].startswith(f"{gain:+.2f}")]
    assert [one["verdict"] for one in claim] == [verdict]


def test_bicubic_and_edsr_is_only_what_car_is_compared_with(home):
    assert tables.table1(rows("bicubic", "edsr", 38.06))["verdict"].tolist() == ["not tested"]


def test_car_without_its_reference_is_not_tested(home):
    (only,) = tables.table1(rows("car", "edsr", 39.0)).to_dict("records")
    assert only["verdict"] == "not tested" and math.isnan(only["gain"]) and only["printed"] == 38.94


@pytest.mark.parametrize(("profile", "compared"), [("paper", True), ("mini", False), ("demo", False)])
def test_values_of_networks_are_compared_at_the_papers_size_only(home, profile, compared):
    """Gains, which the paper claims, are judged for whatever networks there are."""
    values = [*rows("bicubic", "bicubic", 33.7), *rows("bicubic", "edsr", 38.0), *rows("car", "edsr", 39.0)]
    table = tables.table1([{**row, "profile": profile} for row in values])
    assert line(table, upscaler="bicubic")["difference"] == pytest.approx(0.04)
    for downscaler in ("bicubic", "car"):
        found = line(table, upscaler="edsr", downscaler=downscaler)
        assert found["printed"] > 38 and math.isnan(found["difference"]) != compared
    assert line(table, downscaler="car")["verdict"] == "reproduced"


def test_a_profile_that_crops_has_nothing_printed(home):
    table = tables.table1([{**row, "profile": "smoke"} for row in rows("bicubic", "bicubic", 33.66)])
    assert table["printed"].isna().all() and table["verdict"].tolist() == ["not tested"]


def test_the_tolerance_is_that_of_params(home):
    path = home / "params.yaml"
    text = path.read_text().replace("psnr: 0.03", "psnr: 0.5").replace("gain_share: 0.5", "gain_share: 0.1")
    path.write_text(text)
    tolerance = runs.read_params()["tolerance"]
    assert {name: tolerance[name] for name in ("psnr", "ssim", "gain_share")} == {
        "psnr": 0.5, "ssim": 0.001, "gain_share": 0.1,
    }  # fmt: skip
    table = tables.table1(rows("bicubic", "bicubic", 34.0) + rows("car", "bicubic", 34.1))
    assert set(table["verdict"]) == {"reproduced"}
    path.write_text(text.replace("gain_more: 1.5", "gain_more: 0.12"))  # 0.1 of the printed 0.72 is 0.14
    table = tables.table1(rows("bicubic", "bicubic", 34.0) + rows("car", "bicubic", 34.1))
    assert line(table, downscaler="car")["verdict"] == "more than printed"


def test_gains_are_ours_and_the_papers(home):
    values = rows("bicubic", "edsr", 30.0) + rows("car", "edsr", 31.5)
    values += rows("bicubic", "edsr", 0.9, metric="ssim") + rows("car", "edsr", 0.95, metric="ssim")
    values += rows("bicubic", "bicubic", 28.0, scale=4) + rows("car", "bicubic", 27.0, scale=4)
    values += rows("bicubic", "edsr", [25.0] * 2, set_name="demo") + rows("car", "edsr", [26.0] * 2, set_name="demo")
    frame = joint.gains(tables.table1(values))
    assert list(frame.columns) == ["upscaler", "scale", "set", "gain", "low", "high", "paper"]
    assert len(frame) == 3  # PSNR alone
    found = line(frame, upscaler="edsr", set="set5")
    assert found["gain"] == pytest.approx(1.5) and found["paper"] == pytest.approx(0.88)
    found = line(frame, upscaler="bicubic")
    assert found["gain"] == pytest.approx(-1.0) and found["paper"] == pytest.approx(0.51)
    found = line(frame, set="demo")
    assert found["gain"] == pytest.approx(1.0) and math.isnan(found["paper"])


def test_sets_stand_in_the_papers_order(home):
    sets = ("div2k", "bsd100", "demo", "set14", "set5")
    values = [
        row
        for name in sets
        for scale in (4, 2)
        for row in rows("bicubic", "bicubic", [1.0], set_name=name, scale=scale)
    ]
    table = tables.table1(values)
    assert table["set"].tolist() == ["demo", "set5", "set14", "bsd100", "div2k"] * 2
    assert table["scale"].tolist() == [2] * 5 + [4] * 5


def test_the_table_survives_its_file(home, tmp_path):
    table = tables.table1(rows("bicubic", "edsr", [30.0] * 3) + rows("car", "edsr", [31.0] * 3))
    path = artefacts.save_table(table, tmp_path / "t", title="t", caption="c", command="d")
    frame = pd.read_csv(path)
    assert list(frame.columns) == COLUMNS and frame["printed"].isna().all()
    assert frame["ours"].tolist() == table["ours"].tolist()


def test_the_claims_are_written_beside_the_table_and_say_what_it_says(home):
    table = tables.table1(rows("bicubic", "edsr", 36.0) + rows("car", "edsr", 36.7))
    joint.write_summaries(table, "demo")
    claims = pd.read_csv(results.folder("demo", "tables", "table1_claims.csv"))
    assert claims["claim"].tolist() == list(tables._CLAIMS.values())
    (line,) = claims[claims.claim.str.startswith("CAR trained jointly")].to_dict("records")
    assert line["paper (Set5 / B100, dB)"] == "+0.88 / -" and line["ours (Set5 / B100, dB)"] == "+0.70 / -"
    assert line["verdict"] == "reproduced"
    grid = pd.read_csv(results.folder("demo", "tables", "table1_grid.csv"))
    assert dict(zip(grid.downscaler, grid.set5, strict=True)) == {"bicubic": "36.00 (38.06)", "car": "36.70 (38.94)"}


@pytest.mark.parametrize(("verdicts", "expected"), [
    ("more more reproduced", "more than printed"),
    ("more reproduced", "reproduced"),  # one cell in two does not speak for the claim
    ("more partly", "partly"),
    ("not not", "not"),
    ("not more", "partly"),
    ("untested untested", "not tested"),
    ("untested more", "more than printed"),
])  # fmt: skip
def test_a_claim_has_the_verdict_of_its_cells(verdicts, expected):
    words = {"more": tables.MORE, "untested": "not tested"}
    assert tables.summed_up([words.get(word, word) for word in verdicts.split()]) == expected
