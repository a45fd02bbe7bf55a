"""What fits a page of LaTeX: type size, columns that are wrapped, tables that lie or go on over pages.

The page is that of LaTeX's `article` at 10 pt, whose text is narrower than that of most journals. Widths are estimated
from the letters of Computer Modern, in em; an estimate is enough, for a table may be a little narrower than its page.
"""

import dataclasses
import math
import re
from functools import cached_property, lru_cache, partial

PAGE = (345.0, 550.0)  # pt: width and height of the text
_WRAPPED = 16  # em: a column with longer cells is wrapped
_NARROWEST = 11  # em: of a wrapped column
_CAPTION = 10.0, 12.0  # pt: em and distance of lines
# Name, em and distance of lines in pt. Small types are relatively wide: cmr7's digits have 3.99 pt, cmr10's 5.
_NORMAL, _SMALL, _FOOTNOTE, _SCRIPT, _TINY = (
    (r"\normalsize", 10.0, 12.0), (r"\small", 9.3, 11.0), (r"\footnotesize", 8.5, 9.5), (r"\scriptsize", 8.0, 8.0),
    (r"\tiny", 6.8, 6.0),
)  # fmt: skip
# What is tried in turn: size, lying, tight. What fits nowhere gets the last, and is too wide.
_WAYS = [
    *((size, False, False) for size in (_NORMAL, _SMALL, _FOOTNOTE, _SCRIPT)),
    *((size, True, False) for size in (_SMALL, _FOOTNOTE, _SCRIPT)),
    *((size, True, True) for size in (_FOOTNOTE, _SCRIPT, _TINY)),
]


@dataclasses.dataclass
class Column:
    """name; cells: plain text, one a row; numeric: its cells stand to the right. Not to be changed once measured."""

    name: str
    cells: list
    numeric: bool

    @cached_property
    def head(self):
        """Lines of the name, no wider than the cells if its words allow that."""
        widest = max(map(width, [*self.cells, *self.name.split()]), default=0)
        lines = []
        for word in self.name.split():
            if lines and width(f"{lines[-1]} {word}") <= widest:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines or [""]

    @cached_property
    def natural(self):
        """Width in em of its widest line."""
        return max(map(width, [*self.cells, *self.head]), default=0)

    @cached_property
    def wraps(self):
        """Whether its cells are long texts."""
        return not self.numeric and self.natural > _WRAPPED

    def narrowest(self, tight):
        """The least width in em: LaTeX breaks cells at spaces and hyphens. tight: those of short texts, too."""
        if self.numeric or not (self.wraps or tight):
            return self.natural
        words = [word for text in self.cells for word in re.findall(r"[^\s-]+-?", text)]
        least = min(_NARROWEST, 0.5 * self.natural)
        return max(least, *map(width, [*words, *self.head]))


@dataclasses.dataclass
class Layout:
    """columns: of a tabular; settings: commands before it; lying: on its side; long: goes on over pages."""

    columns: str
    settings: str
    lying: bool
    long: bool


@lru_cache(maxsize=10_000)
def width(text) -> float:
    """Of a text in em, rather too wide than too narrow."""

    def em(mark):
        return 0.33 if mark in "iljtfI.,:;'!|()[] -" else 0.8 if mark.isupper() or mark in "mw%×±+" else 0.53

    return sum(map(em, text))


def fit(columns, extra=()) -> Layout:
    """How columns fit a page: the largest type in which they stand upright, else in which they lie.

    Args:
        extra: texts above and below the table, which take lines of the page.
    """
    way = next(filter(partial(_fits, columns), _WAYS), _WAYS[-1])
    (named, em, line), turned, tight = way
    page, gap, space = PAGE[turned], _gap(way), _space(columns, way)
    least = [column.narrowest(tight) for column in columns]
    widths = _share(columns, least, space)
    texts = sum(math.ceil(width(text) * _CAPTION[0] / page) * _CAPTION[1] for text in extra)
    height = texts + line * (_lines(columns, widths) + 3)
    settings = f"{named}\\setlength{{\\tabcolsep}}{{{gap:g}pt}}"
    return Layout(_specification(columns, widths, em), settings, turned, height > 0.9 * PAGE[not turned])


def stands(columns) -> bool:
    """Whether columns fit a page upright."""
    return any(_fits(columns, way) for way in _WAYS if not way[1])


def _fits(columns, way):
    return sum(column.narrowest(way[2]) for column in columns) <= _space(columns, way)


def _space(columns, way):
    """Em that a page has for cells."""
    (_, em, _), lying, _ = way
    return (PAGE[lying] - 2 * _gap(way) * len(columns)) / em


def _gap(way):
    """\\tabcolsep in pt."""
    return 1.5 if way[2] else 6.0 if way[0] is _NORMAL else 3.0


def _share(columns, least, space):
    """Width in em of each column: wrapped ones share what the others leave, none gets more than its natural width."""
    wanted = [column.natural - narrow for column, narrow in zip(columns, least, strict=True)]
    share = min(1, max(0, space - sum(least)) / max(sum(wanted), 1e-9))
    return [narrow + share * more for narrow, more in zip(least, wanted, strict=True)]


def _lines(columns, widths):
    """Lines of all rows together; ragged lines leave a fifth of their width empty."""
    wrapped = [[1 if w >= c.natural else math.ceil(1.2 * width(text) / w) for text in c.cells]
               for c, w in zip(columns, widths, strict=True)]  # fmt: skip
    return sum(max(row) for row in zip(*wrapped, strict=True)) + max(len(column.head) for column in columns)


def _specification(columns, widths, em):
    kinds = []
    for column, given in zip(columns, widths, strict=True):
        if given < column.natural:
            kinds.append(f">{{\\raggedright\\arraybackslash}}p{{{given * em:.1f}pt}}")
        else:
            kinds.append("r" if column.numeric else "l")
    return "".join(kinds)
