"""The two doors for a user's image: sizes come back, grey stays grey, and what does not fit is refused in one line."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from carlib import downscale, imresize, method_networks, models, pixels, rescale, upscale, weights
from carlib.downscalers.dpid import dpid
from carlib.downscalers.l0 import l0
from carlib.downscalers.perceptual import perceptual


def picture(*shape, seed=0):
    """A smooth uint8 image with some noise."""
    draw, (height, width) = np.random.default_rng(seed), shape[:2]
    y, x = np.mgrid[:height, :width]
    wave = 128 + 80 * np.sin(x / 5 + 0.3) * np.cos(y / 7)
    wave = wave[..., None] + np.arange(3) * 9 if len(shape) == 3 else wave
    return np.clip(wave + draw.normal(0, 5, shape), 0, 255).astype(np.uint8)


def specifications(scale, upscaler="edsr"):
    made = {"upscaler": {"name": upscaler, "scale": scale, "size": "mini"}}
    made["upscaler"] |= {"blocks": 1, "channels": 8} if upscaler == "edsr" else {}
    made["resampler"] = {"name": "resampler", "scale": scale, "size": "mini", "width": 8, "blocks": 1}
    return made


@pytest.fixture
def pair(tmp_path):
    """pair(scale, role, ...) writes a weights file with those networks."""

    def write(scale, *roles, upscaler="edsr"):
        torch.manual_seed(0)
        made = {role: specifications(scale, upscaler)[role] for role in roles or ("upscaler", "resampler")}
        networks = nn.ModuleDict({role: models.create(**options) for role, options in made.items()})
        path = tmp_path / f"x{scale}-{'-'.join(made)}-{upscaler}.safetensors"
        weights.save(networks, path, {"networks": made})
        return path

    return write


@pytest.mark.parametrize("method", ["bicubic", "lanczos", "box"])
@pytest.mark.parametrize(("scale", "shape"), [(2, (8, 12, 3)), (3, (9, 6)), (4, (8, 4, 3))])
def test_a_filter_downscales_as_imresize(method, scale, shape):
    kernel = {"bicubic": "cubic", "lanczos": "lanczos3", "box": "box"}[method]
    expected = imresize(picture(*shape), 1 / scale, kernel=kernel)
    np.testing.assert_array_equal(downscale(picture(*shape), scale, method), expected)


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1), (2, 3)])
def test_bicubic_upscales_as_imresize(shape):
    np.testing.assert_array_equal(upscale(picture(*shape), 3, "bicubic"), imresize(picture(*shape), 3))


@pytest.mark.parametrize("method", ["bicubic", "lanczos", "car"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("shape", [(21, 34, 3), (18, 23), (1, 1), (1, 9, 3), (3, 2), (16, 24, 3)])
def test_pad_and_size_restore_the_exact_size(pair, method, scale, shape):
    options = {"weights": pair(scale)} if method == "car" else {}
    hr = picture(*shape)
    lr = downscale(hr, scale, method, pad=True, **options)
    assert lr.shape == (-(-shape[0] // scale), -(-shape[1] // scale), *shape[2:])
    sr = upscale(lr, scale, method, size=shape[:2], **options)
    assert sr.shape == hr.shape and sr.dtype == lr.dtype == np.uint8


def test_padding_continues_the_image_by_its_mirror():
    hr = picture(7, 9, 3)
    mirrored = np.concatenate([np.concatenate([hr, hr[-1:]], 0), np.concatenate([hr, hr[-1:]], 0)[:, :-4:-1]], 1)
    np.testing.assert_array_equal(downscale(hr, 4, "bicubic", pad=True), downscale(mirrored, 4, "bicubic"))


def test_padding_changes_nothing_where_it_is_not_needed(pair):
    hr, path = picture(8, 12, 3), pair(2)
    for options in ({"method": "box"}, {"weights": path}):
        np.testing.assert_array_equal(downscale(hr, 2, pad=True, **options), downscale(hr, 2, **options))


@pytest.mark.parametrize("scale", [2, 4])
def test_grey_through_car_stays_grey(pair, scale):
    hr, path = picture(16, 24), pair(scale)
    lr = downscale(hr, scale, weights=path)
    coloured = downscale(np.repeat(hr[..., None], 3, axis=2), scale, weights=path)
    assert lr.ndim == 2
    np.testing.assert_array_equal(coloured, np.repeat(lr[..., None], 3, axis=2))  # all three channels, exactly
    sr = upscale(lr, scale, weights=path)
    assert sr.shape == hr.shape
    in_colour = upscale(coloured, scale, weights=path).astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(sr - in_colour).max() <= 1.01  # both are rounded


def test_a_constant_image_keeps_its_colour_through_car(pair):
    hr = np.full((16, 8, 3), (200, 17, 90), np.uint8)
    np.testing.assert_array_equal(downscale(hr, 4, weights=pair(4)), hr[:4, :2])


def test_car_with_the_fixed_upscaler_is_bicubic(pair):
    path, lr = pair(2, upscaler="bicubic"), picture(9, 7, 3)
    difference = upscale(lr, 2, weights=path).astype(int) - upscale(lr, 2, "bicubic")
    assert np.abs(difference).max() <= 1  # float32 against float64 before rounding


def test_edsr_takes_the_upscaler_of_any_run(pair):
    lr = picture(6, 5, 3)
    a, b = (upscale(lr, 2, method, weights=pair(2)) for method in ("edsr", "car"))
    np.testing.assert_array_equal(a, b)


def test_the_image_itself_is_not_changed(pair):
    hr = picture(7, 9, 3)
    before = hr.copy()
    downscale(hr, 2, weights=pair(2), pad=True)
    upscale(hr, 2, weights=pair(2))
    np.testing.assert_array_equal(hr, before)


def test_views_are_taken_as_they_are(pair):
    hr, path = picture(32, 48, 3), pair(2)
    view = hr[::-2, 1::3]
    np.testing.assert_array_equal(downscale(view, 2, weights=path), downscale(view.copy(), 2, weights=path))
    read_only = hr[:8, :8].copy()
    read_only.flags.writeable = False
    assert upscale(read_only, 2, weights=path).shape == (16, 16, 3)


def test_a_weights_file_that_changed_is_read_again(pair):
    path, lr = pair(2), picture(6, 5, 3)
    before = upscale(lr, 2, weights=path)
    networks, metadata = weights.load_run(path)
    networks["upscaler"].tail[1].bias.data += 0.2
    weights.save(networks, path, metadata)
    assert upscale(lr, 2, weights=path).mean() > before.mean() + 20


def test_shipped_weights_are_found_by_scale(home, pair):
    (home / "data").unlink()
    (home / "data" / "weights").mkdir(parents=True)
    pair(2).rename(home / "data" / "weights" / "car-edsr-x2.safetensors")
    assert upscale(downscale(picture(6, 8, 3), 2), 2).shape == (6, 8, 3)
    told = "no weights of {} are shipped for scale {}: give your own"
    assert_refused(told.format("car-edsr", "3, only for scale 2"), downscale, picture(6, 9), 3)
    assert_refused(told.format("bicubic-edsr", "2, for no scale"), upscale, picture(6, 9), 2, "edsr")
    with pytest.raises(ValueError, match=r"bicubic-edsr-jpeg .*, or use method bicubic \(CARLIB_HOME is .*\)$"):
        upscale(picture(6, 9), 3, "edsr-jpeg")


def assert_refused(told, door, *arguments, **options):
    with pytest.raises(ValueError, match=told) as refusal:
        door(*arguments, **options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("door", [downscale, upscale])
@pytest.mark.parametrize(("image", "told"), [
    (np.zeros((8, 8, 3)), "float64, not uint8"),
    (np.full((8, 8), np.nan, np.float32), "float32 and holds NaN, not uint8"),
    (np.zeros((8, 8), np.uint16), "uint16, not uint8"),
    (np.zeros((8, 8), bool), "bool, not uint8"),
    (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\), expected \(H, W\) or \(H, W, 3\)"),
    (np.zeros((8, 8, 1), np.uint8), r"shape \(8, 8, 1\)"),
    (np.zeros(8, np.uint8), r"shape \(8,\)"),
    (np.zeros((1, 8, 8, 3), np.uint8), r"shape \(1, 8, 8, 3\)"),
    (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
    ("image.png", "is a str, not a NumPy array: read it with carlib.data.read_image"),
    (torch.zeros(3, 8, 8), "is a Tensor, not a NumPy array"),
])  # fmt: skip
def test_what_is_no_8_bit_image_is_refused(door, image, told):
    assert_refused(told, door, image, 2, "bicubic")


@pytest.mark.parametrize("door", [downscale, upscale])
@pytest.mark.parametrize("scale", [1, 0, -2, 2.5, 2.0, True, "2", None, float("nan")])
def test_a_scale_is_a_whole_number_from_2(door, scale):
    assert_refused(f"scale={re.escape(repr(scale))} is not a whole number >= 2", door, picture(8, 8), scale, "bicubic")


@pytest.mark.parametrize("method", ["bicubic", "car"])
def test_other_sizes_are_refused_with_the_remedy(method):
    told = r"the image is 9x7 \(width x height\), not a multiple of scale=4: crop it, or pad it to 12x8 with pad"
    assert_refused(told, downscale, picture(7, 9, 3), 4, method)


def test_unknown_methods_are_refused():
    assert_refused("'nearest' is unknown: use best or one of bicubic, .*, car", downscale, picture(8, 8), 2, "nearest")
    upscalers = "bicubic, lanczos, edsr, edsr-jpeg, zssr, car"
    assert_refused(f"'box' is unknown: use one of {upscalers}", upscale, picture(8, 8), 2, "box")
    assert_refused("'edsr' is unknown", downscale, picture(8, 8), 2, "edsr")


@pytest.mark.parametrize("size", [(9, 8), (8, 6), (0, 8), (8, 8, 3), (8,), (7.5, 8), (8.0, 8.0), 8, "8x8"])
def test_a_size_that_does_not_belong_is_refused(size):
    assert_refused("size.* (does not belong|is not)", upscale, picture(4, 4), 2, "bicubic", size)


def test_sizes_in_messages_are_width_by_height():
    told = r"size 7x8 does not belong to an LR image of 3x4 at scale=2: it must be 5\.\.6 x 7\.\.8 \(width x height\)"
    assert_refused(told, upscale, picture(4, 3), 2, "bicubic", (8, 7))


def test_a_size_that_belongs_is_cut(pair):
    lr = picture(4, 5)
    for method, options in (("bicubic", {}), ("car", {"weights": pair(4)})):
        whole = upscale(lr, 4, method, **options)
        np.testing.assert_array_equal(upscale(lr, 4, method, (13, 20), **options), whole[:13])
        np.testing.assert_array_equal(upscale(lr, 4, method, [16, 17], **options), whole[:, :17])


def test_weights_that_do_not_fit_are_refused(pair, tmp_path):
    hr = picture(8, 8, 3)
    assert_refused("x4-.* is for scale 4, not 2", downscale, hr, 2, weights=pair(4))
    assert_refused("x4-.* is for scale 4, not 2", upscale, hr, 2, weights=pair(4))
    assert_refused("holds no resampler: it belongs to an upscaler", downscale, hr, 2, weights=pair(2, "upscaler"))
    assert_refused("holds no upscaler", upscale, hr, 2, weights=pair(2, "resampler"))
    assert_refused("no weights at", downscale, hr, 2, weights=tmp_path / "none.safetensors")
    assert_refused("has no weights: leave weights out", downscale, hr, 2, "bicubic", weights=pair(2))
    assert_refused("has no weights: leave weights out", upscale, hr, 2, "lanczos", weights=pair(2))
    assert_refused("has no weights: leave weights out", upscale, hr, 2, "zssr", weights=pair(2))


def test_weights_that_say_nothing_of_their_networks_are_refused(tmp_path):
    weights.save(models.create("edsr", 2, "mini"), tmp_path / "a.safetensors")
    assert_refused(
        "does not say which networks it holds", upscale, picture(4, 4), 2, weights=tmp_path / "a.safetensors"
    )


def test_tensors_and_images_are_the_same_pixels():
    hr = picture(4, 6, 3)
    tensor = pixels.to_tensor(hr)
    assert tensor.shape == (1, 3, 4, 6)
    np.testing.assert_array_equal((tensor[0] * 255).round().byte().permute(1, 2, 0).numpy(), hr)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_a_narrow_numpy_scale_is_a_scale(kind):
    lr = picture(200, 130, 3)
    np.testing.assert_array_equal(upscale(lr, kind(2), "bicubic"), upscale(lr, 2, "bicubic"))
    np.testing.assert_array_equal(downscale(lr, kind(2), "bicubic"), downscale(lr, 2, "bicubic"))


@pytest.mark.parametrize("role", ["resampler", "upscaler"])
def test_a_network_that_makes_no_numbers_is_refused_not_shown_as_black(role):
    network = models.create(**specifications(2)[role])
    with torch.no_grad():
        next(p for p in network.parameters() if p.requires_grad).fill_(math.inf)
    call = rescale.learned_downscale if role == "resampler" else rescale.restore
    with pytest.raises(ValueError, match=r"the (down|up)scaler made values that are not finite"):
        call(network.eval(), picture(16, 16, 3))


def test_zssr_cuts_what_was_padded():
    lr = picture(8, 9, 3)
    whole = upscale(lr, 2, "zssr", steps=0)
    np.testing.assert_array_equal(upscale(lr, 2, "zssr", (15, 18), steps=0), whole[:15])
    np.testing.assert_array_equal(upscale(lr, 2, "zssr", (16, 17), steps=0), whole[:, :17])


class Colouring(nn.Module):
    """Beyond white and black as an upscaler; as a downscaler of other colours than its image."""

    def forward(self, lr):
        return torch.cat([torch.full_like(lr, 1.1), torch.full_like(lr, -0.1)], 3).repeat_interleave(2, 2)

    def downscale(self, hr):
        return torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, hr.shape[2] // 2, hr.shape[3] // 2), None


def test_what_is_brighter_than_white_or_darker_than_black_becomes_white_and_black():
    for shape in ((4, 3, 3), (4, 3)):
        sr = pixels.to_8_bits(rescale.restore(Colouring(), picture(*shape)))
        assert (sr[:, :3] == 255).all() and (sr[:, 3:] == 0).all()


def test_of_a_grey_image_that_a_downscaler_colours_the_luma_is_kept():
    network = Colouring()
    network.scale = 2
    lr = rescale.learned_downscale(network, picture(6, 8))
    np.testing.assert_array_equal(lr, np.full((3, 4), round(255 * (0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6))))


# ---- the classical downscalers behind the door ----


def test_the_door_passes_options_on():
    image = picture(16, 24, 3)
    np.testing.assert_array_equal(downscale(image, 4, "perceptual"), perceptual(image, 4))
    published = perceptual(image, 4, "as-published")
    np.testing.assert_array_equal(downscale(image, 4, "perceptual", variant="as-published"), published)
    options = {"lambda_": 0.3, "rounding": "truncate"}
    np.testing.assert_array_equal(downscale(image, 4, "dpid", **options), dpid(image, (4, 6), **options))
    np.testing.assert_array_equal(downscale(image, 4, "l0", lambda_=0.01), l0(image, 4, lambda_=0.01))
    np.testing.assert_array_equal(downscale(image, 4, "l0", variant="surrogate"), l0(image, 4, "surrogate"))


def test_the_names_of_runs_are_methods_with_options():
    image = picture(8, 12, 3)
    np.testing.assert_array_equal(rescale.classical("dpid")(image, 2), dpid(image, (4, 6), 1.0))
    np.testing.assert_array_equal(rescale.classical("dpid-0.5")(image, 2), dpid(image, (4, 6), 0.5))
    np.testing.assert_array_equal(rescale.classical("l0-surrogate")(image, 2), l0(image, 2, "surrogate"))
    with pytest.raises(ValueError, match="downscaler 'car' is unknown: use one of bicubic, lanczos"):
        rescale.classical("car")


@pytest.mark.parametrize("method", ["bicubic", "lanczos", "box", "dpid"])
def test_a_size_may_be_any_up_to_the_images(method):
    image = picture(21, 34, 3)
    for size in ((5, 9), (21, 34), [1, 1], (np.uint8(20), 3)):
        lr = downscale(image, method=method, size=size)
        assert lr.shape == (*size, 3) and lr.dtype == np.uint8
    np.testing.assert_array_equal(downscale(image, method=method, size=(21, 34)), image)
    np.testing.assert_array_equal(
        downscale(image[:20, :32], method=method, size=(5, 8)), downscale(image[:20, :32], 4, method)
    )


@pytest.mark.parametrize("method", ["perceptual", "dpid", "l0"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9, 3), (3, 2), (21, 34, 3)])
def test_pad_takes_every_size(method, shape):
    lr = downscale(picture(*shape), 4, method, pad=True)
    assert lr.shape == (-(-shape[0] // 4), -(-shape[1] // 4), *shape[2:])


@pytest.mark.parametrize(("arguments", "told"), [
    ({"method": "perceptual", "scale": 3}, "not a multiple of scale=3: crop it, or pad"),
    ({"method": "dpid", "scale": 16}, "not a multiple of scale=16"),  # larger than the image
    ({"method": "l0", "scale": 2.5}, "scale=2.5 is not a whole number >= 2"),
    ({"method": "dpid"}, "scale=None is not a whole number >= 2"),
    ({"method": "dpid", "scale": 2, "size": (4, 4)}, "give either scale or size"),
    ({"method": "car", "size": (4, 4)}, "'car' takes no size: give scale, or use method bicubic, lanczos, box, dpid"),
    ({"method": "perceptual", "size": (4, 4)}, "'perceptual' takes no size"),
    ({"method": "l0", "size": (4, 4)}, "'l0' takes no size"),
    ({"method": "dpid", "size": (4, 4), "pad": True}, "pad belongs to scale"),
    ({"method": "dpid", "size": (9, 4)}, r"size 4x9 is larger than the image of 10x8 \(width x height\)"),
    ({"method": "bicubic", "size": (4, 11)}, "size 11x4 is larger than the image of 10x8"),
    ({"method": "bicubic", "scale": 1 << 15, "pad": True}, r"the image is 10x8 \(width x height\), not a multiple of "
     "scale=32768, and padded to 32768x32768 it would take too much memory: use a smaller scale"),
    ({"method": "l0", "scale": 10**30}, "not a multiple of scale=10{30}, and padded to 10{30}x10{30} it would"),
    ({"method": "dpid", "size": (0, 4)}, r"size=\(0, 4\) is not \(height, width\) in whole pixels >= 1"),
    ({"method": "dpid", "size": (4.0, 4)}, "is not .height, width. in whole pixels"),
    ({"method": "dpid", "size": (4, True)}, "is not .height, width. in whole pixels"),
    ({"method": "dpid", "size": 4}, "size=4 is not"),
    ({"method": "dpid", "size": (4, 4, 3)}, "is not .height, width."),
    ({"method": "bicubic", "scale": 2, "variant": "paper"}, "'bicubic' has no variant: leave variant out, or use "
     "method perceptual or l0"),
    ({"method": "perceptual", "scale": 2, "lambda_": 1}, "'perceptual' has no lambda: leave lambda out, or use method "
     "dpid or l0"),
    ({"method": "l0", "scale": 2, "rounding": "nearest"}, "'l0' has no rounding"),
    ({"method": "dpid", "scale": 2, "weights": "w"}, "'dpid' has no weights: leave weights out, or use method car"),
    ({"method": "perceptual", "scale": 2, "variant": "surrogate"}, "variant='surrogate' of perceptual is unknown: use"),
    ({"method": "l0", "scale": 2, "variant": "paper"}, "variant='paper' of l0 is unknown"),
    ({"method": "l0", "scale": 2, "variant": "surrogate", "lambda_": 1}, "variant 'surrogate' of l0 has no lambda"),
    ({"method": "l0", "scale": 2, "lambda_": -1e-4}, "lambda=-0.0001 of l0 is not a number from 0 to 1"),
    ({"method": "l0", "scale": 2, "lambda_": 1.01}, "lambda=1.01 of l0"),
    ({"method": "l0", "scale": 2, "lambda_": math.nan}, "lambda=nan of l0"),
    ({"method": "dpid", "scale": 2, "lambda_": math.nan}, "lambda=nan of dpid is not a number from 0 to 100"),
    ({"method": "dpid", "scale": 2, "lambda_": 101}, "lambda=101 of dpid"),
    ({"method": "dpid", "scale": 2, "lambda_": "1"}, "lambda='1' of dpid"),
    ({"method": "dpid", "scale": 2, "lambda_": True}, "lambda=True of dpid"),
    ({"method": "dpid", "scale": 2, "rounding": "floor"}, "rounding='floor' of dpid is unknown: use one of nearest"),
])  # fmt: skip
def test_what_a_method_does_not_take_is_refused_in_one_line(arguments, told):
    with pytest.raises(ValueError, match=told) as refusal:
        downscale(picture(8, 10, 3), **arguments)
    assert "\n" not in str(refusal.value)


def test_networks_enlarge_in_half_precision_where_that_is_asked_for(pair):
    lr, options = picture(20, 24, 3), {"weights": pair(2)}
    single, half = upscale(lr, 2, **options), upscale(lr, 2, precision="bfloat16", **options)
    assert (single != half).any() and np.abs(single.astype(int) - half).max() <= 3
    np.testing.assert_array_equal(upscale(lr, 2, precision="float32", **options), single)
    assert_refused("precision='half' is unknown: use float32 or bfloat16", upscale, lr, 2, precision="half")
    assert_refused("'bicubic' has no precision", upscale, lr, 2, "bicubic", precision="float32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_makes_the_same_images(pair):
    hr, options = picture(96, 120, 3), {"weights": pair(2)}
    lr, on_gpu = (downscale(hr, 2, device=device, **options) for device in ("cpu", "cuda"))
    assert np.abs(lr.astype(int) - on_gpu).max() <= 1 and np.mean(lr != on_gpu) < 0.01
    sr, on_gpu = (upscale(lr, 2, device=device, tile=64, **options) for device in ("cpu", "cuda"))
    assert np.abs(sr.astype(int) - on_gpu).max() <= 1 and np.mean(sr != on_gpu) < 0.05  # convolutions in TF32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_callers_default_dtype_and_autocast_change_nothing(pair, dtype):
    image, path = picture(16, 24, 3), pair(2)
    before = downscale(image, 2, weights=path)
    restored = upscale(before, 2, weights=path)
    method_networks._load.cache_clear()
    torch.set_default_dtype(dtype)
    try:
        with torch.inference_mode():
            found = downscale(image, 2, weights=path), upscale(before, 2, weights=path)
    finally:
        torch.set_default_dtype(torch.float32)
    again = downscale(image, 2, weights=path)  # by the networks that are kept
    with torch.autocast("cpu", torch.bfloat16):
        mixed = downscale(image, 2, weights=path), upscale(before, 2, weights=path)
    for lr, sr in (found, mixed, (again, restored)):
        np.testing.assert_array_equal(lr, before)
        np.testing.assert_array_equal(sr, restored)


def test_results_are_contiguous_as_other_libraries_want_them(pair):
    image, path = picture(16, 24, 3), pair(2)
    made = [downscale(image, 2, "l0"), downscale(image, 2, weights=path), upscale(image, 2, weights=path)]
    made += [upscale(image, 2, "bicubic", (31, 47)), upscale(image, 2, weights=path, size=(31, 47))]
    assert all(found.flags.c_contiguous for found in made)


def test_an_empty_name_is_no_weights_file():
    with pytest.raises(ValueError, match="no weights at"):
        upscale(picture(8, 8, 3), 2, "edsr", weights="")
