"""CAR's gain beside the bits of its lossless LR images: rows to lines, the printed pair, verdicts."""

import math

import numpy as np
import pytest
import yaml

from carlib import cells, runs
from carlib.studies import lossless_gain, lossless_tables

COUNT = {"set5": 5, "set14": 14}


def rows(gain, more, *, scale=2, set_name="set5", profile="mini", count=None, seed=0):
    """Images whose bicubic LR have 10 bits by every coding; CAR's gain so many dB and take so many bits more."""
    made = []
    for n in range(COUNT[set_name] if count is None else count):
        named = {"profile": profile, "scale": scale, "set": set_name, "image": str(n), "seed": seed}
        for downscaler, name in lossless_gain.RUNS.items():
            psnr, bits = (gain + 0.1 * (n % 2), 10.0 + more) if downscaler != "bicubic" else (0.0, 10.0)
            sizes = dict.fromkeys(lossless_gain.CODINGS, bits)
            run = {"run": name.format(scale) + (f"-seed{seed}" if seed else ""), "downscaler": downscaler}
            made.append({**named, **run, "psnr": 30 + seed + n / 10 + psnr, **sizes})
    return made


def test_a_line_is_what_car_gains_and_takes_more():
    found = lossless_gain.gains(rows(1.0, 0.5))
    assert found.downscaler.tolist() == ["car", "car-priced"] and found.run.tolist()[1] == "car-edsr-x2-priced"
    line = found.iloc[1]
    assert line.gain == pytest.approx(1.04) and line.car - line.bicubic == pytest.approx(1.04) and line.n == 5
    assert 0.95 < line.low < 1.04 < line.high < 1.15
    assert line.bits == pytest.approx(0.5) and [line[coding] for coding in lossless_gain.CODINGS] == pytest.approx(
        [5] * 4
    )
    # Table 1: EDSR 38.94 after CAR, 38.06 after bicubic; Table 5: 11.80 and 11.99
    assert line.printed_gain == pytest.approx(0.88) and line.printed_bits == pytest.approx(100 * (11.80 / 11.99 - 1))


def test_seeds_are_paired_and_widen_no_interval_over_images():
    one, found = lossless_gain.gains(rows(1.2, -0.1)), lossless_gain.gains([*rows(1.0, -0.2), *rows(1.4, 0.0, seed=1)])
    assert (
        found.run.tolist() == ["car-edsr-x2", "car-edsr-x2-priced"] and set(found.seeds) == {2} and set(found.n) == {5}
    )
    same = ["gain", "low", "high", "bits", "jpeg2000"]
    assert found[same].to_numpy() == pytest.approx(one[same].to_numpy())
    student = 12.7062  # one degree of freedom
    assert found.seed_interval.tolist() == pytest.approx([student * 0.2] * 2, rel=1e-5)  # of 1.04 and 1.44
    assert found.bits_seed_interval.tolist() == pytest.approx([student * 0.1] * 2, rel=1e-5)  # of -0.2 and 0
    assert one[["seed_interval", "bits_seed_interval"]].isna().all(axis=None)
    assert set(found.verdict) == {"partly"}  # two seeds 0.4 dB apart leave no doubt out


def test_a_seed_that_one_of_both_lacks_is_left_out():
    lone = [row for row in rows(9.0, 0.0, seed=1) if row["downscaler"] != "bicubic"]
    assert lossless_gain.gains([*rows(1.0, 0.0), *lone]).equals(lossless_gain.gains(rows(1.0, 0.0)))


@pytest.mark.parametrize(("gain", "more", "verdict"), [
    (1.0, 0.0, "reproduced"),
    (1.0, -3.0, "reproduced"),  # fewer are no fault
    (1.0, 0.06, "not"),  # similar is up to 0.05, the largest printed excess
    (1.0, 0.04, "reproduced"),
    (3.0, 0.0, "more than printed"),
    (0.2, 0.0, "partly"),
    (-0.3, 0.0, "not"),
])  # fmt: skip
def test_a_verdict_is_of_both_at_once(gain, more, verdict):
    assert set(lossless_gain.gains(rows(gain, more)).verdict) == {verdict}


def test_similar_is_what_the_paper_calls_so():
    assert lossless_tables.similar() == pytest.approx((10.69 - 11.11, 12.28 - 12.23))  # B100 at x2, Urban100 at x4


def test_sets_that_are_not_whole_or_cropped_have_nothing_printed():
    for made in (rows(1.0, 0.0, count=4), rows(1.0, 0.0, profile="smoke")):
        found = lossless_gain.gains(made)
        assert found[["printed_gain", "printed_bits"]].isna().all(axis=None) and set(found.verdict) == {"not tested"}


def test_lines_are_in_the_papers_order():
    found = lossless_gain.gains([
        *rows(1.0, 0.0, set_name="set14"), *rows(1.0, 0.0, scale=4), *rows(1.0, 0.0),
    ])  # fmt: skip
    assert list(found[["scale", "set"]].drop_duplicates().itertuples(index=False, name=None)) == [
        (2, "set5"), (2, "set14"), (4, "set5"),
    ]  # fmt: skip


def test_the_measured_runs_are_declared_and_only_the_last_has_a_price():
    scales = (*lossless_gain.SCALES, *lossless_gain.OTHERS)
    of = {name: runs.get(name, "mini") for name in lossless_gain.names(scales)}
    assert [run.priced for run in of.values()] == [False, False, True] * len(scales)
    assert all(run.jpeg is None and run.upscaler == "edsr" for run in of.values())
    for scale in scales:
        car, priced = (runs.as_dict(of[f"car-edsr-x{scale}{end}"]) for end in ("", "-priced"))
        starts = {"warm_start", "resampler_start"} if scale == 8 else set()  # with the pair that has no price
        assert {key for key in car if car[key] != priced[key]} - {"name"} == {"bit_price"} | starts


def test_all_are_measured_under_as_many_seeds_as_params_yaml_wants(home):
    content = yaml.safe_load((home / "params.yaml").read_text())
    content["seeds"] = {"priced": {"smoke": 2}}
    (home / "params.yaml").write_text(yaml.safe_dump(content))
    found = lossless_gain.seeded("smoke")
    assert len(found) == 12 and {"bicubic-edsr-x4-seed1", "car-edsr-x4-seed1", "car-edsr-x4-priced-seed1"} < set(found)
    assert {name for name in found if "priced" in name} < set(cells.names(5, "smoke"))  # `train --all` knows them


def test_of_the_other_scales_those_are_measured_that_have_all_their_weights(home, monkeypatch):
    """Nothing of them is trained for it, and with one of the three alone there is nothing to compare."""
    absent = ["bicubic-edsr-x3"]
    monkeypatch.setattr(lossless_gain.overview, "why_absent", lambda name, profile: "missing" * (name in absent))
    assert lossless_gain.others("mini") == lossless_gain.names([8])
    absent.append("car-edsr-x8-priced")
    assert lossless_gain.others("mini") == []


def test_an_image_loses_what_no_scale_and_table_5_can_use(home):
    sizes = {}

    def chain(hr):
        sizes[chain.run.scale] = hr.shape
        return hr[:: chain.run.scale, :: chain.run.scale], hr

    for scale in (2, 3, 8):
        chain.run = runs.get(f"car-edsr-x{scale}", "smoke")
        lossless_gain._row(np.zeros((47, 31), np.uint8), chain)
    assert sizes == {2: (40, 24, 3), 3: (24, 24, 3), 8: (40, 24, 3)}


def test_a_row_counts_whole_files(home):
    from carlib import codecs

    lr = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)

    def chain(hr):
        return lr, hr

    chain.run = runs.get("car-edsr-x2", "smoke")
    hr = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    row = lossless_gain._row(hr, chain)
    assert (row["downscaler"], row["seed"]) == ("car", 0)
    assert row["png"] == 8 * len(codecs.encode(lr, "png")) / 96
    assert row["jpeg2000"] == 8 * (len(codecs.encode(lr, "jpeg2000")) + 40) / 96  # as Table 5 counts
    assert math.isinf(row["psnr"]) and row["scale"] == 2
