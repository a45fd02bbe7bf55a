"""Tables and numbers as Markdown has them."""


class NoLineError(ValueError):
    """A table without a line."""


def table(lines) -> str:
    """A table of dicts with the same keys.

    Raises:
        NoLineError: there is none.
    """
    lines = list(lines)
    if not lines:
        raise NoLineError("a table has no line")
    rows = [list(lines[0]), *(list(map(str, line.values())) for line in lines)]
    rows = [[text.replace("|", r"\|") for text in row] for row in rows]
    rows.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def number(value, form="{:.2f}") -> str:
    """`value` in a form, a dash for NaN."""
    return "-" if value != value else form.format(value)
