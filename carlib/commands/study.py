"""`carlib study`: make a kit for the paper's user study, analyse the answers."""

from pathlib import Path
from typing import Annotated

import typer

from carlib.commands.training import Profile

app = typer.Typer(help="User study: make its page, analyse answers.", no_args_is_help=True)


@app.command()
def make(
    out: Annotated[Path, typer.Argument(help="Folder for the page; an older kit in it is replaced.")],
    task: Annotated[str, typer.Option(help="sr: compare restored images; downscaling: small ones.")] = "sr",
    profile: Profile = None,
    scale: Annotated[int, typer.Option(help="Downscaling factor, 2 or 4.")] = 4,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Image set; repeat. Default: the profile's.")] = None,
    images: Annotated[
        int | None, typer.Option(help="So many of each set, drawn at random; default: the profile's.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Questions asked twice; default: params.yaml, 10.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw of images; default: params.yaml, 0.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
):
    """Write a page that asks which of two images looks better: open it, or put the folder on a web server."""
    from carlib.user_study import study_kit

    own = {"sets": sets or None, "images": images, "repeats": repeats, "seed": seed}
    kit = study_kit.make(out, profile, task=task, scale=scale, device=device, **own)
    asked, kept = len(kit["questions"]), kit["digest"][:8]
    typer.echo(f"{out / 'index.html'}: {asked} questions and {kit['repeats']} repeated, task {task}, kit {kept}")


@app.command()
def analyse(
    answers: Annotated[list[Path] | None, typer.Argument(help="JSON files that the page saved.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV for the table.")] = None,
    figure: Annotated[Path | None, typer.Option(help="PNG, PDF or SVG for Fig. 7.")] = None,
    kits: Annotated[list[Path] | None, typer.Option("--kit", help="Folder of the kit they must be of; repeat.")] = None,
    consistency: Annotated[
        float | None,
        typer.Option(help="Leave out who answers less percent of the repeated questions alike; default: 80."),
    ] = None,
):
    """Count who prefers what, with intervals and a verdict on the paper's claims; without answers: not tested."""
    from carlib import results
    from carlib.user_study import preferences, study_answers

    if out is not None:
        results.check_table(out, preferences.COLUMNS)
    if figure is not None:
        if figure.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise ValueError(f"{figure} would be a picture: name a .png, .pdf or .svg file")
        results.check_writable(figure)
    table = preferences.analyse(study_answers.read(answers or [], kits or []), consistency)
    typer.echo(_shown(table).to_string(index=False))
    if out is not None:
        results.write_text(out, table.round(4).to_csv(index=False))
        typer.echo(out)
    if figure is not None:
        if not table.participants.any():
            left_out = table.groupby("task").left_out.max().sum()
            why = f": {left_out} left out, who answer too few repeated questions alike (--consistency)" * bool(left_out)
            raise ValueError(f"nobody's answers count{why}: there is nothing to draw, leave --figure out")
        from carlib import figures

        with results.atomic(figure) as temporary:
            figures.preferences(table).savefig(temporary, dpi=150, format=figure.suffix[1:].lower())
        typer.echo(figure)


def _shown(table):
    """The table with each share and its interval in one column."""
    shown = table[["task", "rival", "paper", "verdict", "participants", "left_out", "decisions"]].copy()
    for place, (column, name) in enumerate({"car_better": "car", "equal": "equal", "rival_better": "rival"}.items()):
        numbers = table[[column, f"{name}_low", f"{name}_high"]].itertuples(index=False)
        told = ["-" if share != share else f"{share:.1f} [{low:.1f}, {high:.1f}]" for share, low, high in numbers]
        shown.insert(2 + place, f"{column} %", told)
    return shown
