"""Weights: own files come back as written; public layouts are understood; what does not fit is refused, in one line."""

import functools
import math
import os
import pickle
import resource
import signal
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from carlib import data, imresize, metrics, models, rescale, results, weights
from carlib.models import EDSR, ResamplerNet
from carlib.models.layers import DIV2K_MEAN

SPECIFICATIONS = {
    "upscaler": {"name": "edsr", "scale": 2, "size": "mini", "blocks": 1, "channels": 8},
    "resampler": {"name": "resampler", "scale": 2, "size": "mini", "width": 8, "blocks": 1, "weighting": "signed"},
}


def networks():
    return nn.ModuleDict({role: models.create(**options) for role, options in SPECIFICATIONS.items()})


def edsr():
    return EDSR(2, blocks=1, channels=8, res_scale=0.7)


def state_of(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], **({"rtol": 0, "atol": 0} | tolerance))


def assert_refused(model, path, told, **options):
    """One line, naming the file, and the model is as it was."""
    before = state_of(model)
    with pytest.raises(ValueError, match=told) as refusal:
        weights.load(model, path, **options)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert_same(state_of(model), before)


def test_a_file_in_single_precision_comes_back_exactly(tmp_path):
    model, other = edsr(), edsr()
    weights.save(model, tmp_path / "a.safetensors", dtype=torch.float32)
    weights.load(other, tmp_path / "a.safetensors")
    assert_same(state_of(other), state_of(model))


def test_half_precision_is_the_default(tmp_path):
    model, other = edsr(), edsr()
    weights.save(model, tmp_path / "a.safetensors")
    weights.load(other, tmp_path / "a.safetensors")
    assert_same({k: v for k, v in state_of(other).items() if "mean" not in k},
                {k: v.half().float() for k, v in state_of(model).items() if "mean" not in k})  # fmt: skip
    assert (tmp_path / "a.safetensors").stat().st_size < 2.2 * sum(p.numel() for p in model.parameters()) + 4000


def test_the_header_says_what_made_the_file(tmp_path):
    metadata = {"run": "car-edsr-x2", "seed": 3, "networks": SPECIFICATIONS, "validation": {"psnr_rgb": 31.5}}
    weights.save(networks(), tmp_path / "a.safetensors", metadata)
    assert weights.read(tmp_path / "a.safetensors")[1] == metadata
    assert weights.load(edsr_of_run(), tmp_path / "a.safetensors") == metadata


def edsr_of_run():
    return models.create(**SPECIFICATIONS["upscaler"])


def test_the_same_weights_make_the_same_bytes(tmp_path):
    model = networks()
    for name in "ab":
        weights.save(model, tmp_path / f"{name}.safetensors", {"z": 1, "a": 2})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_run_is_built_from_its_file(tmp_path):
    trained = networks()
    weights.save(trained, tmp_path / "a.safetensors", {"networks": SPECIFICATIONS}, dtype=torch.float32)
    rebuilt, metadata = weights.load_run(tmp_path / "a.safetensors")
    assert set(rebuilt) == {"upscaler", "resampler"} and metadata["networks"] == SPECIFICATIONS
    assert not rebuilt.training and rebuilt["resampler"].weighting == "signed"
    assert_same(state_of(rebuilt), state_of(trained))


def test_a_run_with_the_fixed_bicubic_upscaler_is_built(tmp_path):
    made = SPECIFICATIONS | {"upscaler": {"name": "bicubic", "scale": 2, "size": "mini"}}
    trained = nn.ModuleDict({role: models.create(**options) for role, options in made.items()})
    weights.save(trained, tmp_path / "a.safetensors", {"networks": made}, dtype=torch.float32)
    rebuilt, _ = weights.load_run(tmp_path / "a.safetensors")
    assert_same(state_of(rebuilt), state_of(trained))


def test_each_network_takes_its_own_part_of_a_run(tmp_path):
    trained, resampler, upscaler = networks(), networks()["resampler"], edsr_of_run()
    weights.save(trained, tmp_path / "a.safetensors", dtype=torch.float32)
    weights.load(resampler, tmp_path / "a.safetensors")
    weights.load(upscaler, tmp_path / "a.safetensors")
    assert_same(state_of(resampler), state_of(trained["resampler"]))
    assert_same(state_of(upscaler), state_of(trained["upscaler"]))
    weights.save(nn.ModuleDict({"upscaler": upscaler}), tmp_path / "b.safetensors")
    assert_refused(resampler, tmp_path / "b.safetensors", "holds no resampler")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "params", "params_ema", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_wrapped_and_prefixed_dicts_are_understood(tmp_path, wrapper, prefix):
    model, other = edsr(), edsr()
    content = OrderedDict((f"{prefix}{key}", value) for key, value in model.state_dict().items())
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / "a.pth")
    assert weights.load(other, tmp_path / "a.pth") == {}
    assert_same(state_of(other), state_of(model))


def test_a_dict_that_holds_itself_is_refused(tmp_path):
    content = {"epoch": 3}
    content["model"] = content
    assert weights._unwrapped(content) is content
    assert weights._unwrapped({"state_dict": {}, "model": edsr().state_dict()}).keys() == edsr().state_dict().keys()


def test_a_training_checkpoint_with_its_optimizer_is_understood(tmp_path):
    """As a .pth.tar of a training script; of several dicts of tensors the one with a known name."""
    model, other = edsr(), edsr()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(1, 3, 4, 4)).mean().backward()
    optimizer.step()
    content = {"epoch": 3, "best": 31.2, "net": model.state_dict(), "optimizer": optimizer.state_dict(), "hooks": {}}
    torch.save(content, tmp_path / "a.pth.tar")
    weights.load(other, tmp_path / "a.pth.tar")
    assert_same(state_of(other), state_of(model))
    moments = {key: torch.ones_like(value) for key, value in model.state_dict().items()}
    torch.save({"optimizer": moments, "model": {"state_dict": model.state_dict()}}, tmp_path / "a.pth.tar")
    weights.load(other, tmp_path / "a.pth.tar")
    assert_same(state_of(other), state_of(model))
    torch.save({"optimizer": moments, "net": model.state_dict()}, tmp_path / "a.pth.tar")
    assert_refused(other, tmp_path / "a.pth.tar", "is not a state dict of tensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_in_another_precision_is_understood(tmp_path, suffix, dtype):
    """At range 255, too, where half precision has no biases as small as they become."""
    model, other, path = edsr(), edsr(), tmp_path / f"a.{suffix}"
    state = {key: value.to(dtype) for key, value in model.state_dict().items()}
    at_255 = {key: value * 255 if key.endswith(".bias") else value for key, value in state.items()}
    for content in (state, at_255):
        (torch.save if suffix == "pth" else safetensors.torch.save_file)(content, path)
        weights.load(other, path)
        rounding = 4 * torch.finfo(dtype).eps if dtype != torch.float64 else 1e-6
        assert_same(state_of(other), state_of(model), rtol=rounding, atol=1e-7)


def test_a_checkpoint_from_before_batches_were_counted_is_understood(tmp_path):
    model, other = (models.create("srresnet", 2, "mini", blocks=1) for _ in range(2))
    state = state_of(model)
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "a.pth")
    weights.load(other, tmp_path / "a.pth")
    assert_same(state_of(other), state)


def test_the_files_of_the_release_are_understood(tmp_path):
    """kgn.pth and usn.pth were saved from DataParallel, mean shifts (at range 1) included."""
    kgn, usn = ResamplerNet(4, width=8, blocks=5), EDSR(4, blocks=2, channels=8)
    for name, model in {"kgn": kgn, "usn": usn}.items():
        torch.save({f"module.{key}": value for key, value in model.state_dict().items()}, tmp_path / f"{name}.pth")
    for name, model, other in (("kgn", kgn, ResamplerNet(4, width=8)), ("usn", usn, EDSR(4, blocks=2, channels=8))):
        assert "module.sub_mean.bias" in weights.read(tmp_path / f"{name}.pth")[0]
        weights.load(other, tmp_path / f"{name}.pth")
        assert_same(state_of(other), state_of(model))


def at_range_255(state, lr, res_scale):
    """EDSR-PyTorch's forward with one block at x2, on an image in 0..255 and the checkpoint's own mean shifts."""

    def conv(x, name, padding=1):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    head = conv(conv(lr, "sub_mean", 0), "head.0")
    body = head + res_scale * conv(functional.relu(conv(head, "body.0.body.0")), "body.0.body.2")
    features = head + conv(body, "body.1")
    return conv(conv(functional.pixel_shuffle(conv(features, "tail.0.0"), 2), "tail.1"), "add_mean", 0)


@pytest.mark.parametrize("shifts", [True, False])
def test_a_checkpoint_of_range_255_is_the_same_function(tmp_path, shifts):
    model, mean = edsr(), torch.tensor(DIV2K_MEAN) * 255
    checkpoint = state_of(model)
    for key in checkpoint:
        if key.endswith(".bias"):
            checkpoint[key] = torch.randn(checkpoint[key].shape, generator=torch.Generator().manual_seed(1)) * 20
    checkpoint["sub_mean.bias"], checkpoint["add_mean.bias"] = -mean, mean
    lr = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(2))
    expected = at_range_255(checkpoint, lr * 255, res_scale=0.7) / 255
    stored = checkpoint if shifts else {k: v for k, v in checkpoint.items() if "mean" not in k}
    torch.save(stored, tmp_path / "a.pth")
    weights.load(model, tmp_path / "a.pth", value_range=None if shifts else 255)
    torch.testing.assert_close(model(lr), expected, rtol=0, atol=1e-5)  # float32, values around 1
    if not shifts:  # without them nothing tells the range
        weights.load(model, tmp_path / "a.pth")
        assert (model(lr) - expected).abs().max() > 0.1


def test_a_checkpoint_without_mean_shifts_is_of_images_less_the_mean_over_127_5(tmp_path):
    """krasserm/super-resolution: white less black is 2, the mean a colour of DIV2K."""
    model, mean = edsr(), torch.tensor(DIV2K_MEAN) * 2
    checkpoint = state_of(model)
    lr = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(2))
    shifts = {"sub_mean.bias": -mean, "add_mean.bias": mean}
    torch.save({k: v for k, v in checkpoint.items() if "mean" not in k}, tmp_path / "a.pth")
    weights.load(model, tmp_path / "a.pth")
    expected = at_range_255({**checkpoint, **shifts}, lr * 2, res_scale=0.7) / 2
    torch.testing.assert_close(model(lr), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value_range", [0, -1, float("nan"), "255"])
def test_a_range_is_a_number_above_0(tmp_path, value_range):
    torch.save(edsr().state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"value_range=.* is not a number above 0"):
        weights.load(edsr(), tmp_path / "a.pth", value_range=value_range)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_missing_file_is_refused(tmp_path, suffix):
    assert_refused(edsr(), tmp_path / f"a.{suffix}", "no weights at")
    assert_refused(edsr(), tmp_path, "no weights at")  # a folder


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("layout", ["safetensors", "pth", "legacy.pth"])
def test_a_truncated_file_is_refused(tmp_path, layout, part):
    path = tmp_path / f"a.{layout}"
    if layout == "safetensors":
        weights.save(edsr(), path)
    else:
        torch.save(edsr().state_dict(), path, _use_new_zipfile_serialization=layout == "pth")
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert_refused(edsr(), path, "is not a whole|is refused")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"<html>404: not found</html>", b"a text\n" * 9, bytes(300), b"\x80\x02}q\x00."])
def test_another_kind_of_file_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    assert_refused(edsr(), path, "is not a whole|is refused|does not fit")


class Harmful:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("layout", ["zip", "legacy", "pickle"])
def test_a_file_that_holds_code_is_refused_and_not_run(tmp_path, layout):
    path, made = tmp_path / "a.pth", tmp_path / "made"
    content = {"head.0.weight": torch.zeros(2), "x": Harmful(made)}
    if layout == "pickle":
        path.write_bytes(pickle.dumps(Harmful(made)))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "zip")
    assert_refused(edsr(), path, "is refused")
    assert not made.exists()
    pickle.loads(pickle.dumps(Harmful(made)))  # it would have
    assert made.exists()


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(edsr(), tmp_path / "a.pth")
    assert_refused(edsr(), tmp_path / "a.pth", "more than tensors")


@pytest.mark.parametrize("content", [
    [torch.zeros(2)], torch.zeros(2), {"a": 1}, {1: torch.zeros(2)}, 3, {"a": torch.zeros(2).to_sparse()},
    {"a": torch.zeros(2, device="meta")}, {"a": torch.zeros(2, dtype=torch.complex64)},
])  # fmt: skip
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    assert_refused(edsr(), tmp_path / "a.pth", "is not a state dict of tensors")


def test_the_checkpoint_of_another_network_is_refused_by_what_does_not_fit(tmp_path):
    torch.save(EDSR(4, blocks=2, channels=8).state_dict(), tmp_path / "a.pth")
    told = (r"does not fit EDSR: .* are not in the network, such as body\.1\.body\.0\.bias"
            r".*2 weights are missing|does not fit EDSR: 2 weights are missing, such as body\.1\.bias; ")  # fmt: skip
    assert_refused(edsr(), tmp_path / "a.pth", told)
    torch.save(EDSR(2, blocks=1, channels=4).state_dict(), tmp_path / "b.pth")
    assert_refused(edsr(), tmp_path / "b.pth", r"another shape, such as .* \(4,\) instead of \(8,\) \(its options: ")
    assert_refused(ResamplerNet(2, width=8), tmp_path / "b.pth", "does not fit ResamplerNet: .* weights are missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    model = edsr()
    torch.save(model.state_dict() | {"head.0.bias": torch.full((8,), value)}, tmp_path / "a.pth")
    assert_refused(model, tmp_path / "a.pth", r"not finite, such as head\.0\.bias")
    model.head[0].bias.data[3] = value
    with pytest.raises(ValueError, match=r"head\.0\.bias is not finite"):
        weights.save(model, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_weights_beyond_half_precision_are_refused_in_it(tmp_path):
    model = edsr()
    model.head[0].weight.data[0, 0, 0, 0] = 1e5
    with pytest.raises(ValueError, match=r"head\.0\.weight is not finite in torch\.float16"):
        weights.save(model, tmp_path / "a.safetensors")
    weights.save(model, tmp_path / "a.safetensors", dtype=torch.float32)


def test_a_run_needs_a_description_that_can_be_built(tmp_path):
    path = tmp_path / "a.safetensors"
    edsr_with = functools.partial(dict, SPECIFICATIONS["upscaler"])
    for metadata, told in (
        ({}, "does not say which networks it holds"),
        ({"networks": {}}, "does not say which networks it holds"),
        ({"networks": {"": SPECIFICATIONS["upscaler"]}}, "does not say how to build its networks"),
        ({"networks": {"upscaler": edsr_with(channels=-3)}}, "does not say how to build its networks: .*channels=-3"),
        ({"networks": {"upscaler": edsr_with(channels=2**70)}}, "does not say how to build its networks"),
        ({"networks": {"upscaler": edsr_with(channels="8")}}, "does not say how to build its networks"),
        ({"networks": {"upscaler": edsr_with(blocks=-1)}}, "does not say how to build its networks: .*blocks=-1"),
        ({"networks": {"upscaler": edsr_with(scale=math.inf)}}, "does not say how to build its networks"),
        ({"networks": {"upscaler": {"name": "edsr"}}}, "does not say how to build its networks"),
        ({"networks": {"upscaler": 3}}, "does not say how to build its networks"),
        ({"networks": {"upscaler": {"name": "rcam", "scale": 2}}}, "'rcam' is unknown"),
        ({"networks": SPECIFICATIONS | {"upscaler": SPECIFICATIONS["upscaler"] | {"blocks": 2}}}, "does not fit EDSR"),
    ):
        weights.save(networks(), path, metadata)
        with pytest.raises(ValueError, match=told) as refusal:
            weights.load_run(path)
        assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("header", ["3", "null", "[]", '"networks"', "NaN", "{", "", "[" * 100_000])
def test_a_header_that_is_no_dict_is_refused(tmp_path, header):
    path = tmp_path / "a.safetensors"
    state = {k: v for k, v in edsr().state_dict().items() if "mean" not in k}
    safetensors.torch.save_file(state, path, metadata={"carlib": header})
    told = 'has no dict as "carlib" in its header|is not a whole safetensors file'
    assert_refused(edsr(), path, told)
    with pytest.raises(ValueError, match=told) as refusal:
        weights.load_run(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_link_that_leads_to_itself_is_refused(tmp_path):
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    with pytest.raises(ValueError, match="cannot write"):
        results.write_text(tmp_path / "loop.txt", "text")


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / "a.safetensors"
    with pytest.raises(ValueError, match=r"cannot write .*a\.safetensors: (Not a directory|File exists)") as refusal:
        weights.save(edsr(), path)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
def test_a_full_disk_leaves_the_earlier_file(tmp_path):
    """Simulated by a limit on the size of files, in which the write fails half-way as on a full disk."""
    path = tmp_path / "a.safetensors"
    weights.save(edsr(), path)
    before = path.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"cannot write .*a\.safetensors: File too large"):
            weights.save(networks(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def public(name):
    """A public checkpoint, beside the image sets."""
    base = os.environ.get("CARLIB_DATA")
    path = Path(base.split(os.pathsep)[0]).parent / "weights" / name if base else None
    if path is None or not path.is_file():
        pytest.skip(f"{name} is not here: set CARLIB_DATA to a folder that has it in ../weights")
    if "set5" not in data.available():
        pytest.skip("set5 is not here; set CARLIB_DATA to the folder that holds it")
    return path


def test_a_public_edsr_restores_set5_as_well_as_it_should():
    """37.78 dB: recorded with the file (HR cropped to a multiple of 12, MATLAB's bicubic LR). Its family shifts images
    by the mean and divides them by 127.5, so white is 2; taken for range 1 it gives 37.56 dB, for 255 35.25 dB."""
    model = EDSR(2, blocks=8, channels=64, res_scale=1)
    weights.load(model, public("edsr_8x64_x2.pth"))  # without mean shifts, which tells its family
    values = []
    for _, image in data.load("set5"):
        hr = data.crop_to_multiple(image, 12)
        sr = rescale.restore(model.eval(), imresize(hr, 0.5))
        values.append(metrics.psnr(hr, sr, 2))
    assert np.mean(values) == pytest.approx(37.78, abs=0.03)


@pytest.mark.parametrize("edit", [
    {"sub_mean.bias": torch.tensor([-0.9, -0.1, -0.4])},
    {"sub_mean.bias": 0.01 - torch.tensor(DIV2K_MEAN)},
    {"add_mean.bias": torch.tensor(DIV2K_MEAN) - 0.01},
    {"add_mean.weight": 1.3 * torch.eye(3).view(3, 3, 1, 1)},
])  # fmt: skip
def test_a_mean_shift_that_was_trained_is_refused(tmp_path, edit):
    model = edsr()
    torch.save({**state_of(model), **edit}, tmp_path / "a.pth")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"{next(iter(edit))} is not the mean colour of DIV2K"):
        weights.load(model, tmp_path / "a.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_whole_run_comes_back_as_it_was_saved(tmp_path):
    saved, loaded = networks(), networks()
    weights.save(saved, tmp_path / "a.safetensors", dtype=torch.float32)
    weights.load(loaded, tmp_path / "a.safetensors")
    assert all(torch.equal(v, saved.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_a_resampler_is_not_converted_from_another_range(tmp_path):
    resampler = networks()["resampler"]
    weights.save(resampler, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="at range 255, a ResamplerNet is at range 1"):
        weights.load(resampler, tmp_path / "a.safetensors", value_range=255)


@pytest.mark.parametrize("name", ["a.pth", "a.SAFETENSORS", "a"])
def test_a_name_that_load_would_not_know_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"name a \.safetensors file"):
        weights.save(edsr(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, "float16", torch.float8_e4m3fn])
def test_a_dtype_that_cannot_keep_weights_is_refused(tmp_path, dtype):
    with pytest.raises(ValueError, match="cannot keep weights"):
        weights.save(edsr(), tmp_path / "a.safetensors", dtype=dtype)


def test_a_network_in_half_precision_takes_a_file(tmp_path):
    net = edsr()
    torch.save(net.state_dict(), tmp_path / "a.pth")
    weights.load(net.half(), tmp_path / "a.pth")
