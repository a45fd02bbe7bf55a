"""The operator's benchmark: the same job on both sides, no test looks at a time."""

import math
import re
from functools import partial
from itertools import chain, product

import pytest
import torch

from carlib import resample
from carlib.bench import operators, operators_gpu, rivals, suite

TINY = {"n": 2, "side": 16, "scale": 2, "size": 3}


def problem(scale, size, h, w, spread):
    """Float64; offsets beyond the reflected border."""
    draw = torch.Generator().manual_seed(0)
    hr = torch.rand(2, 3, h * scale, w * scale, generator=draw, dtype=torch.float64)
    taps = torch.randn(3, 2, size * size, h, w, generator=draw, dtype=torch.float64)
    return [hr, *(t.clone().requires_grad_() for t in (taps[0], spread * taps[1], spread * taps[2]))]


@pytest.mark.parametrize(("scale", "size", "h", "w"), [(1, 1, 3, 5), (2, 7, 4, 3), (4, 13, 3, 2), (2, 6, 3, 5)])
def test_the_rival_is_the_same_operator_forward_and_backward(scale, size, h, w):
    hr, *taps = problem(scale, size, h, w, spread=3)
    found = []
    for function in (partial(resample, impl="reference"), rivals.grid_sample_resample):
        lr = function(hr, *taps, scale=scale)
        upstream = torch.linspace(-1, 1, lr.numel(), dtype=lr.dtype).view_as(lr)
        found.append((lr, *torch.autograd.grad(lr, taps, upstream)))
    for ours, rival in zip(*found, strict=True):
        assert rival.shape == ours.shape
        assert (rival - ours).abs().max() < 1e-10  # positions make their way to -1..1 and back


def test_operator_has_a_row_for_each_resampler_and_problem(monkeypatch):
    monkeypatch.setattr(operators, "_memory_in_a_child", lambda name, problem: 1.5)
    monkeypatch.setattr(operators, "_threads", lambda repeats, patches: [])
    rows = list(chain.from_iterable(operators.rows(1, patches=(TINY, TINY | {"scale": 4}))))
    assert [row["name"] for row in rows] == ["carlib, numba", "carlib, torch", "grid_sample"] * 4
    assert [row["ratio"] for row in rows[::3]] == [1] * 4
    assert ["hr's gradient too" in row["case"] for row in rows[::3]] == [False, True] * 2
    assert ["offsets and hr;" in row["note"] for row in rows[::3]] == [False, True] * 2
    assert all(row["memory"] == 1.5 for row in rows)
    assert all(row["ratio"] == row["seconds"] / rows[0]["seconds"] for row in rows[:3])


def test_the_operator_is_timed_on_one_thread_and_on_two(monkeypatch):
    monkeypatch.setattr(operators, "_why_not_two_threads", lambda: "")
    before, seen, call = torch.get_num_threads(), [], operators._forward_backward
    monkeypatch.setattr(
        operators, "_forward_backward", lambda *args: (seen.append(torch.get_num_threads()), call(*args))
    )
    rows = list(chain.from_iterable(operators._threads(1, patches=(TINY,))))
    assert [row["name"] for row in rows] == ["carlib, 1 thread", "carlib, 2 threads"] * 2
    assert [row["case"].split(",")[1] for row in rows] == [" numba"] * 2 + [" torch"] * 2
    assert seen == [1, 2] * 4 and torch.get_num_threads() == before
    assert rows[1]["note"] == f"{1 / rows[1]['ratio']:.2f} times as fast as one thread"


def test_threads_that_cannot_be_had_are_told(monkeypatch, capsys):
    monkeypatch.setattr(operators, "_why_not_two_threads", lambda: "this process has one core")
    assert list(operators._threads(1, patches=(TINY,))) == []
    assert capsys.readouterr().err == "operator: threads are left out: this process has one core\n"


def test_operators_that_differ_are_not_timed(monkeypatch):
    monkeypatch.setitem(operators._RESAMPLERS, "grid_sample", lambda *args, scale: 1.001 * resample(*args, scale=scale))
    with pytest.raises(ValueError, match="differ by"):
        list(operators.rows(1, patches=(TINY,)))


def test_the_gpus_case_races_forward_and_backward_apart_and_knows_the_floor():
    """On a CPU, with its own implementations: what is measured is the same."""
    problem = {"n": 2, "height": 8, "width": 12, "scale": 2, "size": 3}
    rows = list(chain.from_iterable(operators_gpu.rows(1, "cpu", [problem, problem | {"n": 1}], copied=1 << 20)))
    assert [row["name"] for row in rows] == ["carlib, numba", "carlib, torch", "grid_sample"] * 4
    assert [row["case"] for row in rows[::3]] == [
        f"operator x2 on cpu, {direction}: {what}, 3x3 taps"
        for what in ("2 patches of 12 px", "one image of 12x8")
        for direction in ("forward", "backward")
    ]
    floors = [[float(re.match(r"floor (\S+) ms", row["note"])[1]) for row in rows[first::6]] for first in (0, 3)]
    assert floors[1] == pytest.approx([2 * floor for floor in floors[0]], rel=0.01)  # gradients are written, too
    assert floors[0][0] == pytest.approx(2 * floors[0][1], rel=0.01)
    for row in rows:
        reached = int(re.search(r"reached to (\d+)%", row["note"])[1])
        assert reached == pytest.approx(float(row["note"].split()[1]) / row["seconds"] / 10, abs=1)


def test_the_gpus_case_knows_offsets_as_small_as_trained_ones():
    problem = {"n": 1, "height": 8, "width": 12, "scale": 2, "size": 3, "spread": 0.01}
    rows = list(chain.from_iterable(operators_gpu.rows(1, "cpu", [problem], copied=1 << 20)))
    assert {row["case"].rpartition(", 3x3 taps")[2] for row in rows} == {", offsets below 0.01 px"}
    for spread, least, most in ((0.01, 0.005, 0.01), (None, 1, 2)):
        _, _, offset_v, offset_h, _ = operators_gpu._inputs("cpu", **problem | {"spread": spread})[0]
        assert all(least < offset.abs().max() <= most for offset in (offset_v, offset_h))


def test_backward_alone_gives_the_gradients():
    problem = {"n": 1, "height": 8, "width": 12, "scale": 2, "size": 3}
    (hr, *taps, upstream), *_ = sets = operators_gpu._inputs("cpu", **problem)
    call = operators_gpu._backward(partial(resample, impl="reference"), sets, 2)
    expected = torch.autograd.grad(resample(hr, *taps, scale=2), taps, upstream)[0]
    first, *others = (call() for _ in range(len(sets) + 1))
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-5)
    assert torch.equal(others[-1], first) and not torch.allclose(others[0], first)  # the sets take turns


def test_operators_that_differ_are_not_timed_on_a_gpu(monkeypatch):
    wrong = {"numba": resample, "grid_sample": lambda *args, scale: 1.01 * resample(*args, scale=scale)}
    monkeypatch.setattr(operators_gpu, "_candidates", lambda device: wrong)
    problem = {"n": 1, "height": 8, "width": 8, "scale": 2, "size": 3}
    with pytest.raises(ValueError, match=r"forward.*differ by"):
        list(operators_gpu.rows(1, "cpu", [problem], copied=1 << 10))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpus_case_wants_a_gpu():
    with pytest.raises(ValueError, match=r"^device 'cuda': PyTorch sees no GPU here; leave --device out"):
        suite.run("operator", device="cuda")


def test_the_gpus_case_wants_numbas_compiler(monkeypatch):
    """What the operator says of a device it cannot use, before anything is timed."""
    zeros = torch.zeros
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: zeros(*shape))
    with pytest.raises(ValueError, match='impl="cuda" cannot run here: hr is on cpu'):
        list(operators_gpu.rows(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_devices_own_time_is_told():
    problem = {"n": 2, "height": 32, "width": 48, "scale": 2, "size": 7}
    rows = list(chain.from_iterable(operators_gpu.rows(1, "cuda", [problem], copied=1 << 20)))
    assert [row["name"] for row in rows] == ["carlib, cuda", "carlib, torch", "grid_sample"] * 2
    assert all("by the device alone" in row["note"] and torch.cuda.get_device_name() in row["case"] for row in rows)


def test_extra_memory_knows_every_resampler():
    for name, with_hr in product(operators._RESAMPLERS, (False, True)):
        ratio = operators._extra_memory(name, TINY | {"with_hr": with_hr})
        assert ratio >= 0 or math.isnan(ratio)
