"""Tables as LaTeX, for a paper: booktabs rules, a caption, a label, every cell escaped. Nothing is measured here."""

_ESCAPED = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    # what is not in the fonts of pdflatex
    "×": r"$\times$", "±": r"$\pm$", "−": "$-$", "≥": r"$\ge$", "≤": r"$\le$", "→": r"$\to$", "λ": r"$\lambda$",
}  # fmt: skip
_LONG = 40  # lines: more do not fit on a page


def escape(text) -> str:
    """`text` as LaTeX shows it literally."""
    return "".join(_ESCAPED.get(mark, mark) for mark in str(text))


def table(frame, *, caption, label, cell=str) -> str:
    """A DataFrame as a `table`, or where it is longer than a page as a `longtable`.

    Args:
        frame:   numbers stand to the right, everything else to the left.
        caption: plain text.  label: without "tab:".
        cell:    value -> plain text.
    Returns:
        LaTeX for \\usepackage{booktabs} (and longtable), with a line that says so.
    """
    from pandas.api.types import is_numeric_dtype

    columns = "".join("r" if is_numeric_dtype(frame[name]) else "l" for name in frame.columns)
    head, *lines = (_line(map(escape, row)) for row in _texts(frame, cell))
    head, named = f"\\toprule\n{head}\n\\midrule", f"\\caption{{{escape(caption)}}}\\label{{tab:{label}}}"
    body = "\n".join(lines)
    if len(lines) > _LONG:
        needs, environment = "booktabs, longtable", f"longtable}}{{{columns}"
        body = f"{named}\\\\\n{head}\n\\endfirsthead\n{head}\n\\endhead\n\\bottomrule\n\\endfoot\n{body}"
        return f"% needs {needs}\n\\begin{{{environment}}}\n{body}\n\\end{{longtable}}\n"
    tabular = f"\\begin{{tabular}}{{{columns}}}\n{head}\n{body}\n\\bottomrule\n\\end{{tabular}}"
    return f"% needs booktabs\n\\begin{{table}}\n\\centering\n{named}\n{tabular}\n\\end{{table}}\n"


def _texts(frame, cell):
    """The names of the columns, then the cells of each row."""
    yield list(map(str, frame.columns))
    for row in frame.itertuples(index=False):
        yield [cell(value) for value in row]


def _line(cells) -> str:
    return " & ".join(cells) + r" \\"
