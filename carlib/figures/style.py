"""The one style of all pictures: fonts, colours, sizes, and how text and images are placed by inches."""

import functools

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

WIDTH = 10.0  # inches, the most a figure of panels takes
# Okabe & Ito: told apart with every common colour blindness
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
WEIGHTS = "RdBu_r"  # diverging about zero: blue negative, red positive
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
TITLE, LABEL, CAPTION = 9.5, 8.5, 8  # points
LINE = 0.155  # inches, the height of a line of text
GAP = 0.08  # inches between panels
_MARGIN = 0.05  # inches around a figure


def styled(function):
    """Run `function` under matplotlib's defaults and STYLE, and leave the caller's rcParams as they were."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with matplotlib.style.context(["default", STYLE]):
            return function(*args, **kwargs)

    return wrapper


def new_figure(width, height):
    """A Figure with `width` x `height` inches inside its margins."""
    return Figure(figsize=(width + 2 * _MARGIN, height + 2 * _MARGIN))


def fractions(figure, x, y, width, height):
    """Inches from the top left to the fractions from the bottom left that matplotlib wants."""
    all_width, all_height = figure.get_size_inches()
    x, y = x + _MARGIN, y + _MARGIN
    return (x / all_width, 1 - (y + height) / all_height, width / all_width, height / all_height)


def axes_at(figure, x, y, width, height, frame=True):
    """Axes for an image, without ticks, at inches from the top left."""
    axes = figure.add_axes(fractions(figure, x, y, width, height))
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=frame, linewidth=0.6, edgecolor="#444444")
    return axes


def enlarged(image, least=900):
    """Repeat every pixel until the longer side has `least` pixels.

    matplotlib then averages areas on its way to the screen: pixels stay sharp squares, all of one width. Its own
    "nearest" draws some a screen pixel wider than others, which looks like an artefact of the method.
    """
    times = -(-least // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def title_above(axes, text, width=None):
    """A bold title above an image, wrapped to `width` inches."""
    lines = [text] if width is None else wrapped(text, width, LABEL)
    axes.set_title("\n".join(lines), loc="left", fontsize=LABEL, fontweight="bold", pad=3)


def text_below(axes, lines, skip, height, **style):
    """Centred lines of text under axes `height` inches tall, after `skip` lines of other text."""
    for number, line in enumerate(lines, start=skip):
        y = -(0.03 + number * LINE) / height
        axes.text(0.5, y, line, transform=axes.transAxes, ha="center", va="top", **style)


def note_at(figure, x, y, text, colour="#444444"):
    """Small text centred at inches from the top left of the figure."""
    left, bottom, _, _ = fractions(figure, x, y, 0, 0)
    figure.text(left, bottom, text, ha="center", va="center", fontsize=CAPTION, color=colour, linespacing=1.35)


def wrapped(text, width, points, weight="bold"):
    """Lines of `text` that fit into `width` inches."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and _text_width(longer, points, weight) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


@functools.cache
def _text_width(text, points, weight="bold") -> float:
    """Inches that `text` takes."""
    font = FontProperties(family="DejaVu Sans", weight=weight, size=points)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def shortened(text, width):
    """`text`, cut with an ellipsis to what fits into `width` inches as a bold title."""
    kept = text
    while kept and _text_width(kept + "…", TITLE) > width:
        kept = kept[:-1]
    return text if _text_width(text, TITLE) <= width else kept.rstrip() + "…"
