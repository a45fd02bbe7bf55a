"""Where a run is computed, and by how many processes."""

import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
import torch
from short_runs import go, short

from carlib import devices, runs, train
from carlib.models.layers import ReflectionPad
from carlib.training.patches import Patches

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("native", [True, False])
def test_precision_auto_is_bfloat16_where_the_machine_computes_in_it(home, monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    for device in ("auto", "cpu"):
        assert devices.precision(short(precision="auto"), device) == ("bf16-mixed" if native else "32-true")
        assert devices.precision(short(precision="32-true"), device) == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert devices.precision(short(precision="auto"), "auto") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert devices.precision(short(precision="auto"), "auto") == "bf16-mixed"
    assert devices.precision(short(precision="auto"), "cpu") == ("bf16-mixed" if native else "32-true")


def test_a_pytorch_without_mkldnn_trains_in_float32(home, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    assert devices.precision(short(precision="auto"), "auto") == "32-true"


def test_of_accelerators_only_cuda_is_taken_by_itself(home, monkeypatch):
    """Apple's, which has no float64, is not; Lightning would."""
    from lightning_fabric.accelerators import MPSAccelerator

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)
    assert devices.is_cpu("auto") and devices.usable("auto") == "cpu"
    assert devices.fabric(short(), "auto").device.type == "cpu"


TOGETHER = """
    import sys
    import torch
    from carlib import runs, train

    torch.set_num_threads(1)
    for offsets in (True, False):
        run = runs.get("car-edsr-x2", "smoke", eval(sys.argv[2]) | {"offsets": offsets})
        train.train(run, f"{sys.argv[1]}/{offsets}", device="cpu", progress=False)
"""


def free_port():
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def launch(script, *arguments, count):
    """Run a script as torchrun does, in `count` processes; fails if one of them does."""
    common = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = []
    for rank in range(count):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
        environment = os.environ | common | {name: str(value) for name, value in place.items()}
        environment |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in started:
        told = process.communicate(timeout=600)[1]
        assert process.returncode == 0, told


TASK = """
    import torch
    from carlib import devices, runs

    fabric = devices.fabric(runs.get("car-edsr-x2", "smoke", {"batch": 2}), "cpu")
    place = [fabric.world_size, fabric.global_rank, fabric.local_rank, devices.is_first()]
    print(*place, fabric.all_reduce(torch.tensor(fabric.global_rank + 1.0), reduce_op="sum").item())
"""


@pytest.mark.parametrize("allocation", [
    {"SLURM_JOB_NAME": "interactive"},  # salloc
    {"SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "2"},  # sbatch, as docs/cluster.md has it
])  # fmt: skip
def test_tasks_of_srun_are_the_processes_of_a_run(home, allocation):
    """What srun tells its tasks, on one node; no Slurm is needed for it."""
    told = {"SLURM_NTASKS": 2, "SLURM_NNODES": 1, "SLURM_STEP_ID": 0, "SLURM_NODEID": 0, "SLURM_NODELIST": "127.0.0.1"}
    told |= {"MASTER_PORT": free_port(), "OMP_NUM_THREADS": 1, "CUDA_VISIBLE_DEVICES": "", **allocation}
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC_"))}
    started = []
    for rank in range(2):
        place = told | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        options = {"env": outside | {name: str(value) for name, value in place.items()}, "text": True}
        command = [sys.executable, "-c", textwrap.dedent(TASK)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options))
    found = [process.communicate(timeout=300) for process in started]
    assert [out for out, _ in found] == ["2 0 0 True 3.0\n", "2 1 1 False 3.0\n"], found


STOPPED = """
    import os
    import signal
    import sys
    from pathlib import Path

    import torch
    from carlib import models, runs, stopping, train
    from carlib.training import loop

    torch.set_num_threads(1)
    models.SIZES["irn"]["mini"] = {"blocks": 1, "growth": 4}
    loop._ASKED = 3
    run, update = runs.get("irn-irn-x2", "smoke", eval(sys.argv[2])), train.Loop._update

    def terminated(self, step, psnrs):
        if step == 2 and name == "stopped" and self.fabric.is_global_zero:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, step, psnrs)

    train.Loop._update = terminated
    for name, folder in (("whole", "whole"), ("stopped", "parts"), ("resumed", "parts")):
        try:
            train.train(run, Path(sys.argv[1]) / folder, device="cpu", progress=False)
        except stopping.Stopped:
            assert name == "stopped"
        torch.save(torch.get_rng_state(), Path(sys.argv[1]) / f"{name}{os.environ['RANK']}.pt")
"""


def test_each_process_draws_another_z_and_continues_to_the_same_bits(home, tmp_path):
    changed = {"steps": 5, "validate_every": 5, "patch": {2: 16}, "validation_crop": 32, "batch": 2}
    launch(STOPPED, tmp_path, changed, count=2)
    state = {path.stem: torch.load(path, weights_only=True) for path in tmp_path.glob("*.pt")}
    for name in ("whole", "stopped", "resumed"):
        assert not torch.equal(state[f"{name}0"], state[f"{name}1"])
    assert all(torch.equal(state[f"whole{rank}"], state[f"resumed{rank}"]) for rank in (0, 1))
    whole, parts = (torch.load(tmp_path / folder / "last.ckpt", weights_only=True) for folder in ("whole", "parts"))
    assert all(torch.equal(parts["networks"][key], value) for key, value in whole["networks"].items())


def test_two_processes_train_what_one_does(home, tmp_path):
    """With offsets, and without: then some weights are in no gradient."""
    changed = {"steps": 3, "validate_every": 2, "patch": {2: 16}, "validation_crop": 32, "batch": 4}
    launch(TOGETHER, tmp_path / "two", changed, count=2)
    for offsets in (True, False):
        go(runs.get("car-edsr-x2", "smoke", changed | {"offsets": offsets}), tmp_path / "one" / str(offsets))
        files = (tmp_path / count / str(offsets) / "last.ckpt" for count in ("one", "two"))
        one, two = (torch.load(path, weights_only=True) for path in files)
        for key, value in one["networks"].items():
            torch.testing.assert_close(two["networks"][key], value, rtol=0, atol=1e-5)
        assert [row["step"] for row in two["log"]] == [row["step"] for row in one["log"]] == [2, 3]
        for a, b in zip(one["log"], two["log"], strict=True):
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4) and b["psnr"] == pytest.approx(a["psnr"], abs=1e-3)


@pytest.mark.parametrize("name", ["car-edsr-x2", "bicubic-edsr-x2"])
def test_a_batch_in_parts_trains_what_a_whole_one_does(home, tmp_path, name):
    whole = go(short(name, batch=4), tmp_path / "whole").parent
    parts = go(short(name, batch=4, accumulate=2), tmp_path / "parts").parent
    one, two = (torch.load(folder / "last.ckpt", weights_only=True)["networks"] for folder in (whole, parts))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5)


def test_a_batch_that_cannot_be_shared_out_is_refused(home, tmp_path, monkeypatch):
    told = r"batch=2 cannot be shared out evenly among 1 processes in accumulate=3 parts: choose a multiple"
    with pytest.raises(ValueError, match=told):
        go(short(accumulate=3), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="among 4 processes"):
        devices.check_shares(short(), 4)


def test_the_shares_of_a_batch_are_the_batch(home):
    run = short("cnn-cr-cnn-sr-x2", batch=4)
    whole = Patches(run)[7]
    shares = [Patches(run, rank, 2)[7] for rank in range(2)]
    for part, together in zip(zip(*shares, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(part), together)


@pytest.mark.parametrize("name", ["car-edsr-x2", "bicubic-edsr-x2"])
def test_batches_made_beforehand_are_the_same(home, name):
    patches = Patches(short(name))
    for ahead, made in zip(patches.ahead(range(3, 6), 2), patches.ahead(range(3, 6), 0), strict=True):
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(ahead, made, strict=True))


def test_workers_outlive_what_tells_the_whole_group_to_stop(home):
    """Slurm signals every process of a step: the one that trains still needs its batches for the step it is at."""
    batches = Patches(short("car-edsr-x2")).ahead(range(40), 2)  # more than the workers make beforehand
    made = [next(batches), next(batches)]  # one of each: both have begun
    for worker in multiprocessing.active_children():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(worker.pid, number)
    assert len(made + list(batches)) == 40


def test_workers_end_with_their_training(home, tmp_path, monkeypatch):
    """Several runs are trained in one process: workers of the earlier ones would hold their images."""
    monkeypatch.setattr(devices, "workers", lambda fabric: 2)
    go(short(steps=2), tmp_path)
    gc.collect()
    assert not multiprocessing.active_children()


def test_workers_take_no_number_of_the_training(home):
    """A run that is resumed begins with new workers; PyTorch's generator must be where the checkpoint left it."""
    before = torch.get_rng_state()
    next(Patches(short("car-edsr-x2")).ahead(range(4), 2))
    assert torch.equal(torch.get_rng_state(), before)


FAILS = """
    from carlib import devices, runs, train

    devices.workers = lambda fabric: 2
    train.Loop._update = lambda *_: 1 / 0
    run = runs.get("car-edsr-x2", "smoke", {"steps": 2, "patch": {2: 16}, "validation_crop": 32})
    train.train(run, "failed", device="cpu", progress=False)
"""


def test_an_error_ends_the_process_though_its_workers_ignore_signals(home):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FAILS)], cwd=home, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and done.stderr.strip().endswith("ZeroDivisionError: division by zero")


def test_processes_are_those_of_torchrun_or_of_srun(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    assert devices.processes() == (1, 1) and devices.is_first()
    for name, value in {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "3"}.items():
        monkeypatch.setenv(name, value)
    assert devices.processes() == (1, 1)  # the batch script itself, or an allocation without srun
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert devices.processes() == (4, 2) and not devices.is_first()
    monkeypatch.setenv("SLURM_NNODES", "3")
    with pytest.raises(ValueError, match="8 tasks of srun are not as many on each of 3 nodes: use --ntasks-per-node"):
        devices.processes()
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANK", "0")
    assert devices.processes() == (2, 3) and devices.is_first()


def test_determinism_leaves_the_callers_setting():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with devices.determinism(True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["car-edsr-x2", "bicubic-edsr-x2"])
def test_strict_determinism_trains_the_same(home, tmp_path, name):
    """Nothing in CAR's training is refused on a CPU, and PyTorch's setting is as before."""
    plain = go(short(name), tmp_path / "plain")
    strict = go(short(name, deterministic=True), tmp_path / "strict")
    a, b = (torch.load(path.parent / "last.ckpt", weights_only=True)["networks"] for path in (plain, strict))
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=0, atol=1e-5)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: on a CPU every run gives the same bits")
def test_strict_determinism_gives_the_same_bits_on_a_gpu(home, tmp_path):
    run = short("car-edsr-x2", deterministic=True)
    for folder in ("one", "two"):
        train.train(run, tmp_path / folder, device="cuda", progress=False)
    a, b = (torch.load(tmp_path / folder / "last.ckpt", weights_only=True)["networks"] for folder in ("one", "two"))
    assert all(torch.equal(a[key], b[key]) for key in a | b)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_reflection_in_a_fixed_order_is_reflection(memory):
    x = torch.randn(2, 3, 5, 7, dtype=torch.double).contiguous(memory_format=memory).requires_grad_()
    upstream, found = torch.randn(2, 3, 9, 11, dtype=torch.double), []
    for strict in (False, True):
        with devices.determinism(strict):
            padded = ReflectionPad(2)(x)
        assert padded.is_contiguous(memory_format=memory)
        found.append((padded, *torch.autograd.grad(padded, x, upstream)))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])
