"""The benchmark of training: both sides make the same updates, and it says what it measured, whatever the times."""

import sys
from itertools import chain

import pytest
import torch

from carlib import devices, runs
from carlib.bench import suite, train_step


def test_training_races_the_same_update_done_plainly(home):
    """All have made the same weights out of the same patches."""
    run, networks = runs.get("car-edsr-x2", "smoke", {"patch": {2: 16}}), []
    for kind in (train_step.Step, train_step.ContiguousStep, train_step.PlainStep):
        torch.manual_seed(0)
        step = kind(run, devices.fabric(run, "cpu"))
        step()
        step()
        networks.append(step.loop.networks.state_dict())
    for key, value in networks[0].items():
        torch.testing.assert_close(networks[1][key], value, rtol=0, atol=1e-4)
        torch.testing.assert_close(networks[2][key], value, rtol=0, atol=1e-4)


def test_the_rival_of_training_is_composed_of_pytorchs_operators(home, monkeypatch):
    run, reached = train_step._run("car-edsr-x2", "mini", patch={2: 16}, batch=1), {}
    for name in ("guided", "sum_of_lengths", "sum_of_steps", "resample"):
        monkeypatch.setattr(torch.ops.carlib, name, counted(getattr(torch.ops.carlib, name), name, reached))
    for kind, calls in ((train_step.PlainStep, 0), (train_step.Step, 1), (train_step.PlainStep, 0)):
        reached.clear()
        kind(run, devices.fabric(run, "cpu"))()
        assert set(reached.values()) == ({calls} if calls else set())


def counted(op, name, reached):
    def call(*arguments):
        reached[name] = reached.get(name, 0) + 1
        return op(*arguments)

    return call


def test_training_is_raced_by_its_compiled_self_where_there_is_a_compiler(home, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(train_step, "RUNS", ("car-edsr-x2",))
    monkeypatch.setattr(train_step, "_note", lambda step, seconds, operations: "note")
    monkeypatch.setattr(train_step.torch, "compile", lambda module: made.append(module) or module)
    rows = {}
    for why in ("", "there is no C++ compiler"):
        monkeypatch.setattr(train_step, "why_not_compile", lambda device, asked, why=why: why)
        rows[why] = [[row["name"] for row in case] for case in train_step.rows(1, "smoke", "cpu")]
    numba = "carlib, float32 channels_last, numba"
    between = "carlib, float32 contiguous, numba"
    assert rows[""] == [[numba, between, "float32 contiguous, grid_sample"], [numba, f"{numba}, compiled"]]
    assert rows["there is no C++ compiler"] == rows[""][:1] and len(made) == 1
    assert "torch.compile is left out: there is no C++ compiler\n" in capsys.readouterr().err


def test_parameters_change_the_runs_that_are_timed(home, monkeypatch):
    monkeypatch.setattr(train_step, "RUNS", ("car-edsr-x2",))
    monkeypatch.setattr(train_step, "why_not_compile", lambda *_: "there is no compiler")
    steps = []
    monkeypatch.setattr(train_step, "_note", lambda step, seconds, operations: steps.append(step) or "note")
    changed = ["patch={2: 16}", "batch=3", "precision=bf16-mixed"]
    rows = list(chain.from_iterable(train_step.rows(1, "smoke", "cpu", changed)))
    own = ["carlib, bfloat16 channels_last, numba", "carlib, bfloat16 contiguous, numba"]
    assert [row["name"] for row in rows] == [*own, "float32 contiguous, grid_sample"]
    assert rows[0]["case"] == f"training step of car-edsr-x2 (smoke, {', '.join(changed)}): 3 patches of 16 px"
    assert [step.loop.run.batch for step in steps] == [3] * 3
    assert [step.loop.run.precision for step in steps] == ["bf16-mixed"] * 2 + ["32-true"]
    layouts = [next(steps[place].loop.batches)[0].stride()[1] == 1 for place in range(3)]
    assert layouts == [True, False, False]
    with pytest.raises(ValueError, match="batchsize"):
        suite.run("train", params=["batchsize=3"])
    with pytest.raises(ValueError, match="case start has no param: leave --param out, or use case train"):
        suite.run("start", params=["batch=3"])


def test_the_peak_is_measured_as_convolutions_compute(monkeypatch):
    seen, products, convolutions = [], torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = products.fp32_precision
    monkeypatch.setattr(train_step, "_SIDES", {"cpu": 8})
    monkeypatch.setattr(train_step.time, "perf_counter", lambda: seen.append(products.fp32_precision) or len(seen))
    train_step._peak(torch.device("cpu"), "32-true")
    assert set(seen) == {convolutions.fp32_precision} != {before} and products.fp32_precision == before


def test_a_machine_without_a_compiler_is_told_what_to_do(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    told = train_step.why_not_compile(torch.device("cpu"), True)
    assert told == "there is no C++ compiler no-such-compiler; install it, or name another in CXX"


def test_on_a_cpu_torch_compile_is_timed_if_it_is_asked_for(home, monkeypatch):
    monkeypatch.setattr(train_step, "RUNS", ("car-edsr-x2",))
    monkeypatch.setattr(train_step, "_note", lambda step, seconds, operations: "note")
    monkeypatch.setattr(train_step.torch, "compile", lambda module: module)
    monkeypatch.setenv("CXX", sys.executable)
    made = {}
    for params in ([], ["compile=true"], ["compile=false"]):
        rows = chain.from_iterable(train_step.rows(1, "smoke", "cpu", params))
        made[*params,] = {row["case"].rpartition(", ")[2] for row in rows if "compile" in row["case"]}
    assert made == {(): set(), ("compile=true",): {"torch.compile"}, ("compile=false",): set()}
    assert train_step.why_not_compile(torch.device("cpu")).endswith("-p compile=true times it")


def test_where_a_training_step_goes_adds_up(home):
    run = runs.get("car-edsr-x2", "smoke", {"patch": {2: 16}})
    shares = train_step._shares(train_step.Step(run, devices.fabric(run, "cpu")), count=1)
    assert sum(shares.values()) == pytest.approx(1) and shares["convolutions"] > 0 and shares["operator"] > 0


def test_training_under_a_profile_that_trains_nothing_is_refused(home):
    with pytest.raises(ValueError, match="profile demo trains nothing: use --profile mini or paper"):
        suite.run("train", profile="demo")
