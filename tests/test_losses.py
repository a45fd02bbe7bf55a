"""Losses against loops that spell out the printed sums (Eq. 8-11)."""

import itertools
import math

import pytest
import torch

from carlib import losses
from carlib.ops import penalties

N, K, H, W, SCALE = 2, 3, 4, 5, 2


@pytest.fixture
def tensors():
    draw = torch.Generator().manual_seed(3)
    shape = (N, K * K, H, W)
    kernel = torch.rand(shape, generator=draw, dtype=torch.float64).softmax(1)
    return kernel, *(torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("eta", [1.0, 0.25])
@pytest.mark.parametrize("reading", ["weighted", "printed", "regulated"])
def test_offset_distance_is_equation_9(tensors, reading, eta):
    _, dv, dh = tensors
    shift = K / 2 if reading == "printed" else (K - 1) / 2
    total = 0
    for n, i, j, a, b in itertools.product(range(N), range(H), range(W), range(K), range(K)):
        at = (n, a * K + b, i, j)
        w = math.hypot(a - shift, b - shift) / math.hypot(K / 2, K / 2)
        length = math.hypot(dv[at], dh[at]) / SCALE  # LR pixels
        total += {"weighted": w * length, "printed": eta + w * length, "regulated": (eta + w) * length}[reading]
    found = losses.offset_distance(dv, dh, SCALE, reading, eta)
    assert found.item() == pytest.approx(total / (N * H * W), abs=1e-12)


@pytest.mark.parametrize(("reading", "divisor"), [("batch", N), ("mean", N * H * W)])
def test_partial_tv_is_equation_10(tensors, reading, divisor):
    kernel, dv, dh = tensors
    total = 0
    for n, t, i, j in itertools.product(range(N), range(K * K), range(H), range(W)):
        if j + 1 < W:  # vertical offsets along the row
            total += abs(dv[n, t, i, j + 1] - dv[n, t, i, j]) * kernel[n, t, i, j]
        if i + 1 < H:  # horizontal offsets along the column
            total += abs(dh[n, t, i + 1, j] - dh[n, t, i, j]) * kernel[n, t, i, j]
    found = losses.partial_tv(kernel, dv, dh, SCALE, reading)
    assert found.item() == pytest.approx(total.item() / SCALE / divisor, abs=1e-12)


def test_gradients_at_rest_are_numbers(tensors):
    kernel, dv, dh = (t.clone().zero_().requires_grad_() for t in tensors)
    (losses.offset_distance(dv, dh, SCALE) + losses.partial_tv(kernel, dv, dh, SCALE)).backward()
    assert all(t.grad is None or t.grad.isfinite().all() for t in (kernel, dv, dh))


def test_the_gradient_of_the_distance_is_right(tensors):
    _, dv, dh = (t.requires_grad_() for t in tensors)
    assert torch.autograd.gradcheck(lambda a, b: losses.offset_distance(a, b, SCALE), (dv, dh))


@pytest.mark.parametrize("shape", [(2, 9, 5, 7), (1, 4, 1, 6), (3, 4, 6, 1), (1, 4, 1, 1)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_compiled_sums_are_those_of_pytorch(shape, memory):
    """Forward and backward; at entries that are 0, too."""
    draw = torch.Generator().manual_seed(1)
    tensors = [torch.randn(shape, generator=draw, dtype=torch.float64).to(memory_format=memory) for _ in range(3)]
    for tensor in tensors:
        tensor[:, 0] = 0
        tensor.requires_grad_()
    weight = torch.rand(shape[1], generator=draw, dtype=torch.float64)
    lengths = [way(*tensors[1:], weight) for way in (torch.ops.carlib.sum_of_lengths, penalties._lengths)]
    steps = [way(*tensors) for way in (torch.ops.carlib.sum_of_steps, penalties._steps)]
    for ours, theirs in (lengths, steps):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        found, expected = (torch.autograd.grad(-0.7 * y, tensors, allow_unused=True) for y in (ours, theirs))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_compiled_sums_have_the_same_bits_on_any_number_of_threads():
    draw = torch.Generator().manual_seed(1)
    tensors = [torch.randn(3, 9, 20, 30, generator=draw).requires_grad_() for _ in range(3)]

    def bits(threads):
        torch.set_num_threads(threads)
        total = losses.partial_tv(*tensors, SCALE) + losses.offset_distance(*tensors[1:], SCALE)
        return total, *torch.autograd.grad(total, tensors)

    before = torch.get_num_threads()
    try:
        assert all(map(torch.equal, bits(1), bits(2)))
    finally:
        torch.set_num_threads(before)


def test_pytorch_finds_nothing_wrong_with_the_compiled_sums(tensors):
    tensors, weight = [t.requires_grad_() for t in tensors], torch.rand(K * K).double()
    torch.library.opcheck(torch.ops.carlib.sum_of_lengths.default, (*tensors[1:], weight))
    torch.library.opcheck(torch.ops.carlib.sum_of_steps.default, tuple(tensors))


def test_on_a_cpu_penalties_are_compiled_sums_with_one_derivative(tensors):
    tensors = [t.requires_grad_() for t in tensors]
    for total in (losses.partial_tv(*tensors, SCALE), losses.offset_distance(*tensors[1:], SCALE)):
        (gradient,) = torch.autograd.grad(total, tensors[1], create_graph=True)
        with pytest.raises(RuntimeError, match="no second derivatives on a CPU"):
            gradient.sum().backward()


def test_what_is_not_a_number_stays_so_in_loss_and_gradients(tensors):
    tensors[1][0, 0, 1, 1] = math.nan
    kernel, dv, dh = (t.requires_grad_() for t in tensors)
    total = losses.offset_distance(dv, dh, SCALE)
    assert total.isnan() and all(g[0, 0, 1, 1].isnan() for g in torch.autograd.grad(total, (dv, dh)))
    assert losses.partial_tv(kernel, dv, dh, SCALE).isnan()


@pytest.mark.parametrize("offset", [1e-22, 1e-21, 1e-19, 1e-10])
def test_offsets_that_hardly_move_have_a_gradient_of_full_size(offset):
    """The square of such a one is subnormal, and heads begin at 0: far taps move by as little in a first step."""
    dv, dh = torch.full((1, 9, 4, 4), offset), torch.zeros(1, 9, 4, 4)
    gradients = torch.autograd.grad(losses.offset_distance(dv.requires_grad_(), dh.requires_grad_(), 2), (dv, dh))
    larger = torch.full_like(dv, 0.5).requires_grad_()
    (expected,) = torch.autograd.grad(losses.offset_distance(larger, dh, 2), larger)
    torch.testing.assert_close(gradients[0], expected, rtol=0.5, atol=0)  # a square of few bits has a rough root
    assert not gradients[1].any()


@pytest.mark.parametrize("shape", [(1, 9, 0, 4), (1, 9, 4, 0), (0, 9, 4, 4)])
def test_tensors_without_numbers_are_refused(shape):
    empty = torch.zeros(shape)
    for call in (losses.partial_tv, losses.offset_distance):
        with pytest.raises(ValueError, match="holds no number"):
            call(*[empty] * (3 if call is losses.partial_tv else 2), SCALE)


def test_sums_composed_for_other_devices_are_no_float16s():
    half = torch.empty(1, 9, 40, 40, dtype=torch.float16, device="meta")
    assert penalties.sum_of_lengths(half, half, torch.ones(9, device="meta")).dtype == torch.float32
    assert penalties.sum_of_steps(half, half, half).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_penalties_of_half_precision_are_summed_in_float32(dtype):
    """Sums that float16 cannot hold, of which it can hold the mean."""
    draw = torch.Generator().manual_seed(3)
    half = [torch.rand(4, 49, 48, 48, generator=draw).to(dtype).requires_grad_() for _ in range(3)]
    whole = [t.detach().float().requires_grad_() for t in half]
    for found, expected in (
        (losses.partial_tv(*half, SCALE, "mean"), losses.partial_tv(*whole, SCALE, "mean")),
        (losses.offset_distance(*half[1:], SCALE), losses.offset_distance(*whole[1:], SCALE)),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=0)


def test_objective_is_the_weighted_sum(tensors):
    sr, hr = torch.rand(2, 1, 3, 4, 4).double()
    total, terms = losses.objective(sr, hr, *tensors, SCALE, lambda_offset=0.3, gamma_tv=0.7)
    expected = losses.l1(sr, hr) + 0.3 * losses.offset_distance(*tensors[1:], SCALE)
    expected = expected + 0.7 * losses.partial_tv(*tensors, SCALE)
    torch.testing.assert_close(total, expected)
    assert set(terms) == {"restoration", "offset", "tv"}
    assert losses.l1(sr, hr).item() == pytest.approx((sr - hr).abs().sum().item() / sr.numel())
    assert losses.l2(sr, hr).item() == pytest.approx(((sr - hr) ** 2).sum().item() / sr.numel())


def test_terms_by_name_have_no_gradient(tensors):
    tensors = [t.requires_grad_() for t in tensors]
    sr, hr = torch.rand(2, 1, 3, 4, 4).double().requires_grad_()
    total, terms = losses.objective(sr, hr, *tensors, SCALE, lambda_offset=0.3, gamma_tv=0.7)
    _, others = losses.guided(sr, hr, sr, hr, z=tensors[1])
    assert total.requires_grad and not any(term.requires_grad for term in (*terms.values(), *others.values()))


def test_charbonnier_is_rounded_off_below_a_thousandth():
    for error, expected in ((0.0, 1e-3), (1e-3, 1e-3 * math.sqrt(2)), (-0.3, math.hypot(0.3, 1e-3))):
        hr = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64)
        assert losses.charbonnier(hr + error, hr).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("change", [{"loss": "l3"}, {"readings": {"offset": "x"}}, {"readings": {"tv": "x"}}])
def test_unknown_readings_are_refused(tensors, change):
    sr = torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="unknown"):
        losses.objective(sr, sr, *tensors, SCALE, lambda_offset=1, gamma_tv=1, **change)


@pytest.mark.parametrize("loss", losses.RESTORATION.values())
def test_images_of_different_shapes_are_refused(loss):
    with pytest.raises(ValueError, match=r"sr \(2, 3, 4, 4\), hr \(2, 1, 4, 4\): shapes must be the same"):
        loss(torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4))


def test_maps_of_different_shapes_are_refused():
    whole, part, odd = torch.rand(2, 9, 3, 4), torch.rand(2, 9, 3, 1), torch.rand(2, 8, 3, 4)
    with pytest.raises(ValueError, match="shapes must be the same"):
        losses.offset_distance(whole, part, 2)
    with pytest.raises(ValueError, match="shapes must be the same"):
        losses.partial_tv(whole[:1], whole, whole, 2)
    with pytest.raises(ValueError, match="8 channels, not K"):
        losses.offset_distance(odd, odd, 2)


def test_a_reading_of_an_unknown_term_is_refused():
    hr, taps = torch.rand(1, 3, 4, 4), torch.rand(1, 9, 2, 2)
    with pytest.raises(ValueError, match="no reading of 'ofset'"):
        losses.objective(hr, hr, taps, taps, taps, 2, lambda_offset=1, gamma_tv=1, readings={"ofset": "printed"})
