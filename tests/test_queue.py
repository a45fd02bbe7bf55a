"""The list of runs and the queue that trains them: states, order, and what a failure does."""

import typing

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from carlib import cells, experiments, models, overview, results, runs, weights
from carlib.dispatch import queue


@pytest.fixture
def no_tables(monkeypatch):
    monkeypatch.setattr(cells, "tables_of", lambda profile: {})


def finish(name, profile="smoke", step=None, seconds=2.5, **changed):
    """What a training that came to `step` (default its last) leaves: weights and a log."""
    run = runs.get(name, profile)
    folder = results.folder(profile, "runs", name)
    results.write_text(folder / "log.csv", f"step,loss,seconds\n0,1,0\n{step or run.steps},0.5,{seconds}\n")
    networks = nn.ModuleDict({"upscaler": models.create("bicubic", 2)})
    header = {"run": name, "profile": profile, "parameters": runs.as_dict(run) | changed}
    return weights.save(networks, folder / "weights.safetensors", header)


# ---- the list -----------------------------------------------------------------------------------------


def test_every_run_is_listed_with_its_tables(home):
    frame = overview.table("mini")
    assert list(frame.columns) == overview.COLUMNS and frame.run.is_unique
    assert {name for name in runs.names() if runs.get(name, "mini").trains} <= set(frame.run)
    tables = dict(zip(frame.run, frame.tables, strict=True))
    assert tables["car-edsr-x4"] == "1 3 4 5" and tables["car-rcan-x4-frozen"] == "2"
    assert tables["bicubic-rcan-x4-start"] == "" and "bicubic-bicubic-x2" not in tables
    assert [name for name in tables if "-seed" in name] and tables["car-edsr-x4-free-seed2"] == "3"
    assert set(frame.state) == {"shipped"} and frame.note.eq("").all()
    assert "-start" not in " ".join(overview.table("smoke").run)  # nobody begins with them there


def test_a_state_is_told_by_the_files(declare, no_tables):
    declare(done={}, begun={}, other={}, none={}, broken={})
    finish("done"), finish("begun", step=3), finish("other", lr=0.5), finish("broken")
    (results.folder("smoke", "runs", "broken") / "weights.safetensors").write_bytes(b"torn")
    frame = overview.table("smoke").set_index("run")
    assert frame.state.to_dict() == {
        "done": "trained", "begun": "training, 3 of 4", "other": "trained", "none": "missing", "broken": "trained",
    }  # fmt: skip
    assert frame.note["done"] == "" and frame.note["other"] == "weights of another recipe: lr 0.5 -> 0.001"
    assert "not a whole safetensors file" in frame.note["broken"] and set(frame.steps) == {4}
    assert frame.seconds["done"] == 2.5 and frame.kB["done"] > 0 and frame.kB.isna()["none"]
    text = overview.as_text(overview.table("smoke")).splitlines()
    assert (
        text[-1].startswith("5 runs: 3 trained, 1 training, 1 missing; 0.0 MB; measured 0.0 hours") and len(text) == 7
    )


def test_a_log_from_before_seconds_were_kept_has_none(declare, no_tables):
    declare(old={})
    finish("old")
    results.write_text(results.folder("smoke", "runs", "old", "log.csv"), "step,psnr\n6,30\n")
    (line,) = overview.table("smoke").to_dict("records")
    assert line["state"] == "trained" and pd.isna(line["seconds"])


def test_profile_demo_lists_what_is_shipped(home):
    (home / "data").unlink()
    (home / "data" / "weights").mkdir(parents=True)
    params = home / "params.yaml"
    params.write_text(params.read_text().replace("table3: {smoke: 1, demo: 1,", "table3: {smoke: 1, demo: 3,"))
    finish("car-edsr-x2-no-tv", "mini", precision="bf16-mixed")  # "auto" on another machine: the same recipe
    source = results.folder("mini", "runs", "car-edsr-x2-no-tv", "weights.safetensors")
    for name in ("car-edsr-x2-no-tv", "car-edsr-x2-no-tv-seed1"):
        (home / "data" / "weights" / f"{name}.safetensors").write_bytes(source.read_bytes())
    (home / "data/weights/car-edsr-x2-no-tv.csv").write_text("step,seconds\n1000,350\n2000,701\n")
    frame = overview.table("demo").set_index("run")
    assert frame.state.value_counts().to_dict()["shipped"] == 2
    shipped = frame.loc["car-edsr-x2-no-tv"]
    assert (shipped.state, shipped.steps, shipped.seconds, shipped.note) == ("shipped", 2000, 701, "")
    assert frame.note["car-edsr-x2-no-tv-seed1"].startswith("weights of another recipe: ")  # its header has seed 0
    assert frame.state["car-edsr-x2"] == "missing" and not frame.index.str.endswith("-start").any()


def test_shipped_weights_stand_for_a_run_of_their_recipe_that_was_not_begun(home):
    """Under mini, which made them; what was begun or brought here goes before, and training is not put off by them."""
    (home / "data").unlink()
    name, shipped = "car-edsr-x2-no-tv", home / "data" / "weights" / "car-edsr-x2-no-tv.safetensors"
    finish(name, "mini")
    own = results.folder("mini", "runs", name, "weights.safetensors")
    results.write_bytes(shipped, own.read_bytes())
    for leftover in own.parent.iterdir():
        leftover.unlink()
    assert experiments.ready(name, "mini") == shipped and overview.why_absent(name, "mini") == ""
    assert (overview.line(name, "mini")["state"], overview.line(name, "paper")["state"]) == ("shipped", "missing")
    assert overview.why_absent(f"{name}-seed1", "mini") == (
        "missing: no weights here, train car-edsr-x2-no-tv-seed1 under profile mini"
    )
    with pytest.raises(ValueError, match=r"no weights at .*/paper/runs/car-edsr-x2-no-tv/"):
        experiments.ready(name, "paper")
    results.write_bytes(own, shipped.read_bytes())  # brought here, without a log
    assert experiments.ready(name, "mini") == own and overview.line(name, "mini")["state"] == "trained"
    finish(name, "mini", step=500)
    assert overview.why_absent(name, "mini") == "training, 500 of 2000"
    assert experiments.ready(name, "mini", any_recipe=True) == own
    finish(name, "mini", lr=0.5)
    assert overview.why_absent(name, "mini").startswith("missing: weights of another recipe: lr 0.5 -> ")
    for leftover in own.parent.iterdir():
        leftover.unlink()
    assert name in queue.split([name], "mini")[1]


# ---- the queue ----------------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """Runs in the order they were trained; training is a moment, and those in trained.failing fail."""

    class Trained(list):
        failing: typing.ClassVar = {}

    made = Trained()

    def prepare(name, profile, **options):
        made.append(name)
        if name in made.failing:
            raise made.failing[name]
        finish(name, profile)

    monkeypatch.setattr(experiments, "prepare", prepare)
    return made


def go(profile="smoke", table=None, **options):
    told = []
    return queue.train_all(profile, table, tell=told.append, **options), told


def test_starts_come_first_and_what_is_done_is_skipped(declare, no_tables, trained):
    declare(last={"warm_start": "middle"}, other={}, middle={"warm_start": "a-start"}, a_start={}, b_start={})
    finish("other")
    failed, told = go()
    assert trained == ["a-start", "middle", "last"] and failed == {}
    assert len(told) == 4 and told[0] == "[1/4] other: done before" and "[4/4] last: trained, 4 steps, 2 s" in told
    assert go()[1] == [
        f"[{n}/4] {name}: done before" for n, name in enumerate(("a-start", "other", "middle", "last"), 1)
    ]


def test_a_failed_run_stops_only_those_that_need_it(declare, no_tables, trained):
    declare(start={}, first={"warm_start": "start"}, second={"warm_start": "first"}, other={})
    trained.failing = {
        "first": ValueError("the loss is\n no longer a number"),
        "other": RuntimeError("CUDA: no memory"),
    }
    failed, told = go()
    assert failed == {"first": "the loss is no longer a number", "second": "needs first, which failed",
                      "other": "RuntimeError CUDA: no memory"}  # fmt: skip
    assert trained == ["start", "other", "first"] and len(told) == 4
    assert told[-1] == "[4/4] second: failed: needs first, which failed"


def test_a_begun_run_is_continued_and_another_recipe_is_not_taken_for_done(declare, no_tables, trained):
    declare(begun={}, other={}, done={})
    finish("begun", step=3), finish("other", lr=0.5), finish("done")
    go()
    assert trained == ["begun", "other"]
    go(renew=True)  # looks at every run's recipe
    assert trained[2:] == ["begun", "other", "done"]


def test_one_table_alone_and_what_it_needs(home):
    names = queue.order(cells.names(2, "mini"), "mini")
    assert len(names) == 12 + 4 + 2 and names[0].endswith("-start")
    assert names.index("bicubic-edsr-x4-start") < names.index("car-edsr-x4-start") < names.index("car-rdn-x4-frozen")
    downscalers = ("perceptual-as-published", "dpid-0.5", "l0", "car")
    both = ["car-bicubic", "bicubic-edsr", *(f"{downscaler}-edsr" for downscaler in downscalers)]
    assert queue.order(cells.names(1, "smoke"), "smoke") == [f"{name}-x{scale}" for scale in (2, 4) for name in both]
    frozen = queue.order(cells.names(2, "smoke"), "smoke")  # from the beginning, but for the resampler
    assert "bicubic-rdn-x4-start" not in frozen and frozen[0] != "car-rdn-x4-frozen" and "car-edsr-x4" in frozen


def test_a_circle_is_refused_in_one_line(declare, no_tables):
    declare(a={"warm_start": "b"}, b={"warm_start": "c"}, c={"warm_start": "b"})
    with pytest.raises(
        ValueError, match=r"no run of a -> b -> c -> b can be first: see warm_start, resampler_start, resampler_from$"
    ):
        go()


def test_profile_demo_has_nothing_to_train(home):
    with pytest.raises(ValueError, match="profile demo trains nothing"):
        go("demo")


def test_the_queue_trains_for_true(home, no_tables):
    content = yaml.safe_load((home / "params.yaml").read_text())
    small = {"steps": 2, "validate_every": 1, "patch": {2: 16}, "validation_crop": 32, "validation_images": 1}
    content["profiles"]["smoke"]["train"] |= small
    base = {"downscaler": "bicubic", "upscaler": "edsr", "scale": 2}
    content["runs"] = {"a-start": base, "b": base | {"warm_start": "a-start"}, "c": base | {"lr": 1e30, "clip": 0.0}}
    (home / "params.yaml").write_text(yaml.safe_dump(content))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    failed, told = go(device="cpu", progress=False)
    torch.set_num_threads(threads)
    assert list(failed) == ["c"] and "lower lr=1e+30 or set clip" in failed["c"]
    assert [line.split(":")[0] for line in told] == ["[1/3] a-start", "[2/3] c", "[3/3] b"]
    assert results.folder("smoke", "runs", "b", "weights.safetensors").is_file()
