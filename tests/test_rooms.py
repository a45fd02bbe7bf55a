"""The rooms of carlib: arrows point down only."""

import ast
import re
from pathlib import Path

import pytest

import carlib

PACKAGE = Path(carlib.__file__).parent
# Highest first; those of a line may know nothing of one another.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"commands", "readme"},
    {"studies"},
    {"bench", "check", "dispatch", "user_study"},
    {"experiments"},
    {"report", "run_places", "train"},
    {"evaluate", "overview"},
    {"choice", "kept", "training"},
    {"cells", "jobs", "network_costs", "notebook", "run_networks", "sources", "tables"},
    {"artefacts", "origin"},
    {"runs"},
    {"run_checks"},
    {"rescale"},
    {"codecs", "method_networks", "zssr"},
    {"pixels", "weights"},
    {"basicsr", "data", "devices", "provenance"},
    {"downscalers", "losses", "models", "results"},
    {"cores", "figures", "formats", "intervals", "memory", "metrics", "ops", "stopping", "tiles", "timing"},
)


def rooms():
    """Room -> its files."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        found.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(path)
    return found


def known_by(path):
    """Rooms that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module.partition(".")[2]
            names = [f"{node.module}.{alias.name}" for alias in node.names] if not inside else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("carlib.")}
    return found


def test_every_room_has_one_place():
    placed = [room for layer in LAYERS for room in layer]
    assert sorted(placed) == sorted({*rooms()} - {"__init__"})


@pytest.mark.parametrize("room", sorted({*rooms()} - {"__init__"}))
def test_a_room_knows_only_those_below(room):
    (height,) = (i for i, layer in enumerate(LAYERS) if room in layer)
    below = {room}.union(*LAYERS[height + 1 :])
    assert {name for path in rooms()[room] for name in known_by(path)} <= below


def test_what_is_imported_is_there_in_strings_too():
    """Code for other processes stands in strings; an editable install of another clone would hide a stale name."""
    root = PACKAGE.parent
    pages = [*(root / "tests").rglob("*.py"), *PACKAGE.rglob("*.py"), *(root / "notebooks").glob("*.ipynb")]
    pages += [root / "setup.py", root / "README.md", *(root / "docs").glob("*.md")]
    found = set()
    for page in pages:
        for room, names in re.findall(
            r"from carlib(\.\w+)? import ([a-z_]\w*(?:, \w+)*)", page.read_text(encoding="utf-8")
        ):
            folder = PACKAGE / room.removeprefix(".")
            if folder.is_dir():
                found |= {f"{folder.relative_to(root).as_posix()}/{name}" for name in names.split(", ")}
    doors = {f"carlib/{name}" for name in carlib.__all__}
    for room in ("data", "figures"):  # whose doors are functions
        doors |= {f"carlib/{room}/{name}" for name in getattr(carlib, room).__all__}
    doors |= {f"carlib/models/{name}" for name in carlib.models.__all__}
    missing = {one for one in found - doors if not (root / one).is_dir() and not (root / f"{one}.py").is_file()}
    assert len(found) > 100 and missing <= {"carlib/ops/nothing"}  # of test_checkpoint.py
