"""Times of ours and of rivals, as bars."""

from math import isnan
from textwrap import fill

from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from carlib.figures.style import BLUE, CAPTION, LABEL, TITLE, styled

_BAR, _SPACE, _TITLE = 0.24, 0.2, 0.62  # inches: of a bar; of a case, around its bars and for its title
_WIDTH, _LONGEST = 7, 12  # inches: of a column
_LINE, _LETTERS = 0.18, 72  # of a title: inches of a further line, letters of each


@styled
def bench(rows, ours="carlib"):
    """Times of ours and of rivals at the same job, as bars; one axes a case, each with its own linear scale from 0.

    Args:
        rows: list of dicts
            name:    str; bars whose name begins with `ours` are highlighted.
            case:    str, the job; cases come in the order they first appear.
            seconds: float >= 0.
            ratio:   seconds over ours (2.0: ours is twice as fast), NaN without a rival.
    Returns:
        Figure with one axes a case, the fastest on top; many cases stand in two columns.
    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("bench: no rows to draw")
    cases = list(dict.fromkeys(row["case"] for row in rows))
    groups = [sorted((r for r in rows if r["case"] == case), key=lambda r: r["seconds"]) for case in cases]
    titles = [fill(case, _LETTERS) for case in cases]
    further = [_LINE * title.count("\n") for title in titles]
    heights = [_BAR * len(group) + _SPACE + _TITLE + more for group, more in zip(groups, further, strict=True)]
    figure, grid = _grid(heights, ours)
    for axes, title, group in zip(grid, titles, groups, strict=True):
        _bars(axes, group, ours)
        _title(axes, title)
    return figure


def _grid(heights, ours):
    """A figure, and its axes with these heights in inches, in one column or two."""
    columns = _columns(heights)
    longest = max(sum(column) for column in columns)
    figure, grid = Figure(figsize=(_WIDTH * len(columns), longest), layout="constrained"), []
    for part, column in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        ratios = [height - _TITLE for height in column]
        if sum(column) < longest:
            ratios.append(longest - sum(column))  # of axes that stay empty
        axes = part.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0]
        for rest in axes[len(column) :]:
            rest.set_axis_off()
        axes[len(column) - 1].set_xlabel(f"time, shorter is better;  ×: time over that of {ours}", fontsize=CAPTION)
        grid += list(axes[: len(column)])
    return figure, grid


def _bars(axes, group, ours):
    slowest = max(row["seconds"] for row in group) or 1.0
    unit, factor = next(((u, f) for u, f in (("s", 1), ("ms", 1e3)) if slowest * f >= 1), ("µs", 1e6))
    for place, row in enumerate(group):
        mine = row["name"].startswith(ours)
        value = row["seconds"] * factor
        axes.barh(place, value, height=0.72, color=BLUE if mine else "#B8B8B8")
        ratio = "" if row["ratio"] == 1 or isnan(row["ratio"]) else f"   {_number(row['ratio'])}×"
        axes.annotate(
            f"{_number(value)} {unit}{ratio}",
            (value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=CAPTION,
            fontweight="bold" if mine else "normal",
        )
    axes.set_yticks(range(len(group)), [row["name"] for row in group])
    for label, row in zip(axes.get_yticklabels(), group, strict=True):
        label.set_fontweight("bold" if row["name"].startswith(ours) else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0, slowest * factor * 1.45)  # room for the numbers
    axes.tick_params(labelsize=LABEL, length=0)
    axes.set_xticks([])  # every bar carries its number
    axes.spines["bottom"].set_visible(False)


def _title(axes, title):
    """Above the bars' names, from the left edge of the column."""
    place = blended_transform_factory(axes.figure.transSubfigure, axes.transAxes)
    text = axes.annotate(
        title, (0.01, 1), xycoords=place, xytext=(0, 4), textcoords="offset points", fontsize=TITLE, fontweight="bold"
    )
    text.set_in_layout(False)  # it would move the axes to the right
    axes.set_title("\n".join(" " for _ in title.splitlines()), fontsize=TITLE)  # keeps its lines free


def _columns(heights):
    """The heights in one column, or in two of much the same length where one would be too long to look at."""
    if sum(heights) <= _LONGEST or len(heights) < 2:
        return [heights]
    first = min(range(1, len(heights)), key=lambda cut: max(sum(heights[:cut]), sum(heights[cut:])))
    return [heights[:first], heights[first:]]


def _number(value):
    """Three digits, and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
