"""Figure 3: zoomed crops of what several methods make of the same image."""

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from carlib.figures.style import (
    CAPTION,
    GAP,
    LABEL,
    LINE,
    TITLE,
    WIDTH,
    axes_at,
    enlarged,
    new_figure,
    note_at,
    shortened,
    styled,
    text_below,
    wrapped,
)


@styled
def crops(rows):
    """Zoomed crops of LR and SR images beside the HR image they come from (the paper's Fig. 3).

    A row shows the HR image with the box marked, then the HR crop and one crop a panel. If a row has as many LR as SR
    panels, each LR crop stands under the SR crop of the same number. Pixels are drawn as squares, never interpolated.

    Args:
        rows: list of dicts
            name:   str, printed above the HR image.
            hr:     (H, W, 3) uint8.
            box:    (top, left, height, width) of the crop, whole HR pixels.
            panels: list of (label, caption, image): image is (H, W, 3) uint8, an SR result, or (H/s, W/s, 3), an LR
                    image; s is found from its size. The caption is text such as "31.20 dB / 0.9012".
    Returns:
        Figure; per row one axes with the HR image, then the crops line by line, the HR crop first.
    Raises:
        ValueError: no rows, a box outside its image, or a panel whose size does not divide the HR image's.
    """
    if not rows:
        raise ValueError("crops: no rows to draw")
    plans = [_plan_crops(row) for row in rows]
    width = max(plan["width"] for plan in plans)
    height = sum(plan["height"] for plan in plans) + 0.2 * (len(plans) - 1)
    figure = new_figure(width, height)
    y = 0.0  # inches from the top
    for plan in plans:
        _draw_crops(figure, plan, y)
        y += plan["height"] + 0.2
    return figure


def _plan_crops(row):
    """Where everything in one row goes: cells, the width of a panel and of the HR image, in inches."""
    hr, box = np.asarray(row["hr"]), tuple(row["box"])
    top, left, box_height, box_width = box
    if not (0 <= top < top + box_height <= hr.shape[0] and 0 <= left < left + box_width <= hr.shape[1]):
        raise ValueError(
            f"{row['name']}: box {box} (top, left, height, width) is not inside {hr.shape[0]}x{hr.shape[1]}"
        )
    cells = [("HR", f"{box_width}×{box_height} px", hr, 1)]
    for label, caption, image in row["panels"]:
        cells.append((label, caption, np.asarray(image), _scale_of(np.asarray(image), hr, f"{row['name']}, {label}")))
    sr = [cell for cell in cells[1:] if cell[3] == 1]
    lr = [cell for cell in cells[1:] if cell[3] > 1]
    if lr and len(lr) == len(sr):
        lines = [[cells[0], *sr], [None, *lr]]
    else:
        count = -(-len(cells) // 6)
        columns = -(-len(cells) // count)
        lines = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    columns = len(lines[0])

    # The HR image is as tall as all lines together, unless that leaves too little for the panels.
    aspect, shape = hr.shape[1] / hr.shape[0], box_width / box_height
    between = 2 * LINE + 0.05 + GAP
    widest = WIDTH * max(1 / 3, 0.6 - 0.05 * columns)
    rest = WIDTH - columns * GAP
    panel = (rest - aspect * (len(lines) - 1) * between) / (columns + aspect * len(lines) / shape)
    panel = min(max(panel, (rest - widest) / columns), 2.2, 2.2 * shape)
    texts = [[_cell_text(cell, panel) for cell in line] for line in lines]
    steps = [panel / shape + 0.05 + LINE * max(len(a) + len(b) for a, b in line) + GAP for line in texts]
    block = sum(steps[:-1]) + panel / shape  # without the text under the last line
    whole = min(block * aspect, widest, WIDTH - columns * (panel + GAP))
    return {
        "name": row["name"],
        "hr": hr,
        "box": box,
        "lines": [list(zip(line, text, strict=True)) for line, text in zip(lines, texts, strict=True)],
        "steps": steps,  # inches from one line to the next
        "panel": panel,
        "whole": whole,
        "width": whole + columns * (panel + GAP),
        "height": LINE + 0.06 + max(sum(steps) - GAP, whole / aspect),
    }


def _cell_text(cell, width):
    """(lines of the label, lines of the caption) of a cell, wrapped to its width."""
    return ([], []) if cell is None else (wrapped(cell[0], width, LABEL), wrapped(cell[1], width, CAPTION, "normal"))


def _draw_crops(figure, plan, y):
    """Draw one planned row, `y` inches below the figure's top."""
    hr, box, panel = plan["hr"], plan["box"], plan["panel"]
    top, left, box_height, box_width = box
    y += LINE + 0.06  # the name's line
    whole = axes_at(figure, 0, y, plan["whole"], plan["whole"] * hr.shape[0] / hr.shape[1])
    whole.imshow(hr, extent=(0, hr.shape[1], hr.shape[0], 0))
    name = shortened(plan["name"], plan["whole"])
    whole.set_title(name, loc="left", fontsize=TITLE, fontweight="bold", pad=4, parse_math=False)
    # yellow on black is seen on any photograph
    mark = {"edgecolor": "#FFE100", "linewidth": 1.2, "path_effects": [withStroke(linewidth=2.8, foreground="black")]}
    whole.add_patch(Rectangle((left, top), box_width, box_height, fill=False, **mark))
    height = panel * box_height / box_width
    for line, step in zip(plan["lines"], plan["steps"], strict=True):
        x = plan["whole"] + GAP
        for cell, (labels, captions) in line:
            if cell is None:
                factor = line[-1][0][3]
                note = wrapped(f"LR images, 1/{factor} of the width and height", panel, CAPTION, "normal")
                note_at(figure, x + panel / 2, y + height / 2, "\n".join(note))
            else:
                axes = axes_at(figure, x, y, panel, height)
                _show_box(axes, cell[2], box, cell[3])
                text_below(axes, labels, 0, height, fontsize=LABEL, fontweight="bold")
                text_below(axes, captions, len(labels), height, fontsize=CAPTION, color="#444444")
            x += panel + GAP
        y += step


def _scale_of(image, hr, name) -> int:
    """How many HR pixels one pixel of `image` is wide: 1 for an SR image."""
    factor = hr.shape[0] // image.shape[0] if image.ndim == 3 and 0 not in image.shape else 0
    if factor < 1 or (image.shape[0] * factor, image.shape[1] * factor) != hr.shape[:2]:
        raise ValueError(f"{name}: {image.shape} is neither the HR size {hr.shape} nor a whole fraction of it")
    return factor


def _show_box(axes, image, box, factor):
    """Show the HR box of an image whose pixels are `factor` HR pixels wide; axes are in HR pixels."""
    top, left, height, width = box
    rows = slice(top // factor, -(-(top + height) // factor))  # whole LR pixels that cover the box ...
    columns = slice(left // factor, -(-(left + width) // factor))
    extent = (columns.start * factor, columns.stop * factor, rows.stop * factor, rows.start * factor)
    axes.imshow(enlarged(image[rows, columns]), extent=extent)
    axes.set_xlim(left, left + width)  # ... of which the axes cut what lies outside
    axes.set_ylim(top + height, top)
