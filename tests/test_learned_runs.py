"""CNN-CR, TAD and IRN as runs: they train, continue, and serve the doors and the command line."""

import math

import numpy as np
import pytest
import torch
from learned import image, mini, trained_looking
from short_runs import go

from carlib import data, downscale, experiments, models, pixels, rescale, results, runs, upscale, weights
from carlib.training import checkpoint
from carlib.training.patches import Patches, validation_images

pytestmark = pytest.mark.usefixtures("one_thread", "small_irn")


# ---- training -----------------------------------------------------------------------------------------

RUNS = ("irn-irn-x2", "irn-irn-x4", "cnn-cr-cnn-sr-x2", "tad-tau-x2", "tad-tau-x4")


def smoke(name, **overrides):
    small = {"patch": {2: 16, 4: 16}, "validation_crop": 32, "validation_images": 1}
    return runs.get(name, "smoke", small | overrides)


@pytest.mark.parametrize(("name", "precision"), [*((name, "32-true") for name in RUNS), ("irn-irn-x2", "bf16-mixed")])
def test_thirty_steps_of_smoke_reduce_the_loss(home, tmp_path, monkeypatch, name, precision):
    """On one batch: two patches differ from the next two by more than thirty steps change."""
    batch, seen = Patches.batch, []
    monkeypatch.setattr(Patches, "batch", lambda patches, step: batch(patches, 0))
    run = smoke(name, steps=30, validate_every=10, precision=precision)
    go(run, tmp_path / "run", on_validation=seen.append)
    first, *_, last = (row["loss"] for row in seen[-1])
    assert last < 0.95 * first and np.isfinite([row["psnr"] for row in seen[-1]]).all()
    for column in ("restoration", "guidance", "distribution"):
        assert math.isfinite(seen[-1][-1][column]) == (column != "distribution" or run.downscaler == "irn")


BEHIND_CAR = ("edsr", "cnn-sr", "tau", "srdensenet", "ddbpn", "rdn", "rcan")


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(("downscaler", "upscaler"), [
    *(("bicubic", name) for name in models.UPSCALERS if name not in ("bicubic", "irn")),
    *(("car", name) for name in BEHIND_CAR),
])  # fmt: skip
def test_thirty_steps_of_smoke_reduce_the_loss_of_every_network(
    home, tmp_path, monkeypatch, downscaler, upscaler, scale
):
    batch, seen = Patches.batch, []
    monkeypatch.setattr(Patches, "batch", lambda patches, step: batch(patches, 0))
    run = smoke(f"{downscaler}-edsr-x{scale}", upscaler=upscaler, warm_start=None, steps=30, validate_every=10)
    go(run, tmp_path / "run", on_validation=seen.append)
    first, *_, last = (row["restoration"] for row in seen[-1])
    assert last < 0.97 * first and np.isfinite([row["psnr"] for row in seen[-1]]).all()


@pytest.mark.parametrize("name", ["irn-irn-x2", "cnn-cr-cnn-sr-x2", "car-edsr-x2-jpeg"])
def test_a_stopped_run_continues_to_the_same_bits(home, tmp_path, name, small_irn):
    """IRN draws its z, and JPEG its qualities, from PyTorch's generator, whose state the checkpoint keeps."""

    def stop(log):
        raise KeyboardInterrupt

    run = smoke(name, steps=4, validate_every=2)
    whole = go(run, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(run, tmp_path / "stopped", on_validation=stop)
    torch.manual_seed(9)
    assert go(run, tmp_path / "stopped").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", ["irn-irn-x2", "tad-tau-x4"])
def test_the_guide_is_the_bicubic_lr_of_the_crop_and_validation_has_none(home, name):
    run = smoke(name, batch=4)
    patches, plain = Patches(run), Patches(smoke(f"bicubic-edsr-x{run.scale}", batch=4))
    for ours, bicubic in zip(patches.batch(3), plain.batch(3), strict=True):
        torch.testing.assert_close(ours, bicubic, rtol=0, atol=0)
    assert [lr for _, lr in validation_images(run)] == [None]


def test_the_gradient_of_rounding_goes_straight_through_in_irn(home):
    assert {name: runs.get(name, profile).alpha for name in RUNS for profile in ("mini", "paper")} == {
        name: 0.0 if name.startswith("irn") else 1.0 for name in RUNS
    }


def test_the_code_of_the_downscaler_and_of_its_guide_counts_for_a_run(home):
    assert len({checkpoint.code_digest(smoke(name)) for name in ("irn-irn-x2", "tad-tau-x2", "cnn-cr-cnn-sr-x2")}) == 3
    irn = checkpoint.code_digest(smoke("irn-irn-x2"))
    assert irn == checkpoint.code_digest(smoke("irn-irn-x4"))
    assert {spec["name"] for spec in smoke("irn-irn-x2").networks().values()} == {"irn"}
    assert smoke("tad-tau-x2").classical == smoke("irn-irn-x2").classical == "bicubic"


# ---- the doors ----------------------------------------------------------------------------------------


@pytest.fixture
def trained(home):
    """trained(name): the weights of a run of two steps under profile smoke, where its own lie."""

    def make(name):
        run = smoke(name, steps=2, validate_every=2)
        return go(run, results.folder("smoke", "runs", name))

    return make


@pytest.mark.parametrize("name", RUNS)
def test_a_trained_run_serves_the_doors_and_is_measured(trained, name):
    path, run = trained(name), runs.get(name, "smoke")
    hr = np.random.default_rng(0).integers(0, 256, (5 * run.scale - 1, 6 * run.scale, 3), dtype=np.uint8)
    options = {"method": run.downscaler, "weights": path}
    for picture in (hr, hr[..., 0]):
        lr = downscale(picture, run.scale, pad=True, **options)
        assert lr.shape == (5, 6, *picture.shape[2:]) and lr.dtype == np.uint8
        sr = upscale(lr, run.scale, size=picture.shape[:2], **options)
        assert sr.shape == picture.shape and np.array_equal(sr, upscale(lr, run.scale, **options)[: len(sr)])
    rows = experiments.measure(name, "smoke", ["demo"], weights=path, device="cpu", progress=False)
    assert {row["downscaler"] for row in rows} == {run.downscaler} and all(np.isfinite(row["value"]) for row in rows)
    assert {row["metric"] for row in rows} == {"psnr", "ssim"}


@pytest.mark.parametrize("name", ["irn-irn-x2", "tad-tau-x2"])
def test_the_lr_of_a_chain_is_that_of_the_door(trained, name):
    path = trained(name)
    hr = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    lr, sr = experiments.chain(name, "smoke", weights=path)(hr)
    np.testing.assert_array_equal(lr, downscale(hr, 2, name.split("-")[0], weights=path))
    assert sr.shape == hr.shape and sr.dtype == np.float32


def test_a_file_gives_its_networks_back(trained):
    networks, metadata = weights.load_run(trained("irn-irn-x2"))
    assert set(networks) == set(metadata["networks"]) == {"upscaler"}
    hr = image(1, 3, 8, 8)
    lr, (_, z) = networks["upscaler"].downscale(hr)
    torch.testing.assert_close(networks["upscaler"](lr, z), hr, rtol=0, atol=1e-5)
    path = trained("tad-tau-x2")
    networks, metadata = weights.load_run(path)
    assert set(networks) == {"upscaler", "downscaler"}
    tad = mini("tad")
    weights.load(tad, path)
    torch.testing.assert_close(tad(hr), networks["downscaler"](hr), rtol=0, atol=0)


def test_a_released_irn_checkpoint_loads_and_another_range_is_refused(tmp_path):
    network, other = trained_looking(mini("irn")), mini("irn")
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, tmp_path / "irn.pth")
    assert weights.load(other, tmp_path / "irn.pth") == {}
    torch.testing.assert_close(other.eval()(image(1, 3, 3, 4)), network.eval()(image(1, 3, 3, 4)), rtol=0, atol=0)
    with pytest.raises(ValueError, match="a IRN is at range 1 and cannot be converted"):
        weights.load(other, tmp_path / "irn.pth", value_range=255)


def test_a_learned_downscaler_that_colours_grey_keeps_its_luma():
    network = trained_looking(mini("tad"), 0.05).eval()
    hr = np.random.default_rng(2).integers(0, 256, (8, 12), dtype=np.uint8)
    coloured = rescale.learned_downscale(network, np.repeat(hr[..., None], 3, axis=2))
    assert (coloured != coloured[..., :1]).any()
    with torch.inference_mode():
        exact = network(pixels.to_tensor(hr))[0].permute(1, 2, 0).numpy() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(rescale.learned_downscale(network, hr), np.clip(exact, 0, 1) * 255, rtol=0, atol=0.501)


def test_weights_of_another_method_are_refused(trained, home):
    irn, tad, on_jpeg = (trained(name) for name in ("irn-irn-x2", "tad-tau-x2", "car-edsr-x2-jpeg"))
    priced = trained("car-edsr-x2-priced")
    (home / "data").unlink()  # nothing is shipped there
    hr = np.zeros((8, 8, 3), np.uint8)
    for call in (downscale, upscale):
        for method, path, told in (
            ("tad", irn, "is of method irn, not tad: choose other weights, or method irn"),
            ("irn", tad, "is of method tad, not irn"),
            ("car", irn, "is of method irn, not car"),
            ("car-jpeg", irn, "is of method irn, not car-jpeg"),
            ("car", on_jpeg, "is of method car-jpeg, not car: choose other weights, or method car-jpeg"),
            ("car", priced, "is of method car-lean, not car"),
            ("car-lean", on_jpeg, "is of method car-jpeg, not car-lean"),
            ("irn", None, "no weights of irn-irn are shipped for scale 2"),
            ("cnn-cr", None, "no weights of cnn-cr-cnn-sr are shipped for scale 2"),
        ):
            with pytest.raises(ValueError, match=told) as refusal:
                call(hr, 2, method, weights=path)
            assert "\n" not in str(refusal.value)
    assert downscale(hr, 2, "car-jpeg", weights=on_jpeg).shape == (4, 4, 3)
    assert downscale(hr, 2, "car-lean", weights=priced).shape == (4, 4, 3)
    with pytest.raises(ValueError, match="is for scale 2, not 4"):
        downscale(hr, 4, "irn", weights=irn)


@pytest.mark.parametrize("name", ["lr.png", "lr.jpg"])
def test_an_image_that_says_nothing_is_enlarged_by_what_the_weights_are_of(trained, carlib, tmp_path, name):
    jpeg = {"quality": 80} if name.endswith("jpg") else {}
    lr = data.write_image(tmp_path / name, np.zeros((8, 12, 3), np.uint8), **jpeg)
    for run, method in (("bicubic-edsr-x2", "edsr"), ("car-edsr-x2-priced", "car-lean"), ("tad-tau-x2", "tad")):
        options = "--scale", 2, "--weights", trained(run)
        code, out, err = carlib("upscale", lr, tmp_path / "sr.png", *options)
        assert (code, err) == (0, "") and out.endswith(f"by {method} x2\n")


def test_the_command_line_takes_trained_weights(trained, carlib, tmp_path):
    path = trained("irn-irn-x2")
    data.write_image(tmp_path / "hr.png", np.random.default_rng(3).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    irn = ["--method", "irn", "--scale", 2, "--weights", path]
    assert carlib("downscale", tmp_path / "hr.png", tmp_path / "lr.png", *irn)[0] == 0
    assert carlib("upscale", tmp_path / "lr.png", tmp_path / "sr.png", *irn)[0] == 0
    assert data.read_image(tmp_path / "sr.png").shape == (16, 24, 3)
    for options, told in (
        (["--method", "tad", "--scale", 2, "--weights", path], "is of method irn, not tad"),
        (["--method", "irn", "--scale", 8], "no weights of irn-irn are shipped for scale 8"),
    ):
        code, _, err = carlib("downscale", tmp_path / "hr.png", tmp_path / "no.png", *options)
        assert code == 2 and err.startswith("carlib: ") and err.count("\n") == 1 and told in err
        assert not (tmp_path / "no.png").exists()
