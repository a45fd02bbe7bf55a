"""Runs trained side by side on this machine, each in a process with its share of the cores; they share its GPUs.

There small runs leave it idle: at mini size CAR with EDSR has 4 ms of an H200 in a step, and 28 of Python.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time

from carlib import cores, runs, stopping
from carlib.dispatch import queue

_POLL = 0.5  # seconds between two looks at the parent
_at_work = threading.Event()  # of a process of the pool: it trains


def at_a_time(asked, profile=None, *, several=True, device="auto") -> int:
    """How many runs to train at a time: as many as are asked for or, of `several`, `parallel` of the profile; else one.

    On a GPU, whose memory they share, as many as are asked for.

    Raises:
        ValueError: the number is no whole number above 0, or more than one is asked for in one of the processes that
            share a run (torchrun, srun).
    """
    from carlib import devices

    chosen = runs.profile(profile)
    count, whose = chosen.get("parallel", 1), f"parallel of profile {chosen['name']}"
    if asked is not None:
        count, whose = asked, "--parallel"
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{whose} is {count!r}, not a whole number above 0")
    if chosen["train"] is None or count == 1 or (asked is None and not several):
        return 1
    if devices.processes() != (1, 1):
        if asked is None:
            return 1
        raise ValueError(f"--parallel {asked}: under torchrun or srun processes share each run")
    return 1 if asked is None and not devices.is_cpu(device) else count


def train(
    names,
    profile=None,
    *,
    count,
    renew=False,
    done_before=False,
    device="auto",
    progress=True,
    tell=print,
) -> dict[str, str]:
    """Make runs ready as `experiments.prepare` does, up to `count` at a time, and first what they begin with.

    A run that fails does not stop the others. Stopped by SIGTERM or Ctrl-C, or with this process gone, every training
    ends with a checkpoint; the same call continues. A run's bits are those of as many threads as its process has
    (REPLICATION.md, 6). The main module of a script that calls this needs its `if __name__ == "__main__"`.

    Args:
        count:       processes. Of the threads that this one may use (OMP_NUM_THREADS, or a core each) each has a share.
        done_before: leave what is trained as it is, even where only its weights are here (as `queue.train_all`).
        tell:        gets one line per run.
    Returns:
        run -> why it failed.
    Raises:
        ValueError: a name is unknown or a run has nothing to train, runs need each other in a circle, or a process was
            killed (which ends the others, too).
        stopping.Stopped: SIGTERM came.
    """
    from tqdm import tqdm

    profile = runs.profile(profile)["name"]
    if idle := [name for name in names if not runs.get(name, profile).trains]:
        raise ValueError(f"run {idle[0]} has no weights: nothing of it is trained beforehand")
    everything, left = queue.split(names, profile, renew) if done_before else [queue.order(names, profile)] * 2
    count, begun = max(1, min(count, len(left))), {}
    options = {"renew": renew, "device": device, "progress": False}
    bar = tqdm(total=len(everything), desc=f"runs ({profile})", unit="run", disable=not progress)
    with bar, stopping.on_sigterm() as told, _processes(count, begun) as pool:

        def begin(name):
            begun[name] = pool.submit(_prepare, name, profile, options)
            return begun[name]

        def told_one(line):
            tell(line)
            bar.update()

        return queue.train(everything, left, profile, begin, count=count, stop=told, tell=told_one)


@contextlib.contextmanager
def _processes(count, begun):
    """Yields a pool of processes; what leaves it early ends them first. begun: run -> future."""
    spawn, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    broken = spawn.RawValue("b", 0)  # without a lock, which a killed process might hold
    options = count, os.getpid(), _gpus(), spawn.Value("i", 0), broken
    with concurrent.futures.ProcessPoolExecutor(count, spawn, _begin, options) as pool:
        try:
            yield pool
        except BaseException as error:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            names = ", ".join(name for name, future in begun.items() if not future.done() or future.exception())
            if isinstance(error, concurrent.futures.process.BrokenProcessPool):
                broken.value = 1
                why = "a process was killed or could not start (too little memory for so many at a time?)"
                raise ValueError(f"while {names} trained {why}: the same command continues") from error
            print(f"waiting for the checkpoints of {names}", file=sys.stderr)
            raise


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]


def _begin(count, parent, gpus, begun, broken):
    """What a process does first.

    begun: how many did so before, which tells the GPU that is its own.  broken: whether another one was killed.
    """
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    hang_up = getattr(signal, "SIGHUP", signal.SIGINT)  # which Windows has not
    for number in (signal.SIGINT, hang_up):  # a terminal sends them to all: the parent ends this one by SIGTERM
        signal.signal(number, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        given = os.environ.get(name, "")
        os.environ[name] = str(max(1, (int(given) if given.isdecimal() else cores.count()) // count))
    from carlib import devices  # and with it torch, which reads the environment

    devices.runs_at_a_time = count
    threading.Thread(target=_end_with, args=(parent, broken), daemon=True).start()


def _end_with(parent, broken):
    while True:
        if os.getppid() != parent:  # the first signal ends a training, the next one the process
            os.kill(os.getpid(), signal.SIGTERM)
        if broken.value and not _at_work.is_set():  # it waits for a run that does not come, and the parent for its end
            os._exit(128 + signal.SIGTERM)
        time.sleep(_POLL)


def _prepare(name, profile, options) -> str:
    """Why a run failed, or ""; words, as not every exception survives the way to the parent."""
    _at_work.set()
    try:
        return queue.why_failed(name, profile, options)
    except stopping.Stopped as told:
        return str(told)
    finally:
        _at_work.clear()
