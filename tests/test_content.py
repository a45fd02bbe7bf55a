"""CAR on other content: every image has a kind, rows become lines of gains, photographs one line."""

import numpy as np
import pytest

from carlib import data, runs
from carlib.studies import content


def rows(name, set_name, car, rgb=0.5, scale=2, png=1.1):
    """The five rows of an image: CAR gains so many dB by luma and by RGB, and takes so many times bicubic's bits."""
    fixed = {"profile": "mini", "scale": scale, "set": set_name, "image": name}
    gained = {
        "bicubic": (0, 0, 1.0), "car": (car, rgb, png), "car-priced": (car / 2, rgb / 2, 0.9),
        "bicubic both ways": (-2, -2, 1.0), "car, bicubic upscaling": (-1.5, -1.5, 1.0),
    }  # fmt: skip
    assert set(gained) == set(content.RUNS)
    return [
        {**fixed, "downscaler": label, "run": content.RUNS[label].format(scale), "psnr": 30 + by_luma,
         "psnr_rgb": 28 + by_rgb, "psnr_cb": 40 - by_luma, "psnr_cr": 41 - 2 * by_luma, "lr": 30.0, "png": 8 * bits}
        for label, (by_luma, by_rgb, bits) in gained.items()
    ]  # fmt: skip


def test_every_image_of_the_set_has_one_kind():
    named = [name for those in content.KINDS.values() for name in those]
    assert sorted(named) == sorted(name for name, _ in data.load(content.SET)) and len(named) == len(set(named))


def test_an_image_is_a_line_and_photographs_are_one_together():
    table = content.gains([
        *rows("retina", "content", -1.6, -2.9), *rows("code", "content", 0.1, -0.1), *rows("comic", "content", 1, 0.5),
        *rows("china", "demo", 3.0, 2.0), *rows("tulips", "demo", 1.0, -0.7), *rows("code", "content", 0.2, 0.1, 4),
    ])  # fmt: skip
    assert list(table[["scale", "kind", "image", "n"]].itertuples(index=False, name=None)) == [
        (2, "text", "code", 1), (2, "drawn", "comic", 1), (2, "science", "retina", 1), (2, "photographs", "all", 2),
        (4, "text", "code", 1),
    ]  # fmt: skip
    retina, photographs = table.iloc[2], table.iloc[3]
    assert (retina.bicubic, retina.takes) == (30, "bicubic") and table.takes[1] == "car"
    assert [
        retina[name] for name in ("car", "car_rgb", "priced", "upscaled", "car_png", "priced_png")
    ] == pytest.approx([-1.6, -2.9, -0.8, 0.5, 10, -10])
    assert photographs.car == 2 and photographs.takes == "car 1 of 2" and photographs.car_rgb == pytest.approx(0.65)
    assert photographs.low < 1 and photographs.high > 3 and retina[["low", "high"]].isna().all()


def test_what_luma_gains_and_colour_loses_is_of_images_with_colour():
    grey = [row | {"psnr_cb": float("nan"), "psnr_cr": float("nan")} for row in rows("camera", "demo", 9.0)]
    table = content.costs([
        *grey, *rows("china", "demo", 3.0, 2.0), *rows("tulips", "demo", 1.0, -1.0), *rows("comic", "content", -2.0),
    ])  # fmt: skip
    assert table[["scale", "set", "downscaler", "n"]].to_numpy().tolist() == [
        [2, "demo", "car", 2], [2, "demo", "car-priced", 2],
    ]  # fmt: skip
    assert table.iloc[0][["luma", "rgb", "cb", "cr", "lr"]].tolist() == pytest.approx([2, 0.5, -2, -4, 30])


def test_a_row_compares_every_channel_and_the_small_images():
    from carlib import codecs, metrics, rescale

    hr = data.centre_crop(dict(data.load("demo"))["chelsea"], 64)
    sr, lr = hr.copy(), rescale.classical("box")(hr, 2)
    sr[..., 2] = np.clip(sr[..., 2].astype(int) + 9, 0, 255)  # blue: Cb changes most, luma least

    def chain(hr):
        return lr, sr

    chain.run = runs.get("car-edsr-x2", "smoke")
    row = content._row(hr, chain, "car")
    assert row["psnr_rgb"] < row["psnr_cb"] < min(row["psnr_cr"], row["psnr"])
    change = 9 * 112 / 255  # of Cb, BT.601 studio swing
    assert row["psnr_cb"] == pytest.approx(20 * np.log10(255 / change), abs=0.3)  # rounded to 8 bits
    assert row["lr"] == metrics.psnr(rescale.classical("bicubic")(hr, 2), lr, 0, "rgb")
    assert row["png"] == codecs.bits_per_pixel(lr, "png") and row["run"] == "car-edsr-x2"
    lr, sr = lr[..., 0], sr[..., 0]
    grey = content._row(hr[..., 0], chain, "car")
    assert np.isnan(grey["psnr_cb"]) and np.isnan(grey["psnr_cr"])


def test_boxes_of_the_picture_lie_inside_their_images():
    shown = {name: image for name, image in data.load(content.SET) if name in content._SHOWN}
    for name, (top, left, height, width) in content._SHOWN.items():
        assert top + height <= shown[name].shape[0] and left + width <= shown[name].shape[1]
        assert not any(number % content._FIGURE_SCALE for number in (top, left, height, width))


def test_the_measured_runs_are_declared():
    assert [runs.get(name, "mini").scale for name in content.names()] == [2] * 5 + [4] * 5
