"""The training loop: the average of the weights, penalties and resamplers that begin later."""

import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from short_runs import go, short, smoke, without_seconds
from tqdm import tqdm

from carlib import devices, losses, stopping, weights
from carlib.run_networks import Restored
from carlib.training import checkpoint, objective
from carlib.training import loop as loop_module
from carlib.training.loop import Loop

pytestmark = pytest.mark.usefixtures("one_thread")


def begun(run):
    loop = Loop(run, devices.fabric(run, "cpu"))
    loop.load_images()
    loop.begin(None)
    loop.rescaler.train()
    return loop


def copied(networks):
    return {key: value.clone() for key, value in networks.state_dict().items()}


def test_the_average_halves_what_it_keeps_of_earlier_weights(home):
    torch.manual_seed(0)
    loop = begun(short(ema=0.5, lr=0.01, schedule="constant"))
    seen = []
    for step in range(3):
        loop._update(step, [])
        seen.append(copied(loop.networks))
    for key, value in loop.kept.state_dict().items():
        expected = seen[0][key] / 4 + seen[1][key] / 4 + seen[2][key] / 2
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-7)
    assert any(not torch.equal(value, seen[2][key]) for key, value in loop.kept.state_dict().items())


def test_what_is_validated_and_kept_is_the_average(home, tmp_path):
    run = short(ema=0.9, lr=0.01, schedule="constant", steps=2)
    log = []
    path = go(run, tmp_path / "run", on_validation=log.extend)
    average = checkpoint.read(tmp_path / "run")["average"]
    kept = weights.read(path)[0]
    assert kept and all(torch.equal(value, average[f"module.{key}"].half()) for key, value in kept.items())
    plain = []
    go(short(lr=0.01, schedule="constant", steps=2), tmp_path / "plain", on_validation=plain.extend)
    trained, same = (checkpoint.read(tmp_path / folder)["networks"] for folder in ("run", "plain"))
    assert all(torch.equal(value, same[key]) for key, value in trained.items())  # it only watches
    assert log[0]["loss"] == plain[0]["loss"] and log[0]["psnr"] != plain[0]["psnr"]
    assert "average" not in checkpoint.read(tmp_path / "plain")


def test_an_average_that_was_stopped_within_a_block_continues_to_the_same_bits(home, tmp_path, monkeypatch):
    run, update = short(ema=0.5, lr=0.01), Loop._update

    def terminated(self, step, psnrs):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, step, psnrs)

    monkeypatch.setattr(Loop, "_update", terminated)
    with pytest.raises(stopping.Stopped, match="after step 3 of 4"):
        go(run, tmp_path / "stopped")
    monkeypatch.setattr(Loop, "_update", update)
    for folder in ("stopped", "whole"):
        go(run, tmp_path / folder)
    a, b = (checkpoint.read(tmp_path / folder) for folder in ("stopped", "whole"))
    for part in ("networks", "average"):
        assert a[part].keys() == b[part].keys() and all(torch.equal(a[part][key], b[part][key]) for key in a[part])
    logs = [(tmp_path / folder / "log.csv").read_text(encoding="utf-8") for folder in ("stopped", "whole")]
    assert without_seconds(logs[0]) == without_seconds(logs[1])


@pytest.fixture
def batch():
    """hr, sr, and what a resampler predicts for them."""
    draw = torch.Generator().manual_seed(0)
    hr, sr = (torch.rand(2, 3, 8, 8, generator=draw) for _ in range(2))
    predicted = [torch.rand(2, 49, 4, 4, generator=draw, requires_grad=True) for _ in range(3)]
    return hr, sr.requires_grad_(), predicted


@pytest.mark.parametrize(("step", "counts"), [(0, False), (2, False), (3, True), (9, True)])
def test_penalties_count_in_full_after_their_share_of_the_steps(home, batch, step, counts):
    hr, sr, predicted = batch
    run = smoke("car-edsr-x2", steps=10, penalties_after=0.3, lambda_offset=2.0, gamma_tv=3.0)
    total, terms = objective.of_run(run, step, Restored(sr, None, predicted, None), hr, None)
    restoration = losses.RESTORATION[run.loss](sr, hr)
    assert terms["offset"] > 0 and terms["tv"] > 0  # known all along
    penalty = 2.0 * terms["offset"] + 3.0 * terms["tv"] if counts else 0.0
    torch.testing.assert_close(total, restoration + penalty, rtol=1e-6, atol=0)
    total.backward()
    assert all((tensor.grad is not None) == counts for tensor in predicted) and sr.grad.any()


def test_penalties_that_never_count_train_what_none_do(home, tmp_path):
    numbers, logs = {"lr": 0.01, "schedule": "constant", "lambda_offset": 1.0, "gamma_tv": 1.0}, {}
    for name, changed in {"never": {"penalties_after": 1.0}, "none": {"lambda_offset": 0.0, "gamma_tv": 0.0}}.items():
        logs[name] = []
        go(short("car-edsr-x2", **numbers | changed), tmp_path / name, on_validation=logs[name].append)
    never, none = (checkpoint.read(tmp_path / name)["networks"] for name in logs)
    assert all(torch.equal(value, none[key]) for key, value in never.items())
    assert logs["never"][-1][-1]["offset"] > 0 and math.isnan(logs["none"][-1][-1]["offset"])


@pytest.mark.parametrize(("share", "moves"), [(0.0, [True] * 4), (0.5, [False, False, True, True]), (1.0, [False] * 4)])
def test_a_resampler_rests_for_its_share_of_the_steps_while_the_upscaler_learns(home, share, moves):
    torch.manual_seed(0)
    loop = begun(short("car-edsr-x2", steps=4, lr=0.01, schedule="constant", resampler_after=share))
    resampler = list(loop.networks["resampler"].parameters())
    for step, expected in enumerate(moves):
        before = copied(loop.networks)
        assert any(moves[:step]) == any(parameter in loop.optimizer.state for parameter in resampler)  # no moments yet
        loop._update(step, [])
        after = copied(loop.networks)
        changed = {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}
        assert changed == ({"resampler", "upscaler"} if expected else {"upscaler"})


def test_adam_is_the_papers(home):
    found = begun(short("car-edsr-x2")).optimizer
    assert isinstance(found, torch.optim.Adam)
    assert found.defaults["betas"] == (0.9, 0.999) and found.defaults["eps"] == 1e-6


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_gradients_are_shortened_to_clip(home, clip):
    loop = begun(short("car-edsr-x2", clip=clip))
    loop._update(0, [])
    gradients = [p.grad for p in loop.rescaler.parameters() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))
    assert norm == pytest.approx(clip, rel=1e-3) if clip else norm > 0.01


@pytest.fixture
def steady(monkeypatch):
    """A loop whose every update takes ten seconds of a clock of its own and has the loss 2; validations take one."""
    now = [0.0]

    def passes(seconds, outcome):
        def called(*_):
            now[0] += seconds
            return outcome

        return called

    monkeypatch.setattr(loop_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Loop, "_update", passes(10, ({"loss": torch.tensor(2.0), "mse": torch.tensor(0.01)}, 0.1)))
    monkeypatch.setattr(Loop, "_validate", passes(1, {"psnr": 30.0}))
    return begun(short(steps=6))


def test_every_row_of_the_log_is_the_mean_of_its_own_block(home, steady):
    rows = [steady.block(tqdm(disable=True)) for _ in range(3)]
    assert [row["loss"] for row in rows] == [2.0] * 3
    assert [row["patch_psnr"] for row in rows] == pytest.approx([20.0] * 3)


def test_seconds_go_on_after_a_resume_and_are_counted_once(home, steady):
    steady.told = lambda: steady.step == 3
    assert steady.block(tqdm(disable=True))["seconds"] == 21
    assert steady.block(tqdm(disable=True)) is None  # within the second block
    steady.told = lambda: False
    steady.begin({"log": steady.log, "step": steady.step, "sums": steady.sums, "seconds": steady.seconds})
    rows = [steady.block(tqdm(disable=True)) for _ in range(2)]
    assert [row["seconds"] for row in rows] == [42, 63] and [row["loss"] for row in rows] == [2.0, 2.0]
