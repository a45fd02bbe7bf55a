"""`carlib measure`: two images, or two folders, whoever made them."""

import pandas as pd
import pytest

from carlib import data, evaluate, metrics, runs


@pytest.fixture
def folders(tmp_path):
    """Originals, and what bicubic makes of them at x2, one of them cut."""
    chain = evaluate.Chain(runs.get("bicubic-bicubic-x2", "demo"))
    for index, (name, image) in enumerate(list(data.load("demo"))[:3]):
        hr = data.centre_crop(image, 64)[: 64 - index]
        data.write_image(tmp_path / "hr" / f"{name}.png", hr)
        data.write_image(tmp_path / "sr" / f"{name}.bmp", chain(data.crop_to_multiple(hr, 2))[1])
    return tmp_path / "hr", tmp_path / "sr"


def test_folders_give_what_evaluating_gives(carlib, folders, tmp_path):
    code, out, err = carlib("measure", *folders, "--scale", 2, "--protocol", "standard", "--protocol", "rgb",
                            "--out", tmp_path / "m.csv")  # fmt: skip
    table = pd.read_csv(tmp_path / "m.csv")
    assert code == 0 and err == "" and len(table) == 6 and out.count("mean") == 2
    for row in table.itertuples():
        hr = data.crop_to_multiple(data.read_image(folders[0] / row.image), 2)
        sr = data.read_image(folders[1] / row.image.replace("png", "bmp"))
        assert row.psnr == pytest.approx(metrics.psnr(hr, sr, 2, row.protocol))
        assert row.ssim == pytest.approx(metrics.ssim(hr, sr, 2, row.protocol))


def test_two_files(carlib, folders):
    hr, sr = (next(folder.glob("astronaut.*")) for folder in folders)
    code, out, _ = carlib("measure", hr, sr, "--scale", 2)
    assert code == 0 and f"{metrics.psnr(data.read_image(hr), data.read_image(sr), 2):.4f}" in out and "mean" not in out
    assert "inf" in carlib("measure", hr, hr)[1]


@pytest.mark.parametrize(("change", "told"), [
    (lambda hr, sr: (hr, sr / "astronaut.bmp"), "name two images or two folders"),
    (lambda hr, sr: (sr, hr / "astronaut.png", sr), "unexpected extra argument"),
    (lambda hr, sr: (hr / "astronaut.png", sr / "none.png"), "no such file"),
    (lambda hr, sr: (hr / "astronaut.png", sr / "astronaut.bmp", "--protocol", "y"), "protocol"),
    (lambda hr, sr: (hr / "astronaut.png", sr / "astronaut.bmp", "--scale", 0), "scale=0 is not a whole number >= 1"),
])  # fmt: skip
def test_bad_input_is_one_line(carlib, folders, change, told):
    code, out, err = carlib("measure", *change(*folders))
    assert code == 2 and out == "" and told in err and err.count("\n") == 1


def test_what_does_not_fit_is_refused(carlib, folders):
    hr, sr = folders
    data.write_image(sr / "astronaut.bmp", data.read_image(sr / "astronaut.bmp")[:40])
    code, _, err = carlib("measure", hr, sr, "--scale", 2)
    assert code == 2 and "are 64x64 and 64x40: give images of one size" in err
    (sr / "astronaut.bmp").unlink()
    assert "has no image named as astronaut.png (1 of 3 are missing)" in carlib("measure", hr, sr)[2]
