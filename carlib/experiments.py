"""What notebooks, pipeline stages and commands call: weights made ready, runs measured, tables and figures made."""

import ast
import json
import shlex
import shutil
import sys
import time
from pathlib import Path

from carlib import overview, results, run_places, runs

_REDRAWN = 20.0  # seconds between pictures of a run that trains; the last validation is always drawn
SMALL = ("demo", "set5", "set14", "bsd100")  # sets of small images, for what restores each many times
_DRAWN = 3  # validations: fewer make no curve, and drawing takes longer than the steps of so short a run


def prepare(
    name,
    profile=None,
    params=(),
    *,
    folder=None,
    restart=False,
    renew=False,
    history=False,
    device="auto",
    progress=True,
    allow_missing=False,
) -> Path:
    """The weights file of a run, made ready: trained, continued, or under profile "demo" the shipped one.

    A run that takes weights of others (runs.STARTS) has those trained to their end first.

    Args:
        name, profile: of params.yaml.  params: "name=value" strings.  folder: default `run_places.own_folder`.
        restart, renew, history, device, progress: as `train.train`.
        allow_missing: under profile "demo" a run for which nothing is shipped is no error (what a pipeline wants).
    Returns:
        path of weights.safetensors; log.csv and, of three validations or more, curve.png lie beside it where it was
        trained, else recipe.json (the numbers of params.yaml). With allow_missing, and nothing shipped: of missing.txt,
        which says so. Weights of this recipe that another machine trained, alone in the folder or with their log, are
        taken as they are.
    Raises:
        ValueError: a name or number is wrong, a set is missing, nothing is shipped for the run, or the profile trains
            nothing and is asked to.
    """
    run = runs.get(name, profile, runs.parse_overrides(params))
    default = folder is None
    folder = run_places.own_folder(run) if default else Path(folder)
    if runs.profile(run.profile)["train"] is None:
        if params or restart:
            raise ValueError(f"profile {run.profile} trains nothing, it takes the shipped weights: use --profile mini")
        return _take_shipped(run, folder, allow_missing)
    from carlib import run_networks, train

    if not restart and (path := run_places.brought(run, folder, renew, history)):
        return path
    run_networks.check_starts(run)
    begun = (folder / "last.ckpt").is_file() and all(map(Path.is_file, run_networks.start_files(run).values()))
    if restart or not train.ended(run, folder):
        train.check(run, folder)
    if default and folder.name != run.name:
        run_places.tell_of_own(run, folder)
    if renew or restart or not begun:
        for other in run.needs:
            prepare(other, run.profile, renew=renew, device=device, progress=progress)

    options = {"restart": restart, "renew": renew, "history": history, "device": device, "progress": progress}
    return train.train(run, folder, on_validation=_curve(run, folder), **options)


def _curve(run, folder):
    """What draws a run's log as curve.png, after validations: the last one, and now and then one before."""
    drawn = time.monotonic()

    def draw(log):
        nonlocal drawn
        if len(log) < _DRAWN:
            (folder / "curve.png").unlink(missing_ok=True)  # of an earlier training
            return
        if log[-1]["step"] < run.steps and time.monotonic() - drawn < _REDRAWN:
            return
        import pandas as pd

        from carlib import figures

        drawn = time.monotonic()
        with results.atomic(folder / "curve.png") as temporary:
            figures.training_curve(pd.DataFrame(log)).savefig(temporary, dpi=110, format="png")

    return draw


def _take_shipped(run, folder, allow_missing):
    try:
        source, told = shipped(run), ""
    except ValueError as error:
        if not allow_missing:
            raise
        source, told = None, str(error)
    _declare(run, folder)
    if source is None:
        print(f"{told}; where a table shows it, its cells are empty", file=sys.stderr)
        (folder / "weights.safetensors").unlink(missing_ok=True)
        return results.write_text(folder / "missing.txt", f"{told}\n")
    (folder / "missing.txt").unlink(missing_ok=True)
    with results.atomic(folder / "weights.safetensors") as temporary:
        shutil.copyfile(source, temporary)
    return folder / "weights.safetensors"


def _declare(run, folder):
    """Write what params.yaml says of the run, for a pipeline: where that changes, shipped weights stay as they are."""
    names = (*runs.needed(run.name, run.profile), run.name)
    trained = {name: runs.as_dict(runs.trained(name, run.profile)) for name in names}
    declared = {"shown": runs.as_dict(run), "trained": trained}
    results.write_text(folder / "recipe.json", json.dumps(declared, indent=1) + "\n")


def shipped(run) -> Path:
    """The weights of a run that come with the project.

    Raises:
        ValueError: there are none.
    """
    if not run.trains:
        raise ValueError(f"run {run.name} has no weights: nothing of it is trained beforehand")
    path = overview.shipped_path(run)
    if not path.is_file():
        raise ValueError(f"no weights are shipped for {run.name}: train it with --profile mini or paper")
    return path


def ready(name, profile, *, any_recipe=False) -> Path | None:
    """A run's weights: what training made or, where there is nothing, the shipped ones of its recipe.

    None for bicubic, and for ZSSR that trains on each image.

    Where the profile trains nothing, the shipped ones of any recipe.

    Args:
        any_recipe: take half-trained weights, too, and those of another recipe than params.yaml has now; a line on
            stderr says so.
    Raises:
        ValueError: they are not there (yet), or such ones.
    """
    run = runs.get(name, profile)
    if not run.trains:
        return None
    if runs.profile(run.profile)["train"] is None:
        return shipped(run)
    path = results.folder(run.profile, "runs", name, "weights.safetensors")
    if path.is_file():
        told = overview.why_absent(name, run.profile).removeprefix("missing: ")
        if told and not any_recipe:
            again = f"`carlib train {name} --profile {run.profile} --renew` trains it to its end"
            raise ValueError(f"run {name} cannot be measured, {told}: {again}")
        if told:
            print(f"{path}: {told}", file=sys.stderr)
        return path
    if found := overview.substitute(run):
        return found
    raise ValueError(f"no weights at {path}: call `carlib train {name} --profile {run.profile}` first")


def measure(
    name, profile=None, sets=None, *, protocols=("standard",), weights=None, any_recipe=False, device="auto",
    progress=True,
) -> list[dict]:  # fmt: skip
    """Rows (results.ROW_COLUMNS) of a run on image sets; default the profile's sets that are present.

    Args:
        any_recipe: as of `ready`.
    Raises:
        ValueError: a name is unknown, the weights are missing or another run's, or a set is not there.
    """
    run = runs.get(name, profile)
    if weights is not None and not run.trains:
        raise ValueError(f"run {name} has no weights: leave --weights out")
    keep = weights is None
    weights = ready(name, run.profile, any_recipe=any_recipe) if weights is None else weights
    made = chain(name, run.profile, weights=weights, device=device)
    return measure_chain(made, sets, protocols=protocols, keep=keep, progress=progress)


def measure_chain(made, sets=None, *, protocols=("standard",), keep=False, progress=True) -> list[dict]:
    """Rows (results.ROW_COLUMNS) of an `evaluate.Chain`.

    sets: default those of its profile that are present; of a run that trains on each image, of its `image_sets`.
    keep: as `evaluate.evaluate`.
    """
    from carlib import data, evaluate

    chosen = runs.profile(made.run.profile)["evaluate"]
    if sets is None:
        sets = some_sets((made.run.image_steps and chosen.get("image_sets")) or chosen["sets"])
    sets = dict.fromkeys(map(data.canonical, sets))
    part = {"limit": chosen["images"], "crop": chosen["crop"]}
    options = {"protocols": protocols, "keep": keep, "progress": progress}
    return [row for set_name in sets for row in evaluate.evaluate(made, set_name, **part, **options)]


def chain(name, profile=None, *, weights=None, device="cpu"):
    """A run as an `evaluate.Chain`; weights: a file of it, default those that `ready` names.

    Raises:
        ValueError: a name is unknown, or the weights are missing or another run's.
    """
    from carlib import evaluate

    run = runs.get(name, profile)
    return evaluate.Chain(run, ready(name, run.profile) if weights is None else weights, device=device)


def chains(names, profile, *, device="auto") -> tuple[dict, dict]:
    """Several runs, and what decides their rows beside images and settings.

    Returns:
        run -> `evaluate.Chain`; for `kept.rows` their weights, the kind of device and the code.

    Raises:
        ValueError: as `chain`.
    """
    from carlib import provenance, sources

    made = {name: chain(name, profile, device=device) for name in names}
    loaded, kinds = provenance.loaded_weights(), {str(each.device).split(":")[0] for each in made.values()}
    weights = {name: loaded[name] for name, each in made.items() if each.run.trains}
    return made, {"weights": weights, "device": sorted(kinds), "code": sources.digest_of_all()}


def images(sets, chosen, *, job, progress=True):
    """Every (set, name, image) of some sets, under a progress bar.

    Args:
        chosen: settings of params.yaml: "images" (only the first ones of a set, or None) and "crop" (of each its middle
                crop x crop pixels, or None).
        job:    what the bar says, before "on <set>".
    """
    from tqdm import tqdm

    from carlib import data

    limit = chosen["images"]
    for set_name in sets:
        bar = {"total": len(data.find(set_name)[:limit]), "desc": f"{job} on {set_name}", "disable": not progress}
        for name, image in tqdm(data.load(set_name, limit=limit), unit="image", **bar):
            yield set_name, name, data.centre_crop(image, chosen["crop"])


def small_images(profile, most, *, job, progress=True):
    """`images` of those of the profile's sets whose images are small, at most so many of each.

    Raises:
        ValueError: none of them is here.
    """
    chosen = runs.profile(profile)["evaluate"]
    sets = some_sets(name for name in chosen["sets"] if name in SMALL)
    return images(sets, chosen | {"images": min(chosen["images"] or most, most)}, job=job, progress=progress)


def some_sets(names) -> list[str]:
    """Those of `names` that are on this machine.

    Raises:
        ValueError: none is.
    """
    names = list(names)
    if not (here := present_sets(names)):
        raise ValueError(f"none of the image sets {', '.join(names)} is here: see `carlib data list`")
    return here


def study_settings(name, profile, own=()) -> dict:
    """What params.yaml says of a study, for all profiles and for this one, with those of its sets that are here.

    Args:
        name: of the section: "rate_distortion", "jpeg" or "study".
        own:  {setting: value} to take instead, but for values None; sets named here must be here.
    Raises:
        ValueError: one of the two sections is missing, or none of the profile's sets is here.
    """
    chosen, common = runs.profile(profile), runs.read_params().get(name)
    if not common or not chosen.get(name):
        raise ValueError(f"params.yaml has no {name} section, of its own and under profile {chosen['name']}")
    given = {setting: value for setting, value in dict(own).items() if value is not None}
    settings = {**common, **chosen[name], **given}
    return settings if given.get("sets") else {**settings, "sets": some_sets(settings["sets"])}


def present_sets(names) -> list[str]:
    """Those of `names` that are on this machine, in order."""
    from carlib import data

    here = data.available()
    return [name for name in names if name in here]


def summary(rows):
    """Means over images, one line per run, set, protocol and metric, with the number of images."""
    import pandas as pd

    keys = ["run", "profile", "set", "protocol", "metric"]
    return pd.DataFrame(rows).groupby(keys, sort=False)["value"].agg(mean="mean", images="size").reset_index()


def build_report(profile=None) -> Path:
    """results/<profile>/report/index.html from the tables and figures that are there."""
    from carlib.report import costs, report

    chosen = runs.profile(profile)
    headline = f"{chosen['about'][0].upper()}{chosen['about'][1:]}."
    if chosen["name"] != "paper":
        headline += (
            " The paper's networks have more than 100 times the parameters and longer training: compare gains, "
            "not values."
        )
    name = chosen["name"]
    return report.build(results.folder(name), name, headline=headline, more=lambda: costs.sections(name))


def run_notebook(name, params=(), *, out=None, progress=True, patience=60) -> Path:
    """Execute notebooks/<name>.ipynb with papermill.

    Args:
        params: "name=value" strings for the parameters cell.  out: default results/<profile>/notebooks/<name>.ipynb.
        patience: seconds within which its kernel must answer.
    Returns:
        the executed copy.
    Raises:
        ValueError: no such notebook or parameter, a cell failed (its error, in one line), or its kernel does not answer
            or died.
    """
    import papermill

    name = name.removesuffix(".ipynb").removeprefix("notebooks/")
    source = results.root() / "notebooks" / f"{name}.ipynb"
    if not source.is_file():
        there = ", ".join(sorted(path.stem for path in source.parent.glob("*.ipynb")))
        raise ValueError(f"no notebook {name!r}: there are {there}")
    values, known = runs.parse_overrides(params), papermill.inspect_notebook(str(source))
    if unknown := [key for key in values if key not in known]:
        raise ValueError(f"unknown parameter {', '.join(unknown)}: {name} takes {', '.join(known)}")
    values = _with_places(values)  # the notebook's working folder is the project's
    profile = values.get("profile", ast.literal_eval(known["profile"]["default"]))
    out = results.folder(runs.profile(profile)["name"], "notebooks", f"{name}.ipynb") if out is None else Path(out)
    if out.suffix != ".ipynb":
        raise ValueError(f"{out} would be a notebook: name an .ipynb file")
    out.parent.mkdir(parents=True, exist_ok=True)
    options = {"cwd": str(results.root()), "progress_bar": progress, "log_output": False, "start_timeout": patience}
    try:
        papermill.execute_notebook(str(source), str(out), parameters=values, **options)
    except papermill.PapermillExecutionError as error:
        told = " ".join(f"{error.ename}: {error.evalue}".split())
        raise ValueError(f"{name}, cell {error.exec_count}: {told}") from None
    except RuntimeError as error:  # of jupyter_client and nbclient
        told = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{name}: {told}: the machine is too busy, or short of memory; run it again") from None
    return out


def _with_places(parameters) -> dict:
    """Parameters of a notebook, in which images of one's own are told by where they are."""
    from carlib import data

    def placed(value):
        if isinstance(value, dict):
            return {placed(key): box for key, box in value.items()}
        return value if (file := data.own_file(value)) is None else str(file)

    return {key: placed(value) for key, value in parameters.items()}


def papermill_command(notebook, profile, **parameters) -> str:
    """What to type to make a notebook's results again.

    A parameter that is None or True has its default, and where the profile trains nothing `train` says nothing.
    """
    import yaml

    if runs.profile(profile)["train"] is None:
        parameters.pop("train", None)
    parameters = {key: value for key, value in parameters.items() if value is not None and value is not True}
    parameters = _with_places(parameters)
    name = f"{notebook}.ipynb"
    command = f"papermill notebooks/{name} results/{profile}/notebooks/{name} --cwd . -p profile {profile}"
    if not parameters:
        return command
    text = yaml.safe_dump(parameters, default_flow_style=True, sort_keys=False, width=10**6).strip()
    simple = not set(text) & set('"$`\\!')  # to double quotes, which every system's shell knows
    return f'{command} -y "{text}"' if simple else f"{command} -y {shlex.quote(text)}"
