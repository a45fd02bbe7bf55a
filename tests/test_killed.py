"""A run that is killed, at any moment and between any two of its files, continues to the same bits."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from short_runs import without_seconds

# Children are forked after the imports. They are killed in front of the nth file they put in place, so between the
# files of one validation, and then at a random moment after some validations.
KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path

    import lightning_fabric  # slow imports, once
    import torch
    from carlib import runs, train
    from carlib.ops import resample_numba

    folder, name = Path(sys.argv[1]), sys.argv[2]
    run = runs.get(name, "smoke", {"steps": 12, "validate_every": 2, "patch": {2: 16}, "validation_crop": 32})

    def child(out, die_at=None):
        pid = os.fork()
        if pid:
            return pid
        torch.set_num_threads(1)
        if die_at:
            written, replace = [], Path.replace

            def count(self, target):
                written.append(Path(target).name)
                if len(written) == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return replace(self, target)

            Path.replace = count
        try:
            train.train(run, out, device="cpu", progress=False)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def finish(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert finish(child(folder / "whole")) == 0
    draw, killed = random.Random(4), 0
    # In turn: before the log and the checkpoint of step 0; before weights, log and checkpoint of a validation.
    for rows, die_at in ((None, 1), (None, 2), (None, 3), (None, 2), (None, 3), (0, None), (2, None), (3, None)):
        checkpoint = folder / "killed" / "last.ckpt"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        pid = child(folder / "killed", die_at)
        if die_at is None:
            deadline = time.time() + 30
            while rows and time.time() < deadline:
                log = folder / "killed" / "log.csv"
                if log.exists() and len(log.read_text().splitlines()) > rows:
                    break
                time.sleep(0.002)
            time.sleep(draw.uniform(0.005, 0.05))
            os.kill(pid, signal.SIGKILL)
        killed += finish(pid) == -signal.SIGKILL
    assert killed >= 5, killed  # on a quick machine the last ones may have finished
    assert finish(child(folder / "killed")) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked, which this system cannot")
def test_a_killed_run_continues_to_the_same_bits(home, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), "car-edsr-x2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (whole / "weights.safetensors").read_bytes() == (killed / "weights.safetensors").read_bytes()
    a, b = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole, killed))
    assert a["step"] == b["step"] == 12
    assert all(torch.equal(a["networks"][key], b["networks"][key]) for key in a["networks"] | b["networks"])
    assert_equal(a["optimizer"], b["optimizer"])
    assert len(without_seconds((whole / "log.csv").read_text())) == 7
    assert without_seconds((whole / "log.csv").read_text()) == without_seconds((killed / "log.csv").read_text())
    leftover = [path.name for path in killed.iterdir() if not path.name.startswith(".")]  # of a kill while writing
    assert sorted(leftover) == ["last.ckpt", "log.csv", "weights.safetensors"]


def assert_equal(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b
