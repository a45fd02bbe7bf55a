"""DVC itself on a copy of the project: what a changed number makes stale, and what a saved notebook does not."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

pytest.importorskip("dvc", reason="DVC is not installed")


@pytest.fixture
def copy(tmp_path):
    """A folder with the tracked files as they are now, without results, which no stage needs."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"git cannot list the files: {done.stderr.strip()}")
    for name in filter(None, done.stdout.split("\0")):
        if not name.startswith(("results/", "tests/")) and (ROOT / name).is_file():
            (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / "project" / name)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "project", check=True)
    return tmp_path / "project"


def dvc(folder, *arguments):
    """What `dvc ...` prints, with nothing of it written outside the test's folder."""
    own = {f"DVC_{name}": str(folder.parent / name) for name in ("SITE_CACHE_DIR", "GLOBAL_CONFIG_DIR")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # of nbstripout
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = os.environ | own | {"DVC_NO_ANALYTICS": "1", "PATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed(status, kind):
    """Stage -> its changed "deps" or "outs"."""
    return {
        name: part[f"changed {kind}"]
        for name, parts in status.items()
        for part in parts
        if isinstance(part, dict) and f"changed {kind}" in part
    }


def test_a_changed_loss_weight_concerns_the_stages_that_show_its_run_and_no_other(copy):
    def folders():
        """Run -> the sum of its folder, once the stage that makes them has run."""
        dvc(copy, "repro", "--single-item", "sets", "weights")
        locked = yaml.safe_load((copy / "dvc.lock").read_text())["stages"]["weights"]["outs"]
        return {Path(out["path"]).name: out["md5"] for out in locked}

    params = copy / "params.yaml"
    begin = "  car-edsr-x4-free:\n    downscaler: car\n"
    assert params.read_text().count(begin) == 1
    before = folders()
    params.write_text(params.read_text().replace(begin, f"{begin}    gamma_tv: 0.123\n"))
    found = changed(json.loads(dvc(copy, "status", "--json")), "deps")
    assert found["weights"] == {"params.yaml": "modified"}
    assert {name for name, deps in found.items() if "params.yaml" in deps} == {"weights", "report"}
    gone = {dep for deps in found.values() for dep, what in deps.items() if what == "deleted"}
    assert {dep for dep in gone if not dep.startswith(("results/", "build/"))} == set()  # the rest is in the repository
    after = folders()
    assert {name for name in before if before[name] != after[name]} == {"car-edsr-x4-free"}


def test_a_notebook_saved_with_its_outputs_makes_no_other_stage_stale(copy):
    stripped = shutil.copytree(copy / "notebooks", copy.parent / "stripped")
    subprocess.run([sys.executable, "-m", "nbstripout", *map(str, stripped.iterdir())], check=True)
    before = {path.name: path.read_bytes() for path in stripped.iterdir()}
    for name in before:
        notebook = json.loads((copy / "notebooks" / name).read_text())
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        code[-1] |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["seen\n"]}]}
        (copy / "notebooks" / name).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    assert "Running stage 'strip'" in dvc(copy, "repro", "--single-item", "strip")
    assert {path.name: path.read_bytes() for path in (copy / "build" / "nb").iterdir()} == before
    locked = yaml.safe_load((copy / "dvc.lock").read_text())["stages"]["strip"]["outs"]
    assert {Path(out["path"]).name: out["md5"] for out in locked} == {
        name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in before.items()
    }
