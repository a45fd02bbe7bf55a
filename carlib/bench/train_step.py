"""`carlib bench train`: a training step of CAR as `carlib train` computes it, against the same step done plainly.

The rival has the same networks, images and loss in float32, contiguous memory, and is composed of PyTorch's operators:
it resamples with grid_sample, and has none of our compiled loops for guided weights and penalties. Ours in contiguous
memory stands between them: it tells the layout's part from that of the loops. On a GPU, and on a CPU if that is
asked for, ours races itself by torch.compile (the option `compile` of a run) in a case of its own: compiling takes
minutes, and gains nothing on a CPU.
"""

import contextlib
import os
import shutil
import sys
import time
from functools import partial
from importlib.util import find_spec

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from carlib import devices, runs, timing
from carlib.bench.rivals import composed, grid_sample_resample
from carlib.ops.quantize import quantize
from carlib.ops.resample_op import automatic
from carlib.run_networks import Restored
from carlib.training import step_cost
from carlib.training.loop import Loop
from carlib.training.patches import Patches

RUNS = ("car-edsr-x2", "car-edsr-x4")
_OPTIONS = ({}, {"compile": True}, {"precision": "32-true"})  # ours, ours compiled, the rival
# Parts of a step by the name of what PyTorch's profiler sees; the first that fits counts.
_PARTS = {
    "convolutions": ("conv", "cudnn", "mkldnn"),
    "operator": ("carlib::resample", "carlib_resample", "grid_sampler"),
    "other loops": ("carlib::", "_carlib_"),  # of guided weights, penalties and pixel shuffles
    "optimizer": ("Optimizer", "adam"),
    "patches": ("patches",),
}
_SIDES = {"cpu": 2048, "cuda": 8192}  # side of the square matrices whose product measures the peak


def rows(repeats, profile="mini", device="auto", params=()):
    """Rows of `bench.COLUMNS` without machine and date: seconds of one update, on patches of the embedded photographs.

    The note tells images per second, the share of the measured peak of matrix products that a step's multiplications
    reach, and where the time of ours goes.

    Args:
        params: "name=value" strings that change the runs, as `carlib train -p` takes them; the rival stays in float32.
            compile=true or false: whether torch.compile has a case.
    Yields:
        a list for every case, once it is measured.
    Raises:
        ValueError: the profile trains nothing, a parameter does not fit, or the device cannot be used.
    """
    chosen = runs.parse_overrides(params)
    compiles, params = chosen.pop("compile", None), [text for text in params if not text.startswith("compile=")]
    for name in RUNS:
        run, compiled, plain = (_run(name, profile, **chosen | options) for options in _OPTIONS)
        if not run.steps:
            raise ValueError(f"profile {profile} trains nothing: use --profile mini or paper")
        fabric = devices.fabric(run, device)
        job = f"training step of {name} ({', '.join([profile, *params])}){_on(fabric.device)}: "
        job += f"{run.batch} patches of {run.patch[run.scale]} px"
        computes = "bfloat16" if "bf16" in devices.precision(run, device) else "float32"
        operator = automatic(torch.empty(1, device=fabric.device))
        label = f"carlib, {computes} channels_last, {operator}"
        calls = {label: Step(run, fabric)}
        calls[label.replace("channels_last", "contiguous")] = ContiguousStep(run, devices.fabric(run, device))
        calls["float32 contiguous, grid_sample"] = PlainStep(plain, devices.fabric(plain, device))
        yield _raced(calls, repeats, job)
        if why := why_not_compile(fabric.device, compiles):
            print(f"{job}: torch.compile is left out: {why}", file=sys.stderr)
            continue
        print(f"{job}: torch.compile now makes a program of it, for minutes", file=sys.stderr)
        step = Step(compiled, fabric)
        begun = f"first step {_seconds(step):.0f} s; "
        calls = {label: Step(run, fabric), f"{label}, compiled": step}
        yield _raced(calls, repeats, f"{job}, torch.compile", {f"{label}, compiled": begun})


def _raced(calls, repeats, job, begun=None):
    """Rows of steps; begun: name -> the beginning of its note."""
    seconds = timing.in_turns(calls, repeats, job)
    operations = step_cost.operations(next(iter(calls.values())).loop.run)
    notes = {name: (begun or {}).get(name, "") + _note(step, seconds[name], operations) for name, step in calls.items()}
    return timing.rows(job, seconds, notes)


def _run(name, profile, **options):
    return runs.get(name, profile, {**dict.fromkeys(runs.STARTS), "train_sets": ["demo"], **options})


def _on(device) -> str:
    """Tells a GPU's case from the processor's."""
    return f" on {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""


def why_not_compile(device, asked=None) -> str:
    """What keeps torch.compile from making programs for a device here; nothing if it is to. asked: None, no choice."""
    if asked is False:
        return "compile=false"
    if asked is None and device.type == "cpu":
        return "on a CPU it takes minutes and gains nothing; -p compile=true times it"
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(compiler):
        return f"there is no C++ compiler {compiler}; install it, or name another in CXX"
    if device.type == "cuda" and not find_spec("triton"):
        return "there is no Triton; pip install triton"
    return ""


def _seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


class Step:
    """An update of a run, callable; every call is the next one."""

    def __init__(self, run, fabric):
        self.loop = Loop(run, fabric)
        self.loop.batches = Patches(run).ahead(range(10**9), workers=devices.workers(fabric))
        self.loop.rescaler.train()

    def __call__(self):
        self.loop._update(0, [])
        if self.loop.fabric.device.type == "cuda":
            torch.cuda.synchronize()


class ContiguousStep(Step):
    """The same in contiguous memory."""

    def __init__(self, run, fabric):
        super().__init__(run, fabric)
        self.loop.rescaler.module.to(memory_format=torch.contiguous_format)
        self.loop.batches = ([None if t is None else t.contiguous() for t in batch] for batch in self.loop.batches)


class PlainStep(ContiguousStep):
    """The same without what makes ours fast."""

    def __init__(self, run, fabric):
        super().__init__(run, fabric)
        rescaler = self.loop.rescaler.module
        rescaler.forward = partial(_plain_forward, rescaler)

    def __call__(self):
        with composed():
            super().__call__()


def _plain_forward(rescaler, hr, lr=None):
    resampler = rescaler.networks["resampler"]
    predicted = resampler(hr)
    lr = quantize(grid_sample_resample(hr, *predicted, scale=resampler.scale), rescaler.alpha)
    return Restored(rescaler.networks["upscaler"](lr), lr, predicted, None)


def _note(step, seconds, operations) -> str:
    run, device = step.loop.run, step.loop.fabric.device
    reached = operations / seconds / _peak(device, devices.precision(run, device.type))
    parts = ", ".join(f"{name} {share:.0%}" for name, share in _shares(step).items())
    return (
        f"{run.batch / seconds:.1f} images/s; {operations / 1e9:.3g} GFLOP a step, {reached:.0%} of the peak of "
        f"matrix products; {parts}"
    )


def _peak(device, precision) -> float:
    """Operations per second of a product of square matrices, the best of five; float32 as convolutions compute it."""
    side, dtype = _SIDES[device.type], torch.bfloat16 if "bf16" in precision else torch.float32
    a, b = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    with _products_as_convolutions():
        for _ in range(6):  # the first one warms up
            began = time.perf_counter()
            a @ b
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


@contextlib.contextmanager
def _products_as_convolutions():
    """On a GPU PyTorch lets cuDNN round float32 to TF32 and cuBLAS not, unless told otherwise: within it both alike."""
    products, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.fp32_precision
    products.fp32_precision = torch.backends.cudnn.conv.fp32_precision
    try:
        yield
    finally:
        products.fp32_precision = before


def _shares(step, count=3) -> dict[str, float]:
    """Part of a step -> its share of the time, the largest first."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler reports its own beginning and end on stderr
    step.loop.batches = _named(step.loop.batches)
    on_gpu = step.loop.fabric.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as seen:
        for _ in range(count):
            step()
    spent = {}
    for event in seen.key_averages():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a kernel, whose time the operator that launched it has as well
        part = next((part for part, marks in _PARTS.items() if any(mark in event.key for mark in marks)), "the rest")
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        spent[part] = spent.get(part, 0) + own
    total = sum(spent.values())
    return dict(sorted(((part, own / total) for part, own in spent.items()), key=lambda item: -item[1]))


def _named(batches):
    while True:
        with record_function("patches"):
            batch = next(batches)
        yield batch
