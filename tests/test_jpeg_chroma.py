"""LR images stored as JPEG with colour halved and whole."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from carlib import codecs, data, evaluate, experiments, metrics, rescale, runs
from carlib.studies import jpeg_chroma


def rows():
    """Three images; CAR is 1 dB below bicubic where colour is halved, 2 dB above where it is whole; twice the bits."""
    named = {"profile": "mini", "run": "", "scale": 2, "quality": 90, "set": "demo"}
    return [
        {
            **named,
            "downscaler": downscaler,
            "chroma": chroma,
            "image": str(image),
            "psnr": 30 + image + more,
            "bpp": bits,
        }
        for image in range(3)
        for chroma, gain in (("halved", -1), ("whole", 2))
        for downscaler, more, bits in (("bicubic", 0, 1.0), ("car", gain, 2.0))
    ]


def test_a_gain_is_over_bicubic_in_the_same_kind_of_file():
    halved, whole = jpeg_chroma.gains(rows()).itertuples()
    assert (halved.chroma, halved.gain, halved.low, halved.high, halved.n) == ("halved", -1, -1, -1, 3)
    assert (whole.chroma, whole.gain, whole.bicubic, whole.car, whole.bits) == ("whole", 2, 31, 33, 100)


def test_a_study_leaves_rows_and_a_table(home):
    params = yaml.safe_load((home / "params.yaml").read_text())
    params["profiles"]["demo"]["jpeg"] = {"sets": ["demo"], "images": 2, "crop": 64}
    params["jpeg"]["qualities"] = [30, 90]
    (home / "params.yaml").write_text(yaml.safe_dump(params))
    found = jpeg_chroma.study("demo", device="cpu", progress=False)
    written = pd.read_csv(home / "results/demo/metrics/jpeg_chroma.csv")
    assert list(written.columns) == jpeg_chroma.ROW_COLUMNS and set(written.chroma) == {"halved", "whole"}
    assert set(found.chroma) == {"halved", "whole"} and set(found.quality) == {90}
    assert set(found.n) == {1}  # the other is grey
    sizes = written.pivot(index=["run", "quality", "image"], columns="chroma", values="bpp")
    assert (sizes.whole >= sizes.halved).all()
    assert "4:4:4" in json.loads((home / "results/demo/tables/jpeg_chroma.json").read_text())["caption"]

    # One row by hand.
    row = written[(written.chroma == "whole") & (written.downscaler == "car")].iloc[0]
    run = runs.get(row.run, "demo")
    chain = evaluate.Chain(run, experiments.ready(run.name, "demo"))
    image = dict(data.load("demo"))[row.image]
    hr = data.crop_to_multiple(data.centre_crop(image, 64), 8)
    coded = codecs.encode(chain(hr)[0], "jpeg", quality=int(row.quality), chroma="whole")
    sr = rescale.restore(chain.networks["upscaler"], codecs.decode(coded, "jpeg"))
    assert row.psnr == pytest.approx(metrics.psnr(hr, sr, 4), abs=1e-3)
    assert row.bpp == pytest.approx(8 * len(coded) / np.prod(hr.shape[:2]), abs=1e-6)
