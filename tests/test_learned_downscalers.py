"""CNN-CR, TAD and IRN: published sizes, the laws of each architecture, what their losses and their training do."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from carlib import (
    checkpoint,
    data,
    downscale,
    experiments,
    imresize,
    losses,
    models,
    rescale,
    results,
    runs,
    train,
    upscale,
    weights,
)  # fmt: skip
from carlib.models.bicubic import Bicubic, BicubicReduction
from carlib.models.irn import Coupling, Haar

NAMES = ("cnn-cr", "tad", "irn")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def small_irn(monkeypatch):
    """IRN's mini size, that tests/test_networks.py sees learn, with two couplings a level: fewer convolutions."""
    monkeypatch.setitem(models.SIZES["irn"], "mini", {"blocks": 2, "growth": 4})


def image(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mini(name, scale=2, **options):
    torch.manual_seed(1)
    return models.create(name, scale, "mini", **options)


def trained_looking(network, std=0.05):
    """The network away from its first state, where IRN is a Haar transform and CNN-CR bicubic."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += std * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
    return network


# ---- sizes and contract -------------------------------------------------------------------------------


# IRN's are those of the released code, TAD's of the third-party build it follows (both of networks.md, instantiated);
# those of CNN-CR, and of TAD at x4, by hand from their docstrings.
@pytest.mark.parametrize(("name", "scale", "count"), [
    ("irn", 2, 1_667_952),
    ("irn", 4, 4_355_136),
    ("tad", 2, 261_619),
    ("tad", 4, 261_619 + 64 * 16 * 9 + 16),
    ("cnn-cr", 2, (3 * 64 * 9 + 64) + 10 * (64 * 64 * 9 + 64) + (64 * 3 * 9 + 3)),
    ("cnn-cr", 4, (3 * 64 * 9 + 64) + 11 * (64 * 64 * 9 + 64) + (64 * 3 * 9 + 3)),
])  # fmt: skip
def test_parameters_are_those_of_the_published_network(name, scale, count):
    assert sum(p.numel() for p in models.create(name, scale).parameters()) == count


def test_the_released_irn_counts_its_haar_patterns_too():
    for scale, count in ((2, 1_668_000), (4, 4_355_376)):
        assert sum(v.numel() for v in models.create("irn", scale).state_dict().values()) == count


def test_the_state_dict_of_irn_has_the_keys_of_the_released_code():
    keys = set(mini("irn", blocks=1).state_dict())
    parts = {
        f"operations.1.{part}.conv{i}.{kind}" for part in "FGH" for i in range(1, 6) for kind in ("weight", "bias")
    }
    assert keys == {"operations.0.haar_weights"} | parts


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_downscaler_keeps_the_contract(name, scale):
    """Shapes, single precision, gradients to every weight and to the image, in float32 and under bfloat16 autocast."""
    network = trained_looking(mini(name, scale), 0.01)
    hr = image(2, 3, 5 * scale, 7 * scale).requires_grad_()
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            lr, told = network.downscale(hr)
        assert lr.shape == (2, 3, 5, 7) and lr.dtype == torch.float32 and told[0] is lr
        assert [tuple(z.shape) for z in told[1:]] == [(2, 3 * scale**2 - 3, 5, 7)] * (name == "irn")
        network.zero_grad()
        hr.grad = None
        sum(part.square().sum() for part in told).backward()
        for gradient in (hr.grad, *(p.grad for p in network.parameters())):
            assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("name", NAMES)
def test_doubles_stay_doubles_and_one_lr_pixel_is_an_image(name):
    assert mini(name, 4).double().downscale(image(1, 3, 4, 4, dtype=torch.float64))[0].dtype == torch.float64


@pytest.mark.parametrize(("call", "told"), [
    (lambda: mini("irn", 3), "IRN has no scale 3: use a power of 2"),
    (lambda: mini("irn", 1), "IRN has no scale 1: use a power of 2 from 2 on"),
    (lambda: mini("tad", 1), "TAD has no scale 1"),
    (lambda: mini("tad", channels=20), "TAD cannot have channels=20: it is a multiple of 8"),
    (lambda: mini("cnn-cr", 6), "CNN-CR has no scale 6"),
    (lambda: mini("cnn-cr", depth=0), "CNN-CR cannot have depth=0"),
    (lambda: mini("irn", 4).downscale(image(1, 3, 8, 10)), "hr is 8x10, not a multiple of scale=4: crop or pad it"),
    (lambda: mini("tad").downscale(image(1, 1, 8, 8)), r"hr is \(1, 1, 8, 8\), expected \(N, 3, H, W\)"),
    (lambda: mini("cnn-cr").downscale(image(3, 8, 8)), r"hr is \(3, 8, 8\)"),
    (lambda: mini("irn")(image(1, 1, 8, 8)), r"lr is \(1, 1, 8, 8\), expected \(N, 3, h, w\)"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(call, told):
    with pytest.raises(ValueError, match=told) as refusal:
        call()
    assert "\n" not in str(refusal.value)


# ---- CNN-CR and TAD -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "height", "width"), [(1, 5, 4), (2, 6, 10), (2, 2, 2), (3, 9, 6), (4, 4, 12)])
def test_the_bicubic_reduction_is_imresize(scale, height, width):
    hr = image(2, 3, height, width, dtype=torch.float64)
    lr = BicubicReduction(scale).double()(hr)
    for one, whole in zip(lr, hr, strict=True):
        expected = imresize(whole.permute(1, 2, 0).numpy(), 1 / scale)
        np.testing.assert_allclose(one.permute(1, 2, 0), expected, rtol=0, atol=1e-7)  # its taps are float32


def test_the_bicubic_reduction_is_the_transpose_of_the_enlargement_but_for_a_factor():
    """Away from the border MATLAB's two are one kernel."""
    hr, lr = image(1, 1, 32, 40), image(1, 1, 16, 20, seed=1)
    hr[..., :8, :], hr[..., -8:, :], hr[..., :, :8], hr[..., :, -8:] = 0, 0, 0, 0
    reduced, enlarged = (BicubicReduction(2)(hr) * lr).sum(), (Bicubic(2)(lr) * hr).sum()
    torch.testing.assert_close(4 * reduced, enlarged, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_cnn_cr_begins_as_bicubic(scale):
    hr = image(1, 3, 4 * scale, 6 * scale)
    torch.testing.assert_close(mini("cnn-cr", scale)(hr), BicubicReduction(scale)(hr), rtol=0, atol=0)
    constant = torch.full_like(hr, 0.3)
    torch.testing.assert_close(mini("cnn-cr", scale)(constant), constant[..., :4, :6], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn-cr", "tad"])
@pytest.mark.parametrize("scale", [2, 4])
def test_every_hr_pixel_is_seen(name, scale):
    hr = image(1, 3, 4 * scale, 4 * scale).requires_grad_()
    network = trained_looking(mini(name, scale))
    lr = network.model(hr) if name == "cnn-cr" else network(hr)  # CNN-CR without the bicubic image
    lr.square().sum().backward()
    assert (hr.grad != 0).all()


# ---- IRN ----------------------------------------------------------------------------------------------


def test_the_haar_transform_is_orthogonal_but_for_its_factor():
    """4 A^T A is the identity, so 2A is orthogonal: written out as a matrix over all pixels of all colours."""
    pixels = torch.eye(3 * 4 * 6, dtype=torch.float64).view(-1, 3, 4, 6)
    matrix = Haar(3)(pixels).flatten(1)
    torch.testing.assert_close(4 * matrix @ matrix.T, torch.eye(len(matrix), dtype=torch.float64), rtol=0, atol=0)


def test_the_haar_transform_is_means_and_differences():
    hr = image(1, 2, 4, 6, dtype=torch.float64)
    a, b, c, d = (hr[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    expected = torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1) / 4
    torch.testing.assert_close(Haar(2)(hr), expected, rtol=0, atol=1e-16)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", ["mini", "paper"])
def test_irn_forward_then_inverse_with_the_true_z_is_the_image(size, scale, dtype, tolerance):
    torch.manual_seed(1)
    network = trained_looking(models.create("irn", scale, size).to(dtype), 0.01)
    hr = image(2, 3, 2 * scale, 3 * scale, dtype=dtype)
    with torch.inference_mode():
        lr, (_, z) = network.downscale(hr)
        restored = network(lr, z)
        box = nn.functional.avg_pool2d(hr, scale)
    assert (lr - box).abs().max() > 1e-3  # not the transform it began as
    torch.testing.assert_close(restored, hr, rtol=0, atol=tolerance)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_inverse_of_irn_then_its_forward_is_the_lr_image_and_z(scale):
    network = trained_looking(mini("irn", scale).double(), 0.01)
    lr, z = image(1, 3, 3, 4, dtype=torch.float64), image(1, 3 * scale**2 - 3, 3, 4, seed=1, dtype=torch.float64)
    found = network.downscale(network(lr, z))[1]
    for one, other in zip(found, (lr, z), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [2, 4])
def test_irn_begins_as_box_downscaling_and_a_constant_image_stays_one(scale):
    network, hr = mini("irn", scale).eval(), image(1, 3, 2 * scale, 3 * scale)
    lr, (_, z) = network.downscale(hr)
    torch.testing.assert_close(lr, nn.functional.avg_pool2d(hr, scale), rtol=0, atol=1e-6)
    torch.testing.assert_close(network(lr), nn.functional.interpolate(lr, scale_factor=scale), rtol=0, atol=1e-6)
    lr, (_, z) = network.downscale(torch.full_like(hr, 0.3))
    torch.testing.assert_close(lr, torch.full_like(lr, 0.3), rtol=0, atol=1e-6)
    torch.testing.assert_close(z, torch.zeros_like(z), rtol=0, atol=1e-6)


def test_a_coupling_is_the_papers():
    """The formula, at one coupling: additive on the means, affine and bounded on the details."""
    coupling, x = trained_looking(Coupling(12, growth=4, clamp=0.7)), image(2, 12, 3, 5)
    low = x[:, :3] + coupling.F(x[:, 3:])
    scale = torch.exp(0.7 * (2 * torch.sigmoid(coupling.H(low)) - 1))
    torch.testing.assert_close(coupling(x), torch.cat([low, x[:, 3:] * scale + coupling.G(low)], 1))
    assert scale.log().abs().max() < 0.7


def test_z_is_drawn_in_training_and_0_in_evaluation():
    network, lr = trained_looking(mini("irn", 2), 0.01), image(1, 3, 4, 4)
    drawn = [network.train()(lr) for _ in range(2)]
    assert not torch.equal(*drawn)
    torch.manual_seed(5)
    first = network(lr)
    torch.manual_seed(5)
    assert torch.equal(network(lr, torch.empty(1, 9, 4, 4).normal_()), first)  # N(0, 1)
    network.eval()
    assert torch.equal(network(lr), network(lr)) and torch.equal(network(lr), network(lr, torch.zeros(1, 9, 4, 4)))


# ---- the objective ------------------------------------------------------------------------------------


def test_the_guidance_is_0_exactly_where_the_lr_image_is_bicubics():
    hr, sr, lr = image(2, 3, 8, 12), image(2, 3, 8, 12, seed=1), image(2, 3, 4, 6, seed=2)
    for kind in ("l1", "l2"):
        total, terms = losses.guided(sr, hr, lr, lr.clone(), guidance_loss=kind)
        assert terms["guidance"] == 0 and total == terms["restoration"] and "distribution" not in terms
        other = lr.clone()
        other[1, 2, 3, 5] += 1e-3
        assert losses.guided(sr, hr, lr, other, guidance_loss=kind)[1]["guidance"] > 0


@pytest.mark.parametrize("scale", [2, 4])
def test_the_objective_of_irn_is_the_published_sums_over_the_number_of_hr_values(scale):
    hr, sr = image(2, 3, 2 * scale, 3 * scale), image(2, 3, 2 * scale, 3 * scale, seed=1)
    guide, lr, z = image(2, 3, 2, 3, seed=2), image(2, 3, 2, 3, seed=3), image(2, 3 * scale**2 - 3, 2, 3, seed=4)
    sums = (sr - hr).abs().sum() + scale**2 * (lr - guide).square().sum() + z.square().sum()
    total, _ = losses.guided(sr, hr, guide, lr, z)
    torch.testing.assert_close(total, sums / hr.numel())
    weighed, terms = losses.guided(sr, hr, guide, lr, z, guidance=0.5, distribution=3.0)
    torch.testing.assert_close(weighed, terms["restoration"] + 0.5 * terms["guidance"] + 3 * terms["distribution"])


def test_an_objective_that_does_not_fit_is_refused():
    hr, lr = image(1, 3, 4, 4), image(1, 3, 2, 2)
    with pytest.raises(ValueError, match="loss='l3' is unknown: use one of l1, l2"):
        losses.guided(hr, hr, lr, lr, guidance_loss="l3")
    with pytest.raises(ValueError, match=r"guide \(1, 3, 2, 1\), lr \(1, 3, 2, 2\): shapes must be the same"):
        losses.guided(hr, hr, lr[..., :1], lr)


# ---- training -----------------------------------------------------------------------------------------

RUNS = ("irn-irn-x2", "irn-irn-x4", "cnn-cr-cnn-sr-x2", "tad-tau-x2", "tad-tau-x4")


def smoke(name, **overrides):
    small = {"patch": {2: 16, 4: 16}, "validation_crop": 32, "validation_images": 1}
    return runs.get(name, "smoke", small | overrides)


def go(run, folder, **options):
    return train.train(run, folder, device="cpu", progress=False, **options)


@pytest.mark.parametrize(("name", "precision"), [*((name, "32-true") for name in RUNS), ("irn-irn-x2", "bf16-mixed")])
def test_thirty_steps_of_smoke_reduce_the_loss(home, tmp_path, monkeypatch, name, precision):
    """On one batch: two patches differ from the next two by more than thirty steps change."""
    batch, seen = train.Patches.batch, []
    monkeypatch.setattr(train.Patches, "batch", lambda patches, step: batch(patches, 0))
    run = smoke(name, steps=30, validate_every=10, precision=precision)
    go(run, tmp_path / "run", on_validation=seen.append)
    first, *_, last = (row["loss"] for row in seen[-1])
    assert last < 0.95 * first and np.isfinite([row["psnr"] for row in seen[-1]]).all()
    for column in ("restoration", "guidance", "distribution"):
        assert math.isfinite(seen[-1][-1][column]) == (column != "distribution" or run.downscaler == "irn")


@pytest.mark.parametrize("name", ["irn-irn-x2", "cnn-cr-cnn-sr-x2"])
def test_a_stopped_run_continues_to_the_same_bits(home, tmp_path, name):
    """IRN draws its z from PyTorch's generator, whose state the checkpoint keeps."""

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
    patches, plain = train.Patches(run), train.Patches(smoke(f"bicubic-edsr-x{run.scale}", batch=4))
    for ours, bicubic in zip(patches.batch(3), plain.batch(3), strict=True):
        torch.testing.assert_close(ours, bicubic, rtol=0, atol=0)
    assert [lr for _, lr in train.validation_images(run)] == [None]


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
    rows = experiments.measure(name, "smoke", ["demo"], device="cpu", progress=False)
    assert {row["downscaler"] for row in rows} == {run.downscaler} and all(np.isfinite(row["value"]) for row in rows)
    assert {row["metric"] for row in rows} == {"psnr", "ssim"}


@pytest.mark.parametrize("name", ["irn-irn-x2", "tad-tau-x2"])
def test_the_lr_of_a_chain_is_that_of_the_door(trained, name):
    path = trained(name)
    hr = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    lr, sr = experiments.chain(name, "smoke")(hr)
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
        exact = network(rescale.to_tensor(hr))[0].permute(1, 2, 0).numpy() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(rescale.learned_downscale(network, hr), np.clip(exact, 0, 1) * 255, rtol=0, atol=0.501)


def test_weights_of_another_method_are_refused(trained, monkeypatch):
    irn, tad = trained("irn-irn-x2"), trained("tad-tau-x2")
    hr = np.zeros((8, 8, 3), np.uint8)
    for call in (downscale, upscale):
        for method, path, told in (
            ("tad", irn, "is of method irn, not tad: choose other weights, or method irn"),
            ("irn", tad, "is of method tad, not irn"),
            ("car", irn, "is of method irn, not car"),
            ("irn", None, "no shipped weights irn-irn-x2"),
            ("cnn-cr", None, "no shipped weights cnn-cr-cnn-sr-x2"),
        ):
            with pytest.raises(ValueError, match=told) as refusal:
                call(hr, 2, method, weights=path)
            assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="is for scale 2, not 4"):
        downscale(hr, 4, "irn", weights=irn)


def test_the_command_line_takes_trained_weights(trained, monkeypatch, tmp_path, capsys):
    from carlib import cli

    def carlib(*arguments):
        monkeypatch.setattr("sys.argv", ["carlib", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0, capsys.readouterr()

    path = trained("irn-irn-x2")
    data.write_image(tmp_path / "hr.png", np.random.default_rng(3).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    irn = ["--method", "irn", "--scale", 2, "--weights", path]
    assert carlib("downscale", tmp_path / "hr.png", tmp_path / "lr.png", *irn)[0] == 0
    assert carlib("upscale", tmp_path / "lr.png", tmp_path / "sr.png", *irn)[0] == 0
    assert data.read_image(tmp_path / "sr.png").shape == (16, 24, 3)
    for options, told in (
        (["--method", "tad", "--scale", 2, "--weights", path], "is of method irn, not tad"),
        (["--method", "irn", "--scale", 2], "no shipped weights irn-irn-x2"),
    ):
        code, shown = carlib("downscale", tmp_path / "hr.png", tmp_path / "no.png", *options)
        assert code == 2 and shown.err.startswith("carlib: ") and shown.err.count("\n") == 1 and told in shown.err
        assert not (tmp_path / "no.png").exists()
