"""The SR networks of the paper's tables: published sizes, one contract, the laws of each architecture."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from carlib import models
from carlib.models import Bicubic
from carlib.models.blocks import begin_near_bicubic, doublings, factors
from carlib.models.layers import DIV2K_MEAN
from carlib.models.luma import LumaNetwork, luma

TRAINED = [name for name in models.UPSCALERS if name != "bicubic"]
ON_LUMA = ["srdensenet", "srcnn", "vdsr", "drrn", "memnet", "dncnn", "lapsrn"]
# Trainable parameters of the released code; of SRRAM, TAU and SRDenseNet, of the third-party code our reading follows.
PUBLISHED = {
    "srdensenet": {4: 7_159_969},
    "ddbpn": {2: 5_953_526, 4: 10_426_358},
    "rdn": {2: 22_123_395, 4: 22_271_107},
    "rcan": {2: 15_444_667, 4: 15_592_379},  # the mean shifts, which the release trains, included
    "srcnn": {2: 57_281, 4: 57_281},
    "vdsr": {2: 665_921, 4: 665_921},
    "srresnet": {2: 1_401_749, 4: 1_549_462},
    "msrresnet": {2: 1_369_859, 4: 1_517_571},
    "drrn": {2: 297_216, 4: 297_216},
    "memnet": {2: 2_911_177, 4: 2_911_177},  # quoted as 2,914,056, see below
    "dncnn": {2: 665_921, 4: 665_921},
    "lapsrn": {2: 407_441, 4: 814_242},
    "zssr": {2: 224_640, 4: 224_640},
    "carn": {2: 964_163, 4: 1_111_875},
    "carn-m": {2: 257_027, 4: 294_147},
    "srram": {2: 938_923, 4: 1_086_635},
    "rrdb": {4: 16_697_987},
    "tau": {2: 409_731},
    "irn": {2: 1_667_952, 4: 4_355_136},  # quoted as 1,668,000 and 4,355,376, the fixed Haar patterns included
}
VARIANTS = [
    ("ddbpn", 2, {"stages": 10}, 8_811_086),  # DBPN-LL
    ("ddbpn", 4, {"stages": 10}, 15_348_302),
    ("srdensenet", 4, {"bottleneck": 128}, 5_452_449),  # wxywhu's second version
    ("srcnn", 2, {"sizes": (9, 1, 5)}, 8_129),
    ("srresnet", 4, {"norm": "instance"}, 1_546_752),  # twtygqyy's port
    ("drrn", 2, {"units": 9}, 297_216),  # recursive: as many as of 25
    ("lapsrn", 2, {"up_kernel": 4}, 436_113),
    ("lapsrn", 4, {"up_kernel": 4}, 871_586),
    ("srram", 2, {"blocks": 16}, 1_389_379),
    ("srram", 4, {"blocks": 16}, 1_537_091),
]


def image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(*shape, seed=0):
    """An image whose detail bicubic nearly restores."""
    coarse = image(*shape[:2], 4, 4, seed=seed)
    return functional.interpolate(coarse, shape[2:], mode="bicubic", align_corners=True).clamp(0, 1)


def mini(name, scale=2, **options):
    torch.manual_seed(1)
    return models.create(name, scale, "mini", **options)


def trainable(name, scale, size="paper", **options):
    with torch.device("meta"):
        network = models.create(name, scale, size, **options)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in PUBLISHED for scale in PUBLISHED[name]])
def test_parameters_are_those_of_the_published_network(name, scale):
    assert trainable(name, scale) == PUBLISHED[name][scale]


@pytest.mark.parametrize(("name", "scale", "options", "count"), VARIANTS)
def test_parameters_of_the_variants(name, scale, options, count):
    assert trainable(name, scale, **options) == count


def test_the_quoted_count_of_memnet_counts_the_shared_convolution_six_times_and_no_scalars():
    shared = 9 * 64 + 1
    assert PUBLISHED["memnet"][2] + 5 * shared - 6 == 2_914_056
    # and the paper's 677K are the weights of convolutions alone, each block's units sharing theirs
    with torch.device("meta"):
        network = models.create("memnet", 2)
    convolutions = [m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert sum(convolutions) - 6 * 5 * 2 * 36_864 == 676_992


def test_every_network_is_counted():
    assert sorted([*PUBLISHED, "cnn-sr", "edsr"]) == sorted(TRAINED)
    for name in TRAINED:
        assert set(models.SIZES[name]) == {"mini", "base", "paper"}
        assert trainable(name, 2, "mini") < trainable(name, 2, "base") <= trainable(name, 2, "paper")


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", TRAINED)
def test_a_network_keeps_the_contract(name, scale):
    lr = image(2, 3, 5, 7).requires_grad_()
    network = mini(name, scale)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            sr = network(lr)
        assert sr.shape == (2, 3, 5 * scale, 7 * scale) and sr.dtype == torch.float32
        assert sr.isfinite().all() and sr.detach().abs().max() < 10
        network.zero_grad()
        lr.grad = None
        sr.square().sum().backward()
        assert lr.grad.isfinite().all() and lr.grad.any()
        for key, parameter in network.named_parameters():
            assert not parameter.requires_grad or parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", TRAINED)
def test_a_network_in_half_precision_as_a_whole_gives_nearly_the_same_image(name, scale):
    """`network.bfloat16()`, not autocast: sr is in single precision all the same, and gradients are finite."""
    network, lr = mini(name, scale).eval(), image(1, 3, 5, 7).bfloat16()
    if name == "irn":  # begins as a Haar transform, in which half precision has nothing to do
        network.operations[1].F.conv5.weight.data.fill_(0.01)
    expected = network(lr.float()).detach()
    sr = network.bfloat16()(lr.requires_grad_())
    # Eight bits of every feature, in networks not trained yet.
    torch.testing.assert_close(sr, expected, rtol=0, atol=0.05 * expected.abs().max().item())
    sr.square().sum().backward()
    assert lr.grad.isfinite().all() and lr.grad.any()
    for key, parameter in network.named_parameters():
        assert not parameter.requires_grad or parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", TRAINED)
def test_a_network_learns(name):
    """Thirty steps on one batch; no network may stay where it began, whatever the batch."""
    hr = smooth(2, 3, 24, 16)
    lr = functional.avg_pool2d(hr, 2)
    network = mini(name).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss = (network(lr) - hr).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.9 * losses[0]
    still = [key for key, p in network.named_parameters() if p.requires_grad and not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", TRAINED)
def test_doubles_stay_doubles_and_a_pixel_is_an_image(name):
    network = mini(name).double().eval()
    lr = image(1, 3, 2, 2).double()
    assert network(lr).dtype == torch.float64
    if name == "srresnet":
        return  # nothing can be normalised by one pixel in training; in use it can
    assert network(lr[..., :1, :1]).isfinite().all()


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (1, 3, 0, 8)])
@pytest.mark.parametrize("name", [name for name in TRAINED if name not in ("edsr", "rcan", "srram")])
def test_other_shapes_are_refused(name, shape):
    with pytest.raises(ValueError, match=r"lr is \(.*expected \(N, 3, h, w\)"):
        mini(name)(torch.zeros(shape))


@pytest.mark.parametrize(("make", "told"), [
    (lambda: mini("carn", 6), "CARN has no scale 6: use 1, 3 or a power of 2"),
    (lambda: mini("rcan", 0), "scale=0 is not a whole number >= 1"),
    (lambda: mini("srram", 5), "SRRAM has no scale 5"),
    (lambda: mini("rrdb", 3), "RRDB has no scale 3: use a power of 2"),
    (lambda: mini("ddbpn", 3), "D-DBPN has no scale 3: use 2, 4 or 8"),
    (lambda: mini("lapsrn", 3), "LapSRN has no scale 3: use 2, 4 or 8"),
    (lambda: mini("msrresnet", 8), "MSRResNet has no scale 8: use 2, 3 or 4"),
    (lambda: mini("cnn-sr", 3), "CNN-SR has no scale 3: use an even number"),
    (lambda: mini("vdsr", 1.5), "scale=1.5 is not a whole number"),
    (lambda: mini("vdsr", colours=2), r"VDSR cannot have colours=2: use 1 \(luma\) or 3 \(RGB\)"),
    (lambda: mini("vdsr", depth=0), "VDSR cannot have depth=0: it is a whole number >= 1"),
    (lambda: mini("rdn", growth=2.5), "RDN cannot have growth=2.5"),
    (lambda: mini("rcan", reduction=64), "RCAN cannot have reduction=64 of 32 channels"),
    (lambda: mini("carn", groups=3), "CARN cannot have channels=20 in groups=3"),
    (lambda: mini("lapsrn", up_kernel=5), "LapSRN cannot have up_kernel=5"),
    (lambda: mini("srresnet", norm="layer"), "SRResNet cannot have norm='layer': use one of batch, instance"),
    (lambda: mini("srcnn", sizes=(9, 4, 5)), "SRCNN cannot have sizes="),
    (lambda: mini("cnn-sr", depth=2), "CNN-SR cannot have depth=2"),
])  # fmt: skip
def test_a_network_that_cannot_be_made_is_refused(make, told):
    with pytest.raises(ValueError, match=told) as refusal:
        make()
    assert "\n" not in str(refusal.value)


def chroma(rgb):
    """Cb and Cr of BT.601 up to a factor: B - Y' and R - Y', with Y' the luma without swing and offset."""
    y = (luma(rgb) - 16 / 255) * 255 / 219
    return torch.cat([rgb[:, 2:] - y, rgb[:, :1] - y], 1)


def test_luma_is_matlabs():
    """rgb2ycbcr of white, black and pure red, green and blue: 235, 16, 81.481, 144.553, 40.966."""
    colours = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).double()[:, :, None, None]
    expected = torch.tensor([235, 16, 81.481, 144.553, 40.966]).double()
    torch.testing.assert_close(luma(colours).flatten() * 255, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ON_LUMA)
def test_a_network_of_the_luma_leaves_chroma_to_bicubic(name):
    lr, network = image(1, 3, 6, 5), mini(name)
    sr, bicubic = network(lr), Bicubic(2)(lr)
    torch.testing.assert_close(chroma(sr), chroma(bicubic), rtol=0, atol=1e-5)
    assert (luma(sr) - luma(bicubic)).abs().max() > 1e-4
    torch.testing.assert_close(luma(sr), network.restore(luma(lr), luma(bicubic)), rtol=0, atol=1e-5)
    in_colour = mini(name, colours=3)(lr)
    assert (chroma(in_colour) - chroma(bicubic)).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["vdsr", "dncnn", "drrn", "memnet", "zssr", "cnn-sr"])
@pytest.mark.parametrize("scale", [2, 4])
def test_a_global_residual_of_zero_is_bicubic(name, scale):
    network, lr = mini(name, scale).eval(), image(1, 3, 5, 6)
    last = {"drrn": "output", "memnet": "last"}.get(name) or f"model.{len(network.model) - 1}"
    zero(network.get_submodule(last))
    torch.testing.assert_close(network(lr), Bicubic(scale)(lr), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["vdsr", "dncnn", "cnn-sr"])
def test_a_deep_plain_network_begins_near_bicubic_and_not_at_it(name):
    """PyTorch's own initialisation keeps 0.4 of the signal per layer: twenty leave nothing to learn from."""
    network, lr = mini(name, depth=20), image(1, 3, 8, 8)
    residual = network(lr) - Bicubic(2)(lr)
    assert 1e-3 < residual.std() < 0.3


def zero(layer):
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


@pytest.mark.parametrize(("name", "last"), [("rcan", "tail.1"), ("srram", "tail.1"), ("carn", "exit")])
def test_a_mean_shifted_network_without_a_last_layer_gives_the_mean_colour(name, last):
    network = mini(name)
    zero(network.get_submodule(last))
    expected = torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1).expand(1, 3, 6, 4)
    torch.testing.assert_close(network(image(1, 3, 3, 2)), expected)


def test_msrresnet_adds_to_the_bilinear_enlargement():
    network, lr = mini("msrresnet", 4), image(1, 3, 4, 5)
    zero(network.conv_last)
    torch.testing.assert_close(network(lr), functional.interpolate(lr, scale_factor=4, mode="bilinear"))


def test_lapsrn_begins_as_a_bilinear_pyramid():
    network, lr = mini("lapsrn", 4), image(1, 1, 6, 7)
    for level in network.levels:
        zero(level.residual)
    bilinear = lr
    for _ in range(2):
        bilinear = functional.interpolate(bilinear, scale_factor=2, mode="bilinear")
    inside = (..., slice(4, -4), slice(4, -4))  # transposed convolutions see zeros beyond the rim
    torch.testing.assert_close(network.restore(lr, None)[inside], bilinear[inside], rtol=0, atol=1e-6)


def test_the_two_feature_kernels_of_lapsrn_agree_where_they_can():
    """A 3x3 kernel cropped at the end is the 4x4 kernel that begins with zeros: the release's crop, as in the sheet."""
    three, four = mini("lapsrn"), mini("lapsrn", up_kernel=4)
    state = three.state_dict()
    wide = torch.zeros_like(four.levels[0].up.weight)
    wide[..., 1:, 1:] = state["levels.0.up.weight"]
    four.load_state_dict(state | {"levels.0.up.weight": wide})
    lr = image(1, 3, 5, 6)
    torch.testing.assert_close(four(lr), three(lr), rtol=0, atol=1e-6)


def test_drrn_without_norm_rectifies_its_skip():
    """The formula, with the ReLU of the public weights' code, which changes its argument."""
    network, y = mini("drrn", units=2), image(1, 1, 5, 6) - 0.2
    weights = network.state_dict()

    def convolve(x, name):
        return functional.conv2d(x, weights[f"{name}.weight"], padding=1)

    skip = convolve(y.clamp_min(0), "input").clamp_min(0)
    features = skip
    for _ in range(2):
        features = skip + convolve(convolve(features.clamp_min(0), "conv1").clamp_min(0), "conv2")
    expected = y + convolve(features.clamp_min(0), "output")
    torch.testing.assert_close(network.restore(None, y), expected, rtol=0, atol=1e-6)


def test_the_published_drrn_normalises_every_unit_by_itself():
    network = mini("drrn", norm=True)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    units = models.SIZES["drrn"]["mini"]["units"]
    assert len(norms) == 2 * units + 2 and norms[0].num_features == 1
    network(image(1, 3, 4, 5)).sum().backward()
    assert all(norm.weight.grad is not None for norm in norms)


def test_ddbpn_joins_its_maps_newest_first():
    """Three stages written out; the order of the maps decides whether a checkpoint fits."""
    network, lr = mini("ddbpn", stages=3), image(1, 3, 4, 5)
    low = network.feat1(network.feat0(lr))
    h1 = network.up1(low)
    l1 = network.down1(h1)
    h2 = network.up2(l1)
    l2 = network.down2(torch.cat([h2, h1], 1))
    h3 = network.up3(torch.cat([l2, l1], 1))
    expected = network.output_conv(torch.cat([h3, h2, h1], 1))
    torch.testing.assert_close(network(lr), expected)
    back = network.up1.up_conv2(network.up1.up_conv1(low))
    projected = network.up1.up_conv1(low) + network.up1.up_conv3(back - low)
    torch.testing.assert_close(h1, projected)


def test_a_cascade_of_carn_m_uses_one_block_three_times():
    network, x = mini("carn-m"), image(1, 32, 4, 5)
    b, cascade = network.b1.b1, network.b1
    o1 = cascade.c1(torch.cat([x, b(x)], 1))
    o2 = cascade.c2(torch.cat([x, b(x), b(o1)], 1))
    o3 = cascade.c3(torch.cat([x, b(x), b(o1), b(o2)], 1))
    torch.testing.assert_close(cascade(x), o3)


def test_channel_attention_follows_the_means():
    from carlib.models.rcan import ChannelAttention

    attention, x = ChannelAttention(8, 4), image(2, 8, 3, 5)
    first, _, second, _ = attention.conv_du
    pooled = x.mean((2, 3))
    hidden = functional.relu(pooled @ first.weight[:, :, 0, 0].T + first.bias)
    factor = torch.sigmoid(hidden @ second.weight[:, :, 0, 0].T + second.bias)
    torch.testing.assert_close(attention(x), x * factor[:, :, None, None])


def test_srresnet_is_trained_for_images_between_minus_1_and_1():
    network = mini("srresnet")
    zero(network.conv_output)
    nn.init.ones_(network.conv_output.bias)
    torch.testing.assert_close(network(image(1, 3, 3, 4)), torch.ones(1, 3, 6, 8))


@pytest.mark.parametrize(("scale", "steps"), [(1, []), (2, [2]), (3, [3]), (4, [2, 2]), (8, [2, 2, 2])])
def test_an_enlargement_goes_in_steps(scale, steps):
    assert factors("x", scale) == steps


def test_the_last_layer_begins_with_a_tenth_of_hes_weights():
    layers = nn.Sequential(*(nn.Conv2d(16, 32, 3) for _ in range(2)))
    torch.manual_seed(0)
    begin_near_bicubic(layers, layers[1])
    he = (2 / (16 * 9)) ** 0.5
    assert [layer.weight.std().item() for layer in layers] == pytest.approx([he, 0.1 * he], rel=0.05)
    assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize("scale", [0, -2, 0.5, 6])
def test_a_network_has_no_scale_that_is_no_power_of_2(scale):
    for steps in (factors, doublings):
        with pytest.raises(ValueError, match=f"x has no scale {scale}: use .*a power of 2"):
            steps("x", scale)


def test_the_base_class_restores_nothing():
    with pytest.raises(NotImplementedError):
        LumaNetwork(2)(image(1, 3, 3, 3))


def test_the_summary_counts_multiply_adds_by_hand():
    """EDSR mini at x2, per LR pixel: head, nine convolutions of the body, the tail, and the last one on 4 pixels."""
    table = models.summary(("mini",), (2,)).set_index("network")
    assert list(table.index) == list(models.SIZES)
    per_lr_pixel = 9 * (3 * 32 + 9 * 32 * 32 + 32 * 128 + 4 * 32 * 3)
    assert table.gigamacs["edsr"] == pytest.approx(per_lr_pixel / 4 / 1e3, rel=1e-6)
    assert table.parameters["edsr"] == trainable("edsr", 2, "mini") and table.parameters["bicubic"] == 0
    # VDSR works on HR pixels; beside its own layers 25 taps of bicubic for each colour
    layers = 9 * (16 + 6 * 16 * 16 + 16)
    assert table.gigamacs["vdsr"] == pytest.approx((layers + 3 * 25) / 1e3, rel=1e-6)


def test_mini_costs_about_what_the_mini_edsr_does():
    table = models.summary(("mini",), (2,)).set_index("network").drop("bicubic")
    share = table.gigamacs / table.gigamacs["edsr"]
    assert share.between(0.35, 1.5).all()


def test_a_network_without_the_scale_is_left_out_of_the_summary():
    assert "ddbpn" not in set(models.summary(("mini",), (3,)).network)
    with pytest.raises(ValueError, match="size 'huge' of resampler is unknown"):
        models.summary(("huge",))
    with pytest.raises(ValueError, match=r"no network has a scale of \(0,\)"):
        models.summary(("mini",), (0,))


def test_networks_are_imported_when_used():
    import subprocess
    import sys

    code = "import sys; from carlib import models; models.SIZES; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'EDRS'"):
        _ = models.EDRS
    assert set(models.__all__) <= set(dir(models))
    assert models.file_of("carn-m") == "models/carn.py" and models.file_of("cnn-sr") == "models/cnn_sr.py"
