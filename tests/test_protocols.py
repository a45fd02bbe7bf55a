"""Each choice of a protocol changes what its name says, and nothing where it does not apply."""

import numpy as np
import pytest

from carlib import data, evaluate, experiments, runs
from carlib.studies import protocols

BICUBIC = "bicubic-bicubic-x2"


@pytest.fixture(scope="module")
def image():
    return dict(data.load("demo"))["kodim23"][60:157, 100:190]  # no multiples of 8


def differences(chain, image):
    found = {**protocols.compared(chain, image), **protocols.made_otherwise(chain, image)}
    return found, {choice: psnr - found[protocols.STANDARD] for choice, psnr in found.items()}


@pytest.fixture(scope="module")
def bicubic(image):
    return differences(experiments.chain(BICUBIC, "demo"), image)


@pytest.mark.parametrize("name", protocols.CHAINS)
def test_first_and_last_line_are_the_protocols_of_evaluate(name, image):
    chain = experiments.chain(f"{name}-x2", "demo")
    rows = evaluate._measure(chain, image, ("standard", "car-release"), None)
    psnr = {row["protocol"]: row["value"] for row in rows if row["metric"] == "psnr"}
    found, _ = differences(chain, image)
    assert found[protocols.STANDARD] == psnr["standard"]
    # evaluate has bicubic's SR in 8 bits, so nothing of it is truncated
    allowed = 0.02 if name.endswith("bicubic") else 1e-5
    assert found["all of the released code's: crop, SR, Y, grey"] == pytest.approx(psnr["car-release"], abs=allowed)


def test_each_choice_is_worth_what_arithmetic_says(bicubic):
    _, worth = bicubic
    assert worth["Y with weights over 255, not 256"] == pytest.approx(-20 * np.log10(219.859 / 219), abs=0.002)
    full = -20 * np.log10(255 / 219)
    assert worth["Y of the full range (JPEG's), not of 16 to 235"] == pytest.approx(full, abs=0.03)
    assert worth["grey images as R = G = B"] == 0
    assert -0.2 < worth["SR truncated, not rounded"] < 0 and abs(worth["SR not rounded"]) < 0.02
    # at x2 the narrow kernel is the sharper one, which suits bicubic's blur on the way back
    assert worth["RGB, not Y"] < -0.5 and worth["downscaled without antialiasing"] > 0.1
    assert abs(worth["downscaled by Pillow"]) < 0.01 and worth["sides cropped to multiples of 8"] != 0


def test_a_grey_image_has_no_choices_of_colour(image):
    _, worth = differences(experiments.chain(BICUBIC, "demo"), image[..., 1])
    for choice in ("RGB, not Y", "Y with weights over 255, not 256", "Y of the full range (JPEG's), not of 16 to 235"):
        assert worth[choice] == 0
    assert worth["grey images as R = G = B"] == pytest.approx(20 * np.log10(255 / 219), abs=1e-6)


@pytest.mark.parametrize("grey", [False, True])
def test_networks_restore_what_is_not_rounded(image, grey):
    chain = experiments.chain("car-edsr-x2", "demo")
    _, worth = differences(chain, image[..., 1] if grey else image)
    assert 0 < abs(worth["LR not rounded"]) < 0.3 and abs(worth["SR not rounded"]) < 0.1
    assert not any(choice.startswith(("downscaled", "enlarged")) for choice in worth)


def test_only_a_bicubic_half_has_kinds_of_bicubic(bicubic):
    kinds = [choice.split()[0] for choice in bicubic[0] if choice.startswith(("downscaled", "enlarged"))]
    assert kinds == ["downscaled"] * 3 + ["enlarged"] * 2


@pytest.mark.parametrize("size", [(24, 22), (97, 180)])
def test_opencv_is_what_its_name_says(image, size):
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with the extra notebooks")
    theirs = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC).astype(int)
    assert abs(protocols.opencv_like(image, size) - theirs).max() <= 1  # fixed point there


@pytest.mark.parametrize("resize", [protocols.no_antialias, protocols.opencv_like, protocols.pillow])
@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 3)])
def test_a_constant_image_stays_one(resize, shape):
    for size in ((6, 8), (24, 32)):
        assert (resize(np.full(shape, 77, np.uint8), size) == 77).all()
        assert resize(np.full(shape, 77, np.uint8), size).shape == (*size, *shape[2:])


def test_the_table_tells_mean_and_range_of_differences():
    keys = {"profile": "demo", "scale": 2, "set": "set5"}
    released = "all of the released code's: crop, SR, Y, grey"
    values = {"bicubic-bicubic-x2": {"a": [30.0, 29.0, 31.0], "b": [40.0, 40.5, 40.0]},
              "car-edsr-x2": {"a": [30.0, 29.9, None], "b": [40.0, 39.9, None]}}  # fmt: skip
    rows = [
        {**keys, "run": run, "image": image, "choice": choice, "psnr": psnr}
        for run, images in values.items()
        for image, numbers in images.items()
        for choice, psnr in zip((protocols.STANDARD, released, "downscaled by Pillow"), numbers, strict=True)
        if psnr is not None
    ]
    table = protocols.table(rows).set_index("choice")
    assert list(table.columns) == ["bicubic + bicubic, x2", "car + edsr, x2"]
    assert list(table.index) == [protocols.STANDARD, "downscaled by Pillow", protocols.MEAN_OF_ERRORS, released]
    assert table.iloc[0, 0] == "35.00 (30.00, 40.00)"
    assert table.loc[released].tolist() == ["-0.250 (-1.000, +0.500)", "-0.100 (-0.100, -0.100)"]
    assert table.loc["downscaled by Pillow"].tolist() == ["+0.500 (+0.000, +1.000)", "-"]
    errors = -10 * np.log10((1e-3 + 1e-4) / 2) - 35  # mean of 10^(-PSNR / 10)
    assert table.loc[protocols.MEAN_OF_ERRORS].tolist() == [f"{errors:+.3f} ({errors:+.3f}, {errors:+.3f})"] * 2


def test_the_chains_are_declared():
    assert {f"{name}-x{scale}" for name in protocols.CHAINS for scale in (2, 4)} <= set(runs.names())
