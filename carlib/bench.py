"""Ours against rivals: the operator, convolutions, training, down- and upscaling, the start; and what networks take.

Every case times its candidates in turns within one process, so that a busy or slowing machine slows them alike: trust
the ratios, not the seconds. Freed memory is kept as in training (`memory.keep_freed`) from the operator's case
on. Rows of a case begin with ours; a name that begins with "carlib" is ours. They are written as soon as they are
there, so that a benchmark which is stopped keeps what it has measured.
"""

import datetime
import os
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from carlib import cores, devices, memory, provenance, results, timing
from carlib.bench_rival import grid_sample_resample
from carlib.ops.resample import resample

COLUMNS = ["case", "name", "seconds", "ratio", "memory", "note", "machine", "date"]
# The paper's batch: 16 patches whose LR images are 48 px, kernels of 3*scale + 1 taps.
_PATCHES = ({"n": 16, "side": 192, "scale": 4, "size": 13}, {"n": 16, "side": 96, "scale": 2, "size": 7})
# Features of EDSR's baseline and of CAR's EDSR on a batch of LR patches.
_FEATURES = ({"channels": 64, "n": 8, "side": 48}, {"channels": 256, "n": 8, "side": 48})
_CONVOLUTIONS = 4
_THREADS = {"1 thread": 1, "2 threads": 2}
_TOLERANCE = 1e-5  # float32: a position among 200 pixels is known to 1e-5 pixels


def run(case="all", *, repeats=7, out=None, profile="mini", device="auto", params=(), kills=20, seed=0):
    """Time ours against rivals in the same run.

    Args:
        case:    "operator", "convolution", "train", "kill", "downscale", "upscale", "start" or "all".
        repeats: timed rounds, >= 1; their median counts, of "downscale" the fastest. One more goes first, untimed.
        out:     CSV to write, or None; a picture of the same name appears beside it, as .png. Of a table that is there
                 each new case takes the place of its older rows of this processor once it is measured; rows of cases
                 that are no more stay until the file is deleted.
        profile: of "train": whose runs.
        device:  of "train" and "kill"; of "operator" "cuda" (carlib.bench_operator_gpu). All else runs on the CPU.
        params:  of "train": "name=value" strings that change the runs.
        kills, seed: of "kill": how often, and from what the moments are drawn.
    Returns:
        DataFrame with COLUMNS. seconds: of one call; "downscale": per HR megapixel. ratio: seconds over those of ours,
        the case's first row (2.0: ours is twice as fast), NaN for downscalers without a rival. memory: peak growth of a
        fresh process over the bytes of all results ("downscale", "upscale": of the HR image), NaN where it is not
        measured. note: what else was found. machine: processor, cores, threads, version of torch. date: ISO day.
    Raises:
        ValueError: an unknown case or parameter, no repeats or kills, an `out` that cannot be written or is another
            table (before anything is measured); a full disk later on; a candidate and its rival disagree; there is no
            such device; a killed training ended otherwise than one that was left alone.
    """
    if case != "all" and case not in _CASES:
        raise ValueError(f"case={case!r} is unknown: use one of {', '.join(_CASES)}, all")
    if repeats < 1:
        raise ValueError(f"repeats={repeats!r} is not a whole number >= 1")
    if kills < 1:
        raise ValueError(f"kills={kills!r} is not a whole number >= 1")
    if case == "operator" and device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={device!r}: the operator is timed on cpu or cuda")
    given = {"profile": profile != "mini", "device": device != "auto", "kills": kills != 20, "seed": seed != 0}
    for name in [name for name, known in (given | {"param": bool(params)}).items() if known]:
        if case not in (*_OPTIONS[name], "all"):
            raise ValueError(
                f"case {case} has no {name}: leave --{name} out, or use case {' or '.join(_OPTIONS[name])}"
            )
    if out is not None and Path(out).suffix.lower() == ".png":
        raise ValueError(
            f"{out} is where the picture would go: name the table, such as {Path(out).with_suffix('.csv')}"
        )
    import pandas as pd

    if out is not None:
        results.check_writable(out)
        results.check_writable(Path(out).with_suffix(".png"))
        _earlier(out)
    names = _CASES if case == "all" else [case]
    options = {
        "operator": {"device": device},
        "train": {"profile": profile, "device": device, "params": params},
        "kill": {"kills": kills, "seed": seed, "device": device},
    }
    measured = []
    for name in names:
        for rows in _CASES[name](repeats, **options.get(name, {})):
            measured.append(_table(rows))
            if out is not None:
                _write(_renewed(_earlier(out), measured[-1]), out)
    return pd.concat(measured, ignore_index=True) if measured else _table([])


def _table(rows):
    """A DataFrame of rows, with the machine and the day."""
    import pandas as pd

    day = datetime.date.today().isoformat()
    return pd.DataFrame(rows, columns=COLUMNS).assign(machine=provenance.machine(), date=day)


def _write(table, out):
    """The table first: a picture can be drawn again."""
    results.write_text(out, table.to_csv(index=False, float_format="%.6g"))
    _draw(table.fillna({"note": ""}).to_dict("records"), Path(out).with_suffix(".png"))


def _earlier(path):
    """The table that is there, None without one; rows from before there was a date have none.

    It is read anew for each case: another benchmark may have written others.
    """
    import pandas as pd

    if not Path(path).is_file():
        return None
    try:
        before = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path} as CSV ({error}): name another file") from error
    before = before.assign(date=before.date.fillna("") if "date" in before else "")
    if missing := [column for column in COLUMNS if column not in before]:
        raise ValueError(f"{path} is no table of `carlib bench`, it has no column {missing[0]}: name another file")
    return before


def _renewed(before, table):
    """`before`, if there is one, with the rows of `table` in place of those of the same cases, new cases last.

    Those of other processors stay.
    """
    import pandas as pd

    if before is None:
        return table
    rows = pd.concat([before, table], ignore_index=True)
    keys = pd.Series([(case, provenance.processor(text)) for case, text in zip(rows.case, rows.machine, strict=True)])
    new = rows.index >= len(before)
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    kept = rows[new | ~keys.isin(keys[new])]
    return kept.iloc[keys[kept.index].map(places).argsort(kind="stable")]


_RESAMPLERS = {
    "carlib, numba": partial(resample, impl="numba"),
    "carlib, torch": partial(resample, impl="torch"),
    "grid_sample": grid_sample_resample,
}


def _operator(repeats, patches=_PATCHES, device="cpu"):
    """Rows of the operator: forward, and backward to kernel and offsets as training needs it, then to hr as well."""
    if device == "cuda":
        from carlib import bench_operator_gpu

        yield from bench_operator_gpu.rows(repeats)
        return
    memory.keep_freed()  # as training does
    for problem, with_hr in product(patches, (False, True)):
        n, side, scale, size = (problem[key] for key in ("n", "side", "scale", "size"))
        job = f"operator x{scale}: {n} patches of {side} px, {size}x{size} taps" + ", hr's gradient too" * with_hr
        inputs = _inputs(**problem, with_hr=with_hr)
        calls = {name: partial(_forward_backward, f, inputs, scale) for name, f in _RESAMPLERS.items()}
        threads = torch.get_num_threads()
        difference = _largest_difference(calls, job)
        torch.set_num_threads(threads)  # numba's first launch changes OpenMP's number, which is torch's as well
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
    return timing.number_from_a_child(f"from carlib import bench; print(bench._extra_memory({name!r}, {problem!r}))")


def _extra_memory(name, problem) -> float:
    """Peak growth of this process in forward and backward, over the bytes of lr and the gradients."""
    scale = problem["scale"]
    function = _RESAMPLERS[name]
    _forward_backward(function, _inputs(**problem | {"n": 1, "side": 8 * scale}), scale)  # compiles, starts threads
    inputs = _inputs(**problem)
    growth, found = timing.peak_growth(partial(_forward_backward, function, inputs, scale))
    return growth / sum(t.numel() * t.element_size() for t in found)


def _convolution(repeats, features=_FEATURES):
    """Rows of a stack of 3x3 convolutions, forward and backward to features and weights, as `train` computes them."""
    dtype = torch.bfloat16 if devices.auto_precision() == "bf16-mixed" else torch.float32
    remark = "" if dtype == torch.bfloat16 else "; this processor has no bfloat16, training uses float32"
    for problem in features:
        channels, n, side = (problem[key] for key in ("channels", "n", "side"))
        job = f"{_CONVOLUTIONS} convolutions of {channels} features, {n}x{side}x{side}"
        calls = {
            f"carlib, {str(dtype).removeprefix('torch.')} channels_last": _stack(dtype, torch.channels_last, **problem),
            "float32 contiguous": _stack(torch.float32, torch.contiguous_format, **problem),
        }
        seconds = timing.in_turns(calls, repeats, job)
        # forward, gradient of the features, gradient of the weights: each a product of the same size
        operations = 3 * _CONVOLUTIONS * 2 * 9 * channels**2 * n * side**2
        notes = {name: f"{operations / s / 1e9:.0f} GFLOP/s{remark}" for name, s in seconds.items()}
        yield timing.rows(job, seconds, notes)


def _stack(dtype, layout, channels, n, side):
    """A function without arguments: forward and backward of the stack, autocast to `dtype`."""
    layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(_CONVOLUTIONS)]
    stack = nn.Sequential(*layers).to(memory_format=layout)
    features = torch.rand(n, channels, side, side).to(memory_format=layout).requires_grad_()

    def call():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = stack(features)
        return torch.autograd.grad(found, [features, *stack.parameters()], found.detach())

    return call


def measure_networks(table, side=192, each=lambda measured: None):
    """What the networks of `carlib.models.summary` take on this machine, single precision, one image.

    Args:
        table: its DataFrame, or some rows of it.
        side:  of the square HR image in pixels, a multiple of the scales.
        each:  called after every network with what is measured so far, as it is returned in the end.
    Returns:
        the table with three more columns. Per HR megapixel: seconds of one forward pass (after a small one that begins
        threads), gigabytes by which the process grows at its peak (NaN off Linux). machine: as `run` has it.
    """
    rows = table[["network", "size", "scale"]].to_dict("records")
    code = f"from carlib import bench; bench._print_measures({rows!r}, {side})"
    environment, found = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}, []  # as for the operator
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in tqdm(child.stdout, total=len(rows), desc="forward passes", unit="network"):
                found.append([float(value) for value in line.split()])
                each(_with_measures(table, found, side))
        except BaseException:
            child.kill()  # it would measure on
            raise
    if child.returncode or len(found) != len(rows):
        raise ValueError(f"the measurement stopped after {len(found)} of {len(rows)} networks: is the memory enough?")
    return _with_measures(table, found, side)


def _with_measures(table, found, side):
    """The first rows of the table, as many as were measured, with the three columns."""
    megapixels = side * side / 1e6
    seconds, growth = zip(*found, strict=True)
    return table.head(len(found)).assign(
        seconds=[value / megapixels for value in seconds],
        gigabytes=[value / 1e9 / megapixels for value in growth],
        machine=provenance.machine(),
    )


def _print_measures(rows, side):
    """A line "seconds bytes" for every row, as soon as it is known."""
    from carlib import models

    for row in rows:
        network = models.create(row["network"], row["scale"], row["size"]).eval()
        size = side if row["network"] in models.DOWNSCALERS else side // row["scale"]
        with torch.inference_mode():
            small = 16 * row["scale"]  # a multiple of it, which the downscalers need
            network(torch.rand(1, 3, small, small))
            image, began = torch.rand(1, 3, size, size), time.perf_counter()
            growth, _ = timing.peak_growth(partial(network, image))
        print(time.perf_counter() - began, growth, flush=True)


def _start(repeats):
    """Rows of starting Python with and without us."""
    arguments = {
        "carlib, import": ["-c", "import carlib"],
        "carlib --help": ["-m", "carlib", "--help"],
        "python -c pass": ["-c", "pass"],
    }
    calls = {
        name: partial(subprocess.run, [sys.executable, *rest], stdout=subprocess.DEVNULL, check=True)
        for name, rest in arguments.items()
    }
    yield timing.rows("start of a process", timing.in_turns(calls, repeats, "start"))


def _downscale(repeats):
    from carlib import bench_downscale

    return bench_downscale.rows(repeats)


def _upscale(repeats):
    from carlib import bench_upscale

    return bench_upscale.rows(repeats)


def _train(repeats, **chosen):
    from carlib import bench_train

    return bench_train.rows(repeats, **chosen)


def _kill(_repeats, **chosen):
    from carlib import bench_kill

    return bench_kill.rows(**chosen)


# Option -> the cases that have it.
_OPTIONS = {
    "profile": ("train",),
    "device": ("operator", "train", "kill"),
    "param": ("train",),
    "kills": ("kill",),
    "seed": ("kill",),
}
# Functions that give a list of rows whenever a case is measured.
_CASES = {
    "operator": _operator,
    "convolution": _convolution,
    "train": _train,
    "kill": _kill,
    "downscale": _downscale,
    "upscale": _upscale,
    "start": _start,
}


def _draw(rows, path):
    """A picture of the rows; of several machines each title names its own."""
    from carlib import figures

    machines = Counter(case for case, _ in {(row["case"], row["machine"]) for row in rows})
    rows = [row | {"case": f"{row['case']}; {row['machine']}"} if machines[row["case"]] > 1 else row for row in rows]
    with results.atomic(path) as temporary:
        figures.bench(rows).savefig(temporary, dpi=150, format="png", metadata={"Software": None})
