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
    rows = [lines[0], ["---"] * len(lines[0]), *(each.values() for each in lines)]
    return "".join(f"{line(row)}\n" for row in rows)


def line(cells) -> str:
    """A line of a table."""
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"


def number(value, form="{:.2f}") -> str:
    """`value` in a form, a dash for NaN."""
    return "-" if value != value else form.format(value)
