"""The files around the code agree with each other."""

import functools
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from carlib import cells, runs
from carlib.studies import attribution, content, jpeg_lr, lossless_gain, scales

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Folders of one machine; "/tmp" and the like inside a longer path or a URL are not meant.
ABSOLUTE = re.compile(r"(?<![\w.~})/-])/(home|root|tmp|Users|private|mnt|work|var/folders)/\w")


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def direct():
    """Every requirement of pyproject.toml, those of the extras too: name -> extra ("" for the project's own)."""
    found = {}
    for extra, requirements in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items():
        for requirement in requirements:
            found[normal(re.match(r"[\w.-]+", requirement)[0])] = extra
    return found


def pins():
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {normal(line.partition("==")[0]): line.partition("==")[2] for line in lines if line}


@pytest.mark.parametrize("name", sorted(direct()))
def test_constraints_pin_every_direct_dependency(name):
    assert re.fullmatch(r"\d+(\.\d+)+", pins().get(name, "")), f"constraints.txt does not pin {name}"


def test_constraints_pin_nothing_else_without_a_reason():
    before = ""
    for line in filter(None, (ROOT / "constraints.txt").read_text().splitlines()):
        name = normal(line.partition("==")[0])
        assert "#" in line or name in direct() or before.startswith("#"), f"{name}: why is it pinned?"
        before = line


@pytest.mark.parametrize("name", sorted(direct()))
def test_pins_satisfy_the_requirement(name):
    requirements = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
    (lowest,) = (re.search(r">=([\d.]+)$", r)[1] for r in requirements if normal(re.match(r"[\w.-]+", r)[0]) == name)
    numbers = [[int(part) for part in text.split(".")] for text in (pins()[name], lowest)]
    assert numbers[0] >= numbers[1]


def test_conda_installs_the_project_with_its_extras():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert "-c constraints.txt" in pip
    (own,) = (line for line in pip if line.startswith("-e"))
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", own)[1].split(",")
    assert set(extras) == set(PROJECT["optional-dependencies"]) - {"cuda"}  # large, and of use with a GPU only
    assert len(pip) == 2  # every other dependency is listed once, in pyproject.toml
    (python,) = (e for e in environment["dependencies"] if isinstance(e, str) and e.startswith("python="))
    lowest, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert int(lowest) <= int(python.rpartition(".")[2]) < int(beyond)


def test_make_installs_extras_that_exist():
    extras = re.search(r"^EXTRAS \?= (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])


@functools.cache
def stages():
    """Every stage of dvc.yaml under the default profile: name -> cmd, deps, outs."""
    profile = yaml.safe_load((ROOT / "params.yaml").read_text())["profile"]
    found = {}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        text = yaml.safe_dump(stage).replace("${profile}", profile)
        assert "${" not in text
        done = yaml.safe_load(text)
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in done.get("outs", [])]
        found[name] = (done["cmd"], done.get("deps", []), outs)
    return found


def test_a_stage_trains_every_run_that_another_shows():
    shown = {Path(dep).name for _, deps, _ in stages().values() for dep in deps if Path(dep).parent.name == "runs"}
    command, _, outs = stages()["weights"]
    assert {Path(out).name for out in outs} == shown == set(re.findall(r"\S+-x\d\S*", command))


def test_a_stage_depends_on_the_folders_of_the_runs_it_shows():
    """Their numbers are not listed, but of runs without a folder: all of DVC's lock costs time at every stage."""
    pairs = {f"{downscaler}-edsr-x{scale}" for downscaler in ("bicubic", "car") for scale in (2, 4)}
    attributed = {run.format(scale) for run in attribution.SYSTEMS.values() for scale in (2, 4)}
    downscalers = ("bicubic", "perceptual-as-published", "dpid-0.5", "l0", "car")
    tables = {f"table{number}": set(cells.names(number, "demo")) for number in (1, 2, 3, 4, 5)}
    shown = {
        **tables, "table1": tables["table1"] | set(scales.names()),
        "table5": set(lossless_gain.names((*lossless_gain.SCALES, *lossless_gain.OTHERS))),
        "ablation": tables["table3"], "protocol": pairs, "rate_distortion": pairs,
        "jpeg": {*jpeg_lr.names(), *(name for scale in jpeg_lr.OTHERS for name in jpeg_lr.of_others(scale))},
        "attribution": attributed | pairs | set(content.names()), "fig3": {f"{name}-edsr-x4" for name in downscalers},
        "user_study": {f"{name}-edsr-x4" for name in downscalers},
        "fig4": {"car-edsr-x4", "car-edsr-x4-free"}, "fig6": {"car-edsr-x4"},
    }  # fmt: skip
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        listed = {param.removeprefix("runs.") for param in stage.get("params", []) if param.startswith("runs")}
        folders = {Path(dep).name for dep in stage.get("deps", []) if "/runs/" in dep}
        assert folders == {run for run in shown.get(name, ()) if runs.get(run).trains and "-seed" not in run}, name
        sensitivity = {"car-edsr-x2", "car-edsr-x4"} if name == "ablation" else set()
        assert {run for run in listed - sensitivity if runs.get(run).trains} == set(), name


def test_the_stage_that_trains_looks_at_every_parameter():
    assert "params.yaml" in stages()["weights"][1]


def test_a_stage_that_judges_by_the_paper_depends_on_the_tolerance():
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    judging = {name for name, stage in declared.items() if "data/paper" in stage.get("deps", [])}
    assert len(judging) >= 5
    assert {name for name in judging if "tolerance" not in declared[name]["params"]} == set()


def test_dvc_changes_a_parameter_and_leaves_every_other_line_as_it_is(tmp_path):
    """`dvc exp run -S profile=smoke` writes params.yaml anew: long lines, `null` and lists in brackets would change."""
    serialize = pytest.importorskip("dvc.utils.serialize", reason="DVC is not installed")
    before = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(before)
    with serialize.modify_yaml(str(tmp_path / "params.yaml")) as params:
        params["profile"] = "smoke"
    after = (tmp_path / "params.yaml").read_text()
    changed = set(after.splitlines()) ^ set(before.splitlines())
    assert {line.partition(":")[0] for line in changed} == {"profile"}
    assert not re.search(r"^[^#\n]*: \[", before, re.M)  # `exp run` alone replaces lists


def test_every_notebook_is_stripped_for_its_stage():
    stripped = {Path(out).stem for out in stages()["strip"][2]}
    assert stripped == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    commands = " ".join(cmd for cmd, _, _ in stages().values())
    assert all(f"papermill build/nb/{name}.ipynb" in commands for name in stripped)


def test_what_a_stage_depends_on_is_made_by_a_stage_or_in_the_repository():
    made = {out for _, _, outs in stages().values() for out in outs}
    for name, (_, deps, outs) in stages().items():
        assert len(outs) == len(set(outs)) and not set(outs) & set(deps)
        for dep in deps:
            measured = dep == "results/networks.csv"  # by `carlib models --measure`, and committed
            if dep.startswith(("results/", "build/")) and not measured:
                assert any(Path(out).is_relative_to(dep) for out in made), f"{name}: no stage makes {dep}"
            else:
                assert (ROOT / dep).exists(), f"{name}: there is no {dep}"


def test_the_report_depends_on_every_file_that_it_embeds(tmp_path, monkeypatch):
    from carlib.report import report

    here = ROOT / "results" / "demo"
    if not (here / "tables").is_dir():
        pytest.skip("there are no results of profile demo")
    for kind in ("tables", "figures"):
        shutil.copytree(here / kind, tmp_path / kind)
    read, read_bytes, read_text = set(), Path.read_bytes, Path.read_text
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.add(path) or read_bytes(path))
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: read.add(path) or read_text(path, encoding))
    report.build(tmp_path, "demo", headline="A headline.")
    monkeypatch.undo()
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["report"]["deps"]
    assert {path.suffix for path in read} == {".csv", ".png", ".json"}
    assert {f"results/${{profile}}/{path.relative_to(tmp_path).parts[0]}" for path in read} <= set(deps)


def test_a_stage_whose_notebook_measures_seeds_depends_on_the_shipped_weights():
    """No stage makes the further seeds: profile demo takes them from data/weights."""
    ways = re.compile(r"(make_ready|seeds_ready|trained_and_measured)\((\w+\.)?(names|seeded)")
    measuring = {path.stem for path in (ROOT / "carlib" / "studies").glob("*.py") if ways.search(path.read_text())}
    found = set()
    for name, (command, deps, _) in stages().items():
        for notebook in re.findall(r"papermill build/nb/(\S+\.ipynb)", command):
            imported = re.findall(r"from carlib.studies import ([\w, ]+)", (ROOT / "notebooks" / notebook).read_text())
            if measuring & set(", ".join(imported).split(", ")):
                found.add(name)
                assert "data/weights" in deps, name
    assert {"table1", "table5", "jpeg", "ablation"} <= found


def test_the_lock_names_no_stage_that_is_gone():
    """DVC reads all of it at every stage: old ones once made it three times as long, seconds each time."""
    locked = yaml.load((ROOT / "dvc.lock").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
    assert set(locked) <= set(stages())


def links(page):
    """Relative links and images of a Markdown page, without anchors; code is left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target.partition("#")[0] for target in targets if not re.match(r"[a-z][a-z+.-]*:|#", target)]


@pytest.mark.parametrize(
    "name", ["README.md", "REPLICATION.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
)
def test_links_lead_somewhere(name):
    page = ROOT / name
    missing = [target for target in links(page) if not (page.parent / target).exists()]
    assert missing == []


def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"git cannot list the files: {done.stderr.strip()}")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_folder_of_one_machine():
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            if ABSOLUTE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line[:100]}")
    assert found == []


def test_the_search_for_such_folders_finds_them():
    for folder in ("home", "tmp", "root", "work"):  # a line below is one only once put together
        for line in (f"/{folder}/ann/x", f'open("/{folder}/a.png")', f"path=/{folder}/b", f"see /{folder}/main"):
            assert ABSOLUTE.search(line), line
        for line in (
            f"https://example.org/{folder}/x",
            f"a/{folder}/b",
            f"~/{folder}/x",
            f"$HOME/{folder}/x",
            f"${{X}}/{folder}/x",
            "results/<profile>/x",
        ):
            assert not ABSOLUTE.search(line), line


def test_a_stage_declares_every_form_of_its_tables_and_figures():
    picture, slider = {".png", ".pdf", ".json"}, {"-before.png", "-after.png", ".json"}
    forms = {"tables": [{".csv", ".md", ".tex", ".json"}], "figures": [picture, slider]}
    for name, (_, _, outs) in stages().items():
        found = {}
        for out in outs:
            base, form = re.match(r"(.*?)((?:-before|-after)?\.\w+)?$", Path(out).name).groups()
            found.setdefault((Path(out).parent.name, base), set()).add(form)
        for (kind, base), those in found.items():
            assert kind not in forms or those in forms[kind], f"{name}: {kind}/{base} has {sorted(those)}"
