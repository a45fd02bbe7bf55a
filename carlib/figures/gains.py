"""Gains in dB as dots on lines: what each part of a system is worth, set by set."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from carlib.figures.style import BLUE, CAPTION, GREY, LABEL, RED, TITLE, styled

# Told apart without colour too.
_SETS = {"set5": ("Set5", BLUE, "o"), "set14": ("Set14", RED, "s"), "bsd100": ("B100", "#009E73", "^")}
_NAMES = {"demo": "embedded photographs", "urban100": "Urban100", "div2k": "DIV2K", "validation": "validation (RGB)"}
_OTHERS = (("#E69F00", "D"), ("#CC79A7", "v"), ("#56B4E9", "P"), (GREY, "X"))


@styled
def gains(table, variants, over="bicubic + EDSR", parts=None):
    """Gains of every variant, a panel per scale.

    Args:
        table:    DataFrame scale, set, variant, gain (dB).
        variants: the rows from top to bottom.
        over:     what they are gains over.
        parts:    set -> what of it was measured, such as "first 20 of 100", for the legend.
    Returns:
        Figure.
    Raises:
        ValueError: the table is empty.
    """
    if table.empty:
        raise ValueError("gains: no rows to draw")
    scales = sorted(table.scale.unique())
    names = 0.8 + 0.07 * max(0, max(map(len, variants)) - 20)  # inches beside the first panel, of long ones more
    figure = Figure(figsize=(4.6 * len(scales) + names, 0.34 * len(variants) + 1.5), layout="constrained")
    grid = figure.subplots(1, len(scales), squeeze=False, sharey=True)[0]
    looks = _looks(list(dict.fromkeys(table.set)))
    for axes, scale in zip(grid, scales, strict=True):
        part = table[table.scale == scale]
        for set_name, (label, colour, marker) in looks.items():
            found = part[part.set == set_name].set_index("variant")["gain"]
            places = [place for place, variant in enumerate(variants) if variant in found]
            part_of = f" ({parts[set_name]})" if parts and set_name in parts else ""
            style = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 6}
            style["label"] = f"{label}{part_of}"
            axes.plot([found[variants[place]] for place in places], places, **style)
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.set_yticks(range(len(variants)), variants)
        axes.set_ylim(len(variants) - 0.5, -0.5)
        axes.grid(True, axis="both")
        axes.tick_params(labelsize=LABEL, length=0)
        axes.set_title(f"×{scale}", loc="left", fontsize=TITLE, fontweight="bold")
        axes.set_xlabel(f"gain over {over} (dB{', Y' if 'validation' not in looks else ''})", fontsize=LABEL)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=CAPTION)
    return figure


@styled
def changes(groups, over):
    """What single changes gain: a line per change, under a line for what the changes of a group are beside.

    Args:
        groups: title -> DataFrame variant, set, gain (dB), its lines from top to bottom. A variant that begins with
                "seed=" is drawn as a grey band over its group: what is smaller than that means nothing.
        over:   what they are gains over.
    Returns:
        Figure.
    Raises:
        ValueError: there is no group.
    """
    if not groups:
        raise ValueError("changes: no groups to draw")
    looks, place, ticks = _looks(list(dict.fromkeys(name for part in groups.values() for name in part.set))), 0, {}
    lines = sum(1 + part.variant.nunique() for part in groups.values())
    figure = Figure(figsize=(8.2, 0.24 * lines + 1.2), layout="constrained")
    axes = figure.subplots()
    for title, part in groups.items():
        first, ticks[place] = place, title
        for variant, cells in part.groupby("variant", sort=False):
            place += 1
            ticks[place] = variant
            for cell in cells.itertuples():
                _, colour, marker = looks[cell.set]
                axes.plot(cell.gain, place, color=colour, marker=marker, markersize=5, linestyle="none")
        spread = part[part.variant.str.startswith("seed=")].gain.abs().max()
        if spread == spread:
            band = {"color": "#000000", "alpha": 0.08, "linewidth": 0}
            axes.fill_betweenx([first + 0.5, place + 0.5], -spread, spread, **band)
        place += 1
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_yticks(list(ticks), list(ticks.values()))
    for tick, text in zip(axes.get_yticklabels(), ticks.values(), strict=True):
        tick.set_fontweight("bold" if text in groups else "normal")
    axes.set_ylim(place - 0.5, -0.7)
    axes.grid(True, axis="both")
    axes.tick_params(labelsize=LABEL, length=0)
    axes.set_xlabel(f"gain over {over} (dB)", fontsize=LABEL)
    handles = [Line2D([], [], color=c, marker=m, linestyle="none", label=label) for label, c, m in looks.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=CAPTION)
    return figure


def _looks(sets) -> dict:
    """Set -> its label, colour and marker."""
    others = iter(_OTHERS)
    return {name: _SETS.get(name) or (_NAMES.get(name, name), *next(others, (GREY, "."))) for name in sets}
