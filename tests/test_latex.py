"""Tables as LaTeX: every brace and environment closed, every special character escaped, every cell there."""

import re

import pandas as pd
import pytest

from carlib import latex, results

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


@pytest.mark.parametrize("rows", [1, 2, 40, 41, 200])
def test_what_is_opened_is_closed(rows):
    text = written(pd.concat([FRAME] * rows)[:rows])
    assert not unbalanced(text)
    assert ("longtable" in text.splitlines()[0]) == (rows > 40)
    assert sum(line.endswith(r" \\") and "&" in line for line in text.splitlines()) >= rows + 1


def test_special_characters_are_escaped():
    text = written()
    assert r"50 \% \& more" in text and r"what\_is" in text and r"Gain\_1 of 5 \% \& 6" in text
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
    path = results.save_table(FRAME, tmp_path / "t", title="T_1", caption="c", command="d")
    text = path.with_suffix(".tex").read_text()
    assert not unbalanced(text)
    assert r"33.66 & reproduced \\" in text and r"- & not \\" in text and r"\caption{T\_1. c}" in text
