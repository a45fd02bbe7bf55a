"""`carlib bench kill`: a training that is killed again and again ends with the bits of one that was left alone.

SIGKILL, which no process can heed, comes at moments that are drawn from a seed and share out over what a run does: its
start, updates, validations, and the writing of log, weights and checkpoint. A run tells before each of these that it
begins, and waits for leave: so a kill can hit the very moment between two files, on a machine of any speed.
"""

import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from tqdm import tqdm

from carlib import runs, timing, train, weights
from carlib.training import checkpoint, loop, run_folder

RUN = "car-edsr-x2"
PARTS = ("start", "update", "validation", "writing")
_WRITES = 8  # marks of "writing" among which a kill is drawn: up to five a validation, three before the first update


class Moment(NamedTuple):
    """Within the count-th `part` after a start, past a `fraction` of its usual time; 0: just before it begins.

    A part that takes less than usual is over by then: the kill comes just before the next one.
    """

    part: str
    count: int
    fraction: float


def rows(kills=20, seed=0, device="auto"):
    """Rows of `bench.COLUMNS` without the machine: seconds of the run left alone, and of the killed one in all.

    Yields:
        them, one list.
    Raises:
        ValueError: the two did not end alike.
    """
    run = runs.get(RUN, "smoke", {"validate_every": 2, "deterministic": device != "cpu"})
    moments = draw_moments(kills, seed, run.validate_every)
    with tempfile.TemporaryDirectory() as folder:
        trained, seconds = sweep(run, Path(folder), moments, device)
        if differing := differences(Path(folder, "whole"), Path(folder, "killed")):
            told = f"{RUN}, killed {kills} times (seed {seed}), ended otherwise than when it was left alone"
            raise ValueError(f"{told}: {', '.join(differing)} differ")
    hits = Counter(moment.part for moment in moments)
    told = ", ".join(f"{part} {hits[part]}" for part in PARTS)
    job = f"training of {RUN} (smoke) to its end: {trained.steps} steps"
    names = {"carlib, left alone": seconds[0], f"carlib, killed {kills} times": seconds[1]}
    note = f"SIGKILL at random moments (seed {seed}): {told}; weights, optimizer and log the same, bit for bit"
    yield timing.rows(job, names, {list(names)[1]: note})


def draw_moments(kills, seed, every) -> list[Moment]:
    """Random moments for a run that validates `every` so many steps, each part as often as the others."""
    draw = random.Random(seed)
    latest = {"start": 1, "update": 2 * every, "validation": 2, "writing": _WRITES}
    parts = [PARTS[number % len(PARTS)] for number in range(kills)]
    draw.shuffle(parts)
    return [Moment(part, draw.randint(1, latest[part]), draw.random()) for part in parts]


def sweep(run, folder, moments, device="cpu"):
    """Train a run in folder/whole undisturbed, and in folder/killed, killed at each of the moments and begun again.

    Args:
        run: its steps are made as many as the kills need, so that it does not end before the last of them.
    Returns:
        the run with its steps; seconds of both trainings.
    Raises:
        ValueError: a training failed.
    """
    run = dataclasses.replace(run, steps=run.validate_every * (1 + sum(_validations(m, run) for m in moments)))
    context = _context()
    began = time.perf_counter()
    usual = _train_until(None, {}, context, run, folder / "whole", device)
    ended = time.perf_counter()
    for moment in tqdm(moments, desc=f"{run.name}: kills", unit="kill"):
        _train_until(moment, usual, context, run, folder / "killed", device)
    _train_until(None, usual, context, run, folder / "killed", device)
    return run, (ended - began, time.perf_counter() - ended)


def _validations(moment, run) -> int:
    """How many may at most be done at a moment since the start before it."""
    if moment.part == "writing":
        return 2
    return (moment.count - 1) // (run.validate_every if moment.part == "update" else 1)


def _context():
    """Where there is fork, a process that has imported everything and computed nothing forks the trainings."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "lightning_fabric"])
    return context


def _train_until(moment, usual, context, run, folder, device):
    """Train until the moment and kill, or to the end (None); part -> usual seconds until the next one began."""
    pipe, theirs = context.Pipe()
    here = dict(os.environ), torch.get_num_threads()
    process = context.Process(target=_train, args=(run, folder, device, theirs, *here))
    process.start()
    theirs.close()  # so that the pipe ends with the process
    try:
        reached, times = _follow(pipe, moment)
        if reached:
            time.sleep(moment.fraction * usual.get(moment.part, 0))
        else:
            process.join()
    finally:
        process.kill()
        process.join()
    if not reached and process.exitcode:
        raise ValueError(f"{run.name} failed by itself, exit code {process.exitcode}: see above")
    assert reached or not moment, f"{run.name} was done before {moment}"
    return _usual(times)


def _follow(pipe, moment):
    """Give leave to every part up to the moment: whether it was reached, and [(part, time it began)]."""
    times = []
    with contextlib.suppress(EOFError):
        while True:
            part = pipe.recv()
            times.append((part, time.perf_counter()))
            reached = moment and moment[:2] == (part, sum(part == seen for seen, _ in times))
            if not reached or moment.fraction:
                pipe.send(None)
            if reached:
                return True, times
    return False, times


def _usual(times):
    found = defaultdict(list)
    for (part, began), (_, ended) in itertools.pairwise(times):
        found[part].append(ended - began)
    return {part: median(spans) for part, spans in found.items()}


def _train(run, folder, device, pipe, environment, threads):
    """Train, telling the other end of the pipe before each part, and waiting for its leave."""
    os.environ.update(environment)  # that of the process which forks is of its beginning
    torch.set_num_threads(threads)

    def tell(part):
        pipe.send(part)
        pipe.recv()

    def tell_before(owner, name, part):
        function = getattr(owner, name)

        @functools.wraps(function)
        def told(*args):
            tell(part)
            return function(*args)

        setattr(owner, name, told)

    tell("start")
    tell_before(loop.Loop, "_update", "update")
    tell_before(loop.Loop, "_validate", "validation")
    tell_before(run_folder.Record, "validated", "writing")
    tell_before(run_folder.Record, "keep", "writing")
    tell_before(Path, "replace", "writing")  # a file that is written takes its place
    train.train(run, folder, device=device, progress=False)


def differences(a, b) -> list[str]:
    """What differs between two folders of finished trainings, the seconds of their logs apart.

    Files count that are there in one folder alone, but not the hidden ones that a kill while writing leaves.
    """
    files = [sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) for folder in (a, b)]
    if files[0] != files[1]:
        return [f"files ({', '.join(files[0])}; {', '.join(files[1])})"]
    states = [checkpoint.read(folder) for folder in (a, b)]
    found = [part for part in ("step", "networks", "optimizer") if not _same(*(state[part] for state in states))]
    (one, header), (other, its) = (weights.read(folder / "weights.safetensors") for folder in (a, b))
    if not _same(one, other) or header | {"commit": ""} != its | {"commit": ""}:  # somebody may commit in between
        found.append("weights")
    logs = [(folder / "log.csv").read_text(encoding="utf-8").splitlines() for folder in (a, b)]
    if len({tuple(line.rpartition(",")[0] for line in log) for log in logs}) > 1:
        found.append("log")
    return found


def _same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b
