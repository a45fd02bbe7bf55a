"""Ours against rivals: the operator, convolutions, training, down- and upscaling, the start of a process.

Every case times its candidates in turns within one process, so that a busy or slowing machine slows them alike: trust
the ratios, not the seconds. Freed memory is kept as in training (`memory.keep_freed`) from the operator's case
on. Rows of a case begin with ours; a name that begins with "carlib" is ours. They are written as soon as they are
there, so that a benchmark which is stopped keeps what it has measured.
"""

import datetime
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from torch import nn

from carlib import devices, provenance, results, timing

COLUMNS = ["case", "name", "seconds", "ratio", "memory", "note", "machine", "date"]
# Features of EDSR's baseline and of CAR's EDSR on a batch of LR patches.
_FEATURES = ({"channels": 64, "n": 8, "side": 48}, {"channels": 256, "n": 8, "side": 48})
_CONVOLUTIONS = 4


def run(case="all", *, repeats=7, out=None, profile=None, device=None, params=None, kills=None, seed=None):
    """Time ours against rivals in the same run.

    Args:
        case:    "operator", "convolution", "train", "kill", "downscale", "upscale", "start" or "all".
        repeats: timed rounds, >= 1; their median counts, of "downscale" the fastest. One more goes first, untimed.
        out:     CSV to write, or None; a picture of the same name appears beside it, as .png. Of a table that is there
                 each new case takes the place of its older rows of this processor once it is measured; rows of cases
                 that are no more stay until the file is deleted.
        profile: of "train": whose runs; None: mini's.
        device:  of "train" and "kill"; of "operator" "cuda" (carlib.bench.operators_gpu). All else runs on the CPU.
                 None: a GPU where there is one, the operator on a CPU.
        params:  of "train": "name=value" strings that change the runs.
        kills, seed: of "kill": how often, and from what the moments are drawn; None: 20 times, from 0.
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
    given = {"profile": profile, "device": device, "params": params or None, "kills": kills, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None}
    _check(case, given)
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
    measured = []
    for name in names:
        own = {option: value for option, value in given.items() if option in _OPTIONS.get(name, ())}
        for rows in _CASES[name](repeats, **own):
            measured.append(_table(rows))
            if out is not None:
                _write(_renewed(_earlier(out), measured[-1]), out)
    return pd.concat(measured, ignore_index=True) if measured else _table([])


def _check(case, given):
    """Refuse options that are given to a case which has none of the name, and numbers out of range."""
    for name in given:
        users = [user for user, own in _OPTIONS.items() if name in own]
        if case not in (*users, "all"):
            option = {"params": "param"}.get(name, name)
            raise ValueError(f"case {case} has no {option}: leave --{option} out, or use case {' or '.join(users)}")
    if case == "operator" and given.get("device", "auto") not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={given['device']!r}: the operator is timed on cpu or cuda")
    if given.get("kills", 1) < 1:
        raise ValueError(f"kills={given['kills']!r} is not a whole number >= 1")


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


def _operator(repeats, device="auto"):
    from carlib.bench import operators

    return operators.rows(repeats, device=device)


def _downscale(repeats):
    from carlib.bench import downscaling

    return downscaling.rows(repeats)


def _upscale(repeats):
    from carlib.bench import upscaling

    return upscaling.rows(repeats)


def _train(repeats, **chosen):
    from carlib.bench import train_step

    return train_step.rows(repeats, **chosen)


def _kill(_repeats, **chosen):
    from carlib.bench import kills

    return kills.rows(**chosen)


# Case -> the options of `run` that it has; their defaults are its own.
_OPTIONS = {
    "operator": ("device",),
    "train": ("profile", "device", "params"),
    "kill": ("kills", "seed", "device"),
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
