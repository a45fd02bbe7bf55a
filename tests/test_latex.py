"""Tables as LaTeX: every brace closed, every special character escaped, every cell there, none wider than its page."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from carlib import artefacts, results
from carlib.formats import latex, latex_layout

FRAME = pd.DataFrame(
    {"what_is": ["50 % & more", r"a\b {c} #1 ~^$"], "ours": [33.66, float("nan")], "verdict": ["reproduced", "not"]}
)


def written(frame=FRAME, **named):
    return latex.table(frame, **{"caption": "Gain_1 of 5 % & 6", "label": "t1", **named})


def unbalanced(text):
    """Environments or braces left open or closed twice."""
    open_, depth = [], 0
    for begin, end in re.findall(r"\\begin\{(\w+)\}|\\end\{(\w+)\}", text):
        if begin:
            open_.append(begin)
        elif not open_ or open_.pop() != end:
            return f"\\end{{{end}}}"
    for mark in re.findall(r"(?<!\\)[{}]", text.replace(r"\\", "")):
        depth += 1 if mark == "{" else -1
        if depth < 0:
            return "}"
    return open_ or depth


@pytest.mark.parametrize("rows", [1, 2, 30, 41, 200])
def test_what_is_opened_is_closed(rows):
    text = written(pd.concat([FRAME] * rows)[:rows])
    assert not unbalanced(text)
    assert ("longtable" in text.splitlines()[0]) == (rows > 40)
    assert sum(line.endswith(r" \\") and "&" in line for line in text.splitlines()) >= rows + 1


def test_special_characters_are_escaped():
    text = written()
    assert r"50 \% \& more" in text and "what is &" in text and r"Gain\_1 of 5 \% \& 6" in text
    assert r"a\textbackslash{}b \{c\} \#1 \textasciitilde{}\textasciicircum{}\$" in text
    body = "\n".join(text.splitlines()[1:])  # without the comment
    assert not re.search(r"(?<!\\)[%#_$]", body)
    for line in body.splitlines():
        if line.endswith(r" \\"):
            assert len(re.findall(r"(?<!\\)&", line)) == len(FRAME.columns) - 1


def test_signs_that_pdflatex_has_no_glyph_for_are_set_in_mathematics():
    assert latex.escape("×2 ±0.1 ≥ −3") == r"$\times$2 $\pm$0.1 $\ge$ $-$3"


def test_rules_caption_label_and_columns():
    text = written()
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\label{tab:t1}", r"\caption{", r"\begin{tabular}{lrl}"):
        assert text.count(part) == 1


def test_a_saved_table_has_the_cells_of_its_markdown(tmp_path):
    path = artefacts.save_table(FRAME, tmp_path / "t", title="T_1", caption="c", command="d")
    text = path.with_suffix(".tex").read_text()
    assert not unbalanced(text)
    assert r"33.66 & reproduced \\" in text and r"- & not \\" in text and r"\caption{T\_1. c}" in text


def test_quotes_open_and_close():
    assert latex.escape('of "a b" ("c")') == "of ``a b'' (``c'')"


def test_pdflatex_knows_every_letter_of_the_committed_tables():
    # What its input encoding takes without further packages: Latin-1's letters (the mended signs are commands by now).
    texts = [path.read_text() for path in results.root().glob("results/*/tables/*.md")]
    assert texts
    strange = set(latex.escape("".join(texts))) - set(map(chr, range(32, 127))) - set("\n–—’“”…")
    assert not {letter for letter in strange if not ("À" <= letter <= "ÿ")}


def wide(columns, rows, words="several words of a note"):
    """A frame whose rows differ, of numbers and texts in turn."""
    values = {f"number_{i}": [round(i + row / 7, 4) for row in range(rows)] for i in range(columns)}
    values |= {f"text {i}": [f"{words} {row} {i}" for row in range(rows)] for i in range(columns)}
    return pd.DataFrame(values)


def estimated(columns):
    """Width in pt of the layout of columns, as far as it is estimated."""
    layout = latex_layout.fit(columns)
    (named, gap), em = re.match(r"(\\\w+)\\.*{([\d.]+)pt}", layout.settings).groups(), None
    em = {name: em for (name, em, _), _, _ in latex_layout._WAYS}[named]
    widths = re.findall(r"p{([\d.]+)pt}|[lr]", re.sub(r">{[^}]*}", "", layout.columns))
    given = [float(w) if w else column.natural * em for w, column in zip(widths, columns, strict=True)]
    return layout, sum(given) + 2 * float(gap) * len(columns)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_columns_share_the_page(count):
    frame = wide(count, 6)
    columns = [latex_layout.Column(name, list(map(str, frame[name])), name.startswith("number")) for name in frame]
    layout, used = estimated(columns)
    assert used <= latex_layout.PAGE[layout.lying] + 1
    assert layout.lying == (count > 2)


def test_what_all_rows_say_and_long_texts_that_recur_leave_a_table_that_is_too_wide():
    frame = wide(3, 12).assign(profile="mini", note=["the same long words again and again", "another long text"] * 6)
    text = written(frame)
    assert "In all rows: profile mini." in text and text.count("again and again") == 1
    assert r"\par\noindent a: the same long words again and again" in text and text.count(r"& a \\") == 6
    narrow = written(frame[["number_0", "profile"]])
    assert narrow.count("mini") == 12 and "In all rows" not in narrow


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("frame", [FRAME, wide(1, 8), wide(2, 60), wide(5, 8), wide(6, 60)])
def test_pdflatex_sets_tables_of_all_sizes(frame, tmp_path):
    text = written(
        frame.assign(quoted='a "quoted" <word> | ×2'), cell=lambda v: f"{v:.4f}" if isinstance(v, float) else v
    )
    packages = text.splitlines()[0].removeprefix("% needs ").replace(" ", "")
    page = f"\\documentclass{{article}}\n\\usepackage{{{packages}}}\n\\begin{{document}}\n{text}\\end{{document}}\n"
    (tmp_path / "t.tex").write_text(page)
    for _ in range(2):  # a longtable learns its widths in the first
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True, check=False
        )
    log = (tmp_path / "t.log").read_text(errors="replace")
    assert done.returncode == 0, re.findall(r"^!.*", log, re.MULTILINE)
    assert not [over for over in re.findall(r"Overfull .hbox \(([\d.]+)pt", log) if float(over) > 2]
    assert "Float too large" not in log
