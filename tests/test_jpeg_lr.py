"""LR images stored as JPEG: rows to tables, and a tiny study."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from carlib import cells, codecs, data, evaluate, experiments, figures, intervals, metrics, overview, rescale, runs
from carlib.studies import jpeg_lr

QUALITIES = (30, 50, 80, 95)


def rows(car=0.0, bits=1.0, images=4, profile="demo", qualities=QUALITIES):
    """Rows in which the bits double with every 2 dB; CAR's PSNR is `car` dB above bicubic's, its bits `bits` times."""
    made = []

    def add(downscaler, scale, trained, quality, bpp, psnr):
        for image in range(images):
            spread = 0.1 * (image - (images - 1) / 2)
            named = {"profile": profile, "run": "", "set": "demo", "image": str(image), "seed": 0}
            named |= {"downscaler": downscaler, "scale": scale, "trained": trained, "quality": quality}
            made.append({**named, "bpp": bpp, "psnr": psnr + spread, "mse": 10 ** (-psnr / 10)})

    for place, quality in enumerate(qualities):
        rate, fidelity = 0.1 * 2**place, 28 + 2.0 * place
        add("none", 1, "", quality, rate, fidelity)
        for scale in jpeg_lr.SCALES:
            for trained in jpeg_lr.TRAINED:
                if trained in jpeg_lr.RIVALS.values():
                    add("bicubic", scale, trained, quality, rate, fidelity)
                add("car", scale, trained, quality, bits * rate, fidelity + car)
    for scale in jpeg_lr.SCALES:
        for trained in jpeg_lr.TRAINED:
            if trained in jpeg_lr.RIVALS.values():
                add("bicubic", scale, trained, 0, 2.0, 36)
            add("car", scale, trained, 0, 2.0 * bits, 36 + car)
    return made


def test_a_gain_is_cars_psnr_less_bicubics_at_the_same_quality():
    found = jpeg_lr.gains(rows(car=-1.0, bits=1.1))
    assert len(found) == 2 * 4 * (len(QUALITIES) + 1) and set(found.n) == {4}
    np.testing.assert_allclose(found[["gain", "low", "high"]], -1.0, atol=1e-9)
    np.testing.assert_allclose(found.bits, 10)
    line = found[(found.scale == 2) & (found.trained == "lossless") & (found.quality == 80)].iloc[0]
    assert line.bicubic == pytest.approx(32) and line.car == pytest.approx(31)
    assert line.printed_gain == pytest.approx(30.07 - 31.91) and line.verdict == "reproduced"


def test_a_car_that_pays_for_bits_stands_beside_bicubic_trained_on_jpeg():
    made = [row | {"psnr": row["psnr"] - 1} if row["trained"] == "lossless" else row for row in rows(car=0.5)]
    found = jpeg_lr.gains(made).set_index(["scale", "trained", "quality"])
    pd.testing.assert_frame_equal(
        found.xs("priced", level="trained")[["bicubic", "car", "gain"]],
        found.xs("jpeg", level="trained")[["bicubic", "car", "gain"]],
    )
    assert found.loc[(2, "lossless", 30), "bicubic"] == pytest.approx(27)


def test_only_what_was_printed_is_judged():
    """SAIN's authors trained on lossless LR images and stored LR images at 30, 50, 70, 80 and 90."""
    found = jpeg_lr.gains(rows(car=1.0))
    judged = found[found.verdict != "not tested"]
    assert set(judged.trained) == {"lossless"} and set(judged.quality) == {30, 50, 80}
    assert set(judged.verdict) == {"not"}
    assert judged.printed_gain.notna().all() and found[found.verdict == "not tested"].printed_gain.isna().all()
    assert set(jpeg_lr.gains(rows(car=-1.0, profile="smoke")).verdict) == {"not tested"}


def test_the_printed_numbers_are_there():
    paper = pd.read_csv("data/paper/jpeg.csv")
    assert len(paper) == 2 * 5 * 5 and set(paper.source) == {"SAIN README"} and paper.value.between(25, 36).all()
    assert not paper.duplicated(["upscaler", "downscaler", "scale", "quality"]).any()


def test_bits_are_compared_at_equal_psnr():
    found = jpeg_lr.savings(rows(car=2.0, bits=1.0))  # a curve 2 dB higher takes half of the bits
    assert list(found.columns) == [
        "scale", "trained", "downscaler", "against", "set", "bd_rate", "least", "most", "seed_interval", "fewer",
        "seeds", "n", "pooled", "low", "high", "saved_share",
    ]  # fmt: skip
    assert len(found) == 2 * (2 + 2 * 4 + 2 + 1)  # bicubic beside HR; CAR beside both, both priced beside the better,
    # too, and one kernel beside CAR
    assert found[found.against == "CAR"].trained.tolist() == ["one kernel"] * 2
    np.testing.assert_allclose(found[found.against == "CAR"].bd_rate, 0, atol=1e-9)
    found = found[found.against != "CAR"]
    car = found[found.downscaler == "car"]
    np.testing.assert_allclose(car[["bd_rate", "pooled"]], -50)
    assert set(found.set) == {"all"} and set(car.fewer) == {100}
    assert set(car.saved_share) == {100} and set(car.against) == {"HR", "bicubic LR", "better"}
    np.testing.assert_allclose(found[found.downscaler == "bicubic"].bd_rate, 0, atol=1e-9)


def test_seeds_are_paired_and_averaged():
    """CAR with a price saves 10 percent of the bits under seed 0 and 20 under seed 1, where bicubic is 1 dB better."""
    again = [row | {"seed": 1, "psnr": row["psnr"] + 1} for row in rows(bits=0.8) if row["trained"] != ""]
    again = [row for row in again if (row["downscaler"], row["trained"]) != ("car", "lossless")]
    both = rows(bits=0.9) + again
    rates, gains = jpeg_lr.savings(both), jpeg_lr.gains(both)
    line = rates[(rates.trained == "priced") & (rates.against == "better") & (rates.scale == 4)].iloc[0]
    assert line.bd_rate == pytest.approx(-15) and (line.seeds, line.n) == (2, 4)
    assert line.seed_interval == pytest.approx(intervals.half_width([-10, -20]))
    assert line.least == pytest.approx(line.most) == pytest.approx(-15)
    hr = rates[(rates.downscaler == "car") & (rates.trained == "priced") & (rates.against == "HR")].iloc[0]
    halved = 2**-0.5  # of the bits takes what is 1 dB better
    assert hr.bd_rate == pytest.approx(50 * (0.9 + 0.8 * halved) - 100) and hr.seeds == 2  # one HR image for all seeds
    lossless = rates[(rates.trained == "lossless") & (rates.downscaler == "car")]
    assert set(lossless.seeds) == {1} and lossless.seed_interval.isna().all()
    line = gains[(gains.trained == "priced") & (gains.quality == 50) & (gains.scale == 2)].iloc[0]
    assert (line.seeds, line.n) == (2, 4) and line.gain == pytest.approx(0) and line.bicubic == pytest.approx(30.5)
    assert line.bits == pytest.approx(-15) and line.seed_interval == pytest.approx(0)


def test_a_gain_that_changes_its_sign_with_the_seed_is_judged_so():
    """Printed: CAR on lossless LR images below bicubic, which seed 0 has and seed 1 has not."""
    both = rows(car=-1.0) + [row | {"seed": 1} for row in rows(car=0.4) if row["trained"] != ""]
    line = jpeg_lr.gains(both).set_index(["scale", "trained", "quality"]).loc[(2, "lossless", 80)]
    assert line.gain == pytest.approx(-0.3) and line.seed_interval == pytest.approx(intervals.half_width([-1.0, 0.4]))
    assert line.seed_interval > 0.3 and line.verdict == "partly"


def test_the_interval_of_a_rate_is_of_the_choice_of_images():
    """CAR saves 10 percent of one half's bits and 40 of the other's."""
    made = [
        row | {"bpp": row["bpp"] * (0.9 if int(row["image"]) % 2 else 0.6)} if row["downscaler"] == "car" else row
        for row in rows(images=8)
    ]
    found = jpeg_lr.savings(made)
    line = found[(found.trained == "jpeg") & (found.against == "bicubic LR")].iloc[0]
    assert line.bd_rate == pytest.approx(-25, abs=0.5) and -40 <= line.least < -28 and -22 < line.most <= -10
    certain = jpeg_lr.savings(rows(bits=0.8)).iloc[4]
    assert certain.least == pytest.approx(certain.bd_rate) == pytest.approx(certain.most)


def test_a_delta_rate_is_of_each_image_by_itself_and_of_every_set():
    """CAR takes half of the bits of the small files, which stand 4 dB higher, and twice those of the large ones."""
    small = [row | {"set": "set5", "psnr": row["psnr"] + 4} for row in rows(bits=0.5)]
    large = [row | {"set": "bsd100", "bpp": 50 * row["bpp"]} for row in rows(bits=2.0, images=2)]
    found = jpeg_lr.savings(small + large)
    found = found[(found.trained == "jpeg") & (found.against == "bicubic LR") & (found.scale == 4)].set_index("set")
    assert found.n.to_dict() == {"all": 6, "bsd100": 2, "set5": 4}
    np.testing.assert_allclose(found.bd_rate, [(-50 * 4 + 100 * 2) / 6, 100, -50], atol=1e-9)
    np.testing.assert_allclose(found.fewer, [400 / 6, 0, 100])
    assert found.pooled["all"] > 80 and found.pooled["set5"] == pytest.approx(-50)  # the large files' are the bits


def test_an_image_whose_curves_have_no_psnr_in_common_is_left_out():
    made = [row | {"psnr": row["psnr"] + 50 * (row["downscaler"] == "car" and row["image"] == "0")} for row in rows()]
    found = jpeg_lr.savings(made)
    assert set(found[found.downscaler == "car"].n) == {3, 4} and set(found[found.downscaler == "bicubic"].n) == {4}
    none = jpeg_lr.savings([row | {"psnr": row["psnr"] + 50 * (row["downscaler"] == "car")} for row in rows()])
    none = none[(none.downscaler == "car") & (none.against != "CAR")]
    assert set(none.n) == {0} and none.bd_rate.isna().all()


def test_the_better_bicubic_is_that_of_lossless_images_at_high_quality():
    """Its EDSR of lossless LR images is 1 dB better there and 1 dB worse below, as is the other the other way round."""
    made = [
        row | {"psnr": row["psnr"] - 1} if row["trained"] == worse and row["downscaler"] == "bicubic" else row
        for row in rows(qualities=(30, 50, 85, 86))
        for worse in ["lossless" if row["quality"] <= 85 else "jpeg"]
    ]
    found = jpeg_lr.savings(made)
    better = found[found.against == "better"]
    assert set(better.trained) == {"priced", "one kernel"} and len(better) == 4
    np.testing.assert_allclose(better.bd_rate, 0, atol=1e-6)
    assert (found[(found.trained == "priced") & (found.against == "bicubic LR")].bd_rate < -1).all()


def test_a_bit_is_worth_what_it_saves_over_the_step_of_quantisation():
    found = jpeg_lr.worth(rows())
    assert list(found.columns) == ["scale", "quality", "next", "saved", "worth"] and len(found) == 2 * 3
    line = found[(found.scale == 4) & (found.quality == 50)].iloc[0]  # 0.2 bits of an HR pixel at 30 dB, 0.4 at 32 dB
    assert line.next == 80 and line.saved == pytest.approx(1000 * (10**-3.0 - 10**-3.2) / (0.2 * 16))
    assert line.worth == pytest.approx(line.saved / 0.7)


def test_the_picture_has_an_axes_per_scale():
    figure = figures.jpeg_curves(jpeg_lr.curves(rows(car=1.0)))
    figure.savefig(io.BytesIO(), dpi=40)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["x2", "x4"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 7 and "CAR, trained on JPEG, bits priced" in labels and "CAR, trained on JPEG" in labels
    with pytest.raises(ValueError, match="no curve of an LR image"):
        figures.jpeg_curves({})


# ---- a tiny study -------------------------------------------------------------------------------------


@pytest.fixture
def shrunk(home):
    """Profile demo, whose weights are shipped, on one image of 64 pixels at two qualities."""
    text = (home / "params.yaml").read_text()
    head, rest = text.split("\njpeg:\n", 1)
    rest = "  qualities:\n  - 30\n  - 90\n  lower:\n  - 5\n" + rest[rest.index("\nprofiles:") :]
    before, demo = rest.split("  demo:\n", 1)
    tiny = "    jpeg: {sets: [demo], images: 1, crop: 67}\n"
    demo = demo[: demo.index("    jpeg:")] + tiny + demo[demo.index("  mini:") :]
    (home / "params.yaml").write_text(head + "\njpeg:\n" + before + "  demo:\n" + demo)
    return home


def test_a_study_leaves_rows_tables_and_a_figure(shrunk):
    found = jpeg_lr.study("demo", device="cpu", progress=False)
    table, rates = jpeg_lr.table("demo", found), jpeg_lr.rates("demo", found)
    jpeg_lr.prices("demo", found)
    jpeg_lr.figure("demo", found)
    # Twelve runs at the paper's scales and six at the others, lossless and at two qualities; HR images, too.
    assert len(found) == 3 + (12 + 6) * 3 and len(table) == (2 * 4 + 2) * 3 and len(rates) == 26 + 2 * 2
    others = rates[rates.scale.isin(jpeg_lr.OTHERS)]
    assert set(others.trained) == {"one kernel"} and set(others.against) == {"bicubic LR", "better"}
    written = pd.read_csv(shrunk / "results/demo/metrics/jpeg.csv")
    assert list(written.columns) == jpeg_lr.ROW_COLUMNS and np.isfinite(written[["bpp", "psnr", "mse"]]).all(axis=None)
    for name in ("tables/jpeg", "tables/jpeg_rates", "tables/jpeg_worth", "figures/jpeg"):
        caption = json.loads((shrunk / f"results/demo/{name}.json").read_text())["caption"]
        assert "n = 1 images (1 of demo)" in caption

    # One row by hand: the LR image of the run, coded, decoded, restored; rate over HR pixels, one border for all.
    name, image = next(data.load("demo"))
    hr = data.crop_to_multiple(data.centre_crop(image, 67), 8)
    run = runs.get("car-edsr-x2-jpeg", "demo")
    chain = evaluate.Chain(run, experiments.ready(run.name, "demo"))
    coded = codecs.encode(chain(hr)[0], "jpeg", quality=90)
    sr = rescale.restore(chain.networks["upscaler"], codecs.decode(coded, "jpeg"))
    row = written[(written.run == run.name) & (written.image == name) & (written.quality == 90)].iloc[0]
    assert row.trained == "jpeg" and row.bpp == pytest.approx(8 * len(coded) / 64**2, abs=1e-6)
    assert row.mse == pytest.approx(np.square(hr / 255 - sr).mean(), abs=1e-6)
    assert row.psnr == pytest.approx(metrics.psnr(hr, sr, 4), abs=1e-4)


def test_all_of_the_papers_scales_are_measured_under_as_many_seeds_as_params_yaml_wants(home):
    content = yaml.safe_load((home / "params.yaml").read_text())
    content["seeds"] = {"jpeg": {"smoke": 3}}
    (home / "params.yaml").write_text(yaml.safe_dump(content))
    found = jpeg_lr.seeded("smoke")
    assert len(set(found)) == len(found) == 3 * len(jpeg_lr.names())
    assert {"bicubic-edsr-x4-seed2", "car-edsr-x2-static-jpeg-priced-seed1"} < set(found)
    on_jpeg = {name for name in found if "jpeg" in name}
    in_no_table = {name for name in cells.in_no_table("smoke") if "jpeg" in name}
    assert on_jpeg == in_no_table < set(overview.declared("smoke"))  # `train --all` knows them


def test_a_seed_without_weights_is_left_out_and_told(shrunk, capsys):
    content = yaml.safe_load((shrunk / "params.yaml").read_text())
    content["seeds"] = {"jpeg": {"demo": 9}}
    (shrunk / "params.yaml").write_text(yaml.safe_dump(content))
    found = jpeg_lr.study("demo", device="cpu", progress=False)
    assert {row["seed"] for row in found} == {0, 1, 2}
    assert "car-edsr-x2-jpeg-priced-seed8 is left out: " in capsys.readouterr().err


def test_settings_that_are_missing_are_named(home):
    text = (home / "params.yaml").read_text()
    (home / "params.yaml").write_text(text.replace("\njpeg:\n", "\njpegs:\n"))
    with pytest.raises(ValueError, match=r"params\.yaml has no jpeg section"):
        jpeg_lr.study("demo", progress=False)
