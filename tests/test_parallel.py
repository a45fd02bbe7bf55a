"""Runs side by side: the order of what needs each other, the bits of one alone, failures, and SIGTERM."""

import concurrent.futures
import signal
import subprocess
import sys
import time

import pytest
import yaml

from carlib import checkpoint, experiments, parallel, queue, results


@pytest.fixture
def declare(home):
    """declare(name={...}, ...) makes these the only runs, each a bicubic-edsr-x2 with other numbers under smoke."""

    def write(**own):
        content = yaml.safe_load((home / "params.yaml").read_text())
        base = {"downscaler": "bicubic", "upscaler": "edsr", "scale": 2}
        content["runs"] = {name: base | {"smoke": numbers} for name, numbers in own.items()}
        (home / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    return write


def test_a_run_begins_when_what_it_needs_has_ended(declare):
    declare(a={}, b={"warm_start": "a"}, c={"warm_start": "b"}, d={}, e={"warm_start": "d"}, f={})
    order, started, failed, told = queue.order("fedcba", "smoke"), {}, {}, []

    def start(name):
        started[name] = concurrent.futures.Future()
        return started[name]

    ended = parallel._ended(order, "smoke", 2, failed, start)
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
    assert {line[6:] for line in told} >= {"first: ready", "after: ready", "never: failed: needs blocked, which failed"}
    path = experiments.prepare("first", "smoke", folder=folder("alone"), device="cpu", progress=False)
    assert path.read_bytes() == (folder("first") / "weights.safetensors").read_bytes()
    assert parallel.train(["after"], "smoke", count=1, device="cpu", progress=False, tell=told.append) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_when_the_first_process_is_stopped_the_others_end_with_a_checkpoint(declare, number):
    endless = {"steps": 100000, "validate_every": 100000}
    declare(first=endless, second=endless, third=endless)
    command = [
        sys.executable,
        "-m",
        "carlib",
        "train",
        "first",
        "second",
        "third",
        "--profile",
        "smoke",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoints = [folder(name) / "last.ckpt" for name in ("first", "second")]
    try:
        _until(lambda: all(path.is_file() for path in checkpoints) or process.poll() is not None)
    finally:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)  # which the others hold open, too, until they end
    assert all(checkpoint.read(path.parent)["step"] > 0 for path in checkpoints), err
    assert not folder("third").exists()
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert err.splitlines()[-1] == "carlib: stopped by SIGTERM, 0 of 3 runs are ready: the same command continues"
    assert "Traceback" not in err or number != signal.SIGTERM


def test_a_number_of_processes_is_at_least_one(home):
    with pytest.raises(ValueError, match="parallel=0 is not a number of processes"):
        parallel.train(["car-edsr-x2"], "smoke", count=0)


def folder(name):
    return results.folder("smoke", "runs", name)


def _until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
