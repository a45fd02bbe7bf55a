"""Notebooks: parameters are checked, and the files keep to the rules of the project."""

import ast
import io
import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from carlib import artefacts, experiments, notebook, results
from carlib.studies import figure3, figure6, illustrate

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def check(values, injected="", **expected):
    """As in a notebook: the namespace holds the values and the cells that ran, papermill's among them."""
    cells = ["", "profile = 'demo'", f"# Parameters\n{injected}\n", "notebook.parameters(...)"]
    return notebook.parameters({"unrelated": 3, "In": cells, **values}, **expected)


def test_right_parameters_come_back_to_be_shown(home):
    values = {"profile": "smoke", "scale": 4, "lr": 1e-4, "crop": None}
    expected = {"profile": str, "scale": int, "lr": float, "crop": int | None}
    assert check(values, 'profile = "smoke"\nscale = 4', **expected) == values
    assert check({"lr": 1}, lr=float) == {"lr": 1}
    assert notebook.parameters({"scale": 4}, scale=int) == {"scale": 4}  # run without papermill or IPython


@pytest.mark.parametrize(("values", "injected", "expected", "told"), [
    ({"scale": 4, "sclae": 2}, "sclae = 2", {"scale": int}, "unknown parameter sclae: this notebook takes scale"),
    ({"a": 1}, "b = 1\na = 1\nc = [1,\n 2]", {"a": int}, "unknown parameter b, c: this notebook takes a"),
    ({}, "", {"scale": int}, "parameter scale is not set: run the parameters cell first"),
    ({"lr": "1e-4"}, 'lr = "1e-4"', {"lr": float}, "lr='1e-4' is str, not float or int: .*write 1.0e-04"),
    ({"scale": "4"}, "", {"scale": int}, "scale='4' is str, not int"),
    ({"scale": True}, "", {"scale": int}, "scale=True is bool, not int"),
    ({"scale": False}, "", {"scale": float}, "scale=False is bool, not float"),
    ({"scale": 2.0}, "", {"scale": int}, "scale=2.0 is float, not int"),
    ({"box": (1, 2)}, "", {"box": list}, "is tuple, not list"),
    ({"crop": "x"}, "", {"crop": int | None}, "crop='x' is str, not int or null"),
    ({"profile": "demmo"}, "", {"profile": str}, "profile 'demmo' is unknown: did you mean 'demo'"),
    ({"profile": None}, "", {"profile": str}, "profile=None is NoneType, not str"),
])  # fmt: skip
def test_wrong_parameters_are_refused(home, values, injected, expected, told):
    with pytest.raises(notebook.ParameterError, match=told) as refusal:
        check(values, injected, **expected)
    assert isinstance(refusal.value, ValueError) and "\n" not in str(refusal.value)


def test_only_the_last_injected_cell_counts(home):
    cells = ["# Parameters\nold = 1\n", "# Parameters\nscale = 2\n"]  # a notebook that was executed before
    assert notebook.parameters({"scale": 2, "In": cells}, scale=int) == {"scale": 2}


def test_a_refusal_is_shown_as_one_line():
    shell = pytest.importorskip("IPython.core.interactiveshell", reason="IPython comes with the extra notebooks")
    lines = []
    instance = shell.InteractiveShell()
    instance._showtraceback = lambda kind, value, rendered: lines.extend(rendered)
    instance.run_cell("from carlib import notebook; notebook.parameters({}, scale=int)", store_history=False)
    assert lines == ["ParameterError: parameter scale is not set: run the parameters cell first"]


def test_a_figure_is_shown_as_a_picture():
    """Made without pyplot, it would be a line of text."""

    shell = pytest.importorskip("IPython.core.interactiveshell", reason="IPython comes with the extra notebooks")
    instance = shell.InteractiveShell()
    before, _ = instance.display_formatter.format(Figure())
    instance.run_cell("scale = 2; from carlib import notebook; notebook.parameters(globals(), scale=int)")
    after, _ = instance.display_formatter.format(Figure())
    assert "image/png" not in before and after["image/png"].startswith(b"\x89PNG")


def test_a_saved_figure_is_shown_as_it_was_saved_and_drawn_anew_once_it_was_changed(tmp_path, monkeypatch):
    figure = Figure(figsize=(3, 2))
    axes = figure.add_subplot()
    told = dict.fromkeys(("title", "alt", "caption", "command"), "x")
    path = artefacts.save_figure(figure, tmp_path / "figure", **told)
    with monkeypatch.context() as patched:
        patched.setattr(Figure, "savefig", None)
        shown = Image.open(io.BytesIO(notebook._png(figure)))
    assert shown.size == (300, 200) and Image.open(path).size == (450, 300)
    axes.fill_between([0, 1], 1, color="black")
    changed = Image.open(io.BytesIO(notebook._png(figure)))
    light, dark = (picture.convert("L").resize((1, 1)).getpixel((0, 0)) for picture in (shown, changed))
    assert changed.size == (300, 200) and dark < light
    figure.stale = False
    path.unlink()
    assert notebook._png(figure).startswith(b"\x89PNG")


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def code(path):
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS and all(path.name[:2].isdigit() for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestEveryNotebook:
    def test_its_outputs_are_stripped(self, path):
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code(path))

    def test_it_begins_with_its_question(self, path):
        first = cells(path)[0]
        numbers = path.stem[:2], path.stem.partition("_")[0]
        assert first["cell_type"] == "markdown" and source(first).startswith(tuple(f"# {n} - " for n in numbers))
        assert source(first).partition("\n")[0].endswith("?")

    def test_it_has_one_parameters_cell_of_plain_values(self, path):
        (tagged,) = (cell for cell in code(path) if "parameters" in cell["metadata"].get("tags", []))
        for node in ast.parse(source(tagged)).body:
            assert isinstance(node, ast.Assign), ast.unparse(node)
            ast.literal_eval(node.value)

    def test_it_checks_every_parameter(self, path):
        (tagged,) = (cell for cell in code(path) if "parameters" in cell["metadata"].get("tags", []))
        names = {target.id for node in ast.parse(source(tagged)).body for target in node.targets}
        calls = [
            node for cell in code(path) for node in ast.walk(ast.parse(source(cell))) if isinstance(node, ast.Call)
        ]
        (check,) = (call for call in calls if ast.unparse(call.func) == "notebook.parameters")
        assert {keyword.arg for keyword in check.keywords} == names

    def test_its_own_defaults_pass(self, path, home):
        (tagged,) = (cell for cell in code(path) if "parameters" in cell["metadata"].get("tags", []))
        namespace = {}
        exec(source(tagged), namespace)
        checks = [source(cell) for cell in code(path) if "notebook.parameters(" in source(cell)]
        exec(checks[0], namespace)

    def test_it_only_calls(self, path):
        for cell in code(path):
            lines = source(cell).splitlines()
            assert len(lines) <= 12 and not any(line.startswith(("!", "%")) for line in lines)
            nodes = list(ast.walk(ast.parse(source(cell))))
            assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in nodes)
            text = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            assert not any(Path(value).is_absolute() for value in text)


def shown(stem):
    """The values of a notebook's parameters cell."""
    cells = json.loads(next(path for path in NOTEBOOKS if path.stem == stem).read_text())["cells"]
    cell = next(cell for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse("".join(cell["source"])).body}


@pytest.mark.parametrize(("figure", "stem", "names"), [
    (3, "01_downscaling_for_sr", ("figure_image", "figure_box")),
    (4, "06_kernels_offsets", ("image", "box")),
    (5, "03_ablation", ("figure_image", "figure_box")),
])  # fmt: skip
def test_a_figure_of_other_parameters_has_a_name_of_its_own(figure, stem, names):
    image, box = (shown(stem)[name] for name in names)
    assert illustrate.name_of("fig", figure, image, box) == "fig"
    assert illustrate.name_of("fig", figure, "set5/baby", box) == f"fig_set5-baby_{'-'.join(map(str, box))}"
    own = [illustrate.name_of("fig", figure, f"{folder}/a photo.jpg", box) for folder in ("/one", "/two")]
    own.append(illustrate.name_of("fig", figure, "/one/a.b.c$.jpg", box))
    assert len({*own}) == 3 and all(re.fullmatch(r"fig_a-(photo|b-c-)-[0-9a-f]{8}_[\d-]+", name) for name in own)
    assert illustrate.name_of("fig", figure, image, [0, 0, 48, 96]) == "fig_demo-kodim23_0-0-48-96"


def test_fig3_and_fig6_of_other_parameters_too(home):
    assert figure3._name({}, 4) == "fig3" and figure3._name(None, 2) == "fig3_all_x2"
    assert figure3._name({"set5/baby": [0, 0, 8, 8]}, 4) == "fig3_all_x4_set5-baby-0-0-8-8"
    assert figure6._name("fig6", figure6.choose(), 4) == "fig6"
    assert figure6._name("fig6_crops", "set5/baby", 2) == "fig6_crops_set5-baby_x2"


@pytest.mark.parametrize(("does", "told"), [
    ("exec sleep 60", "Kernel didn't respond in 1 seconds"), ("exit 1", "Kernel died before replying"),
])  # fmt: skip
def test_a_kernel_that_does_not_answer_is_told_in_one_line(home, tmp_path, monkeypatch, does, told):
    pytest.importorskip("papermill", reason="papermill comes with the extra notebooks")
    silent = {"argv": ["sh", "-c", does], "display_name": "silent", "language": "python"}
    kernel = results.write_text(tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json", json.dumps(silent))
    monkeypatch.setenv("JUPYTER_PATH", str(kernel.parents[2]))
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH", raising=False)
    (home / "notebooks").mkdir(exist_ok=True)
    (home / "notebooks" / "09_protocol.ipynb").write_text(NOTEBOOKS[-1].read_text())
    with pytest.raises(ValueError, match=f"09_protocol: {told}.*: the machine is too busy") as refusal:
        experiments.run_notebook("09_protocol", patience=1, progress=False)
    assert "\n" not in str(refusal.value)


def test_a_kernel_that_is_killed_in_a_cell_is_told_in_one_line_and_leaves_nothing_half_written(home):
    pytest.importorskip("papermill", reason="papermill comes with the extra notebooks")
    pytest.importorskip("ipykernel", reason="ipykernel comes with the extra notebooks")
    earlier = results.write_text(home / "results" / "smoke" / "tables" / "protocol.csv", "of an earlier call\n")
    book = json.loads(NOTEBOOKS[-1].read_text())
    cell = next(cell for cell in book["cells"] if "notebook.parameters(" in "".join(cell["source"]))
    cell["source"] = [
        "import os, signal\n", "from carlib import results\n",
        "with results.atomic(results.folder('smoke', 'tables', 'protocol.csv')) as temporary:\n",
        "    temporary.write_text('half')\n", "    os.kill(os.getpid(), signal.SIGKILL)",
    ]  # fmt: skip
    results.write_text(home / "notebooks" / "09_protocol.ipynb", json.dumps(book))
    with pytest.raises(ValueError, match=r"09_protocol: Kernel died: .*run it again") as refusal:
        experiments.run_notebook("09_protocol", ["profile=smoke"], progress=False)
    assert "\n" not in str(refusal.value) and earlier.read_text() == "of an earlier call\n"
