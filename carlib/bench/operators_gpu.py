"""`carlib bench operator --device cuda`: the operator on a GPU, forward and backward apart, and how near to the floor.

The floor is the time in which the device, at the rate at which it copies in the same run, reads kernel and offsets once
(backward: and writes their gradients once). The share of it is told twice: of the seconds of a call that is waited for,
and of the device's own time, without Python's for launching. Inputs change from call to call, so that no cache has
them. Offsets are drawn from an LR pixel to either side, the most that a network can ask for, and then as small as those
of trained ones, whose taps lie beside each other in memory. On a CPU, for tests, the same function races "numba" in
place of "cuda" and knows no device's own time.
"""

import itertools
import math
import statistics
import time
from functools import partial

import torch

from carlib import timing
from carlib.bench.rivals import grid_sample_resample
from carlib.ops.resample import resample

_TRAINED = 0.01  # pixels: the shipped CARs with EDSR move no tap by a third of it
# The paper's batch at x4, the same patches at x2, and one 4K image.
_PROBLEMS = [
    {"n": n, "height": height, "width": width, "scale": scale, "size": 3 * scale + 1, "spread": spread}
    for spread in (None, _TRAINED)
    for scale in (2, 4)
    for n, height, width in ((16, 192, 192), (1, 2160, 3840))
]
# Per pixel of the longer side: float32 knows a position among 200 pixels to 1e-5 pixels. In lr it is a mean over taps
# that errs; in a gradient of `kernel` one tap in each of three channels.
_TOLERANCE = {"forward": 5e-8, "backward": 5e-7}
_COLD = 1 << 28  # bytes of kernels and offsets among which calls change: above every cache
_COPIED = 1 << 30  # bytes whose copying measures the rate
_COUNT = 10  # calls whose time on the device is taken, one by one: together those of impl="torch" overflow its queue
_ASLEEP = 100_000_000  # cycles, 50 ms: the device sleeps until all kernels of a call are launched


def rows(repeats, device="cuda", problems=_PROBLEMS, copied=_COPIED):
    """Rows of `bench.COLUMNS` without machine and date, two cases a problem: forward; backward to kernel and offsets.

    Yields:
        a list for every case, once it is measured.

    Raises:
        ValueError: there is no GPU, the kernels cannot run on it (no extra `cuda`), or candidates disagree.
    """
    name = _check(device)
    rate = _copy_rate(device, copied)
    for problem in problems:
        n, height, width, scale, size = (problem[key] for key in ("n", "height", "width", "scale", "size"))
        what = f"{n} patches of {width} px" if n > 1 else f"one image of {width}x{height}"
        small = f", offsets below {problem['spread']:g} px" if problem.get("spread") else ""
        sets = _inputs(device, **problem)
        read = 3 * sets[0][1].numel() * sets[0][1].element_size()
        for direction, bytes_moved in (("forward", read), ("backward", 2 * read)):
            job = f"operator x{scale} on {name}, {direction}: {what}, {size}x{size} taps{small}"
            yield _raced(direction, sets, scale, device, job, repeats, bytes_moved / rate, rate)


def _check(device) -> str:
    """The device's name, once it is sure that it can be used."""
    if device != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ValueError("device 'cuda': PyTorch sees no GPU here; leave --device out to measure the CPU's operator")
    tap = torch.zeros(1, 1, 1, 1, device=device)
    resample(tap, tap, tap, tap, scale=1, impl="cuda")  # refuses, and says why, without numba's compiler
    return torch.cuda.get_device_name()


def _candidates(device):
    own = "cuda" if device == "cuda" else "numba"
    return {
        f"carlib, {own}": partial(resample, impl=own),
        "carlib, torch": partial(resample, impl="torch"),
        "grid_sample": grid_sample_resample,
    }


def _inputs(device, n, height, width, scale, size, spread=None):
    """Sets of hr, kernel, offset_v, offset_h and the gradient of lr, float32: as many as no cache holds, 4 at most.

    spread: the largest offset in pixels, default the scale.
    """
    spread = scale if spread is None else spread
    draw = torch.Generator(device).manual_seed(0)
    shape = (n, size * size, height // scale, width // scale)
    count = min(4, math.ceil(_COLD / (3 * 4 * math.prod(shape))))

    def made():
        hr, upstream = (torch.rand(n, 3, *side, generator=draw, device=device) for side in ((height, width), shape[2:]))
        kernel = torch.rand(shape, generator=draw, device=device)
        kernel /= kernel.sum(1, keepdim=True)
        offsets = (torch.empty(shape, device=device).uniform_(-spread, spread, generator=draw) for _ in range(2))
        return hr, *(t.requires_grad_() for t in (kernel, *offsets)), upstream

    return [made() for _ in range(count)]


def _raced(direction, sets, scale, device, job, repeats, floor, rate):
    make = {"forward": _forward, "backward": _backward}[direction]
    calls = {name: make(function, sets, scale) for name, function in _candidates(device).items()}
    difference = _largest_difference(calls, _TOLERANCE[direction] * max(200, *sets[0][0].shape[2:]), job)
    seconds = timing.in_turns({name: partial(_waited, call, device) for name, call in calls.items()}, repeats, job)
    notes = {}
    for name, call in calls.items():
        notes[name] = f"floor {floor * 1e3:.3g} ms at {rate / 1e9:.0f} GB/s, reached to {floor / seconds[name]:.0%}"
        if device == "cuda":
            alone = _on_device(call, _COUNT)
            notes[name] += f"; by the device alone {alone * 1e3:.3g} ms, {floor / alone:.0%}"
        notes[name] += f"; results within {difference:.1g} of each other"
    return timing.rows(job, seconds, notes)


def _forward(function, sets, scale):
    """A function without arguments: lr of the next set."""
    turns = itertools.cycle(sets)

    @torch.no_grad()
    def call():
        *tensors, _ = next(turns)
        return function(*tensors, scale=scale)

    return call


def _backward(function, sets, scale):
    """A function without arguments: gradients of the next set's kernel and offsets, lr being there."""
    turns = itertools.cycle([(function(*tensors, scale=scale), tensors, upstream) for *tensors, upstream in sets])

    def call():
        lr, (_, *taps), upstream = next(turns)
        return torch.autograd.grad(lr, taps, upstream, retain_graph=True)[0]

    return call


def _largest_difference(calls, limit, job) -> float:
    """Between the first results (of backward: the kernel's gradients) of any candidate and ours.

    Those of offsets jump where a position passes a pixel, and so by rounding alone; tests compare them in float64.
    """
    found = [call().detach() for call in calls.values()]
    difference = max(float((other - found[0]).abs().max()) for other in found)
    if not difference <= limit:
        raise ValueError(f"{job}: results differ by {difference:.2g}, more than {limit:.2g}; nothing was timed")
    return difference


def _waited(call, device):
    call()
    if device == "cuda":
        torch.cuda.synchronize()


def _on_device(call, count) -> float:
    """Seconds of a call by the GPU's own clock, while it has all of the call's kernels at hand: the median."""
    seconds = []
    for _ in range(count):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(_ASLEEP)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(seconds)


def _copy_rate(device, size) -> float:
    """Bytes per second that are read and written while memory is copied, the best of five."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = partial(target.copy_, source)
    if device == "cuda":
        return 2 * size / min(_on_device(copy, 2) for _ in range(5))
    best = math.inf
    for _ in range(6):  # the first one gets the memory
        began = time.perf_counter()
        copy()
        best = min(best, time.perf_counter() - began)
    return 2 * size / best
