"""params.yaml: what wins over what, and what is refused before a run begins."""

import dataclasses

import pytest
import torch
import yaml

from carlib import models, run_checks, runs


@pytest.fixture
def params(home):
    """Write params.yaml anew: params(lambda content: ...) changes it in place."""

    def change(edit):
        content = yaml.safe_load((home / "params.yaml").read_text())
        edit(content)
        (home / "params.yaml").write_text(yaml.safe_dump(content))

    return change


def test_precedence_is_defaults_profile_run_profile_of_the_run_overrides(params):
    def edit(content):
        content["defaults"].update(lambda_offset=0.1, gamma_tv=0.1, alpha=0.1, bound=0.1, seed=1)
        content["profiles"]["smoke"]["train"].update(gamma_tv=0.2, alpha=0.2, bound=0.2, seed=2)
        content["runs"]["car-edsr-x2"].update(alpha=0.3, bound=0.3, seed=3)
        content["runs"]["car-edsr-x2"]["smoke"] = {"bound": 0.4, "seed": 4}
        content["runs"]["car-edsr-x2"]["mini"] = {"alpha": 9.0}  # of another profile

    params(edit)
    run = runs.get("car-edsr-x2", "smoke", {"seed": 5})
    assert (run.lambda_offset, run.gamma_tv, run.alpha, run.bound, run.seed) == (0.1, 0.2, 0.3, 0.4, 5)
    assert runs.get("car-edsr-x2", "mini").alpha == 9.0


def test_no_profile_means_the_one_of_the_file(params):
    params(lambda content: content.update(profile="smoke"))
    assert runs.profile()["name"] == "smoke"
    assert runs.get("car-edsr-x2").profile == "smoke"


def test_a_run_carries_its_name_profile_and_sizes(home):
    run = runs.get("car-edsr-x4", "paper")
    assert (run.name, run.profile, run.scale, run.weighting) == ("car-edsr-x4", "paper", 4, "clamp")
    assert run.size == {"resampler": "paper", "edsr": "paper"} and run.patch == {2: 96, 4: 192}


def test_the_defaults_of_a_run_are_those_of_the_file(home):
    """params.yaml is where people read them; the dataclass must not say otherwise."""
    fields = {field.name: field for field in dataclasses.fields(runs.Run)}
    for name, value in runs.read_params()["defaults"].items():
        assert fields[name].default == value and type(fields[name].default) is type(value), name


def test_a_profile_of_ones_own_has_numbers_of_its_own_too(params):
    def declare(content):
        content["profiles"]["base"] = content["profiles"]["smoke"] | {"size": "base"}
        content["runs"]["car-edsr-x2"]["base"] = {"alpha": 9.0}

    params(declare)
    run = runs.get("car-edsr-x2", "base")
    assert (run.alpha, run.steps, run.size) == (9.0, runs.get("car-edsr-x2", "smoke").steps, "base")
    assert runs.get("car-edsr-x2", "smoke").alpha != 9.0


def test_a_profile_that_trains_nothing_shows_how_the_shipped_weights_were_trained(home):
    for name in runs.names():
        shown, made = runs.get(name, "demo"), runs.get(name, "mini")
        own = {"image_steps": 50} if made.upscaler == "zssr" else {}  # trained on each image, not shipped
        assert runs.as_dict(shown) == runs.as_dict(made) | {"profile": "demo", "steps": 0} | own


def declared():
    params = runs.read_params()
    return [(name, profile) for name in params["runs"] for profile in params["profiles"]]


@pytest.mark.parametrize(("name", "profile"), declared())
def test_every_declared_run_can_be_built_under_every_profile(home, name, profile):
    run = runs.get(name, profile)
    with torch.device("meta" if profile == "paper" else "cpu"):
        networks = {role: models.create(**options) for role, options in run.networks().items() if role != "upscaler"}
        upscaler = models.create(**run.networks()["upscaler"]) if run.upscaler != "bicubic" else None
    assert run.trains == (not run.image_steps and (upscaler is not None or networks != {}))
    assert ("resampler" in networks) == (run.downscaler == "car")
    assert ("downscaler" in networks) == (run.downscaler in ("cnn-cr", "tad"))
    assert name.startswith(f"{run.downscaler}-{run.upscaler}-x{run.scale}")
    if run.warm_start:
        assert run.warm_start in runs.names()


def test_the_profiles_are_those_of_the_program(home):
    assert tuple(runs.read_params()["profiles"]) == runs.PROFILES
    assert runs.names() == list(runs.read_params()["runs"])


@pytest.mark.parametrize(("arguments", "told"), [
    (("car-edrs-x2", "smoke"), "run 'car-edrs-x2' is unknown: did you mean 'car-edsr-x2'"),
    (("zzz", "smoke"), "run 'zzz' is unknown: `carlib experiments` lists all runs$"),
    (("car-edsr-x2", "smok"), "profile 'smok' is unknown: did you mean 'smoke'"),
    (("car-edsr-x2", ""), "profile '' is unknown: known are smoke, demo, mini, paper"),
    (("car-edsr-x2", "smoke", {"sed": 3}), "parameter 'sed' is unknown: did you mean 'seed'"),
    (("car-edsr-x2", "smoke", {"": 3}), "parameter '' is unknown"),
])  # fmt: skip
def test_unknown_names_are_refused_with_a_suggestion(home, arguments, told):
    assert_refused(told, *arguments)


def assert_refused(told, *arguments):
    with pytest.raises(ValueError, match=told) as refusal:
        runs.get(*arguments)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("name", "value", "told"), [
    ("lr", "1e-4", r"lr='1e-4' is str, not float or int: YAML reads 1e-4 as text, write 1\.0e-04"),
    ("lr", "fast", "lr='fast' is str, not float or int$"),
    ("lr", True, "lr=True is bool, not float"),
    ("lr", None, "lr=None is NoneType, not float"),
    ("seed", 1.5, "seed=1.5 is float, not int"),
    ("seed", False, "seed=False is bool, not int"),
    ("offsets", 1, "offsets=1 is int, not bool"),
    ("kernel_size", "7", "kernel_size='7' is str, not int or null"),
    ("patch", 96, "patch=96 is int, not dict"),
    ("train_sets", "demo", "train_sets='demo' is str, not list"),
    ("train_sets", [], r"train_sets=\[\] names no image set to train on"),
])  # fmt: skip
def test_wrong_types_are_refused(home, name, value, told):
    assert_refused(told, "car-edsr-x2", "smoke", {name: value})


@pytest.mark.parametrize(("name", "value", "told"), [
    ("lr", 0, "lr=0.0 must be above 0"),
    ("lr", float("nan"), "lr=nan must be above 0"),
    ("lr", float("inf"), "lr=inf must be above 0 and finite"),
    ("validation_images", 0, "validation_images=0 must be above 0, or empty"),
    ("validation_crop", -4, "validation_crop=-4 must be above 0, or empty"),
    ("validation_crop", 1, "validation_crop=1 is less than a LR pixel, which is 2 wide"),
    ("batch", 0, "batch=0 must be above 0"),
    ("validate_every", -1, "validate_every=-1 must be above 0"),
    ("steps", -1, "steps=-1 must be a finite number >= 0"),
    ("alpha", float("inf"), "alpha=inf must be a finite number >= 0"),
    ("gamma_tv", -0.1, "gamma_tv=-0.1 must be"),
    ("seed", -1, "seed=-1 must be"),
    ("loss", "l3", "loss='l3' is unknown: use one of l1, l2, charbonnier"),
    ("schedule", "cosine", "schedule='cosine' is unknown: use one of constant, one-cycle, plateau"),
    ("precision", "fp16", "precision='fp16' is unknown"),
    ("downscaler", "nearest", "downscaler='nearest' is unknown: use one of car, cnn-cr, tad, irn, bicubic, lanczos"),
    ("downscaler", "irn", "downscaler='irn', upscaler='edsr': IRN is one network, name it as both or neither"),
    ("upscaler", "irn", "downscaler='car', upscaler='irn': IRN is one network"),
    ("guidance", -1, "guidance=-1.0 must be a finite number >= 0"),
    ("guidance_loss", "l3", "guidance_loss='l3' is unknown: use one of l1, l2"),
    ("distribution", float("nan"), "distribution=nan must be"),
    ("offset_reading", "x", "offset_reading='x' is unknown: use one of weighted, printed, regulated"),
    ("tv_reading", "sum", "tv_reading='sum' is unknown: use one of batch, mean"),
    ("weighting", "relu", "weighting='relu' is unknown: use one of clamp, softmax, signed"),
    ("taps", "odd", "taps='odd' is unknown: use one of symmetric, paper"),
    ("border", "zero", "border='zero' is unknown: use one of replicate, release"),
    ("resampler_from", "car-edsr-x2", "resampler_from='car-edsr-x2': a run cannot start from itself"),
    ("resampler_start", "car-edsr-x2", "resampler_start='car-edsr-x2': a run cannot start from itself"),
    ("ema", 1, "ema=1.0 is no decay of an average: give 0"),
    ("ema", -0.1, "ema=-0.1 is no decay"),
    ("ema", float("nan"), "ema=nan is no decay"),
    ("resampler_after", -0.1, "resampler_after=-0.1 is no share of the steps: give 0 to 1"),
    ("penalties_after", 1.5, "penalties_after=1.5 is no share of the steps: give 0 to 1"),
    ("recolour", -1, "recolour=-1.0 is no share of the patches"),
    ("prior_sigma", 0, "prior_sigma=0 must be above 0, or empty"),
    ("prior_sigma", float("inf"), "prior_sigma=inf must be above 0, or empty"),
    ("head_scale", -1, "head_scale=-1 must be a finite number >= 0, or empty"),
    ("head_scale", float("nan"), "head_scale=nan must be"),
    ("resampler_width", 30, "resampler_width=30 is not a positive multiple of 4"),
    ("resampler_width", 0, "resampler_width=0 is not a positive multiple of 4"),
    ("resampler_blocks", -1, "resampler_blocks=-1 must be a whole number >= 0"),
    ("patch", {2: 33}, "multiple of scale=2"),
    ("patch", {4: 64}, "multiple of scale=2"),
    ("patch", {2: 0}, "multiple of scale=2"),
    ("patch", {2: "32"}, "multiple of scale=2"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(home, name, value, told):
    assert_refused(told, "car-edsr-x2", "smoke", {name: value})


@pytest.mark.parametrize(("name", "overrides", "told"), [
    ("bicubic-edsr-x2", {"weighting": "signed"}, "weighting='signed' is for CAR, not for bicubic-edsr-x2: leave"),
    ("bicubic-edsr-x2", {"alpha": 0.5}, "alpha=0.5 is for a learned downscaler that is trained, not for"),
    ("cnn-cr-cnn-sr-x2", {"gamma_tv": 0.0}, "gamma_tv=0.0 is for a CAR that is trained with offsets, not for"),
    ("cnn-cr-cnn-sr-x2", {"distribution": 2.0}, "distribution=2.0 is for IRN, not"),
    ("car-edsr-x2", {"guidance": 2.0}, "guidance=2.0 is for CNN-CR, TAD and IRN, not for car-edsr-x2"),
    ("car-rdn-x4-frozen", {"resampler_lr": 1e-3}, "resampler_lr=0.001 is for a CAR that is trained, not for"),
    ("car-edsr-x2-no-offset", {"lambda_offset": 1e-3}, "lambda_offset=0.001 is for a CAR that is trained with offsets"),
    ("car-rdn-x4-frozen", {"alpha": 0.5}, "alpha=0.5 is for a learned downscaler that is trained, not for"),
    ("car-edsr-x2", {"weighting": "softmax", "bound": 0.1}, "bound=0.1 is for a CAR with weighting=signed or guided"),
    ("car-edsr-x2", {"weighting": "signed", "guided_eps": 0.1}, "guided_eps=0.1 is for a CAR with weighting=guided"),
    ("car-rdn-x4", {"resampler_start": "car-edsr-x4", "head_scale": 1.0}, "head_scale=1.0 is for a CAR whose kernels"),
    ("car-edsr-x2", {"plateau_patience": 3}, "plateau_patience=3 is for schedule=plateau, not for car-edsr-x2"),
    ("car-bicubic-x2", {"lr": 0.1, "resampler_lr": 0.2}, "lr=0.1 is for an upscaler, or a resampler without"),
    ("car-edsr-x2-static", {"resampler_width": 16}, "resampler_width=16 is for a CAR whose kernels follow the image"),
])  # fmt: skip
def test_a_number_that_the_run_has_no_use_for_is_refused(home, name, overrides, told):
    assert_refused(told, name, "smoke", overrides)


def test_what_every_run_has_a_use_for_is_not(home):
    for_all = {
        "name", "profile", "downscaler", "upscaler", "scale", "size", "loss", "seed", "warm_start", "resampler_start",
        "resampler_from", "steps", "batch", "grey", "recolour", "patch", "schedule", "adam_eps", "clip", "ema",
        "precision", "accumulate", "compile", "deterministic", "train_sets", "validation_set", "validation_images",
        "validation_crop", "validate_every",
    }  # fmt: skip
    checked = {"image_steps"}  # however a run comes by it
    assert for_all | checked | run_checks._USERS.keys() == {field.name for field in dataclasses.fields(runs.Run)}
    assert not for_all & run_checks._USERS.keys()
    assert runs.get("bicubic-edsr-x2", "smoke", {"clip": 1.0, "resampler_lr": None}).clip == 1.0


@pytest.mark.parametrize(("name", "overrides", "told"), [
    ("car-edsr-x2", {"weighting": "clamp", "learned_prior": True}, "learned_prior=True is for weighting=signed or "),
    ("car-edsr-x2", {"weighting": "static"}, "weighting='static' follows no image: set offsets=false, local=0"),
    ("bicubic-edsr-x2", {"image_steps": 9}, "image_steps=9 is for ZSSR on bicubic LR images, not for bicubic-edsr"),
    ("car-edsr-x2", {"upscaler": "zssr", "image_steps": 9}, "image_steps=9 is for ZSSR on bicubic LR images, not"),
    ("car-bicubic-x2", {"resampler_after": 0.5}, "resampler_after=0.5 is for a CAR that is trained with an upscaler"),
])  # fmt: skip
def test_options_that_do_not_go_together_are_refused_before_anything_is_trained(home, name, overrides, told):
    assert_refused(told, name, "mini", overrides)


@pytest.mark.parametrize(("name", "told"), [
    ("bicubic-edsr-x2", "resampler_from='car-edsr-x2' needs downscaler=car: bicubic has none"),
    ("car-bicubic-x2", "freezes all that a run with bicubic upscaling trains"),
])  # fmt: skip
def test_a_frozen_resampler_needs_one_and_an_upscaler_to_train(home, name, told):
    assert_refused(told, name, "smoke", {"resampler_from": "car-edsr-x2"})


def test_a_resampler_is_begun_with_by_who_has_one_and_trains_it(home):
    start = {"resampler_start": "car-edsr-x2"}
    assert runs.get("car-bicubic-x2", "smoke", start).needs == ["car-edsr-x2"]
    assert_refused(
        "resampler_start='car-edsr-x2' needs downscaler=car: bicubic has none", "bicubic-edsr-x2", "smoke", start
    )
    told = "resampler_start='car-edsr-x2' is to be trained on, resampler_from='a' to be frozen: leave one out"
    assert_refused(told, "car-edsr-x4", "smoke", start | {"resampler_from": "a"})


@pytest.mark.parametrize("upscaler", [name for name in models.UPSCALERS if name not in ("bicubic", "irn")])
def test_any_network_follows_any_downscaler_at_the_profiles_size(home, upscaler):
    for downscaler in ("car", "bicubic", "cnn-cr", "tad"):
        run = runs.get("car-edsr-x4", "mini", {"upscaler": upscaler, "downscaler": downscaler})
        assert run.networks()["upscaler"] == {"name": upscaler, "scale": 4, "size": "mini"}
    assert runs.get("car-edsr-x4", "paper", {"upscaler": upscaler}).networks()["upscaler"]["size"] == "paper"


def test_a_size_may_be_one_for_all_or_name_some(params):
    def sized(size, upscaler="rcan"):
        params(lambda content: content["profiles"]["smoke"].update(size=size))
        networks = runs.get("car-edsr-x2", "smoke", {"upscaler": upscaler}).networks()
        return networks["resampler"]["size"], networks["upscaler"]["size"]

    assert sized("base") == ("base", "base")
    assert sized({"resampler": "mini", "edsr": "mini"}) == ("mini", "mini")
    assert sized({"resampler": "mini", "rcan": "base"}) == ("mini", "base")
    for size, told in (
        ({"resampler": "mini", "edsr": "base"}, "does not tell the size of rcan: name it in the profile's size"),
        ({}, "does not tell the size of rcan"),
        ("huge", "size of rcan='huge' is unknown: use one of mini, base, paper"),
        ({"resampler": "mini", "rcan": 3}, "size of rcan=3 is unknown"),
        (3, "size=3 is int, not str or dict"),
    ):
        with pytest.raises(ValueError, match=told) as refusal:
            sized(size)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["name", "profile", "size"])
def test_what_a_profile_decides_cannot_be_overridden(home, name):
    assert_refused(f"parameter '{name}' cannot be overridden", "car-edsr-x2", "smoke", {name: "x"})


def test_whole_numbers_serve_as_floats(home):
    run = runs.get("car-edsr-x2", "smoke", {"alpha": 1, "clip": 2})
    assert isinstance(run.alpha, float) and run.clip == 2.0


def test_a_wrong_number_in_the_file_is_refused_too(params):
    params(lambda content: content["defaults"].update(alhpa=1.0))
    assert_refused("parameter 'alhpa' is unknown: did you mean 'alpha'", "car-edsr-x2", "smoke")
    params(lambda content: content["defaults"].pop("alhpa"))
    params(lambda content: content["profiles"]["smoke"]["train"].update(lr="1e-3"))
    assert_refused("YAML reads 1e-3 as text", "car-edsr-x2", "smoke")


def test_a_file_that_is_not_yaml_is_refused(home):
    (home / "params.yaml").write_text("profiles: [")
    assert_refused("params.yaml is not valid YAML", "car-edsr-x2", "smoke")


def test_overrides_are_yaml_and_numbers():
    pairs = ["lr=1e-4", "seed=3", "offsets=false", "kernel_size=null", "patch={2: 32}", "train_sets=[demo]", "loss=l2"]
    assert runs.parse_overrides(pairs) == {
        "lr": 1e-4, "seed": 3, "offsets": False, "kernel_size": None, "patch": {2: 32}, "train_sets": ["demo"],
        "loss": "l2",
    }  # fmt: skip
    assert runs.parse_overrides(["warm_start=a=b"]) == {"warm_start": "a=b"}
    assert runs.parse_overrides([]) == {}


@pytest.mark.parametrize(("pair", "told"), [("seed", "is not name=value"), ("patch={2", "is not valid YAML")])
def test_overrides_that_cannot_be_read_are_refused(pair, told):
    with pytest.raises(ValueError, match=told) as refusal:
        runs.parse_overrides([pair])
    assert "\n" not in str(refusal.value)


def test_a_declared_run_has_a_name_for_every_seed(home):
    own, other = runs.get("car-edsr-x2", "mini"), runs.get("car-edsr-x2-seed12", "mini")
    assert runs.as_dict(other) == runs.as_dict(own) | {"name": "car-edsr-x2-seed12", "seed": 12}
    assert other.warm_start == own.warm_start  # the start is shared
    assert runs.seeded(["car-edsr-x2"], 3) == ["car-edsr-x2", "car-edsr-x2-seed1", "car-edsr-x2-seed2"]
    assert runs.seeded(["irn-irn-x2", "tad-tau-x2"], 1) == ["irn-irn-x2", "tad-tau-x2"]
    for name in ("car-edsr-x2-seed0", "car-edsr-x2-seed01", "car-edsr-x2-seed"):
        assert_refused("is unknown", name, "mini")
    assert_refused("run 'car-edrs-x2' is unknown: did you mean 'car-edsr-x2'", "car-edrs-x2-seed1", "mini")
    assert_refused("has its seed in its name: leave seed=3 out", "car-edsr-x2-seed1", "mini", {"seed": 3})


def test_a_run_needs_what_it_begins_with_and_what_that_needs(home):
    starts = ["bicubic-rdn-x4-start", "bicubic-edsr-x4-start", "car-edsr-x4-start"]
    assert runs.needed("car-rdn-x4-frozen", "mini") == starts
    assert runs.needed("car-rdn-x4-frozen", "smoke") == ["car-edsr-x4"] and runs.needed("car-edsr-x4", "smoke") == []


def test_a_run_is_plain_values(home):
    import json

    run = runs.get("car-edsr-x2", "smoke")
    assert json.loads(json.dumps(runs.as_dict(run)))["seed"] == run.seed
    assert runs.make(**runs.as_dict(run)) == run


@pytest.mark.parametrize(("edit", "told"), [
    (lambda c: c["runs"].update(bad={"downscaler": "car", "upscaler": "edsr"}), "run 'bad' lacks scale"),
    (lambda c: c["runs"].update(bad=None), "run 'bad' has nothing under it"),
    (lambda c: c["runs"].update(bad=c["runs"]["car-edsr-x2"] | {"smoke": {"warm_start": "bad"}}), "start from itself"),
    (lambda c: c["profiles"]["smoke"].pop("train"), "profile smoke lacks train"),
    (lambda c: c.update(defaults=3), "defaults is 3, not name: value lines"),
    (lambda c: c.update(profile=["demo"]), r"profile=\['demo'\] is not a name"),
    (lambda c: c["defaults"].update(plateau_patience=0), "plateau_patience=0 must be above 0"),
])  # fmt: skip
def test_a_file_that_lacks_something_is_told_in_one_line(home, edit, told):
    path = home / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["runs"]["bad"] = content["runs"]["car-edsr-x2"]
    edit(content)
    path.write_text(yaml.safe_dump(content))
    profile = None if isinstance(content["profile"], list) else "smoke"
    with pytest.raises(ValueError, match=told) as refusal:
        runs.get("bad", profile)
    assert "\n" not in str(refusal.value)


def test_an_upscaler_that_is_none_is_refused(home):
    with pytest.raises(ValueError, match="upscaler='resampler' is unknown"):
        runs.get("bicubic-edsr-x2", "smoke", {"upscaler": "resampler"})


def test_every_car_of_profile_mini_meets_an_upscaler_that_is_trained_or_begins_near_bicubic():
    """The gradients of an upscaler that begins as noise drive offsets to where tanh is flat (REPLICATION.md 1)."""
    for run in (runs.get(name, "mini") for name in runs.names()):
        if run.downscaler == "car":
            assert run.warm_start or run.upscaler in ("bicubic", "cnn-sr"), run.name
            assert not run.warm_start or runs.get(run.warm_start, "mini").upscaler == run.upscaler


@pytest.mark.parametrize(
    ("changed", "last"), [({}, False), ({"bit_price": 1.0}, True), ({"grey": 1.0}, True), ({"grey": 0.9}, False)]
)
def test_what_photographs_do_not_validate_keeps_its_last_weights(params, changed, last):
    """`run_folder.Record` asks (tests/test_jpeg.py)."""
    assert runs.get("car-edsr-x2", "mini", changed).keeps_last is last
