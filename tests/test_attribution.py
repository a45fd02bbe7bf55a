"""Where the gain comes from: each variant changes the one part that its name says."""

import numpy as np
import pytest
import torch

from carlib import data, figures, pixels, rescale
from carlib.models import ResamplerNet
from carlib.studies import attribution

LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def image():
    return dict(data.load("demo"))["kodim23"][:64, 100:180]


@pytest.fixture(scope="module")
def resampler():
    torch.manual_seed(0)
    net = ResamplerNet(2, weighting="guided", local=1, width=8, blocks=1)
    for head in (net.kernels_weight[4], net.offsets_h_generation[4], net.offsets_v_generation[4]):
        torch.nn.init.normal_(head.weight, std=0.02)
    return net.eval()


@pytest.fixture(scope="module")
def images(resampler, image):
    return attribution.lr_images(resampler, image)


def test_the_whole_is_what_downscaling_gives(images, resampler, image):
    np.testing.assert_array_equal(images["CAR"], rescale.learned_downscale(resampler, image))
    np.testing.assert_array_equal(images["bicubic LR"], rescale.downscale(image, 2, "bicubic"))
    assert list(images) == list(attribution.PARTS)


def test_every_part_matters(images):
    shown = [lr.tobytes() for lr in images.values()]
    assert len(set(shown)) == len(shown)


def test_luma_and_colour_are_exchanged_and_nothing_else(images):
    car, bicubic = images["CAR"].astype(float), images["bicubic LR"].astype(float)
    for label, luma, colour in (("CAR's colour only", bicubic, car), ("CAR's luma only", car, bicubic)):
        mixed = images[label].astype(float)
        whole = ((mixed > 0) & (mixed < 255)).all(-1)  # where nothing was clipped
        assert whole.mean() > 0.9
        np.testing.assert_allclose((mixed @ LUMA)[whole], (luma @ LUMA)[whole], rtol=0, atol=0.51)
        np.testing.assert_allclose(np.diff(mixed)[whole], np.diff(colour)[whole], rtol=0, atol=1.01)  # G - R, B - G


def test_one_kernel_is_a_convolution(resampler, image):
    # The image moved by one LR pixel is the LR image moved by one, as long as the kernel is the given one.
    tensor = pixels.to_tensor(image)
    with torch.inference_mode():
        means = [part.mean((2, 3), keepdim=True) for part in resampler(tensor)]

    def convolved(part):
        height, width = (n // 2 for n in part.shape[2:])
        taps = [mean.expand(-1, -1, height, width).contiguous() for mean in means]
        return attribution._resampled(resampler, part, taps, grey=False)

    whole, moved = convolved(tensor), convolved(tensor[..., 2:])
    np.testing.assert_array_equal(whole[8:-8, 9:-8], moved[8:-8, 8:-8])


def test_a_grey_image_has_no_variants_of_colour(resampler, image):
    found = attribution.lr_images(resampler, image[..., 1])
    assert all(lr.ndim == 2 for lr in found.values())
    assert not any("colour" in label or "luma" in label for label in found)


def rows(gain_by_variant, scale=2):
    base = {attribution.BASE: 30.0, attribution.GREY_BASE: 31.0, attribution.UPSCALED_BASE: 29.0}
    base |= {attribution.ON_GREY_BASE: 32.0}
    over = {
        attribution.GREY: 31.0,
        attribution.ON_GREY: 32.0,
        attribution.UPSCALED: 29.0,
        attribution.UPSCALED_STATIC: 29.0,
    }
    values = base | {label: over.get(label, 30.0) + g for label, g in gain_by_variant.items()}
    return [
        {
            "profile": "demo",
            "run": "r",
            "scale": scale,
            "set": "demo",
            "image": name,
            "variant": label,
            "psnr": psnr + d,
        }
        for name, d in (("a", -1), ("b", 1))
        for label, psnr in values.items()
    ]


def test_gains_are_over_the_system_that_saw_the_same_images():
    alone = [attribution.NO_OFFSETS, attribution.STATIC, attribution.UPSCALED, attribution.UPSCALED_STATIC]
    labels = [*attribution.PARTS, attribution.GREY, *alone, attribution.ON_GREY]
    expected = {label: 0.1 * place for place, label in enumerate(labels)}
    table = attribution.gains(rows(expected))
    found = table.set_index("variant")["gain"]
    for label, gain in expected.items():
        assert found[label] == pytest.approx(gain)
    assert found[attribution.BASE] == found[attribution.GREY_BASE] == 0
    assert set(table.n) == {2}
    assert table.low.tolist() == pytest.approx(table.gain.tolist())  # all images gain as much, far as they are apart
    apart = rows(expected)
    apart[[line["variant"] for line in apart].index("CAR")]["psnr"] += 1  # of one image
    car = attribution.gains(apart).set_index("variant").loc["CAR"]
    student = 12.7062 * 0.5  # of two numbers, 0 and 1: one degree of freedom
    assert (car.gain, car.low, car.high) == pytest.approx((0.5, 0.5 - student, 0.5 + student), rel=1e-5)
    sentence, upscaled = attribution.findings(table)
    assert "x2: CAR gains +0.00 dB (mean of 1 sets)" in sentence and "on grey images +0.60" in sentence
    assert "without offsets, trained with its own upscaler +0.70" in sentence
    assert "one kernel, trained with its own upscaler +0.80" in sentence
    assert "x2, bicubic upscaling: over bicubic both ways CAR gains +0.90 dB, one kernel +1.00" in upscaled


def test_the_picture_has_a_panel_per_scale_and_a_dot_per_gain():
    labels = list(attribution.PARTS)
    table = attribution.gains(rows(dict.fromkeys(labels, 0.5)) + rows(dict.fromkeys(labels, 0.2), scale=4))
    figure = figures.gains(table[table.variant.isin(labels)], labels)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["×2", "×4"]
    for axes, gain in zip(figure.axes, (0.5, 0.2), strict=True):
        (dots, _) = axes.get_lines()
        np.testing.assert_allclose(dots.get_xdata(), gain)
    with pytest.raises(ValueError, match="no rows"):
        figures.gains(table[:0], labels)


def test_what_was_trained_on_grey_is_measured_on_the_grey_image(resampler, image):
    seen = {}

    def system(label):
        def chain(hr):
            seen[label] = hr
            return hr, np.zeros(hr.shape, np.float32)

        chain.networks = {"resampler": resampler, "upscaler": torch.nn.Upsample(scale_factor=2)}
        return chain

    others = {label: system(label) for label in attribution.SYSTEMS}
    found = attribution.restored(system("CAR"), others, image)
    for label in (attribution.ON_GREY, attribution.ON_GREY_BASE):
        assert found[label][0].ndim == 2 and np.array_equal(seen[label], data.to_grey(image))
    for label in (attribution.GREY, attribution.GREY_BASE):  # what was trained in colour is compared with it, too
        assert np.array_equal(found[label][0], data.to_grey(image)) and found[label][1].ndim == 2
    assert found[attribution.NO_OFFSETS][0] is image
