"""Operations of an update: counted as a convolution's definition says, and what a run adds to them."""

import pytest

from carlib import overview, runs
from carlib.training import step_cost


def of(name, profile="mini", **overrides):
    run = runs.get(name, profile, {"warm_start": None, **overrides})
    return step_cost.operations(run)


def test_an_update_is_three_times_its_forward_pass(home):
    from carlib.models import costs

    listed = costs.summary(("mini",), (4,)).set_index("network").gigamacs
    run = runs.get("car-edsr-x4", "mini")
    megapixels = run.batch * run.patch[4] ** 2 / 1e6
    forward = 2e9 * (listed.resampler + listed.edsr) * megapixels
    assert of("car-edsr-x4", local=0, weighting="clamp") == pytest.approx(3 * forward, rel=0.05)


def test_what_a_run_trains_is_counted(home):
    bicubic, frozen, joint = (of(f"{name}") for name in ("bicubic-rcan-x4", "car-rcan-x4-frozen", "car-rcan-x4"))
    resampler = joint - bicubic
    assert bicubic < frozen < joint and frozen - bicubic == pytest.approx(resampler / 3, rel=0.1)
    assert of("bicubic-edsr-x2", batch=16) == 2 * of("bicubic-edsr-x2", batch=8)


def test_a_list_of_runs_is_projected(home):
    frame = overview.table("smoke").head(2)
    made = step_cost.projected(frame, "smoke", tflops=0.5)
    run = runs.get(frame.run[0], "smoke")
    assert made.PFLOP[0] == step_cost.operations(run) * run.steps / 1e15
    assert made.hours[0] == pytest.approx(made.PFLOP[0] * 1e15 / 0.5e12 / 3600)
    assert f"all: {made.PFLOP.sum():.3g} PFLOP" in overview.as_text(made)


@pytest.mark.parametrize(("profile", "rate", "told"), [("demo", 1.0, "demo trains nothing"), ("mini", 0, "no rate")])
def test_what_cannot_be_projected_is_refused(home, profile, rate, told):
    with pytest.raises(ValueError, match=told):
        step_cost.projected(overview.table("smoke").head(1), profile, rate)
