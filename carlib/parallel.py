"""Runs trained side by side on this machine, each in a process with its share of the cores."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time

from carlib import experiments, queue, runs, stopping

_POLL = 0.5  # seconds between two looks whether to stop


def train(
    names, profile=None, *, count, renew=False, allow_missing=False, device="auto", progress=True, tell=print
) -> dict[str, str]:
    """Make runs ready as `experiments.prepare` does, up to `count` at a time, and first what they begin with.

    A run that fails does not stop the others. Stopped by SIGTERM or Ctrl-C, or with this process gone, every training
    ends with a checkpoint; the same call continues.

    Args:
        count: processes. Each computes with as many threads as there are cores for it.
        tell:  gets one line per run.
    Returns:
        run -> why it failed.
    Raises:
        ValueError: a name is unknown, count is below 1, runs need each other in a circle, or a process was killed.
        stopping.Stopped: SIGTERM came.
    """
    from tqdm import tqdm

    if count < 1:
        raise ValueError(f"parallel={count} is not a number of processes: 1 or more")
    profile = runs.profile(profile)["name"]
    order, failed, ready = queue.order(names, profile), {}, 0
    options = {"renew": renew, "allow_missing": allow_missing, "device": device, "progress": False}
    bar = tqdm(total=len(order), desc=f"runs ({profile})", unit="run", disable=not progress)
    with bar, stopping.on_sigterm() as told, _processes(count) as pool:
        ended = _ended(order, profile, count, failed, lambda name: pool.submit(_prepare, name, profile, options))
        for name, reason in ended:
            if told():
                raise stopping.Stopped(f"stopped by SIGTERM, {ready} of {len(order)} runs are ready")
            if name:
                ready += not reason
                tell(f"[{ready + len(failed)}/{len(order)}] {name}: {f'failed: {reason}' if reason else 'ready'}")
                bar.update()
    return failed


def _ended(order, profile, count, failed, start):
    """Yields (run, why it failed or "") of every run that ended, noted in `failed`, too; (None, "") when none has."""
    waiting, under_way = list(order), {}
    needs = {name: runs.needed(name, profile) for name in waiting}
    while waiting or under_way:
        for name in [name for name in waiting if not {*waiting, *under_way.values()}.intersection(needs[name])]:
            if lost := [other for other in needs[name] if other in failed]:
                waiting.remove(name)
                failed[name] = f"needs {lost[0]}, which failed"
                yield name, failed[name]
            elif len(under_way) < count:
                waiting.remove(name)
                under_way[start(name)] = name
        done = concurrent.futures.wait(under_way, _POLL, concurrent.futures.FIRST_COMPLETED).done
        for future in done:
            name = under_way.pop(future)
            if reason := future.result():
                failed[name] = reason
            yield name, reason
        if not done:
            yield None, ""


@contextlib.contextmanager
def _processes(count):
    """Yields a pool of processes; what leaves it early ends them first."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(count, spawn, _begin, (count, os.getpid())) as pool:
        try:
            yield pool
        except BaseException as error:
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, concurrent.futures.process.BrokenProcessPool):
                raise ValueError("a process that trains was killed: the same command continues") from error
            raise


def _begin(count, parent):
    """What a process does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent ends this one by SIGTERM
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for library in ("OMP", "NUMBA"):
        os.environ.setdefault(f"{library}_NUM_THREADS", str(max(1, cores // count)))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent):
    while True:
        if os.getppid() != parent:  # the first signal ends a training, the next one the process
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_POLL)


def _prepare(name, profile, options) -> str:
    """Why a run failed, or ""; words, as not every exception survives the way to the parent."""
    try:
        experiments.prepare(name, profile, **options)
    except stopping.Stopped as told:
        return str(told)
    except Exception as error:  # whatever it is, the next run may still be trained
        return queue.reason(error)
    return ""
