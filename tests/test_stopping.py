"""How a run is told to stop, and what it leaves."""

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from short_runs import go, short

from carlib import stopping, train
from carlib.training import run_folder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["car-edsr-x2-priced", "irn-irn-x2"])
def test_a_run_that_sigterm_stops_continues_to_the_same_bits(home, tmp_path, monkeypatch, name, small_irn):
    """Stopped in the middle of a block, its log included."""
    run, update = short(name, steps=6, validate_every=3), train.Loop._update

    def terminated(self, step, psnrs):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, step, psnrs)

    monkeypatch.setattr(train.Loop, "_update", terminated)
    with pytest.raises(stopping.Stopped, match="stopped by SIGTERM after step 5 of 6"):
        go(run, tmp_path / "stopped")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.setattr(train.Loop, "_update", update)
    go(run, tmp_path / "stopped")
    go(run, tmp_path / "whole")
    a, b = (torch.load(tmp_path / folder / "last.ckpt", weights_only=True) for folder in ("stopped", "whole"))
    assert all(torch.equal(a["networks"][key], b["networks"][key]) for key in a["networks"] | b["networks"])
    told, expected = (
        [{k: str(v) for k, v in row.items() if k != "seconds"} for row in state["log"]] for state in (a, b)
    )
    assert told == expected  # as text, in which NaN equals NaN


def test_sigterm_is_heeded_after_a_validation(home, tmp_path, monkeypatch):
    update = train.Loop._update

    def terminated(self, step, psnrs):
        os.kill(os.getpid(), signal.SIGTERM)
        return update(self, step, psnrs)

    monkeypatch.setattr(train.Loop, "_update", terminated)
    with pytest.raises(stopping.Stopped, match="after step 1 of 4"):
        go(short(validate_every=1), tmp_path / "run")
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["step"] == 1


@pytest.fixture
def ctrl_c():
    """Heeded as usual, even where these tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_a_checkpoint(home, tmp_path, monkeypatch, capfd, ctrl_c):
    """It continues to the same bits, as after SIGTERM; a second one waits for nothing."""
    update, at = train.Loop._update, {1: 1}

    def interrupted(self, step, psnrs):
        for _ in range(at.get(step, 0)):
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, step, psnrs)

    monkeypatch.setattr(train.Loop, "_update", interrupted)
    with pytest.raises(stopping.Stopped, match=r"stopped by Ctrl-C after step 2 of 4") as told:
        go(short(), tmp_path / "run")
    assert told.value.number == signal.SIGINT and "stopping soon, with a checkpoint" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    at.update({1: 0, 2: 2})
    with pytest.raises(KeyboardInterrupt):
        go(short(), tmp_path / "run")
    at.clear()
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["step"] == 2
    parts, whole = go(short(), tmp_path / "run"), go(short(), tmp_path / "whole")
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_terminal_that_closes_leaves_a_checkpoint(home, tmp_path, monkeypatch):
    """Nobody reads the bar any more; nohup, which ignores the signal, still does what it is for."""
    update = train.Loop._update

    def hung_up(self, step, psnrs):
        if step == 1:
            os.kill(os.getpid(), signal.SIGHUP)
        return update(self, step, psnrs)

    monkeypatch.setattr(train.Loop, "_update", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(stopping.Stopped, match="stopped by SIGHUP after step 2 of 4") as told:
            go(short(), tmp_path / "run")
        assert told.value.number == signal.SIGHUP and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ignored = go(short(), tmp_path / "ignored")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert go(short(), tmp_path / "run").read_bytes() == ignored.read_bytes()


def test_ctrl_c_that_ends_whoever_reads_stderr_leaves_a_checkpoint(home, tmp_path, monkeypatch, ctrl_c):
    """As in `carlib train ... 2>&1 | tee log`: nobody is left to be told."""
    update, written, gone = train.Loop._update, os.write, []

    class Pipe(io.StringIO):
        def write(self, text):
            if gone:
                raise BrokenPipeError
            return super().write(text)

    def interrupted(self, step, psnrs):
        if step == 0:
            gone.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, step, psnrs)

    monkeypatch.setattr(train.Loop, "_update", interrupted)
    monkeypatch.setattr(os, "write", lambda number, text: Pipe().write(text) if number == 2 else written(number, text))
    monkeypatch.setattr(sys, "stderr", Pipe())
    with pytest.raises(stopping.Stopped, match="after step 1 of 4"):
        train.train(short(), tmp_path / "run", device="cpu", progress=True)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["step"] == 1


def test_ctrl_c_is_heeded_where_others_handle_sigterm(ctrl_c):
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(KeyboardInterrupt), stopping.on_sigterm() as told, stopping.on_ctrl_c(told):
            os.kill(os.getpid(), signal.SIGINT)
        lost = pytest.raises(stopping.Stopped, match="stopped by Ctrl-C; before that: lost")
        with lost, stopping.on_sigterm() as told, stopping.on_ctrl_c(told):
            os.kill(os.getpid(), signal.SIGINT)
            raise RuntimeError("lost")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_in_the_last_step_ends_what_comes_after_it(home, tmp_path, monkeypatch, ctrl_c):
    validated = run_folder.Record.validated

    def interrupted(self, row):
        os.kill(os.getpid(), signal.SIGINT)
        return validated(self, row)

    monkeypatch.setattr(run_folder.Record, "validated", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(short(steps=1, validate_every=1), tmp_path / "run")
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_sigterm_is_heeded_while_another_process_trains(home, tmp_path):
    stopped = pytest.raises(stopping.Stopped, match="while another process trains")
    with run_folder.alone(tmp_path / "run"), stopped, run_folder.alone(tmp_path / "run", told=lambda: True):
        pass


def test_an_error_after_sigterm_is_no_error_to_survive():
    with pytest.raises(stopping.Stopped, match="stopped by SIGTERM; before that: worker killed"), stopping.on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("worker killed")
    with pytest.raises(RuntimeError), stopping.on_sigterm():
        raise RuntimeError("an error alone")


def test_sigterm_of_another_handler_is_left_to_it():
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with stopping.on_sigterm() as told:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not told()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_the_command_with_a_checkpoint_and_one_line(home, tmp_path):
    options = ["-p", "steps=100000", "-p", "validate_every=50000", "-p", "patch={2: 16}", "--device", "cpu"]
    command = [sys.executable, "-m", "carlib", "train", "bicubic-edsr-x2", *options]
    command += ["--profile", "smoke", "--out", str(tmp_path / "run")]
    checkpoint, environment = tmp_path / "run" / "last.ckpt", os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
        told = process.communicate(timeout=120)[1].splitlines()[-1]
    assert process.returncode == 128 + signal.SIGTERM
    assert re.fullmatch(
        r"carlib: bicubic-edsr-x2: stopped by SIGTERM after step \d+ of 100000: the same .* continues", told
    )
    assert torch.load(checkpoint, weights_only=True)["step"] == int(re.search(r"step (\d+)", told).group(1)) > 0


def test_a_sigterm_that_nobody_heeds_comes_afterwards():
    script = """
        import os
        from carlib import stopping
        with stopping.on_sigterm():
            os.kill(os.getpid(), 15)
        print("went on")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGTERM and not done.stdout
