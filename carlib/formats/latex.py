"""Tables as LaTeX, for a paper: booktabs rules, a caption, a label, every cell escaped. Nothing is measured here.

A table of any width and length fits the page: see carlib.formats.latex_layout.
"""

import itertools
import re
import string

from carlib.formats import latex_layout

_ESCAPED = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    # what is not in the fonts of pdflatex
    "×": r"$\times$", "±": r"$\pm$", "−": "$-$", "≥": r"$\ge$", "≤": r"$\le$", "→": r"$\to$", "λ": r"$\lambda$",
}  # fmt: skip
_SAME = 4  # rows: a column that says the same in as many, or more, is told in the caption


def escape(text) -> str:
    """`text` as LaTeX shows it literally; straight quotes become an opening and a closing one."""
    text = "".join(_ESCAPED.get(mark, mark) for mark in str(text))
    return re.sub(r'(^|[\s(])"', r"\1``", text).replace('"', "''")


def table(frame, *, caption, label, cell=str) -> str:
    """A DataFrame as a `table`, or where it is longer than a page as a `longtable`; lying if it is too wide to stand.

    Args:
        frame:   numbers stand to the right, everything else to the left.
        caption: plain text.  label: without "tab:".
        cell:    value -> plain text.
    Returns:
        LaTeX, with a line that names the packages it needs.
    """
    from pandas.api.types import is_numeric_dtype

    columns = [
        latex_layout.Column(str(name).replace("_", " "), [cell(value) for value in frame[name]], numeric)
        for name, numeric in ((name, is_numeric_dtype(frame[name])) for name in frame.columns)
    ]
    notes = {}
    if not latex_layout.stands(columns):
        columns, caption = _without_constants(columns, caption)
        columns, notes = _with_letters(columns)
    layout = latex_layout.fit(columns, extra=[caption, *notes.values()])
    named = f"\\caption{{{escape(caption)}}}\\label{{tab:{label}}}"
    below = "".join(f"\\par\\noindent {letter}: {escape(text)}\n" for letter, text in notes.items())
    text = (_long if layout.long else _short)(columns, layout, named, below)
    needs = ["array", "booktabs"] + ["longtable"] * layout.long + ["pdflscape"] * layout.lying
    if layout.lying:
        text = f"\\begin{{landscape}}\n{text}\\end{{landscape}}\n"
    return f"% needs {', '.join(needs)}\n{text}"


def _short(columns, layout, named, below):
    body = "\n".join([r"\toprule", _head(columns), r"\midrule", *_rows(columns), r"\bottomrule"])
    tabular = f"\\begin{{tabular}}{{{layout.columns}}}\n{body}\n\\end{{tabular}}\n"
    return f"\\begin{{table}}\n\\centering\n{named}\n{layout.settings}\n{tabular}{below}\\end{{table}}\n"


def _long(columns, layout, named, below):
    head = f"\\toprule\n{_head(columns)}\n\\midrule"
    body = "\n".join([f"{head}\n\\endfirsthead\n{head}\n\\endhead\n\\bottomrule\n\\endfoot", *_rows(columns)])
    return (
        f"\\begingroup\n{layout.settings}\n\\setlength{{\\LTcapwidth}}{{\\linewidth}}\n"
        f"\\begin{{longtable}}{{{layout.columns}}}\n{named}\\\\\n{body}\n\\end{{longtable}}\n{below}\\endgroup\n"
    )


def _head(columns):
    """The names of the columns, one word under the other where the cells are narrower."""
    return _line(_stacked(column) for column in columns)


def _stacked(column):
    lines = [escape(line) for line in column.head]
    if len(lines) == 1:
        return lines[0]
    side, stack = "r" if column.numeric else "l", r"\\".join(lines)
    return f"\\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stack}\\end{{tabular}}"


def _rows(columns):
    for row in zip(*(column.cells for column in columns), strict=True):
        yield _line(map(escape, row))


def _line(cells) -> str:
    return " & ".join(cells) + r" \\"


def _without_constants(columns, caption):
    """The columns whose cells differ, and the caption with what the others say in every row."""
    same = [column for column in columns if len(column.cells) >= _SAME and len(set(column.cells)) == 1]
    if not same or len(same) == len(columns):
        return columns, caption
    told = "; ".join(f"{column.name} {column.cells[0]}" for column in same)
    return [column for column in columns if column not in same], f"{caption} In all rows: {told}."


def _with_letters(columns):
    """Columns in which letters stand for long texts that come again and again, and letter -> text."""
    letters, notes, changed = _letters(), {}, []
    for column in columns:
        texts = [text for text in dict.fromkeys(column.cells) if latex_layout.width(text) > 1]
        if column.wraps and any(" " in text for text in texts) and 2 * len(texts) <= len(column.cells):
            those = dict(zip(texts, letters, strict=False))
            notes |= {letter: text for text, letter in those.items()}
            cells = [those.get(text, text) for text in column.cells]
            column = latex_layout.Column(column.name, cells, column.numeric)
        changed.append(column)
    return changed, notes


def _letters():
    """a, b, ..., z, aa, ab, ..."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))
