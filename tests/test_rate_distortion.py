"""Rate and distortion: what is compared with what, the verdicts, and a tiny study."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from carlib import codecs, data, evaluate, experiments, figures, metrics, runs
from carlib.studies import rate_distortion

NAN = float("nan")
PSNR = np.array([28.0, 29.5, 31.0, 33.0, 36.0])
ANCHOR = np.stack([0.1 * 2 ** ((PSNR - 28) / 2), PSNR], axis=1)  # log rate is linear in PSNR


# ---- rows to savings, claims and the picture ----------------------------------------------------------


def rows(car=1.0, bicubic=1.0, lossless=1.0, *, psnr=0.0, images=2):
    """Rows in which every codec of the HR image is ANCHOR, and LR images take it times a factor."""
    made = []

    def add(downscaler, scale, codec, quality, bpp, psnr):
        for image in range(images):
            spread = 0.2 * (image - (images - 1) / 2)  # the mean is what was asked for
            named = {"profile": "demo", "run": "", "set": "demo", "image": str(image)}
            named |= {"downscaler": downscaler, "scale": scale, "codec": codec, "quality": quality}
            made.append({**named, "bpp": bpp * (1 + spread), "psnr": psnr + spread, "ssim": 0.9})

    for quality, (bpp, fidelity) in zip((5, 20, 50, 80, 95), ANCHOR, strict=True):
        for codec in (*rate_distortion.CODECS, "avif"):
            add("none", 1, codec, quality, bpp, fidelity)
        for downscaler, factor in (("car", car), ("bicubic", bicubic)):
            for scale in rate_distortion.SCALES:
                for codec in rate_distortion.CODECS:
                    add(downscaler, scale, codec, quality, factor * bpp, fidelity + psnr)
    for downscaler in rate_distortion.DOWNSCALERS:
        for scale in rate_distortion.SCALES:
            for codec in rate_distortion.LOSSLESS:
                add(downscaler, scale, codec, 0, lossless * 0.4, 32 + psnr)
    return made


def test_a_curve_is_the_mean_over_images_by_quality():
    found = rate_distortion.curves(rows())
    assert len(found) == 4 + 2 * 2 * (3 + 2)
    curve = found["none", 1, "jpeg", "lossy"]
    assert list(curve.columns) == ["quality", "bpp", "psnr", "ssim"] and curve.quality.is_monotonic_increasing
    np.testing.assert_allclose(curve[["bpp", "psnr"]], ANCHOR)
    assert found["car", 4, "jpegls", "lossless"].quality.tolist() == [0]


def test_every_way_of_storing_is_compared_with_what_it_has_to_beat():
    table = rate_distortion.savings(rows(car=0.8, bicubic=1.0, lossless=1.5))
    assert list(table.columns) == [
        "scale", "downscaler", "codec", "mode", "against", "bd_rate", "low", "high", "by_image", "least", "most",
        "compared", "saved_share", "saved_up_to", "verdict", "n",
    ]  # fmt: skip
    assert len(table) == 2 * 2 * (2 * 3 + 2) + 2 * 3 and set(table.n) == {2}
    lossy = table[table["mode"] == "lossy"]
    other = lossy[lossy.against.str.partition(" ")[0] != lossy.codec]
    assert set(other.against) == {"avif of HR"} and len(other) == 2 * 2 * 3
    car = lossy[lossy.downscaler == "car"]
    assert set(car.against.str.partition(" of ")[2]) == {"HR", "bicubic LR"}
    np.testing.assert_allclose(car[["bd_rate", "by_image"]], -20)
    assert set(table.compared) == {2}
    assert set(car.verdict) == {"reproduced"} and set(car.saved_share) == {100} and set(car.saved_up_to) == {36.0}
    bicubic = lossy[lossy.downscaler == "bicubic"]
    np.testing.assert_allclose(bicubic.bd_rate, 0, atol=1e-9)
    lossless = table[table["mode"] == "lossless"]
    assert set(lossless.against) == {"jpeg of HR"} and set(lossless.verdict) == {"not"}
    np.testing.assert_allclose(lossless[["bd_rate", "low", "high"]], [[50, 32, 32]] * 8)


@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "partly"), (0.9, "not")])
def test_bits_saved_at_low_fidelity_only_are_partly_if_that_is_some_part(factor, verdict):
    made = rows()
    for row in made:  # cheaper at the lowest quality, three times the bits from there on
        if row["downscaler"] == "car" and row["quality"]:
            row["bpp"] *= factor if row["quality"] == 5 else 3
    table = rate_distortion.savings(made)
    car = table[(table.downscaler == "car") & (table["mode"] == "lossy")]
    assert set(car.verdict) == {verdict} and (car.bd_rate > 0).all() and car.saved_up_to.between(28, 29.5).all()
    np.testing.assert_allclose(car.saved_share, 100 * (car.saved_up_to - 28) / 8, atol=0.3)


@pytest.mark.parametrize(("mode", "percent", "interval", "share", "verdict"), [
    ("lossy", -10.0, 1.0, 100.0, "reproduced"),
    ("lossy", -10.0, 0.99, 100.0, "not tested"),  # too little in common
    ("lossless", -10.0, 0.0, 100.0, "reproduced"),  # one point has no more
    ("lossy", -0.1, 5.0, 1.0, "partly"),  # on average fewer
    ("lossy", 30.0, 5.0, 5.0, "partly"),
    ("lossy", 30.0, 5.0, 4.9, "not"),
    ("lossy", 0.0, 5.0, 0.0, "not"),
    ("lossy", NAN, NAN, NAN, "not tested"),
])  # fmt: skip
def test_the_verdict_of_a_line(home, mode, percent, interval, share, verdict):
    assert rate_distortion._verdict(mode, percent, interval, share) == verdict


def test_a_short_common_interval_is_no_test_and_neither_is_profile_smoke():
    """The LR curves reach 0.9 dB into the HR image's 8."""
    table = rate_distortion.savings(rows(car=0.5, bicubic=0.9, psnr=7.1))
    lossy = table[(table["mode"] == "lossy") & table.against.str.endswith("HR")]
    assert set(lossy.verdict) == {"not tested"} and (lossy.high - lossy.low).max() < 1 and (lossy.bd_rate < 0).all()
    smoke = rate_distortion.savings([{**row, "profile": "smoke"} for row in rows(car=0.8)])
    assert set(smoke.verdict) == {"not tested"}


def test_avif_of_the_hr_image_is_a_rival_of_its_own():
    made = rows(car=0.8)
    for row in made:
        if row["codec"] == "avif":
            row["bpp"] /= 2
    found = rate_distortion.claims(rate_distortion.savings(made))
    assert found.claim[2] == "a lossy CAR LR image saves bits over the HR image as AVIF"
    assert found.verdict.tolist()[:4] == ["reproduced"] * 2 + ["not"] * 2
    assert found.bd_rate.tolist()[2:4] == ["+60.0 to +60.0 %"] * 2


def test_claims_are_the_verdicts_of_their_lines():
    found = rate_distortion.claims(rate_distortion.savings(rows(car=0.8, bicubic=0.9, lossless=1.5)))
    assert (
        list(found.columns) == ["claim", "scale", "bd_rate", "by_image", "saved_share", "verdict"]
        and len(found) == 4 * 2
    )
    assert found.verdict.tolist() == ["reproduced"] * 4 + ["not"] * 2 + ["reproduced"] * 2
    assert found.bd_rate.tolist()[:6] == ["-20.0 to -20.0 %"] * 4 + ["+50.0 to +50.0 %"] * 2
    assert found.saved_share.tolist()[:6] == ["100.0 to 100.0 %"] * 4 + ["0.0 to 0.0 %"] * 2
    mixed = rows(car=0.8)
    for row in mixed:
        if row["downscaler"] == "car" and row["codec"] == "webp":
            row["bpp"] *= 2
    found = rate_distortion.claims(rate_distortion.savings(mixed))
    assert found.verdict.tolist()[:2] == ["partly"] * 2 and found.bd_rate[0] == "-20.0 to +60.0 %"
    found = rate_distortion.claims(rate_distortion.savings(rows(psnr=20.0)))
    assert found.verdict.tolist()[:6] == ["not tested"] * 6 and set(found.bd_rate[:6]) == {"-"}


def test_the_picture_has_a_row_per_metric_and_a_column_per_codec():
    figure = figures.rate_curves(rate_distortion.curves(rows(car=0.8)), rate_distortion.CODECS)
    figure.savefig(io.BytesIO(), dpi=40)
    assert len(figure.axes) == 2 * 3
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["JPEG", "WebP", "JPEG XL"]
    for axes in figure.axes:
        assert axes.get_xscale() == "log" and len(axes.get_lines()) == 2 + 4 + 4  # HR, AVIF; LR; lossless
    drawn = {tuple(np.round(line.get_xdata(), 6)) for line in figure.axes[0].get_lines()}
    assert tuple(np.round(0.8 * ANCHOR[:, 0], 6)) in drawn
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 2 + 4 + 2 and "CAR LR ×4, coded and restored" in labels
    with pytest.raises(ValueError, match="no curve of the HR image coded by png"):
        figures.rate_curves(rate_distortion.curves(rows()), ("png",))


# ---- a tiny study -------------------------------------------------------------------------------------


@pytest.fixture
def shrunk(home):
    """Profile demo, whose weights are shipped, on one image of 64 pixels at two qualities."""
    text = (home / "params.yaml").read_text()
    whole = text[text.index("rate_distortion:\n  qualities:") : text.index("\nprofiles:")]
    text = text.replace(whole, "rate_distortion:\n  qualities:\n  - 10\n  - 90\n")
    head, demo = text.split("  demo:\n", 1)
    settings = demo[demo.index("    rate_distortion:") : demo.index("  mini:")]
    tiny = "    rate_distortion:\n      sets:\n      - demo\n      - urban100\n      images: 1\n      crop: 67\n"
    (home / "params.yaml").write_text(head + "  demo:\n" + demo.replace(settings, tiny, 1))
    return home


def test_a_study_leaves_rows_table_and_figure(shrunk):
    found = rate_distortion.study("demo", device="cpu", progress=False)
    table = rate_distortion.table("demo", found)
    assert len(found) == 4 * 2 + 2 * 2 * (3 * 2 + 2)
    written = pd.read_csv(shrunk / "results/demo/metrics/rate_distortion.csv")
    assert list(written.columns) == rate_distortion.ROW_COLUMNS and len(written) == len(found)
    assert np.isfinite(written[["bpp", "psnr", "ssim"]]).all(axis=None)
    figure = rate_distortion.figure("demo", found)
    assert len(figure.axes) == 6
    for name in ("tables/rate_distortion.md", "tables/rate_distortion_claims.csv", "figures/rate_distortion.png"):
        assert (shrunk / "results/demo" / name).is_file()
    for name in ("tables/rate_distortion", "figures/rate_distortion"):
        caption = json.loads((shrunk / f"results/demo/{name}.json").read_text())["caption"]
        assert "the middle, 64 x 64 pixels where" in caption and "100 bytes are 0.195 bits per pixel" in caption
        assert "JPEG, WebP and AVIF halve chroma (4:2:0)" in caption
    text = (shrunk / "results/demo/tables/rate_distortion.json").read_text()
    assert rate_distortion.CLAIM in text and "n = 1 images (1 of demo)" in text and "-p profile demo" in text
    assert len(pd.read_csv(shrunk / "results/demo/tables/rate_distortion.csv")) == len(table) == 38

    # One row by hand: the LR image of the run, coded, decoded, restored; rate over HR pixels, one border for all.
    name, image = next(data.load("demo"))
    hr = data.crop_to_multiple(data.centre_crop(image, 67), 8)
    assert hr.shape[:2] == (64, 64)
    run = runs.get("car-edsr-x2", "demo")
    chain = evaluate.Chain(run, experiments.ready(run.name, "demo"))
    lr, sr = chain(hr)
    chosen = written[(written.run == run.name) & (written.image == name)].set_index(["codec", "quality"])
    row = chosen.loc[("jpegls", 0)]
    assert row.bpp == pytest.approx(codecs.bits_per_pixel(lr, "jpegls") / 4, abs=1e-6)
    assert row.psnr == pytest.approx(metrics.psnr(hr, sr, 4), abs=1e-4)
    assert chosen.loc[("webp", 90)].bpp == pytest.approx(codecs.bits_per_pixel(lr, "webp", quality=90) / 4, abs=1e-6)
    direct = written[(written.downscaler == "none") & (written.codec == "avif") & (written.quality == 90)].iloc[0]
    decoded = codecs.decode(codecs.encode(hr, "avif", quality=90), "avif")
    assert direct.bpp == pytest.approx(codecs.bits_per_pixel(hr, "avif", quality=90), abs=1e-5)
    assert direct.ssim == pytest.approx(metrics.ssim(hr, decoded, 4), abs=1e-5)


def test_a_study_that_is_stopped_goes_on_with_the_next_image(shrunk, monkeypatch):
    text = (shrunk / "params.yaml").read_text()
    (shrunk / "params.yaml").write_text(text.replace("images: 1\n      crop: 67", "images: 2\n      crop: 24"))
    coded, direct = [], rate_distortion._direct

    def once(hr, qualities):
        if coded:
            raise KeyboardInterrupt
        coded.append(hr)
        return direct(hr, qualities)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(rate_distortion, "_direct", once)
        rate_distortion.study("demo", device="cpu", progress=False)
    kept = shrunk / "results/demo/kept/rate_distortion.json"
    assert kept.is_file() and not (shrunk / "results/demo/metrics").exists()
    monkeypatch.setattr(rate_distortion, "_direct", lambda *given: coded.append(given[0]) or direct(*given))
    found = rate_distortion.study("demo", device="cpu", progress=False)
    assert len(coded) == 2 and len({row["image"] for row in found}) == 2


def test_settings_that_are_missing_are_named(home):
    text = (home / "params.yaml").read_text()
    (home / "params.yaml").write_text(text.replace("rate_distortion:", "rate_distortions:"))
    with pytest.raises(ValueError, match=r"params\.yaml has no rate_distortion section"):
        rate_distortion.measure("demo", progress=False)


def test_a_study_without_any_of_its_sets_says_so(home):
    with pytest.raises(ValueError, match=r"none of the image sets set5, set14, .* is here: see `carlib data list`"):
        rate_distortion.measure("paper", progress=False)
