"""A run that takes another's resampler and trains the upscaler alone (Table 2, "CAR double dagger")."""

import dataclasses
import hashlib

import pytest
import torch
from short_runs import go, short

from carlib import experiments, losses, run_networks, runs, train, weights
from carlib.training import checkpoint, loop, objective
from carlib.training.patches import Patches

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def resampler(home):
    """The weights of a car-edsr-x2 with kernels that move, trained where runs that need it look for it."""
    return go(short("car-edsr-x2", steps=2, lr=1e-2), home / "results" / "smoke" / "runs" / "car-edsr-x2")


def frozen(**overrides):
    return short("car-bicubic-x2", **{"upscaler": "edsr", "resampler_from": "car-edsr-x2"} | overrides)


def test_a_frozen_resampler_is_that_of_the_run_it_names_and_stays_so(resampler, tmp_path):
    before = weights.load_run(resampler)[0]["resampler"].state_dict()
    made = weights.load_run(go(frozen(), tmp_path / "run"))[0]
    assert all(torch.equal(value, before[key]) for key, value in made["resampler"].state_dict().items())
    trained = checkpoint.read(tmp_path / "run")["networks"]  # single precision
    assert all(torch.equal(trained[f"resampler.{key}"], value) for key, value in before.items())
    begun = run_networks.build(frozen()).state_dict()
    assert any(not torch.equal(begun[key], value) for key, value in trained.items() if key.startswith("upscaler."))


def test_a_frozen_resampler_gets_no_gradient_and_the_loss_is_that_of_restoration(resampler, home):
    run = dataclasses.replace(frozen(), lambda_offset=10.0, gamma_tv=10.0)  # declared for a CAR that is trained, say
    torch.manual_seed(0)
    rescaler = run_networks.Rescaler(run_networks.build(run), run.alpha)
    hr, _ = Patches(run).batch(0)
    made = rescaler(hr)
    assert not made.lr.requires_grad and torch.equal(made.lr, (made.lr * 255).round() / 255)  # the upscaler sees 8 bits
    total, terms = objective.of_run(run, 0, made, hr, None)
    assert set(terms) == {"restoration"} and total == losses.RESTORATION[run.loss](made.sr, hr)
    total.backward()
    assert all(p.grad is None for p in rescaler.networks["resampler"].parameters())
    assert any(p.grad is not None and p.grad.any() for p in rescaler.networks["upscaler"].parameters())
    assert len(loop._groups(run, rescaler.networks)) == 1


def test_the_frozen_resampler_is_part_of_the_recipe(resampler, home, tmp_path):
    go(frozen(), tmp_path / "run")
    recipe = checkpoint.read(tmp_path / "run")["recipe"]
    assert recipe["resampler_from"] == hashlib.sha256(resampler.read_bytes()).hexdigest()
    assert recipe["warm_start"] is None
    go(short("car-edsr-x2", steps=3), resampler.parent, restart=True)
    now = checkpoint.recipe(frozen())
    assert checkpoint.changes(recipe, now) == {"resampler_from": "the resampler_from changed"}


def test_a_resampler_that_is_not_there_or_reads_its_weights_otherwise_is_refused(resampler, tmp_path):
    other = "car-bicubic-x2 cannot take the resampler of car-edsr-x2, which has border='replicate', not 'release'$"
    absent = "no weights at .*car-edsr-x4/"
    for run, told in ((frozen(border="release"), other), (frozen(resampler_from="car-edsr-x4"), absent)):
        with pytest.raises(ValueError, match=told):
            go(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("other", "told"), [
    ("car-edsr-x2-no-offset", "cannot take the resampler of car-edsr-x2-no-offset, which has offsets=False, not True$"),
    ("bicubic-edsr-x2", "^resampler_start='bicubic-edsr-x2' names a run without a resampler"),
])  # fmt: skip
def test_a_start_that_cannot_fit_is_refused_before_it_is_trained(home, monkeypatch, other, told):
    monkeypatch.setattr(train, "train", None)
    with pytest.raises(ValueError, match=told):
        experiments.prepare("car-edsr-x2", "smoke", [f"resampler_start={other}"])


def test_as_many_taps_fit_however_they_are_told(home):
    """README's trial: car-bicubic-x2 names no kernel_size, which means 3 * scale + 1."""
    start = {"resampler_start": "car-bicubic-x2"}
    run_networks.check_starts(runs.get("car-edsr-x2", "smoke", {"kernel_size": 7, **start}))
    with pytest.raises(ValueError, match=r"which has kernel_size=7, not 8$"):
        run_networks.check_starts(runs.get("car-edsr-x2", "smoke", {"kernel_size": 8, **start}))
