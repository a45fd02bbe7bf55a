"""Runs side by side: the order of what needs each other, the bits of one alone, failures, and SIGTERM."""

import concurrent.futures
import functools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import yaml

from carlib import devices, experiments, results
from carlib.dispatch import parallel, queue
from carlib.training import checkpoint


def test_a_run_begins_when_what_it_needs_has_ended(declare):
    declare(a={}, b={"warm_start": "a"}, c={"warm_start": "b"}, d={}, e={"warm_start": "d"}, f={})
    order, started, failed, told = queue.order("fedcba", "smoke"), {}, {}, []

    def begin(name):
        started[name] = concurrent.futures.Future()
        return started[name]

    ended = queue.ended(order, "smoke", begin, 2, failed)
    assert next(ended) == (None, "") and set(started) == {"f", "d"}
    started["d"].set_result("broken")
    told += [next(ended), next(ended)]
    assert told == [("d", "broken"), ("e", "needs d, which failed")] and failed == dict(told)
    for number, name in enumerate("abc", start=1):
        assert next(ended) == (None, "") and set(started) == {"d", "f", *"abc"[:number]}
        started[name].set_result("")
        assert next(ended) == (name, "")
    started["f"].set_result("")
    assert list(ended) == [("f", "")]


@pytest.mark.usefixtures("one_thread")
def test_side_by_side_makes_the_weights_of_one_after_the_other(declare, monkeypatch):
    declare(first={}, blocked={}, after={"warm_start": "first"}, never={"warm_start": "blocked"})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    results.write_text(results.folder("smoke", "runs", "blocked"), "no folder")
    told = []
    failed = parallel.train(["after", "never"], "smoke", count=2, device="cpu", progress=False, tell=told.append)
    assert set(failed) == {"blocked", "never"} and failed["never"] == "needs blocked, which failed"
    assert [line[:6] for line in told] == ["[1/4] ", "[2/4] ", "[3/4] ", "[4/4] "]
    assert {line[6:] for line in told} >= {"never: failed: needs blocked, which failed"}
    assert {line[6:20] for line in told} >= {"first: trained", "after: trained"}
    path = experiments.prepare("first", "smoke", folder=folder("alone"), device="cpu", progress=False)
    assert path.read_bytes() == (folder("first") / "weights.safetensors").read_bytes()


def test_weights_that_were_brought_are_left_alone_where_all_is_trained(declare):
    declare(first={}, brought={})
    for name in ("first", "brought"):
        experiments.prepare(name, "smoke", device="cpu", progress=False)
    for path in ("last.ckpt", "log.csv"):
        (folder("brought") / path).unlink()
    told = []
    options = {"count": 2, "device": "cpu", "progress": False, "tell": told.append}
    assert parallel.train(["first", "brought"], "smoke", done_before=True, **options) == {}
    assert told == ["[1/2] first: done before", "[2/2] brought: done before"]
    assert not (folder("brought") / "last.ckpt").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_when_the_first_process_is_stopped_the_others_end_with_a_checkpoint(declare, number):
    endless = {"steps": 100000, "validate_every": 100000}
    declare(first=endless, second=endless, third=endless)
    process = start("first", "second", "third")
    if number == signal.SIGINT:  # a terminal sends it to all processes
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)  # which the others hold open, too, until they end
    assert all(checkpoint.read(folder(name))["step"] > 0 for name in ("first", "second")), err
    assert not folder("third").exists()
    assert "Traceback" not in err
    if number == signal.SIGTERM:
        told = "carlib: stopped by SIGTERM, 0 of 3 runs are ready: the same command continues"
        assert (process.returncode, err.splitlines()[-1]) == (143, told)


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep is not installed, which finds the process to kill")
def test_a_process_that_is_killed_is_told_in_one_line(declare):
    endless = {"steps": 100000, "validate_every": 100000}
    declare(first=endless, second=endless)
    process = start("first", "second")
    listed = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True)
    os.kill(int(listed.stdout.split()[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" not in err
    told = "carlib: while first, second trained a process was killed or could not start"
    assert any(line.startswith(told) for line in err.splitlines()), err  # below it Python may say that it cleaned up


def test_processes_share_the_threads(monkeypatch):
    monkeypatch.setattr(parallel.threading.Thread, "start", lambda self: None)
    monkeypatch.setattr(parallel.signal, "signal", lambda *_: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "")
    monkeypatch.setattr(devices, "runs_at_a_time", 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert parallel._gpus() == ["2", "5"]
    begun = multiprocessing.Value("i", 3)
    parallel._begin(2, os.getpid(), parallel._gpus(), begun, None)
    assert (begun.value, os.environ["CUDA_VISIBLE_DEVICES"]) == (4, "5")
    assert (os.environ["OMP_NUM_THREADS"], os.environ["NUMBA_NUM_THREADS"]) == ("4", "3")
    on = [SimpleNamespace(device=torch.device(name)) for name in ("cpu", "cuda")]
    assert [devices.workers(fabric) for fabric in on] == [0, 2]  # that cut patches: one of three cores trains


def test_how_many_runs_are_trained_at_a_time(home, monkeypatch):
    cpu = {"device": "cpu"}
    assert parallel.at_a_time(None, "smoke", **cpu) == 2 and parallel.at_a_time(None, "smoke", several=False) == 1
    assert parallel.at_a_time(None, "mini") == 1 and parallel.at_a_time(3, "mini", several=False, **cpu) == 3
    assert parallel.at_a_time(3, "demo") == 1  # it trains nothing
    assert parallel.at_a_time(None, "smoke", device="cuda") == 1 and parallel.at_a_time(2, "smoke", device="cuda") == 2
    with pytest.raises(ValueError, match="--parallel is 0, not a whole number above 0"):
        parallel.at_a_time(0, "smoke")
    monkeypatch.setattr(devices, "processes", lambda: (2, 1))
    assert parallel.at_a_time(None, "smoke", **cpu) == 1
    with pytest.raises(ValueError, match="--parallel 2: under torchrun or srun"):
        parallel.at_a_time(2, "smoke", **cpu)
    params = yaml.safe_load((home / "params.yaml").read_text())
    params["profiles"]["smoke"]["parallel"] = "two"
    (home / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError, match="parallel of profile smoke is 'two', not a whole number above 0"):
        parallel.at_a_time(None, "smoke", **cpu)


def test_a_run_with_nothing_to_train_is_refused(home):
    with pytest.raises(ValueError, match="run bicubic-bicubic-x2 has no weights"):
        parallel.train(["car-edsr-x2", "bicubic-bicubic-x2"], "smoke", count=2)
    assert not (home / "results").exists()


def start(*names):
    """A `carlib train` of runs, two at a time, whose first two have begun; in a process group of its own."""
    command = [sys.executable, "-m", "carlib", "train", *names, "--profile", "smoke", "--device", "cpu"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # What a shell starts in the background, these tests perhaps, ignores SIGINT, and so would all that it starts.
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=heeding, **streams)
    end = time.monotonic() + 60
    while not all((folder(name) / "last.ckpt").is_file() for name in names[:2]):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    return process


def folder(name):
    return results.folder("smoke", "runs", name)
