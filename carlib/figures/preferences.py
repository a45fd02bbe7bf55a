"""Fig. 7 of the paper: what people prefer, CAR's images or a rival's."""

import numpy as np
from matplotlib.figure import Figure

from carlib.figures.style import BLUE, CAPTION, GREY, LABEL, RED, styled

_NAMES = {"bicubic": "Bicubic", "perceptual": "Perceptual", "dpid": "DPID", "l0": "L0"}
_ANSWERS = {"car": ("car_better", "CAR better", RED), "equal": ("equal", "equal", GREY)}
_ANSWERS["rival"] = ("rival_better", "rival better", BLUE)
_TASKS = {"sr": ("restored images", 1), "downscaling": ("LR images", -1)}  # upwards and downwards
_BAR = 0.26  # of the distance between rivals


@styled
def preferences(table):
    """Shares of the three answers per rival: restored images above zero, LR images below, as in the paper.

    Args:
        table: DataFrame as `preferences.analyse` makes it, shares in percent; NaN where nobody was asked.
    Returns:
        Figure with one axes; error bars from low to high.
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes, rivals = figure.subplots(), list(dict.fromkeys(table.rival))
    for task, (label, sign) in _TASKS.items():
        part = table[table.task == task].set_index("rival").loc[rivals]
        asked = int(part.participants.max())
        told = f"{label}: {asked} participants" if asked else f"{label}: not tested"
        axes.text(1, 0.99 if sign > 0 else 0.01, told, transform=axes.transAxes, ha="right",
                  va="top" if sign > 0 else "bottom", fontsize=LABEL, fontweight="bold")  # fmt: skip
        for place, (name, (column, answer, colour)) in enumerate(_ANSWERS.items(), start=-1):
            share = part[column].to_numpy(float)
            reach = np.stack([share - part[f"{name}_low"], part[f"{name}_high"] - share])
            axes.bar(
                np.arange(len(rivals)) + place * _BAR,
                sign * share,
                _BAR * 0.92,
                yerr=reach if sign > 0 else reach[::-1],
                color=colour,
                error_kw={"elinewidth": 0.9, "capsize": 2},
                label=answer if sign > 0 else None,
            )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(rivals)), [_NAMES[rival] for rival in rivals])
    axes.set_ylim(-112, 112)
    axes.set_yticks(range(-100, 101, 25), [f"{abs(value)}" for value in range(-100, 101, 25)])
    axes.set_ylabel("answers (%)", fontsize=LABEL)
    axes.grid(True, axis="y")
    axes.tick_params(labelsize=CAPTION)
    figure.legend(loc="outside upper center", ncols=3, fontsize=CAPTION)
    return figure
