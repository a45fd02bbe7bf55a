"""Public checkpoint layouts: each is recognised by its keys, loads strictly, and is the function its code computes."""

import re

import numpy as np
import pytest
import torch
from test_weights import public

from carlib import data, imresize, metrics, models, rescale, weights
from carlib.models.layers import DIV2K_MEAN


def numbered(network, seed=3):
    """A checkpoint of `network`: its keys, with numbers of their own."""
    draw = torch.Generator().manual_seed(seed)
    return {key: torch.randn(value.shape, generator=draw) * 0.1 for key, value in network.state_dict().items()}


def renamed(state, *rules):
    """`state` under keys that regular expressions rewrite, the first that matches."""

    def rename(key):
        for pattern, replacement in rules:
            if re.fullmatch(pattern, key):
                return re.sub(pattern, replacement, key)
        return key

    return {rename(key): value for key, value in state.items()}


def assert_loads(network, checkpoint, expected, path, **options):
    """`checkpoint`, as a file, gives the network the state `expected`; a missing or a surplus key is refused."""
    torch.save(checkpoint, path)
    weights.load(network, path, **options)
    state = network.state_dict()
    assert expected.keys() <= state.keys()
    for key in expected:
        torch.testing.assert_close(state[key], expected[key], rtol=0, atol=0)
    name = type(network).__name__
    for key in sorted(checkpoint)[:: max(1, len(checkpoint) // 3)]:
        if "mean" not in key:
            torch.save({k: v for k, v in checkpoint.items() if k != key}, path)
            with pytest.raises(ValueError, match=f"does not fit {name}.* missing") as refusal:
                weights.load(network, path, **options)
            assert "\n" not in str(refusal.value)
    torch.save(checkpoint | {"odd.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=f"does not fit {name}: 1 are not in the network, such as odd.weight"):
        weights.load(network, path, **options)


def without_biases(state):
    return {key: value for key, value in state.items() if not key.endswith(".bias")}


def zero_biases(state):
    return {key: torch.zeros_like(value) if key.endswith(".bias") else value for key, value in state.items()}


@pytest.mark.parametrize(("name", "layers"), [
    ("srcnn", ["conv1", "conv2", "conv3"]),
    ("dncnn", ["model.0", "model.2", "model.4"]),
    ("rdn", ["SFENet1", "SFENet2", "GFF.0", "GFF.1", "UPNet.0", "UPNet.2"]
     + [f"RDBs.{i}.{layer}" for i in (0, 1) for layer in ("convs.0.conv.0", "convs.1.conv.0", "LFF")]),
    ("rcan", ["sub_mean", "add_mean", "head.0", "tail.0.0", "tail.1", "body.2"]
     + [f"body.{g}.body.{layer}" for g in (0, 1)
        for layer in ("0.body.0", "0.body.2", "0.body.3.conv_du.0", "0.body.3.conv_du.2", "1")]),
    ("msrresnet", ["conv_first", "body.0.conv1", "body.0.conv2", "upconv1", "conv_hr", "conv_last"]),
    ("rrdb", ["conv_first", "conv_body", "conv_up1", "conv_hr", "conv_last"]
     + [f"body.0.rdb{r}.conv{c}" for r in (1, 2, 3) for c in range(1, 6)]),
    ("carn-m", ["sub_mean", "add_mean", "entry", "exit", "upsample.up.body.0", "c1.body.0", "c2.body.0", "c3.body.0"]
     + [f"b{b}.{layer}" for b in (1, 2, 3)
        for layer in ("b1.body.0", "b1.body.2", "b1.body.4", "c1.body.0", "c2.body.0", "c3.body.0")]),
])  # fmt: skip
def test_the_keys_are_those_of_the_public_code(name, layers):
    numbers = {"dncnn": {"depth": 3}, "rdn": {"blocks": 2, "layers": 2}, "rcan": {"groups": 2, "blocks": 1}}
    numbers |= {"msrresnet": {"blocks": 1}, "rrdb": {"blocks": 1}}
    network = models.create(name, 2, "mini", **numbers.get(name, {}))
    assert set(network.state_dict()) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_the_keys_of_ddbpn_and_drrn_are_those_of_the_public_code():
    layers = ["feat0.conv", "feat1.conv", "up3.conv.conv", "down2.conv.conv", "output_conv.conv"]
    kinds = {"up": ("deconv", "conv", "deconv"), "down": ("conv", "deconv", "conv")}
    for unit in ("up1", "up2", "up3", "down1", "down2"):
        way = unit[:-1]
        layers += [f"{unit}.{way}_conv{i}.{kind}" for i, kind in enumerate(kinds[way], 1)]
    keys = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    keys |= {f"{layer.rpartition('.')[0]}.act.weight" for layer in layers if layer != "output_conv.conv"}
    assert set(models.create("ddbpn", 2, "mini", stages=3).state_dict()) == keys
    assert set(models.create("drrn", 2).state_dict()) == {f"{x}.weight" for x in ("input", "conv1", "conv2", "output")}


@pytest.mark.parametrize("name", ["srcnn", "dncnn", "drrn", "ddbpn", "msrresnet"])
def test_a_public_checkpoint_with_our_keys_loads(tmp_path, name):
    network = models.create(name, 4, "mini")
    state = numbered(network)
    assert_loads(network, state, state, tmp_path / "a.pth")
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "a.pth")  # from DataParallel
    weights.load(models.create(name, 4, "mini"), tmp_path / "a.pth")


def test_vdsr_of_the_authors(tmp_path):
    network = models.create("vdsr", 2, depth=5, channels=4)
    state = numbered(network)
    names = {f"model.{2 * i}": f"conv{i + 1}" for i in range(5)}
    checkpoint = {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in state.items()}
    assert "conv1.weight" in checkpoint and "conv5.bias" in checkpoint
    assert_loads(network, checkpoint, state, tmp_path / "a.pth")


def test_vdsr_of_twtygqyy(tmp_path):
    network = models.create("vdsr", 2, depth=5, channels=4)
    state = zero_biases(numbered(network))
    checkpoint = {"input.weight": state["model.0.weight"], "output.weight": state["model.8.weight"]}
    checkpoint |= {f"residual_layer.{i}.conv.weight": state[f"model.{2 * i + 2}.weight"] for i in range(3)}
    assert_loads(network, checkpoint, state, tmp_path / "a.pth")


def test_lapsrn_of_twtygqyy(tmp_path):
    network = models.create("lapsrn", 4, depth=2, channels=4, up_kernel=4)
    state = zero_biases(numbered(network))
    checkpoint = {"conv_input.weight": state["first.weight"]}
    torch.save(checkpoint, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"are missing.*its options: depth, channels, up_kernel, colours\)"):
        weights.load(network, tmp_path / "b.pth")
    for level in (0, 1):
        own, its = f"levels.{level}", level + 1
        checkpoint[f"convt_I{its}.weight"] = state[f"{own}.image.weight"]
        checkpoint[f"convt_R{its}.weight"] = state[f"{own}.residual.weight"]
        checkpoint |= {f"convt_F{its}.0.cov_block.{i}.weight": state[f"{own}.features.{i}.weight"] for i in (0, 2)}
        checkpoint[f"convt_F{its}.0.cov_block.4.weight"] = state[f"{own}.up.weight"]
    assert_loads(network, checkpoint, state, tmp_path / "a.pth")
    torch.save(checkpoint, tmp_path / "a.pth")
    three = models.create("lapsrn", 4, depth=2, channels=4)
    with pytest.raises(ValueError, match=r"2 have another shape, such as levels\.0\.up\.weight \(4, 4, 4, 4\)"):
        weights.load(three, tmp_path / "a.pth")


@pytest.mark.parametrize(("layer", "first"), [("dense{}.{}.conv", 1), ("denseblock.{}.block.{}.conv", 0)])
def test_srdensenet_of_wxywhu(tmp_path, layer, first):
    """Its first version, and the second, whose blocks count from 0."""
    network = models.create("srdensenet", 4, blocks=2, layers=3, growth=2, bottleneck=4)
    state = numbered(network)
    names = {"first": "conv1", "bottleneck": "Bottleneck", "up.0": "convt1", "up.1": "convt2", "last": "conv2"}
    names |= {f"dense.{i}": layer.format(i // 3 + first, i % 3) for i in range(6)}
    checkpoint = {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in state.items()}
    assert layer.format(1 + first, 0) + ".weight" in checkpoint
    assert_loads(network, checkpoint, state, tmp_path / "a.pth")


def test_srresnet_of_twtygqyy(tmp_path):
    network = models.create("srresnet", 4, "mini", norm="instance")
    state = numbered(network)
    checkpoint = renamed(
        state,
        (r"(residual\.\d+\.)norm(\d)\.(.+)", r"\1in\2.\3"),
        (r"norm_mid\.(.+)", r"bn_mid.\1"),
        (r"upscale\.(.+)", r"upscale4x.\1"),
    )
    layers = ["conv_input", "conv_mid", "bn_mid", "upscale4x.0", "upscale4x.3", "conv_output"]
    assert {f"{layer}.weight" for layer in [*layers, "residual.3.conv1", "residual.3.in2"]} <= checkpoint.keys()
    assert_loads(network, checkpoint, state, tmp_path / "a.pth")
    statistics = {"residual.0.in1.running_mean": torch.zeros(32), "bn_mid.running_var": torch.ones(32)}
    torch.save(checkpoint | statistics, tmp_path / "a.pth")  # PyTorch 0.3 kept them and did not use them
    weights.load(network, tmp_path / "a.pth")


def test_an_srresnet_in_use_comes_back_whole(tmp_path):
    """Its running statistics are ours to keep."""
    network = models.create("srresnet", 2, "mini")
    network(torch.rand(2, 3, 4, 5))
    weights.save(network, tmp_path / "a.safetensors", dtype=torch.float32)
    other = models.create("srresnet", 2, "mini")
    weights.load(other, tmp_path / "a.safetensors")
    for key, value in network.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["carn", "carn-m"])
@pytest.mark.parametrize("scale", [2, 4])
def test_carn_takes_the_tail_of_its_scale(tmp_path, name, scale):
    network = models.create(name, scale, "mini")
    tails = {s: numbered(models.create(name, s, "mini")) for s in (2, 3, 4)}
    state = numbered(network, seed=9)
    state |= {key: value for key, value in tails[scale].items() if key.startswith("upsample")}
    checkpoint = {key: value for key, value in state.items() if not key.startswith("upsample")}
    for s, tail in tails.items():
        checkpoint |= {k.replace(".up.", f".up{s}."): v for k, v in tail.items() if k.startswith("upsample")}
    for sign, shift in ((-1, "sub_mean"), (1, "add_mean")):
        checkpoint[f"{shift}.shifter.weight"] = checkpoint.pop(f"{shift}.weight") * 0 + torch.eye(3).view(3, 3, 1, 1)
        checkpoint[f"{shift}.shifter.bias"] = checkpoint.pop(f"{shift}.bias") * 0 + sign * torch.tensor(DIV2K_MEAN)
    expected = {key: value for key, value in state.items() if "mean" not in key}
    torch.save(checkpoint, tmp_path / "a.pth")
    weights.load(network, tmp_path / "a.pth")
    for key, value in expected.items():
        torch.testing.assert_close(network.state_dict()[key], value, rtol=0, atol=0)
    alone = {k: v for k, v in checkpoint.items() if not k.startswith(f"upsample.up{scale}.")}
    torch.save(alone, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"weights are missing, such as upsample\.up\.body\.0\.bias"):
        weights.load(network, tmp_path / "a.pth")
    torch.save(checkpoint | {"sub_mean.shifter.bias": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"sub_mean\.bias is not the mean colour of DIV2K"):
        weights.load(network, tmp_path / "a.pth")


@pytest.mark.parametrize("layout", ["release", "oldest", "basicsr"])
def test_rrdb(tmp_path, layout):
    network = models.create("rrdb", 4, blocks=2, channels=4, growth=2)
    state = numbered(network)
    release = [
        (r"body\.(\d+)\.rdb(\d)\.(.+)", r"RRDB_trunk.\1.RDB\2.\3"),
        (r"conv_body\.(.+)", r"trunk_conv.\1"),
        (r"conv_up(\d)\.(.+)", r"upconv\1.\2"),
        (r"conv_hr\.(.+)", r"HRconv.\1"),
    ]
    oldest = [
        (r"conv_first\.(.+)", r"model.0.\1"),
        (r"body\.(\d+)\.rdb(\d)\.(conv\d)\.(.+)", r"model.1.sub.\1.RDB\2.\3.0.\4"),
        (r"conv_body\.(.+)", r"model.1.sub.2.\1"),
        (r"conv_up1\.(.+)", r"model.3.\1"),
        (r"conv_up2\.(.+)", r"model.6.\1"),
        (r"conv_hr\.(.+)", r"model.8.\1"),
        (r"conv_last\.(.+)", r"model.10.\1"),
    ]
    rules = {"release": release, "oldest": oldest, "basicsr": []}[layout]
    checkpoint = renamed(state, *rules)
    expected = {"release": "RRDB_trunk.1.RDB3.conv5.weight", "oldest": "model.1.sub.1.RDB3.conv5.0.weight"}
    assert expected.get(layout, "body.1.rdb3.conv5.weight") in checkpoint
    assert_loads(network, checkpoint, state, tmp_path / "a.pth")
    torch.save({"params_ema": checkpoint, "params": {}}, tmp_path / "a.pth")  # BasicSR: the averaged weights
    weights.load(network, tmp_path / "a.pth")


def test_the_oldest_rrdb_files_number_fewer_layers_at_x2(tmp_path):
    network = models.create("rrdb", 2, blocks=1, channels=4, growth=2)
    state = numbered(network)
    numbers = {"conv_first": "0", "conv_body": "1.sub.1", "conv_up1": "3", "conv_hr": "5", "conv_last": "7"}
    rules = [(rf"{name}\.(.+)", rf"model.{number}.\1") for name, number in numbers.items()]
    rules += [(r"body\.0\.rdb(\d)\.(conv\d)\.(.+)", r"model.1.sub.0.RDB\1.\2.0.\3")]
    assert_loads(network, renamed(state, *rules), state, tmp_path / "a.pth")


FOREIGN = [
    "weight", "input", "conv1", "convt_F1.weight", "convt_I7.0.cov_block.3.weight", "dense1.0.conv", "model.1.sub.x",
    "upsample.up9.body.0.weight", "residual.0.in1.running_mean", "sub_mean.bias", "", ".",
]  # fmt: skip


@pytest.mark.parametrize("name", ["vdsr", "lapsrn", "srdensenet", "carn", "rrdb", "srresnet", "rcan", "memnet"])
def test_foreign_keys_of_any_kind_are_refused_in_one_line(tmp_path, name):
    torch.save({key: torch.zeros(3) for key in FOREIGN}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"does not fit|is not the mean colour") as refusal:
        weights.load(models.create(name, 2, "mini"), tmp_path / "a.pth")
    assert "\n" not in str(refusal.value)


def basicsr(state, name):
    """An EDSR or RCAN of ours under BasicSR's keys, which know no mean shifts."""
    last = max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    rules = [
        (r"head\.0\.(.+)", r"conv_first.\1"),
        (r"tail\.1\.(.+)", r"conv_last.\1"),
        (r"tail\.0\.(.+)", r"upsample.\1"),
        (rf"body\.{last}\.(weight|bias)", r"conv_after_body.\1"),
    ]
    if name == "edsr":
        rules += [(rf"body\.(\d+)\.body\.{i}\.(.+)", rf"body.\1.conv{1 + i // 2}.\2") for i in (0, 2)]
    else:
        attention = r"body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\."
        inside = r"body.\1.residual_group.\2.rcab."
        rules += [(rf"{attention}{i}\.(.+)", rf"{inside}3.attention.{i + 1}.\3") for i in (0, 2)]
        rules += [(r"body\.(\d+)\.body\.(\d+)\.body\.(.+)", rf"{inside}\3")]
        rules += [(r"body\.(\d+)\.body\.\d+\.(weight|bias)", r"body.\1.conv.\2")]
    return renamed({key: value for key, value in state.items() if "mean" not in key}, *rules)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(("name", "numbers", "layers"), [
    ("edsr", {"blocks": 1}, ["body.0.conv1", "body.0.conv2"]),
    ("rcan", {"groups": 1, "blocks": 1},
     [f"body.0.residual_group.0.rcab.{i}" for i in ("0", "2", "3.attention.1", "3.attention.3")] + ["body.0.conv"]),
])  # fmt: skip
def test_edsr_and_rcan_of_basicsr(tmp_path, name, numbers, layers, scale):
    """Its code subtracts DIV2K's mean, multiplies by img_range = 255, and does the reverse at the end."""
    network = models.create(name, scale, "mini", channels=8, **numbers)
    state = numbered(network)
    state |= {key: value.clone() for key, value in network.state_dict().items() if "mean" in key}
    network.load_state_dict(state)
    checkpoint = basicsr(state, name)
    layers = [*layers, "conv_first", "conv_after_body", *(f"upsample.{i}" for i in range(0, scale, 2)), "conv_last"]
    assert checkpoint.keys() == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    at_1 = {key: value for key, value in state.items() if "mean" not in key}
    assert_loads(network, checkpoint, at_1, tmp_path / "a.pth", value_range=1)

    lr, mean = torch.rand(1, 3, 4, 5), torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1)
    inner = network.tail, network.body, network.head
    features = inner[2](255 * (lr - mean))
    expected = inner[0](features + inner[1](features)) / 255 + mean
    torch.save({"params": checkpoint}, tmp_path / "a.pth")
    weights.load(network, tmp_path / "a.pth")
    torch.testing.assert_close(network(lr), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["rcan", "rdn"])
def test_a_checkpoint_of_range_255_is_the_same_function(tmp_path, name):
    torch.manual_seed(2)
    at_255, at_1 = models.create(name, 2, "mini"), models.create(name, 2, "mini")
    with torch.no_grad():
        for key, parameter in at_255.named_parameters():
            if key.endswith("bias") and "conv_du" not in key:
                parameter.normal_(0, 5)
            elif "mean" in key:
                parameter.add_(torch.randn(parameter.shape) * 0.02)  # the release trains its shifts
    if name == "rcan":
        at_255.sub_mean.bias.data = -255 * torch.tensor(DIV2K_MEAN) + 0.4
        at_255.add_mean.bias.data = 255 * torch.tensor(DIV2K_MEAN) - 0.3
    torch.save(at_255.state_dict(), tmp_path / "a.pth")
    weights.load(at_1, tmp_path / "a.pth")  # RCAN's mean shift tells, RDN's public weights are all at 255
    lr = torch.rand(1, 3, 6, 7)
    torch.testing.assert_close(at_1(lr), at_255(lr * 255) / 255, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["srram", "srresnet", "memnet"])
def test_what_cannot_be_brought_to_another_range_is_refused(tmp_path, name):
    network = models.create(name, 2, "mini")
    torch.save({k: v for k, v in network.state_dict().items() if "mean" not in k}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"is at range 255, a .* is at range 1 and cannot be converted"):
        weights.load(network, tmp_path / "a.pth", value_range=255)


def test_a_mean_shift_that_the_network_lacks_is_surplus(tmp_path):
    network = models.create("tau", 2, "mini")
    torch.save(network.state_dict() | {"sub_mean.bias": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"1 are not in the network, such as sub_mean\.bias"):
        weights.load(network, tmp_path / "a.pth")


def test_the_docstring_of_srcnn_says_how_the_mat_file_is_read():
    """MATLAB's kernels (h, w) as columns, column-major, become PyTorch's (out, in, h, w)."""
    rng = np.random.default_rng(0)
    kernels = rng.random((64, 32, 5, 5))  # in, out, h, w
    w2 = np.stack([[k.ravel(order="F") for k in of] for of in kernels]).transpose(0, 2, 1)  # (64, 25, 32) as stored
    found = w2.transpose(2, 0, 1).reshape(32, 64, 5, 5).swapaxes(2, 3)
    np.testing.assert_array_equal(found, kernels.transpose(1, 0, 2, 3))
    first = rng.random((64, 9, 9))
    w1 = np.stack([k.ravel(order="F") for k in first], 1)  # (81, 64)
    np.testing.assert_array_equal(w1.T.reshape(64, 1, 9, 9).swapaxes(2, 3)[:, 0], first)
    last = rng.random((32, 5, 5))
    w3 = np.stack([k.ravel(order="F") for k in last])  # (32, 25)
    np.testing.assert_array_equal(w3.reshape(1, 32, 5, 5).swapaxes(2, 3)[0], last)


@pytest.mark.parametrize(("file", "name", "scale", "options", "recorded"), [
    ("vdsr_official.pth", "vdsr", 2, {}, 37.46),
    ("vdsr_official.pth", "vdsr", 4, {}, 31.33),
    ("vdsr_twtygqyy.pth", "vdsr", 2, {}, 37.51),
    ("vdsr_twtygqyy.pth", "vdsr", 4, {}, 31.42),
    ("srcnn_955_x4.pth", "srcnn", 4, {}, 30.46),
    ("carn_x2.pth", "carn", 2, {}, 37.86),
    ("carn_m.pth", "carn-m", 2, {}, 37.66),
    ("carn_m.pth", "carn-m", 4, {}, 31.87),
    ("lapsrn_twtygqyy_x4.pth", "lapsrn", 4, {"up_kernel": 4}, 31.60),
])  # fmt: skip
def test_a_public_checkpoint_restores_set5_as_well_as_recorded(file, name, scale, options, recorded):
    """HR cropped to a multiple of 12, MATLAB's bicubic LR; the figures were recorded with the files.

    Those of the networks of the luma hold for a luma rounded to whole numbers, as MATLAB's rgb2ycbcr of an 8-bit image
    gives it. Not rounded, which is the "standard" of `carlib.metrics`, VDSR reads 0.05 dB more at x2: 37.51 and 37.57.
    """
    path = public(file)
    network = models.create(name, scale, **options).eval()
    weights.load(network, path)
    values = []
    for _, image in data.load("set5"):
        hr = data.crop_to_multiple(image, 12)
        sr = rescale.restore(network, imresize(hr, 1 / scale))
        if not name.startswith("carn"):
            hr, sr = (np.rint(metrics.luma(rgb)).astype(np.uint8) for rgb in (hr, sr * 255))
        values.append(metrics.psnr(hr, sr, scale))
    assert np.mean(values) == pytest.approx(recorded, abs=0.03)
