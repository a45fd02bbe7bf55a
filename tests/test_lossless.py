"""Table 5: rows of file sizes to means, totals, verdicts; the sizes themselves; what the printed numbers are."""

import math

import numpy as np
import pandas as pd
import pytest
import yaml

from carlib import codecs, data, experiments, rescale, weights
from carlib.ops.imresize import imresize
from carlib.studies import lossless, lossless_tables

NAN = float("nan")


def rows(downscaler, bits, *, codec="jpegls", scale=2, set_name="set5", profile="demo", pixels=800):
    """A row an image, `bits` per LR pixel (one number for every image of Set5, or a list)."""
    bits = bits if isinstance(bits, list) else [bits] * 5
    fixed = {"profile": profile, "run": "", "downscaler": downscaler, "scale": scale, "set": set_name, "codec": codec}
    pixels = pixels if isinstance(pixels, list) else [pixels] * len(bits)
    return [
        {**fixed, "image": str(i), "bytes": b * n / 8, "lr_pixels": n, "hr_pixels": n * scale**2}
        for i, (b, n) in enumerate(zip(bits, pixels, strict=True))
    ]


def only(table):
    (line,) = table.to_dict("records")
    return line


# ---- the table ----------------------------------------------------------------------------------------


def test_a_line_is_the_mean_over_images_and_the_total_over_pixels(home):
    made = rows("bicubic", [10.0, 20.0, 10.0, 10.0, 10.0], pixels=[100, 900, 100, 100, 100])
    line = only(lossless_tables.table5(made))
    assert line["mean"] == pytest.approx(12) and line["hr_mean"] == pytest.approx(3)
    assert line["interval"] == pytest.approx(2.7764 * 2, rel=1e-4)  # Student's t of 4 degrees, standard error 2
    assert line["total"] == pytest.approx((4 * 1000 + 18000) / 1300) and line["hr_total"] == line["total"] / 4
    assert line["printed"] == 11.99 and line["difference"] == pytest.approx(0.01) and line["verdict"] == "reproduced"
    assert (line["n"], line["run"], line["profile"]) == (5, "", "demo")


def test_jpeg_2000_counts_40_bytes_a_file_and_the_others_do_not(home):
    table = lossless_tables.table5([row for codec in lossless.CODINGS for row in rows("bicubic", 10.0, codec=codec)])
    added = 8 * 40 / 800
    assert table.set_index("codec")["mean"].to_dict() == pytest.approx(
        {"jpegls": 10, "jpegls-hp1": 10, "jpeg2000": 10 + added}
    )
    assert table.total.tolist() == pytest.approx(table["mean"].tolist())


@pytest.mark.parametrize(("downscaler", "printed"), [
    ("bicubic", 11.99), ("perceptual", 13.27), ("perceptual-as-published", 13.27), ("dpid", 12.65),
    ("dpid-0.5", 12.65), ("l0", 16.10), ("l0-surrogate", 16.10), ("car", 11.80),
])  # fmt: skip
def test_variants_stand_beside_the_same_printed_column(home, downscaler, printed):
    assert only(lossless_tables.table5(rows(downscaler, 12.0)))["printed"] == printed
    assert set(lossless.DOWNSCALERS) >= {downscaler}


@pytest.mark.parametrize(("set_name", "count", "bits", "verdict"), [
    ("set5", 5, 12.03, "reproduced"),
    ("set5", 5, 12.05, "not"),
    ("set5", 4, 11.99, "not tested"),  # not whole
    ("demo", 11, 11.99, "not tested"),
    ("bsd100", 100, 11.30, "reproduced"),  # 11.11, the wider tolerance
    ("bsd100", 100, 11.32, "not"),
    ("urban100", 100, 11.58, "reproduced"),  # 11.39, likewise
    ("urban100", 100, 11.60, "not"),
    ("div2k", 10, 10.42, "not tested"),
])  # fmt: skip
def test_verdicts_follow_the_tolerance_where_a_set_is_whole(home, set_name, count, bits, verdict):
    line = only(lossless_tables.table5(rows("bicubic", [bits] * count, set_name=set_name)))
    assert line["verdict"] == verdict
    assert math.isnan(line["printed"]) == (verdict == "not tested")


def test_what_cannot_be_a_test_is_none(home):
    """Mini networks are not the paper's; l0 was chosen in view of Set5 and Set14, its surrogate fitted to Set5."""
    small = only(lossless_tables.table5(rows("car", 11.8)))
    assert small["printed"] == 11.80 and math.isnan(small["difference"])
    assert only(lossless_tables.table5(rows("car", 11.8)))["verdict"] == "not tested"
    assert only(lossless_tables.table5(rows("car", 11.8, profile="paper")))["verdict"] == "reproduced"
    assert only(lossless_tables.table5(rows("l0-surrogate", 16.1)))["verdict"] == "not tested"
    whole = rows("l0-surrogate", [15.07] * 14, set_name="set14")
    assert only(lossless_tables.table5(whole))["verdict"] == "reproduced"
    for set_name, count, verdict in (("set5", 5, "not tested"), ("set14", 14, "not tested"), ("bsd100", 100, "not")):
        line = only(lossless_tables.table5(rows("l0", [14.0] * count, set_name=set_name)))
        assert line["verdict"] == verdict and line["difference"] == pytest.approx(14 - line["printed"])


def test_a_profile_that_crops_has_nothing_printed(home):
    line = only(lossless_tables.table5(rows("bicubic", 11.99, profile="smoke")))
    assert math.isnan(line["printed"]) and line["verdict"] == "not tested"


@pytest.fixture
def table(home):
    """Bicubic met by JPEG 2000 on Set5 and missed on Set14; CAR a bit below it."""
    extra = 8 * 40 / 800
    made = []
    for set_name, count, found in (("set14", 14, 12.0), ("set5", 5, 11.99)):
        for codec, bits in (("jpegls", 13.6), ("jpegls-hp1", 11.3), ("jpeg2000", found - extra)):
            for downscaler, less in (("bicubic", 0.0), ("car", 0.1), ("dpid-0.5", -0.66)):
                made += rows(downscaler, [bits - less] * count, codec=codec, set_name=set_name)
    return lossless_tables.table5(made)


def test_codecs_stand_side_by_side(table):
    wide = lossless_tables.by_codec(table)
    assert list(wide.columns) == [
        "scale", "set", "downscaler", "printed", "jpegls", "jpegls: interval", "jpegls: difference", "jpegls: verdict",
        "jpegls-hp1", "jpegls-hp1: interval", "jpegls-hp1: difference", "jpegls-hp1: verdict", "jpeg2000+40",
        "jpeg2000+40: interval", "jpeg2000+40: difference", "jpeg2000+40: verdict", "n", "run", "profile",
    ]  # fmt: skip
    assert wide["set"].tolist() == ["set5"] * 3 + ["set14"] * 3  # the paper's order
    first = wide.iloc[0]
    assert (first.downscaler, first.printed) == ("bicubic", 11.99)
    assert first["jpeg2000+40"] == pytest.approx(11.99) and first["jpegls"] == pytest.approx(13.6)
    assert first[["jpegls: verdict", "jpeg2000+40: verdict"]].tolist() == ["not", "reproduced"]
    assert first["jpegls: difference"] == pytest.approx(13.6 - 11.99)
    totals = lossless_tables.totals(table)
    assert len(totals) == len(table) and "printed" not in totals


def test_findings_are_the_verdicts_of_all_sets(table):
    found = lossless_tables.findings(table).set_index("reading")
    assert list(found.columns) == ["scale", "sets", "printed", "ours", "verdict", "profile"]
    assert set(found.scale) == {"x2"} and set(found.profile) == {"demo"}
    said = found.loc["Table 5 counts JPEG 2000 and 40 bytes a file"]
    assert said.tolist() == ["x2", "Set5 / Set14", "11.99 / 11.23", "11.99 / 12.00", "partly", "demo"]
    assert found.verdict["Table 5 counts JPEG-LS, as its caption says"] == "not"
    assert found.verdict["Its DPID ran with lambda 0.5"] == "partly"
    assert "Its DPID ran with the authors' lambda 1.0" not in found.index  # not measured


def test_findings_show_every_set_that_tests_them_and_no_other(home):
    made = []
    for set_name, count in (("set5", 5), ("set14", 14), ("bsd100", 100), ("urban100", 100), ("demo", 11)):
        for name in ("bicubic", "l0", "l0-surrogate"):
            made += rows(name, [12.0] * count, codec="jpeg2000", set_name=set_name)
    found = lossless_tables.findings(lossless_tables.table5(made)).set_index("reading")
    assert found.sets["Table 5 counts JPEG 2000 and 40 bytes a file"] == "Set5 / Set14 / B100 / Urban100"
    assert found.sets["Its L0 is as large as our reconstruction's"] == "B100 / Urban100"
    assert found.sets["Its L0 is as large as our linear surrogate's"] == "Set14 / B100 / Urban100"
    assert found.printed["Its L0 is as large as our reconstruction's"] == "15.31 / 15.27"
    alone = lossless_tables.findings(lossless_tables.table5(rows("l0", 12.0, codec="jpeg2000"))).iloc[0]
    assert alone[["sets", "printed", "ours", "verdict"]].tolist() == ["-", "-", "-", "not tested"]


@pytest.mark.parametrize(("car", "easier", "similar"), [
    ({"set5": 11.9, "set14": 11.9}, "reproduced", "reproduced"),
    ({"set5": 11.9, "set14": 12.06}, "reproduced", "partly"),  # bicubic's are 12; the paper's pairs: -0.42 to 0.05
    ({"set5": 11.9, "set14": 11.57}, "reproduced", "partly"),
    ({"set5": 12.04, "set14": 13.0}, "partly", "partly"),  # as many bits as the fewest of the others
    ({"set5": 13.5, "set14": 13.5}, "not", "not"),
])  # fmt: skip
@pytest.mark.parametrize("profile", ["demo", "mini", "paper"])
def test_what_the_paper_says_of_car_is_judged_for_the_profiles_own_networks(home, car, easier, similar, profile):
    others = {"bicubic": 12.0, "perceptual-as-published": 13.5, "dpid-0.5": 13.0, "l0": 16.0, "perceptual": 1.0}
    made = []
    for set_name, count in (("set5", 5), ("set14", 14)):
        for name, bits in {**others, "car": car[set_name]}.items():
            made += rows(name, [bits] * count, codec="jpeg2000", set_name=set_name, profile=profile)
    found = lossless_tables.findings(lossless_tables.table5(made)).iloc[-2:]
    assert found.verdict.tolist() == [easier, similar] and set(found.profile) == {profile}
    assert found.printed.tolist() == ["-0.85 / -0.87", "-0.19 / -0.09"] and set(found.sets) == {"Set5 / Set14"}
    assert found.ours.tolist()[1] == f"{car['set5'] - 12:+.2f} / {car['set14'] - 12:+.2f}"


def test_car_is_set_against_every_other_downscaler(table):
    less = lossless_tables.car(table)
    assert less[["set", "than"]].to_numpy().tolist() == [
        ["set5", "bicubic"], ["set5", "dpid-0.5"], ["set14", "bicubic"], ["set14", "dpid-0.5"],
    ]  # fmt: skip
    np.testing.assert_allclose(less.ours, [-0.1, -0.76, -0.1, -0.76])
    np.testing.assert_allclose(less.printed, [11.80 - 11.99, 11.80 - 12.65, 11.14 - 11.23, 11.14 - 12.05])


# ---- the sizes ----------------------------------------------------------------------------------------


@pytest.fixture
def shrunk(home, monkeypatch):
    """Profile demo, whose weights are shipped, on two images of 67 pixels, the second grey."""
    content = yaml.safe_load((home / "params.yaml").read_text())
    content["profiles"]["demo"]["evaluate"] = {"sets": ["urban100", "demo"], "images": 2, "crop": 67}
    (home / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(lossless, "DOWNSCALERS", ("bicubic", "perceptual-as-published", "car"))  # none to compile
    return home


def test_every_file_has_a_row(shrunk):
    table = lossless.table5("demo", progress=False)
    found = pd.read_csv(shrunk / "results/demo/metrics/table5.csv")
    assert list(found.columns) == lossless.ROW_COLUMNS
    assert len(found) == 2 * 2 * len(lossless.DOWNSCALERS) * len(lossless.CODINGS) == 2 * len(table)
    assert set(found.run[found.downscaler == "car"]) == {"car-edsr-x2", "car-edsr-x4"}
    assert set(found.hr_pixels) == {64 * 64} and set(found.lr_pixels) == {32 * 32, 16 * 16}
    for name in ("table5", "table5_findings", "table5_totals"):
        assert all((shrunk / f"results/demo/tables/{name}.{end}").is_file() for end in ("csv", "md", "json"))
    assert "not the authors' code" in (shrunk / "results/demo/tables/table5.json").read_text()

    sizes = found.set_index(["image", "downscaler", "scale", "codec"])["bytes"]
    for name, image in data.load("demo", limit=2):
        hr = data.to_colour(data.crop_to_multiple(data.centre_crop(image, 67), 8))
        networks, _ = weights.load_run(experiments.ready("car-edsr-x4", "demo"))
        for downscaler, lr in {
            "bicubic": imresize(hr, 1 / 4),
            "perceptual-as-published": rescale.downscale(hr, 4, "perceptual", variant="as-published"),
            "car": rescale.learned_downscale(networks["resampler"], hr),
        }.items():
            key = name, downscaler, 4
            assert sizes[(*key, "jpegls")] == len(codecs.encode(lr, "jpegls"))
            assert sizes[(*key, "jpegls-hp1")] == len(codecs.encode(lr, "jpegls", transform="hp1"))
            assert sizes[(*key, "jpeg2000")] == len(codecs.encode(lr, "jpeg2000"))


def test_a_grey_file_is_coded_as_three_equal_channels(shrunk, monkeypatch):
    """As the released code does, which reads RGB only; a grey code stream would be about a third."""
    grey = np.ascontiguousarray(next(data.load("demo"))[1][:67, :67, 1])
    monkeypatch.setattr(data, "load", lambda name, limit=None: iter([("bridge", grey)]))
    found = {(row["downscaler"], row["scale"], row["codec"]): row for row in lossless.measure("demo", progress=False)}
    lr = imresize(data.to_colour(grey[:64, :64]), 1 / 2)
    assert found["bicubic", 2, "jpegls"]["bytes"] == codecs.bits_per_pixel(lr) * 32 * 32 / 8
    assert found["bicubic", 2, "jpegls-hp1"]["bytes"] == len(codecs.encode(lr, "jpegls", transform="hp1"))
    assert found["bicubic", 2, "jpegls"]["bytes"] > 2 * len(codecs.encode(lr[..., 0], "jpegls"))


def test_every_downscaler_but_car_is_a_classical_one():
    assert lossless.DOWNSCALERS[-1] == "car" and set(lossless.DOWNSCALERS[:-1]) < set(rescale.CLASSICAL)


def test_without_any_of_its_sets_there_is_nothing_to_count(home):
    with pytest.raises(ValueError, match=r"none of the image sets set5, .* is here: see `carlib data list`"):
        lossless.measure("paper", progress=False)


@pytest.mark.parametrize(("set_name", "scale", "printed", "plain", "hp1"), [
    ("set5", 2, 11.99, 13.62, 11.36), ("set5", 4, 14.78, 16.22, 14.01),
    ("set14", 2, 11.23, 14.13, 11.06), ("set14", 4, 12.61, 15.42, 12.18),
])  # fmt: skip
def test_bicubic_is_jpeg_2000_and_not_jpeg_ls(set_name, scale, printed, plain, hp1):
    """Printed: Table 5; 40 bytes a file are the fit made to it. JPEG-LS: CharLS 2.4.3, with its SPIFF header."""
    if set_name not in data.available():
        pytest.skip(f"{set_name} is not under CARLIB_DATA")
    lrs = [imresize(data.to_colour(data.crop_to_multiple(hr, 8)), 1 / scale) for _, hr in data.load(set_name)]
    bits = codecs.bits_per_pixel
    wavelet = np.mean([bits(lr, "jpeg2000") + 8 * 40 / (lr.shape[0] * lr.shape[1]) for lr in lrs])
    assert wavelet == pytest.approx(printed, abs=0.01)
    assert np.mean([bits(lr) for lr in lrs]) == pytest.approx(plain, abs=0.01)
    assert np.mean([bits(lr, transform="hp1") for lr in lrs]) == pytest.approx(hp1, abs=0.01)
