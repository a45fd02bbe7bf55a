"""Laws of spectra: the ideal downscale has no aliasing, a filter alone makes none, folded waves are counted exactly."""

import numpy as np
import pytest

from carlib.ops.imresize import imresize
from carlib.studies import spectra

KERNELS = ("cubic", "lanczos3", "box", "linear")


def wave(height, width, k, j=0):
    """The DCT-II's basis wave: k half periods down, j across; grey levels of amplitude 50 about 100."""
    down = np.cos(np.pi * k * (2 * np.arange(height) + 1) / (2 * height))
    across = np.cos(np.pi * j * (2 * np.arange(width) + 1) / (2 * width))
    return 100 + 50 * down[:, None] * across


def noise(height=96, width=128, seed=0):
    """Like a photograph: amplitude falls as 1 / frequency; standard deviation 30 about 128."""
    from scipy.fft import dctn, idctn

    radius = np.hypot(np.arange(height)[:, None] / height, np.arange(width) / width)
    radius[0, 0] = np.inf
    field = idctn(dctn(np.random.default_rng(seed).normal(size=(height, width)), norm="ortho") / radius, norm="ortho")
    return 128 + 30 * field / field.std()


def without_high(image, scale):
    """`spectra.band_limited` without its rounding, by DFT of the mirrored image."""
    height, width = image.shape
    mirrored = np.block([[image, image[:, ::-1]], [image[::-1], image[::-1, ::-1]]])
    transformed = np.fft.fft2(mirrored)
    down, across = (np.abs(np.fft.fftfreq(side)) * scale >= 0.5 - 1e-9 for side in mirrored.shape)
    transformed[down] = transformed[:, across] = 0
    return np.fft.ifft2(transformed).real[:height, :width]


# -------------------------------------------------------------------------------------------------- the ideal downscale


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_ideal_downscale_samples_waves_below_nyquist_at_the_centres_of_lr_pixels(scale):
    height, width = 12 * scale, 20 * scale
    np.testing.assert_allclose(spectra.alias_free(wave(height, width, 11, 19), scale), wave(12, 20, 11, 19), atol=1e-10)
    for k, j in [(12, 0), (0, 20), (12 * scale - 1, 3)]:  # at Nyquist and beyond
        np.testing.assert_allclose(spectra.alias_free(wave(height, width, k, j), scale), 100, atol=1e-10)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_ideal_downscale_is_the_band_limited_image_seen_at_half_pixels(scale):
    """Fourier interpolation of the mirrored image at u = scale m + (scale - 1) / 2, summed wave by wave."""
    image = noise(16, 24)
    limited = without_high(image, scale)
    np.testing.assert_allclose(spectra.alias_free(image, scale), spectra.alias_free(limited, scale), atol=1e-10)
    mirrored = np.concatenate([limited, limited[::-1]])
    frequency = np.fft.fftfreq(32)
    place = scale * np.arange(16 // scale) + (scale - 1) / 2
    rows = (np.exp(2j * np.pi * place[:, None] * frequency) @ np.fft.fft(mirrored, axis=0) / 32).real
    mirrored = np.concatenate([rows, rows[:, ::-1]], axis=1)
    place = scale * np.arange(24 // scale) + (scale - 1) / 2
    waves = np.exp(2j * np.pi * np.fft.fftfreq(48)[:, None] * place)
    expected = (np.fft.fft(mirrored, axis=1) @ waves / 48).real
    np.testing.assert_allclose(spectra.alias_free(image, scale), expected, atol=1e-10)


def test_band_limited_is_what_an_lr_image_can_hold():
    image = np.rint(noise()).clip(0, 255).astype(np.uint8)
    limited = spectra.band_limited(image, 4)
    np.testing.assert_array_equal(limited, np.rint(without_high(image.astype(float), 4)).clip(0, 255))
    colour = np.stack([image, image[::-1], limited], axis=2)
    np.testing.assert_array_equal(spectra.band_limited(colour, 4)[..., 0], limited)


# ------------------------------------------------------------------------------------------------------------- aliasing


@pytest.mark.parametrize("scale", [2, 4])
def test_the_ideal_downscale_has_no_aliasing(scale):
    image = noise()
    found = spectra.aliasing(image, spectra.alias_free(image, scale), scale)
    assert found.share < 1e-15 and found.kept == pytest.approx(1)


def test_a_constant_has_none():
    flat, small = np.full((64, 96, 3), 77, np.uint8), np.full((16, 24, 3), 77, np.uint8)
    assert spectra.aliasing(flat, small, 4).share == 0
    assert spectra.folded(small, small) == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [2, 4])
def test_a_band_limited_image_has_none_under_a_linear_filter(scale, kernel):
    """1e-4: what 7 x 7 taps cannot follow of a filter's kink at Nyquist; the same image with its high frequencies
    has 20 to 1000 times as much."""
    image = noise(192, 256)
    limited = without_high(image, scale)
    assert spectra.aliasing(limited, imresize(limited, 1 / scale, kernel=kernel), scale).share < 1e-4


@pytest.mark.parametrize("gain", [0.5, 1.7])
def test_blur_sharpening_and_contrast_are_no_aliasing(gain):
    """Exactly, for a filter of at most 7 x 7 LR pixels."""
    from scipy.ndimage import convolve

    image = noise()
    taps = np.random.default_rng(1).normal(size=(7, 5))
    lr = 9 + gain * convolve(spectra.alias_free(image, 2), taps)
    assert spectra.aliasing(image, lr, 2).share < 1e-15


@pytest.mark.parametrize("k", [31, 40, 47])
def test_a_wave_beyond_nyquist_is_aliasing_altogether_with_the_energy_of_the_filters_gain(k):
    """A box of s pixels passes the DCT wave k of N pixels with the gain sin(pi k s / 2N) / (s sin(pi k / 2N))."""
    scale, image = 4, wave(96, 128, k)
    lr = imresize(image, 1 / scale, kernel="box")
    found = spectra.aliasing(image, lr, scale)
    assert found.share == pytest.approx(1)
    gain = np.sin(np.pi * k * scale / 192) / (scale * np.sin(np.pi * k / 192))
    m = np.arange(3, 21)
    expected = 50 * gain * np.cos(np.pi * k * (2 * m + 1) / 48)
    np.testing.assert_allclose(found.residual[:, 0], expected - expected.mean(), atol=1e-9)


def test_point_sampling_keeps_all_energy_of_a_wave_beyond_nyquist():
    """0.05 of 50: without its border the small image holds no whole periods, so its two waves overlap a little."""
    image = wave(96, 129, 40) + wave(96, 129, 5, 7)
    found = spectra.aliasing(image, image[1::3, 1::3], 3)  # the centre of 3 x 3 pixels
    m = np.arange(3, 29)
    expected = 50 * np.cos(np.pi * 40 * (2 * m + 1) / 64)
    np.testing.assert_allclose(found.residual[:, 0], expected - expected.mean(), atol=0.05)


@pytest.mark.parametrize("kernel", KERNELS)
def test_both_measures_agree_for_linear_filters(kernel):
    image, inside = noise(256, 384), (slice(3, -3),) * 2
    down = [imresize(picture, 1 / 4, kernel=kernel) for picture in (image, without_high(image, 4))]
    exact = np.var((down[0] - down[1])[inside])
    assert np.mean(spectra.aliasing(image, down[0], 4).residual ** 2) == pytest.approx(exact, rel=0.05)
    assert spectra.folded(*down) == pytest.approx(np.mean((down[0] - down[1]) ** 2) / np.var(down[0]))


def test_aliasing_does_not_depend_on_orientation_or_contrast():
    image = noise()
    lr = imresize(image, 1 / 4, kernel="box")
    share = spectra.aliasing(image, lr, 4).share
    for turned in (lambda x: x[::-1], lambda x: x[:, ::-1], np.transpose, lambda x: 255 - x, lambda x: 0.3 * x):
        assert spectra.aliasing(turned(image), turned(lr), 4).share == pytest.approx(share)


def test_parts_of_the_energy_add_up():
    image = noise()
    lr = imresize(image, 1 / 4)
    found, inside = spectra.aliasing(image, lr, 4), (slice(3, -3),) * 2
    energy = np.var(lr[inside])
    kept = found.kept * np.var(spectra.alias_free(image, 4)[inside])
    assert np.mean(found.residual**2) + kept == pytest.approx(energy)
    assert found.share * energy == pytest.approx(np.mean(found.residual**2))


@pytest.mark.parametrize(("hr", "lr", "told"), [
    ((64, 66), (16, 16), "hr is 64x66, not a multiple of scale=4; crop it first"),
    ((64, 64), (16, 17), "lr is 16x17, hr at scale=4 makes 16x16"),
    ((60, 64), (15, 16), "lr is 15x16, aliasing needs 16x16"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(hr, lr, told):
    with pytest.raises(ValueError, match=told):
        spectra.aliasing(np.zeros(hr), np.zeros(lr), 4)


@pytest.mark.parametrize("scale", [0, -2, 0.5, True, None])
def test_a_scale_below_one_is_refused(scale):
    image = np.zeros((64, 64), np.uint8)
    for call in (spectra.alias_free, spectra.band_limited, lambda hr, scale: spectra.aliasing(hr, hr[::2, ::2], scale)):
        with pytest.raises(ValueError, match=f"scale={scale!r} is not a whole number >= 1"):
            call(image, scale)
    with pytest.raises(ValueError, match="is not a whole number"):
        spectra.richest(image, scale, 16)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    image, lr = noise(64, 64), noise(32, 32)
    bad, bad_lr = image.copy(), lr.copy()
    bad[3, 5] = bad_lr[7, 20] = value
    for call in (
        lambda: spectra.aliasing(bad, lr, 2), lambda: spectra.aliasing(image, bad_lr, 2),
        lambda: spectra.alias_free(bad, 2), lambda: spectra.power_spectrum(bad), lambda: spectra.folded(bad_lr, lr),
        lambda: spectra.folded(lr, bad_lr), lambda: spectra.band_limited(bad, 2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="holds NaN or infinite values"):
            call()


# -------------------------------------------------------------------------------------------------------------- spectra


def test_noise_has_its_variance_as_level_at_any_size_and_pixel():
    rng = np.random.default_rng(0)
    for shape, pixel in [((64, 96), 1), ((150, 91), 1), ((128, 128), 0.25)]:
        power = spectra.power_spectrum(rng.normal(100, 3, shape), pixel)
        assert power.mean() == pytest.approx(9 * pixel**2, rel=0.1)


def test_an_hr_image_and_its_ideal_downscale_have_the_same_levels():
    image = noise(256, 256)
    lr = spectra.alias_free(image, 4)
    large = spectra.radial_average(spectra.power_spectrum(image, 1 / 4), 1 / 4)
    small = spectra.radial_average(spectra.power_spectrum(lr))
    below = small[0] < 0.45
    np.testing.assert_allclose(large[0][: below.sum()], small[0][below])
    ratio = spectra.decibels(large[1][: below.sum()]) - spectra.decibels(small[1][below])
    assert np.abs(ratio).max() < 0.5


def test_a_wave_is_a_pair_of_points_at_its_frequency():
    rows, columns = np.mgrid[:64, :96]
    power = spectra.power_spectrum(128 + 20 * np.sin(2 * np.pi * (16 * rows / 64 - 12 * columns / 96)))
    brightest = np.argsort(power.ravel())[-2:]
    places = sorted(tuple(map(int, np.unravel_index(place, power.shape))) for place in brightest)
    assert places == [(32 - 16, 48 + 12), (32 + 16, 48 - 12)]
    frequency, mean = spectra.radial_average(power)
    assert abs(frequency[mean.argmax()] - np.hypot(16 / 64, 12 / 96)) <= 1 / 96


def test_a_constant_has_no_spectrum():
    assert (spectra.decibels(spectra.power_spectrum(np.full((32, 48, 3), 200, np.uint8))) == -30).all()


def test_an_image_half_black_half_white_has_no_power_at_frequency_0():
    """The mean under the window is taken away, not the image's, which is another where the edge is off the centre."""
    image = np.zeros((32, 48), np.uint8)
    image[:, :12] = 255
    power = spectra.power_spectrum(image)
    assert power[16, 24] < 1e-12 * power.max()


def test_radial_average_by_hand():
    power = np.arange(16.0).reshape(4, 4)  # frequency 0 at [2, 2]: radii 0, 1/4, 0.354, 1/2, 0.559, 0.707
    frequency, mean = spectra.radial_average(power, width=0.1)
    np.testing.assert_allclose(frequency, [0.25, 0.35, 0.55, 0.75])
    np.testing.assert_allclose(mean, [(6 + 9 + 11 + 14) / 4, (5 + 7 + 13 + 15) / 4, (2 + 8 + 1 + 3 + 4 + 12) / 6, 0])


def test_richest_finds_the_square_with_the_fine_texture():
    image = np.full((64, 96), 128, np.uint8)
    image[16:32, 40:56] += 90 * (np.indices((16, 16)).sum(0) % 2).astype(np.uint8)  # a chessboard
    assert spectra.richest(image, 4, 16) == [16, 40, 16, 16]
    assert spectra.richest(image, 4, 400) == [0, 0, 64, 96]
