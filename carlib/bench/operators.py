"""The operator on a CPU beside plain PyTorch's and grid_sample's, forward and backward: time, memory, threads."""

import sys
from functools import partial
from itertools import product

import torch
from tqdm import tqdm

from carlib import cores, memory, timing
from carlib.bench.rivals import grid_sample_resample
from carlib.ops.resample import resample

# The paper's batch: 16 patches whose LR images are 48 px, kernels of 3*scale + 1 taps.
_PATCHES = ({"n": 16, "side": 192, "scale": 4, "size": 13}, {"n": 16, "side": 96, "scale": 2, "size": 7})
_THREADS = {"1 thread": 1, "2 threads": 2}
_TOLERANCE = 1e-5  # float32: a position among 200 pixels is known to 1e-5 pixels
_RESAMPLERS = {
    "carlib, numba": partial(resample, impl="numba"),
    "carlib, torch": partial(resample, impl="torch"),
    "grid_sample": grid_sample_resample,
}


def rows(repeats, patches=_PATCHES, device="cpu"):
    """Rows of `bench.COLUMNS` without machine and date: forward and backward to kernel and offsets; to hr as well.

    Then of one thread and of two.

    Args:
        device: "cuda" for the rows of carlib.bench.operators_gpu in place of these.
    Yields:
        a list for every case, once it is measured.
    Raises:
        ValueError: candidates disagree, or as there.
    """
    if device == "cuda":
        from carlib.bench import operators_gpu

        yield from operators_gpu.rows(repeats)
        return
    memory.keep_freed()  # as training does
    for problem, with_hr in product(patches, (False, True)):
        n, side, scale, size = (problem[key] for key in ("n", "side", "scale", "size"))
        job = f"operator x{scale}: {n} patches of {side} px, {size}x{size} taps" + ", hr's gradient too" * with_hr
        inputs = _inputs(**problem, with_hr=with_hr)
        calls = {name: partial(_forward_backward, f, inputs, scale) for name, f in _RESAMPLERS.items()}
        difference = _largest_difference(calls, job)
        seconds = timing.in_turns(calls, repeats, job)
        child = problem | {"with_hr": with_hr}
        grown = {name: _memory_in_a_child(name, child) for name in tqdm(calls, desc=f"{job}: memory")}
        gradients = "kernel, offsets and hr" if with_hr else "kernel and offsets"
        note = f"forward, and backward to {gradients}; lr within {difference:.1g} of each other"
        yield timing.rows(job, seconds, dict.fromkeys(calls, note), grown)
    yield from _threads(repeats, patches)


def _threads(repeats, patches=_PATCHES):
    """Rows of the operator on one thread and on two; none, and a line on stderr, where two cannot be had."""
    if why := _why_not_two_threads():
        print(f"operator: threads are left out: {why}", file=sys.stderr)
        return
    for problem in patches:
        n, side, scale, size = (problem[key] for key in ("n", "side", "scale", "size"))
        for impl in ("numba", "torch"):
            job = f"operator x{scale}, {impl}, threads: {n} patches of {side} px, {size}x{size} taps"
            call = partial(_forward_backward, partial(resample, impl=impl), _inputs(**problem), scale)
            calls = {f"carlib, {label}": partial(_on_threads, count, call) for label, count in _THREADS.items()}
            before = torch.get_num_threads()
            try:
                seconds = timing.in_turns(calls, repeats, job)
            finally:
                torch.set_num_threads(before)
            one, two = seconds.values()
            yield timing.rows(job, seconds, {list(calls)[1]: f"{one / two:.2f} times as fast as one thread"})


def _why_not_two_threads() -> str:
    from numba import config

    if cores.count() < 2:
        return "this process has one core"
    return "" if config.NUMBA_NUM_THREADS > 1 else "NUMBA_NUM_THREADS is 1; unset it"


def _on_threads(count, call):
    torch.set_num_threads(count)  # numba's follow
    return call()


def _inputs(n, side, scale, size, with_hr=False):
    """hr, kernel, offset_v, offset_h and the gradient of lr, float32, as a network gives them."""
    draw = torch.Generator().manual_seed(0)
    shape = (n, size * size, side // scale, side // scale)
    hr = torch.rand(n, 3, side, side, generator=draw)
    kernel = torch.rand(shape, generator=draw)
    kernel /= kernel.sum(1, keepdim=True)
    offsets = [torch.empty(shape).uniform_(-scale, scale, generator=draw) for _ in range(2)]
    upstream = torch.rand(n, 3, *shape[2:], generator=draw)
    return hr.requires_grad_(with_hr), *(t.requires_grad_() for t in (kernel, *offsets)), upstream


def _forward_backward(function, inputs, scale):
    """lr and the gradients of the inputs that want one."""
    *tensors, upstream = inputs
    lr = function(*tensors, scale=scale)
    return lr, *torch.autograd.grad(lr, [t for t in tensors if t.requires_grad], upstream)


def _largest_difference(calls, job) -> float:
    """Between the lr of any candidate and ours; a race between operators that differ would say nothing."""
    found = [call()[0].detach() for call in calls.values()]
    difference = max(float((lr - found[0]).abs().max()) for lr in found)
    if not difference <= _TOLERANCE:
        raise ValueError(f"{job}: results differ by {difference:.2g}, more than {_TOLERANCE:g}; nothing was timed")
    return difference


def _memory_in_a_child(name, problem) -> float:
    return timing.number_from_a_child(
        f"from carlib.bench import operators; print(operators._extra_memory({name!r}, {problem!r}))"
    )


def _extra_memory(name, problem) -> float:
    """Peak growth of this process in forward and backward, over the bytes of lr and the gradients."""
    scale = problem["scale"]
    function = _RESAMPLERS[name]
    _forward_backward(function, _inputs(**problem | {"n": 1, "side": 8 * scale}), scale)  # compiles, starts threads
    inputs = _inputs(**problem)
    growth, found = timing.peak_growth(partial(_forward_backward, function, inputs, scale))
    return growth / sum(t.numel() * t.element_size() for t in found)
