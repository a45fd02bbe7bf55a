"""How a training run went."""

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from carlib.figures.style import BLUE, CAPTION, GREY, RED, styled


@styled
def training_curve(log):
    """How a run went: loss, validation PSNR and learning rate over the steps.

    Args:
        log: DataFrame with columns step, loss, psnr (dB; NaN where not validated), seconds (since the start), lr.
    Returns:
        Figure with an axes for the loss (logarithmic), one for PSNR if any step was validated, and one for the
        learning rate if it ever changes.
    Raises:
        ValueError: the log is empty.
    """
    if len(log) == 0:
        raise ValueError("training_curve: the log has no rows")
    validated = log[log["psnr"].notna()]
    parts = ["loss"] + ["psnr"] * (len(validated) > 0) + ["lr"] * (log["lr"].nunique() > 1)
    heights = [{"loss": 1.5, "psnr": 1.5, "lr": 0.8}[part] for part in parts]
    figure = Figure(figsize=(7, sum(heights) + 0.9), layout="constrained")
    grid = figure.subplots(len(parts), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    axes = dict(zip(parts, grid, strict=True))

    window = max(1, len(log) // 50)
    axes["loss"].plot(log["step"], log["loss"], color=BLUE, linewidth=0.8, alpha=0.35 if window > 1 else 1)
    if window > 1:
        smooth = log["loss"].rolling(window, center=True, min_periods=1).median()
        axes["loss"].plot(log["step"], smooth, color=BLUE, linewidth=1.6, label=f"median of {window} entries")
        axes["loss"].legend(loc="upper right", fontsize=CAPTION)
    axes["loss"].set(yscale="log", ylabel="training loss")
    if "psnr" in axes:
        style = {"marker": "o", "markersize": 3.2, "linewidth": 1.4, "color": RED}
        axes["psnr"].plot(validated["step"], validated["psnr"], **style)
        best = validated.loc[validated["psnr"].idxmax()]
        text = f"best {best['psnr']:.2f} dB at step {best['step']:,.0f}"
        axes["psnr"].set(ylabel="validation\nPSNR (dB)")
        axes["psnr"].text(0.99, 0.06, text, transform=axes["psnr"].transAxes, ha="right", fontsize=CAPTION)
    if "lr" in axes:
        axes["lr"].plot(log["step"], log["lr"], color=GREY, linewidth=1.4, drawstyle="steps-post")
        axes["lr"].set(yscale="log", ylabel="learning\nrate")
        rates = sorted(set(log["lr"]))
        if len(rates) <= 4:
            axes["lr"].set_yticks(rates)
        axes["lr"].yaxis.set_minor_locator(NullLocator())
        axes["lr"].yaxis.set_major_formatter(lambda value, _: f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-"))
    for part in grid:
        part.grid(True)
        part.tick_params(which="both", labelsize=CAPTION)
        part.margins(x=0.01)
    grid[-1].set_xlabel(f"step  ({_duration(log['seconds'].max())} in all)")
    axes["loss"].yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes["loss"].yaxis.set_minor_formatter(_sparse)
    grid[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.align_ylabels(grid)
    return figure


def _sparse(value, _) -> str:
    """The minor numbers of a logarithmic axis: only 2 and 5, so that they do not touch."""
    return f"{value:.3g}" if f"{value:e}"[0] in "25" else ""


def _duration(seconds) -> str:
    """Seconds as a person says them."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
