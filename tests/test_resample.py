"""Laws of the operator. Three rungs: loops over floats (here), the PyTorch reference, the fast paths."""

import contextlib
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from carlib import resample
from carlib.ops import resample as module
from carlib.ops import resample_numba
from carlib.ops.resample import reflect_indices

FAST = ("torch", "numba")
# scale, K, h, w: never square, and K*K, C, N, h, w all different so that no two axes can be confused.
CASES = [
    (1, 1, 3, 5), (2, 3, 4, 3), (2, 7, 3, 4), (4, 13, 2, 3), (3, 4, 3, 2), (2, 6, 1, 5), (1, 2, 4, 7), (3, 2, 2, 1),
]  # fmt: skip


def problem(scale, size, h, w, *, n=2, c=3, spread=3.0, dtype=torch.float64, seed=0):
    """hr, kernel, offset_v, offset_h; offsets reach beyond border and pad."""
    draw = torch.Generator().manual_seed(seed)
    shape = (n, size * size, h, w)
    hr = torch.rand(n, c, h * scale, w * scale, generator=draw, dtype=dtype)
    return [hr, *(torch.randn(shape, generator=draw, dtype=dtype) * k for k in (1, spread, spread))]


def by_loops(hr, kernel, offset_v, offset_h, scale, pad, taps, border):
    """Eq. 1-3 with Python floats: rung one."""
    n, c, height, width = hr.shape
    size = round(kernel.shape[1] ** 0.5)
    centre = (size - 1) / 2 if taps == "symmetric" else size / 2
    pad = size // 2 if pad is None else pad

    def pixel(image, y, x):  # reflected as often as needed
        for _ in range(1000):
            y, x = abs(y), abs(x)
            y = 2 * (height - 1) - y if y > height - 1 else y
            x = 2 * (width - 1) - x if x > width - 1 else x
            if 0 <= y < height and 0 <= x < width:
                return image[y][x]
        raise AssertionError

    def pair(position, length):
        last = length - 1 + pad
        if border == "replicate":
            position = min(max(position, -pad), last)
        before = math.floor(position)
        fraction = position - before
        before = min(max(before, -pad), last)
        return before, min(before + 1, last), fraction

    lr = torch.zeros(n, c, *kernel.shape[2:], dtype=hr.dtype)
    for index in np.ndindex(*lr.shape):
        b, channel, i, j = index
        image, total = hr[b, channel].tolist(), 0.0
        for a in range(size):
            for d in range(size):
                at = (b, a * size + d, i, j)
                top, bottom, beta = pair((i + 0.5) * scale - 0.5 + a - centre + offset_v[at].item(), height)
                left, right, alpha = pair((j + 0.5) * scale - 0.5 + d - centre + offset_h[at].item(), width)
                upper = (1 - alpha) * pixel(image, top, left) + alpha * pixel(image, top, right)
                lower = (1 - alpha) * pixel(image, bottom, left) + alpha * pixel(image, bottom, right)
                total += kernel[at].item() * ((1 - beta) * upper + beta * lower)
        lr[index] = total
    return lr


@pytest.mark.parametrize("options", [{}, {"border": "release"}, {"taps": "paper"}, {"pad": 0}, {"pad": 11}])
@pytest.mark.parametrize(("scale", "size", "h", "w"), [(2, 3, 4, 3), (3, 4, 2, 3)])
def test_reference_is_the_formula(scale, size, h, w, options):
    args = problem(scale, size, h, w, n=1, c=2)
    expected = by_loops(
        *args, scale, options.get("pad"), options.get("taps", "symmetric"), options.get("border", "replicate")
    )
    torch.testing.assert_close(resample(*args, scale=scale, impl="reference", **options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"border": "release"}, {"taps": "paper"}, {"pad": 0}, {"pad": 23}])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("scale", "size", "h", "w"), CASES)
@pytest.mark.parametrize("impl", FAST)
def test_fast_paths_match_the_reference_forward_and_backward(impl, scale, size, h, w, channels, options):
    args = [t.requires_grad_() for t in problem(scale, size, h, w, c=channels)]
    results = []
    for which in ("reference", impl):
        lr = resample(*args, scale=scale, impl=which, **options)
        upstream = torch.linspace(-1, 1, lr.numel(), dtype=lr.dtype).view_as(lr)
        results.append((lr, *torch.autograd.grad(lr, args, upstream)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("border", ["replicate", "release"])
@pytest.mark.parametrize("impl", ["reference", *FAST])
def test_gradients_are_the_derivatives(impl, border):
    args = [t.requires_grad_() for t in problem(2, 3, 3, 2, n=1, c=2)]
    assert gradcheck(lambda *tensors: resample(*tensors, scale=2, impl=impl, border=border), args, atol=1e-6)


@pytest.mark.parametrize("impl", FAST)
def test_a_tap_exactly_at_the_rim_has_the_references_gradient(impl):
    hr, kernel, *_ = problem(1, 1, 3, 4, n=1)
    found = []
    for way in ("reference", impl):
        offsets = [torch.zeros_like(kernel, requires_grad=True) for _ in range(2)]
        lr = resample(hr, kernel, *offsets, scale=1, impl=way)
        found.append(torch.autograd.grad(lr.square().sum(), offsets))
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)
    assert found[0][0][:, :, 0].all() and found[0][1][..., 0].all()  # it can still go inside


@pytest.mark.parametrize("impl", FAST)
def test_only_wanted_gradients_are_computed(impl):
    hr, kernel, offset_v, offset_h = problem(2, 3, 3, 4)
    offset_h.requires_grad_()
    resample(hr, kernel, offset_v, offset_h, scale=2, impl=impl).sum().backward()
    assert kernel.grad is None
    assert offset_h.grad.abs().sum() > 0


@pytest.mark.parametrize("impl", ["reference", *FAST])
def test_weights_that_sum_to_one_keep_a_constant_image(impl):
    _, kernel, offset_v, offset_h = problem(2, 5, 3, 4, spread=9)
    kernel = kernel.softmax(1)
    lr = resample(torch.full((2, 3, 6, 8), 0.7, dtype=torch.float64), kernel, offset_v, offset_h, scale=2, impl=impl)
    torch.testing.assert_close(lr, torch.full_like(lr, 0.7), rtol=0, atol=1e-12)


@pytest.mark.parametrize("impl", ["reference", *FAST])
@pytest.mark.parametrize("scale", [2, 4])
def test_an_even_symmetric_uniform_kernel_at_rest_is_the_box_filter(impl, scale):
    hr = problem(scale, scale, 3, 5)[0]
    kernel = torch.full((2, scale**2, 3, 5), 1 / scale**2, dtype=torch.float64)
    rest = torch.zeros_like(kernel)
    lr = resample(hr, kernel, rest, rest, scale=scale, impl=impl)
    torch.testing.assert_close(lr, torch.nn.functional.avg_pool2d(hr, scale), rtol=0, atol=1e-12)


@pytest.mark.parametrize("impl", ["reference", *FAST])
def test_the_middle_tap_of_an_odd_kernel_at_rest_is_a_2x2_mean(impl):
    """u is a half-integer at even scales: what the released geometry implies, easily overlooked."""
    hr = problem(2, 3, 3, 4)[0]
    kernel = torch.zeros(2, 9, 3, 4, dtype=torch.float64)
    kernel[:, 4] = 1
    rest = torch.zeros_like(kernel)
    lr = resample(hr, kernel, rest, rest, scale=2, impl=impl)
    torch.testing.assert_close(lr, torch.nn.functional.avg_pool2d(hr, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("impl", ["reference", *FAST])
def test_an_offset_of_one_pixel_shifts_down_and_right(impl):
    hr, kernel, *_ = problem(1, 1, 5, 6)
    kernel = torch.ones_like(kernel)
    one, rest = torch.ones_like(kernel), torch.zeros_like(kernel)
    down = resample(hr, kernel, one, rest, scale=1, impl=impl)
    right = resample(hr, kernel, rest, one, scale=1, impl=impl)
    torch.testing.assert_close(down[:, :, :-1], hr[:, :, 1:])
    torch.testing.assert_close(right[..., :-1], hr[..., 1:])


def test_reflection_is_numpys_for_every_width():
    for n in (1, 2, 3, 7):
        for pad in (0, 1, n, 5 * n + 2):
            expected = np.pad(np.arange(n), pad, mode="reflect" if n > 1 else "edge")
            np.testing.assert_array_equal(reflect_indices(-pad, n - 1 + pad, n), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("impl", FAST)
def test_low_precision_inputs_accumulate_in_float32(impl, dtype):
    args = [t.to(dtype) for t in problem(2, 3, 3, 4)]
    lr = resample(*args, scale=2, impl=impl)
    expected = resample(*(t.double() for t in args), scale=2, impl="reference")
    assert lr.dtype == dtype
    torch.testing.assert_close(lr.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


# No inf for "reference" and "torch": border="replicate" clamps it to the rim, where it is a number again.
NO_NUMBERS = [("reference", math.nan), ("torch", math.nan), *(("numba", x) for x in (math.nan, math.inf, -math.inf))]


@pytest.mark.parametrize(("impl", "bad"), NO_NUMBERS)
def test_offsets_that_are_no_numbers_show_and_read_nothing_outside(impl, bad):
    hr, kernel, offset_v, offset_h = problem(2, 3, 3, 4, dtype=torch.float32)
    offset_v[0, 0, 1, 2] = bad
    lr = resample(hr, kernel, offset_v, offset_h, scale=2, impl=impl)
    assert lr[0, :, 1, 2].isnan().all()
    assert lr.isnan().sum() == 3


@pytest.mark.parametrize("border", ["replicate", "release"])
@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize(("impl", "bad"), NO_NUMBERS)
def test_gradients_of_offsets_that_are_no_numbers_stay_with_their_own_tap(impl, bad, axis, border):
    """Everything else is as if that tap had no weight, so nothing foreign was read or written."""
    at = (0, 4, 1, 2)

    def gradients(offset, weight):
        args = problem(2, 3, 3, 4)
        args[1][at] = args[1][at] if weight is None else weight
        args[axis][at] = offset
        args = [t.requires_grad_() for t in args]
        lr = resample(*args, scale=2, impl=impl, border=border)
        return torch.autograd.grad(lr, args, torch.linspace(-1, 1, lr.numel(), dtype=lr.dtype).view_as(lr))

    found, expected = gradients(bad, None), gradients(0.0, 0.0)
    assert found[1][at].isnan()
    for gradient, clean in zip(found[1:], expected[1:], strict=True):
        others = torch.ones_like(gradient, dtype=torch.bool)
        others[at] = False
        torch.testing.assert_close(gradient[others], clean[others], rtol=0, atol=1e-12)
    touched = found[0].isnan()
    assert not touched[1].any()  # the other image
    assert 0 < touched[0].sum() <= 4 * 3  # the corners of one bilinear sample, three channels
    torch.testing.assert_close(found[0][~touched], expected[0][~touched], rtol=0, atol=1e-12)


def test_numba_gives_the_same_bits_every_time():
    args = [t.requires_grad_() for t in problem(2, 7, 9, 8, dtype=torch.float32)]
    runs = []
    for _ in range(3):
        lr = resample(*args, scale=2, impl="numba")
        runs.append((lr, *torch.autograd.grad(lr.square().sum(), args)))
    for again in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], again, strict=True))


@pytest.mark.parametrize("n", [1, 2])
def test_numba_gives_the_same_bits_whatever_the_number_of_threads(n, monkeypatch):
    """More LR pixels than a block has; some do not reach into some threads' bands. float32 shows cuts."""
    args = [t.requires_grad_() for t in problem(4, 3, 40, 23, n=n, c=3, spread=2.0, dtype=torch.float32)]
    results = []
    for impl, threads in [("reference", 1), ("numba", 1), ("numba", 2), ("numba", 5)]:
        monkeypatch.setattr("numba.get_num_threads", lambda threads=threads: threads)
        lr = resample(*args, scale=4, impl=impl)
        results.append((lr, *torch.autograd.grad(lr.square().sum(), args)))
    for expected, one, *others in zip(*results, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-4)
        assert all(torch.equal(one, other) for other in others)


def test_taps_between_two_threads_bands_reach_both(monkeypatch):
    """All taps of an image half-way between two rows: wherever the bands of two threads meet, neither is left out."""
    monkeypatch.setattr("numba.get_num_threads", lambda: 2)
    hr, kernel, *_ = problem(1, 1, 8, 5, n=1, c=1)
    for row in range(7):
        offset_v = (row + 0.5 - torch.arange(8.0, dtype=hr.dtype)).view(1, 1, 8, 1).expand_as(kernel).contiguous()
        found = []
        for impl in ("reference", "numba"):
            image = hr.clone().requires_grad_()
            lr = resample(image, kernel, offset_v, torch.zeros_like(kernel), scale=1, impl=impl)
            found.append(torch.autograd.grad(lr.sum(), image)[0])
        torch.testing.assert_close(*found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 7])
@pytest.mark.parametrize("impl", FAST)
def test_an_image_reads_nothing_of_the_next(impl, channels):
    """Channels are laid out by fours; what fills them up is not the next image's, which here is not a number."""
    hr, *taps = problem(2, 3, 3, 5, c=channels)
    hr[1] = math.nan
    args = [t.requires_grad_() for t in (hr, *taps)]
    lr = resample(*args, scale=2, impl=impl)
    for found in (lr, *torch.autograd.grad(lr[0].sum(), args)):
        assert found[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("h", "w", "streams"), [(36, 25, True), (29, 31, False)])
def test_stores_past_the_caches_change_no_bit(h, w, streams, dtype, monkeypatch):
    """Gradients of several blocks, in fours of LR pixels or not."""
    args = [t.requires_grad_() for t in problem(4, 3, h, w, c=5, dtype=dtype)]
    asked, ask = [], resample_numba._streams
    monkeypatch.setattr(resample_numba, "_streams", lambda arrays: asked.append(ask(arrays)) or asked[-1])
    found = {}
    for least in (0, math.inf):
        monkeypatch.setattr(resample_numba, "_PAST_CACHES", least)
        found[least] = torch.autograd.grad(resample(*args, scale=4, impl="numba").square().sum(), args)
    assert asked == [streams, False]
    assert all(torch.equal(a, b) for a, b in zip(*found.values(), strict=True))
    expected = torch.autograd.grad(resample(*args, scale=4, impl="reference").square().sum(), args)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    for gradient, right in zip(found[0], expected, strict=True):
        torch.testing.assert_close(gradient, right, rtol=tolerance, atol=tolerance)


def test_stores_past_the_caches_want_aligned_memory(monkeypatch):
    monkeypatch.setattr(resample_numba, "_PAST_CACHES", 0)
    aligned, off = (np.empty(4 * 9 * 16 + 4, np.float32)[start:][: 4 * 9 * 16].reshape(4, 9, 16) for start in (0, 1))
    assert resample_numba._streams([aligned, aligned, aligned])
    assert not resample_numba._streams([aligned, aligned, off])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hr": torch.rand(2, 3, 7, 8)}, "not a positive multiple of scale=2"),
        ({"kernel": torch.rand(2, 8, 3, 4)}, "not K\\*K"),
        ({"kernel": torch.rand(2, 9, 4, 3)}, "kernel is \\(2, 9, 4, 3\\), expected"),
        ({"offset_v": torch.rand(2, 9, 3, 5)}, "offset_v is"),
        ({"offset_h": torch.zeros(2, 9, 3, 4, dtype=torch.int64)}, "offset_h is torch.int64"),
        ({"scale": 0}, "scale=0"),
        ({"scale": None}, "scale=None is not a whole number >= 1"),
        ({"scale": "2"}, "scale='2'"),
        ({"scale": 2.5}, "scale=2.5"),
        ({"scale": True}, "scale=True"),
        ({"scale": math.inf}, "scale=inf"),
        ({"scale": math.nan}, "scale=nan"),
        ({"impl": "opencl"}, "impl='opencl' is unknown"),
        ({"impl": "cuda"}, 'impl="cuda"'),
        ({"taps": "even"}, "taps='even'"),
        ({"border": "zero"}, "border='zero'"),
        ({"pad": -1}, "pad=-1"),
        ({"pad": "1"}, "pad='1'"),
        ({"pad": 1.5}, "pad=1.5"),
        ({"pad": False}, "pad=False"),
        ({"pad": math.inf}, "pad=inf is not a whole number of pixels"),
        ({"pad": math.nan}, "pad=nan is not a whole number of pixels"),
        ({"hr": np.zeros((2, 3, 6, 8), np.float32)}, "hr is a ndarray, not a torch.Tensor"),
        ({"kernel": np.zeros((2, 9, 3, 4), np.float32)}, "kernel is a ndarray"),
        ({"offset_v": None}, "offset_v is a NoneType"),
        ({"kernel": torch.zeros(2, 9, 3, 4, device="meta")}, "kernel is on meta, hr on cpu"),
        ({"offset_h": 0.0}, "offset_h is a float"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    hr, kernel, offset_v, offset_h = (t.float() for t in problem(2, 3, 3, 4))
    arguments = {"hr": hr, "kernel": kernel, "offset_v": offset_v, "offset_h": offset_h, "scale": 2} | change
    with pytest.raises(ValueError, match=message) as caught:
        resample(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("whole", [float, np.int64, np.float64])
def test_whole_numbers_of_other_types_are_as_good(whole):
    args = problem(2, 3, 3, 4)
    expected = resample(*args, scale=2, pad=5)
    assert torch.equal(resample(*args, scale=whole(2), pad=whole(5)), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("scale", "size", "h", "w"), CASES)
def test_cuda_tensors_match_the_reference(scale, size, h, w):
    args = problem(scale, size, h, w)
    expected = resample(*args, scale=scale, impl="reference")
    torch.testing.assert_close(resample(*(t.cuda() for t in args), scale=scale).cpu(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("pad", "told"), [(10**9, "too large"), (2**23, "too large")])
def test_a_padded_image_too_large_to_be_counted_is_refused(pad, told):
    hr, taps = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=f"pad={pad} .*{told}"):
        resample(hr, taps, taps, taps, scale=1, pad=pad)


@pytest.mark.parametrize(("height", "width", "fits"), [(9, 8, True), (9, 9, False), (1, 15, True), (1, 16, False)])
def test_either_the_pixels_or_the_longest_side_can_be_too_many(height, width, fits, monkeypatch):
    assert (module._MOST_PIXELS, module._LONGEST_SIDE) == (2**31, 2**24)
    monkeypatch.setattr(module, "_MOST_PIXELS", 100)
    monkeypatch.setattr(module, "_LONGEST_SIDE", 16)
    image = torch.zeros(1, 1, height, width)
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match=f"is {height}x{width}, too large"):
        resample(image, image, image, image, scale=1)


def test_the_compiled_operator_needs_no_folder_to_write_to(monkeypatch):
    from carlib.ops import compiled

    def refusing(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled, "njit", refusing)
    assert compiled.compiled(parallel=True)(math.sqrt) is math.sqrt


@pytest.mark.parametrize("impl", ["reference", "torch", "numba"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_offset_that_is_no_number_touches_its_own_pixel_alone(impl, bad):
    draw = torch.Generator().manual_seed(0)
    hr, kernel = torch.rand(1, 2, 8, 12, generator=draw), torch.rand(1, 9, 4, 6, generator=draw)
    rest = torch.zeros_like(kernel)
    spoilt = rest.clone()
    spoilt[0, 4, 1, 2] = bad
    lr = resample(hr, kernel, spoilt, rest, scale=2, impl=impl)
    assert lr[0, :, 1, 2].isnan().all() or math.isinf(bad)
    lr[0, :, 1, 2] = 0
    expected = resample(hr, kernel, rest, rest, scale=2, impl=impl)
    expected[0, :, 1, 2] = 0
    torch.testing.assert_close(lr, expected, rtol=0, atol=0)
