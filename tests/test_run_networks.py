"""The networks of a run: their numbers, and the resampler of another run to begin with."""

import dataclasses
import json

import pytest
import torch
import yaml
from short_runs import go, short, smoke

from carlib import experiments, results, run_networks, runs, weights
from carlib.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def resampler(home):
    """The weights of a car-edsr-x2 whose kernels moved, where runs that begin with it look for them."""
    return go(short("car-edsr-x2", steps=2, lr=1e-2), results.folder("smoke", "runs", "car-edsr-x2"))


def going_on(**overrides):
    return short("car-bicubic-x2", **{"resampler_start": "car-edsr-x2", "lr": 1e-2} | overrides)


def test_a_resampler_begins_as_that_of_the_run_it_names_and_trains_on(resampler, tmp_path):
    before = weights.load_run(resampler)[0]["resampler"].state_dict()
    networks = run_networks.build(going_on())
    assert all(torch.equal(value, before[key]) for key, value in networks["resampler"].state_dict().items())
    plain = run_networks.build(short("car-bicubic-x2"))
    frozen = [[not parameter.requires_grad for parameter in some.parameters()] for some in (networks, plain)]
    assert frozen[0] == frozen[1]
    made = weights.load_run(go(going_on(), tmp_path / "run"))[0]["resampler"].state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in made.items())


def test_the_resampler_that_a_run_begins_with_is_part_of_its_recipe(resampler, tmp_path):
    go(going_on(), tmp_path / "run")
    recipe = checkpoint.read(tmp_path / "run")["recipe"]
    assert checkpoint.changes(recipe, checkpoint.recipe(going_on())) == {}
    go(short("car-edsr-x2", steps=3), resampler.parent, restart=True)
    told = checkpoint.changes(recipe, checkpoint.recipe(going_on()))
    assert told == {"resampler_start": "the resampler_start changed"}
    del recipe["resampler_start"]  # of before there was such a thing
    assert checkpoint.changes(recipe, checkpoint.recipe(short("car-bicubic-x2", lr=1e-2))).keys() == {"parameters"}


def test_the_run_whose_resampler_is_taken_is_trained_first(home):
    content = yaml.safe_load((home / "params.yaml").read_text())
    content["profiles"]["smoke"]["train"] |= {
        "steps": 2, "validate_every": 2, "patch": {2: 16, 4: 16}, "validation_crop": 32, "validation_images": 1,
    }  # fmt: skip
    (home / "params.yaml").write_text(yaml.safe_dump(content))
    options = {"device": "cpu", "progress": False}
    path = experiments.prepare("car-edsr-x2", "smoke", ["resampler_start=car-bicubic-x2"], **options)
    assert results.folder("smoke", "runs", "car-bicubic-x2", "weights.safetensors").is_file()
    assert weights.load_run(path)[1]["parameters"]["resampler_start"] == "car-bicubic-x2"


def renamed(path, **changes):
    """The header of a file with other options of its resampler; None takes the option out."""
    state, header = weights.read(path)
    options = header["networks"]["resampler"] | changes
    header["networks"]["resampler"] = {key: value for key, value in options.items() if value is not None}
    networks = run_networks.build(short("car-edsr-x2"))
    networks.load_state_dict(state, strict=False)
    weights.save(networks, path, header)


@pytest.mark.parametrize("start", ["resampler_start", "resampler_from"])
def test_an_option_that_a_file_does_not_name_yet_was_the_default(resampler, start):
    def build(**changed):
        return run_networks.build(short("car-edsr-x2-free", scale=2, **{start: "car-edsr-x2"} | changed))

    renamed(resampler, prior_sigma=None, head_scale=None, guided_eps=None)
    assert "guided_eps" not in weights.read(resampler)[1]["networks"]["resampler"]
    build()
    run = short("car-edsr-x2-free", scale=2, **{start: "car-edsr-x2"})
    run_networks.build(dataclasses.replace(run, head_scale=2.0))  # says how training begins
    with pytest.raises(ValueError, match="the resampler of car-edsr-x2, which has prior_sigma=None, not"):
        build(prior_sigma=0.5)


def test_width_and_blocks_are_the_sizes_unless_a_run_names_them(home):
    run = smoke("car-edsr-x2", resampler_width=8, resampler_blocks=1)
    own, plain = (run_networks.build(run)["resampler"] for run in (run, smoke("car-edsr-x2")))
    assert (own.ds_8.downsample[1].out_channels, len(own.res_4)) == (8, 1)
    assert (plain.ds_8.downsample[1].out_channels, len(plain.res_4)) == (32, 2)
    same = smoke("car-edsr-x2", resampler_width=32, resampler_blocks=2)
    assert checkpoint.recipe(same)["networks"] == checkpoint.recipe(smoke("car-edsr-x2"))["networks"]


def test_a_trained_run_of_another_width_is_built_again_from_its_file(home, tmp_path):
    path = go(short("car-bicubic-x2", resampler_width=8, resampler_blocks=0, prior_sigma=0.5), tmp_path / "run")
    networks, header = weights.load_run(path)
    assert networks["resampler"].ds_8.downsample[1].out_channels == 8
    assert header["networks"]["resampler"]["prior_sigma"] == 0.5


NEW = (
    "ema", "penalties_after", "prior_sigma", "head_scale", "learned_prior", "resampler_width", "resampler_blocks",
    "resampler_start", "resampler_after",
)  # fmt: skip


@pytest.mark.parametrize("name", NEW)
def test_a_recipe_without_a_later_parameter_is_still_that_of_its_default(home, name):
    now = checkpoint.recipe(runs.get("car-edsr-x2", "smoke"))
    before = json.loads(json.dumps(now))
    del before["parameters"][name]
    before["networks"]["resampler"].pop(name, None)
    assert checkpoint.changes(before, now) == {} == checkpoint.changes(now, before)
    before["parameters"]["lr"] = 9
    assert checkpoint.changes(before, now).keys() == {"parameters"}
