"""imresize: equal to MATLAB's files bit for bit, equal to the formula written as loops, and lawful at every size."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carlib.ops.imresize import contributions, imresize

KERNELS = ["cubic", "linear", "box", "lanczos2", "lanczos3"]
SUPPORT = {"cubic": 4, "linear": 2, "box": 1, "lanczos2": 4, "lanczos3": 6}


def folder(name):
    """CARLIB_DATA/<name>, or skip."""
    path = Path(os.environ.get("CARLIB_DATA", "")) / name
    if not os.environ.get("CARLIB_DATA") or not path.is_dir():
        pytest.skip(f"{name} is not under CARLIB_DATA")
    return path


def photograph(h=37, w=52, c=3, seed=0):
    """Random uint8 with smooth and rough parts; h != w != c."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, w)[None, :, None] * np.ones((h, 1, c))
    return np.clip(ramp + rng.normal(0, 80, (h, w, c)), 0, 255).astype(np.uint8)


def spec_kernel(name, x):
    """The kernels as the textbooks print them, one number at a time."""
    t = abs(x)
    if name == "cubic":  # Keys 1981, a = -1/2
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0
    if name == "linear":
        return max(0.0, 1 - t)
    if name == "box":
        return 1.0 if -0.5 <= x < 0.5 else 0.0
    a = int(name[-1])
    if t == 0:
        return 1.0
    return a * math.sin(math.pi * x) * math.sin(math.pi * x / a) / (math.pi * x) ** 2 if t < a else 0.0


def spec_row(line, n_out, r, name, antialias=True):
    """One line resized by the formula; every input pixel of three mirrored periods is tried as a tap."""
    n = len(line)
    q = min(r, 1.0) if antialias else 1.0
    out = []
    for i in range(n_out):
        u = (i + 0.5) / r - 0.5
        total = norm = 0.0
        for j in range(-n * 40, n * 41):
            if abs(q * (u - j)) > SUPPORT[name]:
                continue
            m = j % (2 * n)
            w = spec_kernel(name, q * (u - j))
            total += w * line[min(m, 2 * n - 1 - m)]
            norm += w
        out.append(total / norm)
    return out


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_equals_matlab_bit_for_bit(scale):
    """Set5_LR_bicubic: MATLAB's imresize on uint8 HR images cropped to a multiple of the scale."""
    originals, files = folder("Set5"), sorted(folder(f"Set5_LR_bicubic/x{scale}").glob("*.png"))
    assert len(files) == 5
    for file in files:
        hr = np.asarray(Image.open(originals / file.name.replace(f"x{scale}.png", ".png")))
        hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
        np.testing.assert_array_equal(imresize(hr, 1 / scale), np.asarray(Image.open(file)), err_msg=file.name)


def test_matlab_files_tell_the_rounding_apart():
    """One rounding at the end instead of one an axis changes pixels: the files really test the path through uint8."""
    hr = np.asarray(Image.open(folder("Set5") / "butterfly.png"))
    once = np.clip(np.rint(imresize(hr.astype(float), 0.5)), 0, 255).astype(np.uint8)
    difference = np.abs(once.astype(int) - imresize(hr, 0.5))
    assert 0 < (difference > 0).mean() < 0.5
    assert difference.max() <= 2


def test_pillow_and_opencv_are_close_but_not_equal():
    """Pillow: same kernel, fixed-point weights, clipped borders. OpenCV: a = -0.75 and no antialiasing, so far off."""
    hr = photograph(64, 96)
    ours = imresize(hr, 0.25).astype(int)
    pillow = np.asarray(Image.fromarray(hr).resize((24, 16), Image.Resampling.BICUBIC))
    assert not np.array_equal(ours, pillow)
    assert np.abs(ours - pillow)[2:-2, 2:-2].max() <= 1
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    assert np.abs(ours - cv2.resize(hr, (24, 16), interpolation=cv2.INTER_CUBIC)).mean() > 5


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "n,n_out,r", [(9, 5, 0.5), (7, 3, 1 / 3), (5, 13, 2.6), (8, 8, 1.0), (1, 4, 4.0), (3, 1, 0.25)]
)
def test_equals_the_formula(kernel, n, n_out, r):
    line = np.random.default_rng(n).normal(size=n)
    weights, indices = contributions(n, n_out, r, kernel)
    np.testing.assert_allclose((weights * line[indices]).sum(1), spec_row(line, n_out, r, kernel), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_both_axes_are_the_formula(kernel):
    image = np.random.default_rng(1).normal(size=(6, 10, 2))
    out = imresize(image, size=(4, 5), kernel=kernel)
    rows = np.stack([[spec_row(image[:, x, c], 4, 4 / 6, kernel) for x in range(10)] for c in range(2)], -1)
    both = np.stack([[spec_row(rows[:, y, c], 5, 0.5, kernel) for y in range(4)] for c in range(2)], -1)
    np.testing.assert_allclose(out, both, rtol=0, atol=1e-12)


def test_without_antialias_the_kernel_keeps_its_width():
    line = np.random.default_rng(2).normal(size=12)
    weights, indices = contributions(12, 3, 0.25, antialias=False)
    expected = spec_row(line, 3, 0.25, "cubic", antialias=False)
    np.testing.assert_allclose((weights * line[indices]).sum(1), expected, rtol=0, atol=1e-12)
    assert weights.shape[1] == 4
    assert not np.array_equal(imresize(photograph(), 0.25), imresize(photograph(), 0.25, antialias=False))


def test_bicubic_x2_weights_are_the_known_ones():
    """Keys' cubic at 0.25, 0.75, 1.25, 1.75, halved: multiples of 1/256."""
    weights, indices = contributions(20, 10, 0.5)
    np.testing.assert_array_equal(weights[5] * 256, [-3, -9, 29, 111, 111, 29, -9, -3])
    np.testing.assert_array_equal(indices[5], range(7, 15))
    np.testing.assert_array_equal(indices[0], [2, 1, 0, 0, 1, 2, 3, 4])  # the edge is repeated


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [0.07, 0.25, 1 / 3, 0.5, 0.9, 1, 1.5, 2, 4])
def test_rows_sum_to_one_and_point_inside(kernel, scale):
    n_in = 23
    weights, indices = contributions(n_in, math.ceil(n_in * scale), scale, kernel)
    assert weights.shape == indices.shape and weights.dtype == np.float64
    np.testing.assert_allclose(weights.sum(1), 1, rtol=0, atol=1e-14)
    assert indices.min() >= 0 and indices.max() < n_in
    assert (weights != 0).any(0).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [0, 1, 128, 255])
@pytest.mark.parametrize("scale", [0.25, 0.4, 3])
def test_a_constant_image_stays_constant(kernel, value, scale):
    assert (imresize(np.full((9, 14), value, np.uint8), scale, kernel=kernel) == value).all()


@pytest.mark.parametrize("kernel", ["cubic", "linear", "lanczos3", "box"])
def test_scale_one_changes_nothing(kernel):
    np.testing.assert_array_equal(imresize(photograph(), 1, kernel=kernel), photograph())


def test_box_by_half_is_the_mean_of_two_by_two():
    image = np.random.default_rng(3).normal(size=(6, 8))
    expected = image.reshape(3, 2, 4, 2).mean((1, 3))
    np.testing.assert_allclose(imresize(image, 0.5, kernel="box"), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mirror_and_transpose_commute(kernel):
    """Box excepted on ties: its support is half-open, here no pixel lies on its edge."""
    image = np.random.default_rng(4).normal(size=(12, 16))
    out = imresize(image, 0.25, kernel=kernel)
    np.testing.assert_allclose(imresize(image[::-1, ::-1], 0.25, kernel=kernel), out[::-1, ::-1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(imresize(image.T, 0.25, kernel=kernel), out.T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [2, 4, 6])
def test_a_flipped_image_gives_the_flipped_result_on_ties_too(kernel, factor):
    """Of columns a, b, a, b, ... every result is (a + b) / 2: which way it is rounded may not hang on the order of a
    sum."""
    pairs = np.random.default_rng(0).integers(0, 256, (400, 2), dtype=np.uint8)
    image, size = np.tile(pairs, (1, 72)), (400, 144 // factor)
    flipped = imresize(image[:, ::-1], size=size, kernel=kernel)[:, ::-1]
    np.testing.assert_array_equal(flipped, imresize(image, size=size, kernel=kernel))
    np.testing.assert_array_equal(flipped[:, 72 // factor], (pairs.astype(int).sum(1) + 1) // 2)  # far from borders


def test_scale_and_size_agree_where_they_should():
    hr = photograph(36, 48)
    for scale in (0.25, 0.5, 2, 3):
        size = (int(36 * scale), int(48 * scale))
        np.testing.assert_array_equal(imresize(hr, scale), imresize(hr, size=size))
    assert imresize(hr, 0.3).shape == (11, 15, 3)  # ceil(10.8), ceil(14.4), as MATLAB


def test_the_axis_with_the_smaller_factor_goes_first():
    """Visible on uint8 only: the rounding between the axes is in another place."""
    hr = photograph(40, 40, 1)[..., 0]
    wide, tall = imresize(hr, size=(20, 10)), imresize(hr.T, size=(10, 20)).T
    np.testing.assert_array_equal(wide, tall)
    rows_first = imresize(imresize(hr, size=(20, 40)), size=(20, 10))
    columns_first = imresize(imresize(hr, size=(40, 10)), size=(20, 10))
    np.testing.assert_array_equal(wide, columns_first)
    assert not np.array_equal(wide, rows_first)


def test_uint8_rounds_half_away_from_zero_and_saturates():
    halves = np.array([[0, 1, 2, 3], [0, 1, 2, 3]], np.uint8)
    np.testing.assert_array_equal(imresize(halves, size=(2, 2), kernel="box"), [[1, 3], [1, 3]])  # 0.5 -> 1, 2.5 -> 3
    edge = np.tile(np.repeat(np.array([0, 255], np.uint8), 8), (4, 1))
    enlarged = imresize(edge.astype(float), 4)
    assert enlarged.min() < -5 and enlarged.max() > 260  # floats overshoot
    np.testing.assert_array_equal(np.unique(imresize(edge, 4))[[0, -1]], [0, 255])


def test_grey_equals_each_channel():
    hr = photograph()
    np.testing.assert_array_equal(imresize(hr[..., 1], 0.25), imresize(hr, 0.25)[..., 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_dtype_and_input_are_kept(dtype):
    image = photograph().astype(dtype)
    before = image.copy()
    assert imresize(image, 0.5).dtype == dtype
    np.testing.assert_array_equal(image, before)


def test_views_and_blocks_give_the_same_pixels(monkeypatch):
    image = photograph(50, 70)
    whole = imresize(image, 0.25)
    np.testing.assert_array_equal(imresize(np.asfortranarray(image), 0.25), whole)
    monkeypatch.setattr("carlib.ops.imresize._BLOCK", 999)
    np.testing.assert_array_equal(imresize(image, 0.25), whole)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1, 3), (2, 3, 1)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_tiny_images(shape, kernel):
    image = np.full(shape, 77, np.uint8)
    for scale in (0.1, 0.25, 4):
        out = imresize(image, scale, kernel=kernel)
        assert out.shape == (math.ceil(shape[0] * scale), math.ceil(shape[1] * scale), *shape[2:])
        assert (out == 77).all()


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"image": np.zeros((0, 4), np.uint8), "scale": 0.5}, "shape"),
        ({"image": np.zeros(4, np.uint8), "scale": 0.5}, "shape"),
        ({"image": np.zeros((2, 4, 4, 3), np.uint8), "scale": 0.5}, "shape"),
        ({"image": np.zeros((4, 4), np.int64), "scale": 0.5}, "int64"),
        ({"image": np.array([[0.5, np.nan]]), "scale": 0.5}, "NaN"),
        ({"image": np.array([[0.5, np.inf]]), "scale": 0.5}, "infinite"),
        ({}, "either scale or size"),
        ({"scale": 0.5, "size": (2, 2)}, "either scale or size"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": -2}, "scale is -2"),
        ({"scale": math.nan}, "scale is nan"),
        ({"scale": True}, "scale is True"),
        ({"scale": "2"}, "scale is '2'"),
        ({"scale": 1e-300}, "too much memory"),
        ({"scale": 1e12}, "too much memory"),
        ({"size": (10**6, 10**6)}, "1000000x1000000"),
        ({"size": 3}, "size is"),
        ({"size": (0, 3)}, "H_out is 0"),
        ({"size": (3, 2.5)}, "W_out is 2.5"),
        ({"scale": 2, "kernel": "bicubic"}, "unknown kernel 'bicubic'"),
    ],
)
def test_impossible_requests_are_named(arguments, message):
    arguments = {"image": np.zeros((4, 4), np.uint8)} | arguments
    with pytest.raises(ValueError, match=message) as caught:
        imresize(**arguments)
    assert "\n" not in str(caught.value)
