"""data/paper/table1.csv ... table5.csv hold every printed cell, once, with the errata marked."""

import csv
from decimal import Decimal
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "data" / "paper"
COLUMNS = ["table", "group", "upscaler", "downscaler", "variant", "loss", "scale", "set", "metric", "value"]
COLUMNS += ["flag", "note"]
SETS = ["set5", "set14", "bsd100", "urban100", "div2k"]


def table(number):
    with open(FOLDER / f"table{number}.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def key(row):
    return tuple(v for k, v in row.items() if k not in ("value", "flag", "note"))


def value(number, **wanted):
    """The one printed value that fits, as the text that was printed."""
    found = [r for r in table(number) if all(r[k] == str(v) for k, v in wanted.items())]
    assert len(found) == 1, f"{len(found)} rows fit {wanted}"
    return found[0]["value"]


# Table 1: 7 columns x 5 sets x 2 scales x 2 metrics. Table 2: 12 rows x 5 x 2, less 3 DIV2K cells "- / -".
# Table 3: 8 x 5 x 2. Table 4: 33 rows x 5 x 2, less 60 values printed as "-". Table 5: 5 x 5 x 2, and 10 averages.
@pytest.mark.parametrize("number,cells", [(1, 140), (2, 114), (3, 80), (4, 270), (5, 60)])
def test_every_printed_cell_is_there_once(number, cells):
    rows = table(number)
    assert len(rows) == cells
    assert len({key(r) for r in rows}) == cells
    assert {r["table"] for r in rows} == {str(number)}
    expected = COLUMNS if number < 5 else ["table", "downscaler", "scale", "set", "metric", "value", "flag", "note"]
    assert list(rows[0]) == expected
    assert {r["set"] for r in rows} == {*SETS, *(["average"] if number == 5 else [])}
    assert {r["scale"] for r in rows} == ({"4"} if number == 2 else {"2", "4"})


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_values_are_plausible_and_keep_the_printed_digits(number):
    for row in table(number):
        low, high, digits = {"psnr": (20, 40, 2), "ssim": (0.6, 1, 4)}[row["metric"]]
        assert low < float(row["value"]) < high, row
        assert len(row["value"].split(".")[1]) == digits, row


def test_rows_of_table_4():
    """33 rows are printed; two have no value at all (ESRGAN x2, CNN-CR & CNN-SR x4)."""
    rows = {(r["group"], r["downscaler"], r["upscaler"], r["loss"], r["scale"]) for r in table(4)}
    assert len(rows) == 31
    assert ("bicubic", "bicubic", "esrgan", "l1", "2") not in rows
    assert ("learned", "cnn-cr", "cnn-sr", "l2", "4") not in rows


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("downscaler", ["bicubic", "perceptual", "dpid", "l0", "car"])
def test_averages_of_table_5(downscaler, scale):
    cells = [Decimal(value(5, downscaler=downscaler, scale=scale, set=s)) for s in SETS]
    assert sum(cells) / 5 == Decimal(value(5, downscaler=downscaler, scale=scale, set="average"))


# Sums over one column, added up by hand from the page
@pytest.mark.parametrize(
    "number,wanted,total",
    [
        (1, {"upscaler": "edsr", "downscaler": "car", "scale": "2", "metric": "psnr"}, "181.88"),
        (1, {"upscaler": "bicubic", "downscaler": "bicubic", "scale": "4", "metric": "psnr"}, "130.18"),
        (2, {"upscaler": "rdn", "variant": "joint", "metric": "psnr"}, "153.01"),
        (3, {"variant": "no-offset", "scale": "4", "metric": "psnr"}, "151.73"),
        (4, {"upscaler": "carn", "scale": "2", "metric": "ssim"}, "4.6441"),
    ],
)
def test_sums(number, wanted, total):
    rows = [r for r in table(number) if wanted.items() <= r.items()]
    assert len(rows) == 5
    assert sum(Decimal(r["value"]) for r in rows) == Decimal(total)


@pytest.mark.parametrize(
    "number,wanted,printed",
    [
        (1, dict(upscaler="bicubic", downscaler="car", scale=4, set="set14", metric="ssim"), "0.7326"),
        (1, dict(upscaler="edsr", downscaler="perceptual", scale=2, set="set5", metric="psnr"), "31.45"),
        (1, dict(upscaler="edsr", downscaler="l0", scale=4, set="div2k", metric="psnr"), "30.18"),
        (1, dict(upscaler="edsr", downscaler="dpid", scale=2, set="urban100", metric="ssim"), "0.9271"),
        (2, dict(upscaler="rcan", downscaler="bicubic", set="div2k", metric="psnr"), "30.77"),
        (2, dict(upscaler="d-dbpn", variant="edsr-guided", set="urban100", metric="ssim"), "0.8222"),
        (2, dict(upscaler="srdensenet", variant="joint", set="set5", metric="psnr"), "33.16"),
        (3, dict(variant="no-tv", scale=4, set="set5", metric="psnr"), "34.13"),
        (3, dict(variant="no-offset-constraint", scale=2, set="bsd100", metric="ssim"), "0.9213"),
        (4, dict(upscaler="srcnn", scale=2, set="set5", metric="psnr"), "36.66"),
        (4, dict(upscaler="srresnet", scale=4, set="set14", metric="ssim"), "0.7804"),
        (4, dict(upscaler="edsr", loss="l2", scale=2, set="urban100", metric="psnr"), "35.15"),
        (4, dict(downscaler="tad", scale=4, set="div2k", metric="psnr"), "30.25"),
        (5, dict(downscaler="l0", scale=4, set="set5"), "17.41"),
        (5, dict(downscaler="dpid", scale=2, set="bsd100"), "11.8"),
    ],
)
def test_spot_values(number, wanted, printed):
    assert value(number, **wanted) == printed


def test_car_with_edsr_is_the_same_in_tables_1_3_and_4():
    for scale in (2, 4):
        for name in SETS:
            for metric in ("psnr", "ssim"):
                cell = dict(upscaler="edsr", downscaler="car", variant="joint", scale=scale, set=name, metric=metric)
                assert value(1, **cell) == value(3, **cell) == value(4, **cell, loss="l1")


def test_flags():
    rows = [r for n in range(1, 6) for r in table(n)]
    assert {r["flag"] for r in rows} == {"", "erratum", "other-protocol", "disputed"}
    assert all(r["note"] for r in rows if r["flag"])
    errata = {
        (r["table"], r["upscaler"], r["downscaler"], r["set"], r["value"]) for r in rows if r["flag"] == "erratum"
    }
    assert errata == {("4", "tau", "car", "bsd100", "0.7592"), ("4", "vdsr", "bicubic", "set14", "0.9213")}
    other = [r for r in rows if r["flag"] == "other-protocol"]
    assert {(r["table"], r["upscaler"], r["set"]) for r in other} == {
        ("1", "bicubic", "div2k"),
        ("4", "srcnn", "div2k"),
        ("4", "vdsr", "div2k"),
    }
    assert len(other) == 12
    disputed = [r for r in rows if r["flag"] == "disputed"]
    assert {(r["table"], r["downscaler"], r["upscaler"]) for r in disputed} == {("4", "tad", "tau")}
    assert len(disputed) == 10 and all(r["note"].startswith("the IRN README has") for r in disputed)


# Rows: TAD & TAU, IRN, its re-implementation, CAR in MindSpore, AIDN, FGRN, HCFlow.
def test_later_numbers_name_their_sources():
    with open(FOLDER / "later.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == [*COLUMNS[1:10], "source", "flag", "note"] and len(rows) == 57
    assert all(row["source"] and row["group"] == "later" for row in rows)
    assert len({tuple(row[name] for name in (*COLUMNS[1:9], "source")) for row in rows}) == len(rows)
    for row in rows:
        low, high, digits = {"psnr": (20, 46, 2), "ssim": (0.6, 1, 4)}[row["metric"]]
        assert low < float(row["value"]) < high and len(row["value"].split(".")[1]) == digits, row
    assert [r["value"] for r in rows if r["upscaler"] == "irn" and r["set"] == "set5"] == [
        "43.99", "0.9871", "36.19", "0.9451",
    ]  # fmt: skip


def test_numbers_of_tad_in_dispute_are_flagged_on_both_sides():
    with open(FOLDER / "later.csv", newline="", encoding="utf-8") as handle:
        theirs = {(r["scale"], r["set"]): r for r in csv.DictReader(handle) if r["upscaler"] == "tau"}
    ours = {(r["scale"], r["set"]): r for r in table(4) if r["upscaler"] == "tau" and r["downscaler"] == "tad"}
    assert theirs.keys() == ours.keys() and {r["flag"] for r in theirs.values()} == {"disputed"}
    for cell, row in ours.items():
        assert theirs[cell]["value"] in row["note"]
